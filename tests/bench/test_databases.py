"""What is measured of watched databases: the crowd that asks, what is counted, what is said of it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from bench import databases
from bench.apps.monitored import BATCH, VIEWS
from bench.calling import Got
from bench.crowd import Ask, Reply, crowd, figures
from bench.databases import Lengths, measured, polls, views
from bench.databases_report import sections
from bench.report import _table


class Echo:
    """A server that replies with what it was asked, one request a connection: it hangs up after each."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]
        self.seen = list[bytes]()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        self.seen.append(asked)
        writer.write(b"HTTP/1.1 200 OK\r\nx-cache: HIT\r\ncontent-length: %d\r\n\r\n%s" % (len(asked), asked))
        writer.close()

    def stop(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.server.close()
        self.loop.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


def test_a_crowd(echo: Echo) -> None:
    """Every request is sent and answered once, though the server hangs up in between; none before it is due."""
    asks = [Ask(0.01 * n, n % 2, b"GET /%d HTTP/1.1\r\n\r\n" % n) for n in range(6)]
    replies = crowd([echo.port], asks)
    assert sorted(each.got.body for each in replies) == sorted(echo.seen)
    assert sorted(echo.seen) == [b"GET /%d HTTP/1.1" % n for n in range(6)]
    assert all(each.ms > 0 for each in replies)


def test_figures() -> None:
    """By rank, without anything between two replies; what was not 200 has failed."""
    replies = [Reply(Got(200, {"x-cache": "HIT"}, b""), float(n)) for n in range(1, 100)]
    found = figures([*replies, Reply(Got(503, {}, b""), 1_000.0)])
    assert (found["p50"], found["p95"], found["p99"], found["longest"]) == (50.5, 95.0, 99.0, 1_000.0)
    assert (found["replies"], found["failed"], found["by_x_cache"]) == (100, 1, {"HIT": 99, "none": 1})


def test_what_is_asked() -> None:
    """So many a second by so many users, every view among them, and the same each time."""
    asks = views(200, 10, 50)
    assert asks == views(200, 10, 50)
    assert (len(asks), len({each.user for each in asks}), asks[-1].due_s) == (2_000, 50, 9.995)
    paths = Counter(each.request.split(b"?")[0].removeprefix(b"GET ").decode() for each in asks)
    assert paths.keys() == VIEWS.keys()
    assert min(paths.values()) > 100


@pytest.mark.parametrize(("watchers", "seconds"), [(1, 60), (10, 60), (50, 30)])
def test_watchers(watchers: int, seconds: int) -> None:
    """Each polls every five seconds, not all at once."""
    asks = polls(watchers, seconds)
    assert len(asks) == watchers * seconds / 5
    assert len({each.due_s for each in asks}) == len(asks)


def test_the_whole_of_it_for_a_moment() -> None:
    """On real parts: each side is counted by its role, hits are few queries, and the report has all of it."""
    found = measured(lambda line: None, Lengths(2, 5), instances=1, texts=20)
    ours, direct = found["load"]["breakwater"], found["load"]["asked each time"]
    assert (ours["replies"], ours["failed"], direct["failed"]) == (400, 0, 0)
    assert direct["queries"] == 400
    assert 0 < ours["queries"] < 100
    assert [each["asked each time"]["queries"] for each in found["watching"]] == [6, 60, 300]
    # And a look at the catalogue.
    assert {each["breakwater"]["queries"] for each in found["watching"]} == {len(BATCH) + 1}
    assert found["texts"]["reads"] == databases.TEXT_READS
    report = "\n".join(sections(found, _table))
    assert all(each["what"] in report for each in found["targets"])
    assert "constant | 7 to 7 | yes" in report
