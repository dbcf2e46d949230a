"""Tries the rollback on the local stack and times it: `python -m dev.rollback`.

Starts the stack, takes Redis out as a person would (REDIS_ENABLED=false and a new start, which is what a deployment is
here), and puts it back. Each step says what was seen. Ends with 1 where something is not as docs/operations.md has it.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from dev.started import Command, command, until_ready

LIMIT = 5
LONGEST_S = 300
_ASK = {"query": "which disk is fullest?", "sessionId": "rollback"}


@dataclass(frozen=True, slots=True)
class Step:
    """One state of the deployment, and what has to be seen in it."""

    name: str
    redis_enabled: str
    mode: str
    cache: tuple[str, str]
    """`X-Cache` of the first question and of the same one again."""
    health: str


STEPS = (
    Step("as usual", "true", "redis", ("MISS", "HIT"), "ok"),
    Step("rolled back", "false", "supabase", ("BYPASS", "BYPASS"), "ok"),
    Step("back again", "true", "redis", ("MISS", "HIT"), "ok"),
)


def main() -> int:
    """Play all steps; 0 where each was as it should be, within five minutes."""
    faults = list[str]()
    total_s = 0.0
    with tempfile.TemporaryDirectory() as directory:
        for step in STEPS:
            began = time.monotonic()
            given = {"REDIS_ENABLED": step.redis_enabled, "RATELIMIT_AI_SUPERVISOR": f"{LIMIT}/minute"}
            with command(Path(directory) / "stack", **given) as running:
                until_ready(running)
                seen, wrong = play(step, running)
                took_s = time.monotonic() - began
            total_s += took_s
            print(f"{step.name}: REDIS_ENABLED={step.redis_enabled}, {took_s:.1f} s from the start to here; {seen}")
            faults += [f"{step.name}: {each}" for each in wrong]
    if total_s > LONGEST_S:
        faults.append(f"it took {total_s:.0f} s, and {LONGEST_S} s are promised")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def play(step: Step, running: Command) -> tuple[str, list[str]]:
    """What was seen, and what of it was not as it should be."""
    path = f"{running.url}/api/ai/supervisor"
    with httpx.Client(timeout=30) as http:
        health = http.get(f"{running.url}/api/health").json()
        replies = [http.post(path, json=_ASK) for _ in range(LIMIT + 1)]
    statuses = [each.status_code for each in replies]
    modes = {each.headers["x-guard-mode"] for each in replies}
    caches = tuple(each.headers["x-cache"] for each in replies[:2])
    expected = {
        f"health is {step.health!r}": health["status"] == step.health,
        f"replies are counted by {step.mode}": modes == {step.mode},
        f"X-Cache is {', '.join(step.cache)}": caches == step.cache,
        f"{LIMIT} of {LIMIT + 1} questions are answered, the last is refused": statuses == [200] * LIMIT + [429],
    }
    found = f"health {health['status']}, modes {sorted(modes)}, X-Cache {caches}, statuses {statuses}"
    return found, [f"not so: {what} ({found})" for what, holds in expected.items() if not holds]


if __name__ == "__main__":
    sys.exit(main())
