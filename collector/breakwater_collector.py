"""breakwater-collector: reports this machine's metrics, or those of Prometheus node_exporters, to a deployment.

    pip install -r requirements.txt
    export BREAKWATER_SECRET=...                  # the reporter's secret in FLEET_TOKENS
    python breakwater_collector.py --url https://example.vercel.app --reporter seoul
    python breakwater_collector.py --url ... --reporter seoul --scrape web-1=http://10.0.0.5:9100/metrics --scrape ...

It always reports the whole snapshot, after the interval that the last reply told (40 s at first), with 20 % of jitter.
What could not be measured is reported with its age, or as null; an outage of the deployment changes nothing but a line
in the log. It is one file on purpose: copy it to wherever it is to run.
"""

import argparse
import hashlib
import hmac
import json
import logging
import math
import os
import random
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

log = logging.getLogger("breakwater-collector")

FIRST_S, LEAST_S, MOST_S = 40.0, 10.0, 3_600.0
"""The first interval, and the bounds of what a reply may tell."""
JITTER = 0.2
MOST_SERVERS = 1_000
_WAIT_S = 5.0
_MOST_BYTES = 4_000_000
_AT_ONCE = 32


@dataclass(frozen=True)
class Figures:
    """One measurement. None: it could not be measured, as what takes two readings cannot be by the first."""

    cpu: float | None
    memory: float | None
    disk: float | None
    network: float | None


class NotMeasured(Exception):
    """A server gave no figures; the text says why."""


type Measure = Callable[[], Figures]
"""Measures one server now. Raises NotMeasured."""


@dataclass
class _Rate:
    """How fast counters grow between two readings."""

    clock: Callable[[], float]
    _last: tuple[float, float] | None = None

    def of(self, total: float) -> float | None:
        """What was added in a second since the last reading; None for the first, and after counters began anew."""
        now, before = self.clock(), self._last
        self._last = (now, total)
        if before is None or total < before[1] or now <= before[0]:
            return None
        return (total - before[1]) / (now - before[0])


def this_machine() -> Measure:
    """What psutil says of the machine that this runs on: its fullest disk, its network but for what stays within it."""
    import psutil  # type: ignore[import-untyped]  # it ships no types; and whoever only scrapes does not need it

    # psutil's own percentage is since the last call of the same thread, and 0 for a thread's first.
    busy, network = _Rate(lambda: _cpu_seconds(psutil)[1]), _Rate(time.monotonic)

    def cpu() -> float | None:
        working = busy.of(_cpu_seconds(psutil)[0])
        return None if working is None else _percent(working)

    def traffic() -> float | None:
        counters = psutil.net_io_counters(pernic=True) or {}
        carried = [each for name, each in counters.items() if not _NO_NETWORKS.fullmatch(name)]
        rate = network.of(sum(each.bytes_sent + each.bytes_recv for each in carried)) if carried else None
        return None if rate is None else rate * 8 / 1e6

    def measure() -> Figures:
        return Figures(
            cpu=_readable(cpu),
            memory=_readable(lambda: psutil.virtual_memory().percent),
            disk=_readable(lambda: _fullest_disk(psutil)),
            network=_readable(traffic),
        )

    return measure


def _readable(figure: Callable[[], float | None]) -> float | None:
    """A figure; None where the system does not let us read it, as containers do with some of /proc."""
    try:
        return figure()
    except OSError as e:
        log.debug("a figure cannot be read (%s)", e)
        return None


def _fullest_disk(psutil: Any) -> float | None:
    """Images, which are always full, are no disks; a mount that may not be read, or has gone, says nothing."""
    mounts = [each.mountpoint for each in psutil.disk_partitions() if each.fstype not in _NO_DISKS] or ["/"]
    found = list[float]()
    for mount in mounts:
        with suppress(OSError):
            found.append(psutil.disk_usage(mount).percent)
    return max(found, default=None)


def _cpu_seconds(psutil: Any) -> tuple[float, float]:
    """What all processors have worked, and how much time they had."""
    times = psutil.cpu_times()._asdict()
    # Linux counts a guest's time as the user's as well.
    total = sum(times.values()) - times.get("guest", 0) - times.get("guest_nice", 0)
    return total - times["idle"] - times.get("iowait", 0), total


