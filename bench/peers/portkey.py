"""The Portkey gateway, open edition: it has no limits, and the build on npm answers that its cache is disabled.

So it shows only what passing a question on costs there.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from bench.calling import Got, post
from bench.processes import ROOT, Child, StartError, free_port, server
from bench.rig import Rig
from bench.subjects import Kind, expect

PROGRAM = ROOT / "build/bench/portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
_numbers = itertools.count()


@dataclass
class Portkey:
    """Its requests: the configuration goes along in a header."""

    child: Child
    backend: str
    name: str = "Portkey gateway"
    kinds: Sequence[Kind] = ("miss",)

    def requests(self, kind: Kind, count: int) -> list[bytes]:
        """A new question each time."""
        config = {"provider": "openai", "api_key": "bench", "custom_host": f"{self.backend}/v1"}
        headers = {"x-portkey-config": json.dumps(config)}
        found = []
        for _ in range(count):
            question = {"role": "user", "content": f"question number {next(_numbers)} of all"}
            found.append(post("/v1/chat/completions", {"model": "bench", "messages": [question]}, headers))
        return found

    def check(self, kind: Kind, got: Got) -> None:
        """By the status: there is no other kind."""
        expect(self.name, kind, got, good=got.status == 200)


def start(rig: Rig, *, wired: bool) -> Portkey:
    """Start it. Raises StartError where it is not installed or does not come up."""
    node = shutil.which("node")
    if node is None or not PROGRAM.exists():
        raise StartError("not installed (bench/setup installs it where there is a node)")
    port = free_port()
    child = server("portkey", [node, str(PROGRAM), f"--port={port}", "--headless"], {"NODE_ENV": "production"}, port)
    return Portkey(child, rig.backend.url)
