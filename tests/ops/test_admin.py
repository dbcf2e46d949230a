"""What is done by hand: by whom, what it changes in every instance, and that nothing searches Redis."""

from collections.abc import AsyncIterator

import pytest

from lib import CircuitOpen
from lib.base.events import AdminActed, RequestDone
from lib.data.origins.function import Python
from tests.rig.data import menu, read, site
from tests.rig.door import Counted, a_name, door, get
from tests.rig.instance import ADMIN, Instance
from tests.rig.ledger import World
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(world: World) -> AsyncIterator[World]:
    """No action looks at all keys."""
    yield world
    assert not world.billed().keys() & {"keys", "scan"}


@pytest.mark.parametrize(
    ("action", "kept"),
    [
        pytest.param({"scope": "session", "session": "s"}, False, id="the session"),
        pytest.param({"scope": "session", "session": "another"}, True, id="another session"),
        pytest.param({"scope": "route"}, False, id="the route"),
        pytest.param({"scope": "route", "route": "v1/chat/completions"}, True, id="another route"),
        pytest.param({"scope": "everything"}, False, id="everything"),
    ],
)
async def test_invalidate(world: World, action: dict[str, str], kept: bool) -> None:
    """Answers of before are not served any more, by no instance; others are; a second time works as well."""
    one, two = world.instance(), world.instance()
    for _ in range(2):
        await one.ask("a question")
        reply = await two.act(action="invalidate", **action)
        assert reply.status_code == 200, reply.text
        assert (await one.ask("a question")).headers["x-cache"] == ("HIT" if kept else "MISS")
        assert (await two.ask("a question")).headers["x-cache"] == "HIT"


@pytest.mark.parametrize("who", ["address", "caller"])
async def test_reset_gives_the_allowance_back(world: World, supabase: SupabaseStandIn, who: str) -> None:
    """After a reset the whole limit is there again, in every instance; another caller's is not."""
    given = {"SUPABASE_URL": supabase.url, "SUPABASE_SERVICE_ROLE_KEY": supabase.service_key}
    one, two = (world.instance(RATELIMIT_AI_SUPERVISOR="3/day", **given) for _ in range(2))
    for number in range(5):
        await one.ask(f"question {number}", "10.5.5.5")
        await two.ask(f"question {number}", "10.5.5.6")
    assert (await two.ask("no", "10.5.5.5")).status_code == 429
    found = one.seen(RequestDone)[0].caller
    reply = await one.act(action="reset", **({"address": "10.5.5.5"} if who == "address" else {"caller": found}))
    assert reply.json()["done"] == (
        "reset in Supabase, Redis; shows within 10 s to who was refused in the last 7 minutes, within 80 s to others"
    )
    assert [(await one.ask(f"again {n}", "10.5.5.5")).status_code for n in range(2)] == [200, 200]
    # The other instance had refused a moment ago: it asks what was changed by hand after 10 s.
    world.time.ms += 10_000
    assert (await two.ask("the third", "10.5.5.5")).status_code == 200
    assert (await two.ask("the fourth", "10.5.5.5")).status_code == 429
    assert (await two.ask("another", "10.5.5.6")).status_code == 429


@pytest.mark.parametrize("set_by", ["code", "environment"])
async def test_reset_reaches_a_route_with_a_limit_of_its_own(world: World, set_by: str) -> None:
    """Where the route and its limit are named; the table's limits and other routes' stay as they are."""
    given = {"RATELIMIT_INVENTORY": "2/hour"} if set_by == "environment" else {}
    made = world.instance(**given)
    bw = door(made)
    routes = [bw.route(lambda asked: 1, limit="2/minute", name=name) for name in ("inventory", "other")]
    for app in routes:
        assert [(await get(app, caller="10.4.4.4")).status_code for _ in range(3)] == [200, 200, 429]
    reply = await made.act(action="reset", address="10.4.4.4", route="inventory", limit="2/minute")
    assert reply.status_code == 200, reply.text
    assert [(await get(app, caller="10.4.4.4")).status_code for app in routes] == [200, 429]


