"""The guard over real parts: what a request costs, what is kept, who counts when a store is out (CASES 24, 26-28)."""

import asyncio
import json
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest

from lib.ai.answers import Answer, AnswerCodec
from lib.base.events import ModeSwitched, RequestDone, StoreFailed
from lib.breaker.circuit import Circuit
from lib.cache import epochs
from lib.cache.entry import Cached
from lib.claims import Claimed, Claims
from lib.limits.marker import parse
from lib.redis import keys
from lib.turn import Turn
from tests.rig.callers import a_caller
from tests.rig.clock import NOON_MS, PATIENT_BACKEND, about_timeouts, patient, until
from tests.rig.guard import Rig, leaving
from tests.rig.instance import together

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


over_rest = pytest.mark.parametrize("transport", ["rest"])
"""The limiter of ``upstash_ratelimit`` has no other way."""


# ---------------------------------------------------------------- what a request costs


async def test_cost_of_a_miss(rig: Rig) -> None:
    """Gate: a miss is 4 commands in 2 round trips and 1 after the reply; epochs that are missing add a round trip."""
    instance, caller = rig.instance(), a_caller()
    rig.forget_counts()
    assert (await instance.ask("first", caller, sessionId="one")).headers["x-cache"] == "MISS"
    # First sight of a caller: yesterday's buckets, read once, and the new key's TTL. Lock, three epochs and the entry.
    assert rig.commands() == {"bitfield": 1, "bitfield_ro": 1, "mget": 2, "set": 5, "expire": 1}
    assert rig.cost() == (4, 10)
    rig.forget_counts()
    assert (await instance.ask("second", caller, sessionId="one")).headers["x-cache"] == "MISS"
    assert rig.commands() == {"bitfield": 1, "mget": 1, "set": 2}
    assert rig.cost() == (3, 4)
    rig.forget_counts()
    # A session that shares no bucket with the other.
    assert epochs.bucket("one") != epochs.bucket("two")
    assert (await instance.ask("second", caller, sessionId="two")).headers["x-cache"] == "MISS"
    assert rig.commands() == {"bitfield": 1, "mget": 2, "set": 3}
    assert rig.cost() == (4, 6)


async def test_cost_of_a_miss_with_a_budget(rig: Rig) -> None:
    """Gate: a provider's budget adds a command, which goes out with the lock."""
    instance, caller = rig.instance(CLOUD_RUN_LIMITS="1000/day"), a_caller()
    await instance.ask("first", caller)
    await instance.ask("second", caller)
    rig.forget_counts()
    assert (await instance.ask("third", caller)).headers["x-cache"] == "MISS"
    assert rig.commands() == {"bitfield": 2, "mget": 1, "set": 2}
    assert rig.cost() == (3, 5)


async def test_cost_of_a_hit(rig: Rig) -> None:
    """Gate: a hit is 1 round trip and 2 commands; on an instance that sees the caller for the first time 3."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    rig.forget_counts()
    assert (await instance.ask("same", caller)).headers["x-cache"] == "HIT"
    assert rig.commands() == {"bitfield": 1, "mget": 1}
    assert rig.cost() == (1, 2)
    other = rig.instance()
    rig.forget_counts()
    assert (await other.ask("same", caller)).headers["x-cache"] == "HIT"
    assert rig.commands().keys() - {"bitfield", "bitfield_ro", "mget"} <= {"expire"}
    assert rig.cost()[1] <= 4
    assert rig.script.asked == 1


async def test_cost_of_a_refusal(rig: Rig) -> None:
    """Gate: a refusal is 2 commands and, after the reply, 1 that takes the count back; a blocked call costs nothing."""
    instance, other, caller = rig.instance(), rig.instance(), a_caller()
    await instance.ask("same", caller)
    for _ in range(9):
        await other.ask("same", caller)
    rig.forget_counts()
    # Blocked already by the call that left nothing.
    assert (await other.ask("same", caller)).status_code == 429
    assert rig.commands() == {}
    assert (await instance.ask("same", caller)).status_code == 429
    assert rig.commands() == {"bitfield": 2, "mget": 1}
    assert rig.cost() == (2, 3)
    rig.forget_counts()
    for _ in range(5):
        blocked = await instance.ask("same", caller)
        assert blocked.status_code == 429
    assert rig.cost() == (0, 0)
    assert {"x-ratelimit-remaining", "ratelimit", "retry-after", "x-guard-mode"} <= blocked.headers.keys()


async def test_refusal_spends_nothing(rig: Rig) -> None:
    """CASES 1, 8: after refusals by several instances the whole limit is back when the first refusal said so."""
    instances, caller = [rig.instance() for _ in range(4)], a_caller()
    for _ in range(10):
        await instances[0].ask("same", caller)
    refusals = [await each.ask("same", caller) for each in instances]
    assert [reply.status_code for reply in refusals] == [429] * 4
    wait_s = int(refusals[0].headers["retry-after"])
    assert {reply.headers["retry-after"] for reply in refusals} == {str(wait_s)}
    rig.time.ms += wait_s * 1000
    assert [(await instances[0].ask("same", caller)).status_code for _ in range(11)] == [200] * 10 + [429]


async def test_one_limit_for_all_instances(rig: Rig) -> None:
    """CASES 12: 40 calls at once through 4 instances: exactly 10 pass."""
    instances, caller = [rig.instance() for _ in range(4)], a_caller()
    replies = await together([each.ask(f"question {n}", caller) for n in range(10) for each in instances])
    assert sorted(reply.status_code for reply in replies) == [200] * 10 + [429] * 30


async def test_no_key_without_ttl(rig: Rig) -> None:
    """CASES 11: misses, hits, refusals and failures leave no key that would never expire."""
    instance, caller = rig.instance(), a_caller()
    for number in range(12):
        await instance.ask(f"question {number % 7}", caller)
    rig.script.reset(status=500)
    for number in range(5):
        await instance.ask(f"question {number}")
    # Entries with their locks, callers, the circuit, the alert that it opened, with its note in the ledger and in the
    # list of alerts; and the list of notable requests.
    kept = [key for key in map(str, rig.server.keys("*")) if not key.startswith("epoch:")]
    assert len(kept) == 2 * 7 + 6 + 1 + 3 + 1
    assert rig.without_ttl() == []


@pytest.mark.parametrize("at", ["count", "lock", "backend"])
async def test_no_key_without_ttl_when_the_caller_leaves(rig: Rig, at: str) -> None:
    """CASES 11: a caller's only request, left in the middle, leaves no key without a TTL either."""
    instance = rig.instance()
    if at == "backend":
        rig.script.reset(hold=True)
        await leaving(instance, rig.script)
    else:
        rig.upstash.fault("delay", delay_ms=200, match={"count": '["BITFIELD"', "lock": '["SET","lock:'}[at])
        made = {"count": "rl:*", "lock": "lock:*"}[at]
        await instance.left_when(lambda: until(lambda: bool(rig.server.keys(made))))
        rig.upstash.clear()
        assert rig.script.asked == 0
    # The caller's windows: the lock is released.
    assert {key[:3] for key in rig.server.keys("*")} - {"epo"} == {"rl:"}
    assert rig.without_ttl() == []


