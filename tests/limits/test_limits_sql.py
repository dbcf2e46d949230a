"""The limits in PostgreSQL, asked directly: what the SQL admits, writes, hands out and deletes."""

import itertools
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dev.postgres import MIGRATIONS, Postgres, PostgresStartError

type Connection = psycopg.Connection[tuple[Any, ...]]

MINUTE_MS = 60_000
DAY_MS = 86_400_000
SKEW_MS = 1_000
MINUTE = {"window_ms": MINUTE_MS, "bucket_ms": 2_000, "limit": 10}
DAY = {"window_ms": DAY_MS, "bucket_ms": 1_800_000, "limit": 100}
MIDNIGHT_MS = 1_763_510_400_000  # 2025-11-19T00:00:00Z, a start of every bucket
NOON_MS = MIDNIGHT_MS + DAY_MS // 2

subjects = map("subject {}".format, itertools.count())


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="breakwater-") as directory, Postgres.start(Path(directory) / "data") as server:
        yield server


@pytest.fixture(scope="module")
def db(postgres: Postgres) -> Iterator[Connection]:
    with connect(postgres.uri) as connection:
        yield connection


@pytest.fixture
def data() -> Iterator[Path]:
    """A place for a server's data. Not tmp_path: see dev/postgres.py."""
    with TemporaryDirectory(prefix="breakwater-") as directory:
        yield Path(directory) / "data"


@pytest.fixture
def subject() -> str:
    return next(subjects)


def connect(uri: str, role: str = "service_role") -> Connection:
    return psycopg.connect(uri, autocommit=True, options=f"-c role={role}")


def spend(
    db: Connection,
    subject: str,
    now_ms: int = NOON_MS,
    cost: int = 1,
    *,
    windows: object = (MINUTE, DAY),
    floor: object = (),
    owed: object = (),
    skew_ms: int = SKEW_MS,
) -> Any:
    row = db.execute(
        "select public.breakwater_spend(%s, %s, %s, %s, %s, %s, %s)",
        (subject, json.dumps(windows), cost, now_ms, skew_ms, json.dumps(floor), json.dumps(owed)),
    ).fetchone()
    assert row is not None
    return row[0]


def allowed(db: Connection, subject: str, now_ms: int = NOON_MS, cost: int = 1, **options: Any) -> bool:
    return bool(spend(db, subject, now_ms, cost, **options)["allowed"])


def counted(result: Any) -> dict[int, int]:
    """The calls that a reply counts, by window."""
    return {w["window_ms"]: sum(calls for _, calls in w["buckets"]) for w in result["windows"]}


def spent(result: Any) -> dict[int, int]:
    """What of them was admitted here."""
    return {w["window_ms"]: sum(calls for _, calls in w["spent"]) for w in result["windows"]}


def rows(db: Connection, subject: str) -> list[tuple[Any, ...]]:
    return db.execute(
        "select window_ms, bucket_start_ms, spent, carried from public.breakwater_windows where subject = %s "
        "order by window_ms, bucket_start_ms",
        (subject,),
    ).fetchall()


def test_ten_pass_and_the_refused_eleventh_spends_nothing(db: Connection, subject: str) -> None:
    """The reply counts 1 to 10; a refusal leaves reply and rows as they were."""
    replies = [spend(db, subject) for _ in range(10)]
    before = rows(db, subject)
    refused = [spend(db, subject) for _ in range(10)]
    assert [reply["allowed"] for reply in replies] == [True] * 10
    assert [counted(reply) for reply in replies] == [{MINUTE_MS: n, DAY_MS: n} for n in range(1, 11)]
    assert all(reply == {**replies[-1], "allowed": False} for reply in refused)
    assert rows(db, subject) == before == [(MINUTE_MS, NOON_MS, 10, 0), (DAY_MS, NOON_MS, 10, 0)]


