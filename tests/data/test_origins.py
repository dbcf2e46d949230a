"""Where data come from: what each kind of origin reads, how it fails, and that its circuit is its own."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import psycopg
import pytest

from dev.faults import Fault
from dev.postgres import Postgres
from lib.base.events import OriginFailure
from lib.data.body import Body
from lib.data.origins.function import Python
from lib.data.origins.http import Http
from lib.data.origins.port import Origin, OriginFailed
from lib.data.origins.postgres import Sql
from lib.data.origins.supabase import Rpc, Table
from lib.data.resource import Resource
from lib.redis import keys
from tests.rig.data import read, site
from tests.rig.door import a_name, an_instance
from tests.rig.guard import Rig
from tests.rig.instance import Instance
from tests.rig.script import Script
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.fixture
async def instance(rig: Rig, postgres: Postgres) -> Instance:
    return an_instance(rig, DATABASE_URL=postgres.uri)


def value(body: Body) -> Any:
    """What a body says."""
    return json.loads(body.content)


MENU = {"id": 1, "name": "비빔밥"}
ONE: dict[str, Origin] = {
    "supabase": Table("breakwater_menus", "id,name", {"id": "id"}, one=True),
    "postgres": Sql("select id, name from breakwater_menus where id = $1::text::int", ("id",), one=True),
}


@pytest.mark.parametrize("kind", ONE)
async def test_one_row(instance: Instance, kind: str) -> None:
    """A row is an object; none is absent."""
    found = await ONE[kind].fetch(instance.parts, {"id": "1"}, 9)
    assert (value(found), found.kind) == (MENU, "value")
    assert (await ONE[kind].fetch(instance.parts, {"id": "99"}, 9)).kind == "absent"


@pytest.mark.parametrize(
    "origin",
    [
        Table("breakwater_menus", "id", {"category": "category"}, order="id.desc"),
        Sql("select id from breakwater_menus where category = $1 order by id desc", ("category",)),
    ],
    ids=["supabase", "postgres"],
)
async def test_rows(instance: Instance, origin: Origin) -> None:
    """Rows are a list, in order; none are an empty one. A parameter is never part of a statement."""
    assert value(await origin.fetch(instance.parts, {"category": "lunch"}, 9)) == [{"id": 3}, {"id": 2}, {"id": 1}]
    for hostile in ("'; drop table breakwater_menus; --", "eq.lunch", "*", "lunch,drinks"):
        assert (await origin.fetch(instance.parts, {"category": hostile}, 9)).kind == "empty"


async def test_json_columns(instance: Instance) -> None:
    """JSON in a column stays JSON."""
    origins = (
        Table("breakwater_settings", where={"name": "name"}, one=True),
        Sql("select name, value from breakwater_settings where name = $1", ("name",), one=True),
    )
    for origin in origins:
        assert value(await origin.fetch(instance.parts, {"name": "site"}, 9))["value"]["language"] == "ko"


async def test_a_function_of_supabase(instance: Instance) -> None:
    """Its result is the value; the call is counted."""
    assert value(await Rpc("breakwater_size").fetch(instance.parts, {}, 9)) > 0


@pytest.mark.parametrize("kind", ONE)
async def test_a_parameter_of_the_wrong_type(instance: Instance, kind: str) -> None:
    """The caller's fault, which says nothing of the origin."""
    with pytest.raises(OriginFailed) as failed:
        await ONE[kind].fetch(instance.parts, {"id": "x"}, 9)
    assert (failed.value.kind, failed.value.fault) == ("rejected", "caller")


FAILS = """
create or replace function public.tests_fail(how text) returns int language plpgsql as $$
begin
  case how
    when 'raises' then raise exception 'hunter2';
    when 'divides' then return 1 / 0;
    when 'violates' then raise unique_violation;
    when 'refuses' then raise exception 'hunter2' using errcode = '22023';
    when 'forbids' then raise insufficient_privilege;
    when 'breaks' then raise internal_error;
  end case;
end $$;
grant execute on function public.tests_fail to service_role;
"""


