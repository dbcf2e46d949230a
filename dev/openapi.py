"""The OpenAPI description of the routes, generated from the models: ``python -m dev.openapi [--check]``.

Writes ``docs/openapi.json``; with ``--check`` it only compares, for CI. A path that ``api/`` and the rewrites of
``vercel.json`` serve and that is not described here, or the other way round, is an error. A function that is a route by
``bw.route`` is described by itself: its docstring, its methods, and what the guard may reply.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dev.routes import discover, served
from lib import __version__
from lib.ai.model_list import ModelBody, ModelsBody
from lib.ai.openai_errors import status_of
from lib.ai.openai_schemas import ChatCompletion
from lib.ai.schemas import Ask
from lib.data.ranking_routes import Score
from lib.data.routes import GuardedFunction
from lib.databases.analyzing import Analyze
from lib.edge.app import Endpoint
from lib.edge.data_replies import BatchBody, CacheStatsBody, InvalidatedBody, RankedBody, RankingBody
from lib.edge.page_replies import ActivityBody, HistoryBody, OverviewBody
from lib.edge.problems import KINDS, Kind
from lib.edge.replies import (
    AdminBody,
    AnalysisBody,
    AnswerBody,
    DailyBody,
    HealthBody,
    OpenAIError,
    ProblemBody,
)
from lib.fleet.otlp import Export
from lib.fleet.replies import ExportedBody, FleetBody, HourBody, OneServerBody, ReportedBody
from lib.fleet.report import Report
from lib.fleet.telegraf import Batch
from lib.ops.admin import Action
from lib.ops.cache import Invalidation

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "openapi.json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route."""

    path: str
    method: str
    summary: str
    request: Any
    replies: dict[int, tuple[str, Any]]
    problems: tuple[str, ...]
    errors: Any = ProblemBody
    media: str = "application/json"
    secret: str = ""
    """The variable whose value is to be sent as a bearer token, where one is."""


_EVERYWHERE = ("method_not_allowed", "origin_not_allowed", "misconfigured", "internal_error")
_GUARDED = (
    *("invalid_json", "body_too_large", "unsupported_media_type", "invalid_request"),
    *("unsupported_parameter", "rate_limited", "not_cached", "circuit_open", "budget_spent", "backend_rejected"),
    *("content_filtered", "backend_throttled", "backend_timeout", "backend_failed", "backend_no_model"),
    *("backend_unauthorized", *_EVERYWHERE),
)
_SECURED = ("unauthorized", "closed", *_EVERYWHERE)
_DATA = (
    *("invalid_parameter", "not_found", "unauthorized", "rate_limited", "not_cached", "circuit_open"),
    *("backend_rejected", "backend_throttled", "backend_unauthorized", "origin_unavailable", *_EVERYWHERE),
)
_AGENTS = (
    *("invalid_json", "body_too_large", "unsupported_media_type", "invalid_request", "rate_limited", "report_expired"),
    *_SECURED,
)
_DATABASES = {
    "/api/connections": "The watched databases, with their health",
    "/api/monitoring/sessions": "A watched database's sessions; this and all that follow take `connectionId`",
    "/api/monitoring/locks": "Who waits for whom, as trees below those who block",
    "/api/monitoring/wait-events": "What sessions wait for",
    "/api/monitoring/realtime": "How many sessions there are, and what they do",
    "/api/monitoring/sql-statistics": "The statements that take most time (`limit`), numbers only",
    "/api/monitoring/sql/[id]": "One statement's numbers",
    "/api/monitoring/sql/[id]/text": "One statement's text, without literals",
    "/api/monitoring/trend": "What happened over a `period`: `1h`, `24h` or `7d`",
    "/api/dashboard/metrics": "A watched database's counters",
    "/api/schemas": "Its schemas",
    "/api/tables": "A `page` of a `schema`'s tables, with `sizes=1` their sizes",
    "/api/columns": "The columns of a `table` of a `schema`",
    "/api/oracle/schemas": "The same as `/api/schemas`",
    "/api/oracle/tables": "The same as `/api/tables`",
    "/api/oracle/columns": "The same as `/api/columns`",
}
"""Routes of watched databases."""
_CACHED = ("not_cached", "backend_timeout", "backend_failed")