async def test_reset_reaches_a_key_of_the_library(world: World) -> None:
    """What `bw.limit` was given, as it was given."""
    made = world.instance()
    bw = door(made)
    for who in ("login:42", "login:43"):
        assert [(await bw.limit(who, "2/hour,5/day")).allowed for _ in range(3)] == [True, True, False]
    assert (await made.act(action="reset", key="login:42", limit="2/hour,5/day")).status_code == 200
    assert [(await bw.limit(who, "2/hour,5/day")).allowed for who in ("login:42", "login:43")] == [True, False]


async def test_reset_reaches_what_others_remember_of_yesterday(world: World) -> None:
    """An instance that remembers a finished day forgets it at the next call, which passes; the one after shows it."""
    world.time.ms = world.time.ms // 86_400_000 * 86_400_000 + 86_400_000 - 3_600_000
    one, two = (world.instance(RATELIMIT_AI_SUPERVISOR="4/day") for _ in range(2))
    for number in range(3):
        await two.ask(f"yesterday {number}", "10.6.6.6")
    world.time.ms += 2 * 3_600_000
    assert (await two.ask("today", "10.6.6.6")).headers["x-ratelimit-remaining"] == "0"
    await one.act(action="reset", address="10.6.6.6")
    world.time.ms += 10_000
    assert (await two.ask("after the reset", "10.6.6.6")).status_code == 200
    assert (await two.ask("and again", "10.6.6.6")).headers["x-ratelimit-remaining"] == "2"


async def test_a_call_that_first_hears_of_a_reset_refuses_no_later_one(world: World) -> None:
    """It is judged by what its instance remembers of yesterday; that nothing seems left is not believed afterwards."""
    world.time.ms = world.time.ms // 86_400_000 * 86_400_000 + 86_400_000 - 3_600_000
    who, (one, two) = a_name(), (world.instance() for _ in range(2))
    bw = door(two)
    for _ in range(3):
        await bw.limit(who, "4/day")
    world.time.ms += 2 * 3_600_000
    assert (await bw.limit(who, "4/day", cost=0)).remaining == 1
    assert (await one.act(action="reset", key=who, limit="4/day")).status_code == 200
    world.time.ms += 2_000
    assert [(await bw.limit(who, "4/day")).allowed for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("3/day", "3/day", id="as it was"),
        pytest.param("3/minute,3/day", "99/minute,3/day", id="changed before: what would be carried over goes as well"),
        pytest.param("3/day@America/Los_Angeles", "3/day@Asia/Kathmandu", id="a zone off the half hour"),
    ],
)
async def test_reset_of_a_provider(world: World, supabase: SupabaseStandIn, before: str, after: str) -> None:
    """CASE 33: a provider's whole budget is there again, in both stores and every instance, a new one too."""
    given = {"SUPABASE_URL": supabase.url, "SUPABASE_SERVICE_ROLE_KEY": supabase.service_key}
    first = world.instance(CLOUD_RUN_LIMITS=before, **given)
    for number in range(3):
        assert (await first.ask(f"question {number}")).status_code == 200
    one, two = (world.instance(CLOUD_RUN_LIMITS=after, **given) for _ in range(2))
    for each in (one, two):
        refused = await each.ask("used up")
        assert (refused.status_code, refused.json()["code"]) == (503, "budget_spent")
    reply = await one.act(action="reset", provider="cloud-run")
    assert reply.json()["done"] == "reset in Supabase, Redis"
    assert (await two.ask("again")).status_code == 200
    assert (await one.ask("and again")).status_code == 200
    three = world.instance(CLOUD_RUN_LIMITS=after, **given)
    assert [(await three.ask(f"new {n}")).status_code for n in range(2)] == [200, 503]
    assert one.seen(AdminActed)[0].about == "cloud-run"


