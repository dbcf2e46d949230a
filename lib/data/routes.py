"""A function as a guarded route: counted, and where it says so cached, before it is called."""

import hashlib
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.responses import Response, StreamingResponse

from ..base.caller import Caller
from ..base.values import dataclass
from ..cache import epochs
from ..cache.freshness import CacheRules, directives
from ..call import Answered, Call, Failed, Refused, Streaming
from ..edge import outcomes
from ..edge.app import ALL_METHODS, Endpoint, Instance, endpoint
from ..edge.errors import of_the_application, problem_json
from ..edge.limits import RouteLimit, subject_of
from ..edge.outcomes import Wording
from ..edge.paths import segments
from ..edge.request import Reply, Request
from ..limits.admission import Subject
from ..limits.window import Layout
from ..redis import keys
from .functions import Function, Raised, run
from .options import Scope
from .pages import Page, PageCodec, ends_older, headers_of, page_of

if TYPE_CHECKING:
    from ..parts import Parts

type RouteFunction = Callable[[Any], Awaitable[object] | object]

_CODEC = PageCodec()
_NOBODY = Subject("", Layout(()))
WORDING = Wording(
    "What this route reads from",
    {"timeout": ("backend_timeout", "The value was not ready in time. Try again.")},
    ("backend_failed", "The value could not be read. Try again."),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a cached route's function gets: everything that its value may depend on, and nothing else."""

    path: str
    segments: tuple[str, ...]
    """The path's segments, each decoded once."""
    query: QueryParams
    """In the order of their names."""
    headers: Mapping[str, str]
    """Those that ``vary`` names, in lower case; one that was not sent is empty."""
    caller: Caller | None
    """The caller, where the value is one caller's."""


@dataclass(frozen=True, slots=True, eq=False)
class GuardedFunction:
    """A route's function and what was said of it."""

    function: RouteFunction
    name: str
    limit: RouteLimit
    cache: CacheRules | None
    scope: Scope
    vary: Sequence[str]
    tags: Sequence[str]
    max_body_bytes: int

    @property
    def which(self) -> str:
        """What failed, where the function does."""
        return f"function of the route {self.name!r}"

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem, and FunctionFailed from whatever else the function raises."""
        if self.cache is None:
            return await self._call_anew(request, parts)
        subject = await self._subject(request, parts)
        outcome = await parts.guard.refusal(subject, request.deadline)
        if outcome is None:
            call, asked = self._call(request, subject, self.cache)
            source: Function[Page] = Function(self._compute(asked), parts.clock.left_s, _may_be_stored, _ends)
            outcome = await parts.guard.handle(call, source, _CODEC)
        common = outcomes.common(request, outcome)
        match outcome.result:
            case Failed(Raised() as raised, _):
                # Nothing is left but what can wait until the reply is out.
                request.later.append(outcome.after)
                with of_the_application(self.which):
                    raise raised.error
            case Refused() | Failed() as refused:
                raise outcomes.problem(request, outcome, refused, WORDING, common)
            case Answered() as answered:
                common |= outcomes.answered(request, outcome, answered, "")
                computed = answered.cache in ("miss", "bypass")
                return _reply(answered.value, common, outcome.after, cookies=computed)
            case Streaming():
                raise AssertionError("a function gives its value whole")

    async def _call_anew(self, request: Request, parts: "Parts") -> Reply:
        """Call the function for this request alone. It may stream, and leave something to be done after the reply."""
        started = parts.clock.monotonic()
        with of_the_application(self.which):
            found = await run(self.function, request.bounded(self.max_body_bytes))
        notes = request.notes
        notes.reason = "uncached"
        notes.spent = replace(notes.spent, backend=(parts.clock.monotonic() - started) * 1000)
        if isinstance(found, StreamingResponse):
            headers, cookies = headers_of(found)
            media = found.headers.get("content-type", "application/octet-stream")
            return Reply(found.status_code, _chunks(found), headers, media, found.background, cookies)
        after = None
        if isinstance(found, Response):
            after, found.background = found.background, None
        with of_the_application(self.which):
            return _reply(page_of(found), {}, after)

    async def _subject(self, request: Request, parts: "Parts") -> Subject:
        """The subject that the guard counts; none where the edge has counted, or where there is no limit."""
        policy = self.limit.policy(parts.settings, request.http.scope["path"])
        counts = self.limit.by_guard and bool(policy.layout.windows)
        caller = await request.identify(parts) if counts or self.scope == "caller" else None
        return subject_of(caller, policy) if caller is not None and counts else _NOBODY

    def _call(self, request: Request, subject: Subject, cache: CacheRules) -> tuple[Call, Asked]:
        scope = request.http.scope
        pairs = sorted(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True), key=lambda p: p[0])
        headers = {name: request.header(name) for name in self.vary}
        owner = request.notes.caller if self.scope == "caller" else None
        asked = Asked(scope["path"], segments(scope), QueryParams(pairs), headers, owner)
        call = Call(
            route=self.name,
            subject=subject,
            key=keys.value(self.name, _hash(asked, pairs)),
            epochs=epochs.of_tags(self.name, self.tags),
            request_id=request.id,
            deadline=request.deadline,
            directives=directives(request.header("cache-control")),
            cache=cache,
            while_here=request.while_here,
            after=request.after,
        )
        return call, asked

    def _compute(self, asked: Asked) -> Callable[[], Awaitable[Page]]:
        async def compute() -> Page:
            return page_of(await run(self.function, asked))

        return compute


def _may_be_stored(page: Page) -> bool:
    return page.may_be_stored


def _ends(page: Page) -> bool:
    return ends_older(page.status)


def _hash(asked: Asked, pairs: Sequence[tuple[str, str]]) -> str:
    owner = asked.caller.id if asked.caller is not None else ""
    exactly = [1, owner, asked.path, asked.segments, pairs, dict(asked.headers)]
    text = json.dumps(exactly, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _reply(
    page: Page, headers: Mapping[str, str], after: Callable[[], Awaitable[None]] | None, *, cookies: bool = True
) -> Reply:
    """``cookies``: whether they are this request's own."""
    return Reply(
        page.status, page.body, {**page.headers, **headers}, page.media, after, page.cookies if cookies else ()
    )


async def _chunks(response: StreamingResponse) -> AsyncGenerator[bytes]:
    chunks: Any = response.body_iterator
    try:
        async for chunk in chunks:
            yield chunk.encode(response.charset) if isinstance(chunk, str) else bytes(chunk)
    finally:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()


def route(
    instance: Instance,
    function: RouteFunction,
    *,
    limit: RouteLimit,
    cache: CacheRules | None,
    scope: Scope,
    vary: Sequence[str],
    tags: Sequence[str],
    methods: Sequence[str],
    max_body_bytes: int,
    name: str,
) -> Endpoint:
    """The ASGI application of a function. Raises ValueError for what cannot be."""
    allowed = {each.upper() for each in methods}
    if not allowed or allowed - {*ALL_METHODS, "HEAD"}:
        raise ValueError(f"methods: one or several of {', '.join(ALL_METHODS)}; OPTIONS is answered for the route")
    if scope not in ("caller", "shared"):
        raise ValueError("scope: 'caller', or 'shared' for a value that all who may call the route get")
    if cache is not None:
        if allowed != {"GET"}:
            raise ValueError("cache: only what is read with GET can be cached")
        if not limit.dry_run:
            # Counted in the round trip that reads the cache.
            limit = replace(limit, by_guard=True)
    varied = tuple(each.lower() for each in vary)
    handler = GuardedFunction(function, name, limit, cache, scope, varied, tuple(tags), max_body_bytes)
    return endpoint(instance, problem_json, limit=limit, **{method.lower(): handler for method in methods})


def name_of(function: RouteFunction) -> str:
    """A name for a route: where its file lies below ``api/``, else its module and its own name."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    parts = PurePath(code.co_filename).with_suffix("").parts if code is not None else ()
    if "api" in parts[:-1]:
        below = parts[len(parts) - parts[-2::-1].index("api") - 1 :]
        return "/".join(below)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