def test_a_reply_lists_windows_as_asked_and_buckets_in_order(db: Connection, subject: str) -> None:
    """Windows come in the order of the question, buckets by time, empty ones not at all."""
    for later_ms in (4_000, 0, 30_000):
        spend(db, subject, NOON_MS + later_ms, skew_ms=60_000)
    day, minute = [[NOON_MS, 3]], [[NOON_MS, 1], [NOON_MS + 4_000, 1], [NOON_MS + 30_000, 1]]
    assert spend(db, subject, NOON_MS + 30_000, cost=0, windows=(DAY, MINUTE), skew_ms=60_000) == {
        "allowed": True,
        "windows": [
            {"window_ms": DAY_MS, "buckets": day, "spent": day},
            {"window_ms": MINUTE_MS, "buckets": minute, "spent": minute},
        ],
    }


@pytest.mark.parametrize(
    ("spent", "cost", "then"),
    [
        pytest.param(8, 5, 9, id="five do not fit on eight, one does"),
        pytest.param(0, 11, 1, id="more than the limit never fits and spends nothing"),
        pytest.param(10, 1, 10, id="nothing fits on ten"),
    ],
)
def test_a_cost_fits_whole_or_not_at_all(db: Connection, subject: str, spent: int, cost: int, then: int) -> None:
    """A cost that does not fit takes nothing from a cheaper call after it."""
    if spent:
        assert allowed(db, subject, cost=spent)
    assert not allowed(db, subject, cost=cost)
    assert counted(spend(db, subject))[MINUTE_MS] == then


@pytest.mark.parametrize("limit", [0, 1])
def test_a_limit_admits_exactly_itself(db: Connection, subject: str, limit: int) -> None:
    """Limit 1 admits one, limit 0 none."""
    windows = [{**MINUTE, "limit": limit}]
    assert [allowed(db, subject, windows=windows) for _ in range(3)] == [n < limit for n in range(3)]


def test_a_full_day_refuses_without_touching_the_minute(db: Connection, subject: str) -> None:
    """Every window must have room, and a refusal by one spends none of the other."""
    windows = (MINUTE, {**DAY, "limit": 20})
    for minute in (0, 2):
        assert allowed(db, subject, NOON_MS + minute * MINUTE_MS, cost=10, windows=windows)
    later_ms = NOON_MS + 10 * MINUTE_MS
    assert not allowed(db, subject, later_ms, windows=windows)
    assert counted(spend(db, subject, later_ms, cost=0, windows=windows)) == {MINUTE_MS: 0, DAY_MS: 20}


@pytest.mark.parametrize("offset_ms", [0, 1, 1_999])
def test_a_bucket_counts_until_it_has_left_the_window(db: Connection, subject: str, offset_ms: int) -> None:
    """A full minute opens at its bucket's end + window + skew, to the millisecond."""
    assert allowed(db, subject, NOON_MS + offset_ms, cost=10)
    opens_ms = NOON_MS + 2_000 + MINUTE_MS + SKEW_MS
    assert not allowed(db, subject, opens_ms - 1)
    assert allowed(db, subject, opens_ms, cost=10)


def test_a_clock_far_ahead_locks_nobody_out(db: Connection, subject: str) -> None:
    """What a clock an hour ahead has spent does not count in the minutes before it."""
    assert allowed(db, subject, NOON_MS + 3_600_000, cost=10)
    assert counted(spend(db, subject, cost=10)) == {MINUTE_MS: 10, DAY_MS: 10}


def test_a_slower_clock_sees_what_a_faster_one_spent(db: Connection, subject: str) -> None:
    """A bucket that has not begun by this clock counts as far as the skew reaches, and no further."""
    assert allowed(db, subject, NOON_MS, cost=10)
    assert not allowed(db, subject, NOON_MS - SKEW_MS)
    assert counted(spend(db, subject, NOON_MS - SKEW_MS - 1, cost=0)) == {MINUTE_MS: 0, DAY_MS: 0}


