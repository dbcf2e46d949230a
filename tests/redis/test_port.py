"""The contract of the port, on a real Redis: what every way to it does alike. How a wire breaks is tested beside."""

import asyncio
import math

import pytest

from dev.faults import Fault
from lib.redis.errors import RedisDown
from lib.redis.op import CommandError, Op, as_int, as_text, gather, join
from lib.redis.rest import Upstash
from lib.redis.tcp import Tcp
from tests.rig.redis import RedisFront, Store

type Way = Upstash | Tcp


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Every transport there is."""
    return str(request.param)


def get(key: str) -> Op[str | None]:
    """What a key holds."""
    return Op((("GET", key),), lambda replies: as_text(replies[0]))


def increase(key: str) -> Op[int]:
    """Count one more."""
    return Op((("INCR", key),), lambda replies: as_int(replies[0]))


def test_replies_are_what_they_are(redis: Store, subject: str) -> None:
    """Texts with Korean and NUL, whole numbers, lists, lists in lists, and nothing."""
    text = "디스크 \N{SLIGHTLY SMILING FACE} \0"
    assert redis.command("SET", subject, text) == "OK"
    assert redis.command("GET", subject) == text
    assert redis.command("MGET", subject, f"no-{subject}") == [text, None]
    assert redis.command("STRLEN", subject) == 16
    assert redis.command("EVAL", "return {1, {'a', false}, 2}", 0) == [1, ["a", None], 2]
    assert redis.command("LRANGE", f"no-{subject}", 0, -1) == []


def test_one_round_trip_whatever_it_carries(redis: Store, subject: str) -> None:
    """Joined operations go at once, in their order; without a command nothing is sent."""
    with redis.count() as spent:
        assert redis.run(join(increase(subject), gather([increase(subject), get(subject)]))) == (1, [2, "2"])
        assert redis.run(Op((), lambda replies: "nothing")) == "nothing"
    assert spent.round_trips == 1


def test_time_to_live(redis: Store, subject: str) -> None:
    """A key that is set for a time has it, and `NX` leaves a key that is there as it is."""
    assert redis.command("SET", subject, "a", "NX", "PX", 90_000) == "OK"
    assert redis.command("SET", subject, "b", "NX", "PX", 1) is None
    left_ms = redis.command("PTTL", subject)
    assert isinstance(left_ms, int)
    assert 0 < left_ms <= 90_000
    assert redis.command("GET", subject) == "a"


def test_a_refused_command_leaves_its_neighbours(redis: Store, subject: str) -> None:
    """They are executed; read by an operation it is `command`, which says nothing of the server."""
    redis.command("LPUSH", subject, "x")
    before, refused, after = (redis.command("SET", f"{subject}-{n}", n) for n in (1, 2, 3))
    assert [before, refused, after] == ["OK"] * 3
    with pytest.raises(RedisDown) as down:
        redis.run(gather([increase(f"{subject}-1"), increase(subject), increase(f"{subject}-3")]))
    assert down.value.kind == "command"
    assert [redis.command("GET", f"{subject}-{n}") for n in (1, 3)] == ["2", "4"]
    assert isinstance(redis.command("INCR", subject), CommandError)


@pytest.mark.parametrize(
    ("fault", "kind", "executed"),
    [
        (Fault(kind="refuse", times=1), "connection", 0),
        (Fault(kind="drop", times=1), "connection", 1),
        (Fault(kind="status", status=401, times=1), "unauthorized", 0),
        (Fault(kind="status", status=429, times=1), "quota", 0),
        (Fault(kind="status", status=503, times=1), "server", 0),
    ],
    ids=lambda each: each.kind + str(each.status or "") if isinstance(each, Fault) else "",
)
def test_nothing_is_sent_twice(redis: Store, subject: str, fault: Fault, kind: str, executed: int) -> None:
    """A failure has its kind and costs one round trip; what was executed stays so, once; the next one works."""
    redis.upstash.faults.set(fault)
    with redis.count() as spent, pytest.raises(RedisDown) as down:
        redis.run(increase(subject))
    assert (down.value.kind, spent.round_trips) == (kind, 1)
    assert redis.run(increase(subject)) == executed + 1


@pytest.mark.anyio
async def test_round_trips_at_once_keep_their_replies_apart(upstash: RedisFront, transport: str, subject: str) -> None:
    """However many there are, and although one of them is given up."""
    way = upstash.way(transport)
    try:
        await asyncio.gather(*(way.send([("SET", f"{subject}-{n}", n)], math.inf) for n in range(50)))
        with pytest.raises(RedisDown) as down:
            await way.run(get(subject), 0)
        found = await asyncio.gather(*(way.run(get(f"{subject}-{n}")) for n in range(50)))
    finally:
        await way.aclose()
    assert down.value.kind == "timeout"
    assert found == [str(n) for n in range(50)]
