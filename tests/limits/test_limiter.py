"""Limits over Redis, Supabase and memory: one suite for all three, then what happens between them."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from lib.base.events import Mode, ModeSwitched
from lib.limits.admission import Subject
from lib.limits.grammar import parse_limits
from lib.limits.marker import LEASE_MS, Marker
from lib.limits.window import DAY_MS, Layout
from lib.redis import keys
from tests.faults.fleet import COOLDOWN_MS, Fleet, Line, Member, Servers, State, fleet, servers
from tests.rig.clock import NOON_MS

MINUTE = 60_000
TEN = parse_limits("10/minute,100/day")
MIDNIGHT_MS = NOON_MS // DAY_MS * DAY_MS + DAY_MS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    with servers() as found:
        yield found


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


@pytest.fixture
async def stores(running: Servers, transport: str) -> AsyncIterator[Fleet]:
    async with fleet(running, transport) as made:
        yield made


def chance_of(seed: int) -> random.Random:
    """Chance that repeats."""
    return random.Random(seed)  # noqa: S311 - nobody is to be surprised by it


# One suite for every store


@pytest.fixture(params=["redis", "supabase", "local"])
def alone(request: pytest.FixtureRequest, stores: Fleet) -> Member:
    """An instance that has this store only; memory counts the whole limit here."""
    store: Mode = request.param
    return stores.join((store,), share=1.0)


async def test_ten_pass_the_eleventh_does_not(alone: Member) -> None:
    """Remaining counts from 9 to 0; refusals leave the counts as they were, also the day's (cases 1 and 6)."""
    admitted = [await alone.call(Subject("a", TEN)) for _ in range(10)]
    refused = [await alone.call(Subject("a", TEN)) for _ in range(10)]
    assert [each.quota.states[0].remaining for each in admitted] == list(range(9, -1, -1))
    assert [each.quota.reason for each in refused] == ["minute"] * 10
    assert {each.quota.states[1].remaining for each in refused} == {90}


async def test_a_costly_call_that_is_refused_spends_nothing(alone: Member) -> None:
    """8 used, cost 5 refused, then cost 1 passes with 1 remaining (case 3)."""
    await alone.call(Subject("a", TEN), 8)
    assert not (await alone.call(Subject("a", TEN), 5)).quota.allowed
    assert (await alone.call(Subject("a", TEN), 1)).quota.states[0].remaining == 1


async def test_a_look_counts_nothing(alone: Member, stores: Fleet) -> None:
    """CASE 4: it says what is left, by every store, and also where Redis has just come back."""
    caller = Subject("a", TEN)
    for _ in range(2):
        for _ in range(12):
            assert (await alone.call(caller, 0)).quota.allowed
        assert stores.server.keys("rl:*") == []
        if alone.limits.redis is not None:
            alone.limits.redis.failures += 1
    assert [(await alone.call(caller, 5)).quota.states[0].remaining for _ in range(2)] == [5, 0]


async def test_limit_one(alone: Member) -> None:
    """The first passes, the second does not (case 5)."""
    only = Subject("a", parse_limits("1/minute"))
    assert [(await alone.call(only)).quota.allowed for _ in range(2)] == [True, False]


async def test_the_day_refuses_for_its_own_reason(alone: Member) -> None:
    """With the day used up the minute stays untouched (case 7)."""
    daily = Subject("a", parse_limits("10/minute,12/day"))
    for burst in (10, 2):
        assert (await alone.call(daily, burst)).quota.allowed
        alone.time.ms += 2 * MINUTE
    refused = await alone.call(daily)
    assert (refused.quota.reason, refused.quota.states[0].remaining) == ("day", 10)


async def test_retry_after_is_exact(alone: Member) -> None:
    """Refused a millisecond before, passed then, whatever the pattern of calls was (case 8)."""
    chance = chance_of(8)
    for number in range(30):
        caller = Subject(f"caller {number}", parse_limits("3/minute,9/day"))
        for _ in range(chance.randrange(3, 14)):
            await alone.call(caller)
            alone.time.ms += chance.choice([0, 1, 700, 20_000, 45_000])
        refused = await alone.call(caller)
        if refused.quota.retry_at_ms is None:
            continue
        alone.time.ms = refused.quota.retry_at_ms - 1
        assert not (await alone.call(caller)).quota.allowed
        alone.time.ms += 1
        assert (await alone.call(caller)).quota.allowed


