"""Notable requests and batches: what counts as notable, what is written when, and what is read back."""

import json
from dataclasses import replace

import pytest

from lib.base.events import CircuitChanged, RequestDone, Spent
from lib.ledger import batches
from lib.ledger.batches import NOTABLE, Batch, Moved
from lib.ledger.capped import Capped
from lib.ledger.recent import EVERY, Recent
from lib.redis import keys

NOW_MS = 1_763_121_601_000


def done(decision: str = "compute", status: int = 200, *, ms: float = 20, attempts: str | None = None) -> RequestDone:
    """A request that is done."""
    return RequestDone(
        "id", "POST", "/api/ai/supervisor", status, decision, "why", "c" * 32, attempts=attempts, spent_ms=Spent(ms)
    )


@pytest.mark.parametrize(
    ("request_done", "kind"),
    [
        (done("fail", 502), "failed"),
        (done("fail", 503, attempts="gemini;timeout, groq;server"), "failed"),
        (done("none", 500), "failed"),
        (done(attempts="gemini;timeout, groq;answered"), "failed_over"),
        (done(ms=10_000), "slow"),
        (done("serve", ms=10_001), "slow"),
        (done(ms=9_999), None),
        (done("serve"), None),
        (done("refuse", 429), None),
        (done("refuse", 429, ms=99_000), None),
        (done("refuse", 504), None),
        (done("client_left", 499, ms=99_000), None),
    ],
)
def test_what_is_notable(request_done: RequestDone, kind: str | None) -> None:
    """Failures, other providers than the first, and slow replies; neither refusals nor clients that left."""
    found = batches.notable(request_done, 10_000, NOW_MS)
    assert (found.kind if found else None) == kind


def test_a_batch_survives_the_list() -> None:
    """What is written is what is read."""
    one = Recent()
    for seen in (done(), done("fail", 502), done(attempts="a;timeout, b;answered")):
        one.note(seen, NOW_MS)
    batch = one.take(NOW_MS)
    assert batch is not None
    read = batches.parse(batch.text())
    assert read is not None
    assert (read.at_ms, read.callers.counts, list(read.requests)) == (NOW_MS, {"c" * 32: 3}, list(batch.requests))
    assert [each.kind for each in read.requests] == ["failed", "failed_over"]


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "1", "null", "{}", '{"at": 1}', '{"at": 1, "callers": [], "notable": []}']
    + [f'{{"at": 1, "callers": {{}}, "notable": {each}}}' for each in ("[{}]", "[1]", "1", "null")],
)
def test_an_item_that_is_none_of_ours_is_left_out(text: str) -> None:
    """Whatever lies in the list, the page goes on without it."""
    assert batches.parse(text) is None


def test_a_later_version_may_write_more() -> None:
    """A field that this version does not know is left out; the rest is read."""
    one = Recent()
    one.note(done("fail", 502), NOW_MS)
    batch = one.take(NOW_MS)
    assert batch is not None
    item = json.loads(batch.text())
    item["notable"][0]["tokens"] = 5
    read = batches.parse(json.dumps(item))
    assert read is not None
    assert list(read.requests) == list(batch.requests)


