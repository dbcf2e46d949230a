"""`make bench`: measure everything in one run, and write results.json, README.md and the plots beside this file.

    python -m bench [--quick] [--only NAME ...]

Nothing is taken over from an earlier run: what `--only` leaves out is missing afterwards.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import accuracy, counts, data, databases, fleet, latency, throughput
from bench.data.readers import CASHEWS
from bench.peers import litellm, node, portkey
from bench.processes import ROOT, as_deployed
from bench.report import markdown
from dev.redis_server import available

HERE = Path(__file__).resolve().parent
PLOTTER = ROOT / "build" / "bench" / "plots" / "bin" / "python"

type Part = Callable[..., dict[str, Any]]

PARTS: dict[str, Part] = {
    "counts": counts.measure,
    "latency": latency.measure,
    "network": latency.measure_network,
    "accuracy": accuracy.measure,
    "throughput": throughput.measure,
    "data": data.measure,
    "fleet": fleet.measure,
    "databases": databases.measure,
}


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Breakwater on this machine.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: some six minutes, and less to rely on")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where to write (bench/)")
    asked = parser.parse_args()
    if "fakeredis" in available()[:1]:
        print("error: no real Redis here, and an imitation's speed says nothing: install redis-server", file=sys.stderr)
        return 1
    # So that everything that runs is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started, load = time.monotonic(), os.getloadavg()[0]
    found: dict[str, Any] = {}
    for name in asked.only or PARTS:
        found[name] = PARTS[name](_say(started), quick=asked.quick)
    results = {"made": _made(asked.quick, load, time.monotonic() - started), **found}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (asked.out / "README.md").write_text(markdown(results))
    _plot(asked.out)
    print(f"written to {asked.out} after {time.monotonic() - started:.0f} s")
    return 0


def _say(started: float) -> Callable[[str], None]:
    return lambda line: print(f"- {time.monotonic() - started:4.0f} s  {line}", flush=True)


def _made(quick: bool, load: float, seconds: float) -> dict[str, Any]:
    """On what these figures were taken."""
    versions = {name: importlib.metadata.version(name) for name in ("httpx", "upstash-redis", "upstash-ratelimit")}
    versions["vercel-runtime"] = importlib.metadata.version("vercel-runtime")
    versions |= _peer_versions()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "seconds": round(seconds),
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "redis": available()[0],
        "packages": "as deployed" if as_deployed() else "as for development",
        "versions": versions,
    }


def _peer_versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, program in (("litellm", litellm.PROGRAM), ("cashews", CASHEWS)):
        for each in program.parent.parent.glob(f"lib/python*/site-packages/{name}-*.dist-info"):
            found[name] = each.name.removeprefix(f"{name}-").removesuffix(".dist-info")
    packages = {"@portkey-ai/gateway": portkey.PROGRAM.parent.parent}
    packages |= {name: node.MODULES / name for name in node.PACKAGES}
    for name, directory in packages.items():
        if (package := directory / "package.json").exists():
            found[name] = str(json.loads(package.read_text())["version"])
    return found


def _plot(out: Path) -> None:
    if not PLOTTER.exists():
        print("plots are left out: their library is not installed (bench/setup installs it)")
        return
    subprocess.run([PLOTTER, HERE / "plots.py", out], check=True)


if __name__ == "__main__":
    sys.exit(main())
