"""Vercel's routing, as a function of the build output's routes: which function, file, redirect or error a path is.

The routes are a flat list in phases that `handle` entries begin. First those before any `handle` (redirects, headers),
then whatever exists under exactly that path, then those after `filesystem` (rewrites, `[segment]` functions, 404).
A rewrite whose destination does not exist is no answer: the routes that follow are compared with the rewritten path.
Where a path leads nowhere, the `miss` phase may still name it differently (`/api/health.py`); `error` has the page
for a 404.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

type Route = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A function answers; `query` is what the routes add to the client's."""

    function: str
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A static file answers."""

    file: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """The client is sent elsewhere."""

    location: str
    status: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing answers."""

    status: int = 404


type Target = Call | Page | Redirect | Missing


class Site:
    """The routes, functions and static files of one deployment."""

    def __init__(self, routes: Sequence[Route], functions: frozenset[str], static: frozenset[str]) -> None:
        self._functions, self._static = functions, static
        self._phases: dict[str | None, list[Route]] = {None: []}
        phase: str | None = None
        for route in routes:
            if "handle" in route:
                phase = route["handle"]
                self._phases.setdefault(phase, [])
            else:
                self._phases[phase].append(route)

    def resolve(self, path: str) -> Target:
        """What answers a path, which is still percent-encoded and has no query."""
        headers: dict[str, str] = {}
        for route, found in self._matches(None, path):
            added = {name: _filled(value, found) for name, value in route.get("headers", {}).items()}
            if "Location" in added and 300 <= route.get("status", 200) < 400:
                return Redirect(added["Location"], route["status"])
            headers |= added
            if not route.get("continue"):
                break
        return self._there(path, {}, headers) or self._later(path, headers)

    def _later(self, path: str, headers: Mapping[str, str]) -> Target:
        target = path
        added: dict[str, str] = {}
        for route in self._phases.get("filesystem", ()):
            if (found := _match(route, target)) is None:
                continue
            if "dest" not in route:
                return self._error(route.get("status", 404), path, headers)
            target, _, query = _filled(route["dest"], found).partition("?")
            added |= dict(parse_qsl(query, keep_blank_values=True))
            if there := self._there(target, added, headers):
                return there
        return self._error(404, path, headers)

    def _there(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Target | None:
        """What exists under this path, or under the one that the `miss` phase makes of it."""
        candidates = [path, *(_filled(route["dest"], found) for route, found in self._matches("miss", path))]
        for candidate in candidates:
            name = unquote(candidate).strip("/")
            if name in self._functions:
                return Call(name, query)
            for file in (name, f"{name}/index.html".lstrip("/")):
                if file in self._static:
                    return Page(file, headers)
        return None

    def _error(self, status: int, path: str, headers: Mapping[str, str]) -> Target:
        for route, found in self._matches("error", path):
            file = _filled(route.get("dest", ""), found).strip("/")
            if route.get("status") == status and file in self._static:
                return Page(file, headers, status)
        return Missing(status)

    def _matches(self, phase: str | None, path: str) -> Iterator[tuple[Route, re.Match[str]]]:
        for route in self._phases.get(phase, ()):
            if found := _match(route, path):
                yield route, found


def _match(route: Route, path: str) -> re.Match[str] | None:
    # The patterns are JavaScript's, which writes named groups without the P.
    return re.match(re.sub(r"\(\?<(?=\w)", "(?P<", route["src"]), path)


def _filled(text: str, found: re.Match[str]) -> str:
    """Replace `$1` and `$name` by what a route's pattern found."""

    def value(token: re.Match[str]) -> str:
        group = token[1]
        if group.isdigit():
            return found[int(group)] or "" if int(group) <= (found.re.groups or 0) else ""
        return found.groupdict().get(group) or ""

    return re.sub(r"\$(\d+|[A-Za-z_]\w*)", value, text)


def joined(sent: str, added: Mapping[str, str]) -> str:
    """The client's query, and what the routes add to it; the client's own parameter of a name wins."""
    taken = {name for name, _ in parse_qsl(sent, keep_blank_values=True)}
    extra = urlencode({name: value for name, value in added.items() if name not in taken})
    return "&".join(filter(None, (sent, extra)))