@pytest.mark.parametrize("origin", [Rpc("tests_fail", {"how": "how"}), Sql("select tests_fail($1)", ("how",))])
@pytest.mark.parametrize(
    ("how", "kind", "fault"),
    [
        ("raises", "raised", "theirs"),
        ("divides", "raised", "theirs"),
        ("violates", "raised", "theirs"),
        ("nothing that it knows", "raised", "theirs"),
        ("breaks", "server", "theirs"),
        ("refuses", "rejected", "caller"),
        ("forbids", "missing", "ours"),
    ],
)
async def test_a_function_that_fails(
    instance: Instance, postgres: Postgres, origin: Origin, how: str, kind: str, fault: str
) -> None:
    """A fault of the function is nobody's request; it refuses a value by saying so, as its own casts do."""
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute(FAILS)
    with pytest.raises(OriginFailed) as failed:
        await origin.fetch(instance.parts, {"how": how}, 9)
    assert (failed.value.kind, failed.value.fault) == (kind, fault)
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize("origin", [Table("no_such"), Rpc("no_such"), Sql("select * from no_such")])
async def test_what_is_missing_in_the_database(instance: Instance, origin: Origin) -> None:
    """A table or function that is not there is a fault of ours, not an absent value."""
    with pytest.raises(OriginFailed) as failed:
        await origin.fetch(instance.parts, {}, 9)
    assert (failed.value.kind, failed.value.fault) == ("missing", "ours")


@pytest.mark.parametrize("origin", [*ONE.values()], ids=[*ONE])
async def test_a_check(instance: Instance, origin: Origin) -> None:
    """A trivial question is answered while it is there."""
    await origin.check(instance.parts)


@pytest.mark.parametrize(
    ("origin", "environ"),
    [
        (ONE["postgres"], {"DATABASE_URL": "postgresql://x@127.0.0.1:9/x"}),
        (ONE["supabase"], {"SUPABASE_URL": "http://127.0.0.1:9"}),
        (Http("http://127.0.0.1:9/{id}"), {}),
    ],
    ids=["postgres", "supabase", "http"],
)
async def test_nobody_listens(rig: Rig, origin: Origin, environ: dict[str, str]) -> None:
    """Never sent: that is nobody's question, and the check fails as well."""
    made = an_instance(rig, **environ)
    asked: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: origin.fetch(made.parts, {"id": "1"}, 9),
        lambda: origin.check(made.parts),
    )
    for ask in asked:
        with pytest.raises(OriginFailed) as failed:
            await ask()
        assert (failed.value.kind, failed.value.sent) == ("connection", False)


@pytest.mark.parametrize("origin", [*ONE.values()], ids=[*ONE])
async def test_nothing_is_configured(rig: Rig, origin: Origin) -> None:
    """Ours, and nothing is sent."""
    made = an_instance(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)
    with pytest.raises(OriginFailed) as failed:
        await origin.fetch(made.parts, {"id": "1"}, 9)
    assert (failed.value.fault, failed.value.sent) == ("ours", False)


async def test_a_connection_is_used_again_after_an_error(instance: Instance) -> None:
    """One connection an instance; an error of the server's leaves it usable, a cancelled query does not."""
    pid = Sql("select pg_backend_pid() as pid", one=True)
    first = value(await pid.fetch(instance.parts, {}, 9))
    with pytest.raises(OriginFailed):
        await ONE["postgres"].fetch(instance.parts, {"id": "x"}, 9)
    assert value(await pid.fetch(instance.parts, {}, 9)) == first
    with pytest.raises(OriginFailed) as failed:
        await Sql("select pg_sleep(60)").fetch(instance.parts, {}, 0.05)
    assert failed.value.kind == "timeout"
    assert value(await pid.fetch(instance.parts, {}, 9)) != first


async def test_an_address_with_parameters_of_other_drivers(rig: Rig, postgres: Postgres) -> None:
    """As Neon, Vercel and Prisma hand them out: asyncpg would send them as settings, and the server refuse them."""
    address = (
        f"{postgres.uri}&channel_binding=require&connect_timeout=15&pgbouncer=true&supa=base-pooler.x&search_path=x"
    )
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(address)
    parts = an_instance(rig, DATABASE_URL=address).parts
    found = await Sql("select current_setting('search_path') as path", one=True).fetch(parts, {}, 9)
    assert value(found) == {"path": "x"}


@pytest.mark.parametrize(
    "address", ["sqlite:///x", "postgresql+asyncpg://x/y", "postgres://x:port/y", "postgres://127.0.0.1:99999"]
)
async def test_an_address_of_something_else(rig: Rig, address: str) -> None:
    """Programs have a `DATABASE_URL` of their own: it stops nothing until it is needed, and is then ours to mend."""
    with pytest.raises(OriginFailed) as failed:
        await Sql("select 1").fetch(an_instance(rig, DATABASE_URL=address).parts, {}, 9)
    assert (failed.value.kind, failed.value.fault, failed.value.sent) == ("missing", "ours", False)


