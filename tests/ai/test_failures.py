"""Failures that are remembered under ``/api/v1``, where SDKs repeat what failed at once."""

import gc
import weakref
from typing import Any

import httpx
import pytest

from lib.ai.failures import Failures
from lib.ai.providers.port import Kind, ProviderFailed, Told
from lib.base.events import RequestDone
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.edge.problems import Problem
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

CHAT = "/api/v1/chat/completions"


async def ask(made: Instance, query: str = "q", **headers_and_body: Any) -> httpx.Response:
    """One question by one caller."""
    headers = {k.replace("_", "-"): v for k, v in headers_and_body.items() if k[0].isupper()}
    body = {k: v for k, v in headers_and_body.items() if not k[0].isupper()}
    messages = [{"role": "user", "content": query}]
    return await made.http.post(CHAT, json={"model": "m", "messages": messages, **body}, headers=headers)


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider(fails=ProviderFailed("server", "HTTP 500"))


@pytest.fixture
def made(k: Kit, provider: FakeProvider) -> Instance:
    return k.instance(provider, limits="off")


@pytest.mark.parametrize(
    ("kind", "status"),
    [("server", 502), ("connection", 502), ("protocol", 502), ("too_large", 502), ("empty", 502), ("timeout", 504)],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_remembered(
    made: Instance, provider: FakeProvider, kind: Kind, status: int, *, stream: bool
) -> None:
    """The repetitions of the next ten seconds reach no provider and cost no command; the eleventh second asks again."""
    provider.fails = ProviderFailed(kind, "as told")
    first = await ask(made, stream=stream)
    sent = len(made.sent)
    repeated = [await ask(made, stream=stream) for _ in range(6)]
    assert {(each.status_code, each.json()["error"]["code"]) for each in [first, *repeated]} == {
        (status, first.json()["error"]["code"])
    }
    assert all(each.headers["x-should-retry"] == "false" for each in [first, *repeated])
    assert (provider.asked, len(made.sent)) == (1, sent)
    assert [each.decision for each in made.seen(RequestDone)] == ["fail"] * 7


async def test_that_others_rest_is_remembered(k: Kit) -> None:
    """One provider cannot do it, the other one rests: the first is not asked with each repetition."""
    unable = FakeProvider(fails=ProviderFailed("unsupported", "HTTP 400", status=400, told=Told("no pictures here")))
    resting = FakeProvider()
    k.server.set(keys.circuit(resting.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 60_000)))
    made = k.instance(unable, resting, limits="off")
    replies = [await ask(made) for _ in range(3)]
    assert {(each.status_code, each.json()["error"]["code"]) for each in replies} == {(503, "circuit_open")}
    assert (unable.asked, resting.asked) == (1, 0)


async def test_what_is_refused_without_asking_is_decided_again(k: Kit) -> None:
    """A circuit may close at any time."""
    provider = FakeProvider()
    k.server.set(keys.circuit(provider.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 60_000)))
    made = k.instance(provider, limits="off")
    assert (await ask(made)).status_code == 503
    k.server.delete(keys.circuit(provider.name))
    assert (await ask(made)).status_code == 200


async def test_it_is_forgotten(k: Kit, made: Instance, provider: FakeProvider) -> None:
    """After ten seconds the provider is asked again, whatever it was repeated meanwhile."""
    await ask(made)
    k.later(9_999)
    assert (await ask(made)).status_code == 502
    assert provider.asked == 1
    k.later(1)
    provider.fails = None
    assert (await ask(made)).status_code == 200
    assert provider.asked == 2


async def test_other_requests_are_asked(made: Instance, provider: FakeProvider) -> None:
    """It belongs to one caller's one question."""
    await ask(made)
    provider.fails = None
    assert (await ask(made, "another")).status_code == 200
    assert (await ask(made, temperature=0.5)).status_code == 200
    assert (await ask(made)).status_code == 502


async def test_what_was_kept_is_asked_for(made: Instance) -> None:
    """Whoever wants a stored answer only is told that there is none."""
    await ask(made)
    reply = await ask(made, Cache_Control="only-if-cached")
    assert reply.json()["error"]["code"] == "not_cached"


async def test_what_the_caller_can_mend_is_not_remembered(made: Instance, provider: FakeProvider) -> None:
    """A question that was refused is asked again: no client repeats a 400 by itself."""
    provider.fails = ProviderFailed("rejected", "HTTP 400")
    assert [(await ask(made)).status_code for _ in range(2)] == [400, 400]
    assert provider.asked == 2


async def test_the_supervisor_remembers_none(made: Instance, provider: FakeProvider) -> None:
    """Its clients repeat nothing."""
    for _ in range(2):
        assert (await made.http.post("/api/ai/supervisor", json={"query": "q"})).status_code == 502
    assert provider.asked == 2


def failed(code: str, retry_after_s: int | None = None) -> Problem:
    return Problem(code, "It failed.", retry_after_s)


@pytest.mark.parametrize(("wait_s", "told"), [(1, [1, None, None]), (5, [5, 1, None]), (60, [60, 56, None])])
def test_no_longer_than_it_was_told_to_wait(wait_s: int, told: list[int | None]) -> None:
    """``Retry-After`` counts down, and when it is over the provider is asked."""
    failures = Failures()
    failures.note("k", failed("backend_throttled", wait_s), 1_000)
    found: list[int | None] = []
    for now_ms in (1_000, 5_500, 11_000):
        try:
            failures.check("k", now_ms)
            found.append(None)
        except Problem as problem:
            found.append(problem.retry_after_s)
    assert found == told


class Held:
    """A request with all that hangs on it."""

    async def finish(self) -> None:
        """What is left to do."""


def test_nothing_of_the_request_is_kept() -> None:
    """What it has left to do holds all of it: a thousand with pictures would fill the instance's memory."""
    failures = Failures()

    def fail() -> weakref.ref[Held]:
        held = Held()
        failures.note("k", Problem("backend_failed", "It failed.", after=held.finish), 0)
        return weakref.ref(held)

    held = fail()
    gc.collect()
    assert held() is None
    with pytest.raises(Problem):
        failures.check("k", 1)


def test_a_thousand_are_remembered() -> None:
    """The oldest goes first."""
    failures = Failures()
    for number in range(1_001):
        failures.note(f"k{number}", failed("backend_failed"), 0)
    failures.check("k0", 1)
    with pytest.raises(Problem):
        failures.check("k1", 1)


def test_a_clock_that_is_set_back() -> None:
    """Nothing is remembered for longer because of it."""
    failures = Failures()
    failures.note("k", failed("backend_failed"), 100_000)
    failures.check("k", 50_000)
