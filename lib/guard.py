"""The shell around the rules: ask, decide, call the backend, write back. The order of things for a guarded request.

It alone catches RedisDown and SupabaseDown, and it never retries a write: a failure costs a caller at most one call of
its allowance and never runs the backend twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from lib.blocklist import Blocklist
from lib.bounded import Bounded
from lib.clock import Clock
from lib.events import BackendFailure, CircuitChanged, Listener, Mode, ModeSwitched, RedisSlow, Spent, StoreFailed
from lib.gate import Gate
from lib.local import LocalLimits
from lib.rules import answers, breaker, caller, keys, windows
from lib.rules.answers import Answer, CacheRules, Directives, Entry, Question, freshness
from lib.rules.breaker import BreakerPolicy, Circuit
from lib.rules.caller import Caller
from lib.rules.decide import Code, Compute, Deny, Serve, decide
from lib.rules.op import Op, Reply, as_list, as_text, gather, ignored, join
from lib.rules.policy import Policy
from lib.rules.windows import Known, Quota, Tally, Usage, Window, judge, too_costly
from lib.wire.backend import Backend, BackendFailed
from lib.wire.supabase import Supabase, SupabaseDown
from lib.wire.upstash import RedisDown, Upstash

_RESERVE_S = 1.0
"""Kept back from the function's deadline for the reply and the write-back."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be decided. ``deadline`` is on the monotonic clock, in seconds."""

    route: str
    caller: Caller
    question: Question
    asked: Directives
    policy: Policy
    request_id: str
    deadline: float
    cost: int = 1


type CacheState = Literal["hit", "stale", "miss", "bypass"]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and where it came from."""

    answer: Answer
    cache: CacheState
    reason: str
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The guard said no."""

    code: Code
    reason: str
    retry_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The backend was asked and gave no usable answer."""

    failure: BackendFailed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to reply, and what to do once the reply has gone out."""

    result: Answered | Refused | Failed
    mode: Mode
    quota: Quota
    spent: Spent
    now_ms: int
    fresh_ms: int
    after: Callable[[], Awaitable[None]]


class StockLimits(Protocol):
    """The limiter of ``upstash_ratelimit``, for installations that share its counters. Raises RedisDown."""

    async def spend(self, caller_id: str, group: str, limits: Sequence[Window], cost: int) -> Quota:
        """Admit a call or refuse it."""


@dataclass(slots=True)
class _Asked:
    """What one request learned before it was decided, and what it still owes Redis."""

    quota: Quota
    mode: Mode
    circuit: Circuit
    answer: Answer | None = None
    answer_key: str = ""
    circuit_text: str | None = None
    epochs: tuple[int, ...] = ()
    shared: bool = False
    """Whether Redis answered: the circuit is the shared one, and answers can be kept."""
    owed: list[Op[int | None]] = field(default_factory=list)
    sets_ttl: bool = False


@dataclass(slots=True)
class _Watch:
    """Milliseconds by what they were spent on."""

    clock: Clock
    started: float
    redis: float = 0.0
    fallback: float = 0.0
    backend: float = 0.0

    def since(self, started: float) -> float:
        return (self.clock.monotonic() - started) * 1000

    def read(self) -> Spent:
        others = self.redis + self.fallback + self.backend
        return Spent(max(0.0, self.since(self.started) - others), self.redis, self.fallback, self.backend)


async def _nothing() -> None:
    """Nothing is left to do after the reply."""