async def test_one_connection_and_nothing_prepared(instance: Instance) -> None:
    """Ten queries at once share it; a pooler in transaction mode would not keep what is prepared under a name."""
    text = "select pg_backend_pid() as pid, (select count(*)::int from pg_prepared_statements where name <> '') as kept"
    found = await asyncio.gather(*(Sql(text, one=True).fetch(instance.parts, {}, 9) for _ in range(10)))
    assert len({value(each)["pid"] for each in found}) == 1
    assert {value(each)["kept"] for each in found} == {0}


@pytest.mark.parametrize("origin", [ONE["supabase"], Rpc("breakwater_size")], ids=["table", "function"])
async def test_supabase_is_asked_once(instance: Instance, supabase: SupabaseStandIn, origin: Origin) -> None:
    """A failure is a failure: the vendor's client would ask again for as long as the caller waits."""
    supabase.faults.set(Fault(kind="status", status=503))
    before = supabase.control.requests()
    with pytest.raises(OriginFailed) as failed:
        await origin.fetch(instance.parts, {"id": "1"}, 9)
    assert (failed.value.kind, supabase.control.requests() - before) == ("server", 1)


# ---------------------------------------------------------------- HTTP

REPLIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "401": ({"status": 401}, "unauthorized", "caller"),
    "403": ({"status": 403}, "unauthorized", "caller"),
    "400": ({"status": 400}, "rejected", "caller"),
    "422": ({"status": 422}, "rejected", "caller"),
    "429": ({"status": 429}, "throttled", "theirs"),
    "408": ({"status": 408}, "server", "theirs"),
    "500": ({"status": 500}, "server", "theirs"),
    "503": ({"status": 503}, "server", "theirs"),
    "redirect": ({"status": 302, "headers": {"location": "http://127.0.0.1:9"}}, "server", "theirs"),
    "html": ({"body": b"<html>"}, "protocol", "theirs"),
    "empty": ({"body": b""}, "protocol", "theirs"),
    "half": ({"body": b'{"a":'}, "protocol", "theirs"),
    "deep": ({"body": b"[" * 100_000}, "protocol", "theirs"),
    "nan": ({"body": b'{"a":NaN}'}, "protocol", "theirs"),
    "latin": ({"body": b'"\xe9"'}, "protocol", "theirs"),
    "cut": ({"cut": 0.5}, "connection", "theirs"),
    "large": ({"body": b'"' + b"x" * keys.MOST_BYTES + b'"'}, "too_large", "theirs"),
    "bomb": (
        {"body": gzip.compress(b" " * (keys.MOST_BYTES + 1)), "headers": {"content-encoding": "gzip"}},
        "too_large",
        "theirs",
    ),
}


@pytest.mark.parametrize("name", REPLIES)
async def test_an_address_that_fails(rig: Rig, script: Script, name: str) -> None:
    """Each failure has a kind, and a fault: ours where we sent a secret that was refused."""
    reply, kind, fault = REPLIES[name]
    script.reset(**reply)
    made = an_instance(rig)
    for secret in (None, {"authorization": "Bearer s"}):
        with pytest.raises(OriginFailed) as failed:
            await Http(script.url + "/{id}", headers=secret).fetch(made.parts, {"id": "1"}, 9)
        expected = "ours" if secret and kind == "unauthorized" else fault
        assert (failed.value.kind, failed.value.fault, failed.value.sent) == (kind, expected, True)


@pytest.mark.parametrize("status", [404, 410])
async def test_an_address_that_has_nothing(rig: Rig, script: Script, status: int) -> None:
    """Absent, which is a value."""
    script.reset(status=status)
    assert (await Http(script.url + "/{id}").fetch(an_instance(rig).parts, {"id": "1"}, 9)).kind == "absent"


async def test_an_address_sends_its_body_through(rig: Rig, script: Script) -> None:
    """Byte by byte."""
    script.reset(body=b'{ "a" : 1.10 }\n')
    found = await Http(script.url + "/{id}").fetch(an_instance(rig).parts, {"id": "1"}, 9)
    assert (found.content, found.kind) == (script.body, "value")


@pytest.mark.parametrize("path", ["/menus/{id}", "/menus/{id}/dishes"])
async def test_a_value_leads_nowhere_else(rig: Rig, script: Script, path: str) -> None:
    """One that would be taken for the directory above is refused before anything is asked."""
    script.reset()
    for value in (".", ".."):
        with pytest.raises(OriginFailed) as failed:
            await Http(script.url + path).fetch(an_instance(rig).parts, {"id": value}, 9)
        assert (failed.value.kind, failed.value.fault) == ("rejected", "caller")
    assert script.asked == 0
    for other in ("/menus/{id}.json", "/menus?id={id}"):
        assert (await Http(script.url + other).fetch(an_instance(rig).parts, {"id": ".."}, 9)).kind == "value"
    assert script.asked == 2


