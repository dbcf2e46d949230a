"""What the tests of data routes share: a table of resources over functions that a test holds."""

from collections.abc import Mapping
from typing import Any

import httpx

from lib.data.origins.function import Python
from lib.data.resource import Resource
from lib.data.table import DataRoutes, data_routes
from lib.edge.limits import RouteLimit, route_limit
from tests.rig.door import Counted, a_name, client
from tests.rig.instance import Built, Instance

UNCOUNTED = route_limit(None, "data-tests")


def menu(function: Counted, **options: Any) -> Resource:
    """A resource of its own names over a function."""
    name = a_name()
    given = {"key": f"cache:{name}:{{id}}", "tier": "1m", "origin": Python(function, name), **options}
    return Resource(name, **given)


def site(instance: Instance, table: Mapping[str, Resource] | Resource, limit: RouteLimit = UNCOUNTED) -> DataRoutes:
    """The data routes of an instance; one resource alone is at ``/api/menus/{id}``."""
    rows = {"/api/menus/{id}": table} if isinstance(table, Resource) else table
    return data_routes(Built(instance.parts), rows, limit=limit)


async def read(app: DataRoutes, path: str = "/api/menus/1", caller: str = "", **headers: str) -> httpx.Response:
    """GET a path, as somebody new unless ``caller`` says who."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client(app, caller) as http:
        return await http.get(path, headers=given)
