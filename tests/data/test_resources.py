"""Resources: who is asked how often, what is served meanwhile, and that no key but a value's own is touched."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from lib.base.events import DataRead
from lib.cache import epochs
from lib.data.origins.function import Python
from lib.data.origins.port import OriginFailed
from lib.data.resource import FRESH_S, Query, Resource, Tier, may_meet
from lib.data.table import DataRoutes
from lib.edge.limits import route_limit
from lib.redis import keys
from tests.rig.callers import a_caller
from tests.rig.clock import until
from tests.rig.data import menu, read, site
from tests.rig.door import Counted, Gate, a_name, an_instance, bill, client, door
from tests.rig.guard import Rig
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


def down() -> OriginFailed:
    """An origin that is reached, and fails."""
    return OriginFailed("server", "HTTP 503")


# ---------------------------------------------------------------- commands and round trips (CASES 44)


async def test_what_a_read_costs(rig: Rig) -> None:
    """CASE 44: a miss is 2 commands and the lock, and the entry after the reply; a hit in Redis 2, one here 1."""
    limit, caller = route_limit("9/minute", a_name()), a_caller()
    wanted, found = menu(Counted()), list[list[int]]()
    first, second = (site(an_instance(rig), wanted, limit) for _ in range(2))
    await read(first, "/api/menus/0", caller)
    await read(second, "/api/menus/0", caller)
    for app in (first, second, second):
        async with bill(rig) as spent:
            await read(app, caller=caller)
        found.append(spent)
    # The epoch of the value's own key is created before the claim, once: 2 commands in a round trip of their own.
    assert found == [[4 + 2, 3 + 1], [2, 1], [1, 1]]
    rig.server.delete(wanted.filled({"id": "1"}), keys.lock(wanted.filled({"id": "1"})))
    async with bill(rig) as spent:
        await read(first, caller=caller)
    assert spent == [4, 3]
    assert rig.without_ttl() == []


async def test_a_hit_here_reads_the_marks_once_a_second(rig: Rig) -> None:
    """CASE 44: the limit alone, 1 command, while this instance has read the marks within a second; else 2."""
    app, caller = site(an_instance(rig), menu(Counted()), route_limit("9/minute", a_name())), a_caller()
    costs, began = list[list[int]](), rig.time.ms
    for _ in range(2):
        await read(app, caller=caller)
    for after_ms in (0, 999, 1_000, 1_999, 2_000):
        rig.time.ms = began + after_ms
        async with bill(rig) as spent:
            reply = await read(app, caller=caller)
        assert "detail=memory" in reply.headers["cache-status"]
        costs.append(spent)
    assert costs == [[1, 1], [1, 1], [2, 1], [1, 1], [2, 1]]


async def test_without_a_limit_a_hit_here_costs_nothing(rig: Rig) -> None:
    """CASE 44: Redis is not asked; a strict resource looks each time, at 1 command."""
    for strict, costs in ((False, [0, 0]), (True, [1, 1])):
        wanted = menu(Counted(), strict=strict)
        first, second = (site(an_instance(rig), wanted) for _ in range(2))
        await read(first)
        assert (await read(second)).headers["x-cache"] == "HIT"
        async with bill(rig) as spent:
            reply = await read(second)
        assert spent == costs
        assert ("detail=memory" in reply.headers["cache-status"]) is not strict


async def test_what_was_computed_here_is_looked_up_once_more(rig: Rig) -> None:
    """A value comes into memory by a look at Redis only: while it was computed, somebody may have invalidated it."""
    app = site(an_instance(rig), menu(Counted()))
    states = [(await read(app)).headers["cache-status"] for _ in range(3)]
    assert ["memory" in each for each in states] == [False, False, True]


# ---------------------------------------------------------------- one question for all (CASES 41)


async def test_fifty_misses_on_three_instances_ask_once(rig: Rig) -> None:
    """CASE 41: acceptance (a)."""
    gate = Gate()
    function = Counted({"menus": 7}, gate=gate)
    wanted = menu(function)
    apps = [site(an_instance(rig), wanted) for _ in range(3)]
    asks = asyncio.gather(*(read(apps[n % 3]) for n in range(50)))
    await gate.reached.wait()
    gate.open()
    replies = await asks
    assert {reply.text for reply in replies} == {'{"menus":7}'}
    assert function.calls == 1


async def test_a_leader_that_is_gone_is_succeeded(rig: Rig) -> None:
    """CASE 41, acceptance (b): its lock runs out, and one of the others takes over."""
    function = Counted("new")
    wanted = menu(function)
    key = wanted.filled({"id": "1"})
    app = site(an_instance(rig, SINGLE_FLIGHT_LEASE_MS="300"), wanted)
    await read(app)
    words = [rig.server.get(each) for each in epochs.of_tags(wanted.route, wanted.tags_of({"id": "1"}))]
    generation = ".".join(map(str, words))
    rig.server.delete(key)
    rig.server.set(keys.lock(key), f"{generation}|killed", px=300)
    replies = await asyncio.gather(*(read(app) for _ in range(5)))
    assert {reply.json() for reply in replies} == {"new"}
    assert function.calls == 2


@pytest.mark.parametrize("out", ["off", "down"])
async def test_without_redis_it_is_asked_once_a_second(rig: Rig, out: str) -> None:
    """Acceptance (e): calls at once are one, and what it said is served for a second, in each instance."""
    gate, function = Gate(), Counted("v")
    environ = {"REDIS_ENABLED": "false"} if out == "off" else rig.nowhere
    instances = [an_instance(rig, **environ) for _ in range(2)]
    wanted = menu(function)
    apps = [site(each, wanted) for each in instances]
    function.gate = gate
    asks = asyncio.gather(*(read(apps[0]) for _ in range(10)))
    await gate.reached.wait()
    gate.open()
    await asks
    for _ in range(5):
        assert (await read(apps[0])).status_code == 200
    assert function.calls == 1
    await read(apps[1])
    assert function.calls == 2
    rig.time.ms += 61_000
    await read(apps[0])
    assert function.calls == 3


@pytest.mark.parametrize(
    "again", [{"cache_control": "no-cache"}, {"cache_control": "no-store"}, {"cache_control": "max-age=0"}, {}]
)
async def test_a_reload_that_is_held_down(rig: Rig, again: dict[str, str]) -> None:
    """Acceptance (f): however it is asked for, a value of this second is new enough, for all callers."""
    function = Counted("v")
    app = site(an_instance(rig), menu(function))
    path = "/api/menus/1" if again else "/api/menus/1?refresh=1"
    await read(app)
    for _ in range(5):
        await read(app, path, **again)
    assert function.calls == 1
    rig.time.ms += 1_100
    replies = [await read(app, path, **again) for _ in range(5)]
    assert function.calls == 2
    assert [reply.headers["x-cache"] for reply in replies] == ["MISS", "HIT", "HIT", "HIT", "HIT"]


# ---------------------------------------------------------------- time


async def test_aging_is_served_at_once_and_computed_after(rig: Rig) -> None:
    """Past its time a value goes out, and is new for the next one."""
    function = Counted(1)
    app = site(an_instance(rig), menu(function, strict=True))
    await read(app)
    function.value = 2
    rig.time.ms += 67_000
    first, second = await read(app), await read(app)
    assert (first.json(), first.headers["x-cache"]) == (1, "STALE")
    assert (second.json(), second.headers["x-cache"], function.calls) == (2, "HIT", 2)


async def test_early_in_the_last_tenth(rig: Rig) -> None:
    """In the last tenth of its time a value is a hit, and one request computes the next one."""
    function = Counted(1)
    wanted = menu(function, strict=True)
    app = site(an_instance(rig), wanted)
    await read(app)
    function.value = 2
    rules = wanted.rules(wanted.filled({"id": "1"}))
    rig.time.ms += rules.settled_ms - 1
    assert (await read(app)).headers["x-cache"] == "HIT"
    assert function.calls == 1
    rig.time.ms += 1
    found = [await read(app) for _ in range(3)]
    assert [(each.json(), each.headers["x-cache"]) for each in found] == [(1, "HIT"), (2, "HIT"), (2, "HIT")]
    assert function.calls == 2


@pytest.mark.parametrize(("tier", "fresh_s"), FRESH_S.items(), ids=FRESH_S)
async def test_a_tier(rig: Rig, tier: Tier, fresh_s: int) -> None:
    """Fresh for its time, a tenth more or less; Redis keeps it for as long as it may still be served, and no longer."""
    wanted = menu(Counted("v"), tier=tier)
    key = wanted.filled({"id": "1"})
    rules = wanted.rules(key)
    assert fresh_s * 900 <= rules.fresh_ms <= fresh_s * 1_100
    assert rules.stale_ms == min(max(600, 10 * fresh_s), 86_400) * 1000
    await read(site(an_instance(rig), wanted))
    assert rules.ends_ms - 60_000 < rig.front.direct.pttl(key) <= rules.ends_ms


async def test_instances_agree_on_a_keys_time() -> None:
    """Freshness differs by key, by a tenth at most, and never by instance."""
    wanted = menu(Counted(), tier="5m")
    times = [wanted.rules(wanted.filled({"id": str(n)})).fresh_ms for n in range(200)]
    assert times == [wanted.rules(wanted.filled({"id": str(n)})).fresh_ms for n in range(200)]
    assert all(270_000 <= each <= 330_000 for each in times)
    assert max(times) - min(times) > 50_000


@pytest.mark.parametrize(("value", "status"), [(None, 404), ([], 200)])
async def test_nothing_is_a_value(rig: Rig, value: Any, status: int) -> None:
    """That something is not there is remembered for 30 s at most, whatever the tier."""
    function = Counted(value)
    app = site(an_instance(rig), menu(function, tier="1h", strict=True))
    assert [(await read(app)).status_code for _ in range(3)] == [status] * 3
    assert function.calls == 1
    rig.time.ms += 30_001
    function.value = ["there"]
    assert (await read(app)).json() == ["there"]
    assert function.calls == 2


async def test_an_error_is_not_kept(rig: Rig) -> None:
    """The next read asks again."""
    function = Counted("v", error=down())
    app = site(an_instance(rig, BREAKER_FAILURES="9"), menu(function))
    failed = await read(app)
    assert (failed.status_code, failed.json()["code"]) == (503, "origin_unavailable")
    assert int(failed.headers["retry-after"]) >= 1
    function.error = None
    assert (await read(app)).status_code == 200


async def test_an_origin_that_is_down(rig: Rig) -> None:
    """CASE 41, (g): an older value with its age and why; then 503 with Retry-After; a circuit of its own."""
    function = Counted("old")

    async def checked() -> None:
        if function.error is not None:
            raise function.error

    origin = Python(function, a_name(), checked=checked)
    instance = an_instance(rig)
    app = site(instance, menu(function, origin=origin, strict=True, stale_s=300))
    await read(app)
    rig.time.ms += 150_000
    function.error = down()
    replies = [await read(app) for _ in range(5)]
    assert [(each.json(), each.headers["x-cache"], each.headers["age"]) for each in replies] == [
        ("old", "STALE", "150")
    ] * 5
    assert "detail=server" in replies[0].headers["cache-status"]
    assert all("s-maxage" not in each.headers["cache-control"] for each in replies)
    state = instance.parts.circuits.known(keys.circuit_of_origin(origin.name)).state
    assert (state, function.calls) == ("open", 4)
    assert rig.server.exists(f"cb:2:origin:{origin.name}")
    rig.time.ms += 250_000
    gone = await read(app)
    assert (gone.status_code, "retry-after" in gone.headers) == (503, True)


# ---------------------------------------------------------------- invalidation while it is read (CASES 42)


async def test_an_invalidation_while_the_origin_is_read(rig: Rig) -> None:
    """CASE 42, acceptance (c): the next read misses, in the instance that read and in others."""
    gate = Gate()
    function = Counted("old", gate=gate)
    wanted = menu(function)
    instances = [an_instance(rig) for _ in range(2)]
    apps = [site(each, wanted) for each in instances]
    asked = asyncio.ensure_future(read(apps[0]))
    await gate.reached.wait()
    rig.server.set(epochs.tag_key(wanted.filled({"id": "1"})), epochs.new_word())
    gate.open()
    await asked
    function.value, function.gate = "new", None
    assert [(await read(app)).json() for app in (*apps, *apps)] == ["new"] * 4
    assert function.calls == 2


async def test_no_lost_key_revives_what_was_invalidated(rig: Rig) -> None:
    """Acceptance (d): whichever single key goes, epochs included, the invalidated value is not served."""
    function = Counted("old")
    wanted = menu(function, strict=True)
    key = wanted.filled({"id": "1"})
    app = site(an_instance(rig), wanted)
    of_value = epochs.of_tags(wanted.route, wanted.tags_of({"id": "1"}))
    for number, lost in enumerate((key, keys.lock(key), *of_value)):
        function.value = f"old {number}"
        rig.server.delete(key)
        await read(app)
        rig.server.set(epochs.tag_key(key), epochs.new_word())
        rig.server.delete(lost)
        function.value = f"new {number}"
        assert (await read(app)).json() == f"new {number}"


# ---------------------------------------------------------------- keys (CASES 43)

HOSTILE = ("*", ":", "%", "%2F", "a/b", "a:b", "../x", "\0", "{x}", "메뉴", "cache:x", "1\n2", "l" * 200)


async def test_hostile_ids_are_values_of_their_own(rig: Rig) -> None:
    """CASE 43, acceptance (h): each has a key of its own, with as many parts as the template."""
    wanted = menu(Counted(), origin=Python(lambda values: values["id"], a_name()))
    app = site(an_instance(rig), wanted)
    for each in HOSTILE:
        reply = await read(app, f"/api/menus/{quote(each, safe='')}")
        assert (reply.status_code, reply.json()) == (200, each)
    found: list[str] = rig.server.keys("cache:*")  # type: ignore[assignment]
    assert len(found) == len(HOSTILE)
    assert {each.count(":") for each in found} == {2}
    assert all(wanted.filled({"id": each}) in found for each in HOSTILE)


async def test_a_value_of_10_kb_is_refused(rig: Rig) -> None:
    """Nor an empty one; nothing is asked."""
    function = Counted()
    app = site(an_instance(rig), menu(function))
    async with bill(rig) as spent:
        replies = [await read(app, f"/api/menus/{each}") for each in ("x" * 10_240, "")]
    assert [(each.status_code, each.json()["code"]) for each in replies] == [(400, "invalid_parameter")] * 2
    assert (spent, function.calls) == ([0, 0], 0)


@pytest.mark.parametrize("query", ["x=1", "limit=5&limit=6", "limit=", "limit=1e3", "refresh=2", "view=1", "%00=1"])
async def test_an_unknown_parameter_asks_nothing(rig: Rig, query: str) -> None:
    """400 before Redis is asked, also with a limit: each would be another entry of every cache on the way."""
    function = Counted()
    wanted = menu(function, key=f"cache:{a_name()}:{{id}}:{{limit}}", query={"limit": Query("10", r"\d{1,3}")})
    app = site(an_instance(rig), wanted, route_limit("9/minute", a_name()))
    async with bill(rig) as spent:
        reply = await read(app, f"/api/menus/1?{query}")
    assert (reply.status_code, reply.json()["code"], spent, function.calls) == (400, "invalid_parameter", [0, 0], 0)
    assert (await read(app, "/api/menus/1?limit=5")).status_code == 200
    assert function.given == [{"id": "1", "limit": "5"}]


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("tms:{conn}:sessions", "tms:llm:{hash}", True),
        ("tms:{conn}:sessions", "tms:{conn}:locks", False),
        ("cache:menu:{id}", "cache:menu:{id}:more", False),
        ("cache:{entity}:{id}", "cache:menu:{id}", True),
        ("cache:menu:{id}", "cache:setting:{id}", False),
    ],
)
def test_templates_that_meet(one: str, other: str, meets: bool) -> None:
    """A table in which two resources could have one key is refused."""
    assert (may_meet(one, other), may_meet(other, one)) == (meets, meets)


@pytest.mark.parametrize(
    "options",
    [
        {"key": "rl:{id}"},
        {"key": "cache"},
        {"key": "cache:"},
        {"key": "cache:a{id}"},
        {"key": "cache:x:{id", "tier": "1m"},
        {"tier": "2m"},
        {"query": {"limit": Query("1")}},
        {"scope": "everybody"},
        {"max_bytes": 0},
        {"max_bytes": 4_000_001},
        {"key": "cache:메뉴:{id}"},
        {"key": "cache:two words:{id}"},
        {"roles": ("admins",)},
        {"cost": -1},
    ],
)
def test_what_cannot_be_a_resource(options: dict[str, Any]) -> None:
    """Refused where it is declared."""
    with pytest.raises(ValueError, match=r":|is|are"):
        menu(Counted(), **options)


def test_one_name_is_not_its_letters() -> None:
    """One tag or role may be given by itself."""
    one = menu(Counted(), tags="dishes", roles="admin")
    assert (one.tags, one.roles) == (("dishes",), ("admin",))


# ---------------------------------------------------------------- HTTP


async def test_an_etag_saves_the_body(rig: Rig) -> None:
    """304 without a body for who has it, from every tier; another body has another ETag."""
    function = Counted({"a": 1})
    app = site(an_instance(rig), menu(function))
    etag = (await read(app)).headers["etag"]
    for given in (etag, f'"x", W/{etag}', "*"):
        reply = await read(app, if_none_match=given)
        assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
    assert (await read(app, if_none_match='"other"')).status_code == 200
    function.value = {"a": 2}
    assert (await read(app, "/api/menus/2")).headers["etag"] != etag


async def test_what_is_everybodys_may_be_kept_on_the_way(rig: Rig) -> None:
    """Not longer than it is fresh, nor than a minute; it says nothing of its caller, and is the same for any origin."""
    limit = route_limit("9/minute", a_name())
    app = site(an_instance(rig), menu(Counted(), tier="1h"), limit)
    for reply in [await read(app), await read(app), await read(app, if_none_match="*")]:
        assert reply.headers["cache-control"] == "public, max-age=0, s-maxage=60"
        assert "vary" not in reply.headers
        assert not [each for each in reply.headers if "ratelimit" in each]
    rig.time.ms += 3_100_000
    left = int((await read(app)).headers["cache-control"].rpartition("=")[2])
    assert 0 < left <= 60


@pytest.mark.parametrize(("allowed", "named"), [(None, None), ("*", "*")], ids=["no origin may call", "all may"])
async def test_what_is_everybodys_names_no_origin(rig: Rig, allowed: str | None, named: str | None) -> None:
    """A page of another origin may read it only where all may; whoever asks, a cache on the way keeps one reply."""
    app = site(an_instance(rig, ALLOWED_ORIGINS=allowed), menu(Counted()))
    replies = [
        await read(app),
        await read(app, origin="https://a.example"),
        await read(app, origin="https://b.example"),
    ]
    assert [each.headers.get("access-control-allow-origin") for each in replies] == [named] * 3
    assert [("s-maxage" in each.headers["cache-control"], each.headers.get("vary")) for each in replies] == [
        (True, None)
    ] * 3


@pytest.mark.parametrize("why", ["authorization", "scope", "origins", "refresh"])
async def test_what_is_not_everybodys_is_not(rig: Rig, why: str) -> None:
    """A caller's own value, a reply to a token, one that only some origins may read, and a value of this second."""
    instance = an_instance(rig, ALLOWED_ORIGINS="https://a.example" if why == "origins" else None)
    app = site(instance, menu(Counted(), scope="caller" if why == "scope" else "shared"))
    path = "/api/menus/1?refresh=1" if why == "refresh" else "/api/menus/1"
    reply = await read(app, path, **({"authorization": "Bearer x"} if why == "authorization" else {}))
    assert (reply.headers["cache-control"], reply.headers["vary"]) == ("private, no-cache", "Origin")


