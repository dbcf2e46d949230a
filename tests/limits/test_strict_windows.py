"""The strict windows behind `upstash_ratelimit`'s own front, with the vendor's real clients, on a real Redis."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from upstash_ratelimit import Ratelimit
from upstash_ratelimit.asyncio import Ratelimit as AsyncRatelimit
from upstash_redis import Redis
from upstash_redis.asyncio import Redis as AsyncRedis
from upstash_redis.errors import UpstashError

from dev.faults import Fault
from lib.base.clock import Clock
from lib.limits.blocklist import UNSURE_MS
from lib.limits.strict_windows import StrictWindows
from lib.limits.window import DAY_MS, SKEW_BACK_MS
from lib.redis.op import Command, Op, Reply
from tests.limits.instance import MIDNIGHT_MS, NOON_MS
from tests.rig.redis import RedisFront, Store

RETRY_MS = NOON_MS + 2_500 + 60_000 + SKEW_BACK_MS


@dataclass
class Hands:
    """The hands of a clock that stands still until it is set."""

    now_ms: int = NOON_MS

    @property
    def clock(self) -> Clock:
        """The clock they belong to."""
        return Clock(now_ms=lambda: self.now_ms, monotonic=lambda: self.now_ms / 1000)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def client(upstash: RedisFront) -> Iterator[Redis]:
    """The vendor's client as it comes, but for its retry of writes."""
    with Redis(upstash.url, upstash.token, rest_retries=0, allow_telemetry=False) as client:
        yield client


@pytest.fixture
def limiter(hands: Hands) -> StrictWindows:
    return StrictWindows(minute=10, day=100, clock=hands.clock)


@pytest.fixture
def ratelimit(client: Redis, limiter: StrictWindows) -> Ratelimit:
    return Ratelimit(client, limiter)


def key_ttls(redis: Store) -> dict[str, int]:
    """The TTL of every key of windows there is, of all tests."""
    return {str(key): redis.upstash.direct.ttl(key) for key in redis.upstash.direct.keys("rl:*")}


def test_ten_pass(ratelimit: Ratelimit, subject: str) -> None:
    """CASE 1: 9..0 left, then a refusal whose reset is the exact retry time in seconds."""
    responses = [ratelimit.limit(subject) for _ in range(11)]
    assert [response.allowed for response in responses] == [True] * 10 + [False]
    assert [response.remaining for response in responses] == [*range(9, -1, -1), 0]
    assert {response.limit for response in responses} == {10}
    assert {response.reset for response in responses} == {RETRY_MS / 1000}


def test_the_retry_time_is_exact(ratelimit: Ratelimit, hands: Hands, subject: str) -> None:
    """CASE 8: refused a millisecond before the reset, passed at it."""
    for _ in range(10):
        ratelimit.limit(subject)
    reset_ms = round(ratelimit.limit(subject).reset * 1000)
    hands.now_ms = reset_ms - 1
    assert not ratelimit.limit(subject).allowed
    hands.now_ms = reset_ms
    assert ratelimit.limit(subject).allowed


def test_the_tightest_window_is_told(ratelimit: Ratelimit, hands: Hands, subject: str) -> None:
    """CASE 7: with the day used up limit, remaining and reset are the day's."""
    for n in range(10):
        hands.now_ms = NOON_MS + n * 70_000
        assert ratelimit.limit(subject, 10).allowed
    hands.now_ms = NOON_MS + 900_000
    refused = ratelimit.limit(subject)
    assert (refused.allowed, refused.limit, refused.remaining) == (False, 100, 0)
    assert refused.reset * 1000 == NOON_MS + 1_800_000 + DAY_MS + SKEW_BACK_MS


def test_remaining_and_reset(ratelimit: Ratelimit, redis: Store, subject: str) -> None:
    """CASE 4: both read the tightest window and write nothing."""
    assert ratelimit.get_remaining(subject) == 10
    assert ratelimit.get_reset(subject) == NOON_MS / 1000
    ratelimit.limit(subject, 4)
    with redis.count() as spent:
        assert ratelimit.get_remaining(subject) == 6
        assert ratelimit.get_reset(subject) == RETRY_MS / 1000
    # Yesterday has been read when the call was counted.
    assert (spent.commands, spent.round_trips) == (2, 2)
    assert spent.executed in ({"bitfield_ro": 2}, {})


