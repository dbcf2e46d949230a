"""Starting and stopping a simulation: an admin action, logged in Supabase, whose templates it takes."""

from typing import TYPE_CHECKING

from ..data.origins.port import OriginFailed
from ..edge.problems import Problem
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, as_text, ignored
from . import cold
from .fleet import Fleet
from .scenarios import Scenario, Simulation, Template, dump, load, template_of

if TYPE_CHECKING:
    from ..parts import Parts

_WAIT_S = 2.0


async def start(parts: "Parts", scenario: Scenario, seed: int, minutes: int) -> str:
    """Start one: 2 commands, 1 call of Supabase. Raises Problem."""
    now_ms = parts.clock.now_ms()
    running = await _running(parts)
    if running is not None and running.runs(now_ms):
        raise Problem("invalid_request", f"{running.scenario} is running: stop it first")
    ends_ms = now_ms + minutes * 60_000
    arguments: dict[str, object] = {
        "p_scenario": scenario,
        "p_seed": seed,
        "p_started_ms": now_ms,
        "p_ends_ms": ends_ms,
    }
    reply = await _call(parts, "breakwater_scenario_begin", arguments)
    try:
        run, templates = _begun(reply)
    except ValueError as e:
        raise Problem("store_unavailable", f"breakwater_scenario_begin: {e}. Is the migration up to date?") from e
    text = dump(Simulation(run, scenario, seed, now_ms, ends_ms, templates))
    await _run(parts, Op((("HSET", keys.SERVERS, keys.SIMULATION, text),), ignored))
    Fleet.of(parts).simulation = text
    return f"{scenario} runs for {minutes} minutes with {len(templates)} simulated servers"


def _begun(reply: object) -> tuple[int, tuple[Template, ...]]:
    match reply:
        case {"run": int(run), "templates": [*rows]}:
            return run, tuple(template_of(row) for row in rows)
    raise ValueError("it replied in another shape than the migration's")


async def stop(parts: "Parts") -> str:
    """Stop what runs: 2 commands, 1 call of Supabase, without whose log it stops as well. Raises Problem."""
    running, now_ms = await _running(parts), parts.clock.now_ms()
    if running is None or not running.runs(now_ms):
        return "nothing was running"
    await _run(parts, Op((("HDEL", keys.SERVERS, keys.SIMULATION),), ignored))
    Fleet.of(parts).simulation = None
    try:
        await cold.call(parts, "breakwater_scenario_end", {"p_run": running.run, "p_stopped_ms": now_ms})
    except OriginFailed as e:
        return f"{running.scenario} is stopped; its log in Supabase does not say so, as that cannot be used: {e}"
    return f"{running.scenario} is stopped"


async def _running(parts: "Parts") -> Simulation | None:
    get = Op((("HGET", keys.SERVERS, keys.SIMULATION),), lambda replies: as_text(replies[0]))
    return load(await _run(parts, get))


async def _run[T](parts: "Parts", op: Op[T]) -> T:
    redis = parts.guard.limits.redis
    if redis is None:
        raise Problem("store_unavailable", "Redis is switched off, and what runs is kept there.")
    try:
        return await redis.run(op, "admin", _WAIT_S)
    except RedisDown as e:
        raise Problem("store_unavailable", f"Redis gave no usable reply ({e.kind}). Try again.", 5) from e


async def _call(parts: "Parts", function: str, arguments: dict[str, object]) -> object:
    try:
        return await cold.call(parts, function, arguments)
    except OriginFailed as e:
        raise Problem("store_unavailable", f"Supabase keeps templates and the log, and cannot be used: {e}") from e
