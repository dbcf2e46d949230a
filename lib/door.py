"""The door: what other people's code uses. One :class:`Breakwater` guards routes, calls, values and circuits.

There is nothing to call afterwards. Inside a route or behind the middleware, what follows a guarded call is sent with
the request's own work after its reply; elsewhere (a script, a job) it is sent before the call returns.
"""

import hashlib
import operator
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Unpack, overload

from .app.instance import Instance as ProcessInstance
from .app.work import working
from .base import caller as callers
from .base.events import WouldRefuse
from .base.values import dataclass
from .cache import epochs
from .cache.freshness import CacheRules
from .call import Answered, Call, Failed
from .data.circuits import CircuitOpen, guarded
from .data.functions import Function, Raised, run
from .data.options import MAX_BODY_BYTES, RouteOptions, Scope, check, names, rules
from .data.pages import Held, HeldCodec
from .data.routes import WORDING, Asked, RouteFunction, name_of, route
from .edge import headers
from .edge.app import Endpoint, Instance
from .edge.limits import RouteLimit, route_limit
from .edge.problems import Problem
from .limits.admission import Subject
from .limits.grammar import parse_limits
from .limits.window import Layout
from .redis import keys

if TYPE_CHECKING:
    from .data.resource import Resource
    from .data.table import DataRoutes
    from .parts import Parts

__all__ = ["Asked", "Breakwater", "CircuitOpen", "Verdict"]

