"""Serves the project as Vercel would: `api/` as functions, `public/` as files, by the rules of `vercel.json`.

The order is Vercel's own: the trailing slash, then what exists under exactly that path (a function or a file), then
rewrites, then functions with a `[segment]`, then 404. Each function is imported at its first request, and all of them
share one process; on Vercel each has its own.
"""

import ast
import asyncio
import hashlib
import importlib
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("dev.routes")

# ---------------------------------------------------------------- which file is which route


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


def _load(path: Path, root: Path) -> ModuleType:
    """Import a function's file, under its own dotted name where that name means this very file.

    The name need not be an identifier: the import system takes `api.servers.[id]` as it is. A tree that is not on
    the import path gets unique names, so that it cannot pass for the project's own modules.
    """
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found and found.origin and Path(found.origin).resolve() == path.resolve():
        return importlib.import_module(name)
    name = f"{name}@{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# ---------------------------------------------------------------- functions


class Lifespan:
    """Runs an ASGI app's lifespan: started once an instance, stopped with the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._failure: str | None = None
        self._asked = False
        self._started, self._stop, self._stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Mapping[str, Any]:
        """Run the startup and return the state it leaves; RuntimeError when the app says that it failed."""
        self._task = asyncio.create_task(self._run())
        await self._started.wait()
        if self._failure is not None:
            raise RuntimeError(f"lifespan startup failed: {self._failure}")
        return self._state

    async def stop(self) -> None:
        """Run the shutdown."""
        self._stop.set()
        await self._stopped.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            # ASGI: an app without a lifespan raises here, and is served without one.
            if self._started.is_set() or self._failure is not None:
                log.exception("lifespan failed")
            else:
                log.debug("no lifespan: %r", error)
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                self._failure = message.get("message") or "no reason given"
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                self._stopped.set()


class Function:
    """One file of `api/`: imported, and its lifespan started, when the first request comes."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        self._instance: tuple[ASGIApp, Lifespan, Mapping[str, Any]] | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an exception becomes a plain 500 and a traceback in the log."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            app, state = await self._ready()
            await app({**scope, "state": dict(state)}, receive, watched)
        except Exception:
            log.exception("%s failed on %s %s", self._path.relative_to(self._root), scope["method"], scope["path"])
            if not started:
                await _plain(500, "A server error has occurred", "FUNCTION_INVOCATION_FAILED")(scope, receive, send)
            # A response that was cut in the middle stays incomplete: the server closes the connection.

    async def _ready(self) -> tuple[ASGIApp, Mapping[str, Any]]:
        async with self._starting:
            if self._instance is None:
                # A failure leaves no instance: the next request starts a new one, as on Vercel.
                app: ASGIApp = _load(self._path, self._root).app
                lifespan = Lifespan(app)
                self._instance = app, lifespan, await lifespan.start()
            app, _, state = self._instance
            return app, state

    async def stop(self) -> None:
        """Run the app's shutdown, if it was started."""
        if self._instance is not None:
            _, lifespan, _ = self._instance
            self._instance = None
            await lifespan.stop()