async def test_never_above_the_limit_in_any_closed_window(alone: Member) -> None:
    """Random times over midnight: no closed minute holds more than 4, no closed day more than 11 (case 9)."""
    chance, caller = chance_of(9), Subject("a", parse_limits("4/minute,11/day"))
    alone.time.ms = MIDNIGHT_MS - 5 * MINUTE
    admitted: list[int] = []
    for _ in range(250):
        if (await alone.call(caller)).quota.allowed:
            admitted.append(alone.time.ms)
        alone.time.ms += chance.choice([0, 10, 900, 4_000, 30_000, 62_000, 3_600_000])
    assert len(admitted) > 20
    assert most(admitted, MINUTE) == 4
    assert most(admitted, DAY_MS) == 11


async def test_callers_do_not_touch_each_other(alone: Member) -> None:
    """Names with wildcards, separators, braces, of 200 characters, in Korean (case 14)."""
    for name in ("a", "a*", "a:b", "{x}", "x" * 200, "서버"):
        assert [(await alone.call(Subject(name, TEN), 5)).quota.allowed for _ in range(3)] == [True, True, False]


async def test_at_one_time_exactly_ten_pass(alone: Member) -> None:
    """40 calls at once: 10 (case 12; over processes in tests/faults)."""
    replies = await asyncio.gather(*(alone.call(Subject("a", TEN)) for _ in range(40)))
    assert sum(each.quota.allowed for each in replies) == 10


async def test_nothing_is_asked_for_no_limit(alone: Member, stores: Fleet) -> None:
    """A subject without windows is admitted, in no other mode than before."""
    assert (await alone.call(Subject("a", Layout(())))).quota.reason == "unlimited"
    assert alone.events == []


# Between the stores


async def test_the_floor_goes_along(stores: Fleet) -> None:
    """7 used in Redis leave 3 in Supabase, for this instance and for one that has seen nothing."""
    here, there, caller = stores.join(), stores.join(), Subject("a", TEN)
    for _ in range(7):
        await here.call(caller)
    cut(stores, "refuse")
    assert (await here.call(caller)).quota.states[0].remaining == 2
    assert [(await there.call(caller)).quota.allowed for _ in range(3)] == [True, True, False]


async def test_one_switch_is_one_event(stores: Fleet) -> None:
    """However many calls an outage sees, it is told when it begins and when it ends."""
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller)
    cut(stores, "refuse")
    for _ in range(8):
        await here.call(caller)
        await here.call(Subject("provider", Layout(())))
        stores.time.ms += 1_000
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    for _ in range(4):
        await here.call(caller)
    switches = [(each.before, each.after) for each in here.events if isinstance(each, ModeSwitched)]
    assert switches == [("redis", "supabase"), ("supabase", "redis")]


async def test_what_was_admitted_elsewhere_is_given_back_once(stores: Fleet) -> None:
    """3 in Redis, 4 in Supabase: 7 in Redis, however many instances come back, and however often they ask."""
    four, caller = [stores.join() for _ in range(4)], Subject("a", TEN)
    for each in four[:3]:
        await each.call(caller)
    cut(stores, "refuse")
    for each in four:
        assert (await each.call(caller)).mode == "supabase"
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    replies = [await each.call(caller) for each in four for _ in range(2)]
    assert [each.quota.allowed for each in replies] == [True] * 3 + [False] * 5
    assert {each.mode for each in replies} == {"redis"}
    assert stores.in_redis(caller) == [10, 10]


async def test_four_that_come_back_at_one_time(stores: Fleet) -> None:
    """Settling at once gives nothing back twice."""
    four, caller = [stores.join() for _ in range(4)], Subject("a", parse_limits("40/minute,40/day"))
    cut(stores, "refuse")
    for each in four:
        await each.call(caller, 5)
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    replies = await asyncio.gather(*(each.call(caller) for each in four for _ in range(8)))
    assert sum(each.quota.allowed for each in replies) == 20
    assert stores.in_redis(caller) == [40, 40]