OPERATIONS = (
    Operation(
        "/api/ai/supervisor",
        "post",
        "Ask the AI backend, guarded",
        Ask,
        {200: ("The answer, fresh from the backend or from the cache", AnswerBody)},
        _GUARDED,
    ),
    Operation(
        "/api/v1/chat/completions",
        "post",
        "The same backend for clients that speak OpenAI's protocol; errors in OpenAI's shape, with our codes",
        ChatCompletion,
        {200: ("A chat completion as OpenAI describes it, or its chunks as server-sent events", dict[str, Any])},
        ("model_not_found", *_GUARDED),
        errors=OpenAIError,
    ),
    Operation(
        "/api/llm/analyze",
        "post",
        "Explain a statement or a plan; the answer is everybody's and kept for a day",
        Analyze,
        {200: ("The analysis, fresh from a model or from the cache", AnalysisBody)},
        (*_GUARDED, "unauthorized", "closed", "not_found", "origin_unavailable"),
    ),
    Operation(
        "/api/ai/supervisor/[id]/stream",
        "get",
        "Whether a stream can be resumed, as the AI SDK's `useChat` asks: never",
        None,
        {204: ("Nothing to resume", None)},
        _EVERYWHERE,
    ),
    Operation(
        "/api/v1/models",
        "get",
        "The models that are configured, the one first that is asked first",
        None,
        {200: ("As OpenAI lists models", ModelsBody)},
        ("rate_limited", *_EVERYWHERE),
        errors=OpenAIError,
    ),
    Operation(
        "/api/v1/models/[id]",
        "get",
        "One model; its id may hold slashes",
        None,
        {200: ("As OpenAI describes a model", ModelBody)},
        ("model_not_found", "rate_limited", *_EVERYWHERE),
        errors=OpenAIError,
    ),
    Operation(
        "/api/health",
        "get",
        "Whether the main job can be served, and by which parts",
        None,
        {
            200: ("It can, in whatever mode", HealthBody),
            503: ("It cannot: the AI backend's circuit is open", HealthBody),
        },
        _EVERYWHERE,
    ),
    Operation(
        "/api/overview",
        "get",
        "What is left and what happened; with `view=<day>.<HMAC of the day>` in place of the token the edge may answer",
        None,
        {200: ("The overview", OverviewBody)},
        _SECURED,
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/history",
        "get",
        "Past hours: `range=7d` or `30d`, `by=outcome`, `status`, `route` or `provider`; opened as the overview is",
        None,
        {200: ("The hours", HistoryBody)},
        ("invalid_request", "store_unavailable", *_SECURED),
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/activity",
        "get",
        "The busiest callers, notable requests and sent alerts; opened as the overview is",
        None,
        {200: ("What the instances saw lately", ActivityBody)},
        _SECURED,
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/metrics",
        "get",
        "The ledger for Prometheus",
        None,
        {200: ("Metrics in the Prometheus text format", str)},
        _SECURED,
        media="text/plain",
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/admin",
        "post",
        "Invalidate answers, reset a caller, open or close a circuit",
        Action,
        {200: ("Done", AdminBody)},
        (
            *("invalid_json", "body_too_large", "unsupported_media_type", "invalid_request", "store_unavailable"),
            *_SECURED,
        ),
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/cache/invalidate",
        "post",
        "Invalidate values of data routes: by entity and id, connection and resource, tag, or all",
        Invalidation,
        {200: ("Done", InvalidatedBody)},
        (
            *("invalid_json", "body_too_large", "unsupported_media_type", "invalid_request", "store_unavailable"),
            *_SECURED,
        ),
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/cache/stats",
        "get",
        "Reads of data routes this month, by family and by where their values came from",
        None,
        {200: ("The counts", CacheStatsBody)},
        _SECURED,
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/data",
        "get",
        "Several resources at once, counted once: `resources=menu:1,setting:site`",
        None,
        {200: ("Values and errors, by the names that were asked for", BatchBody)},
        _DATA,
    ),
    *(
        Operation(path, "get", said, None, {200: ("The value, as its origin has it", Any)}, _DATA)
        for path, said in (
            ("/api/cache/menu/[id]", "An example: one dish of a menu"),
            ("/api/cache/menus/[category]", "An example: the dishes of a category"),
            ("/api/cache/setting/[name]", "An example: one setting"),
            ("/api/cache/generators", "An example: all types of generators"),
            *_DATABASES.items(),
            ("/api/rankings/[board]", "The first 10, or with `top=100` the first 100, of a board"),
        )
    ),
    Operation(
        "/api/rankings/[board]",
        "post",
        "Give a member of a board a score, with `ADMIN_TOKEN` or the board's token of `RANKING_TOKENS`",
        Score,
        {200: ("Where the member stands now", RankedBody)},
        (
            *("invalid_json", "body_too_large", "unsupported_media_type", "invalid_request", "store_unavailable"),
            *("rate_limited", "invalid_parameter", *_SECURED),
        ),
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/rankings/[board]/[member]",
        "get",
        "Where a member of a board stands now, never from the cache",
        None,
        {200: ("The member's place", RankingBody)},
        ("rate_limited", "invalid_parameter", "store_unavailable", *_EVERYWHERE),
    ),
    Operation(
        "/api/servers/report",
        "post",
        "What a reporter says of its servers, signed with its secret of `FLEET_TOKENS` (docs/fleet.md)",
        Report,
        {
            200: ("Taken", ReportedBody),
            202: ("Taken by this instance, while Redis gives no reply", ReportedBody),
        },
        (
            *("invalid_json", "body_too_large", "unsupported_media_type", "invalid_request", "rate_limited"),
            *("report_expired", "report_replayed", *_SECURED),
        ),
        secret="FLEET_TOKENS",  # noqa: S106 - its name
    ),
    Operation(
        "/api/servers/report/v1/metrics",
        "post",
        "OpenTelemetry's metrics of hosts (OTLP/HTTP in JSON), with a reporter's secret as the bearer token",
        Export,
        {200: ("Taken, or why not", ExportedBody)},
        _AGENTS,
        secret="FLEET_TOKENS",  # noqa: S106 - its name
    ),
    Operation(
        "/api/servers/report/telegraf",
        "post",
        "A batch of Telegraf's metrics in JSON, with a reporter's secret as the bearer token",
        Batch,
        {
            200: ("Taken", ReportedBody),
            202: ("Taken by this instance alone, or too old to be stored", ReportedBody),
        },
        _AGENTS,
        secret="FLEET_TOKENS",  # noqa: S106 - its name
    ),
    *(
        Operation(
            path,
            "get",
            said,
            None,
            {200: ("As it is now", body)},
            ("invalid_parameter", "not_found", "rate_limited", "store_unavailable", *_SECURED),
            secret="ADMIN_TOKEN",  # noqa: S106 - its name
        )
        for path, said, body in (
            ("/api/dashboard", "All servers; with `view=` in place of the token the edge may answer", FleetBody),
            ("/api/servers", "The same", FleetBody),
            ("/api/servers/[id]", "One server", OneServerBody),
        )
    ),
    Operation(
        "/api/dashboard/history",
        "get",
        "The CPU of all servers in the last hour; with `simulated=1` of simulated ones",
        None,
        {200: ("As far as it was recorded", HourBody)},
        _DATA,
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/servers/[id]/history",
        "get",
        "What was recorded of a server: `range=1h`, `24h`, `7d` or `90d`",
        None,
        {200: ("Points with `at`, `cpu`, `memory`, `disk` and `network`, oldest first", Any)},
        _DATA,
        secret="ADMIN_TOKEN",  # noqa: S106 - its name
    ),
    Operation(
        "/api/cron/daily",
        "get",
        "The daily job, called by the platform",
        None,
        {200: ("What it did", DailyBody)},
        ("store_unavailable", *_SECURED),
        secret="CRON_SECRET",  # noqa: S106 - its name
    ),
)


