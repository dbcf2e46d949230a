"""The LiteLLM proxy, with its Redis cache and its limits a key, as its documentation sets them up."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.calling import Connection, Got, post
from bench.processes import ROOT, Child, StartError, free_port, own_home, server
from bench.rig import Rig
from bench.subjects import Kind, expect

PROGRAM = ROOT / "build" / "bench" / "litellm" / "bin" / "litellm"
_PER_KEY = 9


@dataclass
class LiteLLM:
    """Its requests: a key a caller."""

    child: Child
    name: str = "LiteLLM proxy"
    kinds: Sequence[Kind] = ("hit", "miss", "refused")
    _keys: int = 0

    def requests(self, kind: Kind, count: int) -> list[bytes]:
        """Keys take turns, so that none reaches its limit but where it shall."""
        connection, found = Connection(self.child.port), list[bytes]()
        while len(found) < count:
            self._keys += 1
            key = f"sk-{1 if kind == 'refused' else 10}-{self._keys}"
            first = connection.send(_ask("which disk is fullest?", key))
            expect(self.name, kind, first, good=first.status == 200)
            if self._keys == 1:
                time.sleep(0.5)  # it keeps the answer after the reply
            # Its limiter counts while it answers; a refused key stays refused, and is not remembered anywhere.
            for number in range(_PER_KEY):
                new = f"question {self._keys} number {number} of all"
                found.append(_ask(new if kind == "miss" else "which disk is fullest?", key))
        connection.close()
        return found[:count]

    def check(self, kind: Kind, got: Got) -> None:
        """By the status, and by the header that names a cache key."""
        if kind == "refused":
            expect(self.name, kind, got, good=got.status == 429)
        else:
            hit = bool(got.header("x-litellm-cache-key"))
            expect(self.name, kind, got, good=got.status == 200 and hit == (kind == "hit"))


def _ask(query: str, key: str) -> bytes:
    body = {"model": "bench", "messages": [{"role": "user", "content": query}]}
    return post("/v1/chat/completions", body, {"authorization": f"Bearer {key}"})


def start(rig: Rig, *, wired: bool) -> LiteLLM:
    """Start it. Raises StartError where it is not installed or does not come up."""
    if not PROGRAM.exists():
        raise StartError("not installed (bench/setup installs it)")
    own, port = own_home("litellm"), free_port()
    home = Path(own.name)
    redis = {"type": "redis", "host": "127.0.0.1", "port": rig.redis_port(wired=wired), "ttl": 3600}
    backend = {"model": "openai/bench", "api_base": f"{rig.backend.url}/v1", "api_key": "bench"}
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": backend}],
        "litellm_settings": {"cache": True, "cache_params": redis, "telemetry": False, "num_retries": 0},
        "general_settings": {"custom_auth": "litellm_auth.user_api_key_auth"},
    }
    # Any JSON is YAML.
    (home / "config.yaml").write_text(json.dumps(config))
    (home / "litellm_auth.py").write_text((Path(__file__).parent / "litellm_auth.py").read_text())
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
    environ["LITELLM_MASTER_KEY"] = "sk-10-master"  # it does not start without one
    arguments = [str(PROGRAM), "--config", str(home / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    return LiteLLM(server("litellm", arguments, environ, port, own))
