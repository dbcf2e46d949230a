"""The watched databases of an instance, and what it remembers of each between two questions."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..base.connections import Connection
from ..base.events import CatalogueChanged, OriginFailure
from ..base.values import dataclass
from ..data.invalidation import invalidate_tags
from ..data.origins.port import OriginFailed
from ..edge.problems import Problem
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, Reply, as_text, ignored
from . import noticing, trend
from .readers import reader_of
from .readers.port import Reader, Row
from .shapes import Texts

if TYPE_CHECKING:
    from ..parts import Parts

METADATA = ("schemas", "tables", "columns")
_LOOK_MS, _LOOK_S, _REDIS_S = 60_000, 1.0, 0.5
_SAMPLES_LAST_MS = trend.SLOT_MS * trend.SLOTS
_GATHER_S = 0.02
"""How long texts that are asked for one by one are collected, to be read in one query."""


@dataclass(slots=True, eq=False)
class Watched:
    """One database as this instance knows it."""

    connection: Connection
    reader: Reader
    texts: Texts
    variant: str
    looked_ms: int = 0
    """When this instance last thought of its catalogue."""
    catalogue: str = ""
    sampled: int = -1
    """The last slot with a sample of ours."""
    numbers: noticing.Numbers = field(default_factory=dict)
    _wanted: dict[str, asyncio.Future[str | None]] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def rows(self, statement: str, values: Mapping[str, str], left_s: float) -> Sequence[Row]:
        """Ask it. Raises OriginFailed."""
        return await self.reader.rows(statement, values, left_s)

    async def text(self, name: str, left_s: float) -> str | None:
        """The text of a statement by its id; texts that are asked for at once are read in one query.

        Each query reads all texts of the server, however many are wanted. Raises OriginFailed.
        """
        found = self._wanted.get(name)
        if found is None:
            leads = not self._wanted
            found = self._wanted[name] = asyncio.get_running_loop().create_future()
            if leads:
                # A task of its own: whoever was the first to ask may leave, and the others still get theirs.
                reading = asyncio.ensure_future(self._read_texts(self._wanted, left_s))
                self._tasks.add(reading)
                reading.add_done_callback(self._tasks.discard)
        return await asyncio.shield(found)

    async def _read_texts(self, wanted: "dict[str, asyncio.Future[str | None]]", left_s: float) -> None:
        """Read all that is wanted. What is wanted while a query runs is read by the next one. Raises nothing."""
        try:
            await asyncio.sleep(_GATHER_S)
            async with self._reading:
                self._wanted = {}
                rows = await self.reader.rows("texts", {"ids": ",".join(wanted)}, left_s)
        except BaseException as e:
            if self._wanted is wanted:
                self._wanted = {}
            error = e if isinstance(e, OriginFailed) else OriginFailed("raised", type(e).__name__, "ours")
            for future in wanted.values():
                future.set_exception(error)
                # Perhaps nobody waits for it.
                future.exception()
            if not isinstance(e, Exception):
                raise
            return
        texts = {str(row["id"]): row["query"] for row in rows}
        for name, future in wanted.items():
            future.set_result(texts.get(name))

    async def learn(self, parts: "Parts", statement: str, rows: Sequence[Row]) -> None:
        """What follows from an answer: alerts, a sample, a look at the catalogue. Raises nothing."""
        now_ms, name = parts.clock.now_ms(), self.connection.id
        noticed = []
        match statement:
            case "locks":
                noticed = noticing.of_locks(name, rows)
            case "realtime" | "dashboard" if rows:
                noticed = noticing.of_sessions(name, rows)
            case "top":
                numbers = noticing.numbers_of(rows)
                noticed = noticing.of_statements(name, self.numbers, numbers)
                self.numbers = noticing.together(self.numbers, numbers)
        for each in noticed:
            parts.emit(each)
        if statement == "dashboard" and rows and self.sampled != now_ms // trend.SLOT_MS:
            self.sampled = now_ms // trend.SLOT_MS
            await self._keep(parts, trend.sample_of(rows[0], now_ms))
        if now_ms - self.looked_ms >= _LOOK_MS:
            self.looked_ms = now_ms
            await self._look(parts)

    async def _keep(self, parts: "Parts", sample: trend.Sample) -> None:
        key = keys.samples(self.connection.id, self.connection.server)
        write = ("HSET", key, str(trend.place(sample.at_ms)), trend.dump(sample))
        await _on_redis(parts, Op((write, ("PEXPIRE", key, _SAMPLES_LAST_MS)), ignored))

    async def _look(self, parts: "Parts") -> None:
        """Whether tables were changed since somebody last looked: then what is kept of them is invalidated."""
        name = self.connection.id
        claim = ("SET", keys.looked(name, self.variant), "1", "NX", "PX", _LOOK_MS)
        if await _on_redis(parts, Op((claim,), lambda replies: as_text(replies[0]) == "OK")) is False:
            return
        try:
            async with asyncio.timeout(_LOOK_S):
                found = str((await self.reader.rows("catalogue", {}, _LOOK_S))[0]["hash"])
        except (OriginFailed, TimeoutError, LookupError) as e:
            # Somebody looks again within a minute.
            parts.emit(OriginFailure(self.connection.circuit, f"catalogue: {e}"[:200], "theirs"))
            return
        key = keys.catalogue(name, self.variant)
        before = await _on_redis(parts, Op((("GET", key),), lambda replies: as_text(replies[0])))
        before, self.catalogue = before or self.catalogue, found
        if before and before != found:
            parts.emit(CatalogueChanged(name))
            try:
                await invalidate_tags(parts, [f"tms:{name}:{each}" for each in METADATA])
            except Problem:
                # Not written down: whoever looks next invalidates.
                return
        if before != found:
            await _on_redis(parts, Op((("SET", key, found),), ignored))


async def _on_redis[T](parts: "Parts", op: Op[T]) -> T | None:
    redis = parts.guard.limits.redis
    if redis is None or parts.guard.limits.is_out():
        return None
    try:
        return await redis.run(op, "read", _REDIS_S)
    except RedisDown:
        return None


async def samples(parts: "Parts", connection: Connection, period: str) -> list[trend.Sample]:
    """What is kept of a period, the oldest first. Raises OriginFailed where Redis gives no reply."""
    redis, now_ms = parts.guard.limits.redis, parts.clock.now_ms()
    if redis is None:
        return []
    key, fields = keys.samples(connection.id, connection.server), trend.places(now_ms, period)

    def read(replies: Sequence[Reply]) -> list[trend.Sample]:
        texts: Any = replies[0] if isinstance(replies[0], list) else []
        found = (trend.load(text, now_ms, period) for text in texts)
        return sorted(filter(None, found), key=lambda each: each.at_ms)

    try:
        return await redis.run(Op((("HMGET", key, *fields),), read), "read", _REDIS_S)
    except RedisDown as e:
        raise OriginFailed("connection", f"Redis: {e.kind}") from e


@dataclass(slots=True, eq=False)
class Databases:
    """All of them, by id, each made when it is first asked."""

    connections: Mapping[str, Connection]
    shows_literals: bool
    make: Callable[[Connection], Reader]
    """Makes the reader of a connection."""
    watched: dict[str, Watched] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: "Parts") -> "Databases":
        """Those that ``DB_CONNECTIONS`` names."""
        return parts.keep(cls, _as_configured)

    def get(self, name: str) -> Watched:
        """One of them. Raises Problem (``not_found``)."""
        connection = self.connections.get(name)
        if connection is None:
            raise Problem("not_found", "There is no such connection: GET /api/connections lists them.")
        found = self.watched.get(name)
        if found is None:
            texts = Texts("oracle" if connection.kind == "oracle" else "postgres", self.shows_literals)
            variant = connection.variant(shows_literals=self.shows_literals)
            found = self.watched[name] = Watched(connection, self.make(connection), texts, variant)
        return found

    async def aclose(self) -> None:
        """Give all connections back."""
        for each in self.watched.values():
            await each.reader.aclose()


def _as_configured(parts: "Parts") -> Databases:
    settings = parts.settings
    make = reader_of(parts.client.get, settings.supabase_key, parts.ledger.called)
    return Databases({each.id: each for each in settings.connections}, settings.db_show_literals, make)
