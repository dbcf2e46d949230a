"""The ledger's places: what is noted stays where it is, and whatever is added moves nothing."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lib.base.clock import Clock
from lib.base.events import (
    CircuitChanged,
    Event,
    ModeSwitched,
    ProviderAnswered,
    ProviderAsked,
    ProviderFailure,
    RedisSlow,
    RequestDone,
    Spent,
    StoreFailed,
    WouldRefuse,
)
from lib.ledger import places, table
from lib.ledger.histogram import Histogram
from lib.ledger.ledger import Ledger
from lib.ledger.places import BLOCKS, PROVIDERS, ROUTES, Block
from lib.redis.thrift import Thrift
from tests.ledger import golden

NOW_MS = 1_763_121_601_000


def test_noted_places_stay() -> None:
    """Every place is noted in the golden file, and none that is noted has moved."""
    if fault := golden.fault(golden.read(), golden.lines()):
        pytest.fail(fault, pytrace=False)


@pytest.mark.parametrize(
    ("present", "message"),
    [
        pytest.param(["key 2", "total 1 a", "total 2 b"], None, id="nothing changed"),
        pytest.param(["key 2", "total 1 a", "total 2 b", "total 3 c"], "`make places`", id="one is new"),
        pytest.param(["key 2", "total 3 c", "total 2 b", "total 1 a"], "`make places`", id="the order means nothing"),
        pytest.param(["key 2", "total 1 a", "total 3 b"], "\ntotal 2 b\n", id="one moved"),
        pytest.param(["key 2", "total 1 a"], "\ntotal 2 b\n", id="one is gone"),
        pytest.param(["key 2", "total 1 a", "total 2 c"], "\ntotal 2 b\n", id="a number is used again"),
        pytest.param(["key 3", "total 1 b", "total 2 a"], "`make places`", id="another layout under another key"),
    ],
)
def test_the_golden_file_notices(present: list[str], message: str | None) -> None:
    """The fault names the counters and what to do: new ones are noted, moved ones get their number back."""
    fault = golden.fault(["key 2", "total 1 a", "total 2 b"], present)
    assert fault is None if message is None else message in (fault or "")


def with_another(of: Mapping[str, int]) -> list[Block]:
    """All blocks as they are when a label has one more value: listed first, with the last number that is free."""

    def grown(room: int) -> Mapping[str, int]:
        return {"one more": max(set(range(room)) - set(of.values())), **of}

    return [
        replace(block, axes=tuple((grown(room) if ids is of else ids, room) for ids, room in block.axes))
        for block in BLOCKS
    ]


@pytest.mark.parametrize("of", [PROVIDERS, ROUTES, places.REFUSALS], ids=["a provider", "a route", "a reason"])
def test_an_addition_moves_nothing(of: Mapping[str, int]) -> None:
    """One more value, wherever it is listed and up to the last number there is room for, leaves all others in place."""
    before, after = table.lay_out(BLOCKS), table.lay_out(with_another(of))
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert len(set(after.values())) == len(after)


def test_another_kind_of_alert_moves_nothing() -> None:
    """The last kind there is room for is about as many things as there is room for."""
    abouts = {str(number): number for number in range(places.ABOUTS)}
    first = places.ALERTS_AT + (places.ALERT_KINDS - 1) * places.ABOUTS
    last = Block(first, ("alert_s", "another"), ((abouts, places.ABOUTS),))
    before, after = table.lay_out(BLOCKS), table.lay_out([last, *BLOCKS])
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + places.ABOUTS


def test_the_numbers_of_alerts_are_all_accounted_for() -> None:
    """Each number is a kind's, retired or free, and only one of them: whoever adds a kind sees what is free."""
    taken = [each.number for each in places.AlertKind]
    numbers = [0, *taken, *places.RETIRED_ALERT_KINDS, *places.FREE_ALERT_KINDS]
    assert sorted(numbers) == list(range(places.ALERT_KINDS))


def test_a_larger_bound_moves_nothing() -> None:
    """A histogram may get larger bounds at its end."""
    before = Histogram("h", (1, 2.5)).numbers()
    after = Histogram("h", (1, 2.5, 5)).numbers()
    assert {part: after[part] for part in before} == before


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        pytest.param([Block(0, ("a",), (({"x": 1, "y": 1}, 8),))], "a: two values have the same", id="a number twice"),
        pytest.param([Block(0, ("a",), (({"x": 8}, 8),))], "'x' has number 8; there is room for 0 to 7", id="no room"),
        pytest.param([Block(0, ("a",), (({"x": -1}, 8),))], "'x' has number -1", id="a negative number"),
        pytest.param([Block(5, ("b",)), Block(5, ("a",))], "begins at slot 5; ", id="a slot twice"),
        pytest.param(
            [Block(4, ("b",)), Block(0, ("a",), (({"x": 0}, 8),))],
            "b begins at slot 4; a has the slots before 8",
            id="within the room of another",
        ),
        pytest.param([Block(places.SLOTS, ("a",))], "slots from 0 to 16383", id="beyond the last slot"),
        pytest.param([Block(-1, ("a",))], "slots from 0 to 16383", id="before the first slot"),
    ],
)
def test_a_place_that_cannot_be_is_refused(blocks: list[Block], message: str) -> None:
    """Importing the table fails, and the error says which number is at fault."""
    with pytest.raises(ValueError, match=message):
        table.lay_out(blocks)


