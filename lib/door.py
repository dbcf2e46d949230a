"""The door: what other people's code uses. One :class:`Breakwater` guards routes, calls, values and circuits.

Nothing has to be settled by hand. Inside a route or behind the middleware, what follows a guarded call is sent with the
request's own work after its reply; elsewhere (a script, a job) it is sent before the call returns.
"""

import hashlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast, overload

from .afterwards import Afterwards
from .app.instance import Instance
from .base import caller as callers
from .base.caller import Caller
from .base.events import WouldRefuse
from .base.values import dataclass
from .breaker.breaker import Breaker
from .breaker.checks import calling
from .cache import epochs
from .cache.freshness import CacheRules
from .call import Answered, Call, Failed
from .data.circuits import CircuitOpen, guarded
from .data.functions import Function, Raised
from .data.pages import Held, HeldCodec
from .data.routes import Asked, RouteFunction, Scope, name_of, route
from .edge import headers
from .edge.app import Endpoint
from .edge.current import current
from .edge.limits import RouteLimit, route_limit
from .limits.admission import Subject
from .limits.grammar import parse_limits
from .limits.window import Layout
from .redis import keys

if TYPE_CHECKING:
    from .app.wiring import Parts

__all__ = ["Asked", "Breakwater", "CircuitOpen", "Verdict"]

_PATIENCE_S = 30.0
"""How long a guarded call outside of a request may take, beside what it computes."""
_CODEC = HeldCodec()
_parse = lru_cache(maxsize=256)(parse_limits)


