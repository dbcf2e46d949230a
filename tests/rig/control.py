"""The control routes of a stand-in."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.rig.wire import Wire


@dataclass(frozen=True)
class Control:
    """The control routes of a stand-in (``dev.faults``)."""

    url: str
    wire: Wire | None = None
    """The way past the stand-in, by TCP, whose round trips are counted as well."""

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
        """Round trips so far."""
        return int(self.stats()["http_requests"]) + (self.wire.round_trips if self.wire else 0)

    def reset(self) -> None:
        """All counters to zero."""
        self._send("DELETE", "stats")
        if self.wire is not None:
            self.wire.round_trips = 0

    def _send(self, method: str, what: str, body: object = None) -> httpx.Response:
        with httpx.Client(verify=False, trust_env=False, timeout=10) as client:  # noqa: S501 - plain HTTP on loopback
            return client.request(method, f"{self.url}/_control/{what}", json=body).raise_for_status()