@dataclass(slots=True)
class Guard:
    """Stands in front of one backend. One per instance; everything it remembers may be lost without harm."""

    backend: Backend
    redis: Upstash | None
    supabase: Supabase | None
    local: LocalLimits
    clock: Clock
    emit: Listener
    redis_cooldown_ms: int
    redis_slow_ms: int
    stock: StockLimits | None = None
    blocklist: Blocklist = field(default_factory=Blocklist)
    mode: Mode = "redis"
    redis_gate: Gate = field(init=False)
    supabase_gate: Gate = field(init=False)
    circuit: Circuit = field(default_factory=Circuit)
    """The backend's circuit as last seen: the local breaker continues from it when Redis is out."""
    circuit_seen_ms: int = 0
    """When the shared circuit was last read."""
    _known: Bounded[str, Known] = field(default_factory=lambda: Bounded(10_000))
    _floors: Bounded[str, Usage] = field(default_factory=lambda: Bounded(10_000))

    def __post_init__(self) -> None:
        self.mode = "redis" if self.redis else "supabase" if self.supabase else "local"
        policy = BreakerPolicy(threshold=3, cooldown_ms=self.redis_cooldown_ms, lease_ms=self.redis_cooldown_ms)
        self.redis_gate = Gate(policy)
        self.supabase_gate = Gate(policy)

    async def handle(self, call: Call) -> Outcome:
        """Decide one request and carry the decision out. Cancel it when the client leaves."""
        watch = _Watch(self.clock, self.clock.monotonic())
        now_ms = self.clock.now_ms()
        limits = call.policy.layout.windows
        subject = caller.subject(call.caller, call.policy.group, call.policy.layout.tag)

        refusal = self.blocklist.find(subject, call.cost, now_ms)
        reason = "blocked"
        if refusal is None:
            refusal, reason = too_costly(limits, call.cost, now_ms), "cost_exceeds_limit"
        if refusal is not None:
            refused = Refused("rate_limited", reason, refusal.retry_at_ms)
            return self._outcome(call, refused, refusal, "off" if not limits else self.mode, watch, now_ms, _nothing)

        asked = await self._ask(call, subject, now_ms, watch)
        try:
            result = await self._act(call, asked, now_ms, watch)
        except BaseException:
            # The client left, or a bug: what was learned on the way is still written, and a probe is handed back.
            await self._write_back(asked, subject, now_ms)
            raise
        if isinstance(result, Refused) and result.code == "rate_limited":
            self.blocklist.remember(subject, call.cost, asked.quota, now_ms)
        after = (lambda: self._write_back(asked, subject, now_ms)) if asked.owed else _nothing
        mode: Mode = asked.mode if limits else "off"
        return self._outcome(call, result, asked.quota, mode, watch, now_ms, after)

    @staticmethod
    def _outcome(
        call: Call,
        result: Answered | Refused | Failed,
        quota: Quota,
        mode: Mode,
        watch: _Watch,
        now_ms: int,
        after: Callable[[], Awaitable[None]],
    ) -> Outcome:
        return Outcome(result, mode, quota, watch.read(), now_ms, call.policy.cache.fresh_ms, after)

    # Ask

    async def _ask(self, call: Call, subject: str, now_ms: int, watch: _Watch) -> _Asked:
        held = self.redis_gate.enter(now_ms) if self.redis else None
        if self.redis and held:
            started = self.clock.monotonic()
            try:
                asked = await self._ask_redis(self.redis, call, subject, now_ms)
            except RedisDown as e:
                self._redis_failed(held, "ask", e)
            except BaseException:
                self.redis_gate.released(held, now_ms)
                raise
            else:
                self.redis_gate.succeeded(held)
                self._switch("redis", "redis answers")
                self.circuit, self.circuit_seen_ms = asked.circuit, now_ms
                return asked
            finally:
                watch.redis = watch.since(started)
                if watch.redis > self.redis_slow_ms:
                    self.emit(RedisSlow(watch.redis))
        return await self._ask_fallback(call, subject, now_ms, watch)

    async def _ask_redis(self, redis: Upstash, call: Call, subject: str, now_ms: int) -> _Asked:
        hashed = answers.query_hash(call.route, call.caller.id, call.question)
        answer_key = keys.answer(call.route, call.question.session, hashed)
        state = _read_state(call, self.backend.name, answer_key)
        layout = call.policy.layout
        if not layout.windows or self.stock:
            quota = Quota(True, "unlimited", ())
            if self.stock and layout.windows:
                quota = await self.stock.spend(call.caller.id, call.policy.group, layout.windows, call.cost)
            circuit_text, entry, epochs = await redis.run(state)
            asked = _Asked(quota, "redis", breaker.parse(circuit_text), shared=True)
        else:
            known = self._known.get(subject)
            spend = windows.spend(subject, layout, call.cost, now_ms, known)
            tally, (circuit_text, entry, epochs) = await redis.run(join(spend, state))
            quota = judge(layout.windows, tally.usage, call.cost, now_ms, tally.added)
            asked = _Asked(quota, "redis", breaker.parse(circuit_text), shared=True)
            self._owe_for_windows(asked, call, subject, now_ms, tally)
        asked.answer_key, asked.circuit_text, asked.epochs = answer_key, circuit_text, epochs
        asked.answer = answers.parse(entry, epochs)
        return asked

    def _owe_for_windows(self, asked: _Asked, call: Call, subject: str, now_ms: int, tally: Tally) -> None:
        """Remember what was read, and note what the windows still need: a new key's TTL, a refused call's refund."""
        layout = call.policy.layout
        self._known.put(subject, tally.known)
        usage = tally.usage
        if not asked.quota.allowed:
            asked.owed.append(windows.refund(subject, layout, call.cost, now_ms, tally.added))
            usage = windows.without(layout.windows, usage, call.cost, now_ms, tally.added)
        self._floors.put(subject, usage)
        if windows.needs_ttl(tally.touch, tally.known, now_ms):
            asked.owed.append(windows.set_ttl(subject, now_ms))
            asked.sets_ttl = True

    async def _ask_fallback(self, call: Call, subject: str, now_ms: int, watch: _Watch) -> _Asked:
        limits = call.policy.layout.windows
        if not limits:
            return _Asked(Quota(True, "unlimited", ()), "off", self.circuit)
        held = self.supabase_gate.enter(now_ms) if self.supabase else None
        if self.supabase and held:
            started = self.clock.monotonic()
            try:
                floor = self._floors.get(subject)
                quota = await self.supabase.spend(subject, limits, call.cost, now_ms, floor)
            except SupabaseDown as e:
                self.emit(StoreFailed("supabase", "ask", str(e)))
                self._store_failed(self.supabase_gate, held, e.kind == "timeout", str(e))
            except BaseException:
                self.supabase_gate.released(held, now_ms)
                raise
            else:
                self.supabase_gate.succeeded(held)
                self._switch("supabase", "redis is out" if self.redis else "redis is disabled")
                return _Asked(quota, "supabase", self.circuit)
            finally:
                watch.fallback = watch.since(started)
        self._switch("local", "neither store answers")
        return _Asked(self.local.spend(subject, limits, call.cost, now_ms), "local", self.circuit)

    def _switch(self, mode: Mode, reason: str) -> None:
        if mode != self.mode:
            self.emit(ModeSwitched(self.mode, mode, reason))
            self.mode = mode

    def _redis_failed(
        self, held: breaker.Ticket | None, phase: Literal["ask", "claim", "write_back"], error: RedisDown
    ) -> None:
        self.emit(StoreFailed("redis", phase, str(error)))
        # A command refused for its key's content says nothing of the server.
        if held and error.kind != "command":
            self._store_failed(self.redis_gate, held, error.kind in ("timeout", "unauthorized", "quota"), str(error))
        elif held:
            self.redis_gate.released(held, self.clock.now_ms())

    def _store_failed(self, gate: Gate, held: breaker.Ticket, at_once: bool, reason: str) -> None:
        """Three failures in a row close a store off; one that no second try would cure, or that cost a wait, does."""
        now_ms = self.clock.now_ms()
        gate.failed(held, now_ms, reason, until_ms=now_ms + self.redis_cooldown_ms if at_once else None)

    # Act

    async def _act(self, call: Call, asked: _Asked, now_ms: int, watch: _Watch) -> Answered | Refused | Failed:
        decision = decide(asked.quota, asked.answer, asked.circuit, now_ms, call.policy, call.asked)
        if isinstance(decision, Compute) and decision.probe:
            await self._claim(call, asked)
            decision = decide(asked.quota, asked.answer, asked.circuit, now_ms, call.policy, call.asked)
            if asked.circuit.owner == call.request_id:
                decision = Compute("probe", probe=True)
        match decision:
            case Deny(code, reason, retry_at_ms):
                return Refused(code, reason, retry_at_ms)
            case Serve(answer, stale, reason):
                return Answered(answer, "stale" if stale else "hit", reason, stored=True)
            case Compute(reason):
                return await self._compute(call, asked, reason, watch)

    async def _compute(self, call: Call, asked: _Asked, reason: str, watch: _Watch) -> Answered | Failed:
        held = breaker.ticket(asked.circuit)
        left_s = call.deadline - self.clock.monotonic() - _RESERVE_S
        started = self.clock.monotonic()
        try:
            reply = await self.backend.ask(call.question, call.request_id, left_s)
        except BackendFailed as e:
            watch.backend = watch.since(started)
            return await self._failed(call, asked, held, e)
        except BaseException:
            # The caller left. That says nothing of the backend.
            now_ms = self.clock.now_ms()
            await self._move(call, asked, lambda circuit: breaker.release(circuit, held, now_ms), "caller left")
            raise
        watch.backend = watch.since(started)
        if asked.circuit.state != "closed" or asked.circuit.failures:
            await self._move(call, asked, lambda circuit: breaker.succeed(circuit, held), "answered")
        elif not asked.shared:
            self.circuit = breaker.succeed(self.circuit, held)
        stored_at_ms = self.clock.now_ms()
        answer = replace(reply.answer, stored_at_ms=stored_at_ms)
        stored = asked.shared and reply.whole and not call.asked.no_store and answers.storable(answer)
        if stored:
            asked.owed.append(_store(asked.answer_key, Entry(answer, asked.epochs), call.policy.cache))
        cache: CacheState = "bypass" if call.asked.no_cache or call.asked.no_store or not asked.shared else "miss"
        return Answered(answer, cache, reason, stored)

    async def _failed(self, call: Call, asked: _Asked, held: breaker.Ticket, error: BackendFailed) -> Answered | Failed:
        self.emit(BackendFailure(self.backend.name, str(error), error.fault))
        now_ms = self.clock.now_ms()
        breaker_policy = call.policy.breaker
        if error.fault == "theirs":
            until = None if error.retry_after_s is None else now_ms + int(error.retry_after_s * 1000)

            def change(circuit: Circuit) -> Circuit:
                return breaker.fail(circuit, held, now_ms, breaker_policy, error.kind, until)
        else:

            def change(circuit: Circuit) -> Circuit:
                return breaker.release(circuit, held, now_ms)

        await self._move(call, asked, change, error.kind)
        stale = asked.answer
        if stale and freshness(stale, now_ms, call.policy.cache, call.asked) != "unwanted":
            return Answered(stale, "stale", error.kind, stored=True)
        return Failed(error)

    # The backend's circuit

    async def _claim(self, call: Call, asked: _Asked) -> None:
        """Try to become the probe; ``asked.circuit`` is then the circuit as it stands, ours or another's."""
        now_ms, owner, policy = self.clock.now_ms(), call.request_id, call.policy.breaker

        def take(circuit: Circuit) -> Circuit:
            may = breaker.view(circuit, now_ms) == "probe"
            return breaker.claim(circuit, owner, now_ms, policy) if may else circuit

        await self._move(call, asked, take, "probe")

    async def _move(self, call: Call, asked: _Asked, change: Callable[[Circuit], Circuit], reason: str) -> None:
        """Carry a transition out on the circuit where it lives; a lost swap is tried again on what won.

        Bounded: each lost try means that another instance moved the circuit, and after ``threshold`` failures an open
        circuit takes no more of them.
        """
        before = asked.circuit
        after = change(before)
        if after is before or after == before:
            return
        now_ms = self.clock.now_ms()
        if not asked.shared or self.redis is None:
            after = change(self.circuit)
            asked.circuit = self.circuit = after
            self._report(before, after, reason)
            return
        text = asked.circuit_text
        try:
            for _ in range(call.policy.breaker.threshold + 2):
                done, text = await self.redis.run(breaker.swap(keys.circuit(self.backend.name), text, after, now_ms))
                asked.circuit, asked.circuit_text = (after if done else breaker.parse(text)), text
                if done:
                    self._report(before, after, reason)
                    break
                before = asked.circuit
                after = change(before)
                if after == before:
                    break
        except RedisDown as e:
            # The circuit stays as it is in Redis; this instance at least goes on from what it has seen.
            self._redis_failed(None, "claim", e)
            asked.circuit = after
        self.circuit = asked.circuit

    def _report(self, before: Circuit, after: Circuit, reason: str) -> None:
        if before.state != after.state:
            self.emit(CircuitChanged(self.backend.name, before.state, after.state, reason))

    # Write back

    async def _write_back(self, asked: _Asked, subject: str, now_ms: int) -> None:
        """Send what is owed in one round trip, after the reply. What fails here is logged and changes no answer."""
        if not asked.owed or self.redis is None:
            return
        try:
            touches = await self.redis.run(gather(asked.owed))
            known = self._known.get(subject) or Known()
            if asked.sets_ttl:
                self._known.put(subject, replace(known, ttl_day=now_ms // windows.DAY_MS))
            elif any(touch is not None and windows.needs_ttl(touch, known, now_ms) for touch in touches):
                # The key went between the call and its refund, which made it anew.
                await self.redis.run(windows.set_ttl(subject, now_ms))
        except RedisDown as e:
            self._redis_failed(None, "write_back", e)


type _State = tuple[str | None, str | None, tuple[int, ...]]


def _read_state(call: Call, backend: str, answer_key: str) -> Op[_State]:
    """The circuit, the stored answer and the invalidation epochs: 1 command."""
    command = (
        "MGET",
        keys.circuit(backend),
        answer_key,
        keys.epoch_route(call.route),
        keys.epoch_session(call.route, call.question.session),
    )

    def read(replies: Sequence[Reply]) -> _State:
        circuit, entry, *epochs = (as_text(each) for each in as_list(replies[0], 4))
        return circuit, entry, tuple(answers.parse_epoch(each) for each in epochs)

    return Op((command,), read)


def _store(key: str, entry: Entry, rules: CacheRules) -> Op[None]:
    """Keep an answer for as long as it may be served, fresh or stale: 1 command."""
    return Op((("SET", key, answers.dump(entry), "PX", rules.fresh_ms + rules.stale_ms),), ignored)
