"""What every adapter owes to the guard, whatever its protocol."""

import asyncio
import gzip
import json
import socket
import traceback
from contextlib import closing
from dataclasses import replace

import httpx
import pytest

from lib.ai.providers.port import MAX_REPLY_BYTES, MAX_STREAM_BYTES, Piece, ProviderFailed
from lib.pieces import Delta
from tests.ai.providers.conftest import Making
from tests.ai.providers.speech import (
    ASKED,
    CLOUD_RUN,
    KEY,
    REQUEST_ID,
    SPEECHES,
    SPOKEN,
    Failure,
    Reply,
    Speech,
    Stage,
    Step,
    ask,
    asking,
    event,
    json_reply,
    stream_reply,
)
from tests.rig.clock import about_timeouts, patient
from tests.rig.completions import said

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("speech", [pytest.param(each, id=each.name) for each in SPEECHES]),
]


def pieces_of(speech: Speech, *texts: str) -> list[bytes]:
    """The events of an answer that comes in `texts`, without their ending."""
    return [event(speech.piece(text)) for text in texts]


async def test_a_json_reply_is_one_delta_and_the_end(speech: Speech, stage: Stage, make: Making) -> None:
    """The request is what the provider demands, and its whole reply is one piece."""
    stage.reply = json_reply(speech.whole(SPOKEN))
    outcome = await ask(make(speech))
    assert stage.faults == []
    assert outcome.seen == [Delta(SPOKEN), speech.end]


async def test_a_stream_comes_in_pieces(speech: Speech, stage: Stage, make: Making) -> None:
    """Each event with text is a piece at once; the End comes after the last."""
    stage.reply = stream_reply(
        *pieces_of(speech, "Saga", "", "rmatha ", "is tall."), *speech.ending("Sagarmatha is tall.")
    )
    outcome = await ask(make(speech), stream=True)
    assert stage.faults == []
    assert outcome.seen == [Delta("Saga"), Delta("rmatha "), Delta("is tall."), speech.end]


async def test_the_first_piece_does_not_wait_for_the_second(speech: Speech, stage: Stage, make: Making) -> None:
    """A piece is handed over while the server is still thinking, and the stream's own end is awaited."""
    stage.reply = stream_reply(*pieces_of(speech, "Saga"), Step.HANG)
    pieces = make(speech).ask(asking(), request_id=REQUEST_ID, left_s=10, stream=True)
    first = await anext(pieces)
    assert isinstance(first, Delta)
    assert said(first.part) == "Saga"
    await pieces.aclose()


async def test_white_space_waits_for_the_first_word(speech: Speech, stage: Stage, make: Making) -> None:
    """A stream that turns out to be blank must not have begun an answer."""
    stage.reply = stream_reply(*pieces_of(speech, " ", "\n", "Hi", " ", "you"), *speech.ending("Hi you"))
    outcome = await ask(make(speech), stream=True)
    assert outcome.seen == [*map(Delta, [" ", "\n", "Hi", " ", "you"]), speech.end]


async def test_characters_may_be_split_between_chunks(speech: Speech, stage: Stage, make: Making) -> None:
    """Every byte its own chunk: the text arrives as it was, line separators that are none to the protocol included."""
    text = "세계에서 가장 높은 산\u2028🏔\u0085é"
    body = b"".join([*pieces_of(speech, text), *speech.ending(text)])
    stage.reply = stream_reply(*(bytes([byte]) for byte in body))
    assert (await ask(make(speech), stream=True)).seen == [Delta(text), speech.end]


async def test_a_server_that_does_not_stream_may_answer_at_once(speech: Speech, stage: Stage, make: Making) -> None:
    """A JSON reply where a stream was asked for is one piece."""
    stage.reply = json_reply(speech.whole(SPOKEN))
    assert (await ask(make(speech), stream=True)).seen == [Delta(SPOKEN), speech.end]


async def test_a_stream_that_was_not_asked_for(speech: Speech, stage: Stage, make: Making) -> None:
    """It is not what was agreed."""
    stage.reply = stream_reply(*pieces_of(speech, SPOKEN), *speech.ending(SPOKEN))
    assert (await ask(make(speech))).seen == Failure("protocol")


