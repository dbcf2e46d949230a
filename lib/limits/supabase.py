"""The fallback limits in Supabase, by one RPC (``supabase/migrations``), through its own PostgREST client.

That client is the part of the ``supabase`` package that a call needs; importing the whole package would take four times
as long, at the moment when Redis has just failed and the caller waits (docs/decisions/0006).
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ..base.values import dataclass
from .judge import Quota, judge
from .marker import UNKNOWN
from .settlement import Listed, parse_places
from .window import SKEW_AHEAD_MS, SKEW_BACK_MS, Buckets, Usage, Window, window

if TYPE_CHECKING:
    import httpx
    from postgrest import AsyncPostgrestClient

type Kind = Literal[
    "timeout",
    "connection",
    "unauthorized",
    "throttled",
    "server",
    "protocol",
    "argument",  # one call was refused for what it asks for
    "resting",  # not called: it failed a moment ago
]


class SupabaseDown(Exception):
    """Supabase gave no usable reply. ``kind`` says how; the message holds no key and no value."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True)
class Counted:
    """What Supabase counts: ``total``, of which ``spent`` was admitted there; the rest it was told of Redis.

    ``fence`` is how often an instance had come back to Redis when this was counted.
    """

    total: Usage
    spent: Usage
    fence: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What the caller knows of a subject. Usages by window, in the order of the windows.

    ``floor``: what Redis itself was last seen to have admitted; ``noted`` was taken off it as admitted by Supabase;
    ``settled``: the last return that was over when Redis was seen. ``alone``: admitted from memory, told to nobody yet.
    """

    floor: Usage
    noted: Usage
    settled: int
    alone: Usage


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the subjects that Redis lacks calls of, by name, and how often an instance has come back."""

    fence: int
    subjects: tuple[Listed, ...]


PAGE = 200
"""The most subjects on a page."""
CLEANED = 5_000
"""The most rows of a table that are deleted at once."""


@dataclass(slots=True)
class Supabase:
    """Strict windows in Postgres: the same buckets and the same rule as in Redis, decided in one transaction."""

    client: "Callable[[], httpx.AsyncClient]"
    """Creates the client with its first use: while Redis answers there is none."""
    url: str
    key: str
    timeout_s: float
    sent: Callable[[], None] = lambda: None
    """Called with each call that is sent."""
    _rpc: "AsyncPostgrestClient | None" = None

    async def spend(
        self,
        subject: str,
        layout: str,
        windows: Sequence[Window],
        cost: int,
        now_ms: int,
        told: Told | None = None,
        left_s: float = math.inf,
    ) -> tuple[Quota, Counted]:
        """Admit a call or refuse it; yields what is counted after it as well. Raises SupabaseDown.

        ``layout`` says where Redis keeps the buckets (``settlement.describe``); empty where Redis need not know.
        """
        reply = await self._call(
            "breakwater_spend_2",
            {
                "p_subject": subject,
                "p_layout": layout,
                "p_windows": _as_windows(windows),
                "p_cost": cost,
                "p_now_ms": now_ms,
                "p_behind_ms": SKEW_BACK_MS,
                "p_ahead_ms": SKEW_AHEAD_MS,
                "p_floor": _as_told(windows, told.floor if told else None),
                "p_noted": _as_told(windows, told.noted if told else None),
                "p_settled": told.settled if told else UNKNOWN,
                "p_alone": _as_told(windows, told.alone if told else None),
            },
            left_s,
        )
        match reply:
            case {"allowed": bool(allowed), "fence": int(fence), "windows": [*found]} if len(found) == len(windows):
                pairs = list(zip(windows, found, strict=True))
                usage = tuple(_buckets(each, item, "buckets") for each, item in pairs)
                spent = tuple(_buckets(each, item, "spent") for each, item in pairs)
            case _:
                raise SupabaseDown("protocol", "breakwater_spend_2 replied in another shape than the migration's")
        quota = judge(windows, usage, cost, now_ms, added=[allowed] * len(windows))
        if quota.allowed != allowed:
            raise SupabaseDown("protocol", "breakwater_spend_2 decided against the rule: is the migration up to date?")
        return quota, Counted(usage, spent, fence)

    async def give(
        self,
        generation: str,
        now_ms: int,
        *,
        begin: bool,
        done: Sequence[Listed] = (),
        after: str = "",
        left_s: float = math.inf,
    ) -> Page:
        """The next subjects after ``after`` that Redis lacks calls of; ``done`` it has been given. Raises SupabaseDown.

        ``begin``: calls that are counted from now on are told so by a higher fence.
        """
        reply = await self._call(
            "breakwater_return",
            {
                "p_gen": generation,
                "p_begin": begin,
                "p_now_ms": now_ms,
                "p_done": [{"subject": each.subject, "changed": each.changed} for each in done],
                "p_after": after,
                "p_limit": PAGE,
            },
            left_s,
        )
        match reply:
            case {"fence": int(fence), "subjects": [*found]}:
                return Page(fence, tuple(_listed(each) for each in found))
        raise SupabaseDown("protocol", "breakwater_return replied in another shape than the migration's")

    async def clean(self, now_ms: int, left_s: float = math.inf) -> int:
        """Delete what no window needs any more, as much as one call may; yields how many rows. Raises SupabaseDown."""
        arguments: dict[str, object] = {"p_now_ms": now_ms, "p_limit": CLEANED}
        return _number(await self._call("breakwater_clean", arguments, left_s), "breakwater_clean")

    async def ping(self, now_ms: int) -> None:
        """Ask whether the function is there and answers, without writing anything. Raises SupabaseDown."""
        await self.spend("health", "", [window("minute", 1)], 0, now_ms)

    async def reset(self, subject: str, left_s: float = math.inf) -> int:
        """Forget a subject; yields how many of its counts there were. Raises SupabaseDown."""
        return _number(await self._call("breakwater_forget", {"p_subject": subject}, left_s), "breakwater_forget")

    async def size(self, left_s: float = math.inf) -> int:
        """The size of the database in bytes. Raises SupabaseDown."""
        return _number(await self._call("breakwater_size", {}, left_s), "breakwater_size")

    async def _call(self, function: str, arguments: dict[str, object], left_s: float) -> object:
        import httpx
        from postgrest import AsyncPostgrestClient
        from postgrest.exceptions import APIError

        from ..base.connecting import why

        if self._rpc is None:
            headers = {"apikey": self.key}
            if self.key.count(".") == 2:
                # The older keys are tokens. The newer ones (sb_secret_...) are none, and refused where one belongs.
                headers["Authorization"] = f"Bearer {self.key}"
            self._rpc = AsyncPostgrestClient(
                f"{self.url}/rest/v1", headers=headers, http_client=self.client(), retry_enabled=False
            )
        self.sent()
        try:
            async with asyncio.timeout(min(self.timeout_s, left_s)):
                response = await self._rpc.rpc(function, arguments).execute()  # type: ignore[arg-type]
        except (TimeoutError, httpx.TimeoutException) as e:
            raise SupabaseDown("timeout", type(e).__name__) from e
        except httpx.HTTPError as e:
            raise SupabaseDown("connection", why(e, urlsplit(self.url).hostname)) from e
        except APIError as e:
            raise SupabaseDown(_kind(e.code or "", e.message or ""), f"code {e.code}: {(e.message or '')[:200]}") from e
        return response.data


