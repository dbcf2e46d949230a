"""How providers of OpenAI's protocol differ: what each cannot do, and what has to be said in another way there.

Only what a provider documents, or what was seen to be refused, is here; decision 31 has the sources. What is not here
is sent as it came: whether it works is for the provider to say.
"""

from collections.abc import Mapping
from dataclasses import field
from urllib.parse import urlsplit

from ...base.values import dataclass
from .. import needs

EXTRA_CONTENT = "extra_content"
"""Beside Gemini's tool calls: the signature of a thought, without which it refuses the conversation."""
REASONING = "reasoning_content"
"""DeepSeek's: without it, its thinking models refuse the conversation."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One provider's."""

    cannot: frozenset[str] = frozenset()
    """Needs (``ai/needs.py``) that it does not serve: it is passed over, and not sent a field that asks for nothing."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Fields that it has under another name."""
    foreign: frozenset[str] = frozenset()
    """Fields of messages of other providers, which come with a conversation that began there and which it refuses."""
    stream_options: bool = True
    """Whether it takes ``stream_options``; where not, it says the usage of a stream by itself."""
    calls_stop: bool = False
    """Whether it says ``stop`` where a tool is called."""
    blank_turns: bool = True
    """Whether it takes turns of a conversation that have no text."""
    limit: str = "max_completion_tokens"
    """The field that bounds an answer's length."""


PLAIN = Dialect()
_ANY_AUDIO = frozenset({"audio", "modalities"})
CLOUD_RUN = Dialect(
    # Its questions and answers are texts, and its answers are one.
    cannot=_ANY_AUDIO
    | {"tools", "functions", "response_format", "n", "logprobs", "top_logprobs", "web_search_options"}
    | {needs.FILES, needs.LAST_IS_NOT_THE_USERS, needs.NAMES},
)
DIALECTS: Mapping[str, Dialect] = {
    "openai": PLAIN,
    "gemini": Dialect(
        cannot=frozenset({"seed", "frequency_penalty", "presence_penalty"}),
        foreign=frozenset({REASONING}),
        calls_stop=True,
        blank_turns=False,
        limit="max_tokens",
    ),
    "groq": Dialect(
        cannot=frozenset({"logprobs", "top_logprobs", "logit_bias", "n", needs.NAMES}),
        foreign=frozenset({EXTRA_CONTENT, REASONING}),
    ),
    "mistral": Dialect(
        renamed={"max_completion_tokens": "max_tokens", "seed": "random_seed"},
        foreign=frozenset({EXTRA_CONTENT, REASONING}),
        stream_options=False,
        blank_turns=False,
        limit="max_tokens",
    ),
    "cohere": Dialect(stream_options=False, limit="max_tokens"),
}
_HOSTS = {
    "generativelanguage.googleapis.com": "gemini",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
}


_OPENAIS = (".openai.com", ".azure.com")
_COMPATIBLE = Dialect(limit="max_tokens")
"""Whoever else speaks the protocol: Ollama, LM Studio and others ignore the newer name of an answer's limit."""


def of(name: str | None, url: str) -> Dialect:
    """The dialect of that name, else the one that is spoken at that address."""
    host = urlsplit(url).hostname or ""
    if name is not None or host in _HOSTS:
        return DIALECTS[name or _HOSTS[host]]
    return PLAIN if host.endswith(_OPENAIS) else _COMPATIBLE
