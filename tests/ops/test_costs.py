"""What answers cost and what the cache saves: in replies, in the ledger, on the overview and in metrics."""

import json
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lib.base.events import RequestDone
from tests.rig.guard import Rig
from tests.rig.instance import ADMIN, Instance
from tests.rig.ledger import World

pytestmark = pytest.mark.anyio

PRICED = {"AI_PRICES": "cloud-run=2/10/1"}
USED = {"promptTokens": 1_000, "completionTokens": 500}
COST = {"tokensIn": 1_000, "tokensOut": 500, "tokensCached": 0, "amount": 0.007}


async def costs(made: Instance) -> dict[str, Any]:
    """What the overview says of the backend."""
    (found,) = (await made.overview())["costs"]
    return dict(found)


async def test_a_computed_answer_and_a_kept_one(world: World) -> None:
    """The first says what it cost, the second what that saved; both are counted, over all instances."""
    world.outside.usage = USED
    one, two = world.instance(**PRICED), world.instance(**PRICED)
    first = (await one.ask("q")).json()
    assert (first["cost"], "saved" in first) == (COST, False)
    kept = (await two.ask("q")).json()
    assert (kept["saved"]["cost"], "cost" in kept) == (COST, False)
    await two.ask("another")
    for each in (one, two):
        await each.parts.ledger.settle(1)
    assert await costs(world.instance(**PRICED)) == {
        "provider": "cloud-run",
        "tokensIn": 2_000, "tokensOut": 1_000, "tokensCached": 0, "amount": 0.014,
        "savedTokensIn": 1_000, "savedTokensOut": 500, "savedTokensCached": 0, "savedAmount": 0.007,
    }  # fmt: skip
    assert [done.saved is not None for made in (one, two) for done in made.seen(RequestDone)] == [False, True, False]


async def test_without_a_price(world: World) -> None:
    """Tokens are counted, and no amount is made up."""
    world.outside.usage = USED
    made = world.instance()
    reply = (await made.ask("q")).json()
    assert reply["cost"] == {"tokensIn": 1_000, "tokensOut": 500, "tokensCached": 0}
    found = await costs(made)
    assert (found["tokensIn"], found["amount"], found["savedAmount"]) == (1_000, None, None)


async def test_a_backend_that_tells_no_usage(world: World) -> None:
    """Nothing is said, and nothing is counted."""
    made = world.instance(**PRICED)
    for kept in (False, True):
        reply = (await made.ask("q")).json()
        assert "cost" not in (reply["saved"] if kept else reply)
    assert (await costs(made))["tokensIn"] == 0


async def test_without_redis_it_is_unknown(world: World) -> None:
    """Not 0."""
    world.outside.usage = USED
    made = world.instance(**PRICED)
    world.redis_down()
    await made.ask("q")
    found = await costs(made)
    assert {value for name, value in found.items() if name != "provider"} == {None}


async def test_metrics(world: World) -> None:
    """Tokens and money by provider, spent and saved."""
    world.outside.usage = USED
    made = world.instance(**PRICED)
    for _ in range(3):
        await made.ask("q")
    await made.parts.ledger.close()
    text = (await made.http.get("/api/metrics", headers=ADMIN)).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("gen_ai_provider_name") == "cloud-run"
    }
    assert found["breakwater_input_tokens_total"] == 1_000
    assert found["breakwater_output_tokens_total"] == 500
    assert found["breakwater_cached_input_tokens_total"] == 0
    assert found["breakwater_cost_total"] == pytest.approx(0.007)
    assert found["breakwater_saved_input_tokens_total"] == 2_000
    assert found["breakwater_saved_output_tokens_total"] == 1_000
    assert found["breakwater_saved_cost_total"] == pytest.approx(0.014)


# ---------------------------------------------------------------- a provider of OpenAI's protocol

