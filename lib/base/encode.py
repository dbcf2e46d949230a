"""JSON as it is sent, by the standard library: pydantic, half of a cold start, is only used for bodies of requests."""

import json

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: object) -> bytes:
    """Compact UTF-8. Half a surrogate pair, which UTF-8 cannot encode, becomes a question mark instead of an error."""
    return _compact(value).encode(errors="replace")