def test_a_peek_makes_no_key(ratelimit: Ratelimit, redis: Store, subject: str) -> None:
    """CASE 4: asking about an unknown caller leaves no trace."""
    before = key_ttls(redis).keys()
    ratelimit.get_remaining(subject)
    ratelimit.get_reset(subject)
    ratelimit.limit(subject, 0)
    assert key_ttls(redis).keys() == before


def test_command_gate(client: Redis, redis: Store, hands: Hands, subject: str) -> None:
    """CASE 18: first sight 3, admitted 1, another instance 2, refused 2, blocked 0, too costly 0; a trip each."""
    first, second = (Ratelimit(client, StrictWindows(minute=10, day=100, clock=hands.clock)) for _ in range(2))
    costs = []
    for front, rate in ((first, 1), (first, 1), (second, 1), (second, 1), (first, 6), (first, 1), (first, 1)):
        with redis.count() as spent:
            front.limit(subject, rate)
        costs.append((spent.commands, spent.round_trips))
    assert costs == [(3, 2), (1, 1), (2, 1), (1, 1), (1, 1), (2, 2), (0, 0)]
    with redis.count() as spent:
        second.limit(subject, 11)
    assert spent.commands == 0


def test_blocked_calls_cost_nothing(ratelimit: Ratelimit, redis: Store, hands: Hands, subject: str) -> None:
    """CASE 17: refused without a command until the retry time; then Redis is asked."""
    for _ in range(11):
        ratelimit.limit(subject)
    with redis.count() as spent:
        for hands.now_ms in (NOON_MS, RETRY_MS - 1):
            assert not ratelimit.limit(subject).allowed
            assert not ratelimit.limit(subject, 2).allowed
    assert spent.round_trips == 0
    hands.now_ms = RETRY_MS
    with redis.count() as spent:
        assert ratelimit.limit(subject).allowed
    assert spent.commands == 1


def test_a_cheaper_call_is_asked(ratelimit: Ratelimit, subject: str) -> None:
    """CASES 3 and 17: 8 used, cost 5 refused, cost 1 passes."""
    assert ratelimit.limit(subject, 8).allowed
    assert not ratelimit.limit(subject, 5).allowed
    passed = ratelimit.limit(subject)
    assert (passed.allowed, passed.remaining) == (True, 1)


