"""The fleet as one instance knows it: what was read, what was reported to it, and what it has told of."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from ..ai.question import Json
from ..base.server_events import ServerChanged
from ..base.values import dataclass
from ..edge.problems import Problem
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, Reply, as_text, ignored
from . import pace
from .scenarios import Simulation, load, simulate
from .snapshot import Snapshot, pack, unpack
from .state import State, state_of
from .watch import Change, Watch

if TYPE_CHECKING:
    from ..parts import Parts

type Origin = Literal["redis", "memory", "last"]

_WAIT_S = 2.0


@dataclass(slots=True, eq=False)
class Fleet:
    """What an instance keeps of the fleet."""

    reporters: Sequence[str]
    """Those that are configured: no other is believed, whatever Redis holds."""
    alert_percent: float
    alert_reports: int
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    """The latest of each reporter."""
    texts: dict[str, str] = field(default_factory=dict)
    """What Redis held of each when it was read last."""
    simulation: str | None = None
    """The text that says which simulation runs."""
    read_ms: int | None = None
    """When Redis was read last."""
    looked_ms: int | None = None
    """When somebody last read from this instance."""
    accepted_ms: dict[str, int] = field(default_factory=dict)
    """When this instance last took a report of each reporter."""
    recorded: dict[str, int] = field(default_factory=dict)
    """The last five minutes of each reporter that this instance has recorded."""
    watches: dict[str, Watch] = field(default_factory=dict)
    briefs: dict[bool, tuple[int, Mapping[str, Json]]] = field(default_factory=dict)
    """What models were told last, of real and of simulated servers (True), and of which minute that is."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One read serves all who come meanwhile."""

    @classmethod
    def of(cls, parts: "Parts") -> "Fleet":
        """The instance's."""
        return parts.keep(cls, _as_configured)

    def state(self, now_ms: int, *, simulated: bool) -> tuple[State, Simulation | None]:
        """All servers, and the simulation that runs, if any. Never both at once: one might be taken for the other."""
        simulation = load(self.simulation)
        if simulation is not None and not simulation.runs(now_ms):
            simulation = None
        if not simulated:
            return state_of(self.snapshots.values(), now_ms), simulation
        return state_of([simulate(simulation, now_ms)] if simulation else [], now_ms), simulation

    def learn(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, unless one of a later time is known."""
        known = self.snapshots.get(snapshot.reporter)
        if known is None or known.at_ms < snapshot.at_ms:
            self.snapshots[snapshot.reporter] = snapshot

    def watch(self, reporter: str) -> Watch:
        """What has been told of a reporter's servers."""
        return self.watches.setdefault(reporter, Watch(self.alert_percent, self.alert_reports))


def _as_configured(parts: "Parts") -> Fleet:
    settings = parts.settings
    return Fleet(tuple(settings.fleet_tokens), settings.alert_server_percent, settings.alert_server_reports)


async def read(parts: "Parts") -> Origin:
    """Bring the fleet up to date: 1 command, none while what was read is new. Raises Problem where nothing is known.

    ``memory``: it was read a moment ago, or Redis is switched off. ``last``: Redis gives no reply, and this is older.
    """
    fleet, redis = Fleet.of(parts), parts.guard.limits.redis
    async with fleet.reading:
        now_ms = parts.clock.now_ms()
        kept_ms = pace.memory_ms(parts.guard.limits.thrift.number(now_ms))
        if redis is None or (fleet.read_ms is not None and 0 <= now_ms - fleet.read_ms < kept_ms):
            return "memory"
        try:
            found = await redis.run(Op((("HGETALL", keys.SERVERS),), _fields), "read", _WAIT_S)
        except RedisDown as e:
            if not fleet.snapshots:
                raise Problem("store_unavailable", f"Redis gave no usable reply ({e.kind}). Try again.", 5) from e
            return "last"
        for name in fleet.reporters:
            text = found.get(keys.reporter(name))
            # Read again and again between two reports: what is as it was need not be unpacked.
            if text is None or text == fleet.texts.get(name):
                continue
            if (snapshot := unpack(name, text)) is not None:
                fleet.learn(snapshot)
                fleet.texts[name] = text
        fleet.simulation, fleet.read_ms = found.get(keys.SIMULATION), now_ms
    for snapshot in list(fleet.snapshots.values()):
        tell(parts, snapshot.reporter, fleet.watch(snapshot.reporter).looked(snapshot, now_ms))
    return "redis"


async def store(parts: "Parts", snapshot: Snapshot) -> bool:
    """Keep a report here and in Redis: 1 command. Whether Redis has it."""
    Fleet.of(parts).snapshots[snapshot.reporter] = snapshot
    redis = parts.guard.limits.redis
    if redis is None:
        return False
    command = ("HSET", keys.SERVERS, keys.reporter(snapshot.reporter), pack(snapshot))
    try:
        await redis.run(Op((command,), ignored), "report", _WAIT_S)
    except RedisDown:
        return False
    return True


def tell(parts: "Parts", reporter: str, changes: Sequence[Change]) -> None:
    """Report what has changed; alerts follow from it (``ops/alert_rules.py``)."""
    for each in changes:
        parts.emit(ServerChanged(reporter, each.about, each.what, each.began, each.value))


def _fields(replies: Sequence[Reply]) -> dict[str, str]:
    """A hash's fields; names and values in turn."""
    flat = replies[0]
    if not isinstance(flat, list):
        # Notices an error.
        as_text(flat)
        flat = []
    texts = [as_text(each) or "" for each in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
