"""The first tier's bounds: entries, bytes, time, and what an invalidation leaves of it."""

from typing import Any

from lib.cache.entry import Cached, Entry, size_of
from lib.cache.freshness import CacheRules, Directives
from lib.cache.memory import MOST_BYTES, MOST_ENTRIES, MOST_MS, Memory
from lib.call import Call
from lib.limits.admission import Subject
from lib.limits.window import Layout
from lib.looking import Recent

EPOCHS = ("epoch:2", "epoch:2:data:x")
RULES = CacheRules(15_000, 15_000, 15_000, early_ms=1_500, memory_ms=MOST_MS, alone_ms=1_000)


def entry(size: int = 1, stored_at_ms: int = 0, fresh_ms: int | None = None) -> Cached[Any]:
    """An entry that Redis has said of so many bytes."""
    return Cached(Entry("v", stored_at_ms, fresh_ms), ("a", "b"), None, "", shared=True, size=size)


def call(rules: CacheRules = RULES, **asked: Any) -> Call:
    """A read."""
    return Call("data/x", Subject("", Layout(())), "k", EPOCHS, "id", 0.0, Directives(**asked), rules)


def test_at_most_so_many_entries() -> None:
    """Those that came first go first."""
    memory = Memory()
    for number in range(MOST_ENTRIES + 10):
        memory.put(f"k{number}", EPOCHS, entry(), 5.0, 0)
    assert (len(memory), memory.size) == (MOST_ENTRIES, MOST_ENTRIES)
    assert memory.get("k9", 0.0) is None
    assert memory.get("k10", 0.0) is not None


def test_at_most_so_many_bytes() -> None:
    """Whatever their number; one that is larger than all of it is not kept, and pushes nothing out."""
    memory = Memory()
    for number in range(9):
        memory.put(f"k{number}", EPOCHS, entry(MOST_BYTES // 8), 5.0, 0)
    assert (len(memory), memory.size) == (8, MOST_BYTES)
    memory.put("huge", EPOCHS, entry(MOST_BYTES + 1), 5.0, 0)
    assert (len(memory), memory.get("huge", 0.0)) == (8, None)


def test_an_entry_is_counted_once() -> None:
    """Put again it takes the place of the one before; what is over gives its bytes back."""
    memory = Memory()
    for size in (100, 50):
        memory.put("k", EPOCHS, entry(size), 5.0, 0)
    assert memory.size == 50
    assert memory.get("k", 4.9) is not None
    assert memory.get("k", 5.0) is None
    assert (len(memory), memory.size) == (0, 0)


def test_bytes_are_never_fewer_than_they_are() -> None:
    """Of texts that are not ASCII the most that they may take is assumed."""
    for text in ("abc", "비빔밥", "😀"):
        assert size_of(text) >= len(text.encode())


def test_what_was_read_before_an_invalidation_is_not_kept() -> None:
    """Nor is anything left that belongs to what was invalidated; the rest stays."""
    memory = Memory()
    memory.put("a", EPOCHS, entry(), 5.0, 0)
    memory.put("b", (*EPOCHS, "epoch:2::t7"), entry(), 5.0, 0)
    drops = memory.drops
    memory.drop(frozenset({"epoch:2::t7"}))
    assert memory.get("a", 0.0) is not None
    assert memory.get("b", 0.0) is None
    memory.put("c", EPOCHS, entry(), 5.0, drops)
    assert memory.get("c", 0.0) is None


def test_no_longer_than_there_is_nothing_else_to_do() -> None:
    """Five seconds at most, and not into the last tenth of its time, in which it is computed anew."""
    for age_ms, until_s in ((0, 5.0), (10_000, 3.5), (13_400, 0.1), (13_500, None), (16_000, None)):
        recent = Recent()
        recent.keep(call(), entry(stored_at_ms=0), 0.0, age_ms, 0)
        kept = recent.memory._kept.get("k")
        assert (kept.until_s if kept else None) == until_s


def test_a_value_that_is_gone_sooner_is_not_kept_longer() -> None:
    """Where it says itself how long it is fresh."""
    recent = Recent()
    recent.keep(call(), entry(fresh_ms=2_000), 0.0, 500, 0)
    assert recent.memory._kept["k"].until_s == 1.5


def test_who_wants_something_newer_looks() -> None:
    """`max-age` holds for memory as well; and what Redis has not said is not kept."""
    recent = Recent()
    recent.keep(call(), entry(stored_at_ms=0), 0.0, 3_000, 0)
    assert recent.find(call(), 1.0, 4_000) is not None
    assert recent.find(call(max_age_s=3), 1.0, 4_000) is None
    assert recent.find(call(no_cache=True), 1.0, 4_000) is None
    alone = Recent()
    alone.keep(call(), Cached(Entry("v", 0), (None, None), None, "", shared=False), 0.0, 0, 0)
    assert len(alone.memory) == 0
