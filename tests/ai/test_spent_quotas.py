"""A provider's own quota that is spent, as clients are told of it while its circuit rests."""

import pytest

from lib.ai.providers.port import ProviderFailed
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit

pytestmark = pytest.mark.anyio

SUPERVISOR, CHAT = "/api/ai/supervisor", "/api/v1/chat/completions"


def question(number: int) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        pytest.param(ProviderFailed("throttled", "429", status=429, rests_s=37), 429, id="throttled, frees soon"),
        pytest.param(ProviderFailed("quota", "429", status=429, rests_s=500), 429, id="quota, frees soon"),
        pytest.param(ProviderFailed("quota", "429", status=429, rests_s=7_200), 402, id="quota, frees later"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_who_comes_after_a_429_is_told_the_same(
    k: Kit, failure: ProviderFailed, status: int, stream: bool
) -> None:
    """The first one is told by the provider's failure, the next one by its circuit; the provider is asked once."""
    provider = FakeProvider(fails=failure)
    made = k.instance(provider)
    for number in range(2):
        reply = await made.http.post(CHAT, json={**question(number), "stream": stream})
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, "backend_throttled")
        assert reply.headers["x-should-retry"] == "false"
        assert int(reply.headers["retry-after"]) == failure.rests_s
    assert "has no capacity left" in reply.json()["error"]["message"]
    told = await made.http.post(SUPERVISOR, json={"query": "another"})
    assert (told.status_code, told.json()["code"]) == (503, "circuit_open")
    assert provider.asked == 1


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("used_up", 429, "backend_throttled"),
        ("timeout", 503, "circuit_open"),
        ("connection", 503, "circuit_open"),
        ("", 503, "circuit_open"),
    ],
)
async def test_why_a_circuit_rests_makes_the_status(k: Kit, reason: str, status: int, code: str) -> None:
    """What a provider has said of its quota is a quota; an outage is an outage."""
    provider = FakeProvider()
    circuit = Circuit("open", 1, until_ms=k.time.ms + 60_000, reason=reason)
    k.server.set(keys.circuit(provider.name), stored.dump(circuit))
    reply = await k.instance(provider).http.post(CHAT, json=question(1))
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert (reply.headers["x-should-retry"], reply.headers["retry-after"]) == ("false", "60")
