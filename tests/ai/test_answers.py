"""Answers: how one is stored, and what is no stored answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.ai.answers import Answer, AnswerCodec

REPLY = '{"choices":[{"index":0,"message":{"role":"assistant","content":"한국어 “x”"},"finish_reason":"stop"}]}'
ANSWER = Answer(REPLY, "model-1", "gemini", tokens=812, took_ms=1_250)
CODEC = AnswerCodec()
NUMBERS = st.integers(0, 1 << 53)


@given(st.text(min_size=1), st.text(), st.text(), st.none() | NUMBERS, NUMBERS)
def test_round_trip(body: str, model: str, provider: str, tokens: int | None, took_ms: int) -> None:
    """What was stored is what is read, to the byte."""
    answer = Answer(body, model, provider, tokens, took_ms)
    assert CODEC.load(CODEC.dump(answer)) == answer


def test_an_answer_that_can_only_be_streamed() -> None:
    """To who wants it whole it is a miss."""
    answer = Answer("[]", "m", joined=False)
    stored = CODEC.dump(answer)
    assert (CODEC.load(stored), AnswerCodec(whole=False).load(stored)) == (None, answer)


@pytest.mark.parametrize(
    ("answer", "most_bytes", "fits"),
    [
        pytest.param(Answer("한국", "m"), 6, True, id="as large"),
        pytest.param(Answer("한국", "m"), 5, False, id="larger"),
        pytest.param(Answer("[]", "m", joined=False), 6, False, id="chunks"),
    ],
)
def test_what_can_be_had_in_one_piece(answer: Answer, most_bytes: int, fits: bool) -> None:
    """Who wants the answer whole that another request streams: it must be whole, and not too large to be sent."""
    assert answer.fits(most_bytes) is fits


def test_the_reply_is_not_parsed() -> None:
    """Neither when it is stored nor when it is found."""
    no_json = Answer("no JSON", "m")
    assert CODEC.load(CODEC.dump(no_json)) == no_json


HEAD, _, BODY = CODEC.dump(ANSWER).partition("\n")


def changed(place: int, value: object) -> str:
    fields = json.loads(HEAD)
    fields[place] = value
    return f"{json.dumps(fields, ensure_ascii=False)}\n{BODY}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="an empty list"),
        pytest.param("{}", id="an object"),
        pytest.param(HEAD, id="the head alone"),
        pytest.param(f"{HEAD}\n{BODY[:-1]}", id="cut"),
        pytest.param(f"{HEAD}\n{BODY.replace('x', 'y')}", id="a letter changed"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param('["An answer.","model-1","gemini",812,1250]', id="of an earlier release"),
        pytest.param(changed(0, 1), id="a number as model"),
        pytest.param(changed(1, None), id="no provider"),
        pytest.param(changed(2, "812"), id="a text as tokens"),
        pytest.param(changed(3, 1.5), id="a fraction as duration"),
        pytest.param(changed(4, 1), id="a number as flag"),
        pytest.param(changed(5, None), id="no checksum"),
        pytest.param(f"{HEAD}\n\ud83d", id="half a character, which no reply could carry"),
    ],
)
def test_a_miss(text: str) -> None:
    """CASE 24: what is no stored answer is a miss."""
    assert CODEC.load(text) is None