async def test_no_key_without_ttl_after_lost_replies(rig: Rig) -> None:
    """CASES 11, 16: replies that were lost after execution do not cost a key its TTL once Redis answers again."""
    instance, caller = rig.instance(), a_caller()
    rig.upstash.fault("drop", times=2)
    modes = [(await instance.ask("same", caller)).headers["x-guard-mode"] for _ in range(4)]
    assert modes == ["supabase", "supabase", "redis", "redis"]
    assert rig.without_ttl() == []
    # Nobody computes what the lost calls asked for, so nobody is waited for.
    assert sum(rig.time.slept) < 2


LOST: dict[str, dict[str, Any]] = {
    "call": {"kind": "drop", "times": 1},
    "write-back": {"kind": "refuse", "times": 1, "match": '["EXPIRE"'},
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
async def test_no_key_without_ttl_though_the_caller_never_returns(rig: Rig, fault: dict[str, Any]) -> None:
    """CASES 11: a key whose TTL was lost on the way gets it with the next caller's write-back."""
    instance = rig.instance()
    rig.upstash.fault(**fault)
    assert (await instance.ask("once")).status_code == 200
    assert len(rig.without_ttl()) == 1
    await instance.ask("another caller")
    assert rig.without_ttl() == []


# ---------------------------------------------------------------- what is kept

LONG = json.dumps({"answer": "x" * 300_000, "model": "m"}).encode()
HUGE = json.dumps({"answer": "x" * 4_200_000, "model": "m"}).encode()


def said(**fields: object) -> bytes:
    return json.dumps(fields).encode()


KEPT: dict[str, tuple[dict[str, Any], int, bool]] = {
    "answer": ({}, 200, True),
    "response-field": ({"body": said(response="yes")}, 200, True),
    "finish-stop": ({"body": said(answer="yes", finishReason="stop")}, 200, True),
    "cut-by-length": ({"body": said(answer="yes and", finishReason="length")}, 200, False),
    "cut-by-length-snake": ({"body": said(answer="yes and", finish_reason="length")}, 200, False),
    "filtered": ({"body": said(answer="no", finishReason="content_filter")}, 200, False),
    "fallback-text": ({"body": said(answer="come back later", fallback=True)}, 200, False),
    "larger-than-kept": ({"body": LONG}, 200, False),
    "larger-than-allowed": ({"body": HUGE}, 502, False),
    "empty": ({"body": said(answer="")}, 502, False),
    "blank": ({"body": said(answer=" \n\t")}, 502, False),
    "error-in-200": ({"body": said(error={"message": "overloaded"})}, 502, False),
    "error-beside-answer": ({"body": said(answer="yes", error="partly")}, 502, False),
    "no-text": ({"body": said(text=5)}, 502, False),
    "not-an-object": ({"body": b'["yes"]'}, 502, False),
    "not-json": ({"body": b"Service is starting"}, 502, False),
    "lone-surrogate": ({"body": rb'{"answer":"\ud800"}'}, 502, False),
    "cut": ({"cut": 0.5}, 502, False),
    "status-201": ({"status": 201}, 200, True),
    "status-302": ({"status": 302, "headers": {"location": "/elsewhere"}}, 502, False),
    "status-401": ({"status": 401}, 502, False),
    "status-404": ({"status": 404}, 502, False),
    "status-422": ({"status": 422}, 422, False),
    "status-429": ({"status": 429}, 503, False),
    "status-500": ({"status": 500}, 502, False),
    "status-503": ({"status": 503}, 502, False),
}


@pytest.mark.parametrize(("reply", "status", "kept"), KEPT.values(), ids=KEPT)
async def test_what_is_stored(rig: Rig, reply: dict[str, Any], status: int, kept: bool) -> None:
    """CASES 24: only a whole, successful, non-empty answer is stored; the same question is asked again otherwise."""
    instance, caller = rig.instance(), a_caller()
    rig.script.reset(**reply)
    first = await instance.ask("same", caller)
    assert (first.status_code, rig.script.asked) == (status, 1)
    assert bool(rig.server.keys("ai:supervisor:*")) is kept
    assert ("stored" in first.headers["cache-status"]) is kept
    rig.script.reset()
    second = await instance.ask("same", caller)
    if status == 503:
        # Our own check was told 429 as well: nobody asks until the time is over.
        assert (second.status_code, second.json()["code"]) == (503, "circuit_open")
        return
    assert (second.status_code, second.headers["x-cache"]) == (200, "HIT" if kept else "MISS")
    assert rig.script.asked == (0 if kept else 1)


REPLY = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}
STORED = AnswerCodec().dump(Answer(json.dumps(REPLY), "m", "cloud-run", 5, 7))