def test_circuits_that_are_no_providers() -> None:
    """Those of users' code and of origins are written and read as they are; of several batches the last move counts."""
    early, late = Recent(), Recent()
    origin = keys.circuit_of_origin("재고:1")
    for one, name, after, at_ms in (
        (early, origin, "open", NOW_MS),
        (early, "gemini", "open", NOW_MS),
        (early, keys.circuit_of_app("mail"), "open", NOW_MS),
        (late, origin, "closed", NOW_MS + 5_000),
    ):
        one.moved(CircuitChanged(name, "closed", after, "timeout"), at_ms)
    found = [batches.parse(one.pending(NOW_MS).text()) for one in (late, early)]
    assert batches.circuits(each for each in found if each is not None) == [
        Moved(NOW_MS // 1000 + 5, origin, "closed", "timeout"),
        Moved(NOW_MS // 1000, keys.circuit_of_app("mail"), "open", "timeout"),
    ]
    assert keys.circuit_named(origin) == ("origin", "재고:1")


def test_a_batch_of_before_circuits_is_read() -> None:
    """One that has none of them, as an earlier version wrote it."""
    read = batches.parse('{"at": 1, "callers": {"a": 2}, "notable": []}')
    assert read is not None
    assert (read.callers.counts, list(read.circuits)) == ({"a": 2}, [])


def test_when_a_batch_is_due() -> None:
    """With the next flush where anything was notable; else with every eighth and the last, and never an empty one."""
    one = Recent()
    assert [one.take(NOW_MS) for _ in range(EVERY + 2)] == [None] * (EVERY + 2)
    one.note(done(), NOW_MS)
    assert one.take(NOW_MS) is not None
    one.note(done(), NOW_MS)
    assert [one.take(NOW_MS) is not None for _ in range(EVERY)] == [False] * (EVERY - 1) + [True]
    one.note(done("fail", 502), NOW_MS)
    assert one.take(NOW_MS) is not None
    one.note(done(), NOW_MS)
    one.close()
    assert one.take(NOW_MS) is not None
    one.moved(CircuitChanged("origin:a", "closed", "open", "timeout"), NOW_MS)
    assert [one.take(NOW_MS) is not None for _ in range(EVERY)] == [False] * (EVERY - 1) + [True]


def test_callers_that_a_batch_has_no_room_for() -> None:
    """They are in the next one: whoever calls as often as all others is not missing, and nobody counts twice."""
    one, read = Recent(), list[Batch]()
    for _ in range(4):
        for caller in range(30):
            one.note(replace(done(), caller=f"{caller:032x}"), NOW_MS)
        one.close()
        taken = one.take(NOW_MS)
        assert taken is not None
        written = batches.parse(taken.text())
        assert written is not None
        assert len(written.callers.counts) == 20
        read.append(written)
    seen = dict(batches.busiest([*read, one.pending(NOW_MS)], 100))
    assert seen == {f"{caller:032x}": 4 for caller in range(30)}


def test_what_got_no_reply_is_written_again() -> None:
    """A batch that is given back joins what came since, in the order in which it happened, within the bound."""
    one = Recent()
    one.note(done("fail", 502), NOW_MS)
    lost = one.take(NOW_MS)
    assert lost is not None
    lost.circuits.append(Moved(1, "origin:a", "open", ""))
    one.moved(CircuitChanged("origin:b", "closed", "open", ""), 2_000)
    for number in range(NOTABLE - 1):
        one.note(done("fail", 502), NOW_MS + 1_000 * (number + 1))
    one.give_back(lost)
    batch = one.take(NOW_MS)
    assert batch is not None
    assert [each.at for each in batch.requests] == [NOW_MS // 1000 + each for each in range(NOTABLE)]
    assert batch.callers.counts == {"c" * 32: NOTABLE}
    assert [each.name for each in batch.circuits] == ["origin:a", "origin:b"]


def test_the_page_gets_the_latest_once() -> None:
    """Of several batches the last 50, newest first; one that was written twice counts once."""
    found = []
    for number in range(3):
        one = Recent()
        for each in range(40):
            one.note(done("fail", 502), NOW_MS + 1_000 * (40 * number + each))
        found.append(one.pending(NOW_MS))
    latest = batches.latest([*found, found[0]])
    assert [each.at for each in latest] == [NOW_MS // 1000 + each for each in range(119, 69, -1)]


def test_the_busiest_of_all_instances() -> None:
    """Counts of one caller add up across batches."""
    both = [Batch(), Batch()]
    for batch, calls in zip(both, ("aab", "bbb"), strict=True):
        for caller in calls:
            batch.callers.add(caller)
    assert batches.busiest(both, 1) == [("b", 4)]


@pytest.mark.parametrize(
    ("length", "names"),
    [(1, ["EXPIRE"]), (3, ["EXPIRE"]), (4, []), (9, []), (10, ["LTRIM", "EXPIRE"]), (99, ["LTRIM", "EXPIRE"])],
)
def test_a_list_is_trimmed_now_and_then(length: int, names: list[str]) -> None:
    """A new list gets its TTL, three times over; a long one is trimmed; in between a push is all."""
    more = Capped("k", 5, 60).push("item").read([length])
    assert [each[0] for each in more.commands] == names if more else names == []


@pytest.mark.parametrize("reply", [None, "OK", []])
def test_a_key_that_holds_something_else_disturbs_nobody(reply: str | list[object] | None) -> None:
    """What goes along in the same round trip is not lost because of it."""
    assert Capped("k", 3, 60).push("item").read([reply]) is None  # type: ignore[list-item] # any reply