async def test_a_callers_own_value(rig: Rig) -> None:
    """With `scope="caller"` each caller has one."""
    function = Counted("v")
    app = site(an_instance(rig), menu(function, scope="caller"))
    one, other = a_caller(), a_caller()
    for caller in (one, other, one, other):
        await read(app, caller=caller)
    assert function.calls == 2


async def test_a_body_goes_out_as_it_was_stored(rig: Rig) -> None:
    """Byte by byte, line breaks and Korean included; a larger one than the resource keeps is served each time."""
    value = {"text": "첫째 줄\n둘째 줄", "n": 1.10}
    function = Counted(value)
    app = site(an_instance(rig), menu(function, max_bytes=400))
    bodies = [(await read(app)).content for _ in range(3)]
    assert bodies == [json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()] * 3
    function.value, function.calls = "x" * 400, 0
    assert [(await read(app, "/api/menus/2")).status_code for _ in range(2)] == [200, 200]
    assert function.calls == 2


@pytest.mark.parametrize(("options", "calls"), [({}, 2), ({"max_bytes": 300_000}, 1)])
async def test_how_much_is_kept(rig: Rig, options: dict[str, Any], calls: int) -> None:
    """256 KiB, or what the resource says, up to its last byte."""
    function = Counted("x" * 299_998)
    app = site(an_instance(rig), menu(function, strict=True, **options))
    assert [len((await read(app)).content) for _ in range(2)] == [300_000] * 2
    assert function.calls == calls


