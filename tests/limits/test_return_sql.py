"""Coming back to Redis in PostgreSQL: the fence, the list, its acknowledgement, and rows that nobody needs any more."""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from psycopg import sql

from dev.postgres import Postgres
from lib.limits.grammar import parse_limits
from lib.limits.settlement import describe

type Connection = psycopg.Connection[tuple[Any, ...]]

NOON_MS = 1_763_553_600_000
LAYOUT = describe(parse_limits("10/minute"))
MINUTE = {"window_ms": 60_000, "bucket_ms": 2_500, "limit": 10}
MANY = {**MINUTE, "limit": 1_000_000}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="breakwater-") as directory, Postgres.start(Path(directory) / "data") as server:
        yield server


@pytest.fixture
def db(postgres: Postgres) -> Iterator[Connection]:
    with connect(postgres.uri) as connection:
        for name in ("windows", "owed"):
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier("public", f"breakwater_{name}")))
        yield connection


def connect(uri: str) -> Connection:
    return psycopg.connect(uri, autocommit=True, options="-c role=service_role")


def spend(db: Connection, subject: str, now_ms: int = NOON_MS, cost: int = 1, **options: Any) -> Any:
    arguments = {
        "p_subject": subject,
        "p_layout": options.get("layout", LAYOUT),
        "p_windows": json.dumps([options.get("window", MINUTE)]),
        "p_cost": cost,
        "p_now_ms": now_ms,
        "p_behind_ms": 500,
        "p_ahead_ms": 2_500,
        "p_settled": options.get("settled", -1),
        **{f"p_{name}": json.dumps(options.get(name, [])) for name in ("floor", "noted", "alone")},
    }
    return call(db, "breakwater_spend_2", arguments)


def come_back(db: Connection, *, begin: bool = True, gen: str = "g", done: object = (), after: str = "") -> Any:
    arguments = {
        "p_gen": gen,
        "p_begin": begin,
        "p_now_ms": NOON_MS,
        "p_done": json.dumps(done),
        "p_after": after,
        "p_limit": 200,
    }
    return call(db, "breakwater_return", arguments)


def call(db: Connection, function: str, arguments: dict[str, object]) -> Any:
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    row = db.execute(f"select public.{function}({named})".encode(), arguments).fetchone()
    assert row is not None
    return row[0]


def told(count: int) -> list[dict[str, object]]:
    return [{"window_ms": 60_000, "buckets": [[NOON_MS, count]]}]


def listed(reply: Any) -> dict[str, Any]:
    return {each["subject"]: each for each in reply["subjects"]}


def test_a_subject_is_listed_until_it_is_acknowledged(db: Connection) -> None:
    """With its layout and buckets; a call that was counted meanwhile keeps it on the list."""
    spend(db, "a", floor=told(3))
    spend(db, "b", cost=20)
    first = come_back(db)
    expected = {"subject": "a", "layout": LAYOUT, "changed": 1, "buckets": [[60_000, NOON_MS, 1, 3]]}
    assert listed(first) == {"a": expected}
    spend(db, "a")
    acknowledged = come_back(db, begin=False, done=[{"subject": "a", "changed": 1}])
    assert listed(acknowledged)["a"]["changed"] == 2
    assert listed(come_back(db, begin=False, done=[{"subject": "a", "changed": 2}])) == {}


def test_every_return_has_a_number_that_calls_are_told(db: Connection) -> None:
    """Only the beginning of one counts."""
    before = spend(db, "a")["fence"]
    assert come_back(db)["fence"] == before + 1
    assert come_back(db, begin=False)["fence"] == spend(db, "a")["fence"] == before + 1


def test_other_data_lack_everything_that_still_counts(db: Connection) -> None:
    """A Redis of another name is given what the one before had been given."""
    spend(db, "a")
    spend(db, "old", now_ms=NOON_MS - 600_000)
    come_back(db, done=[{"subject": "a", "changed": 1}])
    assert listed(come_back(db)) == {}
    assert set(listed(come_back(db, gen="other"))) == {"a"}


def test_what_redis_was_given_is_no_part_of_its_own(db: Connection) -> None:
    """A floor that was read after a return is taken without what that gave; one read before it is taken whole."""
    for subject in ("knows", "known here", "unsure"):
        spend(db, subject, cost=4)
    fence = come_back(db)["fence"]
    done = [{"subject": subject, "changed": 1} for subject in ("knows", "known here", "unsure")]
    come_back(db, begin=False, done=done)
    replies = {
        "knows": spend(db, "knows", floor=told(5), settled=fence),
        "known here": spend(db, "known here", floor=told(1), noted=told(4), settled=fence),
        "unsure": spend(db, "unsure", floor=told(5), settled=fence - 1),
    }
    counted = {name: reply["windows"][0]["buckets"][0][1] for name, reply in replies.items()}
    assert counted == {"knows": 4 + 1 + 1, "known here": 4 + 1 + 1, "unsure": 4 + 5 + 1}