def operations_of(path: str, file: Path) -> Iterator[Operation]:
    """What a file says of its route, where that is a function that ``bw.route`` guards."""
    spec = spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    handlers = module.app.handlers if isinstance(module.app, Endpoint) else {}
    for method, handler in handlers.items():
        if isinstance(handler, GuardedFunction) and method != "HEAD":
            said = inspect.getdoc(handler.function) or inspect.getdoc(module) or path
            problems = ("rate_limited", *(_CACHED if handler.cache else ()), *_EVERYWHERE)
            replies = {200: ("What the function returns", Any)}
            yield Operation(path, method.lower(), said.partition("\n")[0].rstrip("."), None, replies, problems)


def describe(root: Path = ROOT) -> dict[str, Any]:
    """The whole document. Raises SystemExit when routes and descriptions differ."""
    by_hand, files, operations = {each.path for each in OPERATIONS}, discover(root), [*OPERATIONS]
    for path in sorted(served(root) & files.keys() - by_hand):
        operations += operations_of(path, files[path])
    described = {each.path for each in operations}
    if described != served(root):
        raise SystemExit(f"dev/openapi.py and api/ differ in {sorted(described ^ served(root))}")
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for operation in operations:
        entry: dict[str, Any] = {"summary": operation.summary, "responses": _responses(operation, schemas)}
        # A segment in brackets, Vercel's way, is a parameter of the path.
        template = re.sub(r"\[(\w+)\]", r"{\1}", operation.path)
        names = re.findall(r"\{(\w+)\}", template)
        if names:
            entry["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if operation.secret:
            entry["security"] = [{operation.secret: []}]
        if operation.request is not None:
            schema = _schema(operation.request, schemas)
            entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths.setdefault(template, {})[operation.method] = entry
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Breakwater",
            "version": __version__,
            "description": "Stands in front of an AI backend and keeps the free tiers behind it alive.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": f"The value of `{name}`."}
                for name in sorted({each.secret for each in operations if each.secret})
            },
        },
    }


