"""How limits are written: one grammar for callers' limits and providers' budgets.

``10/minute,100/day`` and ``off`` everywhere; budgets may also name a zone, whose calendar day it then is
(``225/day@America/Los_Angeles``), and count tokens (``6000 tokens/minute``).
"""

import re
from functools import lru_cache

from .window import Layout, Unit, window

OFF = "off"

_PART = re.compile(
    r"\s*(?P<limit>\d{1,10})\s*(?P<tokens>tokens)?\s*/\s*(?P<length>minute|hour|day)\s*(@(?P<zone>[\w/+-]{1,64}))?\s*"
)


@lru_cache(maxsize=256)
def parse_limits(text: str) -> Layout:
    """Read a caller's limit: no zones, no tokens. Raises ValueError with what to write instead."""
    return _parse(text, budget=False)


def parse_budget(text: str) -> Layout:
    """Read a provider's budget. Raises ValueError with what to write instead."""
    return _parse(text, budget=True)


def _parse(text: str, *, budget: bool) -> Layout:
    if text.strip().lower() == OFF:
        return Layout(())
    example = "9/minute,225/day@America/Los_Angeles" if budget else "10/minute,100/day"
    found = []
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if not match or (not budget and (match["tokens"] or match["zone"])):
            raise ValueError(f"not a limit: write for example '{example}', or 'off'")
        unit: Unit = "tokens" if match["tokens"] else "calls"
        try:
            found.append(window(match["length"], int(match["limit"]), unit, match["zone"]))
        except KeyError:
            raise ValueError("not a time zone: write for example 'America/Los_Angeles'") from None
    if len({each.name for each in found}) != len(found):
        twice = " for calls and once for tokens" if budget else ""
        raise ValueError(f"each of minute, hour and day may be given once{twice}")
    return Layout(tuple(found))
