"""What tokens cost: ``AI_PRICES``, and the price of one answer. Pure."""

import re
from collections.abc import Mapping
from dataclasses import field, replace

from ..base.cost import Cost
from ..base.values import dataclass
from .providers.registry import BY_NAME

_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_DATED = re.compile(r"(.+?)-[0-9][0-9-]*")
"""A model's name with the date of its version, as replies have it: ``gpt-4o-mini-2024-07-18``."""
_WRITE = "write for example 'groq=0.05/0.08, openai/gpt-4o-mini=0.15/0.60/0.075'"


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost: of input, of output, and of input that the provider had in a cache of its own."""

    tokens_in: float
    tokens_out: float
    tokens_cached: float

    def of(self, cost: Cost) -> int:
        """Millionths of the currency."""
        cached = min(cost.tokens_cached, cost.tokens_in)
        rest = cost.tokens_in - cached
        return round(rest * self.tokens_in + cached * self.tokens_cached + cost.tokens_out * self.tokens_out)


@dataclass(frozen=True, slots=True)
class Prices:
    """All prices, by provider or by ``provider/model``."""

    by_name: Mapping[str, Price] = field(default_factory=dict)

    def find(self, provider: str, model: str) -> Price | None:
        """The price of a model: its own, or that of the model without its version's date, or the provider's."""
        dated = _DATED.fullmatch(model)
        names = (f"{provider}/{model}", f"{provider}/{dated[1]}" if dated else "", provider)
        return next((self.by_name[name] for name in names if name in self.by_name), None)

    def has(self, provider: str) -> bool:
        """Whether the provider, or a model of it, has a price."""
        return any(name.partition("/")[0] == provider for name in self.by_name)

    def priced(self, provider: str, model: str, cost: Cost | None) -> Cost | None:
        """The same cost with what it comes to, where there is a price."""
        price = self.find(provider, model) if cost is not None and self.by_name else None
        return cost if cost is None or price is None else replace(cost, micros=price.of(cost))


def parse_prices(text: str) -> Prices:
    """``AI_PRICES``, by comma: what a million tokens cost, in, out and, where it differs, cached. Raises ValueError."""
    found: dict[str, Price] = {}
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        name, _, amounts = (part.strip() for part in item.partition("="))
        given = [part.strip() for part in amounts.split("/")]
        if len(given) not in (2, 3) or not all(_AMOUNT.fullmatch(each) for each in given):
            raise ValueError(f"must be prices for a million tokens, in/out or in/out/cached: {_WRITE}")
        if name.partition("/")[0] not in BY_NAME:
            raise ValueError(f"must begin with one of {', '.join(BY_NAME)}: {_WRITE}")
        if name in found:
            raise ValueError("must have one price for each name")
        tokens_in, tokens_out = float(given[0]), float(given[1])
        found[name] = Price(tokens_in, tokens_out, float(given[2]) if len(given) == 3 else tokens_in)
    return Prices(found)