def test_a_raised_limit_shows(client: Redis, hands: Hands, subject: str) -> None:
    """CASE 17: another instance with the new limit admits at once; the counts are the same ones."""
    old = Ratelimit(client, StrictWindows(minute=10, clock=hands.clock))
    new = Ratelimit(client, StrictWindows(minute=12, clock=hands.clock))
    for _ in range(11):
        old.limit(subject)
    assert [new.limit(subject).allowed for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("rate", [11, 100, 101, 10**9])
def test_a_cost_above_the_limit(ratelimit: Ratelimit, redis: Store, subject: str, rate: int) -> None:
    """CASE 2: refused without a command, nothing spent."""
    with redis.count() as spent:
        assert not ratelimit.limit(subject, rate).allowed
    assert spent.round_trips == 0
    assert ratelimit.limit(subject, 10).allowed


def test_a_negative_cost(ratelimit: Ratelimit, subject: str) -> None:
    """Nobody gets calls back by paying less than nothing."""
    with pytest.raises(ValueError, match="0 or more"):
        ratelimit.limit(subject, -1)


def test_a_limiter_without_a_window() -> None:
    """It would admit everything; it is refused when it is made."""
    with pytest.raises(ValueError, match="a minute, an hour or a day"):
        StrictWindows()


@pytest.mark.parametrize(
    "windows", [{"minute": 2}, {"hour": 2}, {"day": 2}, {"minute": 2, "hour": 3, "day": 4}], ids=str
)
def test_each_window_alone(client: Redis, hands: Hands, subject: str, windows: dict[str, int]) -> None:
    """Any of the three, and all together."""
    ratelimit = Ratelimit(client, StrictWindows(**windows, clock=hands.clock))
    assert [ratelimit.limit(subject).allowed for _ in range(3)] == [True, True, False]


def test_odd_callers_stay_apart(ratelimit: Ratelimit, subject: str) -> None:
    """CASE 14: none touches another."""
    callers = [f"{subject}{odd}" for odd in ("", "*", ":b", "{x}", "\0", "호출자", "\ud800", "x" * 10_000)]
    assert all(ratelimit.limit(caller, 10).allowed for caller in callers)
    assert not any(ratelimit.limit(caller).allowed for caller in callers)


def test_prefixes_stay_apart(client: Redis, limiter: StrictWindows, subject: str) -> None:
    """The front's prefix separates applications."""
    one, other = Ratelimit(client, limiter, prefix="one"), Ratelimit(client, limiter, prefix="other")
    assert one.limit(subject, 10).allowed
    assert other.limit(subject, 10).allowed


@pytest.mark.parametrize("now_ms", [NOON_MS, MIDNIGHT_MS - 1, MIDNIGHT_MS], ids=["noon", "just before", "midnight"])
@pytest.mark.parametrize("rates", [(1,), (2,), (10, 1), (8, 5)], ids=str)
def test_every_key_has_a_ttl(
    ratelimit: Ratelimit, redis: Store, hands: Hands, subject: str, now_ms: int, rates: tuple[int, ...]
) -> None:
    """CASE 11: whatever the first calls are."""
    hands.now_ms, before = now_ms, key_ttls(redis)
    for rate in rates:
        ratelimit.limit(subject, rate)
    made = {key: ttl for key, ttl in key_ttls(redis).items() if key not in before}
    assert len(made) == 1
    assert all(DAY_MS // 1000 < ttl <= 3 * DAY_MS // 1000 for ttl in made.values())


def test_a_lost_reply(ratelimit: Ratelimit, redis: Store, subject: str) -> None:
    """CASE 16: the library's error comes through, at most one more is spent, nothing is sent again."""
    assert ratelimit.limit(subject).allowed
    redis.upstash.faults.set(Fault(kind="drop", times=1))
    with redis.count() as spent, pytest.raises(Exception, match=r"disconnected|closed"):
        ratelimit.limit(subject)
    assert spent.round_trips == 1
    assert sum(ratelimit.limit(subject).allowed for _ in range(12)) == 8


def test_a_wrong_type(ratelimit: Ratelimit, redis: Store, subject: str) -> None:
    """CASE 15: the library's error, not an admission."""
    before = key_ttls(redis)
    ratelimit.limit(subject)
    (key,) = key_ttls(redis).keys() - before.keys()
    redis.upstash.direct.delete(key)
    redis.command("RPUSH", key, "x")
    with pytest.raises(UpstashError, match="WRONGTYPE"):
        ratelimit.limit(subject)


def test_a_key_made_anew_within_the_day(ratelimit: Ratelimit, redis: Store, subject: str) -> None:
    """CASE 11: a Redis that lost its keys gets a TTL again from an instance that had set it."""
    before = key_ttls(redis)
    ratelimit.limit(subject)
    (key,) = key_ttls(redis).keys() - before.keys()
    redis.upstash.direct.delete(key)
    ratelimit.limit(subject)
    assert redis.upstash.direct.ttl(key) > 0


def answered(redis: Store, commands: tuple[Command, ...]) -> Sequence[Reply]:
    """A round trip of the limiter's, so that a test can do something before the next one."""
    return redis.run(Op(commands, lambda replies: replies))


def test_a_key_lost_before_its_refund(limiter: StrictWindows, client: Redis, redis: Store, subject: str) -> None:
    """CASE 11: the refund makes it anew, and it gets a TTL again, also where this instance had set one before."""
    before = key_ttls(redis)
    limiter.limit(client, subject)
    (key,) = key_ttls(redis).keys() - before.keys()
    refused = limiter._limit(subject, 10)
    refund = refused.send(answered(redis, next(refused)))
    redis.upstash.direct.delete(key)
    answered(redis, refused.send(answered(redis, refund)))
    assert redis.upstash.direct.ttl(key) > 0


def test_a_refusal_beside_one_that_is_taken_back(client: Redis, redis: Store, hands: Hands, subject: str) -> None:
    """CASES 8 and 17: who did not fit beside it alone is asked again soon, and not when the window is over."""
    here, there = (StrictWindows(minute=10, day=100, clock=hands.clock) for _ in range(2))
    assert here.limit(client, subject, 8).allowed
    refused = there._limit(subject, 5)
    refund = refused.send(answered(redis, next(refused)))
    assert not here.limit(client, subject).allowed
    answered(redis, refund)
    hands.now_ms += UNSURE_MS
    assert here.limit(client, subject).allowed


# --- waiting ------------------------------------------------------------------------------------------------------


def ticking(times_ms: list[int]) -> Clock:
    """A clock that shows one time after the other. All lie in the past: the library finds that it need not sleep."""
    shown = iter(times_ms)
    return Clock(now_ms=lambda: next(shown), monotonic=lambda: 0.0)


def test_block_until_ready(client: Redis, subject: str) -> None:
    """The library's own waiting ends with the first call at the retry time."""
    limiter = StrictWindows(minute=1, clock=ticking([NOON_MS, NOON_MS + 1, RETRY_MS]))
    ratelimit = Ratelimit(client, limiter)
    assert ratelimit.limit(subject).allowed
    assert ratelimit.block_until_ready(subject, timeout=5).allowed


def test_waiting_for_what_never_fits(client: Redis, subject: str) -> None:
    """CASE 2: waiting for a cost above the limit gives up at the timeout; it does not spin until then."""
    asked: list[int] = []

    def now_ms() -> int:
        asked.append(1)
        return NOON_MS

    ratelimit = Ratelimit(client, StrictWindows(minute=1, clock=Clock(now_ms=now_ms)))
    assert not ratelimit.block_until_ready(subject, timeout=0.05, rate=2).allowed
    assert len(asked) <= 3


# --- the asynchronous front ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_asynchronous_front(upstash: RedisFront, limiter: StrictWindows, subject: str) -> None:
    """All four questions by the vendor's asynchronous client, on the counts of the synchronous one."""
    async with AsyncRedis(upstash.url, upstash.token, rest_retries=0, allow_telemetry=False) as client:
        ratelimit = AsyncRatelimit(client, limiter)
        responses = [await ratelimit.limit(subject) for _ in range(11)]
        assert [response.allowed for response in responses] == [True] * 10 + [False]
        assert [response.remaining for response in responses] == [*range(9, -1, -1), 0]
        assert await ratelimit.get_remaining(subject) == 0
        assert await ratelimit.get_reset(subject) == RETRY_MS / 1000
    with Redis(upstash.url, upstash.token, rest_retries=0, allow_telemetry=False) as synchronous:
        assert not Ratelimit(synchronous, limiter).limit(subject).allowed


@pytest.mark.anyio
async def test_block_until_ready_asynchronously(upstash: RedisFront, subject: str) -> None:
    """As with the synchronous front."""
    limiter = StrictWindows(minute=1, clock=ticking([NOON_MS, NOON_MS + 1, RETRY_MS]))
    async with AsyncRedis(upstash.url, upstash.token, rest_retries=0, allow_telemetry=False) as client:
        ratelimit = AsyncRatelimit(client, limiter)
        assert (await ratelimit.limit(subject)).allowed
        assert (await ratelimit.block_until_ready(subject, timeout=5)).allowed


def test_it_is_small_and_plain(subjects: Callable[[], str], ratelimit: Ratelimit, redis: Store) -> None:
    """A key names no caller: identifiers are hashed."""
    name = f"user@example.com {subjects()}"
    before = key_ttls(redis)
    ratelimit.limit(name)
    (key,) = key_ttls(redis).keys() - before.keys()
    assert "example" not in key
    assert key.endswith(f":{NOON_MS // DAY_MS}")
