"""What reaches a provider makes the cache key, and nothing else does."""

from typing import Any

import pytest

from tests.ai.gateway.test_requests import FIELDS
from tests.rig.callers import a_caller
from tests.rig.gateway import IMAGE, Gateway, Gateways

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
    for _ in range(2):
        # OpenRouter's: what they find on the web is of this moment.
        assert (await gateway.chat(plugins=[{"id": "web"}])).headers["x-cache"] == "BYPASS"
    assert gateway.sent["plugins"] == [{"id": "web"}]


ASKED = {"role": "user", "content": "scene: text"}


@pytest.mark.parametrize(
    ("more", "shared"),
    [
        pytest.param({}, True, id="a question"),
        pytest.param({"messages": [{"role": "user", "content": "scene: text", "name": "ann"}]}, False, id="a name"),
        pytest.param({"messages": [{"role": "system", "name": "ann"}, ASKED]}, False, id="a name of another"),
        pytest.param({"messages": [{"role": "system", "content": "Be brief."}, ASKED]}, True, id="instructions"),
        pytest.param({"messages": [{"role": "user", "content": [IMAGE]}]}, False, id="a picture"),
        pytest.param({"tools": FIELDS["tools"]}, False, id="tools"),
        pytest.param({"user": "ann"}, False, id="a user"),
        pytest.param({"response_format": {"type": "json_object"}, "seed": 1}, True, id="parameters"),
    ],
)
async def test_what_is_shared(gateways: Gateways, more: dict[str, Any], shared: bool) -> None:
    """CASE 26: with ``CACHE_SCOPE=shared``, what tells nothing of one user."""
    made = gateways(CACHE_SCOPE="shared")
    first, second = await made.chat(**more), await made.chat(headers={"x-forwarded-for": a_caller()}, **more)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT" if shared else "MISS")


async def test_what_no_provider_is_sent_makes_no_key(gateways: Gateways) -> None:
    """A field that the settings leave out everywhere; where one provider gets it, it does."""
    made = gateways(OPENAI_OMIT="seed")
    assert (await made.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await made.chat(seed=2)).headers["x-cache"] == "HIT"
    assert "seed" not in made.sent
    both = gateways.two(OPENAI_OMIT="seed")
    assert (await both.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await both.chat(seed=2)).headers["x-cache"] == "MISS"
