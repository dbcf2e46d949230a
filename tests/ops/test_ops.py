"""One function for several paths: the rewrites of vercel.json and the function's own table name the same ones."""

import json
from pathlib import Path

import pytest

from api.ops import ROUTES
from lib.base.events import RequestDone
from tests.rig.instance import ADMIN
from tests.rig.ledger import World

pytestmark = pytest.mark.anyio


async def test_rewrites_lead_to_what_is_served() -> None:
    """Every path of the function is led to it, and no other path is."""
    rewrites = json.loads((Path(__file__).parents[2] / "vercel.json").read_text())["rewrites"]
    assert {each["source"] for each in rewrites if each["destination"] == "/api/ops"} == set(ROUTES)


async def test_its_own_path_is_no_route(world: World) -> None:
    """At the function's own path nothing is served, whoever asks; it costs nothing and is logged."""
    one = world.instance()
    world.forget_counts()
    for path in ("/api/ops", "/api/ops/", "/api%2Fmetrics", "/api/metrics/x"):
        reply = await one.http.get(path, headers=ADMIN)
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
    assert world.billed() == {}
    assert [done.status for done in one.seen(RequestDone)] == [404] * 4
