"""Who calls most, what went wrong, which circuits moved, which alerts were sent. Read in 2 commands, reused a while."""

import json
from collections.abc import Sequence

from ..base.clock import Clock
from ..base.values import dataclass
from ..edge.page_replies import ActivityBody, AlertBody, MovedCircuitBody, NotableBody
from ..ledger import batches
from ..ledger.batches import Batch, Notable
from ..ledger.capped import Capped
from ..ledger.recent import Recent
from ..limits.window import DAY_MS
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import join
from ..redis.store import RedisStore
from ..redis.thrift import Thrift

SENT = Capped(keys.ALERTS, 100, 70 * 86_400)
"""The last alerts that were sent, each as JSON."""

_CALLERS = 10
_READ_S = 2.0
_FRESH_S = 300


@dataclass(slots=True)
class Activity:
    """Reads what the instances have seen lately. One per instance."""

    redis: RedisStore | None
    recent: Recent
    thrift: Thrift
    clock: Clock
    _read: tuple[int, Sequence[Batch], Sequence[AlertBody]] | None = None
    """When Redis was read, and what it said."""
    _written: int = 0
    """How many batches this instance had handed over by then."""

    def fresh_s(self, now_ms: int) -> int:
        """For how long a reading is reused."""
        return max(_FRESH_S, self.thrift.step(now_ms).read_s)

    async def body(self) -> ActivityBody:
        """The last day's callers, the last notable requests, the last alerts; what is only here is added."""
        now_ms, known = self.clock.now_ms(), True
        is_old = self._read is None or now_ms - self._read[0] >= self.fresh_s(now_ms) * 1000
        if is_old or self._written != self.recent.written:
            known = await self._look(now_ms)
        at_ms, read, sent = self._read or (now_ms, (), ())
        together = [*read, self.recent.pending(now_ms)]
        lately = [each for each in together if each.at_ms > now_ms - DAY_MS]
        return {
            "at": at_ms // 1000,
            "source": "redis" if known else "last" if self._read else "instance",
            "freshFor": self.fresh_s(now_ms),
            "since": min(each.at_ms for each in lately) // 1000,
            "callers": [{"caller": each, "requests": calls} for each, calls in batches.busiest(lately, _CALLERS)],
            "notable": [_notable(each) for each in batches.latest(together)],
            "circuits": _circuits(together),
            "alerts": list(sent),
        }

    async def _look(self, now_ms: int) -> bool:
        """Read Redis; whether it gave a reply."""
        if self.redis is None:
            return False
        written = self.recent.written
        try:
            texts, sent = await self.redis.run(join(batches.RECENT.read(), SENT.read()), "read", _READ_S)
        except RedisDown:
            return False
        self._written = written
        found = [batch for text in texts if (batch := batches.parse(text)) is not None]
        self._read = (now_ms, found, [alert for text in sent if (alert := _alert(text)) is not None])
        return True


def _notable(each: Notable) -> NotableBody:
    return {
        "at": each.at,
        "kind": each.kind,
        "route": each.route,
        "status": each.status,
        "reason": each.reason,
        "ms": each.ms,
        "request": each.request,
        "caller": each.caller,
        "provider": each.provider,
        "cache": each.cache,
        "attempts": each.attempts,
    }


def _circuits(together: Sequence[Batch]) -> list[MovedCircuitBody]:
    found: list[MovedCircuitBody] = []
    for each in batches.circuits(together):
        if (named := keys.circuit_named(each.name)) is not None:
            of, name = named
            found.append({"of": of, "name": name, "state": each.state, "reason": each.reason, "at": each.at})
    return found


def _alert(text: str) -> AlertBody | None:
    try:
        found = json.loads(text)
        return {"kind": str(found["kind"]), "about": str(found["about"]), "at": int(found["at"])}
    except (ValueError, KeyError, TypeError):
        return None