STEPS_MS = st.one_of(
    st.integers(0, 3_000),
    st.integers(MINUTE_MS - 3_000, MINUTE_MS + 5_000),
    st.integers(0, DAY_MS // 3),
    st.integers(DAY_MS - 2_000, DAY_MS + 1_900_000),
)
CALLS = st.lists(st.tuples(STEPS_MS, st.integers(0, SKEW_MS), st.integers(1, 4)), max_size=60)


@given(start_ms=st.integers(MIDNIGHT_MS - MINUTE_MS, MIDNIGHT_MS + 2_000), calls=CALLS)
@example(start_ms=MIDNIGHT_MS - 1, calls=[(0, 0, 1), (0, SKEW_MS, 4), (MINUTE_MS - 1, 0, 4), (1, SKEW_MS, 4)] * 4)
@example(start_ms=MIDNIGHT_MS - 1, calls=[(0, SKEW_MS, 4), (0, SKEW_MS, 4), (0, 0, 4)])
@settings(max_examples=300, deadline=None)
def test_no_closed_window_holds_more_than_its_limit(
    db: Connection, start_ms: int, calls: list[tuple[int, int, int]]
) -> None:
    """Random times over midnight, by clocks that differ by up to the skew: no minute and no day exceeds its limit."""
    windows = (MINUTE, {**DAY, "limit": 25})
    subject = next(subjects)
    true_ms = start_ms
    admitted: list[tuple[int, int]] = []
    for step_ms, ahead_ms, cost in calls:
        true_ms += step_ms
        if allowed(db, subject, true_ms + ahead_ms, cost, windows=windows):
            admitted.append((true_ms, cost))
    for window in windows:
        for first_ms, _ in admitted:
            within = sum(cost for at_ms, cost in admitted if first_ms <= at_ms <= first_ms + window["window_ms"])
            assert within <= window["limit"]


def test_tries_every_ten_milliseconds_never_pass_the_limit(db: Connection, subject: str) -> None:
    """A burst at a minute's end and tries all through the next one: eleven never lie within a closed minute."""
    tries = range(NOON_MS + 59_000, NOON_MS + 59_000 + 130_000, 10 * 13)
    admitted = [now_ms for now_ms in tries if allowed(db, subject, now_ms, windows=[MINUTE])]
    assert len(admitted) == 30
    assert all(later - earlier > MINUTE_MS for earlier, later in zip(admitted, admitted[10:], strict=False))


def test_a_peek_is_never_refused(db: Connection, subject: str) -> None:
    """Asking for nothing is fine even where a limit has been lowered below what is counted."""
    spend(db, subject, cost=10)
    lowered = [{**MINUTE, "limit": 5}]
    assert allowed(db, subject, cost=0, windows=lowered)
    assert not allowed(db, subject, cost=1, windows=lowered)


@pytest.mark.parametrize("floor", [(), ({"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 3]]},)], ids=["bare", "floor"])
def test_a_peek_writes_nothing(db: Connection, subject: str, floor: object) -> None:
    """Cost 0 writes no row, not even a floor or a clean-up: its transaction never becomes one that writes."""
    expired = subject + " expired"
    assert allowed(db, expired, NOON_MS - 30 * DAY_MS)
    before = db.execute("select * from public.breakwater_windows order by 1, 2, 3").fetchall()
    with db.transaction():
        reply = spend(db, subject, cost=0, floor=floor)
        assert db.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)
    assert reply["allowed"]
    assert counted(reply) == {MINUTE_MS: 3 if floor else 0, DAY_MS: 0}
    assert db.execute("select * from public.breakwater_windows order by 1, 2, 3").fetchall() == before


def test_a_floor_adds_to_what_is_spent_here(db: Connection, subject: str) -> None:
    """Four that Redis knew of leave room for six, also for a caller who comes later and knows nothing."""
    floor = [
        {"window_ms": MINUTE_MS, "buckets": [[NOON_MS - 2_000, 3], [NOON_MS, 1]]},
        {"window_ms": DAY_MS, "buckets": [[NOON_MS, 4]]},
    ]
    assert allowed(db, subject, cost=6, floor=floor)
    assert not allowed(db, subject)
    assert rows(db, subject) == [
        (MINUTE_MS, NOON_MS - 2_000, 0, 3),
        (MINUTE_MS, NOON_MS, 6, 1),
        (DAY_MS, NOON_MS, 6, 4),
    ]


def test_floors_merge_to_the_highest(db: Connection, subject: str) -> None:
    """Two instances that knew different counts: the higher one holds, however often and in whichever order it comes."""
    for calls in (2, 5, 5, 3):
        spend(db, subject, cost=1, floor=[{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, calls]]}])
    assert rows(db, subject)[0] == (MINUTE_MS, NOON_MS, 4, 5)


def test_a_refusal_keeps_the_floor(db: Connection, subject: str) -> None:
    """A refused caller's knowledge refuses the next one, who brings none."""
    full = [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 10]]}]
    assert not allowed(db, subject, floor=full)
    assert not allowed(db, subject)
    assert rows(db, subject) == [(MINUTE_MS, NOON_MS, 0, 10)]


