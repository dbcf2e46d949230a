"""What an answer cost. Pure."""

from .values import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """The tokens of one answer as its provider tells them, and what they cost."""

    tokens_in: int
    tokens_out: int
    """What was billed as output: thinking, which no reply shows, is among it."""
    tokens_cached: int = 0
    """Of those that went in, how many the provider had in a cache of its own."""
    micros: int | None = None
    """Millionths of the currency in which ``AI_PRICES`` are; None without a price."""
