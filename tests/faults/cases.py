"""Every fault at every step of a request, what has to come of it, and the playing of one case."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.rig import Rig, Step
from tests.rig.clock import patient
from tests.rig.instance import Instance

REDIS_MS, FALLBACK_MS, CONNECT_MS, PROVIDER_MS = 300, 800, 1_000, 1_500
SLACK_MS = 100
"""What working takes, by a loop whose milliseconds are a hundred times longer (``PatientLoop``)."""

STORE_FAULTS = (
    "tcp refuse",
    "tcp hang",
    "tcp reset",
    "tcp lose",
    "tcp trickle",
    "process killed",
    "http refuse",
    "http hang",
    "http delay 10000",
    "http status 401",
    "http status 429",
    "http status 500",
    "http html 502",
    "http cut",
    "http not_json",
    "http drop",
)
ONLY_REDIS = ("http one_failed", "http used up")
EXECUTED = ("tcp lose", "tcp trickle", "http delay 10000", "http cut", "http drop", "http one_failed")
"""Faults after which the store may have counted a call whose reply was lost."""


@dataclass(frozen=True)
class Case:
    """What is broken and when; what the caller has to see."""

    redis: str = ""
    supabase: str = ""
    provider: str = "ok"
    at: Step = "ask"
    stream: bool = False
    leaves: bool = False
    status: int = 200
    mode: str = "redis"
    calls: int = 1
    budget_ms: int = 0

    def __str__(self) -> str:
        parts = [f"redis {self.redis}" if self.redis else "", f"supabase {self.supabase}" if self.supabase else ""]
        parts += [f"provider {self.provider}" if self.provider != "ok" else "", "stream" if self.stream else ""]
        parts += ["client leaves" if self.leaves else ""]
        return ", ".join(filter(None, parts)) + f" @ {self.at}"


def cases() -> Iterator[Case]:
    """All of them."""
    for fault in (*STORE_FAULTS, *ONLY_REDIS):
        yield Case(redis=fault, mode="supabase", budget_ms=REDIS_MS + FALLBACK_MS)
        yield Case(redis=fault, at="budget", budget_ms=2 * (REDIS_MS + FALLBACK_MS))
        yield Case(redis=fault, at="write-back")
        yield Case(redis=fault, at="write-back", stream=True)
    for fault in STORE_FAULTS:
        yield Case(redis="tcp reset", supabase=fault, mode="local", budget_ms=REDIS_MS + FALLBACK_MS)
        yield Case(redis=fault, supabase=fault, mode="local", budget_ms=REDIS_MS + FALLBACK_MS)
        # A supabase that nobody needs.
        yield Case(supabase=fault)
    for how, status in PROVIDER_FAULTS.items():
        yield Case(provider=how, status=status, budget_ms=PROVIDER_MS if how == "hang" else 0)
        yield Case(provider=how, redis="tcp reset", mode="supabase", status=status, budget_ms=FALLBACK_MS + PROVIDER_MS)
    for how in ("cut before", "hang", "500"):
        status = {"cut before": 502, "hang": 504, "500": 502}[how]
        yield Case(provider=how, stream=True, status=status, budget_ms=PROVIDER_MS)
    yield Case(provider="cut after", stream=True, status=200)
    for redis, mode in (("", "redis"), ("tcp reset", "supabase")):
        yield Case(provider="hang", leaves=True, redis=redis, mode=mode, status=499)


PROVIDER_FAULTS = {
    "400": 422,
    "401": 502,
    "413": 422,
    "422": 422,
    "429": 503,
    "500": 502,
    "503": 502,
    "html": 502,
    "not_json": 502,
    "empty": 502,
    "too_large": 502,
    "refuse": 502,
    "cut before": 502,
    "hang": 504,
}


@dataclass
class Played:
    """What came of a case."""

    case: Case
    status: int = 0
    mode: str = ""
    ms: float = 0
    calls: int = 0
    in_redis: int = 0
    in_supabase: int = 0
    after: str = ""
    """The mode and what remains, of the next call when all is well again."""
    wrong: list[str] = field(default_factory=list)

    def check(self, what: str, *, holds: bool) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)

    def row(self) -> str:
        """One line of the table."""
        told = "ok" if not self.wrong else "WRONG: " + "; ".join(self.wrong)
        return (
            f"{self.case!s:<62} {self.status:>4} {self.mode:<9}{self.ms:>6.0f} ms {self.calls:>2} "
            f"{self.in_redis:>3} {self.in_supabase:>3}  {self.after:<12} {told}"
        )


HEAD = (
    f"{'fault @ step':<62} {'':>4} {'mode':<9}{'time':>9} {'AI':>2} {'R':>3} {'S':>3}  {'afterwards':<12}\n"
    "AI: calls of the provider; R, S: what Redis and Supabase count; afterwards: mode and calls left, all being well"
)


async def play(rig: Rig, case: Case) -> Played:
    """Play one case on a new instance and look at everything."""
    rig.forget()
    async with rig.instance() as instance:
        played = Played(case)
        rig.answers("hold" if case.leaves else case.provider, stream=case.stream)
        if case.redis:
            rig.break_at(case.at, rig.redis, case.redis)
        if case.supabase:
            rig.break_at(case.at, rig.supabase, case.supabase)
        loop = patient()
        started = loop.time()
        if case.leaves:
            await instance.left_when(lambda: rig.script.until(lambda script: script.asked > 0))
            played.status, played.mode = 499, instance.parts.guard.limits.mode
        else:
            accept = {"Accept": "text/event-stream"} if case.stream else {}
            response = await instance.ask_anew(stream=case.stream, **accept)
            played.status, played.mode = response.status_code, response.headers.get("x-guard-mode", "")
            _look_at(played, response.headers, response.text)
        # The write-back included, which ends before the function does.
        played.ms = (loop.time() - started) * 1000
        played.calls = rig.script.asked
        for store in (rig.redis, rig.supabase):
            store.heal()
        played.in_redis, played.in_supabase = rig.in_redis(), rig.in_supabase()
        _compare(played)
        await _recover(rig, instance, played)
    return played


def _look_at(played: Played, headers: object, text: str) -> None:
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-guard-mode", "x-request-id", "server-timing", "x-cache")
    missing = [name for name in names if name not in headers]  # type: ignore[operator] # any mapping will do
    played.check(f"no {', '.join(missing)}", holds=not missing)
    if played.case.provider == "cut after":
        played.check("a cut stream that does not say so", holds='"type":"error"' in text)
        played.check("a cut stream that finishes", holds='"type":"finish"' not in text)


def _compare(played: Played) -> None:
    case = played.case
    played.check(f"status {case.status} expected", holds=played.status == case.status)
    played.check(f"mode {case.mode} expected", holds=played.mode == case.mode)
    played.check(f"{case.calls} calls expected", holds=played.calls == case.calls)
    # Writing back after the reply takes as long as asking at most, twice where the provider's circuit is told as well.
    budget_ms = case.budget_ms + 2 * REDIS_MS + SLACK_MS + (PROVIDER_MS if case.leaves else 0)
    played.check(f"at most {budget_ms} ms expected", holds=played.ms <= budget_ms)
    lost_redis, lost_supabase = case.redis in EXECUTED, case.supabase in EXECUTED
    killed = case.redis.startswith("process") and case.at != "ask"
    in_redis = {"redis": (0 if killed else 1, 1), "supabase": (0, 1 if lost_redis else 0)}
    low, high = in_redis.get(case.mode, (0, 1 if lost_redis else 0))
    played.check(f"{low} to {high} in Redis expected", holds=low <= played.in_redis <= high)
    low, high = (1, 1) if case.mode == "supabase" else (0, 1 if lost_supabase and case.mode == "local" else 0)
    played.check(f"{low} to {high} in Supabase expected", holds=low <= played.in_supabase <= high)


async def _recover(rig: Rig, instance: Instance, played: Played) -> None:
    """All is well again and the cool-down over: Redis counts, and it counts what was admitted meanwhile."""
    rig.answers("ok")
    rig.time.ms += 6_000
    response = await instance.ask("and now?")
    mode, left = response.headers["x-guard-mode"], int(response.headers["x-ratelimit-remaining"])
    played.after = f"{mode} {left}"
    # A call whose reply was lost is counted twice: once by the store that lost it, once by the next.
    lost = (played.case.redis in EXECUTED) + (played.case.mode == "local" and played.case.supabase in EXECUTED)
    least = 8 - lost
    played.check(f"redis {least} to 8 expected afterwards", holds=mode == "redis" and least <= left <= 8)
