"""What a request asks of a resource: its parameters, and how fresh the value has to be."""

import re
from collections.abc import Mapping

from starlette.datastructures import QueryParams

from ..cache.freshness import Directives, directives
from ..edge.problems import Problem
from ..edge.request import Request
from .access import VIEW
from .resource import MOST_CHARS, Resource

REFRESH = "refresh"
"""``refresh=1`` asks for a value of this second."""
_REFRESHED_S = 1
"""However often somebody asks for a new value, the origin is asked once in so many seconds."""


def parameters(resource: Resource, path: Mapping[str, str], query: QueryParams) -> dict[str, str]:
    """The value of every parameter. Raises Problem for one that is unknown, given twice or unusable.

    Whatever is let through becomes a cache key, here and at an edge: hence nothing that means nothing.
    """
    control = {REFRESH, VIEW} if resource.roles else {REFRESH}
    for name, value in query.multi_items():
        if name not in resource.query and name not in control:
            known = ", ".join(sorted({*resource.query, *control}))
            raise Problem("invalid_parameter", f"{name[:60]!r}: this route knows {known}.")
        if len(query.getlist(name)) > 1:
            raise Problem("invalid_parameter", f"{name}: send it once.")
        if name == REFRESH and value != "1":
            raise Problem("invalid_parameter", f"{REFRESH}: send 1, or leave it out.")
    return valid(resource, {**path, **{name: query[name] for name in resource.query if name in query}})


def valid(resource: Resource, sent: Mapping[str, str]) -> dict[str, str]:
    """What was sent, with the defaults of the rest. Raises Problem for a value that is unusable."""
    values = dict(sent)
    for name, rule in resource.query.items():
        if not values.setdefault(name, rule.default):
            raise Problem("invalid_parameter", f"{name}: send it.")
        if not re.fullmatch(rule.pattern, values[name]):
            raise Problem("invalid_parameter", f"{name}: it does not look like {rule.default!r}.")
    for name, value in values.items():
        if not 0 < len(value) <= MOST_CHARS:
            raise Problem("invalid_parameter", f"{name}: 1 to {MOST_CHARS} characters.")
    return values


def wishes(request: Request) -> Directives:
    """How fresh the value has to be. It belongs to all who read it: a caller can ask for one of this second, not more.

    So a reload button that is held down costs what one reload a second costs, and those of many callers are one.
    """
    given = directives(request.header("cache-control"))
    at_once = given.no_cache or given.no_store or request.http.query_params.get(REFRESH) == "1"
    age_s = _REFRESHED_S if at_once else given.max_age_s
    return Directives(
        only_if_cached=given.only_if_cached, max_age_s=None if age_s is None else max(_REFRESHED_S, age_s)
    )
