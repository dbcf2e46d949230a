"""Two requests that differ in anything that a provider sees have two keys; what it does not see makes none."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lib.ai.providers.cloud_run import body_for
from lib.ai.providers.dialects import DIALECTS
from lib.ai.providers.port import ProviderFailed
from lib.ai.providers.requests import body_of
from lib.ai.question import BESIDE_THE_ANSWER, FOR_RECORDS, AnyQuestion, ChatRequest, Message, Question, hash_of

NAMES = st.sampled_from(
    [
        *("seed", "n", "temperature", "tools", "user", "stop", "max_tokens", "max_completion_tokens", "random_seed"),
        *("response_format", "reasoning_effort", "logprobs", "service_tier", "top_k", "stream", "stream_options", "x"),
        *BESIDE_THE_ANSWER,
        *FOR_RECORDS,
    ]
)
TEXTS = st.text(max_size=8) | st.sampled_from(["a b", "a  b", "A b", "a\tb", "é", "e\u0301", "x²", " x", "x\n"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
PARTS = st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}) | st.fixed_dictionaries(
    {"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": TEXTS}, optional={"detail": TEXTS})}
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={
        "content": st.none() | TEXTS | st.lists(PARTS, max_size=2),
        "name": TEXTS,
        "tool_call_id": TEXTS,
        "reasoning_content": TEXTS,
        "tool_calls": st.lists(st.fixed_dictionaries({"id": TEXTS, "extra_content": JSON}), max_size=2),
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A request as a client might send it."""
    fields = draw(st.dictionaries(NAMES, JSON, max_size=4))
    return {"model": "m", "messages": draw(st.lists(MESSAGES, min_size=1, max_size=3)), **fields}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers within a value, each with one of its keys or indexes."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two requests: the second is the first, changed in one place."""
    one = draw(bodies())
    other = copy.deepcopy(one)
    held, key = draw(st.sampled_from(list(places(other))))
    match draw(st.sampled_from(["another", "a letter", "gone", "more"])):
        case "gone" if key not in ("model", "messages", "role") and held != other["messages"]:
            del held[key]
        case "more" if isinstance(held, dict):
            held[draw(TEXTS)] = draw(JSON)
        case "a letter" if isinstance(held[key], str):
            at = draw(st.integers(0, len(held[key])))
            held[key] = held[key][:at] + draw(st.sampled_from([" ", "\n", "\u00a0", "a", "\u0301"])) + held[key][at:]
        case _ if key not in ("messages", "role") and not (isinstance(held, list) and isinstance(held[key], dict)):
            held[key] = draw(JSON)
    return one, other


def as_text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def seen_by(question: AnyQuestion) -> dict[str, str]:
    """What each kind of provider is sent, but for what no answer depends on."""
    found = {"cloud-run": as_text(body_for(question))}
    for name, dialect in DIALECTS.items():
        try:
            body = body_of(question, "m", dialect, (), stream=False)
        except ProviderFailed:
            continue
        found[name] = as_text({each: value for each, value in body.items() if each not in BESIDE_THE_ANSWER})
    return found


def key(question: AnyQuestion) -> str:
    return hash_of("v1/chat/completions", "u-1", question)


@given(pairs())
def test_what_a_provider_sees_makes_the_key(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """CASE 26: wherever they differ, by one letter or one member, in whatever field."""
    one, other = (ChatRequest("s", body) for body in pair)
    if seen_by(one) != seen_by(other):
        assert key(one) != key(other)
    if as_text(dict(one.seen)) == as_text(dict(other.seen)):
        assert key(one) == key(other)


UNSEEN = st.dictionaries(st.sampled_from(["stream", "stream_options", *BESIDE_THE_ANSWER]), JSON)
LABELS = st.dictionaries(st.just("metadata"), JSON)


@given(bodies(), UNSEEN, LABELS, st.randoms(use_true_random=False))
def test_what_no_provider_sees_makes_no_key(
    body: dict[str, Any], unseen: dict[str, Any], labels: dict[str, Any], random: Any
) -> None:
    """CASE 26: nor does the order of its fields, or what no answer depends on."""
    plain = {name: value for name, value in body.items() if name not in (*FOR_RECORDS, *UNSEEN_NAMES)}
    names = [*(plain | unseen | labels).items()]
    random.shuffle(names)
    assert key(ChatRequest("s", dict(names))) == key(ChatRequest("s", plain))


UNSEEN_NAMES = ("stream", "stream_options", *BESIDE_THE_ANSWER)
QUESTIONS = st.builds(
    lambda messages, parameters: Question("s", (*messages, Message("user", "q")), parameters),
    st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXTS), max_size=2),
    st.dictionaries(st.sampled_from(["temperature", "topP", "maxTokens", "stop", "x"]), JSON, max_size=3),
)


@given(QUESTIONS, QUESTIONS)
def test_the_supervisors_questions(one: Question, other: Question) -> None:
    """CASE 26: the same of its texts and parameters."""
    same = [as_text([[turn.role, turn.content] for turn in each.messages] + [each.parameters]) for each in (one, other)]
    assert (key(one) == key(other)) is (same[0] == same[1])
    if seen_by(one) != seen_by(other):
        assert key(one) != key(other)
