"""Gemini: what is sent, and what its replies, streams and errors mean."""

from typing import Any

import pytest

from lib.ai.providers.port import Delta, End
from lib.ai.question import Question
from tests.ai.providers.conftest import Making
from tests.ai.providers.speech import ASKED, GEMINI, Failure, Reply, Stage, ask, asking, event, json_reply, stream_reply

pytestmark = pytest.mark.anyio

MODEL = "gemini-2.5-flash"
TEXT = Delta("8,849 m")
REJECTED = Failure("rejected", fault="caller")
USER = {"role": "user", "parts": [{"text": ASKED}]}


def reply(*parts: dict[str, Any], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    """A GenerateContentResponse; without parts its candidate has no content, as after a filter."""
    candidate: dict[str, Any] = {"index": 0}
    if parts:
        candidate["content"] = {"role": "model", "parts": list(parts)}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **more}


SAID = {"text": "8,849 m"}
WHOLE = End(MODEL, whole=True)
PART = End(MODEL, whole=False)


@pytest.mark.parametrize(
    ("question", "body"),
    [
        pytest.param(asking(), {"contents": [USER]}, id="a-question"),
        pytest.param(
            asking(
                ("system", "Be brief."),
                ("user", "Hi"),
                ("assistant", "Hello"),
                ("system", "In English."),
                ("user", ASKED),
            ),
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "Hi"}]},
                    {"role": "model", "parts": [{"text": "Hello"}]},
                    USER,
                ],
                "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "In English."}]},
            },
            id="roles",
        ),
        pytest.param(
            asking(
                ("user", "Hi"),
                ("system", "Be brief."),
                ("user", "there"),
                ("assistant", "A"),
                ("assistant", "B"),
                ("user", ASKED),
            ),
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "Hi\n\nthere"}]},
                    {"role": "model", "parts": [{"text": "A\n\nB"}]},
                    USER,
                ],
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
            },
            id="turns-of-one-role-are-one",
        ),
        pytest.param(
            asking(("system", " "), ("user", "Hi"), ("assistant", ""), ("user", ASKED)),
            {"contents": [{"role": "user", "parts": [{"text": f"Hi\n\n{ASKED}"}]}]},
            id="no-empty-text",
        ),
        pytest.param(
            asking(temperature=0, topP=0.9, maxTokens=64, stop=["END"], model="other", tools=[]),
            {
                "contents": [USER],
                "generationConfig": {"temperature": 0.0, "topP": 0.9, "maxOutputTokens": 64, "stopSequences": ["END"]},
            },
            id="parameters",
        ),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_sent(question: Question, body: object, stream: bool, stage: Stage, make: Making) -> None:
    """The conversation in Gemini's terms, to the method that streams or the one that does not."""
    stage.reply = json_reply(reply(SAID))
    await ask(make(GEMINI), question, stream=stream)
    assert stage.faults == []
    method = "streamGenerateContent" if stream else "generateContent"
    assert [(seen.path, seen.body) for seen in stage.seen] == [(f"/v1beta/models/{MODEL}:{method}", body)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(reply(SAID), [TEXT, WHOLE], id="stop"),
        pytest.param(
            reply(SAID, modelVersion="gemini-2.5-flash-002", usageMetadata={"totalTokenCount": 31}),
            [TEXT, End("gemini-2.5-flash-002", whole=True, tokens=31)],
            id="version-and-tokens",
        ),
        pytest.param(reply({"text": "8,849"}, {"text": " m"}), [TEXT, WHOLE], id="parts"),
        pytest.param(reply({"text": "Hm.", "thought": True}, SAID), [TEXT, WHOLE], id="thoughts-are-no-answer"),
        pytest.param(reply({"inlineData": {}}, SAID), [TEXT, WHOLE], id="other-parts"),
        *(
            pytest.param(reply(SAID, finish=finish), [TEXT, PART], id=f"{finish}-after-text")
            for finish in ("MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "MALFORMED_RESPONSE", "NEW_REASON")
        ),
        *(
            pytest.param(reply(finish=finish), REJECTED, id=f"{finish}-without-text")
            for finish in ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "OTHER")
        ),
        pytest.param(reply(finish="MAX_TOKENS"), REJECTED, id="MAX_TOKENS-without-text"),
        pytest.param(reply(finish="MALFORMED_FUNCTION_CALL"), Failure("protocol"), id="tool-call-broken"),
        pytest.param(reply({"functionCall": {"name": "f"}}), Failure("protocol"), id="tool-call"),
        pytest.param(reply(), Failure("empty"), id="STOP-without-text"),
        pytest.param({"promptFeedback": {"blockReason": "SAFETY"}}, REJECTED, id="prompt-blocked"),
        pytest.param(
            {"promptFeedback": {"blockReason": "OTHER"}, "candidates": []}, REJECTED, id="prompt-blocked-list"
        ),
        pytest.param(reply(SAID, finish=None), Failure("protocol"), id="no-finish-reason"),
        pytest.param({"candidates": []}, Failure("protocol"), id="no-candidates"),
        pytest.param({"candidates": [7]}, Failure("protocol"), id="candidate-no-object"),
        pytest.param({"candidates": {}}, Failure("protocol"), id="candidates-no-list"),
        pytest.param({"candidates": [{"content": "8,849 m"}]}, Failure("protocol"), id="content-no-object"),
        pytest.param({"candidates": [{"content": {"parts": {}}}]}, Failure("protocol"), id="parts-no-list"),
        pytest.param(reply({"text": 8849}), Failure("protocol"), id="text-no-text"),
    ],
)
async def test_a_json_reply(value: object, expected: object, stage: Stage, make: Making) -> None:
    """What is served, whether it may be kept, and whose fault it is if there is none."""
    stage.reply = json_reply(value)
    assert (await ask(make(GEMINI))).seen == expected


