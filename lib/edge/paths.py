"""The path as the client sent it, and one function for several paths.

Rewrites in ``vercel.json`` can lead several paths to one file of ``api/``; the scope still has the path that the client
sent. Its ``path`` is decoded, so that an encoded slash divides a segment in two, and the query is no place for an id
either: a client's own parameter wins over the one that a rewrite adds. Both the choice of a handler and the ids in a
path therefore come from ``raw_path``, by `segments`.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from ..base.values import dataclass
from .app import Handler, Instance, endpoint
from .errors import problem_json
from .limits import BY_TABLE, UNLIMITED, RouteLimit


def segments(scope: Scope) -> tuple[str, ...]:
    """The segments of a request's path, each percent-decoded once: ``/a/b%2Fc`` is ``("a", "b/c")``.

    Nothing is dropped: a trailing or a doubled slash gives an empty segment. Bytes that are not UTF-8 become U+FFFD.
    Any other character can be in a segment, NUL and "/" included: whoever takes an id from it has to validate it.
    """
    # ASGI lets a server leave raw_path out; the decoded path is then all there is.
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return tuple(unquote_to_bytes(each).decode(errors="replace") for each in raw.removeprefix(b"/").split(b"/"))


def asked(query: QueryParams, path: Mapping[str, str]) -> list[tuple[str, str]]:
    """The parameters that a client sent, without those that a rewrite adds: each part of the path once, by its name."""
    added = dict(path)
    return [(name, value) for name, value in query.multi_items() if added.pop(name, None) != value]


@dataclass(frozen=True, slots=True)
class Paths:
    """The ASGI application of several paths. Any other path, its file's own too, is answered by ``not_found``."""

    instance: Instance
    routes: Mapping[str, Mapping[str, Handler]]
    """Handlers by path, then by method in lower case: ``{"/api/admin": {"post": admin}}``."""
    limit: RouteLimit = BY_TABLE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the start and end of a process have no path, and mean the same to every endpoint."""
        wanted = segments(scope) if scope["type"] != "lifespan" else ()
        for path, methods in self.routes.items():
            if segments({"path": path}) == wanted:
                await endpoint(self.instance, problem_json, limit=self.limit, **methods)(scope, receive, send)
                return
        await endpoint(self.instance, limit=UNLIMITED)(scope, receive, send)


def paths(instance: Instance, routes: Mapping[str, Mapping[str, Handler]], *, limit: RouteLimit = BY_TABLE) -> Paths:
    """The ASGI application of several paths."""
    return Paths(instance, routes, limit)