@pytest.mark.parametrize("status", [201, 203])
@pytest.mark.parametrize("stream", [True, False])
async def test_any_2xx_is_an_answer(speech: Speech, status: int, stream: bool, stage: Stage, make: Making) -> None:
    """There are frameworks that answer every POST with 201 unless they are told otherwise."""
    whole = json_reply(speech.whole(SPOKEN), status)
    streamed = replace(stream_reply(*pieces_of(speech, SPOKEN), *speech.ending(SPOKEN)), status=status)
    stage.reply = streamed if stream else whole
    assert (await ask(make(speech), stream=stream)).seen == [Delta(SPOKEN), speech.end]


@pytest.mark.parametrize("how", [pytest.param((), id="orderly"), pytest.param((Step.CUT,), id="broken-off")])
@pytest.mark.parametrize("words", [pytest.param((), id="before"), pytest.param(("Saga", "rmatha"), id="after")])
async def test_a_cut_stream(
    speech: Speech, words: tuple[str, ...], how: tuple[str, ...], stage: Stage, make: Making
) -> None:
    """Before and after its first word, by a lost connection or by an end without the end's mark."""
    stage.reply = stream_reply(*pieces_of(speech, *words), *how)
    outcome = await ask(make(speech), stream=True)
    assert outcome.pieces == [Delta(word) for word in words]
    assert outcome.failure == Failure("cut")


async def test_an_event_without_its_blank_line_does_not_count(speech: Speech, stage: Stage, make: Making) -> None:
    """WHATWG HTML: an event that the stream's end cuts short is discarded, even if its data look complete."""
    *begun, last = pieces_of(speech, "Saga", "rmatha")
    stage.reply = stream_reply(*begun, last.removesuffix(b"\n"))
    assert (await ask(make(speech), stream=True)).seen == [Delta("Saga"), Failure("cut")]


async def test_a_connection_lost_in_a_json_reply(speech: Speech, stage: Stage, make: Making) -> None:
    """Half a body is no answer."""
    body = json.dumps(speech.whole(SPOKEN)).encode()
    stage.reply = Reply([body[:40], Step.CUT], 200, {"content-length": str(len(body))})
    assert (await ask(make(speech))).seen == Failure("connection")


async def test_a_connection_lost_before_the_reply(speech: Speech, stage: Stage, make: Making) -> None:
    """The request is not sent again: it may have been executed."""
    stage.reply = Reply([Step.CUT], silent=True)
    assert (await ask(make(speech), stream=True)).seen == Failure("connection")
    assert stage.requests == 1


