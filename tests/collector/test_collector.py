"""The collector: what it measures, what it reports to the real route, and that it goes on whatever happens."""

import asyncio
import json
import os
import re
import sys
import threading
from collections import namedtuple
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from collector.breakwater_collector import (
    FIRST_S,
    JITTER,
    Collector,
    Figures,
    NotMeasured,
    _Rate,
    figures_of,
    main,
    node_exporter,
    this_machine,
)
from dev.serve import serve
from tests.rig.fleet import SECRETS, a_fleet, look
from tests.rig.guard import Rig
from tests.rig.instance import Instance

HERE = Path(__file__).parent
PROGRAM = Path(__file__).parents[2] / "collector" / "breakwater_collector.py"

# Written by hand in the form of node_exporter 1.8.
METRICS = """\
# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{{cpu="0",mode="idle"}} {idle}
node_cpu_seconds_total{{cpu="0",mode="iowait"}} 5
node_cpu_seconds_total{{cpu="0",mode="user"}} {user}
node_cpu_seconds_total{{cpu="1",mode="idle"}} {idle}
node_cpu_seconds_total{{cpu="1",mode="system"}} 10
node_memory_MemTotal_bytes 8e+09
node_memory_MemAvailable_bytes 2e+09
node_filesystem_size_bytes{{device="/dev/sda1",fstype="ext4",mountpoint="/"}} 1e+11
node_filesystem_avail_bytes{{device="/dev/sda1",fstype="ext4",mountpoint="/"}} 6e+10
node_filesystem_size_bytes{{device="/dev/sdb1",fstype="xfs",mountpoint="/data \\"x\\""}} 1e+11
node_filesystem_avail_bytes{{device="/dev/sdb1",fstype="xfs",mountpoint="/data \\"x\\""}} 1e+10
node_filesystem_size_bytes{{device="tmpfs",fstype="tmpfs",mountpoint="/run"}} 100
node_filesystem_avail_bytes{{device="tmpfs",fstype="tmpfs",mountpoint="/run"}} 0
node_network_receive_bytes_total{{device="eth0"}} {received}
node_network_transmit_bytes_total{{device="eth0"}} 0
node_network_receive_bytes_total{{device="lo"}} 9e+15
node_scrape_collector_success{{collector="cpu"}} NaN
"""


def metrics(idle: float = 100, user: float = 10, received: float = 1_000) -> str:
    """What a node_exporter sends."""
    return METRICS.format(idle=idle, user=user, received=received)


def test_a_node_exporter() -> None:
    """CPU and network from two readings; of the disks the fullest that is one; no loopback."""
    times = iter((0.0, 0.0, 10.0, 10.0))
    busy, network = _Rate(lambda: next(times)), _Rate(lambda: next(times))
    assert figures_of(metrics(), busy, network) == Figures(None, 75.0, 90.0, None)
    found = figures_of(metrics(idle=105, user=15, received=12_501_000), busy, network)
    assert found == Figures(25.0, 75.0, 90.0, 10.0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('node_network_receive_bytes_total{device="eth1"}', {}),
        ('node_cpu_seconds_total{cpu="2",mode="user"}', {}),
        ("node_memory_MemAvailable_bytes", {"memory": None}),
        ('node_filesystem_avail_bytes{device="/dev/sdb1",fstype="xfs",mountpoint="/data \\"x\\""}', {"disk": 40.0}),
    ],
    ids=["network", "cpu", "memory", "disk"],
)
def test_a_figure_that_is_none(line: str, what: dict[str, float | None], value: str) -> None:
    """What an exporter could not measure is left out, whatever else it sends, and the report stays JSON."""
    times = iter((0.0, 0.0, 10.0, 10.0))
    busy, network = _Rate(lambda: next(times)), _Rate(lambda: next(times))
    texts = (metrics(), metrics(idle=105, user=15, received=12_501_000))
    for text in texts:
        others = "\n".join(each for each in text.splitlines() if not each.startswith(line))
        found = figures_of(f"{others}\n{line} {value}\n", busy, network)
        assert json.dumps(vars(found), allow_nan=False)
    assert found == replace(Figures(25.0, 75.0, 90.0, 10.0), **what)


def test_a_recorded_node_exporter() -> None:
    """Two scrapes of node_exporter 1.5.0 of Debian 12, 5 s apart, on a machine of two busy processors."""
    recorded = [(HERE / f"recorded/node_exporter-1.5.0-{n}.txt").read_text() for n in (1, 2)]
    times = [float(re.findall(r"^node_time_seconds (.+)$", text, re.M)[0]) for text in recorded]
    busy, network = _Rate(iter(times).__next__), _Rate(iter(times).__next__)
    first, second = (figures_of(text, busy, network) for text in recorded)
    assert (first.cpu, first.network) == (None, None)
    assert tuple(vars(second).values()) == pytest.approx((99.67, 9.95, 72.53, 0.016), abs=0.005)


def test_counters_that_began_anew() -> None:
    """The machine was restarted: a reading says nothing, and is not negative."""
    times = iter(range(4))
    rate = _Rate(lambda: next(times))
    assert [rate.of(100), rate.of(150), rate.of(5), rate.of(6)] == [None, 50, None, 1]