@pytest.mark.parametrize("parameters", [{"maxTokens": 5}, {"stop": ["8"]}], ids=["maxTokens", "stop"])
async def test_no_text_by_the_callers_own_parameters(parameters: dict[str, Any], stage: Stage, make: Making) -> None:
    """It does not count against the provider: callers must not be able to open the breaker."""
    stage.reply = json_reply(reply())
    assert (await ask(make(GEMINI), asking(**parameters))).seen == REJECTED


async def test_parameters_that_cannot_be_used(stage: Stage, make: Making) -> None:
    """They are found before a call is spent."""
    assert (await ask(make(GEMINI), asking(temperature="hot"))).seen == REJECTED
    assert stage.requests == 0


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """An event of a stream."""
    return event(reply(*([{"text": text}] if text is not None else []), finish=finish, **more))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(
            stream_reply(
                chunk("8,849", usageMetadata={"promptTokenCount": 9, "totalTokenCount": 12}),
                chunk(" m", "STOP", usageMetadata={"promptTokenCount": 9, "totalTokenCount": 14}),
            ),
            [Delta("8,849"), Delta(" m"), End(MODEL, whole=True, tokens=14)],
            id="as-documented",
        ),
        pytest.param(stream_reply(chunk("8,849 m"), chunk("", "STOP")), [TEXT, WHOLE], id="an-empty-last-piece"),
        pytest.param(
            stream_reply(chunk("8,849 m", "STOP"), event({"usageMetadata": {"totalTokenCount": 14}})),
            [TEXT, End(MODEL, whole=True, tokens=14)],
            id="tokens-after-the-end",
        ),
        pytest.param(stream_reply(chunk("8,849 m"), chunk(None, "MAX_TOKENS")), [TEXT, PART], id="too-long"),
        pytest.param(stream_reply(chunk("8,849 m"), chunk(None, "SAFETY")), [TEXT, PART], id="filtered-midway"),
        pytest.param(stream_reply(chunk(None, "SAFETY")), REJECTED, id="filtered-before"),
        pytest.param(stream_reply(event({"promptFeedback": {"blockReason": "SAFETY"}})), REJECTED, id="prompt-blocked"),
        pytest.param(stream_reply(chunk("8,849 m")), [TEXT, Failure("cut")], id="no-finish-reason"),
        pytest.param(
            stream_reply(chunk("8,849 m"), event({"error": {"code": 503, "status": "UNAVAILABLE"}})),
            [TEXT, Failure("server")],
            id="error-midway",
        ),
    ],
)
async def test_a_stream(sent: Reply, expected: object, stage: Stage, make: Making) -> None:
    """The pieces, and what ends them."""
    stage.reply = sent
    assert (await ask(make(GEMINI), stream=True)).seen == expected