def node_exporter(url: str, clock: Callable[[], float] = time.monotonic) -> Measure:
    """What a Prometheus node_exporter says of its machine."""
    busy, network = _Rate(clock), _Rate(clock)

    def measure() -> Figures:
        try:
            with urllib.request.urlopen(url, timeout=_WAIT_S) as reply:  # noqa: S310 - http and https only, see _target
                text = reply.read(_MOST_BYTES).decode(errors="replace")
        except (OSError, ValueError, HTTPException) as e:
            raise NotMeasured(f"{type(e).__name__}: {e}") from e
        return figures_of(text, busy, network)

    return measure


_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NO_DISKS = {"tmpfs", "devtmpfs", "overlay", "squashfs", "ramfs", "rootfs", "iso9660", "nsfs", "fuse.lxcfs"}
_NO_NETWORKS = re.compile(r"lo|veth.*|docker.*|br-.*")


def figures_of(text: str, busy: _Rate, network: _Rate) -> Figures:
    """The figures in a node_exporter's metrics. Raises NotMeasured for a text that is not one's."""
    samples = list(_samples(text))
    cpus = [(labels, value) for name, labels, value in samples if name == "node_cpu_seconds_total"]
    memory = {name: value for name, _, value in samples if name.startswith("node_memory_Mem")}
    total = memory.get("node_memory_MemTotal_bytes")
    if not cpus or not total:
        raise NotMeasured("what it sends is not a node_exporter's")
    count = len({labels.get("cpu") for labels, _ in cpus})
    working = busy.of(sum(value for labels, value in cpus if labels.get("mode") not in ("idle", "iowait")))
    received = network.of(
        sum(
            value
            for name, labels, value in samples
            if name in ("node_network_receive_bytes_total", "node_network_transmit_bytes_total")
            and not _NO_NETWORKS.fullmatch(labels.get("device", ""))
        )
    )
    available = memory.get("node_memory_MemAvailable_bytes")
    return Figures(
        cpu=None if working is None else _percent(working / count),
        memory=None if available is None else _percent(1 - available / total),
        disk=_fullest(samples),
        network=None if received is None else received * 8 / 1e6,
    )


