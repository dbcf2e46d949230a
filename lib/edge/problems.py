"""Errors that a caller sees, as values: a stable code, whose fault, and what to change (RFC 9457)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from ..base.values import dataclass

if TYPE_CHECKING:
    from pydantic import ValidationError

    from .replies import AttemptBody, FieldError

type Source = Literal["client", "guard", "upstream", "store", "application"]

TYPE_BASE = "urn:breakwater:problem:"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of error. ``docs/api.md`` has a row for each; a test compares the two."""

    code: str
    status: int
    title: str
    source: Source

    @property
    def is_failure(self) -> bool:
        """Whether it counts as failed: nobody was served, and the caller did not ask for that."""
        return self.status >= 500 and self.code != "not_cached"


KINDS = {
    kind.code: kind
    for kind in (
        Kind("invalid_json", 400, "The body is not JSON", "client"),
        Kind("invalid_parameter", 400, "A parameter is unknown or unusable", "client"),
        Kind("origin_not_allowed", 403, "This origin may not call", "client"),
        Kind("unauthorized", 401, "The token is missing or wrong", "client"),
        Kind("report_expired", 401, "The report's time is too far from ours", "client"),
        Kind("report_replayed", 409, "A later report is known", "client"),
        Kind("closed", 403, "The route is closed", "guard"),
        Kind("not_found", 404, "There is nothing at this path", "client"),
        Kind("unsupported_endpoint", 404, "This part of OpenAI's API is not served", "client"),
        Kind("method_not_allowed", 405, "Method not allowed", "client"),
        Kind("body_too_large", 413, "The body is too large", "client"),
        Kind("unsupported_media_type", 415, "The body is not declared as JSON", "client"),
        Kind("invalid_request", 422, "The request does not have the expected shape", "client"),
        Kind("unsupported_parameter", 400, "No provider can do what the request asks for", "client"),
        Kind("model_not_found", 404, "No such model may be named", "client"),
        Kind("rate_limited", 429, "Too many requests", "guard"),
        Kind("not_cached", 504, "Not in the cache", "guard"),
        Kind("circuit_open", 503, "The circuit of the backend is open", "upstream"),
        Kind("budget_spent", 503, "A budget is used up", "guard"),
        Kind("backend_rejected", 422, "The backend refuses this request", "upstream"),
        Kind("content_filtered", 422, "The backend withheld its answer for its content", "upstream"),
        Kind("backend_no_model", 502, "The backend does not have the configured model", "guard"),
        Kind("backend_throttled", 503, "The backend has no capacity", "upstream"),
        Kind("backend_timeout", 504, "The backend took too long", "upstream"),
        Kind("backend_failed", 502, "The backend gave no usable answer", "upstream"),
        Kind("origin_unavailable", 503, "The data cannot be read now", "upstream"),
        Kind("backend_unauthorized", 502, "The backend does not accept our secret", "guard"),
        Kind("store_unavailable", 503, "Redis cannot be reached", "store"),
        Kind("misconfigured", 500, "The deployment is not configured", "guard"),
        Kind("internal_error", 500, "Something broke", "guard"),
    )
}


def decided(code: str) -> Literal["refuse", "fail"]:
    """What a reply with this code counts as."""
    return "fail" if KINDS[code].is_failure else "refuse"


@dataclass(eq=False)
class Problem(Exception):
    """An error that is reported to the caller."""

    code: str
    detail: str
    retry_after_s: int | None = None
    errors: "Sequence[FieldError]" = ()
    attempts: "Sequence[AttemptBody]" = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[], Awaitable[None]] | None = None
    """What is left to do when the reply has gone out."""
    source: Source | None = None
    """Where it went wrong, if not where errors of its kind do."""

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            # Here and not where it is replied: it is the line to mend.
            raise ValueError(f"no error has the code {self.code!r}; take one of {', '.join(KINDS)}")

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    @property
    def kind(self) -> Kind:
        """What kind of error it is."""
        return KINDS[self.code]


class FunctionFailed(Exception):
    """A function of the application raised, or returned what is of no use. Its cause is what it raised."""

    def __init__(self, which: str) -> None:
        super().__init__(which)
        self.which = which


def invalid(error: "ValidationError") -> Problem:
    """What is wrong with a body, field by field."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    # What is missing comes first: it explains most of the rest, such as a field under another name.
    items.sort(key=lambda each: each["type"] != "missing")
    if items[0]["type"] == "json_invalid":
        return Problem("invalid_json", f"Send valid JSON: {items[0]['msg']}.")
    errors = [_field_error(item["loc"], item["msg"], item["type"]) for item in items[:20]]
    detail = "; ".join(f"{each['field']}: {each['message']}" for each in errors[:3])
    return Problem("invalid_request", detail, errors=errors)


_OWN_WORDS = {"Field required": "missing", "Extra inputs are not permitted": "not a field of this request"}


def _field_error(loc: tuple[int | str, ...], message: str, kind: str) -> "FieldError":
    message = _OWN_WORDS.get(message, message)
    # Errors of the model as a whole name their field in front of the message.
    field_name, _, rest = message.partition(": ")
    if not loc and rest:
        return {"field": field_name, "message": rest, "type": kind}
    # A client may name a field anything; it is shown, not trusted.
    return {"field": ".".join(str(part) for part in loc)[:200] or "body", "message": message, "type": kind}
