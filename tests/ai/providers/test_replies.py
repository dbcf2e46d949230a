"""Waiting times and parameters, as providers and callers write them."""

import json

import httpx
import pytest

from lib.ai.providers.port import ProviderFailed
from lib.ai.providers.refusals import duration_s, refused, retry_after_s
from lib.ai.providers.requests import Sampling
from lib.ai.question import Json
from tests.ai.providers.speech import asking

NOON = "Wed, 19 Nov 2025 12:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("120ms", 0.12),
        ("1h0m0s", 3600.0),
        ("6m0s", 360.0),
        ("1d2h", 93_600.0),
        ("38s", 38.0),
        ("34.074824224s", 34.074824224),
        ("15us", 15e-6),
        ("0s", 0.0),
        ("", None),
        ("7.66", None),
        ("s", None),
        ("-3s", None),
        ("1 s", None),
        ("9999999999s", None),
        (None, None),
        (7, None),
    ],
)
def test_duration(text: object, expected: float | None) -> None:
    """Go's and protobuf's durations; anything else is no duration."""
    assert duration_s(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": " 7 "}, 7.0, id="spaces"),
        pytest.param({"retry-after-ms": "1500"}, 1.5, id="milliseconds"),
        pytest.param({"retry-after": "2", "retry-after-ms": "1500"}, 1.5, id="both"),
        pytest.param({"retry-after": "2", "retry-after-ms": "-1"}, 2.0, id="no-milliseconds"),
        pytest.param({"retry-after": "0.5"}, 0.5, id="a-fraction"),
        pytest.param({"retry-after": "Wed, 19 Nov 2025 12:02:00 GMT", "date": NOON}, 120.0, id="date"),
        pytest.param({"retry-after": "Wed, 19 Nov 2025 11:00:00 GMT", "date": NOON}, 0.0, id="past"),
        pytest.param({"retry-after": "Wed, 19 Nov 2025 12:02:00 GMT"}, None, id="no-clock-to-compare"),
        pytest.param({"retry-after": "Wed, 19 Nov 2025 12:02:00 -0000", "date": NOON}, None, id="no-zone"),
        pytest.param({"retry-after": "soon", "date": NOON}, None, id="nonsense"),
        pytest.param({"retry-after": "-7"}, None, id="negative"),
        pytest.param({"retry-after": "99999999"}, None, id="absurd"),
        pytest.param({"retry-after": "٧"}, None, id="other-digits"),
        pytest.param({}, None, id="none"),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """Seconds or a date, measured by the server's own clock."""
    assert retry_after_s(httpx.Headers(headers, encoding="utf-8")) == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("RESOURCE_EXHAUSTED", "throttled: HTTP 429 RESOURCE_EXHAUSTED"),
        ("insufficient_quota", "quota: HTTP 429 insufficient_quota"),
        ("gsk_9aZ81hd", "throttled: HTTP 429"),
        ("two words", "throttled: HTTP 429"),
        (429, "throttled: HTTP 429"),
        (None, "throttled: HTTP 429"),
    ],
)
def test_a_reason_is_shown_if_it_is_a_code(reason: object, expected: str) -> None:
    """Whatever else a provider writes there stays out of logs."""
    body = json.dumps({"error": {"message": "no", "code": reason}}).encode()
    assert str(refused(httpx.Response(429), body)) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"temperature": 1, "topP": 0.5}, {"temperature": 1.0, "top_p": 0.5}, id="numbers"),
        pytest.param({"top_p": 0.5}, {"top_p": 0.5}, id="top_p"),
        pytest.param({"maxTokens": 5}, {"max_tokens": 5}, id="maxTokens"),
        pytest.param({"max_tokens": 5}, {"max_tokens": 5}, id="max_tokens"),
        pytest.param({"max_completion_tokens": 5}, {"max_tokens": 5}, id="max_completion_tokens"),
        pytest.param({"stop": "END"}, {"stop": ["END"]}, id="stop-text"),
        pytest.param({"stop": ["END", "."]}, {"stop": ["END", "."]}, id="stop-list"),
        pytest.param({"temperature": None, "stop": None}, {}, id="null-is-nothing"),
        pytest.param({"tools": [{}], "n": 3, "seed": 1}, {}, id="unknown-is-left-out"),
    ],
)
def test_sampling(parameters: dict[str, Json], expected: dict[str, Json]) -> None:
    """The parameters that every provider knows, under all their usual names."""
    assert Sampling.of(asking(**parameters)).model_dump(exclude_none=True) == expected


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        pytest.param({"temperature": "hot"}, "temperature", id="a-text"),
        pytest.param({"temperature": True}, "temperature", id="a-flag"),
        pytest.param({"maxTokens": 0}, "maxTokens", id="no-token"),
        pytest.param({"maxTokens": 1.5}, "maxTokens", id="half-a-token"),
        pytest.param({"stop": [""]}, "stop", id="an-empty-stop"),
        pytest.param({"stop": {"secret": 1}}, "stop", id="an-object"),
        pytest.param({"topP": [], "stop": 1}, "stop, topP", id="two"),
    ],
)
def test_sampling_that_cannot_be_used(parameters: dict[str, Json], named: str) -> None:
    """The caller's fault, found before a call is spent; the message names fields and no values."""
    with pytest.raises(ProviderFailed) as failed:
        Sampling.of(asking(**parameters))
    assert (failed.value.kind, failed.value.fault) == ("rejected", "caller")
    assert str(failed.value) == f"rejected: parameters: {named} cannot be used"
