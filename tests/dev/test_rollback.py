"""`python -m dev.rollback`: it plays the rollback on the local stack, and notices what is not as it should be."""

import subprocess
import sys
from pathlib import Path

from dev.rollback import STEPS, Step, play
from dev.started import ROOT, command, until_ready


def test_the_rollback() -> None:
    """Out and back: each step is as docs/operations.md has it, and timed."""
    done = subprocess.run(
        [sys.executable, "-m", "dev.rollback"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [each.name for each in STEPS]
    assert all(" s from the start to here; " in line for line in lines)


def test_it_notices(tmp_path: Path) -> None:
    """A deployment in another state than the step's is reported in every respect."""
    with command(tmp_path, REDIS_ENABLED="false", RATELIMIT_AI_SUPERVISOR="100/minute") as running:
        until_ready(running)
        _, wrong = play(Step("as usual", "true", "redis", ("MISS", "HIT"), "degraded"), running)
    assert [each.partition(" (")[0] for each in wrong] == [
        "not so: health is 'degraded'",
        "not so: replies are counted by redis",
        "not so: X-Cache is MISS, HIT",
        "not so: 5 of 6 questions are answered, the last is refused",
    ]
