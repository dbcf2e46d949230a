"""The daily job: the vendor's own figures, and the rules of alerts. It may run twice a day, or not at all."""

from contextlib import suppress
from typing import TYPE_CHECKING

from ..base.events import StoreFailed, VendorUnavailable
from ..edge.problems import Problem
from ..edge.replies import DailyBody
from ..ledger import places, reading
from ..ledger.places import Name
from ..ledger.reading import Reading
from ..ledger.table import place
from ..limits.supabase import CLEANED, SupabaseDown
from .alerts import Alerts
from .upstash_account import AccountDown, UpstashAccount

if TYPE_CHECKING:
    from ..parts import Parts

_WAIT_S = 5.0
_CLEANINGS = 20
"""So many times rows are deleted at most: what is left goes the next day."""


async def run(parts: "Parts", request_id: str) -> DailyBody:
    """Correct, measure, evaluate, and clean up. Raises RedisDown where the ledger cannot be read, when it is clean."""
    try:
        return await _evaluate(parts, request_id)
    finally:
        # Last: it may take long, and no alert should wait for it.
        await _clean(parts)
        await _roll_up(parts)


async def _evaluate(parts: "Parts", request_id: str) -> DailyBody:
    redis, now_ms = parts.guard.limits.redis, parts.clock.now_ms()
    known: dict[Name, int] = {}
    size = await _measure(parts, known)
    await _look_at_servers(parts)
    seen: Reading | None = None
    vendor = "not_configured"
    if redis is not None:
        # Flushed first, however little it is: the vendor has counted it as well.
        await parts.ledger.settle(1)
        seen = await redis.run(reading.read(now_ms), "read", _WAIT_S)
        vendor = await _correct(parts, seen, known)
        if known:
            number = await redis.run(reading.set_totals(known, seen.month), "ledger", _WAIT_S)
            expiring = reading.expire_new({seen.month: number}, now_ms)
            if expiring.commands:
                await redis.run(expiring, "ledger", _WAIT_S)
        seen = seen.plus({place(name): n - seen.total(*name) for name, n in known.items()})
        parts.ledger.learn(seen)
    await parts.ledger.settle()
    waiting = Alerts.of(parts).hear()
    await parts.alerts.get()(parts)
    return {
        "vendor": vendor,
        "commands": seen.commands if seen else 0,
        "supabaseBytes": size,
        "alerts": waiting,
        "requestId": request_id,
    }


async def _correct(parts: "Parts", seen: Reading, known: dict[Name, int]) -> str:
    """Take the vendor's figure of the month, with what was counted when it was taken."""
    settings = parts.settings
    if settings.upstash_api_key is None or settings.upstash_email is None or settings.redis_url is None:
        return "not_configured"
    key, client = settings.upstash_api_key.value, parts.client.get()
    account = UpstashAccount(client, settings.upstash_api_url, settings.upstash_email, key, settings.redis_url)
    try:
        total = await account.month_commands()
    except AccountDown as e:
        parts.emit(VendorUnavailable(str(e)))
        return "unavailable"
    known[places.VENDOR_TOTAL] = total
    known[places.VENDOR_COUNTED] = seen.total(*places.COMMANDS)
    known[places.VENDOR_AT] = parts.clock.now_ms() // 1000
    return "corrected"


async def _clean(parts: "Parts") -> None:
    """Delete what Supabase need not keep any more: calls do so only while Redis is away."""
    store = parts.guard.limits.supabase
    if store is None:
        return
    try:
        for _ in range(_CLEANINGS):
            if await store.supabase.clean(parts.clock.now_ms(), _WAIT_S) < CLEANED:
                return
    except SupabaseDown as e:
        parts.emit(StoreFailed("supabase", "read", str(e)))


async def _look_at_servers(parts: "Parts") -> None:
    """Notice who is silent although nobody looks: only where servers report."""
    if not parts.settings.fleet_tokens:
        return
    from ..fleet import fleet

    # Where Redis gives no reply, the store has reported it.
    with suppress(Problem):
        await fleet.read(parts)


async def _roll_up(parts: "Parts") -> None:
    """Roll up what servers' reports have recorded: only where they report."""
    if not parts.settings.fleet_tokens or parts.settings.supabase_key is None:
        return
    from ..data.origins.port import OriginFailed
    from ..fleet import cold

    try:
        await cold.sweep(parts)
    except OriginFailed as e:
        parts.emit(StoreFailed("supabase", "report", str(e)))


async def _measure(parts: "Parts", known: dict[Name, int]) -> int | None:
    store = parts.guard.limits.supabase
    if store is None:
        return None
    try:
        size = await store.supabase.size(_WAIT_S)
    except SupabaseDown as e:
        parts.emit(StoreFailed("supabase", "read", str(e)))
        return None
    known[places.SUPABASE_BYTES], known[places.SUPABASE_AT] = size, parts.clock.now_ms() // 1000
    return size
