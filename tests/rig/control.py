"""The control routes of a stand-in."""

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Control:
    """The control routes of a stand-in (``dev.faults``)."""

    url: str

    def fault(self, kind: str, **about: object) -> None:
        """Let the next requests go wrong."""
        self._send("PUT", "faults", {"kind": kind, **about})

    def clear(self) -> None:
        """No fault any more."""
        self._send("DELETE", "faults")

    def stats(self) -> dict[str, Any]:
        """What the stand-in has counted."""
        found: dict[str, Any] = self._send("GET", "stats").json()
        return found

    def requests(self) -> int:
        """HTTP requests so far."""
        return int(self.stats()["http_requests"])

    def reset(self) -> None:
        """All counters to zero."""
        self._send("DELETE", "stats")

    def _send(self, method: str, what: str, body: object = None) -> httpx.Response:
        with httpx.Client(verify=False, trust_env=False, timeout=10) as client:  # noqa: S501 - plain HTTP on loopback
            return client.request(method, f"{self.url}/_control/{what}", json=body).raise_for_status()