async def test_one_that_noticed_nothing_learns_it_with_its_first_call(stores: Fleet) -> None:
    """The marker rides along: an idle instance does not hand out what Supabase has handed out."""
    here, idle, caller = stores.join(), stores.join(), Subject("a", TEN)
    await idle.call(caller)
    cut(stores, "refuse")
    await here.call(caller, 8)
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    await here.call(Subject("another", TEN))
    assert [(await idle.call(caller)).quota.allowed for _ in range(2)] == [True, False]


async def test_one_that_cannot_reach_redis_is_a_half_of_its_own(stores: Fleet) -> None:
    """Another one is back and settled: together they admit no more than the bound, and Redis hears of it in the end."""
    back, late, caller = stores.join(), stores.join(), Subject("a", TEN)
    await back.call(caller)
    await late.call(caller)
    cut(stores, "refuse")
    await back.call(caller)
    await late.call(caller)
    back.to_redis.state = "up"
    stores.time.ms += COOLDOWN_MS
    replies = [await each.call(caller) for _ in range(10) for each in (back, late)]
    admitted = 4 + sum(each.quota.allowed for each in replies)
    assert 10 <= admitted <= 2 * 10 - 2
    assert {each.mode for each in replies} == {"redis", "supabase"}
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    assert not (await late.call(caller)).quota.allowed
    assert not (await back.call(caller)).quota.allowed
    assert stores.in_redis(caller)[1] == admitted


async def test_a_redis_that_lost_its_data_is_told_them(stores: Fleet) -> None:
    """Killed without persistence: counted before, in the outage, and after it is all there."""
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller, 4)
    cut(stores, "refuse")
    await here.call(caller, 3)
    stores.server.flushall()
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    assert (await here.call(caller)).quota.states[0].remaining == 2
    assert stores.in_redis(caller) == [8, 8]
    assert stores.without_ttl() == []


async def test_what_the_others_knew_is_told_too(stores: Fleet) -> None:
    """Redis lost its data, and whoever asks first had seen little of it: Supabase knows what the others told."""
    first, second, caller = stores.join(), stores.join(), Subject("a", TEN)
    await first.call(caller)
    await second.call(caller, 7)
    cut(stores, "refuse")
    await second.call(caller)
    stores.server.flushall()
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    await second.call(Subject("another", TEN))
    assert (await first.call(caller)).quota.states[0].remaining == 0


async def test_a_lost_reply_is_given_back_once(stores: Fleet) -> None:
    """Redis wrote what it was given and the reply was lost: giving it again changes nothing."""
    here, caller = stores.join(), Subject("a", parse_limits("100/minute,100/day"))
    cut(stores, "refuse")
    await here.call(caller, 6)
    stores.time.ms += COOLDOWN_MS
    for _ in range(3):
        here.to_redis.state = "drop"
        await here.call(caller)
        stores.time.ms += COOLDOWN_MS
    cut(stores, "up")
    await here.call(caller)
    assert stores.in_redis(caller) == [6 + 3 + 1] * 2


async def test_memory_counts_a_share_and_says_so(stores: Fleet) -> None:
    """Both stores out: a quarter of 10 is 2, in each instance, and the limit shown is 2."""
    here, caller = stores.join(), Subject("a", TEN)
    cut(stores, "refuse", "refuse")
    replies = [await here.call(caller) for _ in range(4)]
    assert [each.quota.allowed for each in replies] == [True, True, False, False]
    assert {each.mode for each in replies} == {"local"}
    assert {each.quota.states[0].window.limit for each in replies} == {2}


@pytest.mark.parametrize(("share", "limit"), [(0.25, 2), (0.01, 1), (0.5, 5), (1.0, 10)])
async def test_the_share_is_configured(stores: Fleet, share: float, limit: int) -> None:
    """Rounded down, never below 1."""
    here = stores.join((), share)
    assert sum([(await here.call(Subject("a", TEN))).quota.allowed for _ in range(12)]) == limit