def _plain(status: int, text: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """Build Vercel's own error page."""
    return PlainTextResponse(f"{text}\n\n{code}\n", status, {**(headers or {}), "x-vercel-error": code})


# ---------------------------------------------------------------- vercel.json

# `/:name*`, `:name` with or without a pattern, a group, or any other character.
SOURCE = re.compile(
    r"/:(?P<many>\w+)(?P<times>[*+])"
    r"|:(?P<one>\w+)(?P<pattern>\((?:[^()]|\([^()]*\))*\))?"
    r"|(?P<group>\((?:[^()]|\([^()]*\))*\))"
    r"|(?P<plain>.)",
    re.DOTALL,
)


def source_pattern(source: str) -> re.Pattern[str]:
    """Compile a `source` of vercel.json: `:name` is one segment, `:name*` any number of them, `(.*)` a pattern."""
    pattern, groups = "", 0
    for token in SOURCE.finditer(source):
        match token.lastgroup:
            case "times":
                group = f"(?P<{token['many']}>[^/]+(?:/[^/]+)*)"
                pattern += f"(?:/{group})?" if token["times"] == "*" else f"/{group}"
            case "one" | "pattern":
                pattern += f"(?P<{token['one']}>{(token['pattern'] or '([^/]+)')[1:-1]})"
            case "group":
                groups += 1
                pattern += f"(?P<_{groups}>{token['group'][1:-1]})"
            case _:
                pattern += re.escape(token["plain"])
    return re.compile(pattern)


class Rewrite(NamedTuple):
    """One rewrite: a path that matches `source` is answered by what is at `destination`."""

    source: re.Pattern[str]
    destination: str

    def apply(self, path: str) -> tuple[str, dict[str, str]] | None:
        """Return the path to serve and what is added to the query, or None when `path` does not match."""
        found = self.source.fullmatch(path)
        if found is None:
            return None
        values = {name: value or "" for name, value in found.groupdict().items()}
        used: set[str] = set()

        def fill(token: re.Match[str]) -> str:
            name = token["name"] or f"_{token['index']}"
            used.add(name)
            return values.get(name, token[0])

        filled = re.sub(r":(?P<name>[A-Za-z_]\w*)[*+]?|\$(?P<index>\d)", fill, self.destination)
        target, _, query = filled.partition("?")
        # A named part that the destination does not use is handed over in the query.
        unused = {k: unquote(v) for k, v in values.items() if k not in used and not k.startswith("_")}
        return target, {**unused, **dict(parse_qsl(query, keep_blank_values=True))}


class Config(NamedTuple):
    """What this server honours of vercel.json."""

    rewrites: tuple[Rewrite, ...]
    headers: tuple[tuple[re.Pattern[str], dict[str, str]], ...]
    drop_slash: bool
    public: str

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Read the file; without one, Vercel's defaults. What is not served here is named in a warning."""
        data: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        ignored = [name for name in ("redirects", "routes", "cleanUrls") if data.get(name)]
        rules = [*data.get("rewrites", ()), *data.get("headers", ())]
        ignored += sorted({f"{rule['source']}: {key}" for rule in rules for key in ("has", "missing") if key in rule})
        for name in ignored:
            log.warning("vercel.json: %s is not honoured by the local server", name)
        for rule in data.get("rewrites", ()):
            if not rule["destination"].startswith("/"):
                raise ValueError(f"vercel.json: the local server does not rewrite to {rule['destination']}")
        return cls(
            rewrites=tuple(
                Rewrite(source_pattern(rule["source"]), rule["destination"]) for rule in data.get("rewrites", ())
            ),
            headers=tuple(
                (source_pattern(rule["source"]), {h["key"]: h["value"] for h in rule["headers"]})
                for rule in data.get("headers", ())
            ),
            drop_slash=data.get("trailingSlash") is False,
            public=data.get("outputDirectory") or "public",
        )


# ---------------------------------------------------------------- the site


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
            # The path stays what the client sent; only the query shows a rewrite or a segment. A client's own
            # parameter of that name wins, which is why ids are to be taken from the path.
            sent = QueryParams(scope["query_string"])
            extra = urlencode({name: value for name, value in added.items() if name not in sent}).encode()
            scope = {**scope, "query_string": b"&".join(filter(None, [scope["query_string"], extra]))}
        await app(scope, receive, send)

    async def _find(self, path: str, scope: Scope) -> tuple[ASGIApp, dict[str, str]]:
        if (exact := await self._exact(path, scope)) is not None:
            return exact, {}
        for rewrite in self._config.rewrites:
            if (rewritten := rewrite.apply(path)) is not None:
                target, added = rewritten
                if (exact := await self._exact(target, scope)) is not None:
                    return exact, added
                if (dynamic := self._match(target)) is not None:
                    return dynamic[0], {**added, **dynamic[1]}
        if (dynamic := self._match(path)) is not None:
            return dynamic
        if not path.startswith("/api") and (page := self._file(("404.html",))) is not None:
            response = await self._answer_file(page, path, {**scope, "method": "GET"})
            response.status_code = 404
            return response, {}
        return _plain(404, "The page could not be found", "NOT_FOUND"), {}

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
            return _plain(refused.status_code, refused.detail, code, refused.headers)
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
