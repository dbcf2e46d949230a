"""The data routes of a deployment: one entry of a table for each path.

app = data_routes(instance, {"/api/menus/{id}": MENU, "/api/settings/{name}": SETTING})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

from starlette.types import Receive, Scope, Send

from ..base.values import dataclass
from ..edge.app import Endpoint, Handler, Instance, endpoint
from ..edge.errors import problem_json
from ..edge.limits import BY_GUARD, UNLIMITED, RouteLimit
from ..edge.paths import segments, ways
from .batch import Batch
from .reading import ReadRoute
from .resource import Resource, may_meet

type Make = Callable[[Mapping[str, str]], Handler]
"""A handler for the parameters of a path."""


@dataclass(frozen=True, slots=True, eq=False)
class DataRoutes:
    """The ASGI application of all data routes. Any other path, its file's own too, is answered by ``not_found``."""

    instance: Instance
    rows: Sequence[tuple[tuple[str, ...], Mapping[str, Make]]]
    """Paths by segment, and what makes the handler of each method."""
    limit: RouteLimit

    def has(self, path: str) -> bool:
        """Whether a resource has this path."""
        return any(own == segments({"path": path}) for own, _ in self.rows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and end of a process."""
        app = self._app(ways(scope)) if scope["type"] != "lifespan" else None
        await (app or endpoint(self.instance, limit=UNLIMITED))(scope, receive, send)

    def _app(self, ways: Sequence[Sequence[str]]) -> Endpoint | None:
        """What serves a path, if anything does."""
        for wanted in ways:
            for path, methods in self.rows:
                if (values := _values(path, wanted)) is not None:
                    handlers = {name: make(values) for name, make in methods.items()}
                    return endpoint(self.instance, problem_json, limit=self.limit, **handlers)
        return None


def data_routes(
    instance: Instance,
    table: Mapping[str, Resource],
    *,
    limit: RouteLimit = BY_GUARD,
    batch: str = "",
    more: Mapping[str, Mapping[str, Make]] | None = None,
) -> DataRoutes:
    """The application of a table. ``batch``: the path of several resources at once; ``more``: other methods and paths.

    Raises ValueError where two resources could have the same key, or a path does not fit its resource.
    """
    _check(table)
    # Counted in the round trip that reads the cache.
    limit = replace(limit, by_guard=True)
    rows: dict[str, dict[str, Make]] = {
        path: {"get": partial(ReadRoute, resource, limit)} for path, resource in table.items()
    }
    for path, methods in (more or {}).items():
        rows.setdefault(path, {}).update(methods)
    if batch:
        several = Batch({each.name: each for each in table.values()}, limit)
        rows[batch] = {"get": lambda values: several}
    return DataRoutes(instance, [(segments({"path": path}), methods) for path, methods in rows.items()], limit)


def _check(table: Mapping[str, Resource]) -> None:
    for path, resource in table.items():
        own = {each[1:-1] for each in segments({"path": path}) if _is_parameter(each)}
        if own | set(resource.query) != set(resource.parameters) or own & set(resource.query):
            raise ValueError(f"{path}: its parameters and those of the query are not those of {resource.key!r}")
    for (path, one), (other_path, other) in combinations(table.items(), 2):
        if one is not other and may_meet(one.key, other.key):
            raise ValueError(f"{path} and {other_path} could have the same key: {one.key!r}, {other.key!r}")
        if one is not other and one.name == other.name:
            raise ValueError(f"{path} and {other_path}: two resources are called {one.name!r}")


def _is_parameter(segment: str) -> bool:
    return segment.startswith("{") and segment.endswith("}")


def _values(path: Sequence[str], wanted: Sequence[str]) -> dict[str, str] | None:
    """The parameters in a path; None where it is another path."""
    if len(path) != len(wanted):
        return None
    values = dict[str, str]()
    for ours, theirs in zip(path, wanted, strict=True):
        if _is_parameter(ours):
            values[ours[1:-1]] = theirs
        elif ours != theirs:
            return None
    return values
