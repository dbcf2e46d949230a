"""What an answer cost: tokens as replies tell them, and AI_PRICES."""

from typing import Any

import pytest

from lib.ai.answers import Answer, AnswerCodec
from lib.ai.completions import cost_in
from lib.ai.prices import parse_prices
from lib.base.cost import Cost


def used(given: object, came: object, **more: object) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": given, "completion_tokens": came, **more}}


@pytest.mark.parametrize(
    ("reply", "cost"),
    [
        pytest.param(used(11, 7, total_tokens=18), Cost(11, 7), id="plain"),
        pytest.param(used(9, 7, prompt_tokens_details={"cached_tokens": 8}), Cost(9, 7, 8), id="OpenAI's cached input"),
        pytest.param(used(9, 7, prompt_cache_hit_tokens=4), Cost(9, 7, 4), id="DeepSeek's"),
        pytest.param(used(10, 7, total_tokens=117), Cost(10, 107), id="thinking"),
        pytest.param({"x_groq": used(3, 2)}, Cost(3, 2), id="Groq's stream"),
        pytest.param(used(3, 2, prompt_cache_hit_tokens=9), Cost(3, 2, 3), id="more cached than went in"),
        pytest.param({}, None, id="none"),
        pytest.param({"usage": None}, None, id="null"),
        pytest.param({"usage": {"total_tokens": 18}}, None, id="a total alone"),
        pytest.param(used("11", 7), None, id="a text"),
        pytest.param(used(-1, 7), None, id="below zero"),
        pytest.param({"usage": [1]}, None, id="a list"),
    ],
)
def test_what_a_reply_tells(reply: dict[str, Any], cost: Cost | None) -> None:
    """What went in and what came out; nothing is made up where a reply does not tell both."""
    assert cost_in(reply) == cost


PRICES = parse_prices("groq=0.05/0.08, openai=1/2, openai/gpt-4o=2.5/10/1.25, openai/gpt-4o-mini=0.15/0.60/0.075")


@pytest.mark.parametrize(
    ("provider", "model", "tokens_in"),
    [
        pytest.param("groq", "llama-3.3-70b-versatile", 0.05, id="a provider's"),
        pytest.param("openai", "gpt-4o-mini", 0.15, id="a model's"),
        pytest.param("openai", "gpt-4o-mini-2024-07-18", 0.15, id="a model's with its date"),
        pytest.param("openai", "gpt-4o-2024-11-20", 2.5, id="another one's with its date"),
        pytest.param("openai", "gpt-4o-nano", 1, id="a model that begins alike"),
        pytest.param("gemini", "gemini-2.5-flash", None, id="none"),
    ],
)
def test_which_price(provider: str, model: str, tokens_in: float | None) -> None:
    """The most precise one."""
    found = PRICES.find(provider, model)
    assert (found.tokens_in if found else None) == tokens_in


@pytest.mark.parametrize(
    ("provider", "model", "cost", "micros"),
    [
        pytest.param("openai", "gpt-4o-mini", Cost(1_000, 500, 600), 405, id="cached input"),
        pytest.param("groq", "m", Cost(1_000, 500, 600), 90, id="cached input at no price of its own"),
        pytest.param("openai", "gpt-4o", Cost(2_000_000, 0), 5_000_000, id="in the currency's millionths"),
        pytest.param("openai", "gpt-4o", Cost(0, 0), 0, id="nothing"),
        pytest.param("gemini", "m", Cost(9, 9), None, id="without a price"),
    ],
)
def test_what_it_comes_to(provider: str, model: str, cost: Cost, micros: int | None) -> None:
    """By the million tokens."""
    priced = PRICES.priced(provider, model, cost)
    assert priced == Cost(cost.tokens_in, cost.tokens_out, cost.tokens_cached, micros)


@pytest.mark.parametrize(
    "text",
    ["groq", "groq=", "groq=1", "groq=1/2/3/4", "groq=a/b", "groq=-1/2", "groq=1e3/2", "groq=inf/1", "gorq=1/2", "=1/2",
     "groq=1/2;openai=1/2", "groq=1/2,groq=1/2", "/m=1/2", "groq=1,2", "groq=nan/1"],
)  # fmt: skip
def test_what_is_no_price(text: str) -> None:
    """It is said what to write, or which names there are."""
    with pytest.raises(ValueError, match="must"):
        parse_prices(text)


@pytest.mark.parametrize("cost", [None, Cost(1, 2), Cost(1, 2, 1, 3), Cost(0, 0, 0, 0)])
def test_it_is_kept_with_the_answer(cost: Cost | None) -> None:
    """What a kept answer had cost is known without reading it."""
    answer = Answer('{"choices": []}', "m", "groq", 3, 5, cost)
    assert AnswerCodec().load(AnswerCodec().dump(answer)) == answer
