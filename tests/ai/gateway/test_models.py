"""The models that clients name."""

import pytest

from dev.scenes import MODEL
from tests.rig.gateway import Gateways, events

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("named", "providers", "model"),
    [
        pytest.param("groq/llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile", id="provider and model"),
        pytest.param("llama-3.1-8b-instant", "groq", "llama-3.1-8b-instant", id="a further model"),
        pytest.param(MODEL, "openai", MODEL, id="the first provider's own"),
        pytest.param("gpt-4o", "openai", MODEL, id="none that is configured"),
        pytest.param("groq/unknown", "openai", MODEL, id="none of that provider"),
        pytest.param("supervisor", "openai", MODEL, id="the default"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_model_that_a_client_names(
    gateways: Gateways, named: str, providers: str, model: str, stream: bool
) -> None:
    """It is used where it is configured, the chain's own otherwise."""
    made = gateways.two(
        GROQ_MODEL="llama-3.3-70b-versatile,llama-3.1-8b-instant",
    )
    reply = await made.chat(model=named, stream=stream)
    told = events(reply)[0] if stream else reply.json()
    assert told["x_breakwater"]["provider"] == providers
    asked = made.other if providers == "groq" else made.scripted
    assert [each["model"] for each in asked.seen] == [model]


async def test_names_for_models(gateways: Gateways) -> None:
    """``AI_MODELS`` restricts and renames; two names of one model share its answers; another name is refused."""
    made = gateways.two(
        AI_MODELS="fast=groq/llama-3.3-70b-versatile,quick=llama-3.3-70b-versatile",
    )
    assert (await made.chat(model="fast")).headers["x-attempts"] == "groq;answered"
    assert (await made.chat(model="quick")).headers["x-cache"] == "HIT"
    assert (await made.chat(model="supervisor")).headers["x-attempts"] == "openai;answered"
    refused = await made.chat(model="gpt-4o")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
