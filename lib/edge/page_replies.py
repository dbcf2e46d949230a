"""What the page is told: the replies of /api/overview, /api/history and /api/activity.

Typed dictionaries, as in ``replies.py``. Times are in seconds since the epoch.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from ..base.events import Mode
from .data_replies import ReadsBody
from .replies import Text


class AllowanceBody(TypedDict):
    """What one free tier has left."""

    service: str
    unit: str
    period: str
    limit: int
    used: Annotated[int | None, Text("null, as are `left` and `percent`: unknown while Redis cannot be read.")]
    left: int | None
    percent: float | None
    resetsAt: Annotated[int | None, Text("When the whole limit is available again; null: never, or nothing is used.")]
    runsOutAt: Annotated[int | None, Text("When nothing is left at the present rate; null: it lasts until it resets.")]
    source: Annotated[
        Literal["counted", "vendor", "estimated", "measured"],
        Text("`vendor`: the vendor's own figure, and what was counted since."),
    ]
    asOf: NotRequired[Annotated[int, Text("When the vendor's figure, or the measurement, was taken.")]]


class SliceBody(TypedDict):
    """Requests of a few minutes or an hour, by what was decided."""

    at: int
    serve: int
    compute: int
    refuse: int
    fail: int


class ProviderCostBody(TypedDict):
    """This month's answers of one provider: what they cost, and what the cache has saved. null: unknown."""

    provider: str
    tokensIn: int | None
    tokensOut: int | None
    tokensCached: int | None
    amount: Annotated[float | None, Text("In the currency of `AI_PRICES`; null where the provider has no price.")]
    savedTokensIn: int | None
    savedTokensOut: int | None
    savedTokensCached: int | None
    savedAmount: float | None


class HitRateBody(TypedDict):
    """The share of answers that came from the cache; null where there were none."""

    hour: float | None
    day: float | None


class QuantilesBody(TypedDict):
    """Milliseconds that half, and 95 %, of this month's took at most; null where there were none."""

    p50: float | None
    p95: float | None


class LatencyBody(TypedDict):
    """How long things take."""

    request: QuantilesBody
    redis: QuantilesBody
    guard: QuantilesBody
    redisByHour: Annotated[list[float | None], Text("The mean of each of the hours in `day`, in ms.")]
    requestByHour: Annotated[list[float | None], Text("The same of guarded requests as a whole.")]
    providers: Annotated[dict[str, QuantilesBody], Text("Whole answers of each provider.")]


class CircuitBody(TypedDict):
    """One provider's circuit."""

    provider: str
    state: Literal["closed", "suspect", "open", "probing"]
    failures: int
    reason: str
    since: int | None
    until: int | None


class AlertBody(TypedDict):
    """An alert that was sent."""

    kind: str
    about: str
    at: int


class SeriesBody(TypedDict):
    """Counts of one thing over time, oldest first."""

    name: str
    counts: list[int]


class BreakdownBody(TypedDict):
    """Guarded requests by status and by route, and calls of each provider."""

    status: list[SeriesBody]
    route: list[SeriesBody]
    provider: list[SeriesBody]


class SpanBody(TypedDict):
    """The same over the last hour, the last day, and this month."""

    hour: int
    day: int
    month: int


class SavingsBody(TypedDict):
    """What answers from the cache have saved."""

    calls: Annotated[SpanBody, Text("Calls of the source that were not needed.")]


class FlushBody(TypedDict):
    """When an instance adds its counts to the ledger: after so many commands, or with the next request after a time."""

    commands: int
    seconds: int


class OverviewBody(TypedDict):
    """What is left and what happened. All times are in seconds since the epoch."""

    at: int
    source: Annotated[
        Literal["redis", "last", "instance"],
        Text("`last`: Redis gives no reply, and these are its figures of `at`. `instance`: this instance's own alone."),
    ]
    freshFor: Annotated[int, Text("Seconds for which the next request gets the same figures.")]
    mode: Mode
    thrift: Annotated[int, Text("The thrift step: 0, Redis is used as usual; 3, not at all.")]
    allowances: list[AllowanceBody]
    hour: Annotated[list[SliceBody], Text("The last hour by five minutes, oldest first.")]
    day: Annotated[list[SliceBody], Text("The last day by hour, oldest first.")]
    hourBy: Annotated[BreakdownBody, Text("The five minutes in `hour` by something else.")]
    dayBy: Annotated[BreakdownBody, Text("The hours in `day` by something else.")]
    saved: SavingsBody
    hitRate: HitRateBody
    errorRate: HitRateBody
    latency: LatencyBody
    costs: Annotated[list[ProviderCostBody], Text("By provider, this calendar month.")]
    dataReads: ReadsBody
    circuits: list[CircuitBody]
    alerts: Annotated[list[AlertBody], Text("The last alert of each kind this month.")]
    flush: FlushBody


# "from" is no name in Python.
HistoryBody = TypedDict(
    "HistoryBody",
    {"at": int, "from": int, "step": int, "by": str, "series": list[SeriesBody]},
)
"""Past hours. ``from``: when the first one began, in seconds since the epoch; ``step``: their length in seconds."""


class CallerBody(TypedDict):
    """A caller, by the hash that the log has as well; ``requests`` may be a little too high where there are many."""

    caller: str
    requests: int


class NotableBody(TypedDict):
    """A request that failed, was slow, or was answered by another provider than the first. No question, no answer."""

    at: int
    kind: Literal["failed", "failed_over", "slow"]
    route: str
    status: int
    reason: str
    ms: int
    request: str
    caller: str
    provider: str
    cache: str
    attempts: str


class MovedCircuitBody(TypedDict):
    """What an instance last made of a circuit of other people's code (`circuit`) or of a data origin."""

    of: Literal["circuit", "origin"]
    name: str
    state: str
    reason: str
    at: int


class ActivityBody(TypedDict):
    """What the instances saw lately."""

    at: int
    source: Literal["redis", "last", "instance"]
    freshFor: int
    since: Annotated[int, Text("From when on `callers` were counted; at most a day ago.")]
    callers: list[CallerBody]
    notable: Annotated[list[NotableBody], Text("The last 50, newest first.")]
    circuits: Annotated[list[MovedCircuitBody], Text("The last 50 that instances moved, newest first; no providers.")]
    alerts: Annotated[list[AlertBody], Text("The last 100, newest first.")]
