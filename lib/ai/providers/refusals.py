"""What a status other than 2xx means, in any of the shapes in which providers say it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic_core import from_json

from .port import TOO_LONG, Kind, ProviderFailed, Told

_KINDS: dict[int, Kind] = {
    400: "rejected",
    401: "unauthorized",
    402: "quota",
    403: "unauthorized",
    413: "rejected",
    422: "rejected",
    429: "throttled",
}
_STATUSES = {"invalid_request_error": 400, "rate_limit_exceeded": 429, "insufficient_quota": 429}
"""OpenAI's and Groq's names of errors, where one comes without its status."""
_SHOWN_CHARS = 1_000
_CODE = re.compile(r"[A-Za-z]+(?:[_.-][A-Za-z]+)*")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,199}")
_UNSUPPORTED_CODES = frozenset({"unsupported_parameter", "unknown_parameter", "extra_forbidden"})
_UNSUPPORTED = re.compile(
    r"unsupported parameter|unknown name|unrecognized request argument|extra inputs are not permitted"
    r"|(?:is|are) not (?:supported|enabled)|(?:is|are) unsupported|does ?n[o']t support"
    # vLLM; DeepSeek and Groq of a part of a message that is no text.
    r"|requires --enable-auto-tool-choice|unknown variant|content'? (?:: value )?must be a string",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:parameter|argument|property|name|field)[^'\"`\w]*(?:supplied: )?['\"`]?([A-Za-z_][\w.\[\]]*)"
    r"|['\"`]([A-Za-z_][\w.\[\]]*)['\"`] (?:is|are) (?:not supported|unsupported)"
    r"|support (tools|functions|logprobs)\b"
)
_BLOCKED_CODES = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
_BLOCKED = re.compile(
    r"moderation|flagged|content (?:policy|filter|management)|safety|PROHIBITED_CONTENT", re.IGNORECASE
)
_NO_MODEL = frozenset(
    {"model_not_found", "model_not_active", "model_decommissioned", "invalid_model", "DeploymentNotFound"}
)
_NO_MODEL_WORDS = re.compile(r"not a valid model|model not exist", re.IGNORECASE)
"""OpenRouter's and DeepSeek's, where status and code say no more than that something is wrong."""
_TOO_LONG = re.compile(
    r"maximum (?:context|prompt) length|maximum number of tokens allowed|exceeds? (?:the available|max) context",
    re.IGNORECASE,
)
_WRONG_KEY = re.compile(r"(?:incorrect|invalid) api key|api key not valid", re.IGNORECASE)
_SECRET = re.compile(
    r"\b(?:sk|gsk|xai|csk|pk|org|proj)[-_][A-Za-z0-9*_-]{6,}|\bAIza[A-Za-z0-9_-]{20,}|\bBearer \S+", re.IGNORECASE
)


def refused(response: httpx.Response, body: bytes, *secrets: str) -> ProviderFailed:
    """The failure that a reply means; ``body`` may be cut off, empty or anything. ``secrets`` are never told on."""
    status, said = response.status_code, _said(body)
    error = said if isinstance(said, dict) else {}
    code, told = _code_and_words(said, secrets)
    kind = _kind(status, error, told)
    shown = f" {code}" if code is not None and re.fullmatch(r"[A-Za-z_]+", code) and kind != "unauthorized" else ""
    return ProviderFailed(
        kind,
        f"HTTP {status}{shown[:60]}",
        status=status,
        rests_s=_rests_s(status, response.headers, error, told.message),
        told=told if kind in ("rejected", "unsupported", "blocked", "no_model") else None,
    )


def error_in_reply(value: Mapping[str, Any], *secrets: str) -> ProviderFailed:
    """The failure that an error in a reply of status 200, or in a stream, means: what it means with its own status.

    The words of one may be shown to the caller, without the ``secrets``.
    """
    error = value["error"]
    said = error if isinstance(error, dict) else {**value, "message": error}
    _, told = _code_and_words(said, secrets)
    status = _status_in(said)
    kind = "server" if status is None else _kind(status, said, told)
    rests_s = None if status is None else _rests_s(status, httpx.Headers(), said, told.message)
    shown = told if told.message and kind != "unauthorized" else None
    return ProviderFailed(kind, "the reply carries an error", rests_s=rests_s, told=shown)


def _status_in(error: Mapping[str, Any]) -> int | None:
    """The status that an error in a reply would have had: Google and OpenRouter number it, others name its kind."""
    code = error.get("code")
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        return code
    names = [name for name in (code, error.get("type")) if isinstance(name, str)]
    return next((_STATUSES[name] for name in names if name in _STATUSES), None)


def _code_and_words(said: object, secrets: tuple[str, ...]) -> tuple[str | None, Told]:
    error = said if isinstance(said, dict) else {}
    code = next((each for each in (error.get("code"), error.get("type"), error.get("status")) if _is_code(each)), None)
    told = _told(error, code, secrets)
    # All but OpenAI, Groq and Cerebras say it in words alone.
    return code, replace(told, code=TOO_LONG) if _TOO_LONG.search(told.message) else told


def _kind(status: int, error: Mapping[str, Any], told: Told) -> Kind:
    details = list(_details(error))
    if status == 429:
        return "quota" if _names_a_day(error, details, told) else "throttled"
    if told.code in _NO_MODEL or _says_no_model(status, told.message):
        return "no_model"
    if status in (400, 403) and (told.code in _BLOCKED_CODES or (status == 403 and _BLOCKED.search(told.message))):
        return "blocked"
    if status == 400 and (
        # Google's: an invalid key is no 401 there, and a project in a country without the free tier no 403.
        error.get("status") == "FAILED_PRECONDITION"
        or any(d.get("reason") == "API_KEY_INVALID" for d in details)
        or _WRONG_KEY.search(told.message)
    ):
        return "unauthorized"
    if _is_unsupported(status, told):
        return "unsupported"
    return _KINDS.get(status, "server")


def _says_no_model(status: int, words: str) -> bool:
    if status == 404:
        return "model" in words.lower() or "no endpoints found for" in words.lower()
    return status in (400, 422) and bool(_NO_MODEL_WORDS.search(words))


def _is_unsupported(status: int, told: Told) -> bool:
    """Whether a provider, or its model, cannot do what is asked: another may. Not all of them name the field."""
    if status == 404:
        # OpenRouter's.
        return "no endpoints found that support" in told.message.lower()
    named = told.param is not None and told.code in _UNSUPPORTED_CODES
    return status in (400, 422) and (named or bool(_UNSUPPORTED.search(told.message)))


def _names_a_day(error: Mapping[str, Any], details: list[Mapping[str, Any]], told: Told) -> bool:
    if "insufficient_quota" in (error.get("code"), error.get("type")):
        return True
    # OpenAI and Groq name the limit in the message only: "... on tokens per day (TPD): Limit 100000, Used ..."
    return any("PerDay" in quota for quota in _quotas(details)) or bool(
        re.search(r"\bper (?:day|month)\b", told.message)
    )


def _said(body: bytes) -> object:
    """What an error's body says: the object under ``error``, or the words that stand in its place."""
    try:
        value = from_json(body)
    except ValueError:
        return {}
    if isinstance(value, list) and value:
        value = value[0]  # Google answers with a list.
    if not isinstance(value, dict):
        return {}
    error = value.get("error")
    if isinstance(error, dict):
        return error
    # xAI says {"code", "error": "words"}, Mistral and vLLM {"message"}, FastAPI {"detail"}.
    return {**value, "message": error} if isinstance(error, str) else value


