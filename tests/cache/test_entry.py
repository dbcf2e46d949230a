"""Entries: what Redis holds of a value, and when it is a hit."""

import json

import pytest

from lib.afterwards import Afterwards
from lib.cache import entry as entries
from lib.cache import lock
from lib.cache.entry import Cached, Entry
from lib.cache.freshness import CacheRules

EPOCHS = ("epoch:2", "epoch:2:r")
NOW_MS = 1_763_553_600_000


class Plain:
    """A codec for texts; one that begins with ! is not kept."""

    def dump(self, value: str) -> str:
        """The text itself."""
        return "" if value.startswith("!") else value

    def load(self, text: str) -> str | None:
        """The text itself."""
        return text or None


def read(*texts: str | None) -> Cached[str]:
    """What a request finds: the entry, its lock, and two epochs."""
    return entries.lookup("key", EPOCHS, Plain()).read(texts)


def stored(cached: Cached[str], value: str = "a value\nof two lines", owner: str = "a.b|me") -> tuple[str, list[str]]:
    """The entry that is sent to Redis, and the epochs that are created with it."""
    after = Afterwards()
    entries.store("key", EPOCHS, cached, value, NOW_MS, owner, 60_000, after, sent=lambda: None)
    *created, entry = [step.op.commands[0] for step in after.steps]
    assert entry[:2] == ("SET", "key")
    assert entry[3:] == ("PX", 60_000)
    assert all(command[3] == "NX" for command in created)
    return str(entry[2]), [str(command[1]) for command in created]


def test_a_stored_value_is_read_again() -> None:
    """Under the same epochs, line breaks and all."""
    text, created = stored(read(None, None, "a", "b"))
    assert created == []
    found = read(text, None, "a", "b")
    assert found.entry == Entry("a value\nof two lines", NOW_MS)
    assert (found.stored_by, found.generation, found.computing) == ("a.b|me", "a.b", False)


def test_a_late_value_leaves_a_newer_one_in_its_place() -> None:
    """By a script, which is given the value's own time."""
    after = Afterwards()
    entries.store("key", EPOCHS, read(None, None, "a", "b"), "v", NOW_MS, "me", 60_000, after, late=True, sent=print)
    (step,) = after.steps
    ((name, _, keys, key, entry, at_ms, lasts_ms),) = step.op.commands
    assert (name, keys, key, at_ms, lasts_ms) == ("EVAL", 1, "key", NOW_MS, 60_000)
    assert read(str(entry), None, "a", "b").entry == Entry("v", NOW_MS)


def test_missing_epochs_are_created_by_whoever_stores() -> None:
    """CASE 38: each with a new word, unless another request was first."""
    text, created = stored(read(None, None, "a", None))
    assert created == ["epoch:2:r"]
    words = json.loads(text.partition("\n")[0])[2].split(".")
    assert words[0] == "a"
    assert read(text, None, *words).entry is not None
    assert stored(read(None, None, "a", None))[0] != text


@pytest.mark.parametrize(
    ("everything", "route"),
    [
        pytest.param("x", "b", id="everything was invalidated"),
        pytest.param("a", "x", id="the route was"),
        pytest.param(None, "b", id="an epoch was lost"),
        pytest.param("a", None, id="the other was lost"),
        pytest.param(None, None, id="both were lost"),
        pytest.param("b", "a", id="the words changed places"),
        pytest.param("", "a.b", id="a word that looks like two"),
    ],
)
def test_an_entry_of_other_epochs_is_a_miss(everything: str | None, route: str | None) -> None:
    """CASE 38: after an invalidation, and after the loss of an epoch, nothing of before is served."""
    text, _ = stored(read(None, None, "a", "b"))
    found = read(text, "a.b|me", everything, route)
    assert found.entry is None
    assert not found.computing


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param("[]\nx", id="an empty header"),
        pytest.param('[2,1,"a.b",""]\nx', id="another version"),
        pytest.param('[3,"1","a.b",""]\nx', id="a text as time"),
        pytest.param('[3,1.5,"a.b",""]\nx', id="a fraction as time"),
        pytest.param('[3,1,["a"],""]\nx', id="a list as epochs"),
        pytest.param('[3,1,"a.b"]\nx', id="no owner"),
        pytest.param('[3,1,"a.b",""]', id="no value"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param(json.dumps({"v": 2, "t": "text", "m": "m", "p": "p", "at": 1, "n": None, "ms": 1}), id="of 0.1"),
    ],
)
def test_a_corrupt_entry_is_a_miss(text: str) -> None:
    """CASE 24: whatever is stored, nothing breaks, and it is overwritten."""
    assert read(text, None, "a", "b").entry is None


@pytest.mark.parametrize(
    ("held", "computing"),
    [
        pytest.param(None, False, id="no lock"),
        pytest.param("a.b|other", True, id="another request's"),
        pytest.param("a.b|me", False, id="of the request that stored the entry"),
        pytest.param("a.x|other", False, id="of before an invalidation"),
        pytest.param("a.b.c|other", False, id="of other epochs"),
        pytest.param("garbage", False, id="garbage"),
    ],
)
def test_who_computes(held: str | None, computing: bool) -> None:
    """A lock counts while its work goes on, and for the present epochs."""
    text, _ = stored(read(None, None, "a", "b"))
    assert read(text, held, "a", "b").computing is computing


def test_without_redis_nothing_is_known() -> None:
    """No entry, no lock, and requests of this instance still find each other."""
    unread = entries.lookup("key", EPOCHS, Plain()).unread()
    assert (unread.entry, unread.lock, unread.shared) == (None, None, False)
    assert unread.generation == "-.-"


def test_an_entry_outlives_its_lock() -> None:
    """An entry that may be served for a second is kept for a lease: it says that the lock is over."""
    assert entries.lasts_ms(CacheRules(1_000, 0, 0), 10_000) == 10_000
    assert entries.lasts_ms(CacheRules(60_000, 30_000, 20_000), 10_000) == 90_000


def test_looks_are_few() -> None:
    """CASE 23: at most 6 looks in the first two seconds, then one for each quarter of a lease."""
    rules = lock.LockRules(10_000)
    waits = [lock.wait_s(look, rules, 0.0) for look in range(20)]
    assert sum(waits[:6]) > 2.0
    assert waits == sorted(waits)
    assert waits[-1] == 2.5
    assert lock.wait_s(19, rules, 0.999) < 2.5 * 1.25
