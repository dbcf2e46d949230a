"""What the chain learns of providers: a field that one does not have is not sent there for a while."""

import pytest

from lib.ai.providers.port import ProviderFailed, Told
from lib.breaker.circuit import Circuit
from tests.rig.ai import FakeProvider, Kit
from tests.rig.gateway import CHAT
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio


def refusal(param: str | None, code: str | None = "unsupported_parameter") -> ProviderFailed:
    return ProviderFailed("unsupported", "HTTP 400", status=400, told=Told("No.", param, code))


async def attempts(made: Instance, number: int, **more: object) -> str:
    """Who was asked for a question of its own."""
    messages = [{"role": "user", "content": f"question {number}"}]
    reply = await made.http.post(CHAT, json={"model": "m", "messages": messages, **more})
    return reply.headers.get("x-attempts", "") or str(reply.json()["error"]["code"])


async def test_for_ten_minutes(k: Kit) -> None:
    """Then it is sent there again: providers learn, too."""
    first, second = FakeProvider(fails=refusal("seed")), FakeProvider()
    made = k.instance(first, second, limits="off")
    assert await attempts(made, 1, seed=1) == f"{first.name};unsupported, {second.name};answered"
    k.later(599_999)
    assert await attempts(made, 2, seed=1) == f"{first.name};cannot:seed, {second.name};answered"
    assert first.asked == 1
    k.later(1)
    assert await attempts(made, 3, seed=1) == f"{first.name};unsupported, {second.name};answered"


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(refusal("messages"), id="messages"),
        pytest.param(refusal("model"), id="the model"),
        pytest.param(refusal("top_k"), id="a field that was not sent"),
        pytest.param(refusal(None), id="no field"),
        pytest.param(refusal("seed", "unsupported_value"), id="a value"),
    ],
)
async def test_what_is_not_learned(k: Kit, told: ProviderFailed) -> None:
    """What every request has, what this one had not, and a field that is there with other values."""
    first, second = FakeProvider(fails=told), FakeProvider()
    made = k.instance(first, second, limits="off")
    for number in range(2):
        assert await attempts(made, number, seed=1) == f"{first.name};unsupported, {second.name};answered"
    assert first.asked == 2


async def test_it_is_free(k: Kit) -> None:
    """However often somebody is told so, the provider's circuit stays closed, and others are served by it."""
    provider = FakeProvider(fails=refusal("seed"), poison="question")
    made = k.instance(provider, limits="off")
    for number in range(5):
        await attempts(made, number, seed=number, **{f"field_{number}": 1})
    assert made.chain.breakers[0].circuits.known(provider.name) == Circuit()
    provider.fails = None
    assert await attempts(made, 9) == f"{provider.name};answered"