def _told(error: Mapping[str, Any], code: str | None, secrets: tuple[str, ...]) -> Told:
    message, param = _words(error.get("message") or error.get("detail") or "")
    param = error["param"] if isinstance(error.get("param"), str) and error["param"] else param
    if not param and (named := _NAMED.search(message)) and _UNSUPPORTED.search(message):
        param = next(each for each in named.groups() if each)
    for secret in secrets:
        message = message.replace(secret, "***") if secret else message
    message = _SECRET.sub("***", message)[:_SHOWN_CHARS]
    return Told(message, param if param and _PARAM.fullmatch(param) else None, code)


def _words(value: object) -> tuple[str, str | None]:
    """A message in words, and its field: FastAPI and Mistral list what is wrong, each with a ``loc``."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict):
        value = value.get("detail", value.get("message"))
        if isinstance(value, str):
            return value, None
    items = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    found = [(each.get("msg"), each.get("loc")) for each in items if isinstance(each.get("msg"), str)]
    if not found:
        return "", None
    message, loc = found[0]
    path = [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []
    return f"{'.'.join(path)}: {message}" if path else str(message), ".".join(path) or None


def _is_code(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 60 and bool(_CODE.fullmatch(value))


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """google.rpc.Status's ``details``: ErrorInfo, QuotaFailure, RetryInfo and others, each an object."""
    details = error.get("details")
    yield from (detail for detail in (details if isinstance(details, list) else ()) if isinstance(detail, dict))


