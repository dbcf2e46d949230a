"""A source's circuit as a value, and its transitions. ``docs/circuits.md`` explains the rules.

A caller's failure only raises a suspicion. A trivial question of our own, the check, decides whether the source is
really down, so that nobody's question closes a source for the others. Calls that never reached the source need no
check: no question can cause them.

    closed   --three failures, or a 429--> suspect      --three calls in a row that were never sent--> open
    suspect  --the check passes, or a call succeeds--> closed      --the check fails--> open
    open     --until_ms passes, one request claims--> probing
    probing  --the check passes--> closed      --it fails--> open      --its lease runs out--> claimable

In ``closed`` and ``suspect`` calls pass; in ``open`` and ``probing`` they are refused. The whole state is one small
text, written by compare-and-swap only, so transitions stay these pure functions wherever the value lives. Every change
of state starts a new generation. A call carries the :class:`Ticket` of the state that it began under, and its result
counts only in the same generation.

A source without a check opens for failures of five callers, or for failures in a row where callers are not known;
there the first call after the pause is the probe itself.
"""

import hashlib
from dataclasses import replace
from typing import Literal

from ..base.values import dataclass

type State = Literal["closed", "suspect", "open", "probing"]
type View = Literal["pass", "probe", "refuse"]
type Failure = Literal["never_sent", "soft", "throttled"]
"""``never_sent``: refused, not resolved, no TLS, not connected in time; ``throttled``: 429; ``soft``: every other."""

type Aside = tuple[tuple[int, int], ...]
"""Callers by tag whose failures do not count, and until when, in seconds since the epoch; the oldest first."""

CALLERS = 5
"""Failures of so many callers open a circuit without a check."""
_WHO, _ASIDE, _ASIDE_S = 3, 16, 600
_BETWEEN_CHECKS_MS = 5_000


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """``threshold`` failures in a row are a suspicion; an open circuit rests for ``cooldown_ms``."""

    threshold: int = 3
    cooldown_ms: int = 60_000
    lease_ms: int = 65_000
    """How long a call may take that is the probe itself."""
    check_ms: int = 10_000
    """How long a check may take."""
    max_rest_ms: int = 600_000
    """The longest rest that a 429 can ask for, unless it names a daily quota."""

    @property
    def check_lease_ms(self) -> int:
        """Whoever checks has so long to say what came of it."""
        return self.check_ms + _BETWEEN_CHECKS_MS


@dataclass(frozen=True, slots=True)
class Circuit:
    """The state of one circuit. The default is that of a source without failures."""

    state: State = "closed"
    generation: int = 0
    failures: int = 0
    """Failures since the last success."""
    down: int = 0
    """Calls in a row that were never sent."""
    until_ms: int = 0
    """With an owner: when its lease ends. Else the earliest time of a check, which in ``open`` ends the pause."""
    owner: str = ""
    """Who checks."""
    since_ms: int = 0
    """When the circuit was last suspected or opened."""
    reason: str = ""
    """The kind of the failure that did it."""
    ok_ms: int = 0
    """When a call or check began that is known to have succeeded: what began before it says nothing."""
    who: tuple[int, ...] = ()
    """The callers, by tag, whose failures are counted."""
    aside: Aside = ()


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a call began under: the generation, who held the circuit, whether failures were known; when, and whose."""

    generation: int
    owner: str = ""
    noted: bool = False
    began_ms: int = 0
    tag: int | None = None


def tag_of(caller: str) -> int | None:
    """16 bits that stand for a caller in the shared value; None for no caller."""
    return int(hashlib.sha256(caller.encode(errors="surrogatepass")).hexdigest()[:4], 16) if caller else None


def view(circuit: Circuit, now_ms: int) -> View:
    """Whether a call may go, may go once the probe is claimed, or may not."""
    if circuit.state in ("closed", "suspect"):
        return "pass"
    return "probe" if now_ms >= circuit.until_ms else "refuse"


def check_is_due(circuit: Circuit, now_ms: int) -> bool:
    """Whether the source is suspected, nobody is checking it, and the last check is long enough ago."""
    return circuit.state == "suspect" and now_ms >= circuit.until_ms


def is_aside(circuit: Circuit, tag: int | None, now_ms: int) -> bool:
    """Whether this caller's failures do not count, because a check has refuted them lately."""
    return any(each == tag and until_s * 1000 > now_ms for each, until_s in circuit.aside)


