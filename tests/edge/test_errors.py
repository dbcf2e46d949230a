"""What an unusable environment leaves in the log: a line for whoever looks after the process, not one a request."""

import json
import logging
from typing import Any

import pytest
import starlette.requests
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lib import Breakwater, GuardMiddleware
from lib.edge import errors
from tests.rig.door import client

pytestmark = pytest.mark.anyio
UNUSABLE = {"KV_REST_API_URL": "no-address-but-a-s3cret", "KV_REST_API_TOKEN": "s3cret"}


async def ok(request: starlette.requests.Request) -> Response:
    return Response()


def behind_the_guard(bw: Breakwater) -> ASGIApp:
    return GuardMiddleware(Starlette(routes=[Route("/api/x", ok)]), breakwater=bw, limit="1/minute")


def a_route(bw: Breakwater) -> ASGIApp:
    return bw.route(ok, limit="1/minute")


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was logged yet."""
    monkeypatch.setattr(errors, "_told", set())


@pytest.mark.parametrize("guarded", [behind_the_guard, a_route])
@pytest.mark.parametrize(
    ("environ", "named"),
    [({}, "KV_REST_API_URL: missing"), (UNUSABLE, "KV_REST_API_URL: must be")],
    ids=["none", "bad"],
)
async def test_unusable_settings_are_logged_once(
    guarded: Any, environ: dict[str, str], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As an error that names the variable and shows no value, which a server shows without any setting up."""
    bw = Breakwater.from_env(environ)
    with caplog.at_level(logging.WARNING, "breakwater"):
        async with client(guarded(bw)) as http:
            replies = [await http.get("/api/x") for _ in range(3)]
    assert [(each.status_code, each.json()["code"]) for each in replies] == [(500, "misconfigured")] * 3
    (record,) = caplog.records
    told = json.loads(record.getMessage())
    assert (record.levelno, told["event"], told["level"]) == (logging.ERROR, "misconfigured", "error")
    assert named in told["faults"]
    assert "s3cret" not in record.getMessage()


async def test_other_faults_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    """Another environment of the same process has a line of its own."""
    for environ in ({}, UNUSABLE, {}):
        async with client(a_route(Breakwater.from_env(environ))) as http:
            await http.get("/api/x")
    errors_told = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors_told) == 2
