"""The wire to the AI backend: what is sent, and whose fault each failure is."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lib.rules.answers import Message, Question
from lib.wire.backend import Backend, BackendFailed
from lib.wire.http import new_client
from tests.guardkit import GOOD, Script, scripted

pytestmark = pytest.mark.anyio
QUESTION = Question("s", (Message("user", "디스크?"),), {"a": 1})


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    with scripted() as server:
        yield server


@pytest.fixture
async def wire(script: Script) -> AsyncIterator[Backend]:
    script.reset()
    async with new_client() as client:
        yield Backend(client, script.url, "the-secret", 0.2, 0.2)
    script.release()


FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "400": ({"status": 400}, "rejected", "caller"),
    "413": ({"status": 413}, "rejected", "caller"),
    "422": ({"status": 422}, "rejected", "caller"),
    "401": ({"status": 401}, "unauthorized", "ours"),
    "403": ({"status": 403}, "unauthorized", "ours"),
    "404": ({"status": 404}, "server", "theirs"),
    "429": ({"status": 429}, "throttled", "theirs"),
    "500": ({"status": 500}, "server", "theirs"),
    "502-html": ({"status": 502, "body": b"<html>"}, "server", "theirs"),
    "200-error": ({"body": b'{"error":"x"}'}, "server", "theirs"),
    "not-json": ({"body": b"hello"}, "protocol", "theirs"),
    "nan": ({"body": b'{"answer":NaN}'}, "protocol", "theirs"),
    "list": ({"body": b"[]"}, "protocol", "theirs"),
    "no-text": ({"body": b"{}"}, "protocol", "theirs"),
    "empty": ({"body": b'{"answer":""}'}, "empty", "theirs"),
    "too-large": ({"body": b'{"answer":"' + b"x" * 1_100_000}, "too_large", "theirs"),
    "cut": ({"cut": True}, "connection", "theirs"),
    "not-gzip": ({"headers": {"content-encoding": "gzip"}}, "connection", "theirs"),
    "no-answer": ({"hold": True}, "timeout", "theirs"),
    "trickle": ({"trickle_s": 0.05}, "timeout", "theirs"),
}


@pytest.mark.parametrize(("reply", "kind", "fault"), FAILURES.values(), ids=FAILURES)
async def test_classification(wire: Backend, script: Script, reply: dict[str, Any], kind: str, fault: str) -> None:
    """CASES 29: each failure has a kind and someone whose fault it is; there is one attempt, within the timeout."""
    script.reset(**reply)
    started = time.monotonic()
    with pytest.raises(BackendFailed) as failed:
        await wire.ask(QUESTION, "id", 30)
    assert time.monotonic() - started < 1
    assert (failed.value.kind, failed.value.fault, script.asked) == (kind, fault, 1)
    assert "the-secret" not in str(failed.value)


RETRY_AFTER = {
    "seconds": ("120", 120.0),
    "zero": ("0", 0.0),
    "nonsense": ("soon", None),
    "negative": ("-5", None),
    "fraction": ("1.5", None),
    "too-long": ("99999999", None),
    "other-digits": ("\u00b2", None),
    "past-date": ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    "broken-date": ("Wed, 99 Oct 2015 07:28:00 GMT", None),
}


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTER.values(), ids=RETRY_AFTER)
async def test_retry_after(wire: Backend, script: Script, value: str, seconds: float | None) -> None:
    """``Retry-After`` as RFC 9110 writes it; anything else as if it were not there."""
    script.reset(status=429, headers={"retry-after": value})
    with pytest.raises(BackendFailed) as failed:
        await wire.ask(QUESTION, "id", 30)
    assert failed.value.retry_after_s == seconds


async def test_no_time_left(wire: Backend, script: Script) -> None:
    """Without time before the deadline nobody is asked, and it is not the backend's fault."""
    with pytest.raises(BackendFailed) as failed:
        await wire.ask(QUESTION, "id", 0)
    assert script.asked == 0
    assert failed.value.fault == "ours"


async def test_what_is_sent(wire: Backend, script: Script) -> None:
    """The question whole, in any script."""
    reply = await wire.ask(QUESTION, "id", 30)
    assert (reply.answer.text, reply.answer.model, reply.whole) == (json.loads(GOOD)["answer"], "scripted", True)
    assert script.questions == [
        {
            "query": "디스크?",
            "sessionId": "s",
            "messages": [{"role": "user", "content": "디스크?"}],
            "parameters": {"a": 1},
        }
    ]
