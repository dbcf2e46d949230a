"""What reaches a provider makes the cache key, and nothing else does."""

import pytest

from tests.rig.gateway import Gateway, Gateways

pytestmark = pytest.mark.anyio


async def test_what_does_not_reach_the_provider_makes_no_key(gateway: Gateway) -> None:
    """Labels share an answer, another seed does not; a call of which a record is kept is made in any case."""
    assert (await gateway.chat(metadata={"trace": "a"})).headers["x-cache"] == "MISS"
    assert "metadata" not in gateway.sent
    assert (await gateway.chat(metadata={"trace": "b"})).headers["x-cache"] == "HIT"
    assert (await gateway.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await gateway.chat(seed=2)).headers["x-cache"] == "MISS"
    for _ in range(2):
        assert (await gateway.chat(store=True, metadata={"trace": "a"})).headers["x-cache"] == "BYPASS"
    assert gateway.sent["metadata"] == {"trace": "a"}


async def test_what_no_provider_is_sent_makes_no_key(gateways: Gateways) -> None:
    """A field that the settings leave out everywhere; where one provider gets it, it does."""
    made = gateways(OPENAI_OMIT="seed")
    assert (await made.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await made.chat(seed=2)).headers["x-cache"] == "HIT"
    assert "seed" not in made.sent
    both = gateways.two(OPENAI_OMIT="seed")
    assert (await both.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await both.chat(seed=2)).headers["x-cache"] == "MISS"