class RouteOptions(TypedDict, total=False):
    """What a route may say of itself."""

    limit: str | None
    """``"30/minute,500/day"``; None: no limit. Without it, the table of limits by path holds."""
    cache: float | CacheRules | None
    """Seconds for which a value is fresh. Without it, the function is called for each request."""
    stale: float
    """Seconds for which an older value is served as well, while it is computed anew or when that fails."""
    scope: Scope
    """``caller`` (as it is without it): each caller has values of its own; ``shared``: all have the same."""
    vary: Sequence[str]
    """Request headers that the value depends on."""
    tags: Sequence[str]
    """Names by which values can be invalidated."""
    methods: Sequence[str]
    """``("GET",)`` unless it says otherwise; what is cached is read with GET."""
    name: str
    """Names the route in keys and in its limit's variable; else its file's place below ``api/`` does."""
    dry_run: bool
    """Nothing is refused: what would have been is logged and counted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may take place."""

    allowed: bool
    remaining: int
    """Calls left in the window that will refuse first; 0 where there is no limit."""
    retry_after_s: int | None
    """Whole seconds until the same call passes, if nobody else calls; None: it was allowed, or it never will be."""
    reason: str
    """``admitted``, ``unlimited``, ``blocked``, ``cost_exceeds_limit``, or the window that refuses longest."""
    mode: str
    """Who counted: ``redis``, ``supabase``, ``local``, or ``off``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """``X-RateLimit-*``, ``RateLimit``, ``RateLimit-Policy``, and ``Retry-After`` where there is a time to wait for."""


@dataclass(frozen=True, slots=True, eq=False)
class Breakwater:
    """Guards whatever costs something, with the stores and settings of one environment."""

    instance: Instance

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Breakwater":
        """For the variables of an environment, which are read with the first call. No AI provider is needed."""
        return cls(Instance(environ))

    async def parts(self) -> "Parts":
        """What everything is made of, for code that goes deeper. Raises BadSettings, which names what to set."""
        return await self.instance()

    async def aclose(self) -> None:
        """Flush what was counted and close all connections: at the end of a script."""
        parts = await self.instance()
        await parts.ledger.close()
        await parts.aclose()

    @overload
    def route(self, function: RouteFunction, /, **options: Unpack[RouteOptions]) -> Endpoint: ...
    @overload
    def route(self, /, **options: Unpack[RouteOptions]) -> Callable[[RouteFunction], Endpoint]: ...
    def route(
        self, function: RouteFunction | None = None, /, **options: Unpack[RouteOptions]
    ) -> Endpoint | Callable[[RouteFunction], Endpoint]:
        """A guarded route, as an ASGI application: ``app = bw.route(hello, limit="30/minute", cache=30)``.

        The function gets the request; with ``cache``, an :class:`Asked`. It returns what JSON can hold, bytes, or a
        Response. The options are in :class:`RouteOptions`. Raises ValueError for what cannot be.
        """
        if function is None:
            return lambda decorated: self.route(decorated, **options)
        name = options.get("name") or name_of(function)
        dry_run, cache = options.get("dry_run", False), options.get("cache")
        limit = RouteLimit(dry_run=dry_run)
        if "limit" in options:
            limit = route_limit(options["limit"], name, dry_run=dry_run)
        return route(
            self.instance,
            function,
            limit=limit,
            cache=cache if isinstance(cache, CacheRules) else _rules(cache, options.get("stale", 0)),
            scope=options.get("scope", "caller"),
            vary=options.get("vary", ()),
            tags=options.get("tags", ()),
            methods=options.get("methods", ("GET",)),
            name=name,
        )

    async def limit(self, who: str, limits: str, *, cost: int = 1, dry_run: bool = False) -> Verdict:
        """Count a call of ``who`` against ``limits`` (``"10/minute,100/day"``). Raises ValueError for what is no limit.

        With ``dry_run`` every call is allowed; what would have been refused is logged and counted.
        """
        layout = _parse(limits)
        if cost < 0:
            raise ValueError(f"a call costs 0 or more, not {cost}")
        parts = await self.instance()
        caller = callers.identify("key", who, parts.settings.identity_key)
        subject = Subject(callers.subject(caller, "limit", layout.tag), layout, "limit", caller.id)
        async with self._work(parts) as work:
            counted = await parts.guard.count(subject, cost, work.deadline, work.after)
        quota, now_ms = counted.quota, counted.now_ms
        if not quota.allowed and dry_run:
            parts.emit(WouldRefuse("limit", counted.reason, caller.id))
        found = dict(headers.rate_limit(quota, now_ms))
        retry_after_s = None
        if not quota.allowed and quota.retry_at_ms is not None:
            retry_after_s = headers.seconds_until(quota.retry_at_ms, now_ms)
            found["retry-after"] = str(retry_after_s)
        remaining = quota.tightest.remaining if quota.tightest else 0
        return Verdict(quota.allowed or dry_run, remaining, retry_after_s, counted.reason, counted.mode, found)

    async def cached[T](
        self,
        key: str,
        fill: Callable[[], Awaitable[T] | T],
        *,
        fresh: float,
        stale: float = 0,
        scope: Scope = "shared",
        tags: Sequence[str] = (),
    ) -> T:
        """A value from the cache, or from ``fill``, which is called once for all who want it at the same time.

        ``key`` names everything that the value depends on; the value is whatever JSON can hold. It is fresh for
        ``fresh`` seconds, and served for ``stale`` more while it is computed anew or when that fails.
        ``scope="caller"``: one value for each caller, inside a route. Raises what ``fill`` raised.
        """
        parts = await self.instance()
        async with self._work(parts) as work:
            owner = ""
            if scope == "caller":
                if work.caller is None:
                    raise ValueError("scope: 'caller' needs a request whose caller is known; call it inside a route")
                owner = work.caller.id
            hashed = hashlib.sha256(f"{owner}\0{key}".encode(errors="surrogatepass")).hexdigest()[:32]
            call = Call(
                route="cached",
                subject=Subject("", Layout(())),
                key=keys.value("cached", hashed),
                epochs=epochs.of_tags("cached", tags),
                request_id=work.request_id,
                deadline=work.deadline,
                cache=_rules(fresh, stale),
                after=work.after,
            )
            outcome = await parts.guard.handle(call, Function(_held(fill), parts.guard.limits.left_s), _CODEC)
            await outcome.after()
        match outcome.result:
            case Answered(Held(value)):
                return cast("T", value)
            case Failed(Raised() as raised, _):
                raise raised.error
            case Failed(failure, _):
                raise failure
        raise AssertionError("a value without a limit is not refused")

    @asynccontextmanager
    async def circuit(
        self, name: str, caller: str | None = None, check: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Run a block unless its circuit is open, anywhere. An Exception that leaves it is a failure.

        ``check`` is a trivial call of the same thing, which raises if that is down: after ``BREAKER_FAILURES`` failures
        in a row it decides. Without it the circuit opens for failures of five callers, where ``caller`` names whose
        call it is; without a caller for ``BREAKER_FAILURES`` failures in a row. A caller whose own calls keep failing
        is passed over for a while. Raises CircuitOpen.
        """
        parts = await self.instance()
        key = keys.circuit_of_app(name)
        breaker = parts.breakers.get(key) or Breaker(parts.circuits, parts.settings.breaker)
        breaker.check = None if check is None else calling(check)
        parts.breakers.put(key, breaker)
        owner = callers.identify("key", caller, parts.settings.identity_key).id if caller else ""
        async with self._work(parts) as work:
            left_s = parts.guard.limits.left_s(work.deadline)
            async with guarded(breaker, key, name, owner, left_s, work.after):
                yield

    async def invalidate(self, *tags: str) -> None:
        """Let no value with one of these tags be served again. Raises RedisDown where Redis cannot be reached."""
        parts = await self.instance()
        redis = parts.guard.limits.redis
        if redis is not None:
            for tag in tags:
                await redis.run(epochs.replace(epochs.tag_key(tag)), "admin", _PATIENCE_S)

    @asynccontextmanager
    async def _work(self, parts: "Parts") -> AsyncIterator["_Work"]:
        """What a guarded call takes from its request; outside of one, what follows is sent at the end of the block."""
        request = current()
        if request is not None:
            yield _Work(request.id, request.deadline, request.after, request.notes.caller)
            return
        deadline = parts.clock.monotonic() + parts.settings.max_duration_ms / 1000
        work = _Work(os.urandom(16).hex(), deadline, Afterwards(), None)
        try:
            yield work
        finally:
            await parts.guard.outbox.try_send(work.after, _PATIENCE_S)
            await parts.settle()


@dataclass(frozen=True, slots=True)
class _Work:
    request_id: str
    deadline: float
    after: Afterwards
    caller: Caller | None


def _rules(fresh: float | None, stale: float) -> CacheRules | None:
    if fresh is None:
        return None
    if fresh <= 0 or stale < 0:
        raise ValueError("a value is fresh for more than 0 seconds, and stale for 0 or more")
    stale_ms = round(stale * 1000)
    return CacheRules(max(1, round(fresh * 1000)), stale_ms, stale_ms)


def _held[T](fill: Callable[[], Awaitable[T] | T]) -> Callable[[], Awaitable[Held] | Held]:
    function: Any = fill
    if inspect.iscoroutinefunction(function):

        async def compute() -> Held:
            return Held(await function())

        return compute
    return lambda: Held(function())