async def test_every_tier_is_told(rig: Rig) -> None:
    """What the ledger counts: origin, then Redis, then memory; collapsed, stale and failed reads apart."""
    instance, function = an_instance(rig), Counted("v")
    wanted = menu(function)
    app = site(instance, wanted)
    for _ in range(3):
        await read(app)
    assert [(each.family, each.tier, each.size) for each in instance.seen(DataRead)] == [
        (wanted.name, tier, 3) for tier in ("origin", "redis", "memory")
    ]
    function.error = down()
    await read(app, "/api/menus/2")
    assert instance.seen(DataRead)[-1].tier == "failed"


async def test_two_paths_of_one_table(rig: Rig) -> None:
    """Each path has its resource; any other is not found, and a write is not allowed."""
    table = {"/api/menus/{id}": menu(Counted("menu")), "/api/settings/{id}": menu(Counted("setting"))}
    app = site(an_instance(rig), table)
    assert [(await read(app, path)).json() for path in ("/api/settings/1", "/api/menus/1")] == ["setting", "menu"]
    assert (await read(app, "/api/menus")).status_code == 404
    async with client(app) as http:
        assert (await http.post("/api/menus/1")).status_code == 405


@pytest.mark.parametrize("own", ["/prices/{id}", "/shop/prices/{id}"])
@pytest.mark.parametrize("how", ["a server's root path", "mounted in another application"])
async def test_below_a_root_path(rig: Rig, own: str, how: str) -> None:
    """A table's paths are those below what it is mounted at, or whole ones."""
    table = site(an_instance(rig), {own: menu(Counted("soup"))})
    made: Any = table if "server" in how else Starlette(routes=[Mount("/shop", table)])
    transport: Any = httpx.ASGITransport(app=made, root_path="/shop" if "server" in how else "")
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        found = [
            (await http.get(path)).status_code
            for path in ("/shop/prices/1", "/shop/shop/prices/1/2", "/shops/prices/1")
        ]
    assert found == [200, 404, 404]


