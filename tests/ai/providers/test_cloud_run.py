"""The supervisor's backend: what its replies and streams mean."""

from dataclasses import replace

import pytest

from dev.backend import MODEL, backend_app
from dev.serve import ThreadedServer
from lib.pieces import Delta
from tests.ai.providers.conftest import Making
from tests.ai.providers.speech import (
    ASKED,
    CLOUD_RUN,
    KEY,
    Failure,
    Reply,
    Stage,
    ask,
    asking,
    event,
    json_reply,
    stream_reply,
)
from tests.rig.completions import End

pytestmark = pytest.mark.anyio

TEXT = Delta("8,849 m")
WHOLE = End("m-1", whole=True)
PART = End("m-1", whole=False)


async def test_what_is_sent(stage: Stage, make: Making) -> None:
    """The query, the whole conversation, the session, and the parameters as they are."""
    stage.reply = json_reply({"answer": "x"})
    question = asking(
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", ASKED), model="m", n=[1]
    )
    await ask(make(CLOUD_RUN), question)
    assert stage.seen[0].body == {
        "query": ASKED,
        "sessionId": "session-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": ASKED},
        ],
        "parameters": {"model": "m", "n": [1]},
    }


async def test_data_that_goes_along(stage: Stage, make: Making) -> None:
    """In the place of the parameter that has asked for it; messages are as they were."""
    stage.reply = json_reply({"answer": "x"})
    await ask(make(CLOUD_RUN), replace(asking(fleet=7, n=1), attached={"fleet": {"total": 2}}))
    assert stage.seen[0].body["parameters"] == {"fleet": {"total": 2}, "n": 1}
    assert stage.seen[0].body["messages"] == [{"role": "user", "content": ASKED}]


async def test_a_stream_is_asked_for(stage: Stage, make: Making) -> None:
    """In the body, and with Accept, which the server checks."""
    stage.reply = json_reply({"answer": "x"})
    await ask(make(CLOUD_RUN), stream=True)
    assert stage.seen[0].body["stream"] is True


async def test_without_a_secret(stage: Stage, make: Making) -> None:
    """No header at all rather than an empty one: here the server refuses it."""
    assert (await ask(make(CLOUD_RUN, secret=None))).seen == Failure("rejected", 400, fault="caller")
    assert stage.faults == ["a bearer token"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"answer": "8,849 m", "model": "m-1"}, [TEXT, WHOLE], id="answer"),
        pytest.param({"response": "8,849 m", "model": "m-1"}, [TEXT, WHOLE], id="response"),
        pytest.param({"text": "8,849 m", "model": "m-1"}, [TEXT, WHOLE], id="text"),
        pytest.param(
            {"text": "no", "answer": "8,849 m", "model": "m-1"}, [TEXT, WHOLE], id="the-documented-name-first"
        ),
        pytest.param({"answer": "8,849 m"}, [TEXT, End("unknown", whole=True)], id="no-model"),
        pytest.param({"answer": "8,849 m", "model": "m-1", "finishReason": "stop"}, [TEXT, WHOLE], id="stop"),
        pytest.param({"answer": "8,849 m", "model": "m-1", "finishReason": None}, [TEXT, WHOLE], id="no-reason-given"),
        pytest.param({"answer": "8,849 m", "model": "m-1", "finishReason": "length"}, [TEXT, PART], id="finishReason"),
        pytest.param(
            {"answer": "8,849 m", "model": "m-1", "finish_reason": "length"}, [TEXT, PART], id="finish_reason"
        ),
        pytest.param({"answer": "8,849 m", "model": "m-1", "fallback": True}, [TEXT, PART], id="fallback"),
        pytest.param({"answer": "8,849 m", "model": "m-1", "fallback": False}, [TEXT, WHOLE], id="no-fallback"),
        pytest.param({"answer": "8,849 m", "model": "m-1", "tokens": 7}, [TEXT, End("m-1", True, 7)], id="tokens"),
        pytest.param(
            {"answer": "8,849 m", "model": "m-1", "usage": {"totalTokens": 7}}, [TEXT, End("m-1", True, 7)], id="usage"
        ),
        pytest.param(
            {"answer": "8,849 m", "model": "m-1", "usage": {"total_tokens": 7}},
            [TEXT, End("m-1", True, 7)],
            id="usage_",
        ),
        pytest.param({"answer": "8,849 m", "model": "m-1", "tokens": "7"}, [TEXT, WHOLE], id="tokens-no-number"),
        pytest.param({"answer": "8,849 m", "model": "m-1", "tokens": True}, [TEXT, WHOLE], id="tokens-a-flag"),
        pytest.param({"answer": "8,849 m", "error": "down"}, Failure("server"), id="error"),
        pytest.param({"answer": ["8,849 m"]}, Failure("protocol"), id="answer-no-text"),
        pytest.param({"delta": "8,849 m"}, Failure("protocol"), id="a-piece-is-no-reply"),
        pytest.param({"done": True}, Failure("protocol"), id="done-without-answer"),
    ],
)
async def test_a_json_reply(value: object, expected: object, stage: Stage, make: Making) -> None:
    """What is served, and whether it may be kept."""
    stage.reply = json_reply(value)
    assert (await ask(make(CLOUD_RUN))).seen == expected


