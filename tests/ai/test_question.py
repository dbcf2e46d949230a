"""Questions: what makes two the same."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ai.question import ChatRequest, Json, Message, Question, hash_of

ROUTE = "ai/supervisor"


def question(
    text: str, session: str = "s-1", history: tuple[Message, ...] = (), parameters: dict[str, Json] | None = None
) -> Question:
    return Question(session, (*history, Message("user", text)), parameters or {})


def hashed(text: str, identity: str = "u-1", route: str = ROUTE, **others: object) -> str:
    return hash_of(route, identity, question(text, **others))  # type: ignore[arg-type]


KOREAN = question("새 검색은 어떻게 하나요?", parameters={"a": 1, "b": [True, None, 0.5, "ü"]})
CONVERSATION = question("and then?", history=(Message("system", "Be brief."), Message("assistant", "Yes.")))
GOLDEN = {
    "061f64c601819efeaa393ad189572830": question("Hello world"),
    "bdc6392a8fc1932be5d790f62955f520": KOREAN,
    "d468894685662f013ae5005273596ab7": CONVERSATION,
}


@pytest.mark.parametrize(("expected", "asked"), GOLDEN.items(), ids=["Latin", "Korean", "a conversation"])
def test_golden_hashes(expected: str, asked: Question) -> None:
    """CASE 26: a change of these loses every stored answer; it must not happen by accident."""
    assert hash_of(ROUTE, "u-1", asked) == expected


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_hashes_in_another_process(seed: str) -> None:
    """CASE 26: the same in a fresh process, whatever its hash seed, and with parameters in another order."""
    program = (
        "from lib.ai.question import *\n"
        "p = {'b': [True, None, 0.5, '\\u00fc'], 'a': 1}\n"
        f"q = Question('s-1', (Message('user', {KOREAN.query!a}),), p)\n"
        f"print(hash_of({ROUTE!r}, 'u-1', q))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert ran.stdout.strip() == list(GOLDEN)[1]


DIFFERENT = [
    pytest.param("Hello world", "hello WORLD", id="case of Latin letters"),
    pytest.param("Hello world", "  Hello \t\r\n world  ", id="white space"),
    pytest.param("def f():\n    pass", "def f():\n  pass", id="indentation"),
    pytest.param("Hello world", "Hello\u00a0world", id="a no-break space"),
    pytest.param("새 검색", unicodedata.normalize("NFD", "새 검색"), id="Korean in pieces"),
    pytest.param("école", unicodedata.normalize("NFD", "école"), id="Latin in pieces"),
    pytest.param("x²", "x2", id="a power"),
    pytest.param("ﬁn", "fin", id="a ligature"),
    pytest.param("ab", "a b", id="a space or none"),
    pytest.param("Я", "я", id="case of Cyrillic letters"),
    pytest.param("a?", "a", id="punctuation"),
    pytest.param("", "\0", id="a zero"),
    pytest.param("\ud83d", "\ud83e", id="halves of two characters"),
    pytest.param("\ud83d", "?", id="half a character"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_question(one: str, other: str) -> None:
    """CASE 26: what differs in anything that a provider can see has an entry of its own, in the history too."""
    assert hashed(one) != hashed(other)
    assert hashed("x", history=(Message("user", one),)) != hashed("x", history=(Message("user", other),))


@given(st.text(), st.text())
def test_the_same_hash_means_the_same_text(one: str, other: str) -> None:
    """Any text can be hashed, and no two share a hash."""
    assert (hashed(one) == hashed(other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, id="keys"),
        pytest.param({"a": {"c": 1, "d": 2}}, {"a": {"d": 2, "c": 1}}, id="inner keys"),
    ],
)
def test_parameters_in_another_order(one: dict[str, Json], other: dict[str, Json]) -> None:
    """CASE 26: objects have no order."""
    assert hashed("x", parameters=one) == hashed("x", parameters=other)


BASE = hashed("x", parameters={"a": 1})


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(hashed("x", parameters={"a": 2}), id="a value"),
        pytest.param(hashed("x", parameters={"a": "1"}), id="a text for a number"),
        pytest.param(hashed("x", parameters={"a": True}), id="a truth for a number"),
        pytest.param(hashed("x", parameters={"A": 1}), id="a name's case"),
        pytest.param(hashed("x", parameters={}), id="none"),
        pytest.param(hashed("x", parameters={"a": [1]}), id="a list"),
        pytest.param(hashed("x", identity="u-2", parameters={"a": 1}), id="another caller"),
        pytest.param(hashed("x", session="s-2", parameters={"a": 1}), id="another session"),
        pytest.param(hashed("x", route="ai/other", parameters={"a": 1}), id="another route"),
        pytest.param(hashed("x", history=(Message("user", "x"),), parameters={"a": 1}), id="a history"),
        pytest.param(hashed("x", history=(Message("system", "x"),), parameters={"a": 1}), id="a system's word"),
    ],
)
def test_everything_an_answer_depends_on(other: str) -> None:
    """CASE 26: no answer crosses over to another caller, session, route, history or parameter."""
    assert other != BASE


def test_roles_and_borders_of_a_history() -> None:
    """The same words said by another, or cut elsewhere, are another conversation."""
    histories: list[tuple[Message, ...]] = [
        (Message("user", "a"), Message("assistant", "b")),
        (Message("assistant", "a"), Message("user", "b")),
        (Message("user", "a b"),),
        (Message("user", 'a"],["assistant","b'),),
    ]
    assert len({hashed("x", history=history) for history in histories}) == 4


def test_the_order_of_a_list_matters() -> None:
    """Lists have an order."""
    assert hashed("x", parameters={"a": [1, 2]}) != hashed("x", parameters={"a": [2, 1]})


def chat(**body: Any) -> str:
    """The hash of a request in OpenAI's protocol."""
    messages = [{"role": "user", "content": "x"}]
    return hash_of("v1/chat/completions", "u-1", ChatRequest("s-1", {"model": "m", "messages": messages, **body}))


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
IN_A_KEY: list[tuple[str, Any, Any]] = [
    ("seed", 1, 2),
    ("temperature", 1, 1.5),
    ("response_format", {"type": "json_object"}, {"type": "text"}),
    ("tools", [{"type": "function", "function": {"name": "a"}}], [{"type": "function", "function": {"name": "b"}}]),
    ("tool_choice", "auto", "none"),
    ("logprobs", True, False),
    ("n", 1, 2),
    ("stop", "a", ["a"]),
    ("reasoning_effort", "low", "high"),
    ("service_tier", "flex", "default"),
    ("user", "a", "b"),
    ("a_made_up_name", 1, None),
    ("messages", [{"role": "user", "content": "x", "name": "a"}], [{"role": "user", "content": "x", "name": "b"}]),
    ("messages", [{"role": "user", "content": [IMAGE]}], [{"role": "user", "content": [{**IMAGE, "image_url": {}}]}]),
    ("messages", [{"role": "user", "content": "x"}], [{"role": "system", "content": "x"}]),
]