def ticket(circuit: Circuit, now_ms: int = 0, tag: int | None = None) -> Ticket:
    """What a call that starts now has to show with its result."""
    noted = circuit.failures > 0 or circuit.state == "suspect"
    return Ticket(circuit.generation, circuit.owner, noted, now_ms, tag)


def claim(circuit: Circuit, owner: str, now_ms: int, lease_ms: int) -> Circuit:
    """Take the check or the probe. The caller has it only if this very value was swapped in for the one it read."""
    if circuit.state == "suspect":
        return replace(circuit, owner=owner, until_ms=now_ms + lease_ms)
    return replace(circuit, state="probing", generation=circuit.generation + 1, owner=owner, until_ms=now_ms + lease_ms)


def opens(circuit: Circuit, now_ms: int, until_ms: int, reason: str) -> Circuit:
    """Open until then."""
    again = circuit.state in ("open", "probing")
    return Circuit(
        "open",
        circuit.generation + 1,
        until_ms=until_ms,
        since_ms=circuit.since_ms if again else now_ms,
        reason=reason,
        ok_ms=circuit.ok_ms,
        aside=_current(circuit.aside, now_ms),
    )


def closes(circuit: Circuit, began_ms: int = 0, check_from_ms: int = 0) -> Circuit:
    """Close, by something that began then and succeeded."""
    return Circuit(
        generation=circuit.generation + 1,
        until_ms=check_from_ms,
        ok_ms=max(circuit.ok_ms, began_ms),
        aside=circuit.aside,
    )


# Calls


def counts(circuit: Circuit, held: Ticket, failure: Failure, now_ms: int, ok_began_ms: int = 0) -> bool:
    """Whether a failure says anything of this state. ``ok_began_ms``: this instance's latest start of a success."""
    if circuit.state == "probing":
        return _is_probe(circuit, held)
    if circuit.state == "open" or held.generation != circuit.generation:
        return False
    if held.began_ms < max(circuit.ok_ms, ok_began_ms):
        return False
    return failure == "never_sent" or not is_aside(circuit, held.tag, now_ms)


def fail(
    circuit: Circuit,
    held: Ticket,
    failure: Failure,
    now_ms: int,
    policy: BreakerPolicy,
    reason: str = "",
    *,
    ok_began_ms: int = 0,
    owner: str = "",
    checked: bool = True,
) -> Circuit:
    """A call failed. ``owner`` would check at once, if it comes to that. ``checked``: whether there is a check."""
    if not counts(circuit, held, failure, now_ms, ok_began_ms):
        return circuit
    if circuit.state == "probing":
        return opens(circuit, now_ms, now_ms + policy.cooldown_ms, reason)
    if circuit.state == "suspect" and checked:
        return circuit
    known = held.tag is None or held.tag in circuit.who
    if not checked and failure != "never_sent" and held.tag is not None and known:
        return circuit
    down = circuit.down + 1 if failure == "never_sent" else 0
    failures = policy.threshold if failure == "throttled" and checked else circuit.failures + 1
    who = circuit.who if known else (*circuit.who, held.tag or 0)
    if down >= policy.threshold or (not checked and _are_enough(failures, who, held, policy)):
        return opens(circuit, now_ms, now_ms + policy.cooldown_ms, reason)
    noted = replace(circuit, failures=failures, down=down, who=who[-_WHO:] if checked else who)
    return _suspected(noted, now_ms, policy, reason, owner) if checked and failures >= policy.threshold else noted


def _are_enough(failures: int, who: tuple[int, ...], held: Ticket, policy: BreakerPolicy) -> bool:
    """Whether failures open a circuit that has no check."""
    if held.tag is None:
        return failures - len(who) >= policy.threshold
    return len(who) >= CALLERS


