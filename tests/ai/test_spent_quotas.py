"""A provider's own quota that is spent, as clients are told of it while its circuit rests."""

import pytest

from lib.ai.providers.port import Kind, ProviderFailed
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit

pytestmark = pytest.mark.anyio

SUPERVISOR, CHAT = "/api/ai/supervisor", "/api/v1/chat/completions"


def question(number: int) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}


@pytest.mark.parametrize(
    ("kind", "said_s", "status", "told_s"),
    [
        pytest.param("throttled", 37, 429, 37, id="throttled, frees soon"),
        pytest.param("throttled", 601, 429, 600, id="throttled, longer than is believed"),
        pytest.param("throttled", 9_999_999, 429, 600, id="throttled for ever"),
        pytest.param("quota", 500, 429, 500, id="quota, frees soon"),
        pytest.param("quota", 7_200, 402, 7_200, id="quota, frees later"),
        pytest.param("quota", 9_999_999, 402, 86_400, id="a daily quota for ever"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_who_comes_after_a_429_is_told_the_same(
    k: Kit, kind: Kind, said_s: int, status: int, told_s: int, stream: bool
) -> None:
    """The first one is told by the provider's failure, the next one by its circuit; the provider is asked once.

    Its word is believed for ten minutes at most, and for a day where it names a day's quota.
    """
    provider = FakeProvider(fails=ProviderFailed(kind, "429", status=429, rests_s=said_s))
    made = k.instance(provider)
    for number in range(2):
        reply = await made.http.post(CHAT, json={**question(number), "stream": stream})
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, "backend_throttled")
        assert reply.headers["x-should-retry"] == "false"
        assert int(reply.headers["retry-after"]) == told_s
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
