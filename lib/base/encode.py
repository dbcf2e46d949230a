"""JSON as it goes out, by the standard library: pydantic is half of a cold start and is left to bodies that come in."""

import json

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: object) -> bytes:
    """Compact UTF-8. Half a surrogate pair, which UTF-8 cannot carry, becomes a question mark rather than a failure."""
    return _compact(value).encode(errors="replace")