async def test_what_cannot_be_a_table(rig: Rig) -> None:
    """Keys that meet, names given twice, and parameters that no key holds."""
    instance, one = an_instance(rig), menu(Counted())
    same_key = Resource("other", key=one.key, tier="1m", origin=one.origin)
    same_name = Resource(one.name, key="cache:elsewhere:{id}", tier="1m", origin=one.origin)
    for other in (same_key, same_name):
        with pytest.raises(ValueError, match=r"could have the same key|are called"):
            site(instance, {"/api/menus/{id}": one, "/api/others/{id}": other})
    with pytest.raises(ValueError, match="parameters"):
        site(instance, {"/api/menus/{name}": one})


async def test_callers_that_leave_end_nothing_for_others(rig: Rig) -> None:
    """The one that reads the origin is cancelled; who waits for the same value gets it."""
    gate, function = Gate(), Counted("v")
    function.gate = gate
    instance = an_instance(rig)
    app = site(instance, menu(function))
    first = asyncio.ensure_future(read(app))
    await gate.reached.wait()
    second = asyncio.ensure_future(read(app))
    flying = instance.parts.guard.computing.leading.flights._flying
    await until(lambda: [each.followers for each in flying.values()] == [1])
    first.cancel()
    gate.open()
    assert (await second).json() == "v"