async def test_memory_admits_nothing_where_the_whole_is_known_to_be_spent(stores: Fleet) -> None:
    """5 in Redis and 5 in Supabase: when both are out, no share is left."""
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller, 5)
    cut(stores, "refuse")
    await here.call(caller, 5)
    cut(stores, "refuse", "refuse")
    assert not (await here.call(caller)).quota.allowed


@pytest.mark.parametrize("first", ["redis", "supabase"])
async def test_what_memories_admitted_adds_up(stores: Fleet, first: str) -> None:
    """Three instances with 2 each: 6, not the highest of them, wherever they tell it first."""
    three, caller = [stores.join() for _ in range(3)], Subject("a", TEN)
    cut(stores, "refuse", "refuse")
    for each in three:
        await each.call(caller, 2)
    stores.time.ms += COOLDOWN_MS
    cut(stores, "up" if first == "redis" else "refuse", "up")
    replies = [await each.call(caller) for each in three for _ in range(2)]
    assert sum(each.quota.allowed for each in replies) == 4
    cut(stores, "up", "up")
    stores.time.ms += COOLDOWN_MS
    for each in three:
        assert not (await each.call(caller)).quota.allowed
    assert stores.in_redis(caller) == [10, 10]


async def test_redis_is_back_and_supabase_is_not(stores: Fleet) -> None:
    """What this instance saw Supabase admit still counts."""
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller, 3)
    cut(stores, "refuse")
    await here.call(caller, 4)
    stores.time.ms += COOLDOWN_MS
    cut(stores, "up", "refuse")
    assert [(await here.call(caller)).quota.allowed for _ in range(5)] == [True] * 3 + [False] * 2
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    assert not (await here.call(caller)).quota.allowed
    assert stores.in_redis(caller) == [10, 10]


async def test_over_midnight(stores: Fleet) -> None:
    """Counted before midnight, in the outage on both sides of it, given back after it: each on its own day."""
    here, caller = stores.join(), Subject("a", parse_limits("10/minute,20/day"))
    stores.time.ms = MIDNIGHT_MS - 30_000
    await here.call(caller, 3)
    cut(stores, "refuse")
    await here.call(caller, 2)
    stores.time.ms = MIDNIGHT_MS + 5_000
    await here.call(caller, 1)
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    await here.call(caller, 1)
    assert stores.in_redis(caller) == [7, 7]
    assert stores.without_ttl() == []


@pytest.mark.parametrize("told", ["supabase", "redis"])
async def test_who_is_given_up_while_telling_tells_again(stores: Fleet, told: str) -> None:
    """A request that is cancelled takes nothing along of what memory has admitted."""
    here, caller, reached = stores.join(), Subject("a", TEN), asyncio.Event()
    cut(stores, "refuse", "refuse")
    assert [(await here.call(caller)).mode for _ in range(2)] == ["local", "local"]

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    async def hang_with_the_third() -> None:
        # The marks are read, then the counts; then Redis is given what it lacks.
        here.to_redis.meanwhile = hang_with_the_next

    async def hang_with_the_next() -> None:
        here.to_redis.meanwhile = hang

    stores.time.ms += COOLDOWN_MS
    if told == "supabase":
        cut(stores, "refuse", "up")
        here.to_supabase.meanwhile = hang
    else:
        cut(stores, "up", "refuse")
        here.to_redis.meanwhile = hang_with_the_third
    call = asyncio.ensure_future(here.call(caller))
    async with asyncio.timeout(60):
        await reached.wait()
    call.cancel()
    await asyncio.wait({call})
    cut(stores, "up", "up")
    stores.time.ms += LEASE_MS
    await here.call(caller)
    assert stores.in_redis(caller) == [3, 3]