def _suspected(circuit: Circuit, now_ms: int, policy: BreakerPolicy, reason: str, owner: str) -> Circuit:
    owner = owner if now_ms >= circuit.until_ms else ""
    return replace(
        circuit,
        state="suspect",
        generation=circuit.generation + 1,
        until_ms=now_ms + policy.check_lease_ms if owner else circuit.until_ms,
        owner=owner,
        since_ms=now_ms,
        reason=reason,
    )


def stalls(circuit: Circuit, tags: tuple[int, ...], owner: str, now_ms: int, policy: BreakerPolicy) -> Circuit:
    """Calls of these callers have been waiting for long, and none has succeeded since: suspect, and check."""
    if circuit.state != "closed" or now_ms < circuit.until_ms:
        return circuit
    return _suspected(replace(circuit, who=tags[:_WHO]), now_ms, policy, "stalled", owner)


def succeed(circuit: Circuit, held: Ticket, policy: BreakerPolicy) -> Circuit:
    """A call succeeded that had read of failures, or was the probe. Else the very same circuit: nothing is written."""
    if circuit.state == "probing" and _is_probe(circuit, held):
        return closes(circuit, held.began_ms)
    if held.generation != circuit.generation or not held.noted:
        return circuit
    if circuit.state == "suspect":
        return closes(circuit, held.began_ms, _next_check_ms(circuit, policy))
    if circuit.state == "closed" and circuit.failures:
        return replace(closes(circuit, held.began_ms, circuit.until_ms), generation=circuit.generation)
    return circuit


def rest(circuit: Circuit, held: Ticket, now_ms: int, until_ms: int, reason: str) -> Circuit:
    """A call succeeded, and the source said that it will refuse the next ones until then."""
    if circuit.state == "open" or held.generation != circuit.generation:
        return circuit
    return opens(circuit, now_ms, until_ms, reason)


def release(circuit: Circuit, held: Ticket, now_ms: int) -> Circuit:
    """A call that was the probe ended without saying anything of the source: the next one may probe at once."""
    if circuit.state != "probing" or not _is_probe(circuit, held):
        return circuit
    return replace(circuit, state="open", generation=circuit.generation + 1, until_ms=now_ms, owner="")


def _is_probe(circuit: Circuit, held: Ticket) -> bool:
    return (held.generation, held.owner) == (circuit.generation, circuit.owner)


# Checks


def check_passed(circuit: Circuit, owner: str, began_ms: int, now_ms: int, policy: BreakerPolicy) -> Circuit:
    """The owner's check passed: close, and let the failures of those who raised the suspicion not count for a while."""
    if not owner or circuit.owner != owner:
        return circuit
    until_s = now_ms // 1000 + _ASIDE_S
    others = tuple(each for each in _current(circuit.aside, now_ms) if each[0] not in circuit.who)
    aside = (*others, *((tag, until_s) for tag in circuit.who))[-_ASIDE:]
    return replace(closes(circuit, began_ms, _next_check_ms(circuit, policy)), aside=aside)


def check_failed(
    circuit: Circuit, owner: str, now_ms: int, policy: BreakerPolicy, reason: str, until_ms: int | None = None
) -> Circuit:
    """The owner's check failed: open, until the source's own time where it named one."""
    if not owner or circuit.owner != owner:
        return circuit
    return opens(circuit, now_ms, now_ms + policy.cooldown_ms if until_ms is None else until_ms, reason)


def check_undecided(circuit: Circuit, owner: str, now_ms: int, policy: BreakerPolicy) -> Circuit:
    """The owner's check said nothing of the source: another may check after a while."""
    if not owner or circuit.owner != owner:
        return circuit
    until_ms = max(now_ms, _next_check_ms(circuit, policy))
    if circuit.state == "suspect":
        return replace(circuit, owner="", until_ms=until_ms)
    return replace(circuit, state="open", generation=circuit.generation + 1, owner="", until_ms=until_ms)


def _next_check_ms(circuit: Circuit, policy: BreakerPolicy) -> int:
    """The earliest time of another check: some seconds after the owner of this one took it."""
    return circuit.until_ms - policy.check_ms if circuit.owner else circuit.until_ms


def _current(aside: Aside, now_ms: int) -> Aside:
    return tuple(each for each in aside if each[1] * 1000 > now_ms)