# ---------------------------------------------------------------- limits of tables


MORE: Mapping[str, Any] = {"limit": "1/minute", "name": "others"}


def tables(instance: Instance, **first: Any) -> tuple[DataRoutes, DataRoutes]:
    """Two tables of one Breakwater, each with a limit of one read a minute."""
    bw, (one, other) = door(instance), (menu(Counted()) for _ in range(2))
    path = "/api/menus/{id}"
    return bw.resources({path: one}, limit="1/minute", **first), bw.resources({path: other}, **MORE)


@pytest.mark.parametrize("first", [{}, {"name": "prices"}], ids=["the usual name", "a name of its own"])
async def test_tables_have_limits_of_their_own(rig: Rig, first: dict[str, str]) -> None:
    """What a caller read of one table does not count for another one that has the same limit."""
    both, caller = tables(an_instance(rig), **first), a_caller()
    replies = [await read(app, caller=caller) for app in (*both, *both)]
    assert [each.status_code for each in replies] == [200, 200, 429, 429]


async def test_a_tables_name_is_that_of_its_variable(rig: Rig) -> None:
    """``RATELIMIT_OTHERS`` sets the limit of that table alone."""
    both, caller = tables(an_instance(rig, RATELIMIT_OTHERS="2/minute")), a_caller()
    replies = [await read(app, caller=caller) for app in (*both, *both)]
    assert [each.status_code for each in replies] == [200, 200, 429, 200]


