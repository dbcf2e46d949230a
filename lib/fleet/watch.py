"""What is wrong with the servers of one reporter, as far as one instance has seen it: told once, and its end once.

A reporter that has stopped is one trouble, not one for each of its servers.
"""

from collections.abc import Iterator
from dataclasses import field

from ..base.values import dataclass
from .snapshot import Snapshot
from .state import status_of

WATCHED = ("cpu", "memory", "disk")
SILENT = "silent"
MOST_AT_ONCE = 10
"""So many changes are told at once; the rest the next time."""

type _Trouble = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A trouble began or ended. ``about``: the server, or empty for its reporter; ``what``: ``silent``, or a metric."""

    about: str
    what: str
    began: bool
    value: float | None = None


@dataclass(slots=True, eq=False)
class Watch:
    """Troubles of one reporter's servers that were told and have not ended."""

    percent: float
    reports: int
    """A metric is a trouble when it was above ``percent`` in so many reports on end."""
    _told: set[_Trouble] = field(default_factory=set)
    _runs: dict[_Trouble, int] = field(default_factory=dict)
    """In how many reports on end a metric was above (negative: not above) the threshold."""

    def reported(self, snapshot: Snapshot, now_ms: int) -> list[Change]:
        """What has changed with a report that has just come in."""
        named = {each.id for each in snapshot.servers} | {""}
        self._told = {trouble for trouble in self._told if trouble[0] in named}
        self._runs = {trouble: run for trouble, run in self._runs.items() if trouble[0] in named}
        return self._tell([*self._levels(snapshot), *self._silence(snapshot, now_ms)])

    def looked(self, snapshot: Snapshot, now_ms: int) -> list[Change]:
        """What has changed by time alone."""
        return self._tell(list(self._silence(snapshot, now_ms)))

    def _tell(self, changes: list[Change]) -> list[Change]:
        told = changes[:MOST_AT_ONCE]
        for each in told:
            (self._told.add if each.began else self._told.discard)((each.about, each.what))
        return told

    def _levels(self, snapshot: Snapshot) -> Iterator[Change]:
        for each in snapshot.servers:
            for what in WATCHED:
                value: float | None = getattr(each, what)
                if value is None:
                    continue
                trouble, above = (each.id, what), value > self.percent
                run = self._runs.get(trouble, 0)
                run = max(1, run + 1) if above else min(-1, run - 1)
                self._runs[trouble] = run
                if above != (trouble in self._told) and abs(run) >= self.reports:
                    yield Change(each.id, what, above, value)

    def _silence(self, snapshot: Snapshot, now_ms: int) -> Iterator[Change]:
        gone = status_of(snapshot.at_ms, snapshot.interval_s, now_ms) == "silent"
        if gone != (("", SILENT) in self._told):
            yield Change("", SILENT, gone)
        if gone:
            return
        for each in snapshot.servers:
            quiet = status_of(each.at_ms, snapshot.interval_s, now_ms) == "silent"
            if quiet != ((each.id, SILENT) in self._told):
                yield Change(each.id, SILENT, quiet)
