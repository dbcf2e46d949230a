"""What replies say of Redis as this instance sees it: its state, its last round trip, its last error. No address."""

from ..redis.store import RedisStore
from .replies import RedisHealth


def redis_health(store: RedisStore | None) -> RedisHealth:
    """Of what the last calls showed; nothing is sent."""
    if store is None:
        return {"state": "disabled"}
    contact = store.contact
    body: RedisHealth = {"state": "unknown" if contact.up is None else "up" if contact.up else "down"}
    if contact.up is not None:
        body["since"] = contact.since_ms // 1000
    if contact.trip_ms is not None:
        body["roundTripMs"] = round(contact.trip_ms, 2)
    if contact.error is not None:
        body["lastError"] = {"kind": contact.error, "at": contact.error_ms // 1000}
        if not contact.up:
            body["reason"] = contact.error
    return body
