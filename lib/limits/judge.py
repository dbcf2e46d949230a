"""The verdict on a call, from what the windows hold: one rule for Redis, Supabase and memory."""

from collections.abc import Sequence

from ..base.values import dataclass
from .window import Buckets, Usage, Window


@dataclass(frozen=True, slots=True)
class WindowState:
    """What a caller is shown of one window: calls left, and when it resets."""

    window: Window
    remaining: int
    reset_at_ms: int


@dataclass(frozen=True, slots=True)
class Quota:
    """The limiter's verdict on one call."""

    allowed: bool
    reason: str
    """``admitted``, ``cost_exceeds_limit``, or the name of the window that refuses longest."""
    states: tuple[WindowState, ...]
    retry_at_ms: int | None = None
    """The first millisecond at which the same call passes if nobody else calls; None: never, or not refused."""
    without_tokens_at_ms: int | None = None
    """The same for a call that takes no tokens; None where such a call passes now."""

    @property
    def left(self) -> int:
        """How many calls more fit into every window."""
        return min((each.remaining for each in self.states if each.window.unit == "calls"), default=0)

    @property
    def tightest(self) -> WindowState | None:
        """The window that will refuse first."""
        return min(self.states, key=lambda s: (s.remaining, -s.window.length_ms), default=None)


def too_costly(windows: Sequence[Window], cost: int, now_ms: int, *, tokens: int = 0) -> Quota | None:
    """The refusal of a cost that no window could ever hold; it needs no command."""
    for window in windows:
        if window.price(cost, tokens) > window.limit:
            return Quota(False, "cost_exceeds_limit", tuple(WindowState(each, each.limit, now_ms) for each in windows))
    return None


def judge(
    windows: Sequence[Window],
    usage: Sequence[Buckets],
    cost: int,
    now_ms: int,
    added: Sequence[bool] | None = None,
    *,
    tokens: int = 0,
) -> Quota:
    """Admit or refuse a call of ``cost`` that ``usage`` already contains in the windows marked in ``added``.

    Without ``added`` nothing has been counted yet (a peek, or a store that decided by itself).
    """
    if refusal := too_costly(windows, cost, now_ms, tokens=tokens):
        return refusal
    added = added if added is not None else [False] * len(windows)
    before = [
        _without_ghosts(each, buckets, now_ms)
        for each, buckets in zip(windows, without(windows, usage, cost, now_ms, added, tokens=tokens), strict=True)
    ]
    prices = [each.price(cost, tokens) for each in windows]
    frees = [_free_at(each, b, price, now_ms) for each, b, price in zip(windows, before, prices, strict=True)]
    retry_at = max(frees, default=now_ms)
    # An increment that overflowed needs no case of its own: its bucket alone is then beyond the limit.
    allowed = retry_at <= now_ms
    states = tuple(
        _state(each, buckets, price if allowed else 0, now_ms)
        for each, buckets, price in zip(windows, before, prices, strict=True)
    )
    if allowed:
        return Quota(True, "admitted", states)
    slowest = max(zip(frees, windows, strict=True), key=lambda pair: pair[0])[1]
    bare_at = max(_free_at(each, b, each.price(cost, 0), now_ms) for each, b in zip(windows, before, strict=True))
    return Quota(False, slowest.name, states, retry_at, bare_at if bare_at > now_ms else None)


def without(
    windows: Sequence[Window],
    usage: Sequence[Buckets],
    cost: int,
    now_ms: int,
    added: Sequence[bool],
    *,
    tokens: int = 0,
) -> tuple[Buckets, ...]:
    """The usage before a call of ``cost`` was added at ``now_ms`` to the windows marked in ``added``."""
    before = []
    for each, buckets, mine in zip(windows, usage, added, strict=True):
        index = now_ms // each.bucket_ms
        price = each.price(cost, tokens)
        before.append({**buckets, index: buckets[index] - price} if mine and index in buckets else buckets)
    return tuple(before)


def certain(windows: Sequence[Window], usage: Sequence[Buckets], now_ms: int) -> Usage:
    """The usage without what can only be refused calls that are being refunded: what may be passed on as a floor."""
    return tuple(_without_ghosts(each, buckets, now_ms) for each, buckets in zip(windows, usage, strict=True))


def has_ghosts(windows: Sequence[Window], usage: Sequence[Buckets], now_ms: int) -> bool:
    """Whether the usage contains calls that were refused and are not taken back yet."""
    return any(_without_ghosts(each, found, now_ms) is not found for each, found in zip(windows, usage, strict=True))


def _without_ghosts(each: Window, buckets: Buckets, now_ms: int) -> Buckets:
    """Leave out what can only be refused calls whose refund is under way.

    Admitted calls never exceed the limit, so the excess is made of refused ones, and these lie in the present bucket;
    what lies before it is left, it may have been admitted under a limit that was higher then.
    """
    excess, index = sum(buckets.values()) - each.limit, now_ms // each.bucket_ms
    ghosts = min(excess, buckets.get(index, 0))
    return {**buckets, index: buckets[index] - ghosts} if ghosts > 0 else buckets


def _free_at(each: Window, buckets: Buckets, cost: int, now_ms: int) -> int:
    """The first time from ``now_ms`` on at which ``cost`` more fits if no other call comes."""
    total, free_at = sum(buckets.values()), now_ms
    for index in sorted(buckets):
        if total + cost <= each.limit:
            break
        total -= buckets[index]
        free_at = each.leaves_at(index)
    return free_at


def _state(each: Window, buckets: Buckets, spent: int, now_ms: int) -> WindowState:
    newest = max((index for index, count in buckets.items() if count > 0), default=None)
    if spent:
        newest = max(newest or 0, now_ms // each.bucket_ms)
    reset_at = now_ms if newest is None else each.leaves_at(newest)
    return WindowState(each, max(0, each.limit - sum(buckets.values()) - spent), reset_at)
