"""What a person with the token may change by hand. Keys are named one by one: nothing here searches Redis."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from ..app.wiring import Parts
from ..base import caller
from ..base.caller import Caller, Trust
from ..base.events import AdminActed, CircuitChanged
from ..breaker import circuit as breaker
from ..breaker.circuit import Circuit
from ..edge.problems import Problem
from ..limits import bitfield
from ..limits.supabase import SupabaseDown
from ..limits.window import DAY_MS
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Command, Op, as_text, gather, ignored

_WAIT_S = 2.0
_TRIES = 5
_RESET_SHOWS_MS = 3 * DAY_MS
"""As long as any instance may remember a finished day."""

type Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
type Route = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9/_-]{0,80}$")]


class Invalidate(BaseModel):
    """Let no answer of before be served again: of a session, of a route, or none at all."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["invalidate"]
    scope: Literal["session", "route", "everything"]
    route: Route = "ai/supervisor"
    session: Text | None = None


class Reset(BaseModel):
    """Give a caller its whole allowance back: by ``user`` id, by network ``address``, or by the ``caller`` of a log."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["reset"]
    user: Text | None = None
    address: Text | None = None
    caller: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None


class Turn(BaseModel):
    """Open a provider's circuit for ``seconds``, or close it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["circuit"]
    provider: Text
    state: Literal["open", "closed"]
    seconds: Annotated[int, Field(ge=1, le=86_400)] = 3_600


class Action(RootModel[Annotated[Invalidate | Reset | Turn, Field(discriminator="action")]]):
    """One thing to be done by hand."""


async def act(parts: Parts, action: Action, request_id: str) -> str:
    """Do it, log it, and say what was done. Raises Problem."""
    match action.root:
        case Invalidate() as invalidate:
            about, done = await _invalidate(parts, invalidate)
        case Reset() as reset:
            about, done = await _reset(parts, reset)
        case Turn() as turn:
            about, done = await _turn(parts, turn)
    parts.emit(AdminActed(request_id, action.root.action, about, done))
    return done


async def _invalidate(parts: Parts, asked: Invalidate) -> tuple[str, str]:
    """Count the epoch up: 2 commands."""
    if asked.scope == "session":
        if asked.session is None:
            raise Problem("invalid_request", "session: missing, while scope is session")
        key, about = keys.epoch_session(asked.route, asked.session), f"a session of {asked.route}"
    elif asked.scope == "route":
        key, about = keys.epoch_route(asked.route), asked.route
    else:
        key, about = keys.EPOCH_ALL, "everything"
    cache = parts.settings.policy_for(f"/api/{asked.route}").cache
    # Longer than any answer of before can be kept: only then may the count begin anew.
    lasts_s = (cache.fresh_ms + max(cache.refresh_ms, cache.stale_ms)) // 1000 + 86_400
    await _send(parts, ("INCR", key), ("EXPIRE", key, lasts_s))
    return about, f"answers of before are invalid: {about}"


async def _reset(parts: Parts, asked: Reset) -> tuple[str, str]:
    """Forget the caller's counts in every group of routes, in both stores; other instances learn of it by a note."""
    who = _caller(parts, asked)
    subjects = [
        caller.subject(who, each.group, each.layout.tag) for each in parts.settings.policies() if each.layout.windows
    ]
    now_ms, done = parts.clock.now_ms(), []
    limits = parts.guard.limits
    for subject in subjects:
        parts.guard.blocklist.forget(subject)
        limits.forget(subject)
    if limits.supabase is not None:
        try:
            for subject in subjects:
                await limits.supabase.reset(subject, _WAIT_S)
            done.append("Supabase")
        except SupabaseDown as e:
            done.append(f"not Supabase ({e.kind})")
    if limits.redis is not None:
        await _send(
            parts,
            *(command for subject in subjects for command in bitfield.reset(subject, now_ms).commands),
            *(("SET", keys.reset(subject), now_ms, "PX", _RESET_SHOWS_MS) for subject in subjects),
        )
        done.append("Redis")
    return who.id, f"reset in {', '.join(done) or 'this instance'}"


def _caller(parts: Parts, asked: Reset) -> Caller:
    secret = parts.settings.identity_key
    match asked:
        case Reset(user=str(user), address=None, caller=None):
            return caller.identify("user", user, secret)
        case Reset(user=None, address=str(address), caller=None):
            network = caller.client_address(lambda name: "", address, Trust())
            if network == "unknown" and address != "unknown":
                raise Problem("invalid_request", "address: not an IP address")
            return caller.identify("address", network, secret)
        case Reset(user=None, address=None, caller=str(found)):
            return Caller("hash", found)
    raise Problem("invalid_request", "send one of user, address and caller")


async def _turn(parts: Parts, asked: Turn) -> tuple[str, str]:
    """Move a circuit by compare-and-swap, as the instances do."""
    chain, now_ms = parts.guard.chain, parts.clock.now_ms()
    place = next((at for at, link in enumerate(chain.links) if link.name == asked.provider), None)
    if place is None:
        raise Problem("invalid_request", f"provider: one of {', '.join(link.name for link in chain.links)}")
    redis, key = parts.guard.redis, keys.circuit(asked.provider)
    before = after = chain.circuits[place]
    if redis is None:
        after = _turned(before, asked, now_ms)
    else:
        try:
            text = await redis.run(Op((("GET", key),), lambda replies: as_text(replies[0])), "admin", _WAIT_S)
            for _ in range(_TRIES):
                before = breaker.parse(text)
                after = _turned(before, asked, now_ms)
                swapped, text = await redis.run(breaker.swap(key, text, after, now_ms), "admin", _WAIT_S)
                if swapped:
                    break
            else:
                raise Problem("store_unavailable", "The circuit kept moving. Try again.", 1)
        except RedisDown as e:
            raise _down(e) from e
    chain.circuits[place] = after
    if before.state != after.state:
        parts.emit(CircuitChanged(asked.provider, before.state, after.state, "by hand"))
    scope = "" if redis else " in this instance"
    return asked.provider, f"the circuit of {asked.provider} is {after.state}{scope}"


def _turned(circuit: Circuit, asked: Turn, now_ms: int) -> Circuit:
    # A new generation: what was under way before says nothing of this state.
    if asked.state == "closed":
        return Circuit(generation=circuit.generation + 1)
    until_ms = now_ms + asked.seconds * 1000
    return replace(Circuit("open", circuit.generation + 1), until_ms=until_ms, since_ms=now_ms, reason="by hand")


async def _send(parts: Parts, *commands: Command) -> None:
    redis = parts.guard.redis
    if redis is None:
        raise Problem("store_unavailable", "Redis is switched off, so there is nothing to change there.")
    try:
        await redis.run(gather([Op((command,), ignored) for command in commands]), "admin", _WAIT_S)
    except RedisDown as e:
        raise _down(e) from e


def _down(error: RedisDown) -> Problem:
    return Problem("store_unavailable", f"Redis gave no usable reply ({error.kind}). Try again.", 5)