def entry(stored: str = STORED, header: Sequence[object] = (3, NOON_MS, "EPOCHS", "somebody")) -> str:
    """A stored answer of this very moment; ``EPOCHS`` stands for the present ones."""
    return f"{json.dumps(header)}\n{stored}"


OF_0_1 = {"v": 2, "t": "x", "m": "m", "p": "cloud-run", "at": NOON_MS, "n": 5, "ms": 7, "e": [0, 0]}

CORRUPT = {
    "empty": "",
    "no-json": "{",
    "of-0.1": json.dumps(OF_0_1),
    "another-version": entry(header=(4, NOON_MS, "EPOCHS", "somebody")),
    "an-earlier-form": entry('["x","m","cloud-run",5,7]'),
    "no-time": entry(header=(3, "EPOCHS", "somebody")),
    "true-as-time": entry(header=(3, True, "EPOCHS", "somebody")),
    "other-epochs": entry(header=(3, NOON_MS, "a.b.c", "somebody")),
    "no-answer": entry().partition("\n")[0],
    "an-answer-cut": entry(STORED[:-1]),
    "an-answer-changed": entry(STORED.replace("assistant", "assistent")),
    "list": "[1,2,3]",
    "deep": "[" * 50_000,
    "deep-and-whole": "[" * 50_000 + "]" * 50_000,
    "deep-answer": entry("[" * 50_000),
    "huge-number": entry().replace(str(NOON_MS), "9" * 5_000),
}


def put(rig: Rig, content: str) -> None:
    """Put a text in the place of the only entry there is."""
    (key,) = rig.server.keys("ai:supervisor:*")
    names = epochs.of_session("ai/supervisor", "mine")
    present: Any = rig.server.mget(names)
    rig.server.set(key, content.replace("EPOCHS", ".".join(present)))


async def test_entry_is_served(rig: Rig) -> None:
    """What the corrupt entries below were made of is served, without a look at the backend."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller, sessionId="mine")
    put(rig, entry())
    rig.script.reset()
    reply = await instance.ask("same", caller, sessionId="mine")
    assert (reply.headers["x-cache"], reply.json()["answer"], rig.script.asked) == ("HIT", "x", 0)
    assert reply.json()["saved"] == {"provider": "cloud-run", "ms": 7, "tokens": 5}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
async def test_corrupt_entry(rig: Rig, content: str) -> None:
    """CASES 24: a corrupt entry is a miss, and is overwritten."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller, sessionId="mine")
    put(rig, content)
    replies = [await instance.ask("same", caller, sessionId="mine") for _ in range(2)]
    assert [(each.status_code, each.headers.get("x-cache")) for each in replies] == [(200, "MISS"), (200, "HIT")]


async def test_entry_of_another_type(rig: Rig) -> None:
    """CASES 15, 24: a list in an answer's place is a miss and is overwritten."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    (key,) = rig.server.keys("ai:supervisor:*")
    rig.server.delete(key)
    rig.server.rpush(key, "x")
    assert (await instance.ask("same", caller)).headers["x-cache"] == "MISS"
    assert (await instance.ask("same", caller)).headers["x-cache"] == "HIT"
    assert sum(rig.time.slept) < 1


async def test_windows_of_another_type(rig: Rig) -> None:
    """CASES 15: a list in the place of a caller's windows is no open door: Supabase counts this caller meanwhile."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    (key,) = rig.server.keys("rl:*")
    rig.server.delete(key)
    rig.server.rpush(key, "x")
    replies = [await instance.ask(f"question {n}", caller) for n in range(11)]
    assert [reply.status_code for reply in replies].count(200) <= 10
    assert {reply.headers["x-guard-mode"] for reply in replies} == {"supabase"}
    assert (await instance.ask("another caller")).headers["x-guard-mode"] == "redis"


EPOCHS = dict(zip(("everything", "route", "session"), epochs.of_session("ai/supervisor", "mine"), strict=True))


