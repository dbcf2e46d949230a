"""Who may look, and what the role sees as which a database is asked."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dev.postgres import Postgres
from dev.supabase import sign_user_token
from lib.data.origins.port import OriginFailed
from lib.databases.postgres import STATEMENTS
from lib.databases.resources import TABLE
from lib.databases.shapes import GRANT, MIGRATIONS
from lib.databases.watching import Databases
from tests.databases.conftest import Site, blocked, session, watching
from tests.rig.door import a_name, client
from tests.rig.guard import Rig
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


def test_every_route_is_for_viewers_and_admins() -> None:
    """None is forgotten."""
    assert {(path, tuple(each.roles)) for path, each in TABLE.items()} == {
        (path, ("viewer", "admin")) for path in TABLE
    }


async def test_a_viewer_by_token(site: Site, supabase: SupabaseStandIn) -> None:
    """A role of `app_metadata` opens a view, what users write into their own metadata does not."""
    claims: dict[str, dict[str, object]] = {
        "viewer": {"app_metadata": {"role": "viewer"}},
        "self-made": {"user_metadata": {"role": "viewer"}},
        "nobody": {},
    }
    tokens = {
        name: f"Bearer {sign_user_token(name, supabase.jwt_secret, claims=each)}" for name, each in claims.items()
    }
    found = {
        name: (await site.get("/api/monitoring/locks", authorization=token)).status_code
        for name, token in tokens.items()
    }
    assert found == {"viewer": 200, "self-made": 401, "nobody": 401}


async def test_who_may_invalidate(site: Site, supabase: SupabaseStandIn) -> None:
    """Admins alone, by their token or their role."""
    found = {}
    for role in ("viewer", "admin"):
        token = sign_user_token(role, supabase.jwt_secret, claims={"app_metadata": {"role": role}})
        async with client(site.instance.app) as http:
            headers, wanted = {"authorization": f"Bearer {token}"}, {"connectionId": "shop", "all": True}
            found[role] = (await http.post("/api/cache/invalidate", json=wanted, headers=headers)).status_code
    assert found == {"viewer": 401, "admin": 200}


@pytest.fixture
def unprivileged(rig: Rig, counted: Postgres) -> Iterator[tuple[Site, str]]:
    """An instance that asks as a role without any right, and the role's name; somebody else has a session there."""
    role = a_name().replace("-", "_")
    with session(counted, autocommit=True) as connection, session(counted) as other:
        connection.execute(f"create role {role} login")
        other.execute("select 'private'")
        yield watching(rig, counted, SHOP_URL=counted.uri.replace("postgres:@", f"{role}@")), role


@pytest.mark.parametrize("view", ["sessions", "locks", "wait-events", "realtime", "sql-statistics"])
async def test_a_role_that_may_see_nothing(unprivileged: tuple[Site, str], view: str) -> None:
    """It is told what to grant, instead of an empty table."""
    made, _ = unprivileged
    reply = await made.read(f"/api/monitoring/{view}")
    assert reply["missing"] == [GRANT]
    assert "private" not in str(reply)
    # Sessions that it cannot see into are no blockers.
    assert reply.get("blockers", []) == []


async def test_what_else_it_is_told(unprivileged: tuple[Site, str]) -> None:
    """With the dashboard, whose counts of active sessions lack others'; and by the connection's health."""
    made, role = unprivileged
    assert (await made.read("/api/dashboard/metrics"))["missing"] == [GRANT]
    (shop,) = [each for each in (await made.read("/api/connections", ""))["connections"] if each["id"] == "shop"]
    assert (shop["health"], shop["missing"]) == ("limited", [f"grant pg_monitor to {role}"])


async def test_with_the_right_nothing_is_missing(unprivileged: tuple[Site, str], counted: Postgres) -> None:
    """After `grant pg_monitor`, also of who blocks whom."""
    made, role = unprivileged
    with psycopg.connect(counted.uri, autocommit=True) as connection:
        connection.execute(f"grant pg_monitor to {role}".encode())
    async with blocked(counted, "blocked_for_roles") as (blocker, _):
        found = await made.read("/api/monitoring/locks")
    assert (found["missing"], [each["pid"] for each in found["blockers"]]) == ([], [blocker])


async def test_without_the_migrations(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection by Supabase's functions says that they are not there."""
    monkeypatch.setitem(STATEMENTS, "no_such_function", STATEMENTS["health"])
    watched = Databases.of(site.instance.parts).get("prod")
    with pytest.raises(OriginFailed) as failed:
        await watched.rows("no_such_function", {}, 9)
    assert failed.value.kind == "missing"

    async def missing(*_: object) -> None:
        raise failed.value

    monkeypatch.setattr(type(watched.reader), "rows", missing)
    (prod,) = [each for each in (await site.read("/api/connections", ""))["connections"] if each["id"] == "prod"]
    assert (prod["health"], prod["reason"], prod["missing"]) == ("down", "missing", [MIGRATIONS])


def test_oracles_driver_is_loaded_for_oracle_alone() -> None:
    """Neither by the function of the data routes nor by the readers of the other kinds."""
    modules = "api.read lib.databases.readers.neon lib.databases.readers.postgres lib.databases.readers.supabase"
    code = f"import sys; [__import__(each) for each in '{modules}'.split()]; print('oracledb' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
