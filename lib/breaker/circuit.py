"""A circuit breaker as a value and its transitions.

The whole state is one small text, written by compare-and-swap only, so transitions stay these pure functions wherever
the value lives: in Redis for a backend that all instances share, in memory for Redis itself and for the fallback modes.

    closed --failures reach the threshold--> open --until_ms passes, one caller claims--> half_open
    half_open --its owner succeeds--> closed      --its owner fails--> open      --its lease runs out--> claimable

Every change of state starts a new generation. A call carries the :class:`Ticket` of the state it started under, and its
result counts only while that is still the state: late results change nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ..base.values import dataclass
from ..redis.op import Op, Reply, as_int, as_list, as_text

type State = Literal["closed", "open", "half_open"]
type View = Literal["pass", "probe", "refuse"]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """``threshold`` failures in a row open the circuit for ``cooldown_ms``; a probe has ``lease_ms`` to answer."""

    threshold: int = 3
    cooldown_ms: int = 60_000
    lease_ms: int = 65_000


@dataclass(frozen=True, slots=True)
class Circuit:
    """The state of one breaker. The default is that of a backend without failures."""

    state: State = "closed"
    generation: int = 0
    failures: int = 0
    """Closed: failures in a row so far."""
    until_ms: int = 0
    """Open: when a probe may go. Half open: when the probe's lease ends."""
    owner: str = ""
    """Half open: who holds the probe."""
    since_ms: int = 0
    """When the circuit last opened."""
    reason: str = ""
    """The kind of the failure that opened it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The state a call started under."""

    generation: int
    owner: str = ""


def view(circuit: Circuit, now_ms: int) -> View:
    """Whether a call may go, may go as the one probe (once claimed), or may not."""
    if circuit.state == "closed":
        return "pass"
    return "probe" if now_ms >= circuit.until_ms else "refuse"


def ticket(circuit: Circuit) -> Ticket:
    """The ticket that a call which starts now presents with its result."""
    return Ticket(circuit.generation, circuit.owner)


def claim(circuit: Circuit, owner: str, now_ms: int, policy: BreakerPolicy) -> Circuit:
    """Take the probe. The caller has it only if this very value was swapped in for the one it read."""
    return replace(
        circuit,
        state="half_open",
        generation=circuit.generation + 1,
        until_ms=now_ms + policy.lease_ms,
        owner=owner,
    )


def fail(
    circuit: Circuit, held: Ticket, now_ms: int, policy: BreakerPolicy, reason: str = "", until_ms: int | None = None
) -> Circuit:
    """A call failed. ``until_ms`` opens at once and until then: for a backend that says when it will serve again."""
    if held != ticket(circuit) or circuit.state == "open":
        return circuit
    failures = circuit.failures + 1
    if circuit.state == "closed" and failures < policy.threshold and until_ms is None:
        return replace(circuit, failures=failures)
    return Circuit(
        "open",
        circuit.generation + 1,
        until_ms=until_ms if until_ms is not None else now_ms + policy.cooldown_ms,
        since_ms=circuit.since_ms if circuit.state == "half_open" else now_ms,
        reason=reason,
    )


def succeed(circuit: Circuit, held: Ticket) -> Circuit:
    """A call succeeded: forget failures, close after a probe. The very same circuit where nothing is to be written."""
    if held != ticket(circuit) or (circuit.state == "closed" and not circuit.failures):
        return circuit
    if circuit.state == "closed":
        return replace(circuit, failures=0)
    return Circuit(generation=circuit.generation + 1)


def release(circuit: Circuit, held: Ticket, now_ms: int) -> Circuit:
    """A probe ended without a result (its client left): the next one may go at once."""
    if held != ticket(circuit) or circuit.state != "half_open":
        return circuit
    return replace(circuit, state="open", generation=circuit.generation + 1, until_ms=now_ms, owner="")


_FIELDS = ("state", "generation", "failures", "until_ms", "owner", "since_ms", "reason")
_TYPES = (str, int, int, int, str, int, str)
_STATES = ("closed", "open", "half_open")


def dump(circuit: Circuit) -> str:
    """The circuit as stored. The untouched circuit is the empty text: no key."""
    if circuit == Circuit():
        return ""
    return json.dumps([getattr(circuit, name) for name in _FIELDS], separators=(",", ":"))


def parse(text: str | None) -> Circuit:
    """The circuit that ``text`` stores; a text that stores none is an untouched circuit, to be overwritten."""
    try:
        values = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return Circuit()
    if (
        not isinstance(values, list)
        or len(values) != len(_FIELDS)
        or any(type(value) is not kind for value, kind in zip(values, _TYPES, strict=True))
        or values[0] not in _STATES
        or not (values[4] + values[6]).isascii()
    ):
        return Circuit()
    return Circuit(*values)


_FORGET_FAILURES_MS = 3_600_000
_LONGEST_CALL_MS = 600_000
"""Longer than any function may run: after it no ticket of an older generation can exist."""


def ttl_ms(circuit: Circuit, now_ms: int) -> int:
    """How long the stored circuit matters."""
    if circuit.state == "closed":
        return _FORGET_FAILURES_MS if circuit.failures else _LONGEST_CALL_MS
    return max(0, circuit.until_ms - now_ms) + _FORGET_FAILURES_MS


# Compare and swap. Redis has no such command before 8.4, and a script is billed for what it runs inside as well; but
# it runs only when a circuit changes, never for a healthy call. A value of another type counts as absent.
_SWAP = """\
local v = redis.pcall('GET', KEYS[1])
if type(v) ~= 'string' then v = '' end
if v ~= ARGV[1] then return {0, v} end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return {1, ARGV[2]}"""


def swap(key: str, read: str | None, new: Circuit, now_ms: int) -> Op[tuple[bool, str]]:
    """Store ``new`` if the key still holds ``read``; yields whether it did, and what the key holds now.

    1 command, billed as 3 with those inside.
    """
    command = ("EVAL", _SWAP, 1, key, read or "", dump(new), ttl_ms(new, now_ms))

    def answer(replies: Sequence[Reply]) -> tuple[bool, str]:
        done, held = as_list(replies[0], 2)
        return as_int(done) == 1, as_text(held) or ""

    return Op((command,), answer)
