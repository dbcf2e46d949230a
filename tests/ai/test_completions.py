"""Chat completions: chunks joined into a whole reply, a whole reply taken apart."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ai import needs
from lib.ai.completions import Joining, explode, may_be_kept, total_tokens
from lib.ai.mending import Mending, NoReply, mend

TEXTS = st.text(max_size=600)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1, max_size=5),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=9), "arguments": TEXTS}),
        }
    ),
    min_size=1,
    max_size=4,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXTS},
    optional={
        "refusal": st.none() | TEXTS,
        "reasoning_content": TEXTS,
        "reasoning": TEXTS,
        "tool_calls": CALLS,
        "annotations": st.just([{"type": "url_citation"}]),
    },
)
LOGPROBS = st.fixed_dictionaries({"content": st.lists(st.fixed_dictionaries({"token": TEXTS}), max_size=3)})
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "SAFETY", "eos", "error"])


@st.composite
def replies(draw: st.DrawFn) -> dict[str, Any]:
    """Any whole reply of the protocol."""
    choices = [
        {"index": index, "message": message, "logprobs": draw(st.none() | LOGPROBS), "finish_reason": draw(FINISH)}
        for index, message in enumerate(draw(st.lists(MESSAGES, min_size=1, max_size=3)))
    ]
    usage = (
        {"usage": {"total_tokens": draw(st.integers(1, 9)), "details": {"cached": 1}}} if draw(st.booleans()) else {}
    )
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **usage}


def join(chunks: list[dict[str, Any]]) -> dict[str, Any] | None:
    joining = Joining()
    for chunk in chunks:
        joining.add(chunk)
    return joining.whole()


def said(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply without what says nothing: members that are null or empty."""

    def full(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: full(each) for name, each in value.items() if each not in (None, "", [], {})}
        return [full(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = full(reply)
    return found


@given(replies())
def test_taken_apart_and_joined_it_is_the_same_reply(reply: dict[str, Any]) -> None:
    """Every choice, text, call, usage and reason; what is taken apart stays as it was."""
    before = copy.deepcopy(reply)
    whole = join(list(explode(reply)))
    assert whole is not None
    assert said(whole) == said(reply)
    assert reply == before


def test_tool_calls_are_replayed_one_at_a_time() -> None:
    """There are clients that read no more than the first call of a delta."""
    calls = [{"id": f"call_{number}", "type": "function", "function": {"name": "f"}} for number in range(3)]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    reply = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    deltas = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in explode(reply)]
    assert [each for each in deltas if each] == [[{"index": number, **call}] for number, call in enumerate(calls)]


@given(replies(), st.randoms(use_true_random=False))
def test_however_a_stream_is_cut_into_pieces(reply: dict[str, Any], random: Any) -> None:
    """Texts and arguments in other pieces, choices interleaved: the same whole reply."""
    chunks = list(explode(reply))
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                assert isinstance(call["index"], int)
    pieces = [piece for chunk in chunks for piece in _cut(chunk, random)]
    by_choice = [[each for each in pieces if _index(each) == index] for index in {_index(each) for each in pieces}]
    mixed = []
    while any(by_choice):
        mixed.append(random.choice([each for each in by_choice if each]).pop(0))
    whole = join(mixed)
    assert whole is not None
    assert said(whole)["choices"] == said(reply)["choices"]


def _index(chunk: dict[str, Any]) -> int:
    return chunk["choices"][0]["index"] if chunk["choices"] else -1


def _cut(chunk: dict[str, Any], random: Any) -> list[dict[str, Any]]:
    """A chunk whose only text is cut in two, where it has one."""
    delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
    names = [name for name, text in delta.items() if isinstance(text, str) and len(text) > 1 and name != "role"]
    if len(names) != 1 or len(delta) != 1:
        return [chunk]
    at = random.randrange(1, len(delta[names[0]]))
    halves = (delta[names[0]][:at], delta[names[0]][at:])
    return [{**chunk, "choices": [{**chunk["choices"][0], "delta": {names[0]: half}}]} for half in halves]


def test_a_piece_like_the_one_before() -> None:
    """It goes on where pieces go on; a list that is said again as it was is said once, and none at first is none."""
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "1"}}
    said_again = [delta(tool_calls=[call], annotations=[]), delta(tool_calls=[copy.deepcopy(call)])]
    noted = [delta(annotations=[{"type": "x"}]), delta(annotations=[{"type": "x"}])]
    whole = join([*said_again, *noted])
    assert whole is not None
    message = whole["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "11"}
    assert message["annotations"] == [{"type": "x"}]


def delta(**fields: Any) -> dict[str, Any]:
    """A chunk of one choice."""
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([delta(content=[{"type": "text"}]), delta(content="x")], id="a list, then a text"),
        pytest.param([delta(note="a"), delta(note="b")], id="an unknown text that changes"),
        pytest.param([delta(score=1), delta(score=2)], id="a number that changes"),
        pytest.param([delta(images=[1]), delta(images=[2])], id="a list without index"),
        pytest.param([delta(images=[1]), delta(images=[{"index": 0}])], id="a list without index, then with one"),
        pytest.param([delta(images=[{"index": 0}]), delta(images=[1])], id="a list with index, then without one"),
        pytest.param(
            [
                delta(tool_calls=[{"index": 0, "function": {"name": "wea"}}]),
                delta(tool_calls=[{"index": 0, "function": {"name": "ther"}}]),
            ],
            id="a name in pieces",
        ),
    ],
)
def test_what_cannot_be_joined(chunks: list[dict[str, Any]]) -> None:
    """Of what changes in an unknown way nothing is made up."""
    assert join(chunks) is None


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([delta(role="assistant"), delta(role="assistant"), delta(role="")], "assistant", id="again"),
        pytest.param([delta(role="assistant", note="a"), delta(note="a")], "assistant", id="the same unknown text"),
        pytest.param([{**delta(), "id": "", "model": "", "choices": []}, delta()], "assistant", id="Azure's first"),
        pytest.param([delta(obfuscation="x"), delta(obfuscation="yz")], "assistant", id="padding"),
    ],
)
def test_what_is_said_again(chunks: list[dict[str, Any]], expected: str) -> None:
    """It is said once."""
    whole = join(chunks)
    assert whole is not None
    assert (whole["id"], whole["model"], whole["choices"][0]["message"]["role"]) == ("c-1", "m", expected)
    assert "obfuscation" not in whole["choices"][0]["message"]


