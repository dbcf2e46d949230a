"""Two checkouts side by side: `python -m bench.compare ../before [--kinds hit miss] [--rounds 11]`.

Both run under `vercel_runtime` before the same stand-ins, and take turns with the floor; a ratio is the median of the
rounds' own. For the ratios in docs/performance.md, where the other checkout is the commit before.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from pathlib import Path

from bench.latency import Round, run_round
from bench.processes import ROOT, function
from bench.rig import rig
from bench.subjects import Guarded, Kind, Subject, floor


def main() -> None:
    """Print processor time and p50 of both, and their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("other", type=Path, help="another checkout of this repository")
    parser.add_argument("--kinds", nargs="+", default=["hit"], choices=["hit", "miss", "refused", "blocked"])
    parser.add_argument("--rounds", type=int, default=11)
    asked = parser.parse_args()
    kinds: list[Kind] = asked.kinds
    found: dict[tuple[str, Kind], list[Round]] = {}
    with rig() as parts, ExitStack() as stack:
        environ = {**parts.environ(), "REDIS_TIMEOUT_MS": "2000"}
        subjects: list[Subject] = [floor(parts)]
        for name, root in (("other", asked.other.resolve()), ("this", ROOT)):
            child = function("breakwater", "api/ai/supervisor.py", environ, root)
            kinds_of_both: list[Kind] = ["hit", "miss", "refused", "blocked"]
            subjects.append(Guarded(name, child, parts, kinds_of_both, by_asking=name == "other"))
        for subject in subjects:
            stack.callback(subject.child.stop)
            run_round([subject], ["hit", *kinds], 100, 0, {})
        for number in range(asked.rounds):
            run_round(subjects, list(dict.fromkeys(["hit", *kinds])), 100, number, found)
    for kind in kinds:
        for name in ("other", "this"):
            rounds = found[name, kind]
            cpu, p50 = (statistics.median(each[what] for each in rounds) for what in ("cpu", "p50"))
            to_floor, to_other = (_ratios(rounds, found[of]) for of in (("floor", "hit"), ("other", kind)))
            print(f"{kind:8} {name:6} CPU {cpu:.3f} ms, p50 {p50:.3f} ms; to the floor {to_floor}; to other {to_other}")


def _ratios(mine: list[Round], theirs: list[Round]) -> str:
    found = [statistics.median(a[what] / b[what] for a, b in zip(mine, theirs, strict=True)) for what in ("cpu", "p50")]
    return " / ".join(f"x {each:.2f}" for each in found)


if __name__ == "__main__":
    main()
