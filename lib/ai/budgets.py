"""What a provider's free tier allows, on the provider's own clock."""

from collections.abc import Sequence

from ..base.values import dataclass
from ..limits.window import Layout
from ..redis import keys
from ..redis.op import Command, Op, Reply, as_int


@dataclass(frozen=True, slots=True)
class Budget:
    """Calls and tokens by window, and seconds of computing by calendar month (UTC); 0 where a month is not limited."""

    layout: Layout
    month_s: int = 0
    vcpus: float = 1.0
    """Processors that a second of answering occupies."""
    write_ms: int = 30_000
    """Computing time is written to Redis in portions of so many vCPU-milliseconds, because one command for each call
    would cost too much. An instance that is killed loses what it has not written."""


_MONTH_S = 32 * 86_400
"""A month's key lives for longer than any month, from its first use on."""


def use(provider: str, amount_ms: int, month: str, *, first: bool) -> Op[None]:
    """Add vCPU-milliseconds to a provider's month: 1 command, and 1 for the TTL with a month's ``first``."""
    key = keys.month(provider, month)
    commands: list[Command] = [("INCRBY", key, amount_ms)]
    if first:
        commands.append(("EXPIRE", key, _MONTH_S))

    def read(replies: Sequence[Reply]) -> None:
        for reply in replies:
            as_int(reply)

    return Op(tuple(commands), read)


def used_up(budget: Budget, used_ms: str | None) -> bool:
    """Whether a month's computing is spent, given what its key holds."""
    return bool(budget.month_s) and used_ms is not None and used_ms.isdigit() and int(used_ms) >= budget.month_s * 1000


_CHARS_PER_TOKEN = 3
"""Low for English and about right for Korean: a reservation is better too large than too small."""


def guess_tokens(chars: int, max_tokens: object) -> int:
    """An estimate of the tokens that a call uses: its prompt, and the longest answer that it allows.

    The reservation is corrected when the provider has said how many it used.
    """
    answer = (
        max_tokens
        if isinstance(max_tokens, int) and not isinstance(max_tokens, bool) and 0 < max_tokens < 1_000_000
        else 1_024
    )
    return chars // _CHARS_PER_TOKEN + answer
