"""A circuit as the text that is stored of it, and the one command that changes it: compare and swap.

``[2, state, generation, failures, down, until_ms, owner, since_ms, reason, ok_ms, who, aside]``. Release 0.1 keeps
another form under another key.
"""

import json
from collections.abc import Sequence

from ..redis.op import Op, Reply, Script, as_int, as_list, as_text
from .circuit import Circuit

_VERSION = 2
_STATES = ("closed", "suspect", "open", "probing")
_TYPES = (int, str, int, int, int, int, str, int, str, int, list, list)


def dump(circuit: Circuit) -> str:
    """The circuit as stored, below 500 bytes. The untouched circuit is the empty text: no key."""
    if circuit == Circuit():
        return ""
    c = circuit
    numbers = [_VERSION, c.state, c.generation, c.failures, c.down, c.until_ms, c.owner, c.since_ms, c.reason[:24]]
    return json.dumps([*numbers, c.ok_ms, c.who, c.aside], separators=(",", ":"))


def parse(text: str | None) -> Circuit:
    """The circuit that ``text`` stores; a text that stores none is an untouched circuit, to be overwritten."""
    try:
        values = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return Circuit()
    if (
        not isinstance(values, list)
        or len(values) != len(_TYPES)
        or any(type(value) is not kind for value, kind in zip(values, _TYPES, strict=True))
        or values[0] != _VERSION
        or values[1] not in _STATES
        or not (values[6] + values[8]).isascii()
    ):
        return Circuit()
    who, aside = values[10:]
    if any(type(tag) is not int for tag in who) or not all(_is_pair(each) for each in aside):
        return Circuit()
    values[10:] = tuple(who), tuple((tag, until_s) for tag, until_s in aside)
    return Circuit(*values[1:])


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)


_FORGET_FAILURES_MS = 3_600_000
_LONGEST_CALL_MS = 600_000
"""Longer than any function may run: after it no ticket of an older generation can exist."""


def ttl_ms(circuit: Circuit, now_ms: int) -> int:
    """How long the stored circuit matters."""
    if circuit.state == "closed" and not circuit.failures:
        return max(_LONGEST_CALL_MS, *(until_s * 1000 - now_ms for _, until_s in circuit.aside), 0)
    if circuit.state in ("closed", "suspect"):
        return _FORGET_FAILURES_MS
    return max(0, circuit.until_ms - now_ms) + _FORGET_FAILURES_MS


# Compare and swap. Redis has no such command before 8.4, and a script is billed for what it runs inside as well; but
# it runs only when a circuit changes, never for a healthy call. A value of another type counts as absent.
_SWAP = Script(
    2,
    """\
local v = redis.pcall('GET', KEYS[1])
if type(v) ~= 'string' then v = '' end
if v ~= ARGV[1] then return {0, v} end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return {1, ARGV[2]}""",
)


def swap(key: str, read: str | None, new: Circuit, now_ms: int) -> Op[tuple[bool, str]]:
    """Store ``new`` if the key still holds ``read``; yields whether it did, and what the key holds now.

    1 command, billed as 3 with those inside.
    """
    command = ("EVAL", _SWAP, 1, key, read or "", dump(new), ttl_ms(new, now_ms))

    def answer(replies: Sequence[Reply]) -> tuple[bool, str]:
        done, held = as_list(replies[0], 2)
        return as_int(done) == 1, as_text(held) or ""

    return Op((command,), answer)
