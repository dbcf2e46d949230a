"""What replies look like. Typed dictionaries: checked by mypy where they are built, free at a cold start."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ..base.events import Mode
from ..base.values import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A field's description in the OpenAPI document; pydantic's own would import pydantic."""

    text: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Add the description to the field's schema."""
        return {**handler(schema), "description": self.text}


class AttemptBody(TypedDict):
    """The outcome of one provider on the way to the answer."""

    provider: str
    outcome: Annotated[str, Text("`answered`, or why it was passed over or failed.")]


class CostBody(TypedDict):
    """What an answer cost."""

    tokensIn: int
    tokensOut: int
    tokensCached: Annotated[int, Text("Of those that went in, how many the provider had in a cache of its own.")]
    amount: NotRequired[Annotated[float, Text("In the currency of `AI_PRICES`, where the model has a price.")]]


class SavedBody(TypedDict):
    """What an answer from the cache has saved: what it cost when it was computed."""

    provider: str
    ms: int
    tokens: NotRequired[int]
    cost: NotRequired[CostBody]


class Provenance(TypedDict):
    """Where an answer came from, and what that cost or saved."""

    cached: bool
    stale: Annotated[bool, Text("Past its fresh time: it is being refreshed, or no provider can be called.")]
    mode: Annotated[Mode, Text("Who counted this call.")]
    provider: str
    attempts: NotRequired[Annotated[list[AttemptBody], Text("Providers that were tried, in order.")]]
    saved: NotRequired[SavedBody]
    cost: NotRequired[Annotated[CostBody, Text("Of an answer that was computed for this request, and sent whole.")]]


class UsageBody(TypedDict):
    """What an answer cost in tokens."""

    usage: NotRequired[Annotated[dict[str, Any], Text("As the provider tells it; left out where it tells none.")]]


class AnswerBody(Provenance, UsageBody):
    """An answer from the supervisor."""

    answer: str
    finishReason: Annotated[str, Text("Why it ended, in the provider's word: `stop`, `length`, `content_filter`, ...")]
    sessionId: Annotated[str, Text("Send it again to go on in the same session.")]
    model: str
    requestId: str


class AnalysisBody(Provenance):
    """What a model says of a statement or a plan."""

    analysis: str
    kind: str
    model: str
    requestId: str


class FieldError(TypedDict):
    """One thing that is wrong with a request."""

    field: str
    message: str
    type: str


class ProblemBody(TypedDict):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Text("What happened, and what to change.")]
    code: Annotated[str, Text("Stable, for programs.")]
    source: Annotated[Literal["client", "guard", "upstream", "store"], Text("Where it went wrong.")]
    requestId: str
    retryAfter: NotRequired[Annotated[int, Text("Seconds until the same request may succeed.")]]
    errors: NotRequired[list[FieldError]]
    attempts: NotRequired[list[AttemptBody]]


class StoreErrorBody(TypedDict):
    """How a store failed."""

    kind: Annotated[str, Text("`timeout`, `connection`, `unauthorized`, `throttled`, `quota`, `server`, ...")]
    at: Annotated[int, Text("Unix seconds.")]


class RedisHealth(TypedDict):
    """Redis as this instance sees it."""

    state: Annotated[Literal["up", "down", "unknown", "disabled"], Text("`unknown`: it was not asked yet.")]
    since: Annotated[NotRequired[int], Text("When this instance saw that begin; Unix seconds.")]
    roundTripMs: Annotated[NotRequired[float], Text("What the last round trip took.")]
    reason: Annotated[NotRequired[str], Text("Why it is down.")]
    lastError: Annotated[NotRequired[StoreErrorBody], Text("The last one that this instance saw.")]


class SupabaseHealth(TypedDict):
    """The fallback as this instance sees it."""

    state: Literal["up", "down", "not_configured"]
    roundTripMs: NotRequired[float]
    reason: NotRequired[str]


class ProviderHealth(TypedDict):
    """One provider's circuit. ``retryAfter``: seconds without calls to it; ``since``: seconds since the epoch."""

    name: str
    circuit: Literal["closed", "suspect", "open", "probing"]
    failures: int
    retryAfter: NotRequired[int]
    reason: NotRequired[str]
    since: NotRequired[int]


class HealthBody(TypedDict):
    """Whether the main job can be served, and by which parts."""

    status: Literal["ok", "degraded", "down"]
    mode: Mode
    modeSince: Annotated[int, Text("Seconds since the epoch.")]
    modeReason: str
    redis: RedisHealth
    supabase: SupabaseHealth
    providers: list[ProviderHealth]
    warnings: Annotated[list[str], Text("Settings that are not used as they are, each with its variable.")]
    requestId: str


class OpenAIErrorFields(TypedDict):
    """An error as OpenAI words it; the code is ours."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "insufficient_quota", "server_error"]
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """The body of an error on the routes that speak OpenAI's protocol."""

    error: OpenAIErrorFields


class AdminBody(TypedDict):
    """The result of an admin action."""

    action: str
    done: str
    requestId: str


class DailyBody(TypedDict):
    """What the daily job did."""

    vendor: Annotated[str, Text("Upstash's own figure: `corrected`, `not_configured` or `unavailable`.")]
    commands: int
    supabaseBytes: int | None
    alerts: Annotated[int, Text("Alerts that were noticed; each is sent once in its period.")]
    requestId: str
