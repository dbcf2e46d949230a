"""Serves the project as Vercel would: `api/` as functions, `public/` as files, by the rules of `vercel.json`.

The order is Vercel's own: the trailing slash, then what exists under exactly that path (a function or a file), then
rewrites in their order, then functions with a `[segment]`, then 404. Where a rewrite leads to nothing that exists, the
rewritten path goes on to the rules that follow. The function always sees the path that the client sent.
"""

import ast
import logging
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from dev.functions import Function, plain_error
from dev.vercel_json import Config

log = logging.getLogger("dev.routes")


def discover(root: Path) -> dict[str, Path]:
    """Map each route of `root/api` to its file, as `/api/servers/[id]` to `api/servers/[id].py`.

    A file without an `app` that Vercel's static reader would see is no route there and says so nowhere; here it is
    left out with a warning.
    """
    routes: dict[str, Path] = {}
    for path in sorted((root / "api").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part.startswith(("_", ".")) for part in parts):
            continue
        if not _shows_app(path):
            log.warning("%s has no app that Vercel can see at its top level: it is not a route", path.relative_to(root))
            continue
        routes["/" + "/".join(parts[:-1] if parts[-1] == "index" else parts)] = path
    return routes


def served(root: Path) -> set[str]:
    """The paths of the API: those that rewrites lead to a function, and of every other function its own.

    A function that rewrites lead to is reachable at its own path too, but that is nobody's address; neither is what
    a rewrite catches with any number of segments. A segment with a name is in brackets: ``/api/servers/[id]``.
    """
    rewrites = Config.read(root / "vercel.json").rewrites
    own = set(discover(root)) - {each.destination for each in rewrites}
    sources = {each.source for each in rewrites if not each.source.endswith("*")}
    return own | {re.sub(r":(\w+)[+?]?", r"[\1]", source) for source in sources}


def _shows_app(path: Path) -> bool:
    """Whether `app` is bound by a plain statement at the top level: only then does Vercel make it a function."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError:
        return True  # the first request reports it, with a traceback
    return any("app" in _bound(statement) for statement in tree.body)


def _bound(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return [name]
        case ast.ImportFrom(names=names) | ast.Import(names=names):
            return [alias.asname or alias.name for alias in names]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case _:
            return []


class Site:
    """The whole deployment as one ASGI app."""

    def __init__(self, root: Path) -> None:
        self._config = Config.read(root / "vercel.json")
        self._public = root / self._config.public
        self._files = StaticFiles(directory=self._public, check_dir=False)
        self._fixed: dict[tuple[str, ...], Function] = {}
        self._dynamic: list[tuple[tuple[str, ...], Function]] = []
        for route, path in discover(root).items():
            segments = _segments(route)
            if any(map(_parameter, segments)):
                self._dynamic.append((segments, Function(path, root)))
            else:
                self._fixed[segments] = Function(path, root)
        # Of two that fit, the one whose first difference is a fixed segment wins.
        self._dynamic.sort(key=lambda entry: [_parameter(segment) is not None for segment in entry[0]])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's own start and stop."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:  # Vercel's functions have no WebSockets
                await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path", b"").decode("latin-1") or quote(scope["path"])
        if self._config.drop_slash and path.endswith("/") and path.strip("/"):
            query = scope["query_string"].decode("latin-1")
            # One leading slash: "//host/" must not become an address elsewhere.
            target = f"/{path.strip('/')}" + (f"?{query}" if query else "")
            await RedirectResponse(target, 308)(scope, receive, send)
            return
        app, added = await self._find(path, scope)
        if added:
            # The path stays as the client sent it; only the query shows a rewrite or a segment. A client's own
            # parameter of that name wins, which is why ids have to be taken from the path.
            sent = QueryParams(scope["query_string"])
            extra = urlencode({name: value for name, value in added.items() if name not in sent}).encode()
            scope = {**scope, "query_string": b"&".join(filter(None, [scope["query_string"], extra]))}
        await app(scope, receive, send)

    async def _find(self, path: str, scope: Scope) -> tuple[ASGIApp, dict[str, str]]:
        if (exact := await self._exact(path, scope)) is not None:
            return exact, {}
        target: str = path
        added: dict[str, str] = {}
        for rewrite in self._config.rewrites:
            if (rewritten := rewrite.apply(target)) is not None:
                target, more = rewritten
                added |= more
                if (exact := await self._exact(target, scope)) is not None:
                    return exact, added
        if (dynamic := self._match(target)) is not None:
            return dynamic[0], added | dynamic[1]
        if not path.startswith("/api") and (page := self._file(("404.html",))) is not None:
            response = await self._answer_file(page, path, {**scope, "method": "GET"})
            response.status_code = 404
            return response, {}
        return plain_error(404, "The page could not be found", "NOT_FOUND"), {}

    async def _exact(self, path: str, scope: Scope) -> ASGIApp | None:
        segments = _segments(path)
        if (function := self._fixed.get(segments)) is not None:
            return function
        if (name := self._file(segments)) is not None:
            return await self._answer_file(name, path, scope)
        return None

    def _match(self, path: str) -> tuple[Function, dict[str, str]] | None:
        given = _segments(path)
        for segments, function in self._dynamic:
            if len(segments) != len(given):
                continue
            values: dict[str, str] = {}
            for segment, value in zip(segments, given, strict=True):
                if (name := _parameter(segment)) is not None and value:
                    values[name] = value
                elif segment != value:
                    break
            else:
                return function, values
        return None

    def _file(self, segments: tuple[str, ...]) -> str | None:
        """Name the public file for a path, relative to `public/`; a directory is served by its index.html."""
        if any(segment in {"", ".", ".."} or re.search(r"[/\\\0]", segment) for segment in segments):
            return None
        name = "/".join(segments)
        for candidate in (name, f"{name}/index.html".lstrip("/")):
            if candidate and (self._public / candidate).is_file():
                return candidate
        return None

    async def _answer_file(self, name: str, path: str, scope: Scope) -> Response:
        try:
            response = await self._files.get_response(name, scope)
        except HTTPException as refused:
            code = "INVALID_REQUEST_METHOD" if refused.status_code == 405 else "NOT_FOUND"
            return plain_error(refused.status_code, refused.detail, code, refused.headers)
        response.headers.setdefault("cache-control", "public, max-age=0, must-revalidate")
        for source, headers in self._config.headers:
            if source.fullmatch(path):
                response.headers.update(headers)
        return response

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        for function in [*self._fixed.values(), *(function for _, function in self._dynamic)]:
            await function.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _segments(path: str) -> tuple[str, ...]:
    """Split a path before decoding it: an encoded slash is part of its segment."""
    return tuple(unquote(segment) for segment in path.strip("/").split("/")) if path.strip("/") else ()


def _parameter(segment: str) -> str | None:
    """Name the parameter of a `[name]` segment; None for any other."""
    return segment[1:-1] if re.fullmatch(r"\[\w+\]", segment) else None


def routes_app(root: Path) -> ASGIApp:
    """Build the ASGI app that serves the project at `root` as Vercel would."""
    return Site(root)
