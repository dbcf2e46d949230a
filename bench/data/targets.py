"""What is wanted of data routes, and what a run has reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A figure that is to be ``least`` or ``most`` so large."""

    what: str
    wanted: str
    reached: float
    met: bool


def targets(found: dict[str, Any]) -> list[dict[str, Any]]:
    """All of them whose subjects were there."""
    paths, load = found["paths"], found["load"]["figures"]
    hits = {each["name"]: each for each in found["hits"]["figures"]}
    ours, alone = load["breakwater"], load["origin alone"]
    spared = 1 - ours["queries_a_read"] / alone["queries_a_read"]
    reached = [
        _most(f"p95 in ms at {ours['rate']:g} reads a second", ours["p95"], 100),
        _least("queries that are spared", spared, 0.93),
        _least("hit ratio", ours["hit_ratio"], 0.80),
    ]
    if "cashews" in paths:
        a_hit = [paths[name]["redis, no limit"]["commands"] for name in ("breakwater, TCP", "cashews")]
        limited = [paths[name]["redis"]["commands"] for name in ("breakwater, TCP", "cashews")]
        reached += [
            _most("commands of a hit in Redis, to cashews", a_hit[0] / a_hit[1], 0.5),
            _most("the same, both with a limit", limited[0] / limited[1], 0.5),
        ]
    if "cashews" in load:
        ratio = ours["commands_a_read"] / load["cashews"]["commands_a_read"]
        reached.append(_most("commands a read, to cashews, which counts nobody", ratio, 0.5))
    if "cashews" in hits:
        reached += [
            _most("CPU of a hit in Redis, to cashews", hits["breakwater, in Redis"]["cpu_to_peer"], 1),
            _most("the same, both with a limit", hits["breakwater, in Redis, with a limit"]["cpu_to_limited"], 1),
        ]
    return [asdict(each) for each in reached]


def _most(what: str, reached: float, most: float) -> Target:
    return Target(what, f"at most {most:g}", round(reached, 4), reached <= most)


def _least(what: str, reached: float, least: float) -> Target:
    return Target(what, f"at least {least:g}", round(reached, 4), reached >= least)
