"""The daily job: what it leaves behind in Supabase, and what does not wait for that."""

import psycopg
import pytest

from dev.postgres import Postgres
from lib.ledger import places
from lib.ledger.table import place
from lib.limits.supabase import CLEANED, Supabase
from tests.rig.ledger import CRON, World
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("redis", "status"), [("there", 200), ("away", 503)])
async def test_rows_of_an_outage_are_deleted_long_after_it(
    world: World, supabase: SupabaseStandIn, postgres: Postgres, redis: str, status: int
) -> None:
    """No call is counted in Supabase any more; what no window needs goes all the same, and the rest stays."""
    supabase.empty()
    if redis == "away":
        world.redis_down()
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
        assert reply.status_code == status
        for table in ("breakwater_windows", "breakwater_owed"):
            query = psycopg.sql.SQL("select subject from public.{} where subject in ('gone', 'needed')")
            left = owner.execute(query.format(psycopg.sql.Identifier(table))).fetchall()
            assert left == [("needed",)]


async def test_no_alert_waits_for_the_cleaning(
    world: World, supabase: SupabaseStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function is stopped after its time: years of rows must not keep an alert from being sent."""
    sent_before = list[int]()

    async def clean(self: Supabase, now_ms: int, left_s: float) -> int:
        sent_before.append(len(world.outside.alerts()))
        return CLEANED

    monkeypatch.setattr(Supabase, "clean", clean)
    kind, offset = place(places.COMMANDS)
    world.server.bitfield("ledger:2:2025-11").set(kind, offset, 400_000).execute()
    instance = world.instance(SUPABASE_URL=supabase.url, SUPABASE_SERVICE_ROLE_KEY=supabase.service_key)
    assert (await instance.http.get("/api/cron/daily", headers=CRON)).status_code == 200
    assert sent_before == [len(world.outside.alerts())] * 20
    assert "redis_month" in [each["kind"] for each in world.outside.alerts()]