def test_pages_go_on_after_a_subject(db: Connection) -> None:
    """200 at a time, in the order of their names."""
    for number in range(205):
        spend(db, f"s{number:03}")
    first = list(listed(come_back(db)))
    assert (len(first), first[0], first[-1]) == (200, "s000", "s199")
    assert list(listed(come_back(db, begin=False, after="s199"))) == [f"s{number}" for number in range(200, 205)]


def test_what_needs_no_redis_is_not_listed(db: Connection) -> None:
    """An empty layout: alerts are counted here alone."""
    assert spend(db, "alert", layout="")["allowed"]
    assert listed(come_back(db)) == {}


def test_forgotten_is_off_the_list(db: Connection) -> None:
    """A reset by hand leaves nothing to be given."""
    spend(db, "a")
    assert call(db, "breakwater_forget", {"p_subject": "a"}) == 1
    assert listed(come_back(db)) == {}


def test_no_row_outlives_its_use(db: Connection) -> None:
    """The daily job's function deletes what has expired, of all tables, however long Redis has been back."""
    now_ms: int = db.execute("select floor(extract(epoch from now()) * 1000)::bigint").fetchone()[0]  # type: ignore[index]
    for number in range(70):
        spend(db, f"old {number}", now_ms=now_ms - 200_000)
    db.execute("update public.breakwater_windows set expires_at_ms = %s", (now_ms - 1,))
    db.execute("update public.breakwater_owed set expires_at_ms = %s", (now_ms - 1,))
    spend(db, "new", now_ms=now_ms)
    deleted = [call(db, "breakwater_clean", {"p_now_ms": now_ms, "p_limit": 40}) for _ in range(4)]
    assert sum(deleted) >= 70
    assert deleted[-1] == 0
    for name in ("windows", "owed"):
        table = sql.Identifier("public", f"breakwater_{name}")
        left = db.execute(sql.SQL("select distinct subject from {}").format(table)).fetchall()
        assert left == [("new",)]


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("p_gen", {"p_gen": "", "p_begin": True, "p_now_ms": NOON_MS}),
        ("p_limit", {"p_gen": "g", "p_begin": True, "p_now_ms": NOON_MS, "p_limit": 0}),
        ("p_done", {"p_gen": "g", "p_begin": True, "p_now_ms": NOON_MS, "p_done": "{}"}),
    ],
)
def test_bad_arguments_are_named(db: Connection, argument: str, arguments: dict[str, object]) -> None:
    """What cannot be right is refused with the argument's name."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"^{argument}: "):
        call(db, "breakwater_return", arguments)


@pytest.mark.parametrize("spends", [40, pytest.param(400, id="many")])
def test_no_call_is_neither_listed_nor_told(postgres: Postgres, db: Connection, spends: int) -> None:
    """Calls from twelve connections, returns in between: each was on a list, or its caller was told to give it."""
    seed = next(_SEEDS)
    start: int = spend(db, "start", cost=0)["fence"]
    over = threading.Event()
    given: Counter[str] = Counter()
    settled = [start]

    def settle() -> int:
        """The one who comes back, again and again: after a pass, everything before its fence was listed."""
        rounds = 0
        with connect(postgres.uri) as own:
            ended = False
            # The last pass begins when all calls are made.
            while not ended or rounds < 3:
                ended = over.is_set()
                page = come_back(own)
                fence, after = page["fence"], ""
                while page["subjects"]:
                    done = []
                    for each in page["subjects"]:
                        total = sum(spent for _, _, spent, _ in each["buckets"])
                        given[each["subject"]] = max(given[each["subject"]], total)
                        done.append({"subject": each["subject"], "changed": each["changed"]})
                        after = each["subject"]
                    page = come_back(own, begin=False, done=done, after=after)
                settled[0] = fence
                rounds += 1
        return rounds

    def ask(worker: int) -> Counter[str]:
        """Calls that their caller has to give: a return has begun since it last heard of one that is over."""
        chance, mine = random.Random(seed + worker), Counter[str]()  # noqa: S311 - nobody is to be surprised by it
        with connect(postgres.uri) as own:
            for _ in range(spends):
                subject, known = f"subject {chance.randrange(5)}", settled[0]
                reply = spend(own, subject, window=MANY)
                if reply["fence"] != known:
                    total = sum(count for _, count in reply["windows"][0]["spent"])
                    mine[subject] = max(mine[subject], total)
        return mine

    with ThreadPoolExecutor(13) as threads:
        settling = threads.submit(settle)
        for mine in list(threads.map(ask, range(12))):
            for subject, total in mine.items():
                given[subject] = max(given[subject], total)
        over.set()
        assert settling.result() >= 3
    spent: dict[str, int] = dict(
        db.execute("select subject, sum(spent) from public.breakwater_windows group by 1").fetchall()
    )
    assert sum(spent.values()) == 12 * spends
    assert {subject: given[subject] for subject in spent} == spent
    assert listed(come_back(db)) == {}


_SEEDS = itertools.count(1, 100)
