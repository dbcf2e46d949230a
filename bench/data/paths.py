"""Commands and round trips of a read by the way it takes, over TCP and over REST, by the servers' own account."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.apps.monitoring import TIERS
from bench.calling import Connection, Got, flood
from bench.data.readers import (
    EACH_MINUTE,
    Readers,
    Transport,
    asked,
    breakwater,
    cashews,
    path_of,
    read,
    scheme,
)
from bench.processes import Child, StartError
from bench.rig import Rig, Say
from bench.subjects import BadReply
from lib.cache import epochs

EACH = 8
"""So many reads of each kind, and so many at once."""
TIGHT = 10
"""The limit of those who are refused."""
_WHICH, _OLD_MS = 7, 2_400_000
"""The query that is kept longest, and an age at which it is no longer fresh."""
_SETTLE_S = 0.15
"""Where nothing has come within that time, nothing comes any more."""
_LONGEST_S = 10.0
_items = (f"item{number}" for number in itertools.count())

type Check = Callable[[Got], bool]
type Costs = dict[str, dict[str, float]]


def _is_ok(got: Got) -> bool:
    return got.status == 200


def _refused(got: Got) -> bool:
    return got.status == 429


def _says(state: str) -> Check:
    return lambda got: got.status == 200 and got.header("x-cache") == state


def _from(tier: str) -> Check:
    """A hit: in this instance's memory, or in Redis."""
    return lambda got: _says("HIT")(got) and ("detail=memory" in got.header("cache-status")) == (tier == "memory")


def measure(rig: Rig, say: Say) -> dict[str, Costs]:
    """What each path costs, for everyone who has it."""
    found = dict[str, Costs]()
    transports: tuple[Transport, ...] = ("tcp", "rest")
    for transport in transports:
        say(f"data, counting for breakwater over {transport}")
        found[f"breakwater, {transport.upper()}"] = of_breakwater(rig, transport)
    with scheme(rig, 2) as readers:
        found[readers.name] = of_others(rig, readers, ", no limit")
    try:
        with cashews(rig, 2) as free, cashews(rig, 2, limit=EACH_MINUTE) as limited:
            say("data, counting for cashews")
            found["cashews"] = of_others(rig, free, ", no limit") | of_others(rig, limited, "")
    except StartError as error:
        say(f"cashews is left out: {error}")
    return found


def of_breakwater(rig: Rig, transport: Transport) -> Costs:
    """Every path. Raises BadReply where a read did not take the path that it was to take."""
    with (
        breakwater(rig, 2, transport=transport) as limited,
        breakwater(rig, 2, transport=transport, limit=None) as free,
        breakwater(rig, 2, transport=transport, limit=TIGHT) as tight,
    ):
        count = _Counter(rig, limited)
        return {
            **_refusals(_Counter(rig, tight)),
            **_held(count, ""),
            "memory, at once": count.at_once(),
            **_held(_Counter(rig, free), ", no limit"),
            "304": count.known(),
            "stale": count.stale(),
            "first": count.first(),
            "miss": count.missed(_says("MISS")),
            "miss, no limit": _Counter(rig, free).missed(_says("MISS")),
            "batch": count.batch(),
        }


def of_others(rig: Rig, readers: Readers, suffix: str) -> Costs:
    """What everyone has: a value that is in Redis, and one that is not."""
    count = _Counter(rig, readers)
    count.warm()
    items = count.filled()
    return {
        f"redis{suffix}": count.of(count.reader, [read(path_of(_WHICH, item)) for item in items]),
        f"miss{suffix}": count.missed(),
    }


def _held(count: _Counter, suffix: str) -> Costs:
    """A value that another instance has put into Redis, and then the same from memory."""
    count.warm()
    requests = [read(path_of(_WHICH, item)) for item in count.filled()]
    return {
        f"redis{suffix}": count.of(count.reader, requests, _from("redis")),
        f"memory{suffix}": count.of(count.reader, requests, _from("memory")),
    }


def _refusals(count: _Counter) -> Costs:
    """A caller's first call beyond its limit on an instance that has not seen the others, and one a moment later."""
    first, beyond = ([read(path_of(_WHICH, item), user) for user in range(1, EACH + 1)] for item in ("known", "new"))
    # The instance has seen each caller once: who is new costs more.
    _send(count.reader, first)
    _send(count.readers.children[0], first * (TIGHT - 1))
    return {
        "refused": count.of(count.reader, beyond, _refused),
        "blocked": count.of(count.reader, beyond, _refused),
    }