TOP = {"id": "c", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
USAGE = {
    "prompt_tokens": 1_000,
    "completion_tokens": 500,
    "total_tokens": 1_500,
    "prompt_tokens_details": {"cached_tokens": 600},
}
MESSAGE = {"role": "assistant", "content": "41 %"}
WHOLE = {
    **TOP,
    "object": "chat.completion",
    "usage": USAGE,
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
}
CHUNKS = (
    {
        **TOP,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": "stop"}],
    },
    {**TOP, "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
)
OPENAI_COST = {"tokensIn": 1_000, "tokensOut": 500, "tokensCached": 600, "amount": 0.000405}


def openai(rig: Rig) -> Instance:
    """An instance whose provider is the scripted server, with a price for its model."""
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": rig.script.url, "CLOUD_RUN_AI_URL": None}
    return rig.instance(**environ, AI_PRICES="openai/gpt-4o-mini=0.15/0.60/0.075")


async def chat(made: Instance, *, stream: bool = False) -> httpx.Response:
    body = {"model": "supervisor", "messages": [{"role": "user", "content": "q"}], "stream": stream}
    reply = await made.http.post("/api/v1/chat/completions", json=body, headers={"x-forwarded-for": "203.0.113.7"})
    assert reply.status_code == 200, reply.text
    return reply


async def test_a_chat_completion(rig: Rig) -> None:
    """By the model that answered, its cached input at a price of its own; ``usage`` stays the provider's."""
    made = openai(rig)
    rig.script.body = json.dumps(WHOLE).encode()
    first, kept = (await chat(made)).json(), (await chat(made)).json()
    assert first["x_breakwater"]["cost"] == kept["x_breakwater"]["saved"]["cost"] == OPENAI_COST
    assert first["usage"] == kept["usage"] == USAGE


async def test_a_chat_that_is_streamed(rig: Rig) -> None:
    """What it cost is known with its end and said in its last chunk; the kept answer says it, whole and streamed."""
    made = openai(rig)
    rig.script.headers = {"content-type": "text/event-stream"}
    rig.script.body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in CHUNKS) + b"data: [DONE]\n\n"
    first = (await chat(made, stream=True)).text.split("\n\n")
    # The client has not asked for the usage: the chunk with the finish reason is the last one that it gets.
    last = json.loads(first[-3].removeprefix("data: "))
    assert (last["choices"][0]["finish_reason"], first[-2]) == ("stop", "data: [DONE]")
    assert last["x_breakwater"]["cost"] == OPENAI_COST
    assert (await chat(made)).json()["x_breakwater"]["saved"]["cost"] == OPENAI_COST
    replayed = json.loads((await chat(made, stream=True)).text.partition("\n\n")[0].removeprefix("data: "))
    assert replayed["x_breakwater"]["saved"]["cost"] == OPENAI_COST


@pytest.mark.parametrize("priced", [True, False], ids=["priced", "no price"])
async def test_a_streamed_cost_is_said_once(rig: Rig, priced: bool) -> None:
    """In the last chunk, the usage's where the client wants it; without a price nothing is added."""
    made = (
        openai(rig)
        if priced
        else rig.instance(OPENAI_API_KEY="k", OPENAI_BASE_URL=rig.script.url, CLOUD_RUN_AI_URL=None)
    )
    rig.script.headers = {"content-type": "text/event-stream"}
    text = {**CHUNKS[0], "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": None}]}
    end = {**CHUNKS[0], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    chunks = (text, end, CHUNKS[1])
    rig.script.body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in chunks) + b"data: [DONE]\n\n"
    body = {
        "model": "supervisor", "messages": [{"role": "user", "content": "q"}],
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    reply = await made.http.post("/api/v1/chat/completions", json=body)
    found = [json.loads(each.removeprefix("data: ")) for each in reply.text.split("\n\n") if each.startswith("data: {")]
    told = [each.pop("x_breakwater", None) for each in found]
    assert found == list(chunks)
    assert (told[0]["provider"], "cost" in told[0]) == ("openai", False)
    assert told[1:] == [None, {"cost": OPENAI_COST} if priced else None]


async def test_a_chat_of_use_chat_says_it_at_its_end(rig: Rig) -> None:
    """In the metadata of the last event; a kept answer says in the first one what it had cost."""
    made = openai(rig)
    rig.script.headers = {"content-type": "text/event-stream"}
    rig.script.body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in CHUNKS) + b"data: [DONE]\n\n"
    body = {
        "messages": [{"role": "user", "parts": [{"type": "text", "text": "q"}]}],
        "id": "c",
        "trigger": "submit-message",
    }
    replies = [await made.http.post("/api/ai/supervisor", json=body) for _ in range(2)]
    events = [
        [json.loads(each.removeprefix("data: ")) for each in reply.text.split("\n\n") if each.startswith("data: {")]
        for reply in replies
    ]
    (computed,) = [each["messageMetadata"] for each in events[0] if each["type"] == "finish"]
    assert computed["cost"] == OPENAI_COST
    assert events[1][0]["messageMetadata"]["saved"]["cost"] == OPENAI_COST
    assert ["cost" in each["messageMetadata"] for each in events[1] if each["type"] == "finish"] == [False]
