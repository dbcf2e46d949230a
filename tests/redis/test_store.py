"""What the instance is told of a round trip to Redis: that a reply was slow, or that there was none."""

from dataclasses import dataclass, field

import pytest

from lib.base.events import Event, RedisSlow, StoreFailed
from lib.breaker.gate import Gate
from lib.breaker.vitals import VitalsPolicy
from lib.redis.errors import RedisDown
from lib.redis.op import Op, as_text
from lib.redis.store import RedisStore
from lib.redis.tcp import Tcp
from tests.rig.clock import Time
from tests.rig.redis import RedisFront

pytestmark = pytest.mark.anyio

SLOW_MS = 60_000
GET = Op((("GET", "k"),), lambda replies: as_text(replies[0]))
WRONG = Op((("GET",),), lambda replies: as_text(replies[0]))


@dataclass
class Told:
    """A store over TCP, and what it has told. Each round trip takes ``takes_s`` longer than it does."""

    url: str
    takes_s: float
    time: Time = field(default_factory=Time)
    events: list[Event] = field(default_factory=list)

    async def ask(self, op: Op[str | None]) -> None:
        """One round trip, with a connection of its own."""
        clock = self.time.clock
        wire = Tcp(self.url, 20, 20)
        store = RedisStore(wire, Gate(VitalsPolicy(), clock, SLOW_MS), clock, self.events.append, SLOW_MS)

        async def late() -> str | None:
            self.time.later(self.takes_s)
            return await wire.run(op)

        try:
            await store.call(late, "ask")
        finally:
            await wire.aclose()

    def kinds(self) -> list[type[Event]]:
        """The events, by kind."""
        return [type(each) for each in self.events]


async def test_a_slow_reply_is_told(upstash: RedisFront) -> None:
    """Connecting counts: a caller waits for it as well."""
    told = Told(upstash.wire.url, takes_s=61)
    await told.ask(GET)
    (slow,) = told.events
    assert isinstance(slow, RedisSlow)
    assert slow.ms >= 61_000


async def test_a_quick_reply_is_not_told(upstash: RedisFront) -> None:
    """Nothing is said of what is as it should be."""
    told = Told(upstash.wire.url, takes_s=0)
    await told.ask(GET)
    assert told.events == []


@pytest.mark.parametrize(
    ("op", "reaches"),
    [pytest.param(GET, False, id="no connection"), pytest.param(WRONG, True, id="a command that Redis refuses")],
)
async def test_a_failure_is_no_slow_reply(upstash: RedisFront, op: Op[str | None], *, reaches: bool) -> None:
    """However long it took: it is told as what it is, and once."""
    # Port 1 is reserved, and nothing listens there.
    told = Told(upstash.wire.url if reaches else "redis://127.0.0.1:1", takes_s=61)
    with pytest.raises(RedisDown):
        await told.ask(op)
    assert told.kinds() == [StoreFailed]
