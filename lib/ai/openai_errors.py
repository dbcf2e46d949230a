"""Errors under ``/api/v1``: in OpenAI's shape, with statuses after which its SDKs do what is right.

The SDKs repeat 408, 409, 429 and 5xx by themselves, and one repeats 422; none of them repeats 400, 402 and 404. So what
a repetition cannot mend has one of these, or says ``x-should-retry: false``, which most of them read.
"""

from collections.abc import Iterable, Mapping

from ..base.encode import to_json
from ..edge.problems import Problem
from ..edge.replies import FieldError, ProblemBody
from ..edge.request import ErrorReply

FREES_SOON_S = 600
"""A budget that frees within this time is a 429; one that frees later is a 402."""

_BUDGETS = ("budget_spent", "backend_throttled")
_NOT_AGAIN = {"x-should-retry": "false"}
_CODES = {"content_filtered": "content_filter", "backend_no_model": "model_not_found"}
_TYPES = {402: "insufficient_quota", 429: "rate_limit_error"}


def openai_error(problem: ProblemBody) -> ErrorReply:
    """An error as OpenAI words it. The code is the provider's where it refused the request, else ours or OpenAI's."""
    status, headers = status_of(problem["status"], problem["code"], problem.get("retryAfter"))
    first = next(iter(problem.get("errors", ())), None)
    code = _CODES.get(problem["code"], problem["code"])
    if first is not None and problem["code"] == "backend_rejected":
        code = first["type"] or code
    error: dict[str, object] = {
        "message": problem["detail"],
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": first["field"] or None if first is not None else None,
        "code": code,
    }
    if "attempts" in problem:
        error["attempts"] = problem["attempts"]
    return ErrorReply(status, to_json({"error": error}), "application/json", headers)


def status_of(status: int, code: str, retry_after_s: int | None) -> tuple[int, Mapping[str, str]]:
    """The status under ``/api/v1`` of an error that has ``status`` elsewhere, and further headers."""
    if code in _BUDGETS:
        soon = retry_after_s is not None and retry_after_s <= FREES_SOON_S
        return (429 if soon else 402), _NOT_AGAIN
    if code == "backend_no_model":
        return 404, {}
    if status in (408, 409, 422):
        return 400, {}
    return status, _NOT_AGAIN if status >= 500 else {}


def model_not_found(name: str, known: Iterable[str]) -> Problem:
    """The error of a model that is not configured. ``known``: those that are."""
    # A client may name a model anything; it is shown, not trusted.
    detail = f"No model {name[:200]!r} is configured. GET /api/v1/models lists: {', '.join(known) or 'none'}."
    field: FieldError = {"field": "model", "message": "not configured", "type": "model_not_found"}
    return Problem("model_not_found", detail, errors=[field])


_CHAT = "POST /api/v1/chat/completions"
_INSTEAD = {
    "responses": f"The Responses API is not served. Use {_CHAT}: in the AI SDK openai.chat('...'), in OpenAI's SDKs "
    "client.chat.completions.create().",
    "completions": f"Text completions are not served. Use {_CHAT} with messages in place of the prompt.",
    "chat": f"Use {_CHAT}. Completions are not kept under their ids.",
    "v1": "The base URL ends with /v1 twice. Use https://<deployment>/api/v1.",
    "engines": f"Engines are not served. Use {_CHAT}, and GET /api/v1/models for the models.",
}


def unsupported_endpoint(path: tuple[str, ...]) -> Problem:
    """The error of a path under ``/api/v1`` that is not served. ``path``: its segments after ``/api/v1``."""
    first = path[0] if path else ""
    general = f"Served are {_CHAT} and GET /api/v1/models. For anything else ask a provider directly."
    return Problem("unsupported_endpoint", _INSTEAD.get(first, general))
