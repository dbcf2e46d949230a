"""What Telegraf sends: ``outputs.http`` with ``data_format = "json"``, metrics of its inputs cpu, mem, disk and net.

Source: Telegraf's documentation of its JSON serializer and of these inputs.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .machine import Machine, latest, percent_of, usable

type Value = bool | int | float | str | None


class Metric(BaseModel):
    """One metric: some fields of one thing on one host. ``timestamp``: unix seconds, as Telegraf sends them unless told
    otherwise."""

    model_config = ConfigDict(frozen=True)

    name: str
    tags: dict[str, str] = {}
    fields: dict[str, Value] = {}
    timestamp: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]

    def number(self, name: str) -> float | None:
        """A field that is a number."""
        value = self.fields.get(name)
        return usable(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class Batch(BaseModel):
    """What is sent at once; of a metric alone nobody could tell what else the host has."""

    model_config = ConfigDict(frozen=True)

    metrics: list[Metric]


def machines(batch: Batch) -> dict[str, Machine]:
    """The machines that a batch speaks of, by their hosts. Raises ValueError for a metric of no host."""
    found = dict[tuple[str, float], Machine]()
    for each in batch.metrics:
        if each.name not in ("cpu", "mem", "disk", "net"):
            continue
        host = each.tags.get("host")
        if not host:
            raise ValueError(f"metrics: {each.name} has no tag host (omit_hostname is set)")
        _add(found.setdefault((host, each.timestamp), Machine(int(each.timestamp * 1000))), each)
    return latest((host, machine) for (host, _), machine in found.items())


def _add(machine: Machine, metric: Metric) -> None:
    number = metric.number
    if metric.name == "cpu" and metric.tags.get("cpu", "cpu-total") == "cpu-total":
        idle = number("usage_idle")
        if idle is not None:
            machine.cpu = percent_of(100 - idle - (number("usage_iowait") or 0))
    elif metric.name == "mem":
        available, used = number("available_percent"), number("used_percent")
        if available is not None:
            machine.memory = percent_of(100 - available)
        elif used is not None:
            machine.memory = percent_of(used)
    elif metric.name == "disk" and (used := number("used_percent")) is not None:
        machine.has_disk(used, metric.tags.get("fstype", ""))
    elif metric.name == "net":
        # Counters alone say nothing of speed: that needs `aggregators.derivative`.
        rates = [rate for name in ("bytes_recv_rate", "bytes_sent_rate") if (rate := number(name)) is not None]
        if rates:
            machine.has_traffic(sum(rates) * 8 / 1e6, metric.tags.get("interface", ""))
