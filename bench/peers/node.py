"""What one would put together on Node: `@upstash/ratelimit`, `@upstash/redis` and a breaker, behind a plain server."""

from __future__ import annotations

import shutil

from bench.processes import ROOT, StartError, free_port, server
from bench.rig import Rig
from bench.subjects import Guarded

MODULES = ROOT / "build/bench/node/node_modules"
PACKAGES = ("@upstash/ratelimit", "@upstash/redis", "opossum")


def start(rig: Rig, *, wired: bool, at_once: bool = False) -> Guarded:
    """Start it; ``at_once``: in as few round trips as its client allows. Raises StartError, also if not installed."""
    node = shutil.which("node")
    if node is None or not MODULES.exists():
        raise StartError("not installed (bench/setup installs it where there is a node)")
    port = free_port()
    environ = {**rig.environ(wired=wired), "NODE_PATH": str(MODULES), "NODE_ENV": "production"}
    environ["BENCH_AT_ONCE"] = "1" if at_once else "0"
    child = server("node", [node, str(ROOT / "bench/peers/node.cjs"), str(port)], environ, port)
    name = "Node, at once" if at_once else "Node, @upstash"
    return Guarded(name, child, rig, ("hit", "miss", "refused", "blocked"))
