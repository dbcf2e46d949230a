"""Every fault at every step, an adversary, then load with processes killed under it: `python -m tests.faults [words]`.

Prints tables; ends with 1 if anything in them is wrong. Words choose the cases whose name holds one of them, and
attacks by their name; ``adversary`` is all attacks.
"""

import asyncio
import itertools
import sys

from tests.faults import adversary, load
from tests.faults.cases import HEAD, cases, play
from tests.faults.fleet import Servers, servers
from tests.faults.rig import Rig, rigged
from tests.rig import guard
from tests.rig.clock import PatientLoop
from tests.rig.redis import redis_front
from tests.rig.script import scripted
from tests.rig.supabase import supabase_stand_in

LOADS = (("Redis killed and returned", 30.0, load.only_redis), ("both stores", 45.0, load.killed_and_returned),
         ("flapping", 20.0, load.flapping))  # fmt: skip


def main(words: list[str]) -> int:
    """Run everything; 1 if anything was wrong."""
    with servers() as running, rigged(running) as rig, rigged(running, "tcp") as by_tcp:
        with asyncio.Runner(loop_factory=PatientLoop) as runner:
            wrong = runner.run(_faults(rig, words)) + runner.run(_faults(by_tcp, words))
            wrong += runner.run(_adversary(running, words))
        for over, (name, seconds, acts) in () if words else itertools.product((rig, by_tcp), LOADS):
            report = asyncio.run(load.run(over, seconds, acts(over, seconds)))
            found = load.faults_of(report)
            wrong += bool(found)
            lines = [f"Load over {_transport(over)}: {name}", *report.events, report.text()]
            _say("\n".join([*lines, "; ".join(found) or "ok", ""]))
    return 1 if wrong else 0


def _transport(rig: Rig) -> str:
    return "TCP" if "REDIS_URL" in rig.environ else "REST"


async def _faults(rig: Rig, words: list[str]) -> int:
    wrong = tried = 0
    _say(f"Redis over {_transport(rig)}\n{HEAD}")
    for case in cases():
        if not words or any(word in str(case) for word in words):
            played = await play(rig, case)
            tried, wrong = tried + 1, wrong + bool(played.wrong)
            _say(played.row())
    _say(f"{tried} faults tried, {wrong} wrong\n")
    return wrong


async def _adversary(running: Servers, words: list[str]) -> int:
    wrong = 0
    with redis_front(running.redis) as front, supabase_stand_in(running.postgres) as supabase, scripted() as script:
        for transport in adversary.TRANSPORTS:
            _say(f"Adversary, {adversary.INSTANCES} instances, {transport}\n{adversary.HEAD}")
            for attack in adversary.ATTACKS:
                if words and attack not in words and "adversary" not in words:
                    continue
                async with guard.rigged(front, supabase, script, transport) as rig:
                    rows = await adversary.play(rig, attack, short=False)
                wrong += sum(not row.holds for row in rows)
                _say("\n".join(row.text() for row in rows))
    _say("")
    return wrong


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
