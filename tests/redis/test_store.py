"""How Redis answered an instance last, and what is told of one round trip: a slow reply, or none."""

from dataclasses import dataclass, field

import pytest

from lib.base.events import Event, RedisSlow, StoreFailed
from lib.breaker.gate import Gate
from lib.breaker.vitals import VitalsPolicy
from lib.redis.errors import Kind, RedisDown
from lib.redis.op import Op, as_text
from lib.redis.store import Contact, RedisStore
from lib.redis.tcp import Tcp
from tests.rig.clock import Time
from tests.rig.redis import RedisFront

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


@pytest.mark.anyio
async def test_a_slow_reply_is_told(upstash: RedisFront) -> None:
    """Connecting counts: a caller waits for it as well."""
    told = Told(upstash.wire.url, takes_s=61)
    await told.ask(GET)
    (slow,) = told.events
    assert isinstance(slow, RedisSlow)
    assert slow.ms >= 61_000


@pytest.mark.anyio
async def test_a_quick_reply_is_not_told(upstash: RedisFront) -> None:
    """Nothing is said of what is as it should be."""
    told = Told(upstash.wire.url, takes_s=0)
    await told.ask(GET)
    assert told.events == []


@pytest.mark.anyio
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


def test_nothing_was_asked() -> None:
    """Then nothing is known."""
    assert Contact().up is None


def test_a_state_begins_once() -> None:
    """Further calls that show the same do not move its beginning; the round trip is the last one's."""
    contact = Contact()
    contact.answered(1.5, 1_000)
    contact.answered(2.5, 2_000)
    assert (contact.up, contact.since_ms, contact.trip_ms) == (True, 1_000, 2.5)
    contact.failed("timeout", 3_000, down=True)
    contact.failed("connection", 4_000, down=True)
    assert (contact.up, contact.since_ms, contact.trip_ms) == (False, 3_000, None)
    assert (contact.error, contact.error_ms) == ("connection", 4_000)
    contact.answered(3.5, 5_000)
    assert (contact.up, contact.since_ms, contact.error, contact.error_ms) == (True, 5_000, "connection", 4_000)


@pytest.mark.parametrize("kind", ["command", "timeout"])
def test_what_says_nothing_of_the_server(kind: Kind) -> None:
    """Is the last error, and changes no state."""
    contact = Contact()
    contact.failed(kind, 500, down=False)
    assert (contact.up, contact.error) == (None, kind)
    contact.answered(1.5, 1_000)
    contact.failed(kind, 2_000, down=False)
    assert (contact.up, contact.since_ms, contact.trip_ms, contact.error_ms) == (True, 1_000, 1.5, 2_000)
