"""A small load on the watched PostgreSQL of the local stack, so that there is something to see.

Short statements all the time, a slow one among them, a lock that somebody waits for, and a program that leaves a
transaction open and forgets it. One thread; it ends with its event, within a second.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg

_TABLES = """
create table if not exists orders (id int primary key, status text not null, placed timestamptz not null default now());
create table if not exists stock (id int primary key, left_over int not null);
insert into orders select n, case when n % 50 = 0 then 'open' else 'done' end from generate_series(1, 20000) n
  on conflict do nothing;
insert into stock select n, 100 from generate_series(1, 20) n on conflict do nothing;
"""
_ROUND_S, _LOCK_ROUNDS, _MOST_FORGOTTEN = 0.5, 120, 5


@contextmanager
def busy(uri: str) -> Iterator[None]:
    """The load, for as long as the block lasts. Raises psycopg.Error where the server cannot be prepared."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(_TABLES)
    done = threading.Event()
    thread = threading.Thread(target=_run, args=(uri, done), name="busy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _run(uri: str, done: threading.Event) -> None:
    with ExitStack() as open_now:

        def connect(name: str, *, autocommit: bool = True) -> psycopg.Connection[Any]:
            return open_now.enter_context(psycopg.connect(uri, autocommit=autocommit, application_name=name))

        try:
            shop, forgotten = connect("shop"), list[psycopg.Connection[Any]]()
            holder, waiter = connect("import", autocommit=False), connect("checkout")
            number = 0
            while not done.wait(_ROUND_S):
                _round(shop)
                if number % _LOCK_ROUNDS == 0:
                    holder.rollback()
                    holder.execute("update stock set left_over = left_over where id = 1")
                    if len(forgotten) < _MOST_FORGOTTEN:
                        forgotten.append(connect("report", autocommit=False))
                        forgotten[-1].execute("select count(*) from orders")
                number += 1
                _wait_for(waiter)
        except psycopg.Error:
            # The server has ended, or a person has ended a session to see what happens.
            return


def _round(connection: psycopg.Connection[Any]) -> None:
    for _ in range(5):
        connection.execute("select status from orders where id = %s", (random.randint(1, 20_000),))  # noqa: S311
    connection.execute("select count(*) from orders where lower(status) = 'open'")
    connection.execute("update stock set left_over = left_over - 1 where id = %s", (random.randint(2, 20),))  # noqa: S311


def _wait_for(connection: psycopg.Connection[Any]) -> None:
    """Wait for the lock for a moment, as a checkout does that gives up."""
    connection.execute("set statement_timeout = '900ms'")
    with suppress(psycopg.errors.QueryCanceled):
        connection.execute("update stock set left_over = left_over - 1 where id = 1")
