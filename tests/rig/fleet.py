"""What the tests of the fleet share: reporters, their reports, and readers."""

import json
from collections.abc import Sequence
from typing import Any

import httpx

from lib.fleet.signature import header_of
from tests.rig.callers import a_caller
from tests.rig.door import an_instance
from tests.rig.guard import Rig
from tests.rig.instance import ADMIN, Instance

SECRETS = {"seoul": "secret-of-seoul-for-tests", "busan": "secret-of-busan-for-tests"}
TOKENS = ",".join(f"{name}={secret}" for name, secret in SECRETS.items())


def a_fleet(rig: Rig, **environ: str | None) -> Instance:
    """An instance that believes these reporters."""
    token = ADMIN["authorization"].removeprefix("Bearer ")
    return an_instance(rig, **{"ADMIN_TOKEN": token, "FLEET_TOKENS": TOKENS, **environ})


def server(called: str, **metrics: Any) -> dict[str, Any]:
    """One server of a report."""
    return {"id": called, "cpu": 12.5, "memory": 40.0, "disk": 61.2, "network": 3.25, **metrics}


def servers(count: int) -> list[dict[str, Any]]:
    """So many servers, with different figures."""
    return [
        server(f"server-{n:04}", cpu=n * 7 % 1000 / 10, memory=n * 13 % 1000 / 10, disk=n * 3 % 1000 / 10)
        for n in range(count)
    ]


async def report(
    instance: Instance,
    rig: Rig,
    named: Sequence[dict[str, Any]],
    *,
    reporter: str = "seoul",
    secret: str = "",
    sequence: int | None = None,
    at_ms: int | None = None,
) -> httpx.Response:
    """One report, now and in order unless a test says otherwise."""
    body = json.dumps({"sequence": rig.time.ms if sequence is None else sequence, "servers": list(named)}).encode()
    return await send(instance, rig, body, reporter=reporter, secret=secret, at_ms=at_ms)


async def send(
    instance: Instance, rig: Rig, body: bytes, *, reporter: str = "seoul", secret: str = "", at_ms: int | None = None
) -> httpx.Response:
    """Any body, signed."""
    at_s = (rig.time.ms if at_ms is None else at_ms) // 1000
    header = header_of(secret or SECRETS[reporter], reporter, at_s, body)
    return await instance.http.post(
        "/api/servers/report",
        content=body,
        headers={"authorization": header, "content-type": "application/json", "x-forwarded-for": a_caller()},
    )


async def look(instance: Instance, path: str = "/api/dashboard", **headers: str) -> httpx.Response:
    """Read with the token, as somebody new."""
    return await instance.http.get(path, headers={"x-forwarded-for": a_caller(), **ADMIN, **headers})