def _responses(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, (text, model) in operation.replies.items():
        responses[str(status)] = {"description": text}
        if model is not None:
            responses[str(status)]["content"] = {operation.media: {"schema": _schema(model, schemas)}}
    problem = {"schema": _schema(operation.errors, schemas)}
    media = "application/problem+json" if operation.errors is ProblemBody else "application/json"
    by_status: dict[int, list[Kind]] = {}
    for code in operation.problems:
        for status in _statuses(operation, KINDS[code]):
            by_status.setdefault(status, []).append(KINDS[code])
    for status, kinds in sorted(by_status.items()):
        text = "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds)
        found = responses.setdefault(str(status), {"description": text, "content": {}})
        if found["description"] != text:
            found["description"] += f"; {text}"
        found["content"][media] = problem
    return dict(sorted(responses.items()))


def _statuses(operation: Operation, kind: Kind) -> set[int]:
    """The statuses of a problem: under `/api/v1` they are others, and those of a budget depend on the wait."""
    if operation.errors is ProblemBody:
        return {kind.status}
    return {status_of(kind.status, kind.code, wait_s)[0] for wait_s in (1, None)}


def _schema(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
    schemas.update(schema.pop("$defs", {}))
    if "properties" not in schema:
        return schema
    name = model.__name__
    schemas[name] = schema
    return {"$ref": f"#/components/schemas/{name}"}


def main(arguments: list[str]) -> int:
    """Write the description, or compare it."""
    text = json.dumps(describe(), indent=2, ensure_ascii=False) + "\n"
    if arguments == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != text:
            print("docs/openapi.json is not current: run `make openapi` and commit it", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
