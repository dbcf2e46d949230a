"""What breaks clients is mended on the way, and nothing else."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ai.completions import Joining
from lib.ai.mending import Mending, NoReply, mend, one_call_each


def delta(**fields: Any) -> dict[str, Any]:
    """A chunk of one choice."""
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("sent", "mended"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"type": "ping"}, None, id="a foreign event"),
        pytest.param({"choices": None, "usage": {}}, {"choices": [], "usage": {}}, id="choices null"),
        pytest.param({"choices": [{}]}, {"choices": [{"index": 0, "delta": {}}]}, id="no delta, no index"),
        pytest.param(
            {"choices": [{"delta": None}, {"delta": None}]},
            {"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]},
            id="two without index",
        ),
        pytest.param(
            {"choices": [{"index": 0, "message": {"content": "x"}}]},
            {"choices": [{"index": 0, "delta": {"content": "x"}}]},
            id="a message for a delta",
        ),
        pytest.param(
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "eos", "note": 1}], "extra": 2},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "eos", "note": 1}], "extra": 2},
            id="what is unknown stays",
        ),
    ],
)
def test_a_chunk_is_mended(sent: dict[str, Any], mended: dict[str, Any] | None) -> None:
    """What breaks clients, and nothing else."""
    assert Mending().chunk(sent) == mended


def test_tool_calls_are_numbered() -> None:
    """Without index: the same id is the same call, and what has no id goes on with the last."""
    mending = Mending()
    ids = ["a", None, "b", "b", "a", ""]
    chunks = [mending.chunk(delta(tool_calls=[{"id": each, "function": {}}])) for each in ids]
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks if chunk is not None]
    assert [call["index"] for call in calls] == [0, 0, 1, 1, 0, 1]
    assert [call.get("type") for call in calls] == ["function", None, "function", None, None, None]


def named(index: int, name: str, arguments: str = "{}") -> dict[str, Any]:
    """The beginning of a call."""
    return {"index": index, "id": name, "function": {"name": "weather", "arguments": arguments}}


def goes_on(index: int, arguments: str, **ids: str) -> dict[str, Any]:
    """A further fragment of a call."""
    return {"index": index, **ids, "function": {"arguments": arguments}}


@pytest.mark.parametrize(
    ("sent", "made"),
    [
        pytest.param([[named(0, "a")], [named(0, "b")], [named(0, "c")]], ["a{}", "b{}", "c{}"], id="whole calls"),
        pytest.param([[named(0, "a"), named(0, "b")]], ["a{}", "b{}"], id="in one chunk"),
        pytest.param(
            [[named(0, "a", "")], [goes_on(0, "{}")], [named(0, "b", "")], [goes_on(0, "{"), goes_on(0, "}", id="")]],
            ["a{}", "b{}"],
            id="in fragments",
        ),
        pytest.param(
            [[named(0, "a")], [named(0, "b")], [named(1, "c", "{")], [goes_on(1, "}")]],
            ["a{}", "b{}", "c{}"],
            id="an index that was taken meanwhile",
        ),
        pytest.param(
            [[named(0, "a", "{")], [goes_on(0, "}", id="x")], [named(1, "b", "{")], [goes_on(1, "}", id="y")]],
            ["a{}", "b{}"],
            id="a new id with each fragment is no new call",
        ),
        pytest.param([[named(0, "a", "{")], [named(0, "a", "}")]], ["a{}"], id="the same id"),
    ],
)
def test_calls_that_have_the_same_index(sent: list[list[dict[str, Any]]], made: list[str]) -> None:
    """Ollama and several proxies number every call 0: clients would join them into one that cannot be read."""
    mending, joining = Mending(), Joining()
    for calls in sent:
        mended = mending.chunk(delta(tool_calls=copy.deepcopy(calls)))
        assert mended is not None
        for each in one_call_each(mended):
            joining.add(each)
    indexes = [call["index"] for each in joining.chunks for call in each["choices"][0]["delta"]["tool_calls"]]
    assert sorted(set(indexes)) == list(range(len(made)))
    text: dict[int, str] = {}
    for each in joining.chunks:
        for call in each["choices"][0]["delta"]["tool_calls"]:
            begun = call["id"] if call["index"] not in text else ""
            text[call["index"]] = text.get(call["index"], begun) + call["function"]["arguments"]
    assert [text[index] for index in sorted(text)] == made


def test_choices_number_their_calls_apart() -> None:
    """A call of the second choice moves none of the first."""
    mending = Mending()

    def chunk(index: int, name: str) -> int:
        mended = mending.chunk({"choices": [{"index": index, "delta": {"tool_calls": [named(0, name)]}}]})
        assert mended is not None
        return int(mended["choices"][0]["delta"]["tool_calls"][0]["index"])

    assert [chunk(0, "a"), chunk(1, "b"), chunk(1, "c"), chunk(0, "a"), chunk(0, "d")] == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("ids", [{}, {"id": ""}, {"id": None}], ids=["none", "empty", "null"])
def test_tool_calls_without_ids(ids: dict[str, Any]) -> None:
    """As Gemini has sent them: whatever names a function is a call of its own, in one chunk and in several."""
    calls = [{**ids, "function": {"name": name, "arguments": "{"}} for name in ("weather", "weather", "time")]
    mending, joining = Mending(), Joining()
    for chunk in (delta(tool_calls=calls[:2]), delta(tool_calls=[{"function": {"arguments": "}"}}, calls[2]])):
        mended = mending.chunk(copy.deepcopy(chunk))
        assert mended is not None
        joining.add(mended)
    whole = joining.whole()
    assert whole is not None
    found = [each["function"] for each in whole["choices"][0]["message"]["tool_calls"]]
    assert [(each["name"], each["arguments"]) for each in found] == [("weather", "{"), ("weather", "{}"), ("time", "{")]


@pytest.mark.parametrize(
    "value",
    [
        {"choices": "x"},
        {"choices": [None]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"tool_calls": "x"}}]},
        {"choices": [{"delta": {"tool_calls": [1]}}]},
    ],
    ids=["choices", "a choice", "a delta", "calls", "a call"],
)
def test_what_is_no_chunk(value: dict[str, Any]) -> None:
    """What is of another form altogether is not passed on."""
    with pytest.raises(NoReply):
        Mending().chunk(value)


@pytest.mark.parametrize("value", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": "x"}]}])
def test_what_is_no_reply(value: dict[str, Any]) -> None:
    """It has no message."""
    with pytest.raises(NoReply):
        mend(value)


CALLS = st.lists(
    st.fixed_dictionaries({"index": st.integers(0, 3), "function": st.fixed_dictionaries({"arguments": st.text()})}),
    max_size=4,
)
CHOICES = st.lists(
    st.fixed_dictionaries(
        {
            "index": st.integers(0, 2),
            "delta": st.fixed_dictionaries({}, optional={"tool_calls": st.none() | CALLS, "content": st.text()}),
            "finish_reason": st.none() | st.just("tool_calls"),
        },
        optional={"logprobs": st.none() | st.just({"content": [{"token": "a"}]})},
    ),
    max_size=3,
    unique_by=lambda choice: choice["index"],
)
CHUNKS = st.fixed_dictionaries({"id": st.just("c-1"), "choices": CHOICES}, optional={"usage": st.just({"total": 1})})


@given(CHUNKS)
def test_each_call_of_a_tool_is_a_chunk(chunk: dict[str, Any]) -> None:
    """Of several choices, too: they say the same in all, why each ends and the usage once and last."""
    before = copy.deepcopy(chunk)
    found = list(one_call_each(chunk))
    assert chunk == before
    assert all(len(choice["delta"].get("tool_calls") or ()) <= 1 for each in found for choice in each["choices"])
    whole, parts = Joining(), Joining()
    whole.add(copy.deepcopy(chunk))
    for each in found:
        parts.add(each)
    assert parts.whole() == whole.whole()
    assert [each for each in found if "usage" in each] == (found[-1:] if "usage" in chunk else [])
    ended = set[int]()
    for each in found:
        assert not ended & {choice["index"] for choice in each["choices"]}
        ended |= {choice["index"] for choice in each["choices"] if choice["finish_reason"]}