@pytest.mark.parametrize(("name", "one", "other"), IN_A_KEY, ids=[each[0] for each in IN_A_KEY])
def test_what_a_provider_sees_makes_the_key(name: str, one: Any, other: Any) -> None:
    """CASE 26: whatever the field, its other value and its absence are other requests."""
    absent = [] if name == "messages" else [chat()]
    assert len({chat(**{name: one}), chat(**{name: other}), *absent}) == 2 + len(absent)


@pytest.mark.parametrize(
    "beside",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"metadata": {"trace": "x"}},
        {"store": False},
        {"safety_identifier": "x"},
        {"prompt_cache_key": "x"},
        {"prompt_cache_retention": "24h"},
        {"model": "another name for the same"},
    ],
    ids=lambda beside: next(reversed(beside)),
)
def test_what_no_answer_depends_on_makes_no_key(beside: dict[str, Any]) -> None:
    """Whether it is streamed, and labels of records and caches: the same answer."""
    assert chat(**beside) == chat()


def test_the_chosen_model_makes_the_key() -> None:
    """By whatever name a client has chosen it."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    hashes = {
        hash_of("r", "u-1", ChatRequest("s", body, models, named))
        for models, named in (({}, ""), ({"groq": "a"}, ""), ({"groq": "b"}, ""), ({"gemini": "a"}, ""), ({}, "a"))
    }
    assert len(hashes) == 5


@pytest.mark.parametrize("number", [float("inf"), float("nan"), [{"a": -float("inf")}]], ids=["inf", "nan", "within"])
def test_numbers_that_json_has_not(number: object) -> None:
    """They cannot be hashed, and nothing that is sent could hold them."""
    with pytest.raises(ValueError, match="JSON compliant"):
        chat(temperature=number)


@pytest.mark.parametrize(("store", "forwarded"), [(True, True), (False, False), (None, False)])
def test_labels_of_a_record_go_with_the_record(store: bool | None, forwarded: bool) -> None:
    """``metadata`` goes out with ``store: true`` alone, and such a call is never answered from the cache."""
    request = ChatRequest("s", {"model": "m", "messages": [], "metadata": {"a": "b"}, "store": store})
    assert ("metadata" in request.forwarded, "store" in request.forwarded) == (forwarded, forwarded)
    assert request.keeps_a_record is forwarded


@pytest.mark.parametrize("name", ["messages", "tools", "functions", "response_format", "prediction", "made_up"])
def test_all_texts_of_a_request_are_its_length(name: str) -> None:
    """Whatever a provider reads is billed: else a budget of tokens would be no bound for a long schema."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    text = {"description": "x" * 3_000, "url": "data:image/png;base64," + "x" * 9_000}
    given = ChatRequest("s", {**body, name: [text]}).chars - ChatRequest("s", body).chars
    assert 2_990 <= given <= 3_000


@pytest.mark.parametrize(
    ("body", "choices"),
    [({}, 1), ({"n": None}, 1), ({"n": 5}, 5), ({"n": 0}, 1), ({"n": -2}, 1), ({"n": True}, 1), ({"n": "5"}, 1)],
)
def test_how_many_answers_are_wanted(body: dict[str, Any], choices: int) -> None:
    """One, unless a request says otherwise in a way that is understood."""
    assert ChatRequest("s", body).choices == choices
    assert question("x").choices == 1
