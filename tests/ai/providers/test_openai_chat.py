"""Chat completions, with Groq's and OpenAI's limits: what is sent, and what replies, streams and errors mean."""

from dataclasses import replace
from typing import Any

import pytest

from lib.ai.attached import RULE
from lib.ai.question import Question
from lib.pieces import Delta
from tests.ai.providers.conftest import Making
from tests.ai.providers.speech import (
    ASKED,
    GROQ,
    REQUEST_ID,
    Failure,
    Reply,
    Stage,
    ask,
    asking,
    chat_chunk,
    chat_completion,
    chat_usage,
    event,
    json_reply,
    stream_reply,
)
from tests.rig.completions import End

pytestmark = pytest.mark.anyio

MODEL = "llama-3.3-70b"
TEXT = Delta("8,849 m")
WHOLE = End(MODEL, whole=True, tokens=12)
PART = End(MODEL, whole=False, tokens=12)
REJECTED = Failure("rejected", fault="caller")
WITHHELD = Failure("blocked", fault="caller")
USER = {"role": "user", "content": ASKED}


@pytest.mark.parametrize(
    ("question", "body"),
    [
        pytest.param(asking(), {"messages": [USER]}, id="a-question"),
        pytest.param(
            asking(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", ASKED)),
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello"},
                    USER,
                ]
            },
            id="roles",
        ),
        pytest.param(
            asking(temperature=0.5, top_p=0.9, maxTokens=64, stop="END", tools=[{}], n=3),
            {"messages": [USER], "temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 64, "stop": ["END"]},
            id="parameters",
        ),
        pytest.param(
            replace(asking(fleet=7), attached={"fleet": {"total": 2}}),
            {
                "messages": [
                    {"role": "system", "content": RULE},
                    {"role": "user", "content": f'<data>{{"fleet":{{"total":2}}}}</data>\n\n{ASKED}'},
                ]
            },
            id="data-that-goes-along",
        ),
        pytest.param(asking(model="o1-pro"), {"messages": [USER]}, id="a-model-is-the-settings-to-choose"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_sent(question: Question, body: dict[str, Any], stream: bool, stage: Stage, make: Making) -> None:
    """The conversation as it is, the known parameters, and a request id that OpenAI's logs can find."""
    stage.reply = json_reply(chat_completion("x"))
    await ask(make(GROQ), question, stream=stream)
    assert stage.faults == []
    streaming = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert [seen.body for seen in stage.seen] == [{"model": MODEL, **body, **streaming}]
    assert stage.seen[0].headers["x-client-request-id"] == REQUEST_ID


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(chat_completion("8,849 m"), [TEXT, WHOLE], id="stop"),
        pytest.param(chat_completion("8,849 m", "length"), [TEXT, PART], id="length"),
        pytest.param(chat_completion("8,849 m", "content_filter"), [TEXT, PART], id="filtered-after-text"),
        pytest.param(chat_completion("8,849 m", "eos"), [TEXT, PART], id="another-reason"),
        pytest.param(chat_completion(None, "content_filter"), WITHHELD, id="filtered"),
        pytest.param(chat_completion(None, "length"), REJECTED, id="length-without-text"),
        pytest.param(chat_completion(None, refusal="I cannot."), WITHHELD, id="refused"),
        pytest.param(chat_completion(None), Failure("empty"), id="no-text"),
        pytest.param(chat_completion("8,849 m", reasoning="Hm."), [TEXT, WHOLE], id="reasoning-is-no-answer"),
        pytest.param(chat_completion(None, "tool_calls"), Failure("empty"), id="tool-call-without-a-call"),
        pytest.param(chat_completion(None, tool_calls=[{"id": "1"}]), Failure("protocol"), id="tool-call"),
        pytest.param(chat_completion("8,849 m", tool_calls=[{"id": "1"}]), [TEXT, WHOLE], id="tool-call-beside-text"),
        pytest.param(chat_completion(None, function_call={"name": "f"}), Failure("protocol"), id="function-call"),
        pytest.param(chat_completion(["8,849 m"]), Failure("empty"), id="content-no-text"),
        pytest.param(chat_completion([{"type": "text", "text": "8,849 m"}]), [TEXT, WHOLE], id="content-in-parts"),
        pytest.param({**chat_completion("x"), "choices": []}, Failure("protocol"), id="no-choice"),
        pytest.param({**chat_completion("x"), "choices": [None]}, Failure("protocol"), id="choice-no-object"),
        pytest.param({**chat_completion("x"), "choices": "x"}, Failure("protocol"), id="choices-no-list"),
        pytest.param({"choices": [{"finish_reason": "stop"}]}, Failure("protocol"), id="no-message"),
        pytest.param({"object": "error", "message": "x"}, Failure("protocol"), id="no-completion"),
        pytest.param(
            {"choices": [{"message": {"content": "8,849 m"}, "finish_reason": "stop"}], "usage": {"total_tokens": "x"}},
            [TEXT, End(MODEL, whole=True)],
            id="the-least",
        ),
        pytest.param({"choices": [{"message": {"content": "x"}}]}, Failure("protocol"), id="no-finish-reason"),
    ],
)
async def test_a_json_reply(value: object, expected: object, stage: Stage, make: Making) -> None:
    """What is served, whether it may be kept, and whose fault it is if there is none."""
    stage.reply = json_reply(value)
    assert (await ask(make(GROQ))).seen == expected


@pytest.mark.parametrize("parameters", [{"maxTokens": 5}, {"stop": ["8"]}], ids=["maxTokens", "stop"])
async def test_no_text_by_the_callers_own_parameters(parameters: dict[str, Any], stage: Stage, make: Making) -> None:
    """It does not count against the provider: callers must not be able to open the breaker."""
    stage.reply = json_reply(chat_completion(""))
    assert (await ask(make(GROQ), asking(**parameters))).seen == REJECTED


async def test_parameters_that_cannot_be_used(stage: Stage, make: Making) -> None:
    """They are found before a call is spent."""
    assert (await ask(make(GROQ), asking(stop=7))).seen == REJECTED
    assert stage.requests == 0


DONE = event("[DONE]")
BEGUN = event(chat_chunk(role="assistant", content=""))
SAID = event(chat_chunk(content="8,849 m"))
STOP = event(chat_chunk("stop"))
USED = event(chat_usage())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(stream_reply(BEGUN, SAID, STOP, USED, DONE), [TEXT, WHOLE], id="as-documented"),
        pytest.param(
            stream_reply(BEGUN, SAID, STOP, event({**chat_usage(), "choices": None}), DONE),
            [TEXT, WHOLE],
            id="no-choices",
        ),
        pytest.param(
            stream_reply(BEGUN, SAID, event({**chat_chunk("stop"), "x_groq": {"usage": {"total_tokens": 12}}}), DONE),
            [TEXT, WHOLE],
            id="tokens-as-Groq-tells-them",
        ),
        pytest.param(stream_reply(SAID, STOP, DONE), [TEXT, End(MODEL, whole=True)], id="without-tokens"),
        pytest.param(stream_reply(SAID, STOP), [TEXT, End(MODEL, whole=True)], id="without-DONE"),
        pytest.param(stream_reply(SAID, event(chat_chunk("length")), USED, DONE), [TEXT, PART], id="length"),
        pytest.param(stream_reply(SAID, event(chat_chunk("content_filter")), USED, DONE), [TEXT, PART], id="filtered"),
        pytest.param(stream_reply(BEGUN, event(chat_chunk("content_filter")), DONE), WITHHELD, id="filtered-before"),
        pytest.param(stream_reply(event(chat_chunk(refusal="No.")), STOP, DONE), WITHHELD, id="refused"),
        pytest.param(stream_reply(SAID, USED, DONE), [TEXT, Failure("cut")], id="DONE-without-finish-reason"),
        pytest.param(
            stream_reply(SAID, event(chat_chunk(tool_calls=[{"index": 0}]))),
            [TEXT, Failure("cut")],
            id="tool-call",
        ),
        pytest.param(
            stream_reply(SAID, event({"error": {"message": "x", "code": "internal"}}, "error")),
            [TEXT, Failure("server")],
            id="error-event",
        ),
        pytest.param(
            stream_reply(SAID, event({**chat_chunk(), "x_groq": {"id": "1", "error": "over_capacity"}})),
            [TEXT, Failure("server")],
            id="stopped-early-by-Groq",
        ),
    ],
)
async def test_a_stream(sent: Reply, expected: object, stage: Stage, make: Making) -> None:
    """The pieces, and what ends them."""
    stage.reply = sent
    assert (await ask(make(GROQ), stream=True)).seen == expected


