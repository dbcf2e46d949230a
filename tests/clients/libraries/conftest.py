"""The whole local stack as a process of its own: these tests run in environments without the gateway's packages."""

import itertools
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
_SETTINGS = {
    "PROVIDER": "scripted",
    "PORT": "0",
    "RATELIMIT_AI": "off",
    "RATELIMIT_AI_SUPERVISOR": "off",
    # A busy machine is not a store that is away.
    "REDIS_TIMEOUT_MS": "20000",
    "REDIS_CONNECT_TIMEOUT_MS": "20000",
    "REDIS_SLOW_MS": "60000",
    "FALLBACK_TIMEOUT_MS": "20000",
}
# LiteLLM asks GitHub for its prices when it is imported, unless it is told to use those that it brings along.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Gateway:
    """Where it listens, a key with nothing in the cache, and the provider by script behind it (`dev.scripted`)."""

    url: str
    provider: str
    key: str

    @property
    def v1(self) -> str:
        """The base URL of OpenAI's protocol."""
        return f"{self.url}/api/v1"

    def sent(self) -> list[dict[str, Any]]:
        """The bodies of the requests that the provider has got in this test, oldest first."""
        with urllib.request.urlopen(f"{self.provider}/_control/stats", timeout=10) as reply:  # noqa: S310 - loopback
            found: list[dict[str, Any]] = json.load(reply)["requests"]
            return found

    def forget(self) -> None:
        """Nothing was sent."""
        request = urllib.request.Request(f"{self.provider}/_control/stats", method="DELETE")  # noqa: S310 - loopback
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - loopback


@pytest.fixture(scope="session")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each part, by the first word of its name."""
    data = tmp_path_factory.mktemp("stack")
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "dev", "--data", str(data)]
    log = (data / "log").open("w+")
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **_SETTINGS}, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        assert process.stdout is not None
        found = dict[str, str]()
        for line in process.stdout:
            if part := re.fullmatch(r"(\w+) .* embedded .* (http://\S+)\n", line):
                found[part[1]] = part[2]
            if line == "ready\n":
                break
        log.seek(0)
        assert found.keys() >= {"API", "AI"}, log.read()
        yield found
        process.terminate()
        process.communicate(timeout=30)
    log.close()


@pytest.fixture
def gateway(_stack: dict[str, str]) -> Gateway:
    """As nobody has used it yet."""
    made = Gateway(_stack["API"], _stack["AI"], f"key-{next(_numbers)}")
    made.forget()
    return made


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """As everywhere."""
    return "asyncio"