def refusal(status: int, name: str, *details: dict[str, Any]) -> Reply:
    """A google.rpc.Status as the API sends it."""
    typed = [{**detail, "@type": f"type.googleapis.com/google.rpc.{detail['@type']}"} for detail in details]
    return json_reply({"error": {"code": status, "message": "words", "status": name, "details": typed}}, status)


def quotas(*names: str) -> dict[str, Any]:
    """The limits that were reached."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    return {"@type": "QuotaFailure", "violations": [{"quotaMetric": metric, "quotaId": name} for name in names]}


DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
TOKENS = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
HELP = {"@type": "Help", "links": [{"description": "x", "url": "https://ai.google.dev"}]}
RETRY = {"@type": "RetryInfo", "retryDelay": "38.25s"}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(
            refusal(429, "RESOURCE_EXHAUSTED", quotas(MINUTE), HELP, RETRY),
            Failure("throttled", 429, 38.25),
            id="minute",
        ),
        pytest.param(
            refusal(429, "RESOURCE_EXHAUSTED", quotas(TOKENS), RETRY), Failure("throttled", 429, 38.25), id="tokens"
        ),
        pytest.param(refusal(429, "RESOURCE_EXHAUSTED", quotas(DAY), RETRY), Failure("quota", 429, 38.25), id="day"),
        pytest.param(refusal(429, "RESOURCE_EXHAUSTED", quotas(MINUTE, DAY)), Failure("quota", 429), id="both"),
        pytest.param(refusal(429, "RESOURCE_EXHAUSTED"), Failure("throttled", 429), id="no-details"),
        pytest.param(
            json_reply([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [quotas(DAY)]}}], 429),
            Failure("quota", 429),
            id="in-a-list",
        ),
        pytest.param(
            json_reply(
                {"error": {"details": ["odd", {"violations": ["odd"]}, {"retryDelay": 7}]}}, 429, {"retry-after": "3"}
            ),
            Failure("throttled", 429, 3.0),
            id="odd-details",
        ),
        pytest.param(
            refusal(
                400, "INVALID_ARGUMENT", {"@type": "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            ),
            Failure("unauthorized", 400, fault="ours"),
            id="key-invalid",
        ),
        pytest.param(
            refusal(400, "FAILED_PRECONDITION"), Failure("unauthorized", 400, fault="ours"), id="country-not-served"
        ),
        pytest.param(refusal(400, "INVALID_ARGUMENT"), Failure("rejected", 400, fault="caller"), id="bad-request"),
        pytest.param(refusal(403, "PERMISSION_DENIED"), Failure("unauthorized", 403, fault="ours"), id="forbidden"),
        pytest.param(refusal(404, "NOT_FOUND"), Failure("server", 404), id="no-such-model"),
        pytest.param(refusal(500, "INTERNAL"), Failure("server", 500), id="internal"),
        pytest.param(refusal(503, "UNAVAILABLE"), Failure("server", 503), id="overloaded"),
        pytest.param(refusal(504, "DEADLINE_EXCEEDED"), Failure("server", 504), id="deadline"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error(sent: Reply, expected: Failure, stream: bool, stage: Stage, make: Making) -> None:
    """Which limit, for how long, and whose fault; the name of the error is shown."""
    stage.reply = sent
    outcome = await ask(make(GEMINI), stream=stream)
    assert outcome.seen == expected
