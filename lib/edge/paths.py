"""The path as the client sent it, and one function for several paths.

Rewrites in ``vercel.json`` can lead several paths to one file of ``api/``; the scope still has the path that the client
sent. Its ``path`` is decoded, so that an encoded slash divides a segment in two, and the query is no place for an id
either: a client's own parameter wins over the one that a rewrite adds. Both the choice of a handler and the ids in a
path therefore come from ``raw_path``, by `segments`.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from .app import Handler, PartsOf, endpoint, problem_json


def segments(scope: Scope) -> tuple[str, ...]:
    """The segments of a request's path, each percent-decoded once: ``/a/b%2Fc`` is ``("a", "b/c")``.

    Nothing is dropped: a trailing or a doubled slash gives an empty segment. Bytes that are not UTF-8 become U+FFFD.
    Any other character can be in a segment, NUL and "/" included: whoever takes an id from it has to validate it.
    """
    # ASGI lets a server leave raw_path out; the decoded path is then all there is.
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return tuple(unquote_to_bytes(each).decode(errors="replace") for each in raw.removeprefix(b"/").split(b"/"))


def paths(parts_of: PartsOf, routes: Mapping[str, Mapping[str, Handler]]) -> ASGIApp:
    """The ASGI application of several paths, each with its handlers: ``{"/api/admin": {"post": admin}}``.

    Every other path, the function's own included, is answered by ``not_found``.
    """
    apps = {segments({"path": path}): endpoint(parts_of, problem_json, **methods) for path, methods in routes.items()}
    nothing = endpoint(parts_of)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Start and stop have no path, and mean the same to every endpoint.
        chosen = nothing if scope["type"] == "lifespan" else apps.get(segments(scope), nothing)
        await chosen(scope, receive, send)

    return app