@pytest.mark.parametrize(
    ("path", "limit"), [("/api/menus/{id}", "2/minute"), ("/api/dishes/{id}", "1/minute")], ids=["limit", "table"]
)
async def test_two_tables_of_one_name(rig: Rig, path: str, limit: str) -> None:
    """They would share a count without saying so. The same table again, as a factory of applications makes it, may."""
    bw, wanted = door(an_instance(rig)), menu(Counted())
    for _ in range(2):
        bw.resources({"/api/menus/{id}": wanted}, limit="1/minute")
    with pytest.raises(ValueError, match="another table counts under 'resources'; give this one a name of its own"):
        bw.resources({path: wanted}, limit=limit)
    # What has no limit counts nowhere, and what has none of its own elsewhere.
    bw.resources({path: wanted}, limit=None)
    bw.resources({path: wanted})


LIMITS: Mapping[str, tuple[dict[str, Any], dict[str, str], str | None]] = {
    "none is said": ({}, {}, "100"),
    "none is wanted": ({"limit": None}, {}, None),
    "the table's is another": ({}, {"RATELIMIT_API": "7/minute"}, "7"),
    "by the environment": ({}, {"RATELIMIT_RESOURCES": "5/minute"}, "5"),
    "by the environment, for all that the code says": ({"limit": None}, {"RATELIMIT_RESOURCES": "5/minute"}, "5"),
    "for another name": ({"name": "prices"}, {"RATELIMIT_RESOURCES": "5/minute"}, "100"),
}


@pytest.mark.parametrize(("options", "environ", "limit"), LIMITS.values(), ids=LIMITS)
async def test_a_table_has_a_limit(
    rig: Rig, options: dict[str, Any], environ: dict[str, str], limit: str | None
) -> None:
    """As every route: that of its path, unless its file or the environment says otherwise."""
    app = door(an_instance(rig, **environ)).resources({"/api/menus/{id}": menu(Counted(), scope="caller")}, **options)
    assert (await read(app)).headers.get("x-ratelimit-limit") == limit