async def test_reset_of_a_provider_repairs_a_key_of_another_type(world: World) -> None:
    """A budget's key that holds something else is deleted like any other."""
    one = world.instance(CLOUD_RUN_LIMITS="3/day")
    key = f"rl:{{provider-cloud-run-head}}:{world.time.ms // 86_400_000}"
    world.server.rpush(key, "x")
    assert (await one.act(action="reset", provider="cloud-run")).status_code == 200
    assert (await one.ask("works")).status_code == 200
    assert world.server.type(key) in ("string", b"string")


async def test_a_circuit_by_hand(world: World) -> None:
    """Opened, no instance asks the provider until the time is over; closed, all do again."""
    one, two = world.instance(), world.instance()
    await two.ask("before")
    assert (await one.act(action="circuit", provider="cloud-run", state="open", seconds=600)).status_code == 200
    refused = await two.ask("meanwhile")
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "circuit_open", "600")
    assert (await one.act(action="circuit", provider="cloud-run", state="closed")).status_code == 200
    assert (await two.ask("afterwards")).status_code == 200
    await one.act(action="circuit", provider="cloud-run", state="open", seconds=5)
    world.time.ms += 5_000
    assert (await two.ask("its probe")).status_code == 200


async def send_mail(one: Instance) -> str:
    """Run code inside its circuit."""
    async with door(one).circuit("send mail"):
        return "sent"


async def test_the_circuit_of_code_by_hand(world: World) -> None:
    """Opened by its name, no instance runs the code until it is closed; others are told of it with a batch."""
    one, two, three = world.instance(), world.instance(), world.instance()
    assert await send_mail(two) == "sent"
    reply = await one.act(action="circuit", circuit="send mail", state="open", seconds=600)
    assert reply.json()["done"] == "the circuit of code send mail is open"
    with pytest.raises(CircuitOpen) as refused:
        await send_mail(two)
    assert refused.value.retry_after_s == 600
    one.parts.ledger.recent.close()
    await one.parts.ledger.settle(1)
    told = (await three.http.get("/api/activity", headers=ADMIN)).json()["circuits"]
    at = world.time.ms // 1000
    assert told == [{"of": "circuit", "name": "send mail", "state": "open", "reason": "by hand", "at": at}]
    assert (await one.act(action="circuit", circuit="send mail", state="closed")).status_code == 200
    assert await send_mail(two) == "sent"


async def test_the_circuit_of_an_origin_by_hand(world: World) -> None:
    """Opened by its name, the origin is not asked by any instance until it is closed."""
    function = Counted("rows")
    name = a_name()
    one, wanted = world.instance(), menu(function, origin=Python(function, name))
    two = site(world.instance(), wanted)
    reply = await one.act(action="circuit", origin=name, state="open", seconds=600)
    assert reply.json()["done"] == f"the circuit of origin {name} is open"
    refused = await read(two)
    assert (refused.status_code, refused.headers["retry-after"], function.calls) == (503, "600", 0)
    assert (await one.act(action="circuit", origin=name, state="closed")).status_code == 200
    assert (await read(two)).status_code == 200
    assert function.calls == 1


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"action": "flush"},
        {"action": "invalidate"},
        {"action": "invalidate", "scope": "session"},
        {"action": "invalidate", "scope": "route", "route": "../x"},
        {"action": "reset"},
        {"action": "reset", "user": "a", "address": "10.0.0.1"},
        {"action": "reset", "address": "nowhere"},
        {"action": "reset", "caller": "abc"},
        {"action": "reset", "provider": "nobody"},
        {"action": "reset", "provider": "cloud-run"},
        {"action": "reset", "provider": "cloud-run", "user": "a"},
        {"action": "reset", "provider": "cloud-run", "route": "x", "limit": "1/day"},
        {"action": "reset", "address": "10.0.0.1", "route": "x"},
        {"action": "reset", "address": "10.0.0.1", "limit": "1/day"},
        {"action": "reset", "address": "10.0.0.1", "route": "x", "limit": "often"},
        {"action": "reset", "address": "10.0.0.1", "route": "x", "limit": "off"},
        {"action": "reset", "address": "10.0.0.1", "key": "a", "limit": "1/day"},
        {"action": "reset", "key": "a"},
        {"action": "reset", "key": "a", "route": "x", "limit": "1/day"},
        {"action": "circuit", "provider": "nobody", "state": "open"},
        {"action": "circuit", "state": "open"},
        {"action": "circuit", "circuit": "", "state": "open"},
        {"action": "circuit", "origin": "x" * 201, "state": "open"},
        {"action": "circuit", "circuit": "a", "origin": "a", "state": "open"},
        {"action": "circuit", "circuit": "a", "provider": "cloud-run", "state": "open"},
        {"action": "circuit", "provider": "cloud-run", "state": "suspect"},
        {"action": "circuit", "provider": "cloud-run", "state": "open", "seconds": 0},
    ],
)
async def test_what_makes_no_sense_changes_nothing(world: World, action: dict[str, object]) -> None:
    """An action that is not whole is refused, and no command is sent."""
    one = world.instance()
    world.forget_counts()
    assert (await one.act(**action)).status_code == 422
    assert world.billed() == {}
    assert not one.seen(AdminActed)


