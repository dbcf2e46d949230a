"""The fallback limits in Supabase, by one RPC (``supabase/migrations``), through its own PostgREST client.

That client is the part of the ``supabase`` package that a call needs; importing the whole package would take four times
as long, at the moment when Redis has just failed and the caller waits (docs/decisions/0006).
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from ..base.values import dataclass
from .judge import Quota, judge
from .window import SKEW_BACK_MS, Buckets, Usage, Window, window

if TYPE_CHECKING:
    import httpx
    from postgrest import AsyncPostgrestClient

type Kind = Literal["timeout", "connection", "unauthorized", "throttled", "server", "protocol", "resting"]


class SupabaseDown(Exception):
    """Supabase gave no usable reply. ``kind`` says how; the message holds no key and no value."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True)
class Counted:
    """What Supabase counts: ``total``, of which ``spent`` was admitted there; the rest is what it knows of Redis."""

    total: Usage
    spent: Usage


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
        windows: Sequence[Window],
        cost: int,
        now_ms: int,
        floor: Usage | None = None,
        owed: Usage | None = None,
        left_s: float = math.inf,
    ) -> tuple[Quota, Counted]:
        """Admit a call or refuse it; yields what is counted after it as well. Raises SupabaseDown.

        ``floor`` is what Redis itself was last known to have admitted, ``owed`` what was not reported to a store yet.
        """
        reply = await self._call(
            "breakwater_spend",
            {
                "p_subject": subject,
                "p_windows": _as_windows(windows),
                "p_cost": cost,
                "p_now_ms": now_ms,
                # One number for both directions. It has to be the one that judge() counts by: with a larger one the
                # function would refuse what the rule admits, which looks like a wrong migration.
                "p_skew_ms": SKEW_BACK_MS,
                "p_floor": _as_told(windows, floor),
                "p_owed": _as_told(windows, owed),
            },
            left_s,
        )
        match reply:
            case {"allowed": bool(allowed), "windows": [*found]} if len(found) == len(windows):
                pairs = list(zip(windows, found, strict=True))
                usage = tuple(_buckets(each, item, "buckets") for each, item in pairs)
                spent = tuple(_buckets(each, item, "spent") for each, item in pairs)
            case _:
                raise SupabaseDown("protocol", "breakwater_spend replied in another shape than the migration's")
        quota = judge(windows, usage, cost, now_ms, added=[allowed] * len(windows))
        if quota.allowed != allowed:
            raise SupabaseDown("protocol", "breakwater_spend decided against the rule: is the migration up to date?")
        return quota, Counted(usage, spent)

    async def ping(self, now_ms: int) -> None:
        """Check that the function exists and answers, without writing anything. Raises SupabaseDown."""
        await self.spend("health", [window("minute", 1)], 0, now_ms)

    async def reset(self, subject: str, left_s: float = math.inf) -> int:
        """Forget a subject; yields how many of its counts there were. Raises SupabaseDown."""
        return _number(await self._call("breakwater_reset", {"p_subject": subject}, left_s), "breakwater_reset")

    async def size(self, left_s: float = math.inf) -> int:
        """The size of the database in bytes. Raises SupabaseDown."""
        return _number(await self._call("breakwater_size", {}, left_s), "breakwater_size")

    async def _call(self, function: str, arguments: dict[str, object], left_s: float) -> object:
        import httpx
        from postgrest import AsyncPostgrestClient
        from postgrest.exceptions import APIError

        if self._rpc is None:
            headers = {"apikey": self.key, "Authorization": f"Bearer {self.key}"}
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
            raise SupabaseDown("connection", type(e).__name__) from e
        except APIError as e:
            raise SupabaseDown(_kind(e.code or "", e.message or ""), f"code {e.code}: {(e.message or '')[:200]}") from e
        return response.data


def _number(reply: object, function: str) -> int:
    if not isinstance(reply, int):
        raise SupabaseDown("protocol", f"{function} replied in another shape than the migration's")
    return reply


def _kind(code: str, message: str) -> Kind:
    # The gateway in front refuses a wrong key without a code.
    if "API key" in message or code in ("401", "403", "42501", "PGRST301", "PGRST302", "PGRST303"):
        return "unauthorized"
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