@pytest.mark.parametrize("epoch", EPOCHS.values(), ids=EPOCHS)
@pytest.mark.parametrize("lost", [False, True], ids=["invalidated", "lost"])
@pytest.mark.parametrize("when", ["computing", "stored"])
async def test_invalidation(rig: Rig, epoch: str, lost: bool, when: str) -> None:
    """CASES 24, 38: an answer invalidated after or while it is computed is not served, nor one whose epoch was lost."""
    instance, caller = rig.instance(), a_caller()
    # The epochs exist.
    await instance.ask("before", caller, sessionId="mine")
    rig.script.reset(hold=True)
    asking = asyncio.ensure_future(instance.ask("same", caller, sessionId="mine"))
    await rig.script.until(lambda script: script.asked == 1)

    def invalidate() -> None:
        if lost:
            rig.server.delete(epoch)
        else:
            rig.server.set(epoch, epochs.new_word())

    if when == "computing":
        invalidate()
    rig.script.release()
    assert (await asking).status_code == 200
    if when == "stored":
        invalidate()
    rig.script.reset()
    assert (await instance.ask("same", caller, sessionId="mine")).headers["x-cache"] == "MISS"
    assert (await instance.ask("same", caller, sessionId="mine")).headers["x-cache"] == "HIT"


async def test_one_entry(rig: Rig) -> None:
    """CASES 26: another order of parameters is the same question, on any instance."""
    caller, body = a_caller(), {"sessionId": "s", "parameters": {"a": 1, "b": {"x": 1, "y": 2}}}
    await rig.instance().ask("which disk is fullest?", caller, **body)
    body = {"parameters": {"b": {"y": 2, "x": 1}, "a": 1}, "sessionId": "s"}
    again = await rig.instance().ask("which disk is fullest?", caller, **body)
    assert (again.headers["x-cache"], rig.script.asked) == ("HIT", 1)


KOREAN = "가장 많이 찬 디스크는?"
"""Composed, as keyboards write it."""


async def test_any_text_comes_back_unharmed(rig: Rig) -> None:
    """A Korean answer with a symbol beyond the first plane, from the cache."""
    caller = a_caller()
    rig.script.reset(body=said(answer="디스크는 41% 찼습니다 🙂", model="m"))
    await rig.instance().ask(KOREAN, caller)
    again = await rig.instance().ask(KOREAN, caller)
    assert (again.headers["x-cache"], again.json()["answer"]) == ("HIT", "디스크는 41% 찼습니다 🙂")


OTHER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "callers": ({"caller": "10.200.0.1"}, {"caller": "10.200.0.2"}),
    "sessions": ({"sessionId": "a"}, {"sessionId": "b"}),
    "session-that-reaches-out": ({"sessionId": "a"}, {"sessionId": "a:"}),
    "parameters": ({"parameters": {"a": 1}}, {"parameters": {"a": "1"}}),
    "hangul": ({"query": "디스크"}, {"query": "디스코"}),
    "unicode-form": ({"query": KOREAN}, {"query": unicodedata.normalize("NFD", KOREAN)}),
    "compatibility-form": ({"query": "x²"}, {"query": "x2"}),
    "white-space": ({"query": "which disk?"}, {"query": "which  disk?"}),
    "white-space-at-the-end": ({"query": "which disk?"}, {"query": "which disk? "}),
    "line-break": ({"query": "which disk?"}, {"query": "which\ndisk?"}),
    "indentation": ({"query": "if a:\n  b\nc"}, {"query": "if a:\n  b\n  c"}),
    "case": ({"query": "which disk?"}, {"query": "Which disk?"}),
    "fullwidth-space": ({"query": "which disk?"}, {"query": "which\u3000disk?"}),
    "invisible": ({"query": "which disk?"}, {"query": "which\u200b disk?"}),
    "case-in-history": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "b"}]},
    ),
    "history": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]},
    ),
}


@pytest.mark.parametrize(("first", "second"), OTHER.values(), ids=OTHER)
async def test_no_answer_crosses_over(rig: Rig, first: dict[str, Any], second: dict[str, Any]) -> None:
    """CASES 26: another caller, session, history, parameter or text is another question, however alike they look."""
    instance, common = rig.instance(), {"caller": a_caller(), "query": "same", "sessionId": "s"}
    assert (await instance.ask(**{**common, **first})).headers["x-cache"] == "MISS"
    assert (await instance.ask(**{**common, **second})).headers["x-cache"] == "MISS"
    assert (await instance.ask(**{**common, **first})).headers["x-cache"] == "HIT"
    assert rig.script.asked == 2


# ---------------------------------------------------------------- Cache-Control of the request


