"""What OpenTelemetry's exporters send: OTLP/HTTP in JSON, metrics of the collector's hostmetrics receiver.

Sources: OTLP 1.x, "JSON Protobuf Encoding" (unknown fields are ignored, 64-bit integers may be strings); the receiver's
documentation; the semantic conventions for system metrics, whose names for attributes have changed several times.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from .machine import IDLE, Machine, latest, percent_of, usable

_HOST = ("host.name", "host.id")
_STATE = ("state", "system.cpu.state", "cpu.mode", "system.memory.state", "system.filesystem.state")
_CPU = ("cpu", "system.cpu.logical_number", "cpu.logical_number")
_DEVICE = ("device", "system.device", "network.interface.name")
_MOUNT = ("mountpoint", "system.filesystem.mountpoint")
_KIND = ("type", "system.filesystem.type")
_DELTA = 1

type Nanoseconds = Annotated[int, Field(ge=0, lt=2**64)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class Value(_Wire):
    """An attribute's value; only texts and integers name anything here."""

    string_value: str | None = None
    int_value: int | None = None

    @property
    def text(self) -> str:
        """As a text; empty for any other."""
        return self.string_value or ("" if self.int_value is None else str(self.int_value))


class Attribute(_Wire):
    """A name and a value."""

    key: str
    value: Value = Value()


class Point(_Wire):
    """One figure; of a sum since ``start_time_unix_nano``."""

    attributes: list[Attribute] = []
    start_time_unix_nano: Nanoseconds = 0
    time_unix_nano: Nanoseconds = 0
    as_double: float | None = None
    as_int: int | None = None

    @property
    def value(self) -> float | None:
        """The figure, where it is one."""
        return usable(self.as_double if self.as_double is not None else self.as_int)

    def about(self, names: Iterable[str]) -> str:
        """The attribute that has one of these names; empty for none."""
        return _text(self.attributes, names)


class Points(_Wire):
    """A gauge's, or a sum's."""

    data_points: list[Point] = []
    aggregation_temporality: int = 0


class Metric(_Wire):
    """One metric; of its kinds those that are looked at."""

    name: str = ""
    gauge: Points | None = None
    sum: Points | None = None


class ScopeMetrics(_Wire):
    """Metrics of one scraper."""

    metrics: list[Metric] = []


class Resource(_Wire):
    """What they are about."""

    attributes: list[Attribute] = []


class ResourceMetrics(_Wire):
    """All metrics of one resource: of a host, here."""

    resource: Resource = Resource()
    scope_metrics: list[ScopeMetrics] = []


class Export(_Wire):
    """A request (``ExportMetricsServiceRequest``)."""

    resource_metrics: list[ResourceMetrics] = []

    @property
    def count(self) -> int:
        """How many points it has."""
        return sum(len(each.data_points) for one in self.resource_metrics for _, each in _metrics(one))


def machines(export: Export) -> dict[str, Machine]:
    """The machines that a request speaks of, by their hosts. Raises ValueError for system metrics of no host.

    Resources without system metrics, such as services, are passed over.
    """
    found = list[tuple[str, Machine]]()
    for one in export.resource_metrics:
        named = [(name, points) for name, points in _metrics(one) if name in _READ and points.data_points]
        if not named:
            continue
        host = _text(one.resource.attributes, _HOST)
        if not host:
            raise ValueError("resourceMetrics: no host.name; the processor resourcedetection (system) adds it")
        machine = Machine()
        # By name, so that a utilization comes after what it could be worked out from, and wins.
        for name, points in sorted(named, key=lambda each: each[0]):
            _READ[name](machine, points)
            newest = max(point.time_unix_nano for point in points.data_points)
            machine.at_ms = max(machine.at_ms, newest // 1_000_000)
        found.append((host, machine))
    return latest(found)


def _metrics(one: ResourceMetrics) -> Iterator[tuple[str, Points]]:
    for scope in one.scope_metrics:
        for metric in scope.metrics:
            if (points := metric.gauge or metric.sum) is not None:
                yield metric.name, points


def _text(attributes: Iterable[Attribute], names: Iterable[str]) -> str:
    known: Mapping[str, str] = {each.key: each.value.text for each in attributes if each.value.text}
    return next((known[name] for name in names if name in known), "")


def _by_state(points: Iterable[Point]) -> dict[str, float]:
    found = dict[str, float]()
    for each in points:
        if each.value is not None:
            state = each.about(_STATE)
            found[state] = found.get(state, 0.0) + each.value
    return found


def _cpu_time(machine: Machine, points: Points) -> None:
    """Seconds by state: a share where they are those of an interval."""
    seconds = _by_state(points.data_points)
    total = sum(seconds.values())
    if points.aggregation_temporality == _DELTA and total > 0:
        machine.cpu = percent_of(100 * sum(each for state, each in seconds.items() if state not in IDLE) / total)


def _cpu_utilization(machine: Machine, points: Points) -> None:
    shares = _by_state(points.data_points)
    if shares:
        cpus = len({each.about(_CPU) for each in points.data_points})
        machine.cpu = percent_of(100 * sum(each for state, each in shares.items() if state not in IDLE) / cpus)


def _memory_usage(machine: Machine, points: Points) -> None:
    size = _by_state(points.data_points)
    # Parts of a cache that are told beside it.
    parts = sum(each for state, each in size.items() if not state.startswith("slab") and state != "total")
    total = size.get("total") or parts
    if "used" in size and total > 0:
        machine.memory = percent_of(100 * size["used"] / total)


def _memory_utilization(machine: Machine, points: Points) -> None:
    share = _by_state(points.data_points).get("used")
    if share is not None:
        machine.memory = percent_of(100 * share)


def _disk_usage(machine: Machine, points: Points) -> None:
    by_mount = dict[tuple[str, str], list[Point]]()
    for each in points.data_points:
        by_mount.setdefault((each.about(_MOUNT), each.about(_KIND)), []).append(each)
    for (_, kind), those in by_mount.items():
        size = _by_state(those)
        total = size.get("used", 0.0) + size.get("free", 0.0)
        if "used" in size and total > 0:
            machine.has_disk(100 * size["used"] / total, kind)


def _disk_utilization(machine: Machine, points: Points) -> None:
    for each in points.data_points:
        if each.value is not None and each.about(_STATE) in ("", "used"):
            machine.has_disk(100 * each.value, each.about(_KIND))


def _network_io(machine: Machine, points: Points) -> None:
    """Bytes: a speed where they are those of an interval (the processor cumulativetodelta makes them so)."""
    if points.aggregation_temporality != _DELTA:
        return
    for each in points.data_points:
        took_ns = each.time_unix_nano - each.start_time_unix_nano
        if each.value is not None and each.start_time_unix_nano and took_ns > 0:
            machine.has_traffic(each.value * 8 / 1e6 / (took_ns / 1e9), each.about(_DEVICE))


_READ = {
    "system.cpu.time": _cpu_time,
    "system.cpu.utilization": _cpu_utilization,
    "system.memory.usage": _memory_usage,
    "system.memory.utilization": _memory_utilization,
    "system.filesystem.usage": _disk_usage,
    "system.filesystem.utilization": _disk_utilization,
    "system.network.io": _network_io,
}
