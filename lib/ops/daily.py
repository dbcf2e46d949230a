"""The daily job: the vendor's own figures, and the rules of alerts. It may run twice a day, or not at all."""

from typing import TYPE_CHECKING

from ..base.events import StoreFailed, VendorUnavailable
from ..edge.replies import DailyBody
from ..ledger import places, reading
from ..ledger.places import Name
from ..ledger.reading import Reading
from ..ledger.table import place
from ..limits.supabase import SupabaseDown
from .upstash_account import AccountDown, UpstashAccount

if TYPE_CHECKING:
    from ..app.wiring import Parts

_WAIT_S = 5.0


async def run(parts: "Parts", request_id: str) -> DailyBody:
    """Correct, measure, evaluate. Raises RedisDown where the ledger cannot be read."""
    redis, now_ms = parts.guard.limits.redis, parts.clock.now_ms()
    known: dict[Name, int] = {}
    size = await _measure(parts, known)
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
    waiting = parts.notice()
    await parts.settle()
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
