"""A question to an AI: the supervisor's own, or a request in OpenAI's protocol; and what makes two the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from ..base.values import dataclass
from . import needs

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None

_LIMITS = ("maxTokens", "max_completion_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | tuple[Mapping[str, Any], ...]
    """A text; or parts in OpenAI's form, where there are files among them."""

    @property
    def text(self) -> str:
        """What it says in words."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part["text"]) for part in self.content if part["type"] == "text")


@dataclass(frozen=True, slots=True)
class Question:
    """The supervisor's question: texts and parameters. The last message is the query, and it is the user's."""

    session: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Json]
    attached: Mapping[str, Json] | None = None
    """Data of this system that goes along, by the parameter that has asked for it (``attached.py``)."""

    @property
    def models(self) -> Mapping[str, str]:
        """The model that it chose, by provider: none, it is the providers' own."""
        return {}

    @property
    def query(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text

    @property
    def needs(self) -> Mapping[str, str]:
        """What not every provider can do, each with the field that asks for it."""
        for turn in self.messages:
            if not isinstance(turn.content, str):
                return {needs.FILES: "messages"}
        return {}

    @property
    def chars(self) -> int:
        """How long its texts are."""
        return sum(len(turn.text) for turn in self.messages)

    @property
    def max_tokens(self) -> object:
        """How long the answer may be, where the question says so."""
        return _limit(self.parameters)

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return 1

    @property
    def beside(self) -> Mapping[str, object]:
        """What a provider is told that no answer depends on."""
        return {}

    @property
    def seen(self) -> Mapping[str, object]:
        """What its answer depends on."""
        return {"messages": [[turn.role, turn.content] for turn in self.messages], "parameters": self.parameters}


GUARDS_OWN = ("model", "stream", "stream_options")
"""What the guard sets itself in a request that it passes on."""
FOR_RECORDS = ("metadata", "store")
"""Labels of a record that the provider keeps: they go out together, with ``store: true``, or stay here."""
BESIDE_THE_ANSWER = ("safety_identifier", "prompt_cache_key", "prompt_cache_retention")
"""What a provider is told that no answer depends on."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request in OpenAI's protocol, as its client sent it."""

    session: str
    body: Mapping[str, Any]
    models: Mapping[str, str] = field(default_factory=dict)
    """The model that the client chose, by the provider that has it; empty: each provider's own."""
    named: str = ""
    """The model's name as the client sent it, where a provider is told of it."""

    @property
    def keeps_a_record(self) -> bool:
        """Whether the provider is to keep a record of this very call: then no other answer will do."""
        return self.body.get("store") is True or bool(self.body.get("plugins"))

    @property
    def forwarded(self) -> dict[str, Any]:
        """What is passed on, apart from what the guard sets itself."""
        stay = GUARDS_OWN if self.body.get("store") is True else GUARDS_OWN + FOR_RECORDS
        return {name: value for name, value in self.body.items() if name not in stay}

    @property
    def needs(self) -> Mapping[str, str]:
        """What not every provider can do, each with the field that asks for it."""
        return needs.of(self.body)

    @property
    def chars(self) -> int:
        """How long its texts are: a schema, a prediction and whatever else is read cost as much as messages."""
        return needs.chars_in(self.forwarded)

    @property
    def max_tokens(self) -> object:
        """How long each choice may be, where the request says so."""
        return _limit(self.body)

    @property
    def choices(self) -> int:
        """How many answers are wanted, each as long as the request allows."""
        wanted = self.body.get("n")
        return max(1, wanted) if isinstance(wanted, int) and not isinstance(wanted, bool) else 1

    @property
    def beside(self) -> Mapping[str, object]:
        """What a provider is told that no answer depends on."""
        return {name: self.body[name] for name in ("stream_options", *BESIDE_THE_ANSWER) if name in self.body}

    @property
    def seen(self) -> Mapping[str, object]:
        """What its answer depends on."""
        body = {name: value for name, value in self.forwarded.items() if name not in BESIDE_THE_ANSWER}
        return {"body": body, "models": self.models, "named": self.named}


type AnyQuestion = Question | ChatRequest


def _limit(given: Mapping[str, Any]) -> object:
    for name in _LIMITS:
        if given.get(name) is not None:
            return given[name]
    return None


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_of(route: str, identity: str, question: AnyQuestion, session: str | None = None) -> str:
    """A hash of exactly what is sent, and of who may see the answer; 32 hexadecimal digits.

    Nothing is normalised: a provider can tell any two different texts apart, so their answers may differ. Only the
    order of an object's members does not count. Canonical JSON through SHA-256, so that instances, processes and
    releases agree (tests hold golden values). ``identity`` is whoever the answer belongs to, ``session`` what it is
    kept under: without it, the session that the provider is told of. Raises ValueError for a number that JSON does not
    have, wherever it is.
    """
    _encoder.encode(question.beside)
    kept = question.session if session is None else session
    canonical = _encoder.encode({"v": 2, "route": route, "identity": identity, "session": kept, **question.seen})
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()[:32]