async def test_no_cache(rig: Rig) -> None:
    """``no-cache`` asks the backend although there is an answer, and replaces that."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    rig.script.reset(body=said(answer="newer"))
    reply = await instance.ask("same", caller, Cache_Control="no-cache")
    assert (reply.headers["x-cache"], reply.json()["answer"], rig.script.asked) == ("BYPASS", "newer", 1)
    again = await instance.ask("same", caller)
    assert (again.headers["x-cache"], again.json()["answer"]) == ("HIT", "newer")


async def test_no_store(rig: Rig) -> None:
    """``no-store`` neither reads nor keeps."""
    instance, caller = rig.instance(), a_caller()
    for _ in range(2):
        reply = await instance.ask("same", caller, Cache_Control="no-store")
        assert (reply.headers["x-cache"], "stored" in reply.headers["cache-status"]) == ("BYPASS", False)
    assert rig.script.asked == 2
    assert rig.server.keys("ai:supervisor:*") == []


AGES = {"younger": (3_000, "max-age=5", "HIT"), "older": (6_000, "max-age=5", "MISS"), "zero": (1, "max-age=0", "MISS")}


@pytest.mark.parametrize(("age_ms", "asks", "cache"), AGES.values(), ids=AGES)
async def test_max_age(rig: Rig, age_ms: int, asks: str, cache: str) -> None:
    """``max-age`` takes an answer that is no older."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    rig.time.ms += age_ms
    reply = await instance.ask("same", caller, Cache_Control=asks)
    assert reply.headers["x-cache"] == cache
    if cache == "HIT":
        assert reply.headers["age"] == str(age_ms // 1000)
        assert reply.headers["cache-status"] == f"breakwater; hit; ttl={3600 - age_ms // 1000}"


async def test_only_if_cached(rig: Rig) -> None:
    """``only-if-cached`` never asks the backend: 504 without an answer, a hit with one."""
    instance, caller = rig.instance(), a_caller()
    reply = await instance.ask("same", caller, Cache_Control="only-if-cached")
    assert (reply.status_code, reply.json()["code"], rig.script.asked) == (504, "not_cached", 0)
    await instance.ask("same", caller)
    assert (await instance.ask("same", caller, Cache_Control="only-if-cached")).headers["x-cache"] == "HIT"


# ---------------------------------------------------------------- a backend in trouble

OPEN = Circuit("open", generation=1, until_ms=NOON_MS + 7_200_000, since_ms=NOON_MS, reason="server")


@about_timeouts
@pytest.mark.parametrize("trouble", ["circuit-open", "fails", "times-out"])
async def test_stale_answer(rig: Rig, trouble: str) -> None:
    """An answer past its hour is served, marked, when the backend cannot be asked or fails; not after its last day."""
    instance, caller = rig.instance(AI_TIMEOUT_MS="200"), a_caller()
    await instance.ask("same", caller)
    rig.time.ms += 4_200_000  # an hour, and the ten minutes in which it is refreshed
    if trouble == "circuit-open":
        rig.store(OPEN)
    else:
        rig.script.reset(status=500, hold=trouble == "times-out", waits=patient().jump)
    reply = await instance.ask("same", caller)
    assert (reply.status_code, reply.headers["x-cache"], reply.headers["age"]) == (200, "STALE", "4200")
    assert (reply.json()["stale"], reply.json()["cached"]) == (True, True)
    unwanted = await instance.ask("same", caller, Cache_Control="max-age=60")
    assert unwanted.status_code >= 500


async def test_expired_answer_is_replaced(rig: Rig) -> None:
    """An answer past its hour and the time of its refreshing is asked for anew while the backend works."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    rig.time.ms += 4_200_000
    rig.script.reset(body=said(answer="newer"))
    reply = await instance.ask("same", caller)
    assert (reply.headers["x-cache"], reply.json()["answer"]) == ("MISS", "newer")
    assert "fwd=stale" in reply.headers["cache-status"]
    assert (await instance.ask("same", caller)).headers["age"] == "0"


async def test_aging_answer_is_refreshed(rig: Rig) -> None:
    """An answer just past its hour is served at once, marked, and replaced after the reply, for one backend call."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("same", caller)
    rig.time.ms += 3_600_000
    rig.script.reset(body=said(answer="newer"))
    reply = await instance.ask("same", caller)
    assert (reply.headers["x-cache"], reply.headers["age"]) == ("STALE", "3600")
    assert (reply.json()["answer"], reply.json()["stale"]) == ("Disk / is 41 % full.", True)
    again = await instance.ask("same", caller)
    assert (again.headers["x-cache"], again.headers["age"], again.json()["answer"]) == ("HIT", "0", "newer")
    assert rig.script.asked == 1


OUTDATED = {"stale": (4_200_000, ""), "older-than-wanted": (6_000, "max-age=5")}


@pytest.mark.parametrize(("age_ms", "asks"), OUTDATED.values(), ids=OUTDATED)
async def test_outdated_answer_is_not_what_is_waited_for(rig: Rig, age_ms: int, asks: str) -> None:
    """CASES 23: whoever waits for another instance's answer gets that one, not the older one that it replaces."""
    lease, caller = {"SINGLE_FLIGHT_LEASE_MS": "1000"}, a_caller()
    leader, follower = rig.instance(**lease), rig.instance(**lease)
    await leader.ask("same", caller)
    rig.time.ms += age_ms
    rig.script.reset(hold=True, body=said(answer="newer"))
    leading = asyncio.ensure_future(leader.ask("same", caller, Cache_Control=asks))
    await rig.script.until(lambda script: script.asked == 1)
    following = asyncio.ensure_future(follower.ask("same", caller, Cache_Control=asks))
    await until(lambda: len(rig.time.slept) >= 2)
    rig.script.release()
    replies = await together([leading, following])
    assert [reply.json()["answer"] for reply in replies] == ["newer", "newer"]
    assert "collapsed" in replies[1].headers["cache-status"]
    assert rig.script.asked == 1


LATE = {
    "its-own-timeout": {"AI_TIMEOUT_MS": "200"},
    "the-function's-deadline": {"AI_TIMEOUT_MS": "60000", "MAX_DURATION_MS": "1200"},
}


@about_timeouts
@pytest.mark.parametrize("environ", LATE.values(), ids=LATE)
async def test_backend_too_late(rig: Rig, environ: dict[str, str]) -> None:
    """A backend that does not answer is given up in time for the reply: before the platform ends the function."""
    rig.script.reset(hold=True, waits=patient().jump)
    started = patient().time()
    reply = await rig.instance(**environ).ask()
    assert patient().time() - started < 1.2
    assert (reply.status_code, reply.json()["code"], reply.json()["source"]) == (504, "backend_timeout", "upstream")
    assert {"x-ratelimit-remaining", "server-timing", "x-cache", "x-guard-mode"} <= reply.headers.keys()
    await rig.script.until(lambda script: script.left == 1)
    # A backend that the function left too little time is not to blame.
    assert (rig.circuit.state, rig.circuit.failures) == ("closed", int("MAX_DURATION_MS" not in environ))


async def test_no_time_left_for_the_backend(rig: Rig) -> None:
    """A call that came too late to ask the backend is told so, and says nothing of the backend: the circuit stays."""
    instance = rig.instance(MAX_DURATION_MS="500")
    replies = [await instance.ask(f"question {n}") for n in range(4)]
    assert [reply.status_code for reply in replies] == [504] * 4
    assert rig.script.asked == 0
    assert rig.circuit_text is None


@about_timeouts
async def test_trickling_backend(rig: Rig) -> None:
    """A backend that sends a byte now and then is given up at its timeout, however often it sends one."""
    rig.script.reset(trickle_s=0.05, waits=patient().jump)
    started = patient().time()
    reply = await rig.instance(AI_TIMEOUT_MS="300").ask()
    assert (reply.status_code, reply.json()["code"]) == (504, "backend_timeout")
    assert patient().time() - started < 1.5


async def test_leaving_cancels(rig: Rig) -> None:
    """CASES 29: when the client leaves, the backend's connection is closed, and nothing is sent or kept."""
    instance = rig.instance()
    rig.script.reset(hold=True)
    assert await leaving(instance, rig.script) == []
    await rig.script.until(lambda script: script.left == 1)
    (done,) = instance.seen(RequestDone)
    assert (done.status, done.decision) == (499, "client_left")
    assert rig.circuit_text is None
    assert rig.server.keys("ai:supervisor:*") == []


# ---------------------------------------------------------------- who counts when a store is out

REDIS_FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"kind": "refuse"},
    "no-answer": {"kind": "hang"},
    "late": {"kind": "delay", "delay_ms": 10_000},
    "lost": {"kind": "drop"},
    "401": {"kind": "status", "status": 401},
    "429": {"kind": "status", "status": 429},
    "500": {"kind": "status", "status": 500},
    "502-html": {"kind": "html"},
    "cut": {"kind": "cut"},
    "not-json": {"kind": "not_json"},
    "one-failed": {"kind": "one_failed"},
}