@pytest.mark.parametrize("text", ["", "<html>", "node_load1 0.5", metrics().replace("node_memory_MemTotal", "node_x")])
def test_what_is_no_node_exporter(text: str) -> None:
    """Is told apart."""
    with pytest.raises(NotMeasured):
        figures_of(text, _Rate(lambda: 0), _Rate(lambda: 0))


def test_this_machine() -> None:
    """Real figures; what takes two readings is not there after the first."""
    first = this_machine()()
    assert first.cpu is None
    assert first.network is None
    for found in (first.memory, first.disk):
        assert found is not None
        assert 0 <= found <= 100


@pytest.mark.parametrize(
    ("reading", "what"),
    [
        ("cpu_times", "cpu"),
        ("virtual_memory", "memory"),
        ("disk_partitions", "disk"),
        ("net_io_counters", "network"),
    ],
)
def test_what_the_system_does_not_let_us_read(monkeypatch: pytest.MonkeyPatch, reading: str, what: str) -> None:
    """One figure less, and no end of the collector."""

    def refused(*args: object, **given: object) -> None:
        raise PermissionError("/proc")

    monkeypatch.setattr(psutil, reading, refused)
    collector = Collector("http://nowhere", "seoul", "secret", {"here": this_machine()})
    collector.measure()
    (found,) = json.loads(collector.body(0))["servers"]
    assert found[what] is None
    assert (found["memory"] is None) == (what == "memory")


async def test_the_processors_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement is made in a thread of its own: the share is that of the time since the last one."""
    fields = namedtuple("fields", "user system idle iowait guest")
    readings = [fields(100, 10, 500, 5, 50), fields(120, 20, 560, 15, 60)]
    measure = this_machine()
    found = []
    for reading in readings:
        monkeypatch.setattr(psutil, "cpu_times", lambda reading=reading: reading)
        found.append((await asyncio.to_thread(measure)).cpu)
    # Of 100 s that were added (the guest's are the user's) 70 were idle or waited for a disk.
    assert found == [None, pytest.approx(30)]


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([("/", "ext4", 40.0), ("/data", "xfs", 70.0)], 70.0),
        ([("/", "ext4", 40.0), ("/snap/x", "squashfs", 100.0), ("/cd", "iso9660", 100.0)], 40.0),
        ([("/", "ext4", 40.0), ("/secret", "fuse", None)], 40.0),
        ([("/gone", "nfs4", None)], None),
        ([], 12.0),
    ],
)
def test_the_disks(monkeypatch: pytest.MonkeyPatch, mounts: list[Any], expected: float | None) -> None:
    """The fullest that is one and can be read; where none is listed, as in a container, the root."""
    partition = namedtuple("partition", "mountpoint fstype")
    usage = namedtuple("usage", "percent")
    used = {mount: percent for mount, _, percent in mounts} or {"/": 12.0}

    def measured(mount: str) -> Any:
        if used[mount] is None:
            raise PermissionError(mount)
        return usage(used[mount])

    monkeypatch.setattr(psutil, "disk_partitions", lambda: [partition(mount, kind) for mount, kind, _ in mounts])
    monkeypatch.setattr(psutil, "disk_usage", measured)
    assert this_machine()().disk == expected


@pytest.mark.parametrize(("devices", "known"), [(("eth0", "lo"), True), (("lo", "docker0"), False), ((), False)])
def test_the_network(monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], known: bool) -> None:
    """What leads to others counts; a machine without such a device has no figure, not 0."""
    counters = namedtuple("counters", "bytes_sent bytes_recv")
    carried = {"eth0": 0, "lo": 0, "docker0": 0}

    def read(*, pernic: bool) -> dict[str, Any]:
        assert pernic
        for name in carried:
            carried[name] += 1 if name == "eth0" else 10**12
        return {name: counters(carried[name], 0) for name in devices}

    monkeypatch.setattr(psutil, "net_io_counters", read)
    measure = this_machine()
    measure()
    network = measure().network
    assert (network is not None) == known
    assert network is None or 0 < network < 1_000


class _Exporter(BaseHTTPRequestHandler):
    """A node_exporter that may be told to fail."""

    status = 200

    def do_GET(self) -> None:
        body = metrics().encode()
        self.send_response(type(self).status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def exporter() -> Iterator[str]:
    """Its address."""
    _Exporter.status = 200
    with ThreadingHTTPServer(("127.0.0.1", 0), _Exporter) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


@asynccontextmanager
async def at(instance: Instance) -> AsyncIterator[str]:
    """The address of an instance that is served in this loop."""
    served = await serve(instance.app, 0)
    try:
        yield served.url
    finally:
        await served.stop()


async def reported(one: Collector) -> bool:
    """As the program does: measured, then reported."""
    await asyncio.to_thread(one.measure)
    return await asyncio.to_thread(one.report)


def collector(rig: Rig, url: str, **about: Any) -> Collector:
    """One with the rig's time."""
    given = {"servers": {"web": lambda: Figures(1.0, 2.0, 3.0, None)}, "jitter": lambda: 0.5, **about}
    return Collector(url, "seoul", SECRETS["seoul"], now=lambda: rig.time.ms / 1000, **given)


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return a_fleet(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)


