"""The golden file of the ledger's places: what is noted there does not move. ``make places`` notes new ones."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.ledger.places import (
    BLOCKS,
    FIVE_MINUTE_FIELDS,
    FIVE_MINUTE_ROOM,
    HOUR_FIELDS,
    HOUR_ROOM,
    SLOTS,
)
from lib.ledger.table import FIVE_MINUTE_BITS, FIVE_MINUTES_AT, HOUR_BITS, HOURS_AT, TOTAL_BITS, lay_out
from lib.redis import keys

GOLDEN = Path(__file__).parent / "places.golden"

MOVED = """\
These counters of the ledger have moved or are gone:

{}

Running deployments keep counts there, which would be read as something else. Give the entry its number back, and a new
entry a number of its own in lib/ledger/places.py. If an entry is retired, remove its lines from
tests/ledger/places.golden by hand and leave its number unused. If the layout itself must change, give keys.ledger a new
number first; see docs/decisions/0011-ledger-places.md."""

NEW = """\
These counters of the ledger are new, and not noted in tests/ledger/places.golden yet:

{}

Run `make places`, and commit the file."""


def lines() -> list[str]:
    """Every place there is, one a line, by area and number; the key and the areas first."""
    totals = sorted((slot, name) for name, slot in lay_out(BLOCKS).items())
    return [
        f"key {keys.ledger('{month}')}",
        f"area totals: {SLOTS} slots of {TOTAL_BITS} bits from bit 0",
        f"area hours: {HOUR_ROOM} fields of {HOUR_BITS} bits each from bit {HOURS_AT}",
        f"area five-minutes: {FIVE_MINUTE_ROOM} fields of {FIVE_MINUTE_BITS} bits each from bit {FIVE_MINUTES_AT}",
        *(f"total {slot} {'.'.join(name)}" for slot, name in totals),
        *(f"hour {number} {name}" for name, number in _by_number(HOUR_FIELDS.items())),
        *(f"five-minutes {number} {name}" for name, number in _by_number(FIVE_MINUTE_FIELDS.items())),
    ]


def _by_number(fields: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(fields, key=lambda field: field[1])


def fault(noted: Sequence[str], present: Sequence[str]) -> str | None:
    """What is wrong with the golden file's lines beside the present ones: what moved, else what is new."""
    if moved := _moved(noted, present):
        return MOVED.format("\n".join(moved))
    new = [line for line in present if line not in set(noted)]
    return NEW.format("\n".join(new)) if new else None


def _moved(noted: Sequence[str], present: Sequence[str]) -> list[str]:
    # Under a new key nothing has been counted yet.
    same_key = noted[:1] == present[:1]
    return [line for line in noted if line not in set(present)] if same_key else []


def read() -> list[str]:
    """The lines of the golden file."""
    return GOLDEN.read_text().splitlines() if GOLDEN.exists() else []


def main() -> int:
    """Note new places, unless noted ones have moved."""
    noted, present = read(), lines()
    if moved := _moved(noted, present):
        sys.stderr.write(MOVED.format("\n".join(moved)) + "\n")
        return 1
    GOLDEN.write_text("\n".join(present) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
