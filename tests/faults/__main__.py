"""Every fault at every step, then load with processes killed under it: `python -m tests.faults [words]`.

Prints a table; ends with 1 if anything in it is wrong. Words choose the cases whose name holds one of them.
"""

import asyncio
import sys

from tests.faults import load
from tests.faults.cases import HEAD, cases, play
from tests.faults.fleet import servers
from tests.faults.rig import Rig, rigged
from tests.rig.clock import PatientLoop

LOADS = (("Redis killed and returned", 30.0, load.only_redis), ("both stores", 45.0, load.killed_and_returned),
         ("flapping", 20.0, load.flapping))  # fmt: skip


def main(words: list[str]) -> int:
    """Run everything; 1 if anything was wrong."""
    with servers() as running, rigged(running) as rig:
        with asyncio.Runner(loop_factory=PatientLoop) as runner:
            wrong = runner.run(_faults(rig, words))
        for name, seconds, acts in () if words else LOADS:
            report = asyncio.run(load.run(rig, seconds, acts(rig, seconds)))
            found = load.faults_of(report)
            wrong += bool(found)
            _say("\n".join([f"Load: {name}", *report.events, report.text(), "; ".join(found) or "ok", ""]))
    return 1 if wrong else 0


async def _faults(rig: Rig, words: list[str]) -> int:
    wrong = tried = 0
    _say(HEAD)
    for case in cases():
        if not words or any(word in str(case) for word in words):
            played = await play(rig, case)
            tried, wrong = tried + 1, wrong + bool(played.wrong)
            _say(played.row())
    _say(f"{tried} faults tried, {wrong} wrong\n")
    return wrong


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
