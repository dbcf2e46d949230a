"""What a provider's free tier allows, on the provider's own clock."""

from collections.abc import Sequence

from ..base.values import dataclass
from ..limits.judge import Quota
from ..limits.window import DAY_MS, Layout, window
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


_MOST_CHOICES = 128
"""No provider takes more; without a bound one request's estimate would not fit into a counter."""


def guess_tokens(chars: int, max_tokens: object, choices: int = 1) -> int:
    """An estimate of the tokens that a call uses: its prompt, and the longest answer that it allows, for each choice.

    The reservation is corrected when the provider has said how many it used.
    """
    answer = (
        max_tokens
        if isinstance(max_tokens, int) and not isinstance(max_tokens, bool) and 0 < max_tokens < 1_000_000
        else 1_024
    )
    return chars // _CHARS_PER_TOKEN + answer * min(choices, _MOST_CHOICES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Calls of so many tokens or more are refused until then; believed until ``believed_ms``, if nobody asks again."""

    least: int
    until_ms: int
    believed_ms: int


_REFUSALS = 4
_BELIEVED_MS = 5_000
"""What tokens were reserved is corrected when a call has ended: a refusal for want of tokens is soon out of date."""

type Refusals = tuple[Refusal, ...]
"""What is remembered of one budget, the smallest cost first."""


def refused(known: Refusals, quota: Quota, tokens: int, now_ms: int) -> Refusals:
    """What is known after a refusal of a call of so many tokens."""
    if quota.retry_at_ms is None:
        return known
    if quota.without_tokens_at_ms is not None:
        found = Refusal(0, quota.without_tokens_at_ms, quota.without_tokens_at_ms)
    else:
        found = Refusal(tokens, quota.retry_at_ms, min(quota.retry_at_ms, now_ms + _BELIEVED_MS))
    others = [each for each in known if each.believed_ms > now_ms and each.least != found.least]
    return tuple(sorted((*others, found), key=lambda each: each.least)[:_REFUSALS])


def refused_until_ms(known: Refusals, tokens: int, now_ms: int) -> int:
    """Until when a call of so many tokens is known to be refused; 0 for not at all."""
    return max((each.until_ms for each in known if each.least <= tokens and each.believed_ms > now_ms), default=0)


CHECK_TOKENS = 16
"""How long the answer to a check may be."""
_CHECK_SHARE = 20


def check_allowance(layout: Layout) -> Layout | None:
    """How many checks a day's budget allows: a twentieth of its calls. None: not one."""
    days = [each for each in layout.windows if each.length_ms == DAY_MS and each.unit == "calls"]
    least = min(days, key=lambda each: each.limit, default=None)
    if least is None:
        return Layout(())
    share = least.limit // _CHECK_SHARE
    return Layout((window("day", share, "calls", least.zone),)) if share else None


def resets_at_ms(layout: Layout, now_ms: int) -> int | None:
    """When a calendar day's quota is back, where the budget has one."""
    ends = (each.leaves_at(now_ms // each.bucket_ms) for each in layout.windows if each.zone is not None)
    return max(ends, default=None)