def test_a_floor_from_outside_the_window_is_nothing(db: Connection, subject: str) -> None:
    """Buckets that the window no longer covers, or not yet, are neither counted nor stored."""
    old_and_new = [[NOON_MS - 2 * MINUTE_MS, 9], [NOON_MS + 4_000, 9]]
    assert allowed(db, subject, cost=10, floor=[{"window_ms": MINUTE_MS, "buckets": old_and_new}])
    assert rows(db, subject) == [(MINUTE_MS, NOON_MS, 10, 0), (DAY_MS, NOON_MS, 10, 0)]


def test_a_reply_says_what_was_admitted_here(db: Connection, subject: str) -> None:
    """Of 4 told and 2 spent, 2; it can be asked again, and a bucket that no window needs is not among them."""
    floor = [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 4]]}]
    first = spend(db, subject, cost=2, floor=floor)
    assert (counted(first)[MINUTE_MS], spent(first)) == (6, {MINUTE_MS: 2, DAY_MS: 2})
    assert spent(spend(db, subject, cost=0)) == {MINUTE_MS: 2, DAY_MS: 2}
    assert spent(spend(db, subject, NOON_MS + 2 * MINUTE_MS, cost=0)) == {MINUTE_MS: 0, DAY_MS: 2}


def test_a_floor_told_twice_counts_once(db: Connection, subject: str) -> None:
    """Of several floors of one bucket the highest holds."""
    for known in (4, 7, 5):
        spend(db, subject, floor=[{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, known]]}])
    assert counted(spend(db, subject, cost=0))[MINUTE_MS] == 7 + 3


def test_what_is_owed_adds_up(db: Connection, subject: str) -> None:
    """Calls that instances admitted by themselves are added, also when the call that tells them is refused."""
    owed = [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 4]]}]
    assert [allowed(db, subject, owed=owed) for _ in range(3)] == [True, True, False]
    assert rows(db, subject) == [(MINUTE_MS, NOON_MS, 14, 0), (DAY_MS, NOON_MS, 2, 0)]


def spend_25(uri: str, subject: str) -> int:
    with ThreadPoolExecutor(5) as threads:

        def five(_: int) -> int:
            with connect(uri) as own:
                return sum(allowed(own, subject) for _ in range(5))

        return sum(threads.map(five, range(5)))