def loop_of(kind: str) -> Any:
    """What waits is waited for by a patient loop."""
    return PATIENT_BACKEND if kind in ("hang", "delay") else "asyncio"


def each_kind(*kinds: str) -> pytest.MarkDecorator:
    """A test of each of these kinds of faults."""
    return pytest.mark.parametrize(
        ("anyio_backend", "kind"), [pytest.param(loop_of(kind), kind, id=kind) for kind in kinds]
    )


each_fault = pytest.mark.parametrize(
    ("anyio_backend", "fault"),
    [pytest.param(loop_of(fault["kind"]), fault, id=name) for name, fault in REDIS_FAULTS.items()],
)


@each_fault
async def test_redis_out(rig: Rig, fault: dict[str, Any]) -> None:
    """CASES 27: whatever Redis does, Supabase counts, in time, without a 500, and the backend is asked once."""
    instance, caller = rig.instance(), a_caller()
    rig.upstash.fault(**fault)
    reply = await instance.ask("same", caller)
    assert (reply.status_code, reply.headers["x-guard-mode"], reply.headers["x-cache"]) == (200, "supabase", "BYPASS")
    assert reply.headers["x-ratelimit-remaining"] == "9"
    assert rig.script.asked == 1
    replies = [await instance.ask(f"question {n}", caller) for n in range(10)]
    assert [each.status_code for each in replies] == [200] * 9 + [429]
    assert {each.headers["x-guard-mode"] for each in replies} == {"supabase"}
    assert len(instance.seen(ModeSwitched)) == 1
    assert instance.seen(StoreFailed)[0].store == "redis"


async def test_redis_unreachable(rig: Rig) -> None:
    """CASES 27: a port on which nobody listens is an outage like any other."""
    reply = await rig.instance(**rig.nowhere).ask()
    assert (reply.status_code, reply.headers["x-guard-mode"]) == (200, "supabase")


@each_kind("hang", "refuse")
async def test_dead_redis_is_left_alone(rig: Rig, kind: str) -> None:
    """A dead Redis costs an instance one timeout, or three refusals, a cool-down; then it is tried and used again."""
    instance = rig.instance()
    rig.upstash.fault(kind)
    for _ in range(3):
        await instance.ask()
    tried = rig.upstash.requests()
    assert tried == {"hang": 1, "refuse": 3}[kind]
    for _ in range(5):
        assert (await instance.ask()).headers["x-guard-mode"] == "supabase"
    assert rig.upstash.requests() == tried
    rig.time.ms += 5_000
    assert (await instance.ask()).headers["x-guard-mode"] == "supabase"
    assert rig.upstash.requests() == tried + 1
    rig.upstash.clear()
    rig.time.ms += 5_000
    assert (await instance.ask()).headers["x-guard-mode"] == "redis"
    assert [(each.before, each.after) for each in instance.seen(ModeSwitched)] == [
        ("redis", "supabase"),
        ("supabase", "redis"),
    ]