def test_the_areas_stay_apart() -> None:
    """The last number of each area ends where the next area begins; the whole is 888 KiB."""
    (_, last_total) = max(table.TOTALS.values(), key=lambda each: each[1])
    assert last_total + table.TOTAL_BITS <= table.HOURS_AT
    month, end_ms = "2025-12", table.month_starts_ms("2026-01")
    (_, last_hour) = table.hour_place("calls.openai", end_ms - 1, month)
    assert last_hour + table.HOUR_BITS <= table.FIVE_MINUTES_AT
    (_, last) = table.five_minute_place("calls.openai", end_ms - 1, month)
    assert last + table.FIVE_MINUTE_BITS <= 888 * 1024 * 8


def request(**given: object) -> RequestDone:
    """A request as the edge reports it."""
    usual = {"request_id": "r", "method": "GET", "route": "/api/x", "status": 200, "decision": "serve", "reason": ""}
    return RequestDone(**{**usual, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        request(),
        request(route="/api/ai/supervisor", mode="redis", cache="hit", spent_ms=Spent(1e9, 1e9, 1e9, 1e9)),
        request(route="/api/orders", mode="off", cache="anything", decision="anything", status=999),
        request(route="/api/orders", mode="local", decision="refuse", reason="anything: at all", status=429),
        ProviderAsked("anybody"),
        ProviderAnswered("anybody", 1e9),
        ProviderFailure("anybody", "reason", "theirs"),
        StoreFailed("redis", "ask", "anything: at all"),
        StoreFailed("supabase", "ask", "anything: at all"),
        RedisSlow(1e9),
        WouldRefuse("route:anything", "minute", "a caller"),
        *(
            CircuitChanged("anybody", "closed", after, "reason")
            for after in ("open", "suspect", "probing", "closed", "anything")
        ),
        *(ModeSwitched("redis", after, "reason") for after in ("redis", "supabase", "local", "off")),
    ],
    ids=lambda event: f"{event.event}",
)
def test_whatever_happens_has_a_place(event: Event) -> None:
    """No value of an event's fields is without a place when counts are flushed."""
    clock = Clock(now_ms=lambda: NOW_MS)
    ledger = Ledger(None, Thrift(500_000), clock, 64, {})
    ledger.listen(event)
    assert set(ledger.pending()) <= set(table.places_read(NOW_MS // table.FIVE_MINUTES_MS, "2025-11"))


@pytest.mark.parametrize("route", sorted(places.ROUTES))
@pytest.mark.parametrize("outcome", places.OUTCOMES)
def test_every_guarded_route_is_on_the_page(route: str, outcome: str) -> None:
    """What fails on a data route counts by time as well, from which the page and the alerts have it. CASE 40."""
    ledger = Ledger(None, Thrift(500_000), Clock(now_ms=lambda: NOW_MS), 64, {})
    ledger.listen(request(route=f"/api/{route}", mode="redis", decision=outcome, status=503))
    found = ledger.pending()
    by_route = f"route.{route if route in places.HOURLY_ROUTES else 'other'}"
    for name in (outcome, "status.5xx", by_route):
        assert found[table.hour_place(name, NOW_MS, "2025-11")] == 1
        assert found[table.five_minute_place(name, NOW_MS, "2025-11")] == 1


@pytest.mark.parametrize(("mode", "counted"), [("redis", 1), (None, None)], ids=["guarded", "our own"])
def test_what_is_answered_without_a_cache(mode: str | None, counted: int | None) -> None:
    """A dashboard's replies make its failures as rare as they are; metrics and health of our own do not."""
    ledger = Ledger(None, Thrift(500_000), Clock(now_ms=lambda: NOW_MS), 64, {})
    ledger.listen(request(route="/api/dashboard", mode=mode, decision="report"))
    found = ledger.pending()
    assert found.get(table.hour_place("report", NOW_MS, "2025-11")) == counted
    assert found.get(table.five_minute_place("report", NOW_MS, "2025-11")) == counted
    assert table.hour_place("status.2xx", NOW_MS, "2025-11") not in found


def test_a_guarded_route_without_a_number_is_on_the_page() -> None:
    """A guarded route of another program counts under `other`, by hour as well; an unguarded one by route alone."""
    ledger = Ledger(None, Thrift(500_000), Clock(now_ms=lambda: NOW_MS), 64, {})
    ledger.listen(request(route="/shop/orders", mode="redis"))
    ledger.listen(request(route="/shop/imprint", decision="serve"))
    found = ledger.pending()
    assert found[table.hour_place("serve", NOW_MS, "2025-11")] == 1
    assert found[table.place(("requests", "other", "serve"))] == 2