pytestmark = pytest.mark.anyio


async def test_the_real_route_takes_its_reports(instance: Instance, rig: Rig, exporter: str) -> None:
    """The whole snapshot; a server that cannot be reached keeps its last figures, and grows older."""
    async with at(instance) as url:
        one = collector(rig, url, servers={"web": node_exporter(exporter), "down": node_exporter("http://127.0.0.1:9")})
        assert await reported(one)
        assert one.interval_s == 120
        _Exporter.status = 500
        rig.time.ms += 400_000
        assert await reported(one)
    found = {each["id"]: each for each in (await look(a_fleet(rig))).json()["servers"]}
    assert (found["web"]["status"], found["web"]["metrics"]["memory"]) == ("late", 75.0)
    assert found["down"]["metrics"] == {"cpu": None, "memory": None, "disk": None, "network": None}
    assert found["down"]["lastUpdated"] == found["web"]["lastUpdated"]


async def test_it_goes_on(instance: Instance, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever becomes of a report: nobody there, a refusal, too early; the next one is taken."""
    one = collector(rig, "http://127.0.0.1:9")
    assert not await reported(one)
    assert one.interval_s == FIRST_S
    async with at(instance) as url:
        one.url, one.secret = url, "a-wrong-secret-for-tests"
        assert not await reported(one)
        assert "unauthorized" in caplog.text
        one.secret = SECRETS["seoul"]
        assert await reported(one)
        rig.time.ms += 1_000
        assert not await reported(one)
        # Until then the deployment takes no other report; never less than ten seconds.
        assert one.interval_s == 10
        rig.time.ms += 10_000
        assert await reported(one)
    assert SECRETS["seoul"] not in caplog.text


REPLIES = [
    b"",
    b"no HTTP at all\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 503 Away\r\ncontent-length: 100\r\n\r\ncut",
    b"HTTP/1.1 503 Away\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    b"HTTP/1.1 302 Found\r\nlocation: ftp://example.com\r\ncontent-length: 0\r\n\r\n",
]


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """The address of a server that answers these bytes, whatever it is asked, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("reply", REPLIES)
async def test_whatever_answers(rig: Rig, reply: bytes) -> None:
    """A gateway that is broken ends neither a report nor a scrape with more than a line in the log."""
    async with answering(reply) as url:
        one = collector(rig, url, servers={"web": node_exporter(url)})
        assert not await reported(one)
    assert one.interval_s == FIRST_S


async def test_redis_is_out(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The report counts as taken; the log says that it was not stored."""
    instance = a_fleet(rig, **rig.nowhere, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)
    async with at(instance) as url:
        assert await reported(collector(rig, url))
    assert "not stored" in caplog.text


@pytest.mark.parametrize(("chance", "share"), [(0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)])
async def test_jitter(rig: Rig, chance: float, share: float) -> None:
    """A fifth of the interval either way."""
    assert collector(rig, "http://x", jitter=lambda: chance).pause_s() == pytest.approx(FIRST_S * share)


@pytest.mark.parametrize("told", ["soon", None, -5, 1e9, float("nan")])
async def test_an_interval_that_makes_no_sense(rig: Rig, told: object) -> None:
    """Is brought within bounds, or ignored: the collector neither floods nor falls silent."""
    one = collector(rig, "http://x")
    one._told(told)
    assert 10 <= one.interval_s <= 3_600


async def test_it_ends_when_it_is_told_to(rig: Rig) -> None:
    """Between two reports, at once."""
    stop, measured = threading.Event(), list[int]()

    def measure() -> Figures:
        measured.append(1)
        stop.set()
        return Figures(1, 1, 1, 1)

    await asyncio.to_thread(collector(rig, "http://127.0.0.1:9", servers={"web": measure}).run, stop)
    assert measured == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reporter", "x"],
        ["--url", "ftp://x", "--reporter", "x"],
        ["--url", "file:///etc/passwd", "--reporter", "x"],
        ["--url", "http://x", "--reporter", "x", "--scrape", "web"],
        ["--url", "http://x", "--reporter", "x", "--scrape", "web=file:///etc/passwd"],
        ["--url", "http://x", "--reporter", "x", "--scrape", "a=http://x", "--scrape", "a=http://y"],
    ],
)
async def test_wrong_arguments(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Are refused before anything is sent."""
    monkeypatch.setenv("BREAKWATER_SECRET", "x" * 20)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


async def test_as_a_program() -> None:
    """It is one file that runs alone; without its secret it says which variable is missing."""
    environ = {name: value for name, value in os.environ.items() if name != "BREAKWATER_SECRET"}
    for secret, expected, said in (({}, 2, "BREAKWATER_SECRET"), ({"BREAKWATER_SECRET": "x" * 20}, 1, "not delivered")):
        program = [str(PROGRAM), "--url", "http://127.0.0.1:9", "--reporter", "x", "--once"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, env={**environ, **secret}, cwd="/", stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == expected
        assert said in errors.decode()
        assert "x" * 20 not in errors.decode()