async def test_floor(rig: Rig) -> None:
    """CASES 30: what Redis was known to hold counts in Supabase: an outage hands out no second quota."""
    instance, caller = rig.instance(), a_caller()
    for _ in range(6):
        await instance.ask("same", caller)
    rig.upstash.fault("refuse")
    replies = [await instance.ask(f"question {n}", caller) for n in range(5)]
    assert [reply.status_code for reply in replies] == [200] * 4 + [429]
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["3", "2", "1", "0", "0"]
    assert replies[-1].headers["x-guard-mode"] == "supabase"


async def test_given_back(rig: Rig) -> None:
    """CASES 30: when Redis is back its windows include what Supabase admitted meanwhile."""
    instance, caller = rig.instance(), a_caller()
    rig.upstash.fault("refuse")
    assert [(await instance.ask(f"question {n}", caller)).status_code for n in range(6)] == [200] * 6
    rig.upstash.clear()
    rig.time.ms += 5_000
    replies = [await instance.ask("same", caller) for _ in range(10)]
    assert {reply.headers["x-guard-mode"] for reply in replies} == {"redis"}
    # One may pass unseen: the call that finds Redis back is decided before anything can be given back.
    assert [reply.status_code for reply in replies] == [200] * 4 + [429] * 6


@each_fault
async def test_both_out(rig: Rig, fault: dict[str, Any]) -> None:
    """CASES 28: with Supabase out as well the instance counts by itself, a quarter of the limit, without a 500."""
    if fault["kind"] == "one_failed":
        fault = {"kind": "status"}  # Supabase has no pipeline
    instance, caller = rig.instance(), a_caller()
    rig.upstash.fault(**fault)
    rig.supabase.fault(**fault)
    replies = [await instance.ask(f"question {n}", caller) for n in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 429, 429]
    assert {reply.headers["x-guard-mode"] for reply in replies} == {"local"}
    assert replies[0].headers["ratelimit-policy"] == '"minute";q=2;w=60, "day";q=25;w=86400'
    assert rig.script.asked == 2
    assert (await instance.ask("another caller")).status_code == 200


async def test_supabase_out_alone(rig: Rig) -> None:
    """CASES 28: while Redis works nobody notices that Supabase does not."""
    rig.supabase.fault("hang")
    instance = rig.instance()
    assert (await instance.ask()).headers["x-guard-mode"] == "redis"
    assert rig.supabase.requests() == 0


async def test_without_supabase(rig: Rig) -> None:
    """Without a fallback an outage of Redis is counted locally at once."""
    instance = rig.instance(SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)
    rig.upstash.fault("refuse")
    assert (await instance.ask()).headers["x-guard-mode"] == "local"


async def test_wrong_service_key(rig: Rig) -> None:
    """A Supabase that does not accept our key is out: counted locally, no 500."""
    instance = rig.instance(SUPABASE_SERVICE_ROLE_KEY="sb_secret_wrong")
    rig.upstash.fault("refuse")
    assert (await instance.ask()).headers["x-guard-mode"] == "local"


async def test_redis_disabled(rig: Rig) -> None:
    """``REDIS_ENABLED=false``: Supabase's limits, no cache, and not one request to Redis."""
    instance, caller = rig.instance(REDIS_ENABLED="false"), a_caller()
    replies = [await instance.ask("same", caller) for _ in range(11)]
    assert [reply.status_code for reply in replies] == [200] * 10 + [429]
    assert {reply.headers["x-guard-mode"] for reply in replies} == {"supabase"}
    assert {reply.headers["x-cache"] for reply in replies[:10]} == {"BYPASS"}
    assert rig.script.asked == 10
    assert rig.upstash.requests() == 0
    assert instance.seen(ModeSwitched) == []


async def test_limits_off(rig: Rig) -> None:
    """``RATELIMIT_AI_SUPERVISOR=off``: no limit and no limit headers; the cache works."""
    instance, caller = rig.instance(RATELIMIT_AI_SUPERVISOR="off"), a_caller()
    replies = [await instance.ask("same", caller) for _ in range(15)]
    assert {reply.status_code for reply in replies} == {200}
    assert {reply.headers["x-guard-mode"] for reply in replies} == {"off"}
    assert "x-ratelimit-limit" not in replies[-1].headers
    assert replies[-1].headers["x-cache"] == "HIT"
    rig.upstash.fault("refuse")
    assert (await instance.ask("same", caller)).status_code == 200


@over_rest
async def test_stock_algorithm(rig: Rig) -> None:
    """``RATELIMIT_ALGORITHM=upstash`` counts under the library's own keys, with our cache and headers."""
    rig.time.ms = time.time_ns() // 1_000_000  # the library has its own clock
    instance, caller = rig.instance(RATELIMIT_ALGORITHM="upstash"), a_caller()
    replies = [await instance.ask("same", caller) for _ in range(20)]
    statuses = [reply.status_code for reply in replies]
    assert statuses[:10] == [200] * 10
    assert 429 in statuses
    assert [reply.headers["x-cache"] for reply in replies[:2]] == ["MISS", "HIT"]
    assert rig.server.keys("@upstash/ratelimit:ai/supervisor:minute:*")
    assert rig.server.keys("rl:*") == []
    refused = replies[statuses.index(429)]
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-guard-mode"] == "redis"


