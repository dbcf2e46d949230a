"""What happens in a watched database while somebody looks at its view."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
import redis as redis_py

from dev.postgres import Postgres
from lib.base.connections import Connection
from lib.base.env import Secret
from lib.databases import trend
from lib.redis import keys
from tests.browser.seeds import now_ms


def heavy(server: Postgres, statement: LiteralString) -> None:
    """Run a statement so often that it is among the first by its time."""
    with psycopg.connect(server.uri, autocommit=True) as connection:
        for _ in range(300):
            connection.execute(statement)


@contextmanager
def blocked(server: Postgres) -> Iterator[tuple[int, int]]:
    """A session `import` that holds a row, and `checkout` that really waits for it: their process ids."""
    with (
        psycopg.connect(server.uri, autocommit=True) as looks,
        psycopg.connect(server.uri, application_name="import") as holds,
        psycopg.connect(server.uri, application_name="checkout") as waits,
    ):
        looks.execute("create table if not exists stock (id int); truncate stock; insert into stock values (1)")
        holds.execute("update stock set id = 1 where id = 1")
        waiting = threading.Thread(target=waits.execute, args=("update stock set id = 4711 where id = 1",))
        waiting.start()
        pid, give_up = waits.info.backend_pid, time.monotonic() + 60
        query = "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
        while looks.execute(query, (pid,)).fetchone() is None:
            assert time.monotonic() < give_up, "nobody waits"
        try:
            yield holds.info.backend_pid, pid
        finally:
            holds.rollback()
            waiting.join()


def past(redis: redis_py.Redis, server: Postgres) -> None:
    """Samples of the last day; in between the statistics were reset once, and for two hours nobody looked."""
    last, shop = now_ms() // trend.SLOT_MS, Connection("shop", "postgres", Secret(server.uri))
    for back in range(288):
        if 100 < back < 124:
            continue
        slot = last - back
        counted = (288 - back) * 3_000 if back >= 50 else (50 - back) * 4_500
        numbers = (counted, back // 100, counted * 40, counted, counted * 9, counted // 3, 0, 0)
        sample = trend.Sample(slot * trend.SLOT_MS, 10 + back % 7, numbers)
        redis.hset(keys.samples(shop.id, shop.server), str(trend.place(sample.at_ms)), trend.dump(sample))