def limits(requests: tuple[str, str, str], tokens: tuple[str, str, str]) -> dict[str, str]:
    """The six headers: what is left, of how many, and the time to the full number."""
    return {
        f"x-ratelimit-{name}-{unit}": value
        for unit, values in (("requests", requests), ("tokens", tokens))
        for name, value in zip(("remaining", "limit", "reset"), values, strict=True)
        if value
    }


PLENTY = ("14370", "14400", "2m59.56s")
MINUTE = ("5997", "6000", "30ms")


@pytest.mark.parametrize(
    ("headers", "rests_s"),
    [
        pytest.param(limits(PLENTY, MINUTE), None, id="plenty"),
        pytest.param(limits(("1", "14400", "23h59m54s"), MINUTE), None, id="one-request-left"),
        pytest.param(limits(("0", "14400", "24h0m0s"), MINUTE), 6.0, id="no-request-left"),
        pytest.param(limits(("0", "", "24h0m0s"), MINUTE), 86_400.0, id="no-request-left-of-no-limit"),
        pytest.param(limits(PLENTY, ("0", "6000", "59.9s")), 59.9, id="no-token-left"),
        pytest.param(limits(PLENTY, ("60", "6000", "59.4s")), 59.4, id="hardly-a-token-left"),
        pytest.param(limits(PLENTY, ("61", "6000", "59.39s")), None, id="some-tokens-left"),
        pytest.param(limits(PLENTY, ("0", "", "59.9s")), 59.9, id="no-token-left-of-no-limit"),
        pytest.param(limits(("0", "14400", "24h0m0s"), ("0", "6000", "59.9s")), 59.9, id="both"),
        pytest.param(limits(("0", "14400", "tomorrow"), ("-1", "6000", "59.9s")), None, id="nonsense"),
        pytest.param({}, None, id="no-headers"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_left(
    headers: dict[str, str], rests_s: float | None, stream: bool, stage: Stage, make: Making
) -> None:
    """A successful reply tells when the next call would be refused, and for how long."""
    stage.reply = stream_reply(SAID, STOP, USED, DONE, headers=headers)
    if not stream:
        stage.reply = json_reply(chat_completion("8,849 m"), headers=headers)
    outcome = await ask(make(GROQ), stream=stream)
    assert outcome.seen == [TEXT, End(MODEL, whole=True, tokens=12, rests_s=rests_s)]


def refusal(
    status: int, code: str | None, kind: str | None, message: str = "words", headers: dict[str, str] | None = None
) -> Reply:
    """An error as OpenAI and Groq send it."""
    return json_reply({"error": {"message": message, "type": kind, "param": None, "code": code}}, status, headers)


def after(seconds: int) -> dict[str, str]:
    """When to come again."""
    return {"retry-after": str(seconds)}


def reached(what: str, again: str = "9m38.016s") -> str:
    """How both say which limit was reached."""
    counted = "Limit 100000, Used 97050, Requested 3619"
    return f"Rate limit reached for model `m` in organization `o` on {what}: {counted}. Please try again in {again}. "


OVER = "rate_limit_exceeded"
DAY = "tokens per day (TPD)"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(
            refusal(429, OVER, "tokens", reached("tokens per minute (TPM)", "5.289s"), headers=after(6)),
            Failure("throttled", 429, 6.0),
            id="tokens-a-minute",
        ),
        pytest.param(
            refusal(429, OVER, "requests", reached("requests per minute (RPM)", "2s"), headers=after(2)),
            Failure("throttled", 429, 2.0),
            id="requests-a-minute",
        ),
        pytest.param(
            refusal(429, OVER, "tokens", reached(DAY), headers=after(579)),
            Failure("quota", 429, 579.0),
            id="tokens-a-day",
        ),
        pytest.param(
            refusal(429, OVER, "requests", reached("requests per day (RPD)", "1m26.4s")),
            Failure("quota", 429, 86.4),
            id="requests-a-day-without-retry-after",
        ),
        pytest.param(
            refusal(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
            Failure("quota", 429),
            id="OpenAI-out-of-credit",
        ),
        pytest.param(
            refusal(429, OVER, "requests", headers=limits(("0", "60", "1m0s"), MINUTE)),
            Failure("throttled", 429, 1.0),
            id="by-headers",
        ),
        pytest.param(refusal(429, OVER, "requests", "try again in a while"), Failure("throttled", 429), id="no-time"),
        pytest.param(json_reply({"error": {"message": 7}}, 429), Failure("throttled", 429), id="message-no-text"),
        pytest.param(
            refusal(401, "invalid_api_key", "invalid_request_error"),
            Failure("unauthorized", 401, fault="ours"),
            id="key-invalid",
        ),
        pytest.param(
            refusal(400, "context_length_exceeded", "invalid_request_error"),
            Failure("rejected", 400, fault="caller"),
            id="too-long-a-question",
        ),
        pytest.param(
            refusal(413, OVER, "tokens", "Request too large for model on tokens per minute (TPM)"),
            Failure("rejected", 413, fault="caller"),
            id="larger-than-a-minutes-tokens",
        ),
        pytest.param(refusal(404, "model_not_found", None), Failure("no_model", 404, fault="ours"), id="no-such-model"),
        pytest.param(refusal(498, "flex_capacity", None), Failure("server", 498), id="Groq-flex-capacity"),
        pytest.param(
            refusal(503, None, "internal_server_error", headers=after(4)), Failure("server", 503, 4.0), id="down"
        ),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error(sent: Reply, expected: Failure, stream: bool, stage: Stage, make: Making) -> None:
    """Which limit, for how long, and whose fault."""
    stage.reply = sent
    assert (await ask(make(GROQ), stream=stream)).seen == expected
