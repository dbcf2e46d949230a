"""The daily job: what it leaves behind in Supabase."""

import psycopg
import pytest

from dev.postgres import Postgres
from tests.rig.ledger import CRON, World
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


async def test_rows_of_an_outage_are_deleted_long_after_it(
    world: World, supabase: SupabaseStandIn, postgres: Postgres
) -> None:
    """No call is counted in Supabase any more; what no window needs goes all the same, and the rest stays."""
    instance = world.instance(SUPABASE_URL=supabase.url, SUPABASE_SERVICE_ROLE_KEY=supabase.service_key)
    now_ms = instance.parts.clock.now_ms()
    with psycopg.connect(postgres.uri, autocommit=True) as owner:
        for subject, expires_ms in (("gone", now_ms - 1), ("needed", now_ms + 10**12)):
            owner.execute(
                "insert into public.breakwater_windows (subject, window_ms, bucket_start_ms, spent, expires_at_ms) "
                "values (%s, 60000, 0, 1, %s)",
                (subject, expires_ms),
            )
            owner.execute(
                "insert into public.breakwater_owed (subject, layout, changed, given, expires_at_ms) "
                "values (%s, '60000.2500.4.0', 1, 1, %s)",
                (subject, expires_ms),
            )
        reply = await instance.http.get("/api/cron/daily", headers=CRON)
        assert reply.status_code == 200
        for table in ("breakwater_windows", "breakwater_owed"):
            query = psycopg.sql.SQL("select subject from public.{} where subject in ('gone', 'needed')")
            left = owner.execute(query.format(psycopg.sql.Identifier(table))).fetchall()
            assert left == [("needed",)]