@over_rest
@each_kind("refuse", "hang", "html", "not_json")
async def test_stock_algorithm_with_redis_out(rig: Rig, kind: str) -> None:
    """The library's own failures, whatever they are, switch to Supabase as ours do."""
    instance = rig.instance(RATELIMIT_ALGORITHM="upstash")
    rig.upstash.fault(kind)
    reply = await instance.ask()
    assert (reply.status_code, reply.headers["x-guard-mode"], rig.script.asked) == (200, "supabase", 1)


class _FailedMeanwhile(Claims):
    """Redis fails another request of the instance between the count and the lock."""

    async def claim[P, V](self, turn: Turn[P, V], cached: Cached[V], place: int) -> Claimed[V] | None:
        """As it is."""
        assert self.redis is not None
        self.redis.failures += 1
        return await super().claim(turn, cached, place)


async def test_a_return_that_begins_with_the_lock(rig: Rig) -> None:
    """It is carried out after the reply: nobody else has to wait for the end of its lease."""
    instance = rig.instance()
    made = instance.guard.computing.claims
    instance.guard.computing.claims = _FailedMeanwhile(made.limits, made.redis, made.outbox, made.clock, made.rules)
    assert (await instance.ask()).status_code == 200
    marker = parse(rig.server.get(keys.OUTAGE))  # type: ignore[arg-type] # decoded
    assert not marker.owner
    assert marker.settled > 0


@each_fault
async def test_write_back_fails(rig: Rig, fault: dict[str, Any]) -> None:
    """CASES 27: Redis gone between answer and write-back: the caller has the answer, the backend was paid once."""
    instance, caller = rig.instance(), a_caller()
    rig.upstash.fault(**fault, match="41 % full")
    reply = await instance.ask("same", caller)
    assert (reply.status_code, reply.headers["x-guard-mode"], rig.script.asked) == (200, "redis", 1)
    assert [(each.store, each.phase) for each in instance.seen(StoreFailed)] == [("redis", "write_back")]
    rig.upstash.clear()
    again = await instance.ask("same", caller)
    # What would cost a wait each time, or what a second try does not cure, is left alone for a while at once.
    left_alone = instance.seen(StoreFailed)[0].reason.startswith(("timeout", "unauthorized", "quota"))
    assert left_alone is (fault["kind"] in ("hang", "delay") or fault.get("status") in (401, 429))
    assert (again.status_code, again.headers["x-guard-mode"]) == (200, "supabase" if left_alone else "redis")
    # Of several commands one that is refused loses its own effect alone.
    assert (again.headers["x-cache"] == "HIT") is (fault["kind"] in ("one_failed", "drop", "cut"))
    rig.time.ms += 5_000
    assert (await instance.ask("same", caller)).headers["x-guard-mode"] == "redis"
    # The answer that was not kept is not waited for.
    assert sum(rig.time.slept) < 1
    assert rig.without_ttl() == []


@each_fault
@pytest.mark.parametrize("budget", ["off", "1000/day"])
async def test_lock_fails(rig: Rig, fault: dict[str, Any], budget: str) -> None:
    """CASES 27: Redis gone between count and lock: answered all the same, counted once, the backend was paid once."""
    instance, caller = rig.instance(CLOUD_RUN_LIMITS=budget), a_caller()
    rig.upstash.fault(**fault, match='["SET","lock:')
    reply = await instance.ask("same", caller)
    assert (reply.status_code, reply.headers["x-guard-mode"], rig.script.asked) == (200, "redis", 1)
    assert reply.headers["x-ratelimit-remaining"] == "9"
    assert instance.seen(StoreFailed)[0].phase == "ask"
    rig.upstash.clear()
    rig.time.ms += 5_000
    again = await instance.ask("another", caller)
    assert (again.headers["x-guard-mode"], again.headers["x-ratelimit-remaining"]) == ("redis", "8")
    assert rig.without_ttl() == []


async def test_refund_fails(rig: Rig) -> None:
    """A refusal whose refund is lost is a refusal all the same, and is remembered."""
    instance, other, caller = rig.instance(), rig.instance(), a_caller()
    await instance.ask("same", caller)
    for _ in range(9):
        await other.ask("same", caller)
    rig.upstash.fault("refuse", match=",-1,")
    assert (await instance.ask("same", caller)).status_code == 429
    assert [each.phase for each in instance.seen(StoreFailed)] == ["write_back"]
    assert (await instance.ask("same", caller)).status_code == 429


@each_kind("refuse", "hang", "drop", "cut")
async def test_claim_fails(rig: Rig, kind: str) -> None:
    """Redis gone just as a probe is claimed: the check decides, and the question is asked once."""
    rig.store(Circuit("open", generation=1, until_ms=NOON_MS, since_ms=NOON_MS, reason="server"))
    rig.upstash.fault(kind, match='["EVAL"')
    reply = await rig.instance().ask()
    assert reply.status_code == 200
    assert rig.script.asked == 1