_CODEC = HeldCodec()
BY_PATH = "by path"
"""What `bw.resources` takes for its limit where nobody says one."""


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
    _counted: dict[str, tuple[RouteLimit, set[str]]] = field(default_factory=dict, init=False, repr=False)
    """The tables of data routes that have a limit: it and their paths, by the limit's name."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Breakwater":
        """For the variables of an environment, which are read with the first call. No AI provider is needed."""
        return cls(ProcessInstance(environ))

    async def parts(self) -> "Parts":
        """What everything is made of, for code that goes deeper. Raises BadSettings, which names what to set."""
        return await self.instance()

    async def aclose(self) -> None:
        """Flush what was counted and close all connections, at the end of a script; ``async with`` does so, too."""
        await self.instance.aclose()

    async def __aenter__(self) -> "Breakwater":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

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
        check(options)
        if function is None:
            return lambda decorated: self.route(decorated, **options)
        name, cache = options.get("name") or name_of(function), options.get("cache")
        limit = route_limit(options["limit"], name) if "limit" in options else RouteLimit(name=name)
        return route(
            self.instance,
            function,
            limit=replace(limit, dry_run=options.get("dry_run", False)),
            cache=cache if isinstance(cache, CacheRules) else rules(cache, options.get("stale", 0)),
            scope=options.get("scope", "caller"),
            vary=names(options.get("vary", ())),
            tags=names(options.get("tags", ())),
            methods=names(options.get("methods", "GET")),
            max_body_bytes=options.get("max_body_bytes", MAX_BODY_BYTES),
            name=name,
        )

    def resources(
        self, table: Mapping[str, "Resource"], *, limit: str | None = BY_PATH, name: str = "resources"
    ) -> "DataRoutes":
        """Data routes, as an ASGI application: a resource for each path, ``{"/api/menus/{id}": MENU}``.

        ``limit`` counts a caller's reads of all of them under ``name``, which no other table has; None: no limit; else
        the table of limits by path holds. Raises ValueError.
        """
        from .data.table import data_routes

        counted = RouteLimit(name=name) if limit == BY_PATH else route_limit(limit, name)
        own = counted, set(table)
        if limit not in (None, BY_PATH) and self._counted.setdefault(name, own) != own:
            raise ValueError(f"name: another table counts under {name!r}; give this one a name of its own")
        return data_routes(self.instance, table, limit=counted)

    async def limit(self, who: str, limits: str, *, cost: int = 1, dry_run: bool = False) -> Verdict:
        """Count a call of ``who`` against ``limits`` (``"10/minute,100/day"``). Raises ValueError, TypeError.

        ``who`` names what is counted, with its purpose: ``"login:42"``. A call is admitted only if all of its ``cost``
        is, a whole number. With ``dry_run`` every call is allowed; what would have been refused is logged and counted.
        """
        layout, cost = parse_limits(limits), int(operator.index(cost))
        if cost < 0:
            raise ValueError(f"a call costs 0 or more, not {cost}")
        parts = await self.instance()
        caller = callers.identify("key", who, parts.settings.identity_key)
        subject = Subject(callers.subject(caller, "limit", layout.tag), layout, "limit", caller.id)
        async with working(parts) as work:
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

    @overload
    async def cached[T](
        self,
        key: str,
        fill: Callable[[], Awaitable[T]],
        *,
        fresh: float,
        stale: float = 0,
        scope: Scope = "shared",
        tags: str | Sequence[str] = (),
    ) -> T: ...
    @overload
    async def cached[T](
        self,
        key: str,
        fill: Callable[[], T],
        *,
        fresh: float,
        stale: float = 0,
        scope: Scope = "shared",
        tags: str | Sequence[str] = (),
    ) -> T: ...
    async def cached(
        self,
        key: str,
        fill: Callable[[], Any],
        *,
        fresh: float,
        stale: float = 0,
        scope: Scope = "shared",
        tags: str | Sequence[str] = (),
    ) -> Any:
        """A value from the cache, or from ``fill``, which is called once for all who want it at the same time.

        ``key`` names everything that the value depends on. The value is whatever JSON can hold; what JSON does not
        know, such as a dataclass or a tuple, comes back as JSON has it, the first time, too. It is fresh for ``fresh``
        seconds, and served for ``stale`` more while it is computed anew or when that fails. ``scope="caller"``: one
        value for each caller, inside a route. Raises what ``fill`` raised, and Problem where that took too long.
        """
        cache = rules(fresh, stale)
        parts = await self.instance()
        async with working(parts) as work:
            owner = ""
            if scope == "caller":
                if work.request is None:
                    raise ValueError("scope: 'caller' needs a request; call it inside a route or behind the middleware")
                owner = (await work.request.identify(parts)).id
            hashed = hashlib.sha256(f"{owner}\0{key}".encode(errors="surrogatepass")).hexdigest()[:32]
            call = Call(
                route="cached",
                subject=Subject("", Layout(())),
                key=keys.value("cached", hashed),
                epochs=epochs.of_tags("cached", names(tags)),
                request_id=work.request_id,
                deadline=work.deadline,
                cache=cache,
                after=work.after,
            )
            outcome = await parts.guard.handle(call, Function(_held(fill), parts.clock.left_s), _CODEC)
            work.later.append(outcome.after)
        match outcome.result:
            case Answered(Held(value)):
                return value
            case Failed(Raised() as raised, _):
                raise raised.error
            case Failed(failure, _):
                code, detail = WORDING.failure(failure)
                raise Problem(code, detail) from failure
        raise AssertionError("a value without a limit is not refused")

    @asynccontextmanager
    async def circuit(
        self, name: str, caller: str | None = None, check: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[None]:
        """Run a block unless its circuit is open, anywhere. An Exception that leaves it is a failure.

        After ``BREAKER_FAILURES`` failures in a row ``check`` decides, a trivial call that raises if all is down.
        Without it they open the circuit, or those of five callers where ``caller`` says whose call it is. Raises
        CircuitOpen.
        """
        parts = await self.instance()
        async with working(parts) as work, guarded(parts, name, caller, check, work.deadline, work.after):
            yield

    async def invalidate(self, *tags: str) -> None:
        """Let no value with one of these tags be served again: 1 command a tag, in one round trip.

        Raises Problem (``store_unavailable``) where Redis cannot be reached, and older values may still be served.
        """
        from .data.invalidation import invalidate_tags

        await invalidate_tags(await self.instance(), tags)

    async def write[T](self, resource: "Resource", values: Mapping[str, str], commit: Callable[[], Awaitable[T]]) -> T:
        """Carry out a write of a resource, then let its value be served at once, and no older one.

        ``commit`` is through with the write when it returns, and returns what the origin would give now. Raises what it
        raises, Problem (``store_unavailable``) where the write stands and older values may still be served, and
        ValueError for a resource of which each caller has a value of its own.
        """
        from .data.writing import write

        return await write(await self.instance(), resource, values, commit)


def _held(fill: Callable[[], Any]) -> Callable[[], Awaitable[Held]]:
    async def compute() -> Held:
        return Held.of(await run(fill))

    return compute