@pytest.mark.parametrize("limits", ["10/minute,100/day", "100/day,10/minute", "15/minute"])
async def test_two_limits_of_one_caller(stores: Fleet, limits: str) -> None:
    """Other windows, or another order of them, confuse nobody, whoever counts, also over midnight."""
    two = [stores.join(), stores.join()]
    both = [Subject("a", TEN), Subject("a", parse_limits(limits))]
    ways: list[tuple[State, State]] = [("up", "up"), ("refuse", "up"), ("refuse", "refuse"), ("up", "up"), ("up", "up")]
    stores.time.ms = MIDNIGHT_MS - 390_000
    for ways_there in ways:
        cut(stores, *ways_there)
        stores.time.ms += 100_000
        assert all([(await each.call(subject)).quota.allowed for each in two for subject in both])
    of_the_day = [subject for subject in both if len(subject.layout.windows) == 2]
    assert [max(stores.in_redis(subject)) for subject in of_the_day] == [10 * len(of_the_day)] * len(of_the_day)


async def test_settled_is_settled(stores: Fleet) -> None:
    """After the first call Supabase is not asked any more, by a new instance neither, nor by one that was away too."""
    here, there, caller = stores.join(), stores.join(), Subject("a", parse_limits("100/minute,100/day"))
    cut(stores, "refuse")
    await here.call(caller)
    await there.call(caller)
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    await here.call(caller)
    new = stores.join()
    asked = here.to_supabase.answered, there.to_supabase.answered
    for each in (there, here, new, here, there, new):
        await each.call(caller)
    assert (here.to_supabase.answered, there.to_supabase.answered, new.to_supabase.answered) == (*asked, 0)
    assert stores.in_redis(caller) == [9, 9]


async def test_tokens_are_not_mixed_with_calls(stores: Fleet) -> None:
    """A budget of tokens gets none of the calls that were counted elsewhere."""
    from lib.limits.grammar import parse_budget

    here, link = stores.join(), Subject("provider", parse_budget("9/minute,1000 tokens/minute"))
    cut(stores, "refuse")
    await here.call(link, 4)
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    await here.call(link)
    assert stores.in_redis(link) == [5, 0]