async def test_nobody_listens(speech: Speech, client: httpx.AsyncClient) -> None:
    """A refused connection is a failure like others."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        provider = speech.make(client, f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert (await ask(provider)).seen == Failure("connection")


@about_timeouts
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply([Step.HANG], silent=True), id="no-headers"),
        pytest.param(stream_reply(Step.HANG), id="no-event"),
        pytest.param(stream_reply(Step.DRIP), id="keep-alive-comments-for-ever"),
        pytest.param(Reply([b'{"', Step.HANG]), id="half-a-body"),
    ],
)
@pytest.mark.parametrize("bound", ["left_s", "timeout_s"])
async def test_no_answer_in_time(speech: Speech, reply: Reply, bound: str, stage: Stage, make: Making) -> None:
    """Whatever keeps the server, the call ends with the smaller of both bounds, and the server sees it."""
    stage.reply, stage.waits = reply, patient().jump
    provider = make(speech, timeout_s=0.25 if bound == "timeout_s" else 10.0)
    began = patient().time()
    outcome = await ask(provider, stream=True, left_s=0.25 if bound == "left_s" else 10.0)
    assert 0.25 <= patient().time() - began < 0.5
    assert outcome.seen == Failure("timeout")
    assert await asyncio.to_thread(stage.left.wait, 60)
    assert stage.requests == 1


@about_timeouts
async def test_no_more_in_time(speech: Speech, stage: Stage, make: Making) -> None:
    """The bound is on the whole call: words that came do not extend it."""
    stage.reply, stage.waits = stream_reply(*pieces_of(speech, "Saga"), Step.DRIP), patient().jump
    assert (await ask(make(speech), stream=True, left_s=0.5)).seen == [Delta("Saga"), Failure("timeout")]


@pytest.mark.parametrize("left_s", [0.0, -1.0])
async def test_no_time_is_left(speech: Speech, left_s: float, stage: Stage, make: Making) -> None:
    """Nothing is sent that cannot be waited for."""
    assert (await ask(make(speech), left_s=left_s)).seen == Failure("timeout")
    assert stage.requests == 0


@about_timeouts
async def test_the_time_runs_in_whichever_task_waits(speech: Speech, stage: Stage, make: Making) -> None:
    """One task may take the first piece and another the rest; the timeout reaches the one that waits, and only it."""
    stage.reply, stage.waits = stream_reply(*pieces_of(speech, "Saga"), Step.DRIP), patient().jump
    pieces = make(speech).ask(asking(), request_id=REQUEST_ID, left_s=0.5, stream=True)

    async def take() -> Piece:
        return await anext(pieces)

    first = await asyncio.create_task(take())
    assert isinstance(first, Delta)
    assert said(first.part) == "Saga"
    with pytest.raises(ProviderFailed, match="timeout: "):
        await asyncio.create_task(take())


async def test_closing_ends_the_call(speech: Speech, stage: Stage, make: Making) -> None:
    """The server is told at once that nobody reads on."""
    stage.reply = stream_reply(*pieces_of(speech, "Saga"), Step.HANG)
    pieces = make(speech).ask(asking(), request_id=REQUEST_ID, left_s=60, stream=True)
    first = await anext(pieces)
    assert isinstance(first, Delta)
    assert said(first.part) == "Saga"
    await pieces.aclose()
    assert await asyncio.to_thread(stage.left.wait, 5)


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_ends_the_call(speech: Speech, stream: bool, stage: Stage, make: Making) -> None:
    """A cancelled task takes its call along, and is cancelled, not failed."""
    stage.reply = Reply([Step.HANG], silent=True)
    task = asyncio.create_task(ask(make(speech), stream=stream, left_s=60))
    assert await asyncio.to_thread(stage.taken.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stage.left.wait, 5)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_is_kept(speech: Speech, stream: bool, stage: Stage, make: Making) -> None:
    """A call that was read to its end leaves its connection to the next."""
    provider = make(speech)
    stage.reply = json_reply(speech.whole(SPOKEN))
    if stream:
        stage.reply = stream_reply(*pieces_of(speech, SPOKEN), *speech.ending(SPOKEN))
    for _ in range(3):
        assert (await ask(provider, stream=stream)).text == SPOKEN
    assert len({seen.port for seen in stage.seen}) == 1


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(Step.HANG, id="silent"),
        pytest.param(Step.DRIP, id="dripping"),
        pytest.param(b"data: x\n\n", id="events"),
    ],
)
async def test_what_follows_done(speech: Speech, rest: str | bytes, stage: Stage, make: Making) -> None:
    """Nothing after ``[DONE]`` is of interest, and it is not waited for."""
    stage.reply = stream_reply(*pieces_of(speech, SPOKEN), *speech.ending(SPOKEN), event("[DONE]"), rest)
    assert (await ask(make(speech), stream=True)).seen == [Delta(SPOKEN), speech.end]


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        pytest.param(Reply([b'{"answer":"', b"x" * MAX_REPLY_BYTES, b'"}']), False, id="json"),
        pytest.param(stream_reply(b"data: ", b"x" * MAX_STREAM_BYTES), True, id="one-line-without-end"),
        pytest.param(
            stream_reply(*([b": " + b"x" * 65_536 + b"\n\n"] * (MAX_STREAM_BYTES // 65_536 + 1))), True, id="comments"
        ),
        pytest.param(
            Reply([gzip.compress(b"x" * (MAX_REPLY_BYTES + 1))], headers={"content-encoding": "gzip"}),
            False,
            id="compressed",
        ),
    ],
)
async def test_too_large(speech: Speech, reply: Reply, stream: bool, stage: Stage, make: Making) -> None:
    """A reply of more than the bound is given up as soon as it is."""
    stage.reply = reply
    assert (await ask(make(speech), stream=stream)).seen == Failure("too_large")


async def test_too_many_events(speech: Speech, stage: Stage, make: Making) -> None:
    """The bound is on all events together; what came before it is the caller's already."""
    stage.reply = stream_reply(
        *pieces_of(speech, *["x" * 65_536] * (MAX_STREAM_BYTES // 65_536 + 1)), *speech.ending("")
    )
    outcome = await ask(make(speech), stream=True)
    assert outcome.failure == Failure("too_large")
    assert len(outcome.text) <= MAX_STREAM_BYTES


async def test_a_long_text_in_many_small_pieces(speech: Speech, stage: Stage, make: Making) -> None:
    """What is around each piece does not end an answer of 80 KB."""
    words, around = ["word "] * 16_000, b'data: {"obfuscation":"%s",' % (b"x" * 250)
    sent = b"".join(pieces_of(speech, *words)).replace(b"data: {", around)
    assert len(sent) > MAX_REPLY_BYTES
    stage.reply = stream_reply(sent, *speech.ending("".join(words)))
    outcome = await ask(make(speech), stream=True)
    assert outcome.failure is None
    assert outcome.text == "".join(words)


HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(Reply([HTML], 502, {"content-type": "text/html"}), Failure("server", 502), id="html-502"),
        pytest.param(Reply([HTML], 200, {"content-type": "text/html"}), Failure("protocol"), id="html-200"),
        pytest.param(Reply([], 204), Failure("protocol"), id="no-content"),
        pytest.param(Reply([], 302, {"location": "https://example.org/"}), Failure("server", 302), id="redirect"),
        pytest.param(Reply([], 401), Failure("unauthorized", 401, fault="ours"), id="401"),
        pytest.param(Reply([], 403), Failure("unauthorized", 403, fault="ours"), id="403"),
        pytest.param(Reply([], 404), Failure("server", 404), id="404"),
        pytest.param(Reply([], 400), Failure("rejected", 400, fault="caller"), id="400"),
        pytest.param(Reply([], 413), Failure("rejected", 413, fault="caller"), id="413"),
        pytest.param(Reply([], 422), Failure("rejected", 422, fault="caller"), id="422"),
        pytest.param(Reply([], 429), Failure("throttled", 429), id="429"),
        pytest.param(Reply([], 429, {"retry-after": "7"}), Failure("throttled", 429, 7.0), id="429-seconds"),
        pytest.param(Reply([], 503, {"retry-after": "120"}), Failure("server", 503, 120.0), id="503-seconds"),
        pytest.param(Reply([b"{]"], 429), Failure("throttled", 429), id="429-not-json"),
        pytest.param(Reply([b'{"error": ["odd"]}'], 400), Failure("rejected", 400, fault="caller"), id="400-odd-error"),
        pytest.param(Reply([b"x" * 100_000], 500), Failure("server", 500), id="500-long"),
        pytest.param(Reply([b'{"error"', Step.CUT], 429), Failure("throttled", 429), id="429-cut"),
        pytest.param(Reply([b'{"error"', Step.HANG], 429), Failure("throttled", 429), id="429-hangs"),
        pytest.param(Reply([b""]), Failure("protocol"), id="empty-body"),
        pytest.param(Reply([b"[]"]), Failure("protocol"), id="a-list"),
        pytest.param(Reply([b"{}"]), Failure("protocol"), id="an-empty-object"),
        pytest.param(Reply([b"\xff\xfe"]), Failure("protocol"), id="not-utf-8"),
        pytest.param(Reply([b"[" * 100_000]), Failure("protocol"), id="nested"),
        pytest.param(Reply([b"plain"], headers={"content-encoding": "gzip"}), Failure("protocol"), id="not-gzip"),
        pytest.param(json_reply({"error": {"message": "x"}}), Failure("server"), id="error-in-a-200"),
        pytest.param(stream_reply(event("{]")), Failure("protocol"), id="event-not-json"),
        pytest.param(stream_reply(event([])), Failure("cut"), id="event-without-anything"),
        pytest.param(stream_reply(event("pong", "ping")), Failure("cut"), id="foreign-event"),
        pytest.param(stream_reply(event({"error": {"code": 503}})), Failure("server"), id="event-with-error"),
        pytest.param(stream_reply(event("gone", "error")), Failure("server"), id="error-event"),
        pytest.param(json_reply([{"error": {"message": "x"}}]), Failure("server"), id="error-in-a-list"),
        pytest.param(json_reply({"error": {"code": 400}}), Failure("rejected", fault="caller"), id="400-in-a-200"),
        pytest.param(json_reply({"error": {"code": 429}}), Failure("throttled"), id="429-in-a-200"),
        pytest.param(json_reply({"error": {"code": True}}), Failure("server"), id="no-code-in-a-200"),
        pytest.param(json_reply({"error": {"code": ["x"], "type": {}}}), Failure("server"), id="odd-codes-in-a-200"),
        pytest.param(stream_reply(event([], "error")), Failure("server"), id="error-event-without-words"),
        pytest.param(stream_reply(event("[DONE]")), Failure("cut"), id="done-without-an-end"),
    ],
)
async def test_what_a_reply_means(speech: Speech, reply: Reply, expected: Failure, stage: Stage, make: Making) -> None:
    """Statuses and unusable bodies, the same with every provider; nothing is tried again."""
    stage.reply = reply
    assert (await ask(make(speech), stream=True)).seen == expected
    assert stage.requests == 1