def _listed(item: object) -> Listed:
    match item:
        case {"subject": str(subject), "layout": str(layout), "changed": int(changed), "buckets": [*rows]}:
            try:
                buckets = tuple((int(length), int(start), int(spent), int(own)) for length, start, spent, own in rows)
                return Listed(subject, parse_places(layout), changed, buckets)
            except (ValueError, TypeError) as e:
                raise SupabaseDown("protocol", "a subject's layout or bucket cannot be read") from e
    raise SupabaseDown("protocol", "a subject that Redis lacks calls of has another shape than the migration's")


def _number(reply: object, function: str) -> int:
    if not isinstance(reply, int):
        raise SupabaseDown("protocol", f"{function} replied in another shape than the migration's")
    return reply


def _kind(code: str, message: str) -> Kind:
    # The gateway in front refuses a wrong key without a code.
    if "API key" in message or code in ("401", "403", "42501", "PGRST301", "PGRST302", "PGRST303"):
        return "unauthorized"
    if code.startswith("22"):
        # A data exception: a limit or a cost beyond what the functions take, which concerns no other caller.
        return "argument"
    return "throttled" if code == "429" else "server"


def _buckets(window: Window, item: object, name: str) -> Buckets:
    match item:
        case dict() if isinstance(pairs := item.get(name), list):
            found = {}
            for pair in pairs:
                match pair:
                    case [int(start_ms), int(count)]:
                        found[start_ms // window.bucket_ms] = count
                    case _:
                        raise SupabaseDown("protocol", "a bucket is not [start_ms, count]")
            return found
    raise SupabaseDown("protocol", f"a window without {name}")


def _as_windows(windows: Sequence[Window]) -> list[dict[str, int]]:
    return [{"window_ms": each.length_ms, "bucket_ms": each.bucket_ms, "limit": each.limit} for each in windows]


def _as_told(windows: Sequence[Window], usage: Usage | None) -> list[dict[str, object]]:
    return [
        {
            "window_ms": each.length_ms,
            "buckets": [[index * each.bucket_ms, count] for index, count in sorted(buckets.items())],
        }
        for each, buckets in zip(windows, usage or (), strict=usage is not None)
        if buckets
    ]
