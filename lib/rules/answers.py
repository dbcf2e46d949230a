"""Answers worth keeping: what makes two questions the same, what an entry holds, and when it may be served."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None

MAX_STORED_CHARS = 262_144
"""Longer answers are served but not kept: a few of them would fill a free tier's storage and bandwidth."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as the backend sees it. The last message is the query, asked by the user."""

    session: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Json]

    @property
    def query(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole, successful answer."""

    text: str
    model: str
    provider: str = ""
    stored_at_ms: int = 0
    tokens: int | None = None
    """What the provider says it cost."""
    took_ms: int = 0
    """How long the provider took."""
    whole: bool = True
    """False: cut by a limit or a fallback text; such an answer is never stored."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as the cache holds it, with the invalidation epochs it was computed under."""

    answer: Answer
    epochs: tuple[int, ...]


_HALF = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s+")
_LATIN_CAPITALS = re.compile("[A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u024f\u1e00-\u1eff]+")


def normalise(text: str) -> str:
    """One text for all spellings of a question: white space, Unicode composition and the case of Latin letters.

    NFC, not NFKC: compatibility forms differ in meaning ('2²' is not '22'). Only Latin letters lose their case, because
    only there was sameness asked for; other scripts' case rules depend on language.
    """
    composed = unicodedata.normalize("NFC", _SPACE.sub(" ", text).strip())
    return _LATIN_CAPITALS.sub(lambda found: found[0].lower(), composed)


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def query_hash(route: str, identity: str, question: Question) -> str:
    """A stable hash of everything the answer may depend on; 32 hexadecimal digits.

    Canonical JSON through SHA-256, so that instances, processes and releases agree (tests hold golden values). The
    identity is part of it: an answer never reaches another caller.
    """
    canonical = _canonical(
        {
            "v": 1,
            "route": route,
            "identity": identity,
            "session": question.session,
            "history": [[turn.role, normalise(turn.content)] for turn in question.messages],
            "parameters": question.parameters,
        }
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def storable(answer: Answer) -> bool:
    """Whether there is anything in it, and not too much."""
    return bool(answer.text.strip()) and len(answer.text) <= MAX_STORED_CHARS


def dump(entry: Entry) -> str:
    """The entry as stored."""
    answer = entry.answer
    fields = {"v": 2, "t": answer.text, "m": answer.model, "p": answer.provider, "at": answer.stored_at_ms}
    fields |= {"n": answer.tokens, "ms": answer.took_ms, "e": list(entry.epochs)}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def parse(text: str | None, epochs: tuple[int, ...]) -> Answer | None:
    """The answer that ``text`` stores, if it does and was computed under the present ``epochs``; else a miss."""
    try:
        values = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    match values:
        # Half a surrogate pair is no character: no reply could carry it.
        case {
            "v": 2,
            "t": str(text),
            "m": str(model),
            "p": str(provider),
            "at": int(at),
            "n": int() | None as tokens,
            "ms": int(took_ms),
            "e": [*stored],
        } if text and tuple(stored) == epochs and not _HALF.search(text + model + provider):
            return Answer(text, model, provider, at, tokens, took_ms)
    return None


def parse_epoch(text: str | None) -> int:
    """An invalidation counter; one that is missing or no number counts as 0."""
    return int(text) if text and re.fullmatch(r"\d{1,15}", text) else 0


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How long an answer is fresh, and what for it is kept longer.

    For ``refresh_ms`` past its time it is served at once while one instance refreshes it (stale-while-revalidate); for
    ``stale_ms`` it is served when no provider can be asked (stale-if-error; both RFC 5861).
    """

    fresh_ms: int = 3_600_000
    refresh_ms: int = 600_000
    stale_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class Directives:
    """What the request's ``Cache-Control`` asks for (RFC 9111, section 5.2.1)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None


def directives(header: str) -> Directives:
    """Read a ``Cache-Control`` header; directives it does not know, or cannot read, are ignored as RFC 9111 says."""
    found: dict[str, str] = {}
    for part in header.lower().split(","):
        name, _, value = part.strip().partition("=")
        found.setdefault(name.strip(), value.strip().strip('"'))
    age = found.get("max-age", "")
    return Directives(
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=int(age) if re.fullmatch(r"\d{1,10}", age) else None,
    )


type Freshness = Literal["fresh", "aging", "stale", "unwanted"]


def freshness(answer: Answer, now_ms: int, rules: CacheRules, asked: Directives) -> Freshness:
    """Whether an entry may be served as it is, while it is refreshed, only for want of another, or not at all."""
    if asked.no_cache or asked.no_store:
        return "unwanted"
    age_ms = max(0, now_ms - answer.stored_at_ms)
    if asked.max_age_s is not None and age_ms > asked.max_age_s * 1000:
        return "unwanted"
    if age_ms < rules.fresh_ms:
        return "fresh"
    return "aging" if age_ms < rules.fresh_ms + rules.refresh_ms else "stale"