@pytest.mark.parametrize("text", ["", " \n\t"])
@pytest.mark.parametrize("stream", [True, False])
async def test_no_text(speech: Speech, text: str, stream: bool, stage: Stage, make: Making) -> None:
    """A blank answer is none, and no piece of it is handed over."""
    stage.reply = json_reply(speech.whole(text))
    if stream:
        stage.reply = stream_reply(*pieces_of(speech, text), *speech.ending(text))
    assert (await ask(make(speech), stream=stream)).seen == Failure("empty")


@pytest.mark.parametrize(
    "reply",
    [
        *(json_reply({"error": {"message": f"{KEY} {ASKED} {SPOKEN}", "code": KEY}}, status) for status in (400, 429)),
        json_reply({"error": f"{KEY} {ASKED} {SPOKEN}"}),
        Reply([f"{KEY} {ASKED} {SPOKEN}".encode()]),
        stream_reply(event(f"{KEY} {ASKED} {SPOKEN}")),
        stream_reply(event({"error": {"message": f"{KEY} {ASKED} {SPOKEN}"}})),
        Reply([Step.CUT], silent=True),
    ],
    ids=["400", "429", "error-in-a-200", "not-json", "event-not-json", "event-with-error", "no-reply"],
)
async def test_errors_give_nothing_away(speech: Speech, reply: Reply, stage: Stage, make: Making) -> None:
    """No key, question or answer in a message, nor in the traceback that a log would print."""
    stage.reply = reply
    error = (await ask(make(speech), stream=True)).error
    assert error is not None
    printed = "".join(traceback.format_exception(error)) + repr(error)
    assert [secret for secret in (KEY, ASKED, SPOKEN) if secret in printed] == []