def _quotas(details: list[Mapping[str, Any]]) -> Iterator[str]:
    """The quotas that google.rpc.QuotaFailure names, as ``GenerateRequestsPerDayPerProjectPerModel-FreeTier``."""
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict):
                yield str(violation.get("quotaId", ""))


def _rests_s(status: int, headers: httpx.Headers, error: Mapping[str, Any], message: str) -> float | None:
    """For how long the provider says that it will refuse: by a header, by Google's details, or in words."""
    delays = [duration_s(detail.get("retryDelay")) for detail in _details(error)]
    again = re.search(r"(?:try again|retry) in ([0-9][0-9a-z.]*[a-z])", message)
    found = (
        retry_after_s(headers),
        max((delay for delay in delays if delay is not None), default=None),
        duration_s(again[1]) if again and status == 429 else None,
        exhausted_for_s(headers) if status == 429 else None,
    )
    return next((wait_s for wait_s in found if wait_s is not None), None)


def exhausted_for_s(headers: httpx.Headers) -> float | None:
    """For how long the limits in ``x-ratelimit-*`` will refuse, if they say so.

    Groq counts requests by the day and tokens by the minute. ``reset`` is "the time until the rate limit resets to its
    initial state": both refill evenly (14,370 of 14,400 are left, and reset is 2m59.56s), so that the first request is
    back after a fraction of it. How many tokens the next call takes is not known: it waits for all.
    """
    waits = []
    left, limit, reset_s = _limit(headers, "requests")
    if left == 0 and reset_s is not None:
        waits.append(reset_s / limit if limit else reset_s)
    left, limit, reset_s = _limit(headers, "tokens")
    if left is not None and reset_s is not None and left <= (limit or 0) // 100:
        waits.append(reset_s)
    return max(waits, default=None)


def _limit(headers: httpx.Headers, unit: str) -> tuple[int | None, int | None, float | None]:
    """What is left, of how many, and the time to the full number."""
    left, limit = (headers.get(f"x-ratelimit-{name}-{unit}", "") for name in ("remaining", "limit"))
    reset_s = duration_s(headers.get(f"x-ratelimit-reset-{unit}"))
    return _count(left), _count(limit), reset_s


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None


def retry_after_s(headers: httpx.Headers) -> float | None:
    """``Retry-After`` in seconds or as a date (RFC 9110, section 10.2.3), measured against the reply's own clock.

    Azure says it in milliseconds as well, which is more exact.
    """
    if re.fullmatch(r"[0-9]{1,10}", exact_ms := headers.get("retry-after-ms", "").strip()):
        return int(exact_ms) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,7}(?:\.[0-9]{1,9})?", value):
        return float(value)
    try:
        at, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (at - now).total_seconds())
    except (ValueError, TypeError):
        return None


_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(ms|us|µs|ns|[dhms])")


def duration_s(text: object) -> float | None:
    """Seconds in a duration as Go prints them (``2m59.56s``) or protobuf's JSON does (``38.2s``); else None."""
    if not isinstance(text, str) or not re.fullmatch(rf"(?:{_DURATION_PART.pattern})+", text):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))