def test_a_hundred_at_once_from_four_processes_admit_ten(postgres: Postgres, db: Connection, subject: str) -> None:
    """4 processes, 20 connections, 100 calls, one caller: exactly 10."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as processes:
        admitted = processes.map(spend_25, [postgres.uri] * 4, [subject] * 4)
        assert sum(admitted) == 10
    assert counted(spend(db, subject, cost=0)) == {MINUTE_MS: 10, DAY_MS: 10}


def test_spending_sweeping_and_resetting_at_once_never_deadlocks(postgres: Postgres) -> None:
    """Twelve connections on a few subjects whose rows expire as they go: no call fails."""
    shared = [next(subjects) for _ in range(3)]

    def busy(worker: int) -> int:
        with connect(postgres.uri) as own:
            for turn in range(40):
                subject = shared[(worker + turn) % 3]
                spend(own, subject, NOON_MS + turn * 90_000 + worker * 7_000, windows=[{**MINUTE, "limit": 1_000}])
                spend(own, shared[(worker * turn) % 3], NOON_MS + turn * 120_000, windows=[{**MINUTE, "limit": 1_000}])
                if turn % 9 == 0:
                    own.execute("select public.breakwater_reset(%s)", (subject,))
            return 1

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(busy, range(12))) == 12


def test_expired_rows_go_with_the_next_calls(db: Connection, subject: str) -> None:
    """A call deletes all its own expired rows and at most fifty of others."""
    for bucket in range(70):
        spend(db, subject, NOON_MS - 9 * DAY_MS + bucket * 2_000, windows=[{**MINUTE, "limit": 1_000}])
    others = [next(subjects) for _ in range(60)]
    db.execute("delete from public.breakwater_windows where subject <> %s", (subject,))
    for other in others:
        db.execute(
            "insert into public.breakwater_windows values (%s, %s, %s, 1, 0, %s)",
            (other, MINUTE_MS, NOON_MS - DAY_MS, NOON_MS - DAY_MS),
        )
    spend(db, subject)
    left = "select count(*) from public.breakwater_windows where subject <> %s"
    assert rows(db, subject) == [(MINUTE_MS, NOON_MS, 1, 0), (DAY_MS, NOON_MS, 1, 0)]
    assert db.execute(left, (subject,)).fetchone() == (10,)
    spend(db, subject)
    assert db.execute(left, (subject,)).fetchone() == (0,)


def test_a_clean_up_waits_for_nobody(postgres: Postgres, db: Connection, subject: str) -> None:
    """Expired rows that another transaction holds are left to it."""
    spend(db, subject, NOON_MS - 9 * DAY_MS)
    with connect(postgres.uri) as other, other.transaction(), db.transaction():
        other.execute("select from public.breakwater_windows where expires_at_ms < %s for update", (NOON_MS - DAY_MS,))
        db.execute("set local lock_timeout = '100ms'")
        assert spend(db, subject)["allowed"]
    assert len(rows(db, subject)) == 4


def test_a_clock_far_ahead_deletes_nothing_of_others(db: Connection, subject: str) -> None:
    """Rows go by the database's clock too: what is still needed by it outlives a caller from the next century."""
    other = next(subjects)
    now_ms: int = db.execute("select floor(extract(epoch from now()) * 1000)::bigint").fetchone()[0]  # type: ignore[index]
    spend(db, other, now_ms)
    spend(db, subject, now_ms + 3_000_000_000_000)
    assert len(rows(db, other)) == 2


@pytest.mark.parametrize(
    "hostile",
    [
        "a",
        "a*",
        "a:b",
        "{x}",
        "o'brien'; drop table breakwater_windows; --",
        'quote " backslash \\',
        "한국어 사용자",
        "%s %(a)s $1 \n\t",
        "x" * 200,
    ],
)
def test_a_hostile_name_touches_nobody_else(db: Connection, subject: str, hostile: str) -> None:
    """A subject is data: it has its own count, and resetting it resets it alone."""
    spend(db, subject, cost=3)
    assert counted(spend(db, hostile, cost=10))[MINUTE_MS] == 10
    assert not allowed(db, hostile)
    assert db.execute("select public.breakwater_reset(%s)", (hostile,)).fetchone() == (2,)
    assert rows(db, hostile) == []
    assert len(rows(db, subject)) == 2