DONE = event("[DONE]")
ENDED = event({"answer": "8,849 m", "model": "m-1", "done": True})
IN_TWO = (event({"delta": "8,849"}), event({"delta": " m"}))
TWO = [Delta("8,849"), Delta(" m")]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(stream_reply(*IN_TWO, ENDED, DONE), [*TWO, WHOLE], id="as-documented"),
        pytest.param(stream_reply(*IN_TWO, ENDED), [*TWO, WHOLE], id="without-DONE"),
        pytest.param(
            stream_reply(event({}, "ping"), IN_TWO[0], event({"status": "thinking"}), IN_TWO[1], event({}), ENDED),
            [*TWO, WHOLE],
            id="events-that-carry-nothing",
        ),
        pytest.param(stream_reply(event({"token": "8,849 m"}), DONE), Failure("cut"), id="only-such-events"),
        pytest.param(stream_reply(ENDED, DONE), [TEXT, WHOLE], id="only-the-end"),
        pytest.param(
            stream_reply(*IN_TWO, event({"done": True, "model": "m-1"}), DONE), [*TWO, WHOLE], id="end-without-the-text"
        ),
        pytest.param(
            stream_reply(*IN_TWO, event({"answer": "8,850 m", "model": "m-1", "done": True}), DONE),
            [*TWO, PART],
            id="the-end-differs",
        ),
        pytest.param(
            stream_reply(*IN_TWO, event({"answer": "8,849 m", "model": "m-1", "done": True, "fallback": True}), DONE),
            [*TWO, PART],
            id="fallback",
        ),
        pytest.param(stream_reply(*IN_TWO, DONE), [*TWO, Failure("cut")], id="DONE-without-the-end"),
        pytest.param(stream_reply(*IN_TWO, event({"error": "down"})), [*TWO, Failure("server")], id="error"),
        pytest.param(stream_reply(*IN_TWO, event({"delta": 7})), [*TWO, Failure("protocol")], id="delta-no-text"),
        pytest.param(
            Reply([*IN_TWO, ENDED, DONE], headers={"content-type": "Text/Event-Stream; charset=utf-8"}),
            [*TWO, WHOLE],
            id="media-type-with-parameters",
        ),
    ],
)
async def test_a_stream(reply: Reply, expected: object, stage: Stage, make: Making) -> None:
    """The pieces, and what ends them."""
    stage.reply = reply
    assert (await ask(make(CLOUD_RUN), stream=True)).seen == expected


@pytest.mark.parametrize("stream", [True, False])
async def test_the_local_backend(stream: bool, make: Making) -> None:
    """The adapter and the local stack's backend understand each other."""
    with ThreadedServer(backend_app(secret=KEY)) as served:
        outcome = await ask(
            make(CLOUD_RUN, url=served.url), asking(("user", "how much memory is free?")), stream=stream
        )
    assert outcome.error is None
    assert "memory" in outcome.text
    assert outcome.pieces[-1] == End(MODEL, whole=True)
    assert (len(outcome.pieces) > 2) is stream
