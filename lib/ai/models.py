"""Which model answers: what a client may name, and which provider has it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import field

from ..base.values import dataclass

DEFAULT = "supervisor"
"""Names no model: the providers in their order, each with its own."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models of all configured providers, and what ``AI_MODELS`` says of them."""

    by_provider: Mapping[str, tuple[str, ...]]
    """Each provider's models, its own one first; none where a provider's model is not ours to choose."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """What a client may name, and which model that is; empty: all that are configured, and any other name for none."""

    @property
    def are_told(self) -> bool:
        """Whether a provider is told the name as the client sent it: one whose models are not ours to choose."""
        return not all(self.by_provider.values())

    def choose(self, name: str) -> Mapping[str, str] | None:
        """The model that a name means at each provider that has it; none for the providers' own.

        None where the name may not be used.
        """
        if name == DEFAULT:
            return {}
        if self.aliases:
            if name not in self.aliases:
                return None
            name = self.aliases[name]
        return self._found(name)

    def _found(self, name: str) -> Mapping[str, str]:
        found = {provider: name for provider, models in self.by_provider.items() if name in models}
        provider, _, model = name.partition("/")
        if model in self.by_provider.get(provider, ()):
            found = {provider: model}
        return found

    def names(self) -> Iterator[tuple[str, str]]:
        """What a client may name, with the provider that has it; of several, the first."""
        if self.aliases:
            for name, target in self.aliases.items():
                yield name, next(iter(self._found(target)))
            return
        for provider, models in self.by_provider.items():
            for model in models:
                yield f"{provider}/{model}", provider

    @property
    def are_configured(self) -> bool:
        """Whether each alias means a model of a configured provider."""
        return all(map(self._found, self.aliases.values()))


def parse_aliases(text: str) -> dict[str, str]:
    """``AI_MODELS``: names by comma, each perhaps with the model that it means (``fast=groq/llama-3.1-8b-instant``)."""
    found: dict[str, str] = {}
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        name, equals, target = (part.strip() for part in item.partition("="))
        if not name or (equals and not target) or name in found or name == DEFAULT:
            raise ValueError("must be models by comma, each once: 'gemini-2.5-flash,fast=groq/llama-3.1-8b-instant'")
        found[name] = target or name
    return found
