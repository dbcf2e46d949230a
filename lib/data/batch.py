"""``GET /api/data?resources=menu:1,setting:site``: several resources of a page at once, counted once, read together.

A resource is its name and its parameters in the order of its key, joined by colons; those of the query may be left
out. A parameter with a comma or a colon in it is percent-encoded once more than the address.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..base.encode import to_json
from ..base.values import dataclass
from ..call import Answered, Failed, Outcome, Refused
from ..edge import outcomes
from ..edge.limits import RouteLimit
from ..edge.problems import Problem
from ..edge.request import Reply, Request
from ..redis.keys import MOST_BYTES
from .access import VIEW, require_role
from .asked import REFRESH, valid
from .body import Body
from .reading import NOBODY, is_known, note, problem_of, subject_for, wish_for
from .resource import Resource

if TYPE_CHECKING:
    from ..parts import Parts

MOST = 20
"""So many resources at once."""
_LIST = "resources"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The handler of several resources."""

    resources: Mapping[str, Resource]
    limit: RouteLimit

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request: values and errors by the names that were asked for. Raises Problem."""
        # As for one resource: what is refused here costs no command.
        request.limit_headers = {}
        asked = self._asked(request)
        for resource, _ in asked.values():
            await require_role(request, parts, resource.roles)
        request.limit_headers = None
        subject = await subject_for(request, parts, self.limit)
        cost = max(resource.cost for resource, _ in asked.values())
        wished = [await wish_for(resource, values, NOBODY, request, parts) for resource, values in asked.values()]
        wished[0] = replace(wished[0], call=replace(wished[0].call, subject=subject, cost=cost))
        found = dict(zip(asked, await parts.guard.handle_all(wished), strict=True))
        first = found[next(iter(found))]
        common = outcomes.common(request, first)
        if isinstance(first.result, Refused) and first.result.code == "rate_limited":
            raise problem_of(request, first, first.result, common)
        for name, outcome in found.items():
            note(parts, asked[name][0], outcome)

        async def after() -> None:
            for outcome in found.values():
                await outcome.after(send=False)

        body = _body(request, found)
        etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        states = [each.result.cache for each in found.values() if isinstance(each.result, Answered)]
        request.notes.decision = "serve" if all(each in ("hit", "stale", "collapsed") for each in states) else "compute"
        request.notes.reason = "batch"
        headers = {**common, "etag": etag, "cache-control": "private, no-cache"}
        if is_known(request.header("if-none-match"), etag):
            return Reply(304, b"", headers, after=after)
        return Reply(200, body, headers, after=after)

    def _asked(self, request: Request) -> dict[str, tuple[Resource, dict[str, str]]]:
        """The resources by the names that were sent, each once. Raises Problem."""
        query = request.http.query_params
        for name, value in query.multi_items():
            if name not in (_LIST, REFRESH, VIEW) or len(query.getlist(name)) > 1:
                raise Problem("invalid_parameter", f"{name[:60]!r}: this route knows {_LIST}, once, and {REFRESH}.")
            if name == REFRESH and value != "1":
                raise Problem("invalid_parameter", f"{REFRESH}: send 1, or leave it out.")
        names = list(dict.fromkeys(filter(None, query.get(_LIST, "").split(","))))
        if not 0 < len(names) <= MOST:
            raise Problem("invalid_parameter", f"{_LIST}: send 1 to {MOST} of them, joined by commas.")
        found = {name: self._one(name) for name in names}
        if VIEW in query and not any(resource.roles for resource, _ in found.values()):
            raise Problem("invalid_parameter", f"{VIEW}: none of these needs it.")
        return found

    def _one(self, name: str) -> tuple[Resource, dict[str, str]]:
        wanted, *given = name.split(":")
        resource = self.resources.get(wanted)
        if resource is None:
            known = ", ".join(sorted(self.resources))
            raise Problem("invalid_parameter", f"{_LIST}: {wanted[:60]!r} is none of {known}.")
        own = [each for each in resource.parameters if each not in resource.query]
        # Those of the query last, as they may be left out.
        order = [*own, *(each for each in resource.parameters if each in resource.query)]
        if not len(own) <= len(given) <= len(order):
            raise Problem("invalid_parameter", f"{_LIST}: {wanted} takes {', '.join(order) or 'no parameter'}.")
        sent = {each: unquote(text, errors="replace") for each, text in zip(order, given, strict=False)}
        return resource, valid(resource, sent)


def _body(request: Request, found: Mapping[str, Outcome[Any, Body]]) -> bytes:
    """Bodies as they are stored, put together without being parsed."""
    values, errors, stale, room = list[bytes](), dict[str, Any](), dict[str, Any](), MOST_BYTES
    for name, outcome in found.items():
        match outcome.result:
            case Answered(body) if body.kind == "absent":
                errors[name] = {"status": 404, "code": "not_found", "detail": "There is no such thing."}
            case Answered(body) if len(body.content) > room:
                detail = "It does not fit into this reply any more. Ask for it in another one."
                errors[name] = {"status": 413, "code": "body_too_large", "detail": detail}
            case Answered(body) as answered:
                room -= len(body.content)
                values.append(to_json(name) + b":" + body.content)
                if answered.cache == "stale":
                    age_ms = max(0, outcome.now_ms - answered.stored_at_ms)
                    stale[name] = {"ageS": age_ms // 1000, "why": answered.reason}
            case Refused() | Failed() as refused:
                problem = problem_of(request, outcome, refused, {})
                errors[name] = {"status": problem.kind.status, "code": problem.code, "detail": problem.detail}
    told = b',"stale":' + to_json(stale) if stale else b""
    return b'{"values":{' + b",".join(values) + b'},"errors":' + to_json(errors) + told + b"}"
