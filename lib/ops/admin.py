"""Admin actions, for whoever has the token. Keys are named one by one: nothing here searches Redis."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

from ..ai.chain import Chain
from ..ai.links import Link
from ..base import caller
from ..base.caller import Caller, Trust
from ..base.events import AdminActed
from ..breaker.circuit import Circuit, opens
from ..cache import epochs
from ..data.invalidation import invalidate
from ..edge.problems import Problem
from ..fleet.scenarios import Scenario
from ..limits import bitfield, news
from ..limits.grammar import parse_limits
from ..limits.shapes import Shapes
from ..limits.supabase import SupabaseDown
from ..policy import Policy
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Command, Op, as_text, gather, ignored

if TYPE_CHECKING:
    from ..parts import Parts

_WAIT_S = 2.0

_SHOWS = "; shows within 10 s to who was refused in the last 7 minutes, within 80 s to others"
_ONE = "send one of user, address, caller, key and provider"

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
    """Give a whole allowance back: to a ``user``, a network ``address``, the ``caller`` of a log, or a ``provider``.

    Of a caller every group of routes is reset, or the ``route`` that has this ``limit`` of its own; of a provider the
    counts of its budget. ``key`` and ``limit`` are what ``bw.limit`` was given.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["reset"]
    user: Text | None = None
    address: Text | None = None
    caller: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    provider: Text | None = None
    key: Text | None = None
    route: Text | None = None
    limit: Text | None = None


class Turn(BaseModel):
    """Open a circuit for ``seconds``, or close it: a ``provider``'s, one of ``bw.circuit``, or a data ``origin``'s."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["circuit"]
    provider: Text | None = None
    circuit: Text | None = None
    origin: Text | None = None
    state: Literal["open", "closed"]
    seconds: Annotated[int, Field(ge=1, le=86_400)] = 3_600


class Simulate(BaseModel):
    """Start a scenario of simulated servers for ``minutes``, or stop the one that runs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Literal["simulate"]
    state: Literal["started", "stopped"]
    scenario: Scenario = "baseline"
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] = 1
    minutes: Annotated[int, Field(ge=1, le=1_440)] = 60


class Action(RootModel[Annotated[Invalidate | Reset | Simulate | Turn, Field(discriminator="action")]]):
    """One admin action."""


async def act(parts: "Parts", action: Action, request_id: str) -> str:
    """Do it, log it, and say what was done. Raises Problem."""
    match action.root:
        case Invalidate() as invalidate:
            about, done = await _invalidate(parts, invalidate)
        case Reset() as reset:
            about, done = await _reset(parts, reset)
        case Simulate() as wanted:
            from ..fleet import simulations

            about = wanted.scenario
            if wanted.state == "started":
                done = await simulations.start(parts, wanted.scenario, wanted.seed, wanted.minutes)
            else:
                done = await simulations.stop(parts)
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
    if parts.guard.limits.redis is None:
        raise Problem("store_unavailable", "Redis is switched off, so there is nothing to change there.")
    await invalidate(parts, [key])
    return about, f"invalidated: {about}"


async def _reset(parts: "Parts", wanted: Reset) -> tuple[str, str]:
    """Forget all counts of a caller or provider, in both stores; a mark tells the other instances."""
    if wanted.provider is None:
        who = _caller(parts, wanted)
        policies = [each for each in _policies(parts, wanted) if each.layout.windows]
        done = await _forget(parts, [caller.subject(who, each.group, each.layout.tag) for each in policies])
        return who.id, f"{done}{_SHOWS}" if parts.guard.limits.redis is not None else done
    if any((wanted.user, wanted.address, wanted.caller, wanted.key, wanted.route, wanted.limit)):
        raise Problem("invalid_request", _ONE)
    link = _link(parts, wanted.provider)
    if not link.budget.layout.windows:
        raise Problem("invalid_request", f"provider: {link.name} has no budget")
    Chain.of(parts).forget(link)
    listed = await _listed(parts, link.name)
    # What it was counted in before would be carried over again.
    tags = dict.fromkeys((link.budget.layout.tag, *listed))
    return link.name, await _forget(parts, [keys.budget(link.name, tag) for tag in tags])


