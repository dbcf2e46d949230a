"""Questions: what makes two the same, and how an answer is stored."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ai.question import Answer, AnswerCodec, Json, Message, Question, hash_of

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


# --- storing ------------------------------------------------------------------------------------------------------

ANSWER = Answer("An answer.\n한국어 “x”", "model-1", "gemini", tokens=812, took_ms=1_250)
CODEC = AnswerCodec()
NUMBERS = st.integers(0, 1 << 53)


@given(st.text(min_size=1), st.text(), st.text(), st.none() | NUMBERS, NUMBERS)
def test_round_trip(text: str, model: str, provider: str, tokens: int | None, took_ms: int) -> None:
    """What was stored is what is read; white space alone is not kept."""
    answer = Answer(text, model, provider, tokens, took_ms)
    stored = CODEC.dump(answer)
    assert CODEC.load(stored) == answer if text.strip() else stored == ""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer("", "m"), id="nothing"),
        pytest.param(Answer(" \n\t\u3000", "m"), id="white space"),
        pytest.param(Answer("cut", "m", whole=False), id="not whole"),
    ],
)
def test_not_kept(answer: Answer) -> None:
    """CASE 24: answers that are empty or cut are never stored."""
    assert CODEC.dump(answer) == ""


def changed(place: int, value: object) -> str:
    fields = json.loads(CODEC.dump(ANSWER))
    fields[place] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="an empty list"),
        pytest.param("{}", id="an object"),
        pytest.param(CODEC.dump(ANSWER)[:-1], id="cut"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param(changed(0, ""), id="an empty answer"),
        pytest.param(changed(0, None), id="no text"),
        pytest.param(changed(1, 1), id="a number as model"),
        pytest.param(changed(2, None), id="no provider"),
        pytest.param(changed(3, "812"), id="a text as tokens"),
        pytest.param(changed(4, 1.5), id="a fraction as duration"),
        pytest.param(changed(0, "half a \ud83d"), id="half a character, which no reply could carry"),
        pytest.param(changed(1, "half a \ud83d"), id="half a character as model"),
        pytest.param(changed(2, "half a \ud83d"), id="half a character as provider"),
    ],
)
def test_a_miss(text: str) -> None:
    """CASE 24: what is no stored answer is a miss."""
    assert CODEC.load(text) is None
