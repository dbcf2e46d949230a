"""Simulated servers: pure functions of a template, a seed and the time. Nothing of them is stored but which one runs.

Every server has a daily rhythm and some noise; a scenario adds what goes wrong, to servers that the seed chooses.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from ..base.values import dataclass
from .snapshot import Measured, Snapshot

type Scenario = Literal["baseline", "cpu-storm", "disk-fill", "cascade", "silent"]

SCENARIOS: tuple[Scenario, ...] = get_args(Scenario.__value__)
REPORTER = "simulation"
INTERVAL_S = 30
STEP_MS = 300_000
"""What is recorded of real servers is as far apart; so is what is computed of the past of simulated ones."""
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_CASCADE: Mapping[str, int] = {"database": 0, "cache": 3, "app": 6, "web": 10}
"""After how many minutes a kind of server is drawn in."""
_FALLS_MINUTES = 15
"""So long after that a database answers no more."""


@dataclass(frozen=True, slots=True)
class Template:
    """A server on a quiet day: percents and Mbit a second."""

    id: str
    name: str
    kind: str
    cpu: float
    memory: float
    disk: float
    network: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """What runs: ``run`` is its number in ``scenario_execution_log``."""

    run: int
    scenario: Scenario
    seed: int
    started_ms: int
    ends_ms: int
    templates: tuple[Template, ...]

    def runs(self, now_ms: int) -> bool:
        """Whether it has not ended."""
        return now_ms < self.ends_ms


def template_of(row: object) -> Template:
    """A row of ``server_templates``. Raises ValueError for anything else."""
    match row:
        case {
            "id": str(name),
            "name": str(label),
            "kind": str(kind),
            "cpu": int() | float() as cpu,
            "memory": int() | float() as memory,
            "disk": int() | float() as disk,
            "network": int() | float() as network,
        }:
            return Template(name, label, kind, cpu, memory, disk, network)
    raise ValueError("not a row of server_templates")


def dump(simulation: Simulation) -> str:
    """As text."""
    rows = [
        {
            "id": e.id,
            "name": e.name,
            "kind": e.kind,
            "cpu": e.cpu,
            "memory": e.memory,
            "disk": e.disk,
            "network": e.network,
        }
        for e in simulation.templates
    ]
    head = [simulation.run, simulation.scenario, simulation.seed, simulation.started_ms, simulation.ends_ms]
    return json.dumps([*head, rows], ensure_ascii=False, separators=(",", ":"))


def load(text: str | None) -> Simulation | None:
    """The simulation that a text describes; None where it describes none."""
    try:
        match json.loads(text or "null"):
            case [int(run), str(scenario), int(seed), int(started_ms), int(ends_ms), [*rows]]:
                known = next(each for each in SCENARIOS if each == scenario)
                return Simulation(run, known, seed, started_ms, ends_ms, tuple(template_of(row) for row in rows))
    except (ValueError, TypeError, StopIteration):
        return None
    return None


def simulate(simulation: Simulation, now_ms: int) -> Snapshot:
    """All servers as they would have reported last: the same for everybody who asks."""
    at_ms = now_ms // (INTERVAL_S * 1000) * INTERVAL_S * 1000
    chosen = _chosen(simulation.templates, simulation.seed)
    servers = tuple(_server(each, simulation, at_ms, hit=each.id in chosen) for each in simulation.templates)
    return Snapshot(REPORTER, at_ms, at_ms, INTERVAL_S, servers)


def hour(simulation: Simulation, now_ms: int) -> tuple[int, dict[str, list[int | None]]]:
    """When the last hour began, and the CPU of all servers in each five minutes of it, in whole percents.

    None: it was silent. Before the scenario began nothing was wrong with them.
    """
    began_ms = now_ms // STEP_MS * STEP_MS - 12 * STEP_MS
    found: dict[str, list[int | None]] = {each.id: [] for each in simulation.templates}
    for step in range(13):
        at_ms = began_ms + step * STEP_MS
        for each in simulate(simulation, min(at_ms + STEP_MS // 2, now_ms)).servers:
            found[each.id].append(None if each.cpu is None or each.at_ms < at_ms else round(each.cpu))
    return began_ms, found


def _chosen(templates: Sequence[Template], seed: int) -> set[str]:
    """A third of the servers, at least one."""
    order = sorted(templates, key=lambda each: _chance(seed, each.id, "chosen"))
    return {each.id for each in order[: max(1, len(order) // 3)]}


def _server(template: Template, simulation: Simulation, at_ms: int, *, hit: bool) -> Measured:
    minutes = max(0.0, (at_ms - simulation.started_ms) / _MINUTE_MS)
    silent_ms = _silent_since(template, simulation, hit=hit)
    if silent_ms is not None and at_ms > silent_ms:
        # What it reported last, as it was then.
        at_ms, minutes = silent_ms, (silent_ms - simulation.started_ms) / _MINUTE_MS
    seed = simulation.seed
    # Quiet at three at night, busy at three in the afternoon (UTC).
    rhythm = 1 + 0.35 * math.sin(2 * math.pi * (at_ms % _DAY_MS / _DAY_MS - 0.375))
    cpu = template.cpu * rhythm + _noise(seed, template.id, "cpu", at_ms) * 6
    memory = template.memory * (0.8 + 0.2 * rhythm) + _noise(seed, template.id, "memory", at_ms) * 2
    disk = template.disk + _noise(seed, template.id, "disk", at_ms) * 0.2
    network = template.network * rhythm * (1 + _noise(seed, template.id, "network", at_ms) * 0.3)
    if simulation.scenario == "cpu-storm" and hit:
        cpu += (97 - cpu) * min(1.0, minutes / 5)
    elif simulation.scenario == "disk-fill" and hit:
        disk += (99.5 - disk) * min(1.0, minutes / 60)
    elif simulation.scenario == "cascade" and template.kind in _CASCADE:
        load = min(1.0, max(0.0, (minutes - _CASCADE[template.kind]) / 5))
        cpu, memory = cpu + (98 - cpu) * load, memory + (95 - memory) * load
    return Measured(
        id=template.id,
        name=template.name,
        at_ms=at_ms,
        cpu=_percent(cpu),
        memory=_percent(memory),
        disk=_percent(disk),
        network=round(max(0.0, network), 2),
    )


def _silent_since(template: Template, simulation: Simulation, *, hit: bool) -> int | None:
    if simulation.scenario == "silent" and hit:
        return simulation.started_ms
    if simulation.scenario == "cascade" and template.kind == "database":
        return simulation.started_ms + _FALLS_MINUTES * _MINUTE_MS
    return None


def _noise(seed: int, server: str, what: str, at_ms: int) -> float:
    """From -1 to 1; it moves from one value to another in five minutes, without a jump."""
    step, rest = divmod(at_ms, 300_000)
    before, after = (_chance(seed, server, f"{what}{each}") for each in (step, step + 1))
    return 2 * (before + (after - before) * rest / 300_000) - 1


def _chance(seed: int, server: str, what: str) -> float:
    """From 0 to 1, always the same."""
    digest = hashlib.sha256(f"{seed}\0{server}\0{what}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _percent(value: float) -> float:
    return round(min(100.0, max(0.0, value)), 1)
