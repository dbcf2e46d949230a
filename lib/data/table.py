"""The data routes of a deployment: one entry of a table for each path.

app = data_routes(instance, {"/api/menus/{id}": MENU, "/api/settings/{name}": SETTING})
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from starlette.types import Receive, Scope, Send

from ..base.values import dataclass
from ..edge.app import Handler, Instance, endpoint
from ..edge.errors import problem_json
from ..edge.limits import BY_GUARD, UNLIMITED, RouteLimit
from ..edge.paths import segments
from .reading import ReadRoute
from .resource import Resource, may_meet


@dataclass(frozen=True, slots=True, eq=False)
class DataRoutes:
    """The ASGI application of all data routes. Any other path, its file's own too, is answered by ``not_found``."""

    instance: Instance
    rows: Sequence[tuple[tuple[str, ...], Resource]]
    limit: RouteLimit
    others: Mapping[tuple[str, ...], Mapping[str, Handler]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and end of a process."""
        wanted = segments(scope) if scope["type"] != "lifespan" else ()
        if (methods := self.others.get(wanted)) is not None:
            await endpoint(self.instance, problem_json, limit=self.limit, **methods)(scope, receive, send)
            return
        for path, resource in self.rows:
            if (values := _values(path, wanted)) is not None:
                read = ReadRoute(resource, self.limit, values)
                await endpoint(self.instance, problem_json, limit=self.limit, get=read)(scope, receive, send)
                return
        await endpoint(self.instance, limit=UNLIMITED)(scope, receive, send)


def data_routes(instance: Instance, table: Mapping[str, Resource], *, limit: RouteLimit = BY_GUARD) -> DataRoutes:
    """The application of a table. Raises ValueError where two resources could have the same key, or a path does not
    fit its resource.
    """
    for path, resource in table.items():
        own = {each[1:-1] for each in segments({"path": path}) if _is_parameter(each)}
        if own | set(resource.query) != set(resource.parameters) or own & set(resource.query):
            raise ValueError(f"{path}: its parameters and those of the query are not those of {resource.key!r}")
    for (path, one), (other_path, other) in combinations(table.items(), 2):
        if one is not other and may_meet(one.key, other.key):
            raise ValueError(f"{path} and {other_path} could have the same key: {one.key!r}, {other.key!r}")
        if one is not other and one.name == other.name:
            raise ValueError(f"{path} and {other_path}: two resources are called {one.name!r}")
    rows = [(segments({"path": path}), resource) for path, resource in table.items()]
    # Counted in the round trip that reads the cache.
    return DataRoutes(instance, rows, replace(limit, by_guard=True), {})


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