def _samples(text: str) -> Iterable[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if line.startswith("node_") and (found := _SAMPLE.fullmatch(line.strip())):
            try:
                value = float(found["value"])
            except ValueError:
                continue
            if not math.isfinite(value):
                # JSON has no word for it: one such figure would make the report of all servers unreadable.
                continue
            yield found["name"], dict(_LABEL.findall(found["labels"] or "")), value


def _fullest(samples: Sequence[tuple[str, dict[str, str], float]]) -> float | None:
    sizes, free = dict[str, float](), dict[str, float]()
    for name, labels, value in samples:
        if labels.get("fstype") not in _NO_DISKS:
            into = {"node_filesystem_size_bytes": sizes, "node_filesystem_avail_bytes": free}.get(name)
            if into is not None:
                into[labels.get("mountpoint", "")] = value
    shares = [1 - free[mount] / size for mount, size in sizes.items() if size > 0 and mount in free]
    return _percent(max(shares)) if shares else None


def _percent(share: float) -> float:
    return min(100.0, max(0.0, share * 100))


@dataclass
class _Seen:
    """What is known of one server."""

    at: float
    figures: Figures = Figures(None, None, None, None)


@dataclass
class Collector:
    """Measures servers and reports them."""

    url: str
    reporter: str
    secret: str
    servers: Mapping[str, Measure]
    now: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    interval_s: float = FIRST_S
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        began = self.now()
        self._seen = {name: _Seen(began) for name in self.servers}

    def pause_s(self) -> float:
        """How long to wait until the next report."""
        return self.interval_s * (1 - JITTER + 2 * JITTER * self.jitter())

    def measure(self) -> None:
        """Measure all servers, many at once. One that gives no figures keeps its last ones, which grow older."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._measure, self.servers))

    def _measure(self, name: str) -> None:
        try:
            figures = self.servers[name]()
        except NotMeasured as e:
            log.warning("%s was not measured (%s)", name, e)
            return
        self._seen[name] = _Seen(self.now(), figures)

    def body(self, now: float) -> bytes:
        """The report, as JSON."""
        servers = [
            {"id": name, **vars(seen.figures), "age": max(0, min(2_592_000, int(now - seen.at)))}
            for name, seen in self._seen.items()
        ]
        return json.dumps({"sequence": int(now * 1000), "servers": servers}).encode()

    def report(self) -> bool:
        """Send one report; whether it was taken. What a reply tells of the next one holds, refusals included."""
        now = self.now()
        body, at_s = self.body(now), int(now)
        digest = hmac.new(self.secret.encode(), f"{self.reporter}:{at_s}:".encode() + body, hashlib.sha256).hexdigest()
        headers = {
            "content-type": "application/json",
            "authorization": f"Breakwater {self.reporter}:{at_s}:{digest}",
        }
        request = urllib.request.Request(f"{self.url}/api/servers/report", body, headers)  # noqa: S310 - see _target
        try:
            with urllib.request.urlopen(request, timeout=_WAIT_S) as reply:  # noqa: S310 - likewise
                told = json.loads(reply.read(_MOST_BYTES))
            self._told(told["nextInS"])
        except urllib.error.HTTPError as e:
            log.warning("the report was refused: %s %s", e.code, _said(e))
            if wait := e.headers.get("retry-after"):
                self._told(wait)
            return False
        except (OSError, ValueError, KeyError, TypeError, HTTPException) as e:
            log.warning("the report was not delivered (%s: %s); the next one will be tried", type(e).__name__, e)
            return False
        if not told.get("stored"):
            log.warning("the report was taken, but not stored: the deployment's Redis gives no reply")
        return True

    def _told(self, seconds: object) -> None:
        try:
            self.interval_s = min(MOST_S, max(LEAST_S, float(str(seconds))))
        except ValueError:
            log.warning("the reply tells no usable interval")

    def run(self, stop: threading.Event) -> None:
        """Report until told to stop."""
        # What takes two readings is there in the first report.
        self.measure()
        stop.wait(1)
        while not stop.is_set():
            self.measure()
            self.report()
            stop.wait(self.pause_s())


def _said(error: urllib.error.HTTPError) -> str:
    """What a refusal says, as far as it comes."""
    with error, suppress(OSError, HTTPException):
        return error.read(2_000).decode(errors="replace")
    return "(without a word)"


def _target(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise argparse.ArgumentTypeError("an address begins with https:// or http://")
    return text.rstrip("/")


def _scraped(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not 0 < len(name) <= 64:
        raise argparse.ArgumentTypeError("write NAME=URL, for example web-1=http://10.0.0.5:9100/metrics")
    return name, _target(url)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; with ``--once`` send one report, and 1 says that it was not taken."""
    parser = argparse.ArgumentParser(description="Report servers' metrics to a Breakwater deployment.")
    parser.add_argument("--url", type=_target, required=True, help="the deployment: https://example.vercel.app")
    parser.add_argument("--reporter", required=True, help="this reporter's name in FLEET_TOKENS")
    parser.add_argument("--name", default=socket.gethostname(), help="what this machine is called (its host name)")
    parser.add_argument(
        "--scrape", type=_scraped, action="append", default=[], metavar="NAME=URL", help="a node_exporter; repeatable"
    )
    parser.add_argument("--once", action="store_true", help="one report, then end")
    given = parser.parse_args(arguments)
    secret = os.environ.get("BREAKWATER_SECRET", "")
    if not secret:
        parser.error("set BREAKWATER_SECRET to the reporter's secret in FLEET_TOKENS")
    if len(dict(given.scrape)) < len(given.scrape) or len(given.scrape) > MOST_SERVERS:
        parser.error(f"--scrape: each name once, {MOST_SERVERS} at most")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    servers = {name: node_exporter(url) for name, url in given.scrape} or {given.name[:64]: this_machine()}
    collector = Collector(given.url, given.reporter, secret, servers)
    if given.once:
        collector.measure()
        time.sleep(1)
        collector.measure()
        return 0 if collector.report() else 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    collector.run(stop)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
