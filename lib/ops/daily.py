"""The daily job: the vendor's own figures, and a look at what is worth an alert. May run twice, or never."""

from ..app.wiring import Parts
from ..base.events import StoreFailed, VendorUnavailable
from ..edge.replies import DailyBody
from ..ledger import counters
from ..ledger.counters import Name, Reading
from ..limits.supabase import SupabaseDown
from .upstash_account import AccountDown, UpstashAccount

_WAIT_S = 5.0


async def run(parts: Parts, request_id: str) -> DailyBody:
    """Correct, measure, evaluate. Raises RedisDown where the ledger cannot be read."""
    redis, now_ms = parts.guard.redis, parts.clock.now_ms()
    known: dict[Name, int] = {}
    size = await _measure(parts, known)
    reading: Reading | None = None
    vendor = "not_configured"
    if redis is not None:
        # Handed over first, however little it is: the vendor has counted it as well.
        await parts.ledger.settle(1)
        reading = await redis.run(counters.read(now_ms), "read", _WAIT_S)
        vendor = await _correct(parts, reading, known)
        if known:
            touch = await redis.run(counters.note(known, now_ms), "ledger", _WAIT_S)
            ttls = counters.ttls({reading.month: touch}, now_ms)
            if ttls.commands:
                await redis.run(ttls, "ledger", _WAIT_S)
        reading = reading.plus({counters.spot(name): n - reading.total(*name) for name, n in known.items()})
        parts.ledger.read(reading)
    waiting = parts.notice()
    await parts.settle()
    return {
        "vendor": vendor,
        "commands": reading.commands if reading else 0,
        "supabaseBytes": size,
        "alerts": waiting,
        "requestId": request_id,
    }


async def _correct(parts: Parts, reading: Reading, known: dict[Name, int]) -> str:
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
    known[counters.VENDOR_TOTAL] = total
    known[counters.VENDOR_COUNTED] = reading.total(*counters.COMMANDS)
    known[counters.VENDOR_AT] = parts.clock.now_ms() // 1000
    return "corrected"


async def _measure(parts: Parts, known: dict[Name, int]) -> int | None:
    store = parts.guard.limits.supabase
    if store is None:
        return None
    try:
        size = await store.supabase.size(_WAIT_S)
    except SupabaseDown as e:
        parts.emit(StoreFailed("supabase", "read", str(e)))
        return None
    known[counters.SUPABASE_BYTES], known[counters.SUPABASE_AT] = size, parts.clock.now_ms() // 1000
    return size