@pytest.mark.parametrize("url", ["ftp://x/{id}", "/x", "http://{id}/x", "http://"])
def test_what_is_no_address(url: str) -> None:
    """Also one in which a parameter would choose the host."""
    with pytest.raises(ValueError, match="url"):
        Http(url)


# ---------------------------------------------------------------- through a route


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OriginFailed("rejected", "HTTP 422", "caller"), 422, "backend_rejected"),
        (OriginFailed("unauthorized", "HTTP 401", "ours"), 502, "backend_unauthorized"),
        (OriginFailed("missing", "HTTP 404", "ours"), 500, "misconfigured"),
        (OriginFailed("throttled", "HTTP 429"), 503, "backend_throttled"),
        (OriginFailed("server", "HTTP 500"), 503, "origin_unavailable"),
        (OriginFailed("timeout", "x"), 503, "origin_unavailable"),
        (OriginFailed("raised", "SQLSTATE P0001"), 503, "origin_unavailable"),
        (ZeroDivisionError("hunter2"), 503, "origin_unavailable"),
        (OriginFailed("connection", "x", sent=False), 503, "origin_unavailable"),
    ],
    ids=lambda each: each.kind if isinstance(each, OriginFailed) else type(each).__name__,
)
async def test_how_a_route_says_it(rig: Rig, error: Exception, status: int, code: str) -> None:
    """Each failure of an origin is a problem with a code, told without what it held, and logged."""

    async def fail(values: object) -> None:
        raise error

    made = an_instance(rig)
    name = a_name()
    reply = await read(site(made, Resource(name, key=f"cache:{name}:{{id}}", tier="1m", origin=Python(fail, name))))
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert "hunter2" not in reply.text
    assert status != 503 or int(reply.headers["retry-after"]) >= 1
    (told,) = made.seen(OriginFailure)
    assert (told.origin, "hunter2" in told.reason) == (name, False)


async def test_never_sent_opens_after_three(rig: Rig) -> None:
    """Of one origin only: another resource of the same origin is refused, one of another is not."""
    made, name = an_instance(rig), a_name()
    dead = Http("http://127.0.0.1:9/{id}", name=name)

    def table(origin: Origin) -> Resource:
        own = a_name()
        return Resource(own, key=f"cache:{own}:{{id}}", tier="1m", origin=origin)

    async def fine(values: object) -> str:
        return "fine"

    app = site(
        made, {"/api/a/{id}": table(dead), "/api/b/{id}": table(dead), "/api/c/{id}": table(Python(fine, a_name()))}
    )
    codes = [(await read(app, f"/api/a/{n}")).json()["code"] for n in range(3)]
    assert codes == ["origin_unavailable"] * 3
    refused = await read(app, "/api/b/1")
    assert (refused.status_code, refused.json()["code"], int(refused.headers["retry-after"])) == (
        503,
        "circuit_open",
        60,
    )
    assert (await read(app, "/api/c/1")).json() == "fine"
    # Other instances learn of it.
    assert (await read(site(an_instance(rig), table(dead)))).json()["code"] == "circuit_open"


async def test_an_origin_that_hangs(rig: Rig, script: Script) -> None:
    """It is given its own time, not the request's."""
    script.reset(hold=True)
    name = a_name()
    origin = Http(script.url + "/{id}", name=name, timeout_s=0.05)
    app = site(an_instance(rig), Resource(name, key=f"cache:{name}:{{id}}", tier="1m", origin=origin))
    reply = await read(app)
    assert (reply.status_code, reply.json()["code"]) == (503, "origin_unavailable")


async def test_supabase_is_told_apart_from_its_fallback(rig: Rig, supabase: SupabaseStandIn) -> None:
    """The circuit of the origin and the gate of the fallback's limits are two things: limits go on."""
    made = an_instance(rig)
    before = supabase.control.stats()["rpc_calls"].get("breakwater_menus", 0)
    await ONE["supabase"].fetch(made.parts, {"id": "1"}, 9)
    assert supabase.control.stats()["rpc_calls"]["breakwater_menus"] == before + 1
    assert made.parts.guard.limits.supabase is not None
    assert not made.parts.guard.limits.supabase.gate.rests()