@dataclass
class _Counter:
    """Counts what reads of one application cost; it has an instance that fills, and one that is measured."""

    rig: Rig
    readers: Readers

    @property
    def reader(self) -> Child:
        """The instance that is measured."""
        return self.readers.children[-1]

    def warm(self) -> None:
        """Have both instances know user 0, and the value's route have its epochs."""
        for child in self.readers.children:
            _send(child, [read(path_of(_WHICH, "warm"))] * 3)

    def filled(self) -> list[str]:
        """Those whose values the other instance has put into Redis a moment ago."""
        items = _some()
        _send(self.readers.children[0], [read(path_of(_WHICH, item)) for item in items])
        return items

    def of(self, child: Child, requests: Sequence[bytes], good: Check = _is_ok) -> dict[str, float]:
        """One request after the other. Raises BadReply."""
        return self._counted(lambda: _send(child, requests, good), len(requests))

    def at_once(self) -> dict[str, float]:
        """Of one user, from memory, all at once. Raises BadReply."""
        item, *_ = self.filled()
        requests = [read(path_of(_WHICH, item))] * EACH
        _send(self.reader, requests)

        def send() -> None:
            _, replies = asyncio.run(flood(self.reader.port, requests, EACH))
            for got in replies:
                _expect(got, _from("memory"))

        return self._counted(send, EACH)

    def known(self) -> dict[str, float]:
        """The client has the value already. Raises BadReply."""
        items = _some()
        replies = _send(self.readers.children[0], [read(path_of(_WHICH, item)) for item in items])
        requests = [
            read(path_of(_WHICH, item), if_none_match=got.header("etag"))
            for item, got in zip(items, replies, strict=True)
        ]
        return self.of(self.reader, requests, lambda got: got.status == 304)

    def stale(self) -> dict[str, float]:
        """A value that is no longer fresh is served, and refreshed after the reply. Raises BadReply."""
        items = self.filled()
        time.sleep(_SETTLE_S)
        for item in items:
            key = f"cache:q{_WHICH}:{item}"
            head, _, body = str(self.rig.redis.get(key), "utf-8").partition("\n")  # type: ignore[arg-type]
            version, at_ms, *more = json.loads(head)
            self.rig.redis.set(key, f"{json.dumps([version, at_ms - _OLD_MS, *more])}\n{body}", keepttl=True)
        requests = [read(path_of(_WHICH, item)) for item in items]
        return self._counted(lambda: _send(self.reader, requests, _says("STALE")), EACH, refreshed=EACH)

    def first(self) -> dict[str, float]:
        """The first read under a key. Raises BadReply."""
        by_epoch = {epochs.tag_key(f"cache:q{_WHICH}:{item}"): item for item in _some()}
        self.rig.redis.delete(*by_epoch)
        items = by_epoch.values()
        return self.of(self.reader, [read(path_of(_WHICH, item)) for item in items], _says("MISS"))

    def missed(self, good: Check = _is_ok) -> dict[str, float]:
        """A value that was there, and is no longer. Raises BadReply."""
        items = self.filled()
        time.sleep(_SETTLE_S)
        for key in self.rig.redis.keys(f"*q{_WHICH}:item*"):
            self.rig.redis.delete(key)
        return self.of(self.reader, [read(path_of(_WHICH, item)) for item in items], good)

    def batch(self) -> dict[str, float]:
        """Eight resources of a page, all of them in Redis. Raises BadReply."""
        requests = []
        for item in _some():
            names = ",".join(f"q{number}:{item}" for number in range(len(TIERS)))
            requests.append(read(f"/api/data?resources={names}"))
        _send(self.readers.children[0], requests)
        return self.of(self.reader, requests)

    def _counted(self, send: Callable[[], object], times: int, refreshed: int = 0) -> dict[str, float]:
        """What so many reads cost, what is done after the reply included: that so many values are refreshed, too."""
        rig, before = self.rig, asked(self.rig)
        time.sleep(_SETTLE_S)
        rig.forget()
        send()
        deadline = time.monotonic() + _LONGEST_S
        while refreshed and asked(rig) < before + refreshed and time.monotonic() < deadline:
            time.sleep(_SETTLE_S)
        commands, looks = -1, 0
        while (now := rig.commands().total()) != commands:
            commands, looks = now, looks + 1
            time.sleep(_SETTLE_S)
        # Each look is a reply that Redis has written, and so is the last one.
        trips = rig.round_trips() if self.readers.transport == "rest" else rig.exchanges() - looks - 1
        return {"commands": commands / times, "round_trips": trips / times}


def _some() -> list[str]:
    return list(itertools.islice(_items, EACH))


def _send(child: Child, requests: Sequence[bytes], good: Check = _is_ok) -> list[Got]:
    connection = Connection(child.port)
    replies = [connection.send(request) for request in requests]
    connection.close()
    for got in replies:
        _expect(got, good)
    return replies


def _expect(got: Got, good: Check) -> None:
    if not good(got):
        raise BadReply(f"not the path that it was to take: {got.status} {dict(got.headers)} {got.body[:200]!r}")
