"""What the fleet's replies look like."""

from typing import Annotated, Literal, NotRequired, TypedDict

from ..edge.replies import RedisHealth, Text


class ReportedBody(TypedDict):
    """What became of a report."""

    stored: Annotated[bool, Text("False: Redis gives no reply, and only this instance has it.")]
    servers: int
    nextInS: Annotated[int, Text("Report again after so many seconds.")]
    requestId: str
    detail: NotRequired[Annotated[str, Text("Why nothing was stored, where that is no error.")]]


class PartialSuccessBody(TypedDict):
    """What was not stored, and why."""

    rejectedDataPoints: NotRequired[Annotated[str, Text("An integer, as a text.")]]
    errorMessage: str


class ExportedBody(TypedDict):
    """OTLP's ``ExportMetricsServiceResponse``: empty where everything was stored."""

    partialSuccess: NotRequired[PartialSuccessBody]


class MetricsBody(TypedDict):
    """One server's metrics; null: it could not be measured."""

    cpu: Annotated[float | None, Text("Percent.")]
    memory: Annotated[float | None, Text("Percent.")]
    disk: Annotated[float | None, Text("Percent.")]
    network: Annotated[float | None, Text("Mbit a second, both directions together.")]


class ServerBody(TypedDict):
    """One server."""

    id: str
    name: str
    status: Annotated[Literal["online", "late", "silent"], Text("By `lastUpdated` and what its reporter was told.")]
    metrics: MetricsBody
    lastUpdated: Annotated[str, Text("When it was measured, by its reporter's time.")]
    reporter: str


class ConflictBody(TypedDict):
    """Several reporters name one server; the newest measurement is shown."""

    id: str
    reporters: list[str]


class ShownBody(TypedDict):
    """Where what a reply shows came from."""

    timestamp: Annotated[str, Text("When Redis was read; without Redis, now.")]
    cached: Annotated[bool, Text("It was read a moment ago, or Redis gives no reply.")]
    source: Annotated[
        Literal["redis", "memory", "last"],
        Text("`memory`: what this instance knows. `last`: Redis gives no reply, and this is of `timestamp`."),
    ]
    simulated: Annotated[bool, Text("True: no such server exists.")]


class ScenarioBody(TypedDict):
    """The simulation that runs."""

    name: str
    startedAt: str
    endsAt: str


class AboutFleetBody(ShownBody):
    """What is said of all servers together."""

    total: int
    counts: dict[str, int]
    conflicts: list[ConflictBody]
    highPercent: Annotated[float, Text("Above so many percent a metric is called high: `ALERT_SERVER_PERCENT`.")]
    redis: Annotated[RedisHealth, Text("As the instance that answered sees it; nothing was sent to find out.")]
    scenario: Annotated[ScenarioBody | None, Text("Its servers are shown with `simulated=1`, and never otherwise.")]


class FleetBody(AboutFleetBody):
    """All servers."""

    servers: list[ServerBody]


class HourBody(TypedDict):
    """The last hour of all servers, in steps of five minutes."""

    at: Annotated[int, Text("When the first step begins; Unix seconds.")]
    step: Annotated[int, Text("Seconds.")]
    cpu: Annotated[
        dict[str, list[int | None]], Text("By server id: whole percents, a mean a step; null: not recorded.")
    ]


class OneServerBody(ShownBody):
    """One server alone."""

    server: ServerBody
