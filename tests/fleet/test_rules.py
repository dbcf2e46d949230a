"""The pure rules: the packed layout, freshness, the pace, signatures, and troubles that are told once."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.fleet import pace
from lib.fleet.signature import claim_of, header_of, proves, sign
from lib.fleet.snapshot import Measured, Snapshot, pack, unpack
from lib.fleet.state import Conflict, Server, state_of, status_of, text_of
from lib.fleet.watch import MOST_AT_ONCE, Change, Watch

NOW_MS = 1_763_553_601_000

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PERCENTS = st.none() | st.integers(0, 1000).map(lambda n: n / 10)


def measured(name: str, at_ms: int = NOW_MS, **metrics: Any) -> Measured:
    """One server."""
    return Measured(name, name, at_ms, **{"cpu": 10.0, "memory": 20.0, "disk": 30.0, "network": 1.0, **metrics})


def snapshot(*servers: Measured, reporter: str = "seoul", at_ms: int = NOW_MS, interval_s: int = 40) -> Snapshot:
    """What a reporter says."""
    return Snapshot(reporter, at_ms, at_ms, interval_s, servers)


@given(st.lists(st.builds(Measured, NAMES, NAMES, st.integers(0, NOW_MS), PERCENTS, PERCENTS, PERCENTS, PERCENTS)))
def test_a_packed_snapshot_is_the_same(servers: list[Measured]) -> None:
    """Whatever servers are called; and nothing in it has to be escaped in JSON."""
    packed = pack(snapshot(*servers))
    assert unpack("seoul", packed) == snapshot(*servers)
    assert not set('"\\') & set(packed)


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1|2|3",
        "2|1|1|40|" + _packed("[]"),
        "1|x|1|40|" + _packed("[]"),
        "1|1|1|40|not base 64 \x00",
        "1|1|1|40|" + base64.b64encode(b"not zlib").decode(),
        "1|1|1|40|" + _packed("{"),
        "1|1|1|40|" + _packed("7"),
        "1|1|1|40|" + _packed('[["a","a",0,1,2,3]]'),
        "1|1|1|40|" + _packed('[["a","a",0,1,2,3,"x"]]'),
        "1|1|1|40|" + _packed('[["a","a","0",1,2,3,4]]'),
        "1|1|1|40|" + _packed('[["a","a",0,NaN,2,3,4]]'),
        "1|1|1|40|" + _packed('[["a","a",0,true,2,3,4]]'),
        "1|1|1|40|" + _packed('["' + "a" * 3_000_000 + '"]'),
    ],
)
def test_what_is_no_snapshot(text: str) -> None:
    """Is none, and breaks nothing; a bomb is not unpacked whole."""
    assert unpack("seoul", text) is None


@pytest.mark.parametrize(
    ("age_s", "interval_s", "expected"),
    [
        (-30, 40, "online"),
        (0, 40, "online"),
        (119, 40, "online"),
        (120, 40, "late"),
        (299, 40, "late"),
        (300, 40, "silent"),
        (359, 120, "online"),
        (360, 120, "late"),
        (599, 120, "late"),
        (600, 120, "silent"),
    ],
)
def test_freshness(age_s: int, interval_s: int, expected: str) -> None:
    """Online below 3 intervals, late until 5 of them and 5 minutes are over; a clock that is ahead is no trouble."""
    assert status_of(NOW_MS - age_s * 1000, interval_s, NOW_MS) == expected


def test_two_reporters_of_one_server() -> None:
    """The newest measurement is shown, whoever comes first, and the conflict is told."""
    older, newer = measured("web", NOW_MS - 1000, cpu=1.0), measured("web", NOW_MS, cpu=2.0)
    both = [snapshot(older, measured("db"), reporter="seoul"), snapshot(newer, reporter="busan")]
    for order in (both, both[::-1]):
        state = state_of(order, NOW_MS)
        assert [(each.measured.id, each.measured.cpu, each.reporter) for each in state.servers] == [
            ("db", 10.0, "seoul"),
            ("web", 2.0, "busan"),
        ]
        assert state.conflicts == (Conflict("web", ("busan", "seoul")),)


@given(NAMES, NAMES, NAMES, PERCENTS, PERCENTS)
def test_a_server_as_text(name: str, label: str, reporter: str, cpu: float | None, network: float | None) -> None:
    """JSON, whatever it is called: the members of ``ServerBody``."""
    one = Server(measured(name, cpu=cpu, network=network)._replace(name=label), "late", reporter)
    assert json.loads(text_of(one)) == {
        "id": name,
        "name": label,
        "status": "late",
        "metrics": {"cpu": cpu, "memory": 20, "disk": 30, "network": network},
        "lastUpdated": "2025-11-19T12:00:01.000Z",
        "reporter": reporter,
    }


@pytest.mark.parametrize(
    ("looked_ms", "step", "expected"),
    [(None, 0, 120), (0, 0, 40), (299_999, 0, 40), (300_000, 0, 120), (0, 1, 80), (None, 2, 480), (0, 3, 600)],
)
def test_the_pace(looked_ms: int | None, step: int, expected: int) -> None:
    """40 s while somebody looks, 120 s else, longer as the month thins; never more than ten minutes."""
    assert pace.interval_s(looked_ms, step) == expected


def test_a_reporter_fits_the_month() -> None:
    """Even if somebody looks all month: 64,800 of 500,000 commands."""
    assert 30 * 86_400 // pace.interval_s(0, 0) == 64_800


def test_a_signature() -> None:
    """It holds for one reporter, time and body, and for nothing else."""
    header = header_of("secret", "a:b", 1_700_000_000, b"body")
    claim = claim_of(header)
    assert claim is not None
    assert (claim.reporter, claim.at_s) == ("a:b", 1_700_000_000)
    assert proves(claim, "secret", b"body")
    assert not proves(claim, "Secret", b"body")
    assert not proves(claim, "secret", b"bodY")
    assert sign("secret", "a", 1, b"") != sign("secret", "b", 1, b"") != sign("secret", "b", 2, b"")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer x", "Breakwater", "Breakwater a:1", "Breakwater a:x:00", "Breakwater a:-1:00", "Breakwater a:²:00"],
)
def test_what_is_no_claim(header: str) -> None:
    """Is none."""
    assert claim_of(header) is None


def test_a_claim_in_any_letters() -> None:
    """A digest that is not ASCII proves nothing, and is no error."""
    claim = claim_of("Breakwater a:1:\u00e9")
    assert claim is not None
    assert not proves(claim, "secret", b"")


@pytest.mark.parametrize("what", ["cpu", "memory", "disk"])
def test_a_level_is_told_once_and_its_end_once(what: str) -> None:
    """After as many reports on end as are asked for; what comes between begins the count anew."""
    watch, told = Watch(90.0, 3), list[list[Change]]()
    for value in (95, 95, 50, 95, 95, 95.5, 99, 90, 95, 80, 80, 80, 80):
        metrics: dict[str, Any] = {what: value}
        told.append(watch.reported(snapshot(measured("web", **metrics)), NOW_MS))
    expected = {5: [Change("web", what, began=True, value=95.5)], 11: [Change("web", what, began=False, value=80)]}
    assert told == [expected.get(n, []) for n in range(13)]


def test_the_network_and_what_was_not_measured_are_no_trouble() -> None:
    """There is nothing to compare them with; a gap neither continues nor ends a run."""
    watch = Watch(90.0, 2)
    assert watch.reported(snapshot(measured("web", network=5_000.0, cpu=95)), NOW_MS) == []
    assert watch.reported(snapshot(measured("web", network=5_000.0, cpu=None)), NOW_MS) == []
    assert watch.reported(snapshot(measured("web", cpu=95)), NOW_MS) == [Change("web", "cpu", began=True, value=95)]


def test_silence_is_told_once_and_its_end_once() -> None:
    """A reporter that stops is one trouble, however many servers it had; a server that it cannot reach is another."""
    watch, later_ms = Watch(90.0, 3), NOW_MS + 300_000
    first = snapshot(measured("web"), measured("db"))
    assert watch.looked(first, NOW_MS) == []
    assert watch.looked(first, later_ms) == [Change("", "silent", began=True)]
    assert watch.looked(first, later_ms + 1) == []
    back = snapshot(measured("web", later_ms), measured("db"), at_ms=later_ms)
    assert watch.reported(back, later_ms) == [Change("", "silent", began=False), Change("db", "silent", began=True)]
    whole = snapshot(measured("web", later_ms), measured("db", later_ms), at_ms=later_ms)
    assert watch.reported(whole, later_ms) == [Change("db", "silent", began=False)]


def test_many_troubles_are_told_bit_by_bit() -> None:
    """All of them, a few at once."""
    watch, told = Watch(90.0, 1), list[Change]()
    hot = snapshot(*(measured(f"server-{n}", cpu=99) for n in range(25)))
    for expected in (MOST_AT_ONCE, MOST_AT_ONCE, 5, 0):
        found = watch.reported(hot, NOW_MS)
        assert len(found) == expected
        told += found
    assert len(set(told)) == 25


def test_a_server_that_is_named_no_more_has_no_trouble() -> None:
    """And begins anew when it is named again."""
    watch = Watch(90.0, 1)
    assert len(watch.reported(snapshot(measured("web", cpu=99)), NOW_MS)) == 1
    assert watch.reported(snapshot(measured("db")), NOW_MS) == []
    assert len(watch.reported(snapshot(measured("web", cpu=99)), NOW_MS)) == 1