@pytest.mark.parametrize(
    ("finish", "limited", "kept"),
    [
        *((finish, False, True) for finish in ("stop", "tool_calls", "function_call")),
        ("length", True, True),
        *((finish, True, False) for finish in ("content_filter", "error", "SAFETY", "eos", "", None)),
        ("length", False, False),
    ],
)
def test_what_may_be_kept(finish: str | None, limited: bool, kept: bool) -> None:
    """CASE 24: what came to its end, and what the request itself has bounded; a refusal never."""
    choice = {"finish_reason": finish, "message": {"content": "x"}}
    assert may_be_kept(choice, limited=limited) is kept
    assert not may_be_kept({**choice, "message": {"refusal": "No."}}, limited=limited)


@pytest.mark.parametrize(
    ("reply", "tokens"),
    [
        ({"usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 30}}, 30),
        ({"usage": {"prompt_tokens": 11, "completion_tokens": 7}}, 18),
        ({"usage": {"prompt_tokens": 11}}, None),
        ({"x_groq": {"usage": {"total_tokens": 5}}}, 5),
        ({"usage": {"total_tokens": "5"}}, None),
        ({"usage": {"total_tokens": True}}, None),
        ({"usage": [1]}, None),
        ({}, None),
    ],
)
def test_total_tokens(reply: dict[str, Any], tokens: int | None) -> None:
    """As the reply tells them; none are made up."""
    assert total_tokens(reply) == tokens


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "index",
        "id",
        "type",
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "logprobs",
        "x",
    ]
)
ODD = st.dictionaries(FIELDS, JSON | st.lists(st.dictionaries(FIELDS, JSON, max_size=3), max_size=3), max_size=4)
ODD_CHOICE = st.dictionaries(
    st.sampled_from(["index", "delta", "message", "finish_reason", "logprobs", "token_ids", "x"]),
    JSON | ODD,
    max_size=4,
)
ODD_REPLY = st.dictionaries(
    st.sampled_from(["choices", "usage", "x_groq", "model", "id"]), JSON | st.lists(ODD_CHOICE, max_size=3), max_size=3
)


@given(st.lists(ODD_REPLY, max_size=4))
def test_no_stream_is_too_odd(chunks: list[dict[str, Any]]) -> None:
    """Whatever comes is joined, kept as it is, or said to be no reply; nothing else is raised."""
    mending, joining = Mending(calls_stop=True), Joining()
    try:
        for each in chunks:
            if (chunk := mending.chunk(each)) is not None:
                joining.add(chunk)
    except NoReply:
        return
    for choice in joining.choices:
        may_be_kept(choice, limited=True)
    total_tokens(joining.top)
    if (whole := joining.whole()) is not None:
        assert list(explode(whole)) is not None


@given(ODD_REPLY)
def test_no_reply_is_too_odd(reply: dict[str, Any]) -> None:
    """The same with a whole one."""
    try:
        whole = mend(reply, calls_stop=True)
    except NoReply:
        return
    for choice in whole["choices"]:
        may_be_kept(choice, limited=True)
    again = join([chunk for chunk in map(Mending().chunk, explode(whole)) if chunk is not None])
    assert again is None or len(again["choices"]) == len({choice["index"] for choice in whole["choices"]})


@given(st.dictionaries(st.sampled_from(["n", "logprobs", "tools", "modalities", "x"]), JSON), st.lists(ODD, max_size=3))
def test_no_request_is_too_odd(fields: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """What a request needs can be told of any."""
    found = needs.of({"model": "m", "messages": messages, **fields})
    assert set(found.values()) <= {*fields, "model", "messages"}
    assert needs.chars_in(messages) >= 0


def test_chunks_stay_as_they_came() -> None:
    """What is joined grows in its place: the lists and texts of a chunk are its own, also where it is the first."""
    said = {"content": "a", "tool_calls": [{"index": 0, "function": {"arguments": "b"}}], "extra": {"reasoning": "c"}}
    choice = {"index": 0, "delta": said, "logprobs": {"content": [{"token": "a"}], "refusal": None}, "token_ids": [1]}
    late = {**choice, "logprobs": {"content": [{"token": "a"}], "refusal": [{"token": "b"}]}}
    sent = [{"id": "c-1", "choices": [each]} for each in (choice, late, late)]
    before, joining = copy.deepcopy(sent), Joining()
    for each in sent:
        joining.add(each)
    assert joining.chunks == before
    (found,) = joining.choices
    assert (found["token_ids"], len(found["logprobs"]["content"]), len(found["logprobs"]["refusal"])) == (
        [1, 1, 1],
        3,
        2,
    )
    assert (found["message"]["content"], found["message"]["extra"]) == ("aaa", {"reasoning": "ccc"})
    assert found["message"]["tool_calls"][0]["function"]["arguments"] == "bbb"