def _policies(parts: "Parts", wanted: Reset) -> Sequence[Policy]:
    """Whose counts are meant: the table's, unless a route with a limit of its own or a key of ``bw.limit`` is named.

    This function of a deployment does not know the files of the others; so the limit has to be told.
    """
    if wanted.key is None and wanted.route is None and wanted.limit is None:
        return parts.settings.policies()
    if wanted.limit is None or (wanted.key is None) == (wanted.route is None):
        raise Problem(
            "invalid_request", "limit: send it with the route, or the key of bw.limit, that it is the limit of"
        )
    try:
        layout = parse_limits(wanted.limit)
    except ValueError as e:
        raise Problem("invalid_request", f"limit: {e}") from e
    if not layout.windows:
        raise Problem("invalid_request", "limit: 'off' counts nothing")
    if wanted.route is not None:
        return [parts.settings.policy_named(wanted.route, layout)]
    return [Policy("limit", layout)]


async def _listed(parts: "Parts", provider: str) -> tuple[str, ...]:
    """The layouts that a provider's budget was counted in lately: 1 command."""
    if parts.guard.limits.redis is None:
        return ()
    get = Op((("GET", keys.SHAPES),), lambda replies: Shapes(as_text(replies[0])))
    try:
        found = await parts.guard.limits.redis.run(get, "admin", _WAIT_S)
    except RedisDown as e:
        raise _down(e) from e
    return found.tags(provider)


async def _forget(parts: "Parts", subjects: Sequence[str]) -> str:
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
    return f"reset in {', '.join(done) or 'this instance'}"


def _caller(parts: "Parts", wanted: Reset) -> Caller:
    secret = parts.settings.identity_key
    match wanted:
        case Reset(user=None, address=None, caller=None, key=str(key)):
            return caller.identify("key", key, secret)
        case Reset(user=str(user), address=None, caller=None, key=None):
            return caller.identify("user", user, secret)
        case Reset(user=None, address=str(address), caller=None, key=None):
            network = caller.client_address(lambda name: "", address, Trust())
            if network == "unknown" and address != "unknown":
                raise Problem("invalid_request", "address: not an IP address")
            return caller.identify("address", network, secret)
        case Reset(user=None, address=None, caller=str(found), key=None):
            return Caller("hash", found)
    raise Problem("invalid_request", _ONE)


def _link(parts: "Parts", name: str) -> Link:
    links = Chain.of(parts).links
    for link in links:
        if link.name == name:
            return link
    raise Problem("invalid_request", f"provider: one of {', '.join(link.name for link in links)}")


async def _turn(parts: "Parts", wanted: Turn) -> tuple[str, str]:
    """Move a circuit as the instances do."""
    name, about = _circuit(parts, wanted)
    now_ms = parts.clock.now_ms()
    try:
        reading = await parts.circuits.read(name, "admin", _WAIT_S)
        await parts.circuits.move_now(reading, lambda circuit: _turned(circuit, wanted, now_ms), "by hand", "admin")
    except RedisDown as e:
        raise _down(e) from e
    scope = "" if reading.shared else " in this instance"
    return about, f"the circuit of {about} is {reading.circuit.state}{scope}"


def _circuit(parts: "Parts", wanted: Turn) -> tuple[str, str]:
    """A circuit's name, and in words whose it is. Those of users' code and of origins are not listed: any will do."""
    match wanted:
        case Turn(provider=str(provider), circuit=None, origin=None):
            link = _link(parts, provider)
            return link.name, link.name
        case Turn(provider=None, circuit=str(name), origin=None):
            return keys.circuit_of_app(name), f"code {name}"
        case Turn(provider=None, circuit=None, origin=str(name)):
            return keys.circuit_of_origin(name), f"origin {name}"
    raise Problem("invalid_request", "send one of provider, circuit and origin")


def _turned(circuit: Circuit, wanted: Turn, now_ms: int) -> Circuit:
    # A new generation: calls that began before do not count in this state.
    if wanted.state == "closed":
        return Circuit(generation=circuit.generation + 1)
    return opens(Circuit(generation=circuit.generation), now_ms, now_ms + wanted.seconds * 1000, "by hand")


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