@pytest.mark.parametrize("broken", [f"{KEY}\n", f"{KEY}é"], ids=["line-break", "not-ascii"])
async def test_a_key_that_cannot_be_sent(speech: Speech, broken: str, stage: Stage, make: Making) -> None:
    """It is our fault, nothing is sent, and the traceback does not quote it."""
    provider = make(speech, **{"secret" if speech is CLOUD_RUN else "api_key": broken})
    outcome = await ask(provider)
    assert outcome.failure == Failure("unauthorized", fault="ours")
    assert outcome.error is not None
    assert KEY not in "".join(traceback.format_exception(outcome.error))
    assert KEY not in repr(provider)
    assert stage.requests == 0


async def test_many_at_once(speech: Speech, stage: Stage, make: Making) -> None:
    """An adapter keeps nothing between questions: answers do not mix."""
    stage.reply = stream_reply(*pieces_of(speech, "Saga", "rmatha"), *speech.ending("Sagarmatha"))
    provider = make(speech)
    outcomes = await asyncio.gather(*(ask(provider, stream=True) for _ in range(20)))
    assert [outcome.seen for outcome in outcomes] == [[Delta("Saga"), Delta("rmatha"), speech.end]] * 20


async def test_its_name(speech: Speech, make: Making) -> None:
    """Keys, logs and headers call it so."""
    assert make(speech).name == speech.name
