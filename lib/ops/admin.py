"""Admin actions, for whoever has the token. Keys are named one by one: nothing here searches Redis."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from ..base import caller
from ..base.caller import Caller, Trust
from ..base.events import AdminActed
from ..breaker.circuit import Circuit
from ..cache import epochs
from ..edge.problems import Problem
from ..limits import bitfield, news
from ..limits.supabase import SupabaseDown
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Command, Op, gather, ignored

if TYPE_CHECKING:
    from ..app.wiring import Parts

_WAIT_S = 2.0

type Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
type Route = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9/_-]{0,80}$")]


class Invalidate(BaseModel):
    """Invalidate all values that are stored now: of a session, a tag, a route, or all of them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["invalidate"]
    scope: Literal["session", "tag", "route", "everything"]
    route: Route = "ai/supervisor"
    session: Text | None = None
    tag: Text | None = None


class Reset(BaseModel):
    """Reset a caller's counts: by ``user`` id, by network ``address``, or by the ``caller`` of a log."""

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
    """One admin action."""


async def act(parts: "Parts", action: Action, request_id: str) -> str:
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


async def _invalidate(parts: "Parts", wanted: Invalidate) -> tuple[str, str]:
    """Replace the epoch: 1 command."""
    if wanted.scope == "session":
        if wanted.session is None:
            raise Problem("invalid_request", "session: missing, while scope is session")
        key, about = epochs.session_key(wanted.route, wanted.session), f"a session of {wanted.route}"
    elif wanted.scope == "tag":
        if wanted.tag is None:
            raise Problem("invalid_request", "tag: missing, while scope is tag")
        key, about = epochs.tag_key(wanted.tag), "a tag"
    elif wanted.scope == "route":
        key, about = keys.epoch_route(wanted.route), wanted.route
    else:
        key, about = keys.EPOCH_ALL, "everything"
    await _send(parts, *epochs.replace(key).commands)
    return about, f"invalidated: {about}"


async def _reset(parts: "Parts", wanted: Reset) -> tuple[str, str]:
    """Delete the caller's counts in every group of routes, in both stores; a mark tells the other instances."""
    who = _caller(parts, wanted)
    subjects = [
        caller.subject(who, each.group, each.layout.tag) for each in parts.settings.policies() if each.layout.windows
    ]
    now_ms, done = parts.clock.now_ms(), []
    limits = parts.guard.limits
    for subject in subjects:
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
            *news.report(subjects, now_ms).commands,
        )
        done.append("Redis")
    shows = ""
    if limits.redis is not None:
        shows = "; shows within 10 s to who was refused in the last 7 minutes, within 80 s to others"
    return who.id, f"reset in {', '.join(done) or 'this instance'}{shows}"


def _caller(parts: "Parts", wanted: Reset) -> Caller:
    secret = parts.settings.identity_key
    match wanted:
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


async def _turn(parts: "Parts", wanted: Turn) -> tuple[str, str]:
    """Move a circuit as the instances do."""
    name, now_ms = wanted.provider, parts.clock.now_ms()
    names = [link.name for link in parts.chain.links]
    if name not in names:
        raise Problem("invalid_request", f"provider: one of {', '.join(names)}")
    try:
        reading = await parts.circuits.read(name, "admin", _WAIT_S)
        await parts.circuits.move_now(reading, lambda circuit: _turned(circuit, wanted, now_ms), "by hand", "admin")
    except RedisDown as e:
        raise _down(e) from e
    scope = "" if reading.shared else " in this instance"
    return name, f"the circuit of {name} is {reading.circuit.state}{scope}"


def _turned(circuit: Circuit, wanted: Turn, now_ms: int) -> Circuit:
    # A new generation: calls that began before do not count in this state.
    if wanted.state == "closed":
        return Circuit(generation=circuit.generation + 1)
    until_ms = now_ms + wanted.seconds * 1000
    return replace(Circuit("open", circuit.generation + 1), until_ms=until_ms, since_ms=now_ms, reason="by hand")


async def _send(parts: "Parts", *commands: Command) -> None:
    redis = parts.guard.limits.redis
    if redis is None:
        raise Problem("store_unavailable", "Redis is switched off, so there is nothing to change there.")
    try:
        await redis.run(gather([Op((command,), ignored) for command in commands]), "admin", _WAIT_S)
    except RedisDown as e:
        raise _down(e) from e


def _down(error: RedisDown) -> Problem:
    return Problem("store_unavailable", f"Redis gave no usable reply ({error.kind}). Try again.", 5)