@pytest.mark.parametrize(
    ("route", "method"),
    [("/api/admin", "POST"), ("/api/metrics", "GET"), ("/api/overview", "GET")],
)
@pytest.mark.parametrize(
    ("headers", "environ", "status"),
    [
        pytest.param({}, {}, 401, id="no token"),
        pytest.param({"authorization": "Bearer admin-toke"}, {}, 401, id="a part of it"),
        pytest.param({"authorization": "Bearer admin-token-for-testss"}, {}, 401, id="more than it"),
        pytest.param({"authorization": "Basic admin-token-for-tests"}, {}, 401, id="another scheme"),
        pytest.param({"authorization": "Bearer \u00fc".encode()}, {}, 401, id="not ASCII"),
        pytest.param(ADMIN, {"ADMIN_TOKEN": None}, 403, id="none is set"),
        pytest.param({"authorization": "Bearer "}, {"ADMIN_TOKEN": None}, 403, id="none is set and none is sent"),
        pytest.param({"authorization": "Bearer short"}, {"ADMIN_TOKEN": "short"}, 403, id="a short one is set"),
    ],
)
async def test_not_for_everybody(
    world: World, route: str, method: str, headers: dict[str, str], environ: dict[str, str | None], status: int
) -> None:
    """A wrong token gets nothing and counts against its sender; without a configured one the routes are closed."""
    one = world.instance(**environ)
    world.forget_counts()
    reply = await one.http.request(method, route, headers=headers, json={"action": "invalidate", "scope": "everything"})
    assert reply.status_code == status
    assert reply.headers["cache-control"] == "private, no-store"
    counted = {"bitfield": 1, "bitfield_ro": 1, "mget": 1, "expire": 1}
    assert world.billed() == (counted if headers and status == 401 else {})


async def test_only_by_post(world: World) -> None:
    """A link that somebody is made to follow does nothing."""
    assert (await world.instance().http.get("/api/admin", headers=ADMIN)).status_code == 405


async def test_everything_is_logged(world: World) -> None:
    """Each action leaves an event, without an address in clear."""
    one = world.instance()
    await one.act(action="invalidate", scope="everything")
    await one.act(action="reset", address="10.9.9.9")
    await one.act(action="circuit", provider="cloud-run", state="closed")
    acted = one.seen(AdminActed)
    assert [each.action for each in acted] == ["invalidate", "reset", "circuit"]
    assert "10.9.9.9" not in str(acted)


async def test_redis_out(world: World) -> None:
    """What cannot be done now is told, and not as done."""
    one = world.instance()
    world.redis_down()
    for action in (
        {"action": "invalidate", "scope": "everything"},
        {"action": "reset", "address": "10.0.0.1"},
        {"action": "circuit", "provider": "cloud-run", "state": "open"},
    ):
        reply = await one.act(**action)
        assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")
    assert not one.seen(AdminActed)
