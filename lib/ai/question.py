"""What is asked, and what is answered."""

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
