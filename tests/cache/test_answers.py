"""Answers: what makes two questions the same, what is stored, and when it may be served."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ai.question import MAX_STORED_CHARS, Answer, Json, Message, Question, normalise, query_hash, storable
from lib.cache.answers import Entry, dump, parse, parse_epoch
from lib.cache.freshness import CacheRules, Directives, Freshness, directives, freshness

ROUTE = "ai/supervisor"
NOW = 1_763_553_600_000


def question(
    text: str, session: str = "s-1", history: tuple[Message, ...] = (), parameters: dict[str, Json] | None = None
) -> Question:
    return Question(session, (*history, Message("user", text)), parameters or {})


def hashed(text: str, identity: str = "u-1", route: str = ROUTE, **others: object) -> str:
    return query_hash(route, identity, question(text, **others))  # type: ignore[arg-type]


# --- sameness -----------------------------------------------------------------------------------------------------

KOREAN = question("새 검색은 어떻게 하나요?", parameters={"a": 1, "b": [True, None, 0.5, "ü"]})
CONVERSATION = question("and then?", history=(Message("system", "Be brief."), Message("assistant", "Yes.")))
GOLDEN = {
    "0e6eb618927a8bd2513d3e6dc9639d22": question("Hello world"),
    "2c7aa48ec43f26e241b40c7dffe72b46": KOREAN,
    "0571adcd6b3713b6695b73169cae46ae": CONVERSATION,
}


@pytest.mark.parametrize(("expected", "asked"), GOLDEN.items(), ids=["Latin", "Korean", "a conversation"])
def test_golden_hashes(expected: str, asked: Question) -> None:
    """CASE 26: a change of these loses every stored answer; it must not happen by accident."""
    assert query_hash(ROUTE, "u-1", asked) == expected


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_hashes_in_another_process(seed: str) -> None:
    """CASE 26: the same in a fresh process, whatever its hash seed, and with parameters in another order."""
    program = (
        "from lib.ai.question import *\n"
        "p = {'b': [True, None, 0.5, '\\u00fc'], 'a': 1}\n"
        f"q = Question('s-1', (Message('user', {KOREAN.query!a}),), p)\n"
        f"print(query_hash({ROUTE!r}, 'u-1', q))"
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


SAME = [
    pytest.param("Hello world", "hello WORLD", id="case of Latin letters"),
    pytest.param("ÉCOLE", "école", id="case of accented letters"),
    pytest.param("ŽLUŤOUČKÝ", "žluťoučký", id="case beyond Latin-1"),
    pytest.param("ẬẤỒ", "ậấồ", id="case of letters with two accents"),
    pytest.param("Hello world", "  Hello \t\r\n world  ", id="white space"),
    pytest.param("Hello world", "Hello\u00a0world", id="a no-break space"),
    pytest.param("안녕 하세요", "안녕\u3000하세요", id="an ideographic space"),
    pytest.param("새 검색", unicodedata.normalize("NFD", "새 검색"), id="Korean in pieces"),
    pytest.param("école", unicodedata.normalize("NFD", "école"), id="Latin in pieces"),
    pytest.param("ÉCOLE", unicodedata.normalize("NFD", "école"), id="pieces and case together"),
]
DIFFERENT = [
    pytest.param("x²", "x2", id="a power"),
    pytest.param("½", "1/2", id="a fraction"),
    pytest.param("ﬁn", "fin", id="a ligature"),
    pytest.param("Ａ", "A", id="a wide letter"),
    pytest.param("école", "ecole", id="an accent"),
    pytest.param("ab", "a b", id="a space or none"),
    pytest.param("Σ", "σ", id="case of Greek letters"),
    pytest.param("Я", "я", id="case of Cyrillic letters"),
    pytest.param("ß", "ss", id="a sharp s"),
    pytest.param("I", "ı", id="a dotless i"),
    pytest.param("1 - 2", "1 × 2", id="an operator"),
    pytest.param("검색", "검색해", id="Korean"),
    pytest.param("a?", "a", id="punctuation"),
    pytest.param("", "\0", id="a zero"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_question(one: str, other: str) -> None:
    """CASE 26: one entry for all spellings of a question, in the history too."""
    assert normalise(one) == normalise(other)
    assert hashed(one) == hashed(other)
    assert hashed("x", history=(Message("user", one),)) == hashed("x", history=(Message("user", other),))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_question(one: str, other: str) -> None:
    """CASE 26: what differs in meaning has an entry of its own."""
    assert hashed(one) != hashed(other)


@given(st.text())
def test_normalising_twice(text: str) -> None:
    """A normalised text stays as it is, and any text can be normalised and hashed."""
    once = normalise(text)
    assert normalise(once) == once
    assert len(hashed(text)) == 32


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

ANSWER = Answer("An answer.\n한국어 “x”", "model-1", "gemini", NOW, tokens=812, took_ms=1_250)
ENTRY = Entry(ANSWER, (3, 0))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("x", True, id="something"),
        pytest.param("", False, id="nothing"),
        pytest.param(" \n\t\u3000", False, id="white space"),
        pytest.param("x" * MAX_STORED_CHARS, True, id="as much as fits"),
        pytest.param("x" * (MAX_STORED_CHARS + 1), False, id="more"),
    ],
)
def test_storable(text: str, kept: bool) -> None:
    """CASE 24: empty answers are never kept, nor huge ones."""
    assert storable(Answer(text, "m")) is kept


NUMBERS = st.integers(0, 1 << 53)


@given(st.text(min_size=1), st.text(), st.text(), NUMBERS, st.none() | NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=3))
def test_round_trip(
    text: str, model: str, provider: str, at: int, tokens: int | None, took_ms: int, epochs: list[int]
) -> None:
    """What was stored is what is read."""
    answer = Answer(text, model, provider, at, tokens, took_ms)
    assert parse(dump(Entry(answer, tuple(epochs))), tuple(epochs)) == answer


def without(name: str) -> str:
    return json.dumps({key: value for key, value in json.loads(dump(ENTRY)).items() if key != name})


def changed(name: str, value: object) -> str:
    return json.dumps({**json.loads(dump(ENTRY)), name: value})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="no entry"),
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="an empty object"),
        pytest.param(dump(ENTRY)[:-1], id="cut"),
        pytest.param("[" * 100_000, id="deeply nested"),
        *(pytest.param(without(name), id=f"without {name}") for name in ("v", "t", "m", "p", "at", "n", "ms", "e")),
        pytest.param(changed("v", 1), id="an older version"),
        pytest.param(changed("v", 3), id="another version"),
        pytest.param(changed("t", ""), id="an empty answer"),
        pytest.param(changed("t", None), id="no text"),
        pytest.param(changed("t", ["x"]), id="a list as text"),
        pytest.param(changed("m", 1), id="a number as model"),
        pytest.param(changed("p", None), id="no provider"),
        pytest.param(changed("n", "812"), id="a text as tokens"),
        pytest.param(changed("ms", 1.5), id="a fraction as duration"),
        pytest.param(changed("at", "1"), id="a text as time"),
        pytest.param(changed("at", 1.5), id="a fraction as time"),
        pytest.param(changed("e", {}), id="no epochs"),
        pytest.param(changed("e", [3]), id="an epoch too few"),
        pytest.param(changed("e", [3, 0, 0]), id="an epoch too many"),
        pytest.param(changed("e", [4, 0]), id="another epoch"),
        pytest.param(changed("e", ["3", "0"]), id="texts as epochs"),
        pytest.param(changed("t", "half a \ud83d"), id="half a character, which no reply could carry"),
        pytest.param(changed("m", "half a \ud83d"), id="half a character as model"),
        pytest.param(changed("p", "half a \ud83d"), id="half a character as provider"),
    ],
)
def test_a_miss(text: str | None) -> None:
    """CASE 24: a corrupt entry, and one from before an invalidation, is a miss."""
    assert parse(text, (3, 0)) is None


@pytest.mark.parametrize(
    ("text", "epoch"),
    [(None, 0), ("", 0), ("0", 0), ("17", 17), ("-1", 0), ("x", 0), ("1.5", 0), (" 1", 0), ("9" * 16, 0), ("1\n", 0)],
    ids=str,
)
def test_epochs(text: str | None, epoch: int) -> None:
    """A counter, or 0 for what is none."""
    assert parse_epoch(text) == epoch


# --- what a request asks for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("", Directives(), id="nothing"),
        pytest.param("no-cache", Directives(no_cache=True), id="no-cache"),
        pytest.param("No-Store", Directives(no_store=True), id="in capitals"),
        pytest.param("only-if-cached", Directives(only_if_cached=True), id="only-if-cached"),
        pytest.param("max-age=0", Directives(max_age_s=0), id="max-age 0"),
        pytest.param('max-age="60"', Directives(max_age_s=60), id="quoted"),
        pytest.param(" max-age = 60 ,no-cache", Directives(no_cache=True, max_age_s=60), id="spaces"),
        pytest.param("max-age=60, max-age=5", Directives(max_age_s=60), id="twice: the first"),
        pytest.param("max-age", Directives(), id="without a value"),
        pytest.param("max-age=-1", Directives(), id="negative"),
        pytest.param("max-age=1.5", Directives(), id="a fraction"),
        pytest.param("max-age=x", Directives(), id="no number"),
        pytest.param("max-age=99999999999", Directives(), id="too large"),
        pytest.param("max-stale=5, min-fresh=1, no-transform, x=y", Directives(), id="unknown ones"),
        pytest.param(",,=,", Directives(), id="commas"),
        pytest.param("no-cache=x", Directives(no_cache=True), id="a value where there is none"),
        pytest.param("xno-cache", Directives(), id="a longer name"),
    ],
)
def test_directives(header: str, expected: Directives) -> None:
    """What is known and readable counts, the rest is ignored (RFC 9111, 5.2)."""
    assert directives(header) == expected


RULES = CacheRules(fresh_ms=3_600_000, refresh_ms=600_000, stale_ms=86_400_000)


@pytest.mark.parametrize(
    ("age_ms", "asked", "expected"),
    [
        pytest.param(0, Directives(), "fresh", id="new"),
        pytest.param(3_599_999, Directives(), "fresh", id="the last fresh millisecond"),
        pytest.param(3_600_000, Directives(), "aging", id="an hour"),
        pytest.param(4_199_999, Directives(), "aging", id="the last millisecond of its refreshing"),
        pytest.param(4_200_000, Directives(), "stale", id="an hour and ten minutes"),
        pytest.param(86_400_000, Directives(), "stale", id="a day"),
        pytest.param(-5_000, Directives(), "fresh", id="stored by a faster clock"),
        pytest.param(0, Directives(no_cache=True), "unwanted", id="no-cache"),
        pytest.param(0, Directives(no_store=True), "unwanted", id="no-store"),
        pytest.param(0, Directives(only_if_cached=True), "fresh", id="only-if-cached"),
        pytest.param(60_000, Directives(max_age_s=60), "fresh", id="as old as may be"),
        pytest.param(60_001, Directives(max_age_s=60), "unwanted", id="older"),
        pytest.param(1, Directives(max_age_s=0), "unwanted", id="max-age 0"),
        pytest.param(-1, Directives(max_age_s=0), "fresh", id="max-age 0, a faster clock"),
        pytest.param(4_000_000, Directives(max_age_s=9_999), "aging", id="max-age does not freshen"),
        pytest.param(5_000_000, Directives(max_age_s=9_999), "stale", id="nor does it refresh"),
        pytest.param(4_000_000, Directives(no_cache=True), "unwanted", id="aging and no-cache"),
        pytest.param(5_000_000, Directives(no_cache=True), "unwanted", id="stale and no-cache"),
        pytest.param(4_000_000, Directives(max_age_s=60), "unwanted", id="aging and older"),
    ],
)
def test_freshness(age_ms: int, asked: Directives, expected: Freshness) -> None:
    """Whether an entry of an age may be served to a request."""
    assert freshness(Answer("x", "m", stored_at_ms=NOW - age_ms), NOW, RULES, asked) == expected
