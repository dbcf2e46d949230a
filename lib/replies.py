"""What replies look like. Typed dictionaries: checked by mypy where they are built, free at a cold start."""

from typing import Annotated, Literal, NotRequired, TypedDict

from pydantic import Field

from lib.events import Mode


class AttemptBody(TypedDict):
    """What became of one provider on the way to the answer."""

    provider: str
    outcome: Annotated[str, Field(description="`answered`, or why it was passed over or failed.")]


class SavedBody(TypedDict):
    """What an answer from the cache has saved: what it cost when it was computed."""

    provider: str
    ms: int
    tokens: NotRequired[int]


class Provenance(TypedDict):
    """Where an answer came from, and what that cost or saved."""

    cached: bool
    stale: Annotated[bool, Field(description="Past its time: it is being refreshed, or the backend cannot be asked.")]
    mode: Annotated[Mode, Field(description="Who counted this call.")]
    provider: str
    attempts: NotRequired[Annotated[list[AttemptBody], Field(description="Providers that were tried, in order.")]]
    saved: NotRequired[SavedBody]


class AnswerBody(Provenance):
    """An answer from the supervisor."""

    answer: str
    sessionId: Annotated[str, Field(description="Send it again to go on in the same session.")]
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
    detail: Annotated[str, Field(description="What happened, and what to change.")]
    code: Annotated[str, Field(description="Stable, for programs.")]
    source: Annotated[Literal["client", "guard", "upstream", "store"], Field(description="Where it went wrong.")]
    requestId: str
    retryAfter: NotRequired[Annotated[int, Field(description="Seconds until the same request may succeed.")]]
    errors: NotRequired[list[FieldError]]
    attempts: NotRequired[list[AttemptBody]]


class RedisHealth(TypedDict):
    """Redis as this instance sees it."""

    state: Literal["up", "down", "disabled"]
    roundTripMs: NotRequired[float]
    reason: NotRequired[str]


class SupabaseHealth(TypedDict):
    """The fallback as this instance sees it."""

    state: Literal["up", "down", "not_configured"]
    roundTripMs: NotRequired[float]
    reason: NotRequired[str]


class ProviderHealth(TypedDict):
    """One provider's circuit. ``retryAfter``: seconds for which it is not asked; ``since``: seconds since the epoch."""

    name: str
    circuit: Literal["closed", "open", "half_open"]
    failures: int
    retryAfter: NotRequired[int]
    reason: NotRequired[str]
    since: NotRequired[int]


class HealthBody(TypedDict):
    """Whether the main job can be served, and by which parts."""

    status: Literal["ok", "degraded", "down"]
    mode: Mode
    modeSince: Annotated[int, Field(description="Seconds since the epoch.")]
    modeReason: str
    redis: RedisHealth
    supabase: SupabaseHealth
    providers: list[ProviderHealth]
    requestId: str