MANY = [{"window_ms": n * 1_000, "bucket_ms": 1_000, "limit": 1} for n in range(1, 10)]


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        pytest.param("p_subject", {"subject": ""}, id="no subject"),
        pytest.param("p_subject", {"subject": None}, id="null subject"),
        pytest.param("p_subject", {"subject": "x" * 201}, id="long subject"),
        pytest.param("p_cost", {"cost": -1}, id="negative cost"),
        pytest.param("p_cost", {"cost": 1_000_001}, id="huge cost"),
        pytest.param("p_cost", {"cost": None}, id="null cost"),
        pytest.param("p_now_ms", {"now_ms": NOON_MS // 1000}, id="seconds for milliseconds"),
        pytest.param("p_now_ms", {"now_ms": NOON_MS * 1000}, id="microseconds for milliseconds"),
        pytest.param("p_now_ms", {"now_ms": None}, id="null time"),
        pytest.param("p_skew_ms", {"skew_ms": -1}, id="negative skew"),
        pytest.param("p_skew_ms", {"skew_ms": 3_600_001}, id="huge skew"),
        pytest.param("p_windows", {"windows": []}, id="no windows"),
        pytest.param("p_windows", {"windows": MANY}, id="nine windows"),
        pytest.param("p_windows", {"windows": {}}, id="windows are an object"),
        pytest.param("p_windows", {"windows": None}, id="windows are null"),
        pytest.param("p_windows", {"windows": [1]}, id="a window is a number"),
        pytest.param("p_windows", {"windows": [[MINUTE]]}, id="a window is an array"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "window_ms": 0}]}, id="empty window"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "bucket_ms": -1}]}, id="negative bucket"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "bucket_ms": 60_001}]}, id="bucket larger than window"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "bucket_ms": 59}]}, id="too many buckets"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "limit": "10"}]}, id="limit is text"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "limit": 1.5}]}, id="limit is a fraction"),
        pytest.param("p_windows", {"windows": [{**MINUTE, "limit": -1}]}, id="negative limit"),
        pytest.param("p_windows", {"windows": [{"window_ms": 60_000, "bucket_ms": 2_000}]}, id="limit is missing"),
        pytest.param("p_windows", {"windows": [MINUTE, MINUTE]}, id="one window twice"),
        pytest.param("p_floor", {"floor": {}}, id="floor is an object"),
        pytest.param("p_floor", {"floor": None}, id="floor is null"),
        pytest.param("p_floor", {"floor": [{"window_ms": MINUTE_MS}]}, id="floor without buckets"),
        pytest.param("p_floor", {"floor": [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS]]}]}, id="half a bucket"),
        pytest.param("p_floor", {"floor": [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, "1"]]}]}, id="text count"),
        pytest.param("p_floor", {"floor": [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, -1]]}]}, id="negative count"),
        pytest.param("p_floor", {"floor": [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS + 1, 1]]}]}, id="no start"),
        pytest.param("p_floor", {"floor": [{"window_ms": 5_000, "buckets": []}]}, id="a floor of another window"),
        pytest.param("p_owed", {"owed": None}, id="owed is null"),
        pytest.param("p_owed", {"owed": [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, -1]]}]}, id="owed is negative"),
    ],
)
def test_bad_arguments_are_named(db: Connection, argument: str, options: dict[str, Any]) -> None:
    """What cannot be right is refused before anything is read, with the argument's name."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"^{argument}: "):
        spend(db, **{"subject": "bad", **options})
    assert rows(db, "bad") == []


def test_counts_do_not_overflow(db: Connection, subject: str) -> None:
    """The largest limit, cost and floor together stay within the columns."""
    windows = [{**MINUTE, "limit": 1_000_000_000}]
    assert allowed(db, subject, cost=1_000_000, windows=windows)
    floor = [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 1_000_000_000]]}]
    assert not allowed(db, subject, cost=1, windows=windows, floor=floor)
    assert rows(db, subject) == [(MINUTE_MS, NOON_MS, 1_000_000, 1_000_000_000)]


CALLED = {
    "breakwater_spend_2": "select public.breakwater_spend_2('a', '', '[]', 1, 0, 0, 0)",
    "breakwater_return": "select public.breakwater_return('g', false, 0)",
    "breakwater_forget": "select public.breakwater_forget('a')",
    "breakwater_clean": "select public.breakwater_clean(0)",
    "breakwater_owed": "select * from public.breakwater_owed",
    "breakwater_back": "select * from public.breakwater_back",
    "breakwater_spend": "select public.breakwater_spend('a', '[]', 1, 0, 0)",
    "breakwater_check": "select public.breakwater_check('a', '[]', 0, 0, '[]', '[]')",
    "breakwater_reset": "select public.breakwater_reset('a')",
    "breakwater_sweep": "select public.breakwater_sweep('a', 0)",
    "breakwater_windows": "select * from public.breakwater_windows",
}


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize("name", CALLED)
def test_only_the_service_role_has_access(postgres: Postgres, role: str, name: str) -> None:
    """Neither table nor function is open to the roles of the public API, whatever the default privileges say."""
    with connect(postgres.uri, role) as own, pytest.raises(psycopg.errors.InsufficientPrivilege, match=name):
        own.execute(CALLED[name].encode())


def test_default_privileges_are_supabases(postgres: Postgres) -> None:
    """The test above would prove nothing if new functions and tables were closed anyway."""
    with psycopg.connect(postgres.uri) as owner:
        owner.execute("create table public.fresh (id integer)")
        owner.execute("create function public.fresh_too() returns integer language sql return 1")
        owner.execute("set local role anon")
        assert owner.execute("select public.fresh_too() from public.fresh").fetchall() == []
        owner.rollback()


def test_the_migration_may_be_applied_twice(postgres: Postgres, db: Connection, subject: str) -> None:
    """A second run changes neither counts nor privileges."""
    spend(db, subject, cost=2)
    with psycopg.connect(postgres.uri, autocommit=True) as owner:
        owner.add_notice_handler(lambda _: None)
        for path in sorted(MIGRATIONS.glob("*.sql")):
            owner.execute(path.read_bytes())
    assert counted(spend(db, subject)) == {MINUTE_MS: 3, DAY_MS: 3}
    with connect(postgres.uri, "anon") as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
        own.execute("select public.breakwater_reset('a')")


def test_a_known_directory_keeps_its_data_and_migrations(data: Path) -> None:
    """Stopped, killed and started again: same address, same counts, each migration applied once."""
    with Postgres.start(data) as server:
        with connect(server.uri) as own:
            spend(own, "kept", cost=2)
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connect(server.uri)
        server.restart()
        server.stop()
        server.stop()
    with Postgres.start(data) as again:
        assert again.uri == server.uri
        with connect(again.uri) as own:
            assert counted(spend(own, "kept", cost=0)) == {MINUTE_MS: 2, DAY_MS: 2}
        with psycopg.connect(again.uri) as owner:
            versions = owner.execute("select version from supabase_migrations.schema_migrations order by 1").fetchall()
        assert versions == [(path.stem.split("_")[0],) for path in sorted(MIGRATIONS.glob("*.sql"))]


def test_a_server_that_was_left_running_is_taken_over(data: Path) -> None:
    """The next start in its directory finds the server of a process that never stopped it."""
    left = Postgres.start(data)
    with Postgres.start(data) as taken, connect(taken.uri) as own:
        assert own.execute("select 1").fetchone() == (1,)
        assert taken.uri == left.uri


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Where no server can start, the error says where and why."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(PostgresStartError, match=f"PostgreSQL in {tmp_path}/data did not start: .*exists"):
        Postgres.start(tmp_path / "data")
