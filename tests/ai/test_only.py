"""X-Guard-Provider: an operator asks one provider, and no other is called."""

import pytest

from tests.rig.instance import ADMIN
from tests.rig.ledger import World

pytestmark = pytest.mark.anyio


async def test_the_named_provider_alone_is_called(world: World) -> None:
    """It answers; where it fails nobody else is called, and its failure counts in its circuit."""
    one = world.instance(GEMINI_API_KEY="k")
    reply = await one.ask(X_Guard_Provider="cloud-run", Authorization=ADMIN["authorization"])
    assert (reply.status_code, reply.json()["provider"], reply.headers["x-cache"]) == (200, "cloud-run", "MISS")
    world.outside.fails = True
    failed = await one.ask("another", X_Guard_Provider="cloud-run", Authorization=ADMIN["authorization"])
    assert (failed.status_code, failed.headers["x-attempts"]) == (502, "cloud-run;server")
    for number in range(2):
        await one.ask(f"more {number}", X_Guard_Provider="cloud-run", Authorization=ADMIN["authorization"])
    # The chain knows what the chosen provider's failures say.
    assert "cloud-run" not in (await one.ask("of the chain")).headers.get("x-attempts", "")


async def test_its_answers_are_kept_apart(world: World) -> None:
    """The chain's answer does not stand for the provider's, nor the other way round; each is served again itself."""
    one = world.instance()
    chosen = {"X_Guard_Provider": "cloud-run", "Authorization": ADMIN["authorization"]}
    states = [(await one.ask(**headers)).headers["x-cache"] for headers in ({}, chosen, {}, chosen)]
    assert states == ["MISS", "MISS", "HIT", "HIT"]
    assert world.outside.asked == 2


async def test_its_answer_has_its_price(world: World) -> None:
    """As an answer of the chain has: an operator's calls cost the same."""
    world.outside.usage = {"promptTokens": 2_000_000, "completionTokens": 1_000_000}
    one = world.instance(AI_PRICES="cloud-run=1/2")
    chosen = {"X_Guard_Provider": "cloud-run", "Authorization": ADMIN["authorization"]}
    costs = [(await one.ask(**headers)).json()["cost"] for headers in ({}, chosen)]
    assert [each.get("amount") for each in costs] == [4.0, 4.0]


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}])
async def test_only_operators_may_choose(world: World, sent: dict[str, str]) -> None:
    """Without the token nothing is called."""
    reply = await world.instance().ask(X_Guard_Provider="cloud-run", **sent)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert world.outside.asked == 0


async def test_closed_without_a_token(world: World) -> None:
    """Where no ADMIN_TOKEN is set, nobody may choose."""
    reply = await world.instance(ADMIN_TOKEN=None).ask(X_Guard_Provider="cloud-run", Authorization="Bearer x")
    assert (reply.status_code, reply.json()["code"]) == (403, "closed")


async def test_a_name_that_nobody_has(world: World) -> None:
    """The reply names those that there are."""
    reply = await world.instance().ask(X_Guard_Provider="gemini", Authorization=ADMIN["authorization"])
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert reply.json()["detail"] == "X-Guard-Provider: there is no provider of this name; use one of cloud-run."