async def test_one_key_of_the_wrong_type_is_no_outage(stores: Fleet) -> None:
    """Its caller is counted in Supabase; nobody else notices, and no switch is told."""
    here, caller = stores.join(), Subject("a", TEN)
    stores.server.set(keys.windows("a", stores.time.ms // DAY_MS), "text")
    stores.server.delete(keys.windows("a", stores.time.ms // DAY_MS))
    stores.server.lpush(keys.windows("a", stores.time.ms // DAY_MS), "x")
    replies = [await here.call(caller) for _ in range(11)]
    assert [each.quota.allowed for each in replies] == [True] * 10 + [False]
    assert {each.mode for each in replies} == {"supabase"}
    assert (await here.call(Subject("b", TEN))).mode == "redis"
    assert not [each for each in here.events if isinstance(each, ModeSwitched)]


@pytest.mark.parametrize(("limits", "cost"), [("4000000000/day", 1), ("100000000/day", 1_000_001)])
async def test_one_limit_that_supabase_cannot_hold_is_no_outage(stores: Fleet, limits: str, cost: int) -> None:
    """Who is limited by it is counted in memory, at a share; all others go on being counted there."""
    here, bytes_ = stores.join(), Subject("a", parse_limits(limits))
    cut(stores, "refuse")
    assert [(await here.call(bytes_, cost)).mode for _ in range(4)] == ["local"] * 4
    assert (await here.call(Subject("b", TEN))).mode == "supabase"


async def test_a_clock_an_hour_ahead_locks_nobody_out(stores: Fleet) -> None:
    """Its marker is of the future: calls are settled all the same, and decided."""
    wrong, here, caller = stores.join(), stores.join(), Subject("a", TEN)
    cut(stores, "refuse")
    stores.time.ms += 3_600_000
    await wrong.call(Subject("b", TEN))
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    await wrong.call(Subject("b", TEN))
    stores.time.ms = NOON_MS
    assert sum([(await here.call(caller)).quota.allowed for _ in range(12)]) == 10


# Marks of the last second


async def test_a_settlement_is_noticed_within_a_second(stores: Fleet) -> None:
    """Where nothing is read but the marks, those of the last second will do: 1 command. Then they are read anew."""
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller)
    stores.server.set(keys.OUTAGE, Marker("another", NOON_MS + LEASE_MS, "g").text)
    found = list[tuple[int, int]]()
    for stores.time.ms in (NOON_MS, NOON_MS + 999, NOON_MS + 1_000):
        billed, asked = stores.billed(), here.to_supabase.answered
        await here.call(caller, marks_may_be_old=True)
        found.append((stores.billed() - billed, here.to_supabase.answered - asked))
    # Counted, taken back, and looked at as whoever reads the marker does; Supabase decides.
    assert found[:2] == [(1, 0), (1, 0)]
    assert found[2][1] == 1


@pytest.mark.parametrize(("fault", "left"), [("refuse", 1), ("drop", 0)])
async def test_who_has_failed_reads_the_marks(stores: Fleet, fault: State, left: int) -> None:
    """A call that was counted elsewhere is given to Redis before Redis alone counts again, in the same second too.

    One that was cut after it was counted stays counted there as well.
    """
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller)
    here.to_redis.state = fault
    assert (await here.call(caller, 8, marks_may_be_old=True)).mode == "supabase"
    here.to_redis.state = "up"
    replies = [await here.call(caller, marks_may_be_old=True) for _ in range(2)]
    assert [each.quota.allowed for each in replies] == [True] * left + [False] * (2 - left)
    assert {each.mode for each in replies} == {"redis"}


@pytest.mark.parametrize("stores_of", [("supabase",), ("local",)])
async def test_without_redis_there_are_no_marks(stores: Fleet, stores_of: tuple[Mode, ...]) -> None:
    """Where Redis is switched off the call is counted as any other."""
    here, caller = stores.join(stores_of, share=1.0), Subject("a", TEN)
    replies = [await here.call(caller, marks_may_be_old=True) for _ in range(11)]
    assert [each.quota.allowed for each in replies] == [True] * 10 + [False]
    assert {each.mode for each in replies} == set(stores_of)


# Any order of events


def most(times: list[int], length_ms: int) -> int:
    """The most calls in any closed interval of a length."""
    return max((sum(start <= each <= start + length_ms for each in times) for start in times), default=0)


def cut(stores: Fleet, redis: str, supabase: str = "up") -> None:
    """Put every line into a state."""
    for each in stores.members:
        each.to_redis.state, each.to_supabase.state = redis, supabase  # type: ignore[assignment]


@dataclass
class Oracle:
    """Who can know of which admitted call, if nothing is forgotten: each decision has to be strict against that."""

    limits: Layout
    at: list[int] = field(default_factory=list)
    redis: set[int] = field(default_factory=set)
    supabase: set[int] = field(default_factory=set)
    instances: dict[int, set[int]] = field(default_factory=dict)
    unseen: int = 0

    def decided(self, who: int, mode: Mode, now_ms: int, allowed: bool, exchanged: bool) -> None:
        """One call has been decided."""
        mine = self.instances.setdefault(who, set())
        known = set(mine)
        if mode == "redis":
            known |= self.redis
        if mode == "supabase" or exchanged:
            known |= self.supabase
        call = {len(self.at)} if allowed else set()
        if allowed:
            for each in self.limits.windows:
                inside = {i for i, at in enumerate(self.at) if now_ms - each.length_ms <= at <= now_ms}
                assert len(inside & known) < each.limit, (who, mode, each.name, exchanged)
                self.unseen = max(self.unseen, len(inside - known))
            self.at.append(now_ms)
        known |= call
        self.instances[who] = known
        if mode == "redis":
            self.redis |= known
        if mode == "supabase" or exchanged:
            self.supabase |= known


ACTIONS = ("call",) * 14 + ("cut redis", "cut supabase", "mend redis", "mend supabase", "mend all")


def upset(stores: Fleet, chance: random.Random, what: str, broken: str) -> None:
    """Cut or mend lines."""
    match what.split():
        case ["cut", store]:
            line: Line = getattr(chance.choice(stores.members), f"to_{store}")
            line.state = "drop" if broken == "drop" and chance.random() < 0.5 else "refuse"
        case ["mend", "all"]:
            cut(stores, "up")
        case ["mend", store]:
            for each in stores.members:
                getattr(each, f"to_{store}").state = "up"


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("instances", [1, 3])
async def test_every_decision_is_strict_against_all_that_can_be_known(stores: Fleet, instances: int, seed: int) -> None:
    """Lines are cut and mended at random: one instance never exceeds a limit, several only by what none could know.

    In the end Redis counts what was admitted; one instance to the call, unless replies were lost after execution.
    """
    chance, caller = chance_of(seed), Subject("a", parse_limits("6/minute,60/day"))
    members = [stores.join() for _ in range(instances)]
    oracle, broken = Oracle(caller.layout), "drop" if seed % 3 == 0 else "refuse"
    stores.time.ms = MIDNIGHT_MS - chance.choice([20_000, 3_600_000, 12 * 3_600_000])

    async def call(who: int) -> None:
        before = members[who].to_supabase.answered
        made = await members[who].call(caller)
        exchanged = members[who].to_supabase.answered > before
        oracle.decided(who, made.mode, stores.time.ms, made.quota.allowed, exchanged)

    for _ in range(160):
        what = chance.choice(ACTIONS)
        if what == "call":
            await call(chance.randrange(instances))
        else:
            upset(stores, chance, what, broken)
        stores.time.ms += chance.choice([0, 0, 1, 300, 2_600, 5_001, 9_000, 61_000])
    assert len(oracle.at) > 15
    for each in caller.layout.windows:
        assert most(oracle.at, each.length_ms) <= each.limit + (oracle.unseen if instances > 1 else 0)
    cut(stores, "up")
    for who in [*range(instances)] * 2:
        stores.time.ms += COOLDOWN_MS + 15_000
        await call(who)
    spans = [(each, each.covered(stores.time.ms)) for each in caller.layout.windows]
    admitted = [sum(at // each.bucket_ms in span for at in oracle.at) for each, span in spans]
    counted = stores.in_redis(caller)
    # A floor may hold calls that somebody else gave to Redis, so that several instances may count some of them twice.
    assert counted == admitted or broken == "drop" or instances > 1
    assert broken == "drop" or all(
        have - want <= each.limit // 10 for (each, _), have, want in zip(spans, counted, admitted, strict=True)
    )
    assert all(have >= want for have, want in zip(counted, admitted, strict=True))
    assert stores.without_ttl() == []


@pytest.mark.parametrize("seed", range(5))
async def test_many_at_one_time_when_all_are_back(stores: Fleet, seed: int) -> None:
    """Three that have come back, calls in flight everywhere: exactly the limit, and Redis counts it."""
    chance, caller = chance_of(seed), Subject("a", parse_limits("30/minute,200/day"))
    members = [stores.join() for _ in range(3)]
    cut(stores, "refuse")
    admitted = sum([(await each.call(caller)).quota.allowed for each in members])
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    admitted += sum([(await each.call(caller)).quota.allowed for each in members])
    for _ in range(20):
        replies = await asyncio.gather(*(chance.choice(members).call(caller) for _ in range(chance.randrange(1, 6))))
        admitted += sum(each.quota.allowed for each in replies)
        stores.time.ms += 200
    assert admitted == 30
    assert stores.in_redis(caller) == [30, 30]


@pytest.mark.parametrize("seed", range(5))
async def test_many_at_one_time_while_all_come_back(stores: Fleet, seed: int) -> None:
    """Never above the limit, and Redis has all of them. It may refuse early: a call that an instance counted before it
    heard of the return is taken back, and whoever looks meanwhile takes it for an admitted one."""
    chance, caller = chance_of(seed), Subject("a", parse_limits("30/minute,200/day"))
    members = [stores.join() for _ in range(3)]
    cut(stores, "refuse")
    admitted = sum([(await each.call(caller)).quota.allowed for each in members])
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    for _ in range(20):
        replies = await asyncio.gather(*(chance.choice(members).call(caller) for _ in range(chance.randrange(1, 6))))
        admitted += sum(each.quota.allowed for each in replies)
        stores.time.ms += 200
    assert admitted <= 30
    assert all(counted >= admitted for counted in stores.in_redis(caller))


@pytest.mark.parametrize("seed", range(10))
async def test_many_at_one_time_while_some_are_back_and_some_are_not(stores: Fleet, seed: int) -> None:
    """Lines to Redis come and go, calls are in flight everywhere: within the bound, and Redis counts all of them."""
    chance, caller = chance_of(seed), Subject("a", parse_limits("30/minute,200/day"))
    members = [stores.join() for _ in range(3)]
    cut(stores, "refuse")
    admitted = sum([(await each.call(caller)).quota.allowed for each in members])
    stores.time.ms += COOLDOWN_MS
    for _ in range(30):
        chance.choice(members).to_redis.state = chance.choice(["up", "up", "refuse"])
        replies = await asyncio.gather(*(chance.choice(members).call(caller) for _ in range(chance.randrange(1, 6))))
        admitted += sum(each.quota.allowed for each in replies)
        stores.time.ms += 200
    assert admitted <= 2 * 30
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    for each in members:
        await each.call(caller)
    assert all(counted >= min(admitted, 30) for counted in stores.in_redis(caller))


async def test_the_last_call_goes_to_one_of_two_who_ask_different_stores(stores: Fleet) -> None:
    """While a call is on its way to Supabase, another instance comes back and uses the limit up: Redis is looked at."""
    quick, slow, caller = stores.join(), stores.join(), Subject("a", TEN)
    cut(stores, "refuse")
    for each in (quick, slow):
        await each.call(caller)

    async def use_it_up() -> None:
        cut(stores, "up")
        assert [(await quick.call(caller)).quota.allowed for _ in range(9)] == [True] * 8 + [False]

    slow.to_supabase.meanwhile = use_it_up
    refused = await slow.call(caller)
    assert (refused.quota.allowed, refused.mode) == (False, "redis")


async def test_a_call_that_supabase_counted_after_the_return_is_given_at_once(stores: Fleet) -> None:
    """The fence tells it: Redis has the call before its caller has the reply."""
    quick, slow, caller = stores.join(), stores.join(), Subject("a", TEN)
    cut(stores, "refuse")
    for each in (quick, slow):
        await each.call(caller)

    async def come_back() -> None:
        cut(stores, "up")
        await quick.call(Subject("b", TEN))
        assert stores.in_redis(caller) == [2, 2]

    slow.to_supabase.meanwhile = come_back
    admission, _ = await slow.ask(caller)
    assert (admission.quota.allowed, admission.mode) == (True, "redis")
    assert stores.in_redis(caller) == [3, 3]


async def test_one_that_left_redis_alone_while_nobody_else_noticed(stores: Fleet) -> None:
    """The worst case of the bound: two instances that each trust another store admit twice the limit less the floor."""
    blind, apart, caller = stores.join(), stores.join(), Subject("a", TEN)
    await apart.call(caller, 4)
    apart.to_redis.state = "refuse"
    admitted = 4
    for _ in range(12):
        admitted += sum([(await each.call(caller)).quota.allowed for each in (blind, apart)])
    assert admitted == 2 * 10 - 4
    cut(stores, "up")
    stores.time.ms += COOLDOWN_MS
    assert not (await apart.call(caller)).quota.allowed
    assert not (await blind.call(caller)).quota.allowed
    # A bucket of four bits holds 15, which is beyond the limit.
    assert stores.in_redis(caller) == [15, 16]


async def test_a_new_instance_in_an_outage_knows_what_the_others_told(stores: Fleet) -> None:
    """And before they told it, it is the bound's u: 6 in Redis that nobody who asks has seen."""
    old, new, caller = stores.join(), stores.join(), Subject("a", TEN)
    await old.call(caller, 6)
    cut(stores, "refuse")
    assert (await new.call(caller, 6)).quota.allowed
    assert not (await old.call(caller)).quota.allowed
    assert not (await new.call(caller)).quota.allowed


async def test_a_lost_redis_that_nobody_missed_starts_anew(stores: Fleet) -> None:
    """Emptied between two calls: no instance saw a failure, so its counts are believed (the documented exception)."""
    here, caller = stores.join(), Subject("a", TEN)
    await here.call(caller, 10)
    stores.server.flushall()
    assert (await here.call(caller)).quota.states[0].remaining == 9
