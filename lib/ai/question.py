"""A question to an AI, and its answer."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from ..base.values import dataclass

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question, as the provider sees it. The last message is the query, and it is the user's."""

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
    tokens: int | None = None
    """How many the provider says it used."""
    took_ms: int = 0
    """How long the provider took."""
    whole: bool = True
    """False: cut by a limit or a fallback text; such an answer is never stored."""


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def hash_of(route: str, identity: str, question: Question, session: str | None = None) -> str:
    """A hash of exactly what is sent, and of who may see the answer; 32 hexadecimal digits.

    Nothing is normalised: a provider can tell any two different texts apart, so their answers may differ. Only the
    order of an object's members does not count. Canonical JSON through SHA-256, so that instances, processes and
    releases agree (tests hold golden values). ``identity`` is whoever the answer belongs to,
    ``session`` what it is kept under: without it, the session that the provider is told of.
    """
    canonical = _canonical(
        {
            "v": 2,
            "route": route,
            "identity": identity,
            "session": question.session if session is None else session,
            "messages": [[turn.role, turn.content] for turn in question.messages],
            "parameters": question.parameters,
        }
    )
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()[:32]


_HALF = re.compile("[\ud800-\udfff]")


class AnswerCodec:
    """How an answer is stored: its text, model, provider, tokens and time, as a JSON array."""

    def dump(self, value: Answer) -> str:
        """The answer as text; empty where it must not be stored."""
        if not value.whole or not value.text.strip():
            return ""
        fields = [value.text, value.model, value.provider, value.tokens, value.took_ms]
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)

    def load(self, text: str) -> Answer | None:
        """The answer that a text stores; None where it stores none."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return None
        match values:
            # Half a surrogate pair is no character: no reply could carry it.
            case [str(answer), str(model), str(provider), int() | None as tokens, int(took_ms)] if (
                answer and not _HALF.search(answer + model + provider)
            ):
                return Answer(answer, model, provider, tokens, took_ms)
        return None
