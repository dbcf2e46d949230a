"""Reports of OpenTelemetry's and Telegraf's agents: recorded ones, and some written after their documentation."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from lib.fleet.agents import MOST_UNPACKED
from lib.fleet.report import MOST_BYTES
from tests.rig.callers import a_caller
from tests.rig.door import bill
from tests.rig.fleet import SECRETS, a_fleet, look, report, server
from tests.rig.guard import Rig
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
OTLP, TELEGRAF = "/api/servers/report/v1/metrics", "/api/servers/report/telegraf"
WRITTEN_MS = 1_763_553_600_000
"""The time of the newest figure in what was written by hand."""


def body_of(name: str) -> Any:
    """A request's body."""
    return json.loads((HERE / name).read_text())


HOST, BATCH = body_of("written/otlp-hostmetrics.json"), body_of("written/telegraf.json")


@pytest.fixture
def instance(rig: Rig) -> Instance:
    rig.time.ms = WRITTEN_MS + 5_000
    return a_fleet(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)


async def send(instance: Instance, path: str, body: Any, *, secret: str = SECRETS["seoul"], **more: str) -> Any:
    """One report; ``more`` are headers."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {
        "content-type": "application/json",
        "x-forwarded-for": a_caller(),
        "authorization": f"Bearer {secret}",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return await instance.http.post(path, content=content, headers=headers)


async def metrics(instance: Instance) -> Any:
    """What is shown afterwards: each server's metrics, by its id."""
    shown: httpx.Response = await look(instance)
    return {each["id"]: each["metrics"] for each in shown.json()["servers"]}


@pytest.mark.parametrize(
    ("name", "at_ms", "expected"),
    [
        ("delta", 1_795_659_841_786, {"cpu": 99.2, "memory": 9.5, "disk": None, "network": 0.02}),
        ("cumulative", 1_795_660_065_943, {"cpu": 99.7, "memory": 9.3, "disk": None, "network": None}),
        ("semconv", 1_795_663_668_616, {"cpu": 98.8, "memory": 8.6, "disk": None, "network": 0.05}),
    ],
)
async def test_what_the_javascript_sdk_sent(
    instance: Instance, rig: Rig, name: str, at_ms: int, expected: dict[str, float]
) -> None:
    """Recorded. A speed is known of an interval's bytes, and not of a counter's; file systems it does not measure."""
    rig.time.ms = at_ms + 1_000
    reply = await send(instance, OTLP, (HERE / f"recorded/otlp-js-{name}.json").read_bytes())
    assert (reply.status_code, reply.json()) == (200, {})
    assert await metrics(a_fleet(rig)) == {"web-1": pytest.approx(expected, abs=0.001)}


async def test_a_hostmetrics_receiver(instance: Instance, rig: Rig) -> None:
    """Written by hand. All four figures, also where utilizations are not switched on; services are passed over."""
    reply = await send(instance, OTLP, gzip.compress(json.dumps(HOST).encode()), content_encoding="gzip")
    assert (reply.status_code, reply.json()) == (200, {})
    assert await metrics(a_fleet(rig)) == {"db-1": {"cpu": 40, "memory": 75, "disk": 85, "network": 10}}


def changed(metric: str, **points: Any) -> Any:
    """The receiver's request, with one metric's points replaced: ``gauge`` or ``sum``."""
    made = json.loads(json.dumps(HOST))
    for scope in made["resourceMetrics"][0]["scopeMetrics"]:
        scope["metrics"] = [each for each in scope["metrics"] if each["name"] != metric]
    made["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].append({"name": metric, **points})
    return made


def point(value: object, **attributes: str) -> dict[str, Any]:
    """A point of a gauge."""
    named = [{"key": name.replace("__", "."), "value": {"stringValue": text}} for name, text in attributes.items()]
    return {"attributes": named, "timeUnixNano": 1_763_553_600_000_000_000, "asDouble": value}


def numbered(cpu: int) -> dict[str, Any]:
    """A processor that is named by an integer; in JSON a text."""
    one = point(0.5, state="user")
    one["attributes"].append({"key": "cpu.logical_number", "value": {"intValue": str(cpu)}})
    return one


@pytest.mark.parametrize(
    ("metric", "points", "what", "expected"),
    [
        ("system.cpu.utilization", {"gauge": {"dataPoints": [point(0.3)]}}, "cpu", 30),
        ("system.cpu.utilization", {"gauge": {"dataPoints": [point(1.2, cpu__mode="user")]}}, "cpu", 100),
        ("system.cpu.utilization", {"gauge": {"dataPoints": [numbered(0), numbered(1)]}}, "cpu", 50),
        ("system.cpu.utilization", {"gauge": {"dataPoints": [point("NaN", state="user")]}}, "cpu", None),
        ("system.cpu.utilization", {"gauge": {"dataPoints": []}}, "cpu", None),
        (
            "system.memory.utilization",
            {"gauge": {"dataPoints": [point(0.5, system__memory__state="used")]}},
            "memory",
            50,
        ),
        ("system.filesystem.utilization", {"gauge": {"dataPoints": [point(0.95, type="xfs")]}}, "disk", 95),
        ("system.filesystem.utilization", {"gauge": {"dataPoints": [point(0.95, type="overlay")]}}, "disk", 85),
        ("system.network.io", {"sum": {"aggregationTemporality": 2, "dataPoints": [point(5)]}}, "network", None),
        ("system.network.io", {"sum": {"aggregationTemporality": 1, "dataPoints": [point(5)]}}, "network", None),
    ],
)
async def test_other_shapes(
    instance: Instance, rig: Rig, metric: str, points: Any, what: str, expected: float | None
) -> None:
    """Names that attributes had at other times, what is no number, sums that say nothing of an interval."""
    assert (await send(instance, OTLP, changed(metric, **points))).json() == {}
    assert (await metrics(instance))["db-1"][what] == expected


async def test_seconds_of_an_interval(instance: Instance, rig: Rig) -> None:
    """A share of the processors' time can be worked out of them."""
    seconds = [point(30, state="user"), point(20, state="wait"), point(50, state="idle")]
    body = changed("system.cpu.utilization", gauge={"dataPoints": []})
    body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"] = [
        {"name": "system.cpu.time", "sum": {"aggregationTemporality": 1, "dataPoints": seconds}}
    ]
    await send(instance, OTLP, body)
    assert (await metrics(instance))["db-1"]["cpu"] == 30


async def test_telegraf(instance: Instance, rig: Rig) -> None:
    """Written by hand. Of several measurements the last; a host that was measured earlier is older."""
    reply = await send(instance, TELEGRAF, BATCH)
    assert reply.json() | {"requestId": ""} == {"stored": True, "servers": 2, "nextInS": 120, "requestId": ""}
    assert await metrics(a_fleet(rig)) == {
        "web-1": {"cpu": 15, "memory": 25, "disk": 85, "network": 10},
        "web-2": {"cpu": 0, "memory": None, "disk": None, "network": None},
    }
    shown = (await look(instance)).json()["servers"]
    assert [each["lastUpdated"] for each in shown] == ["2025-11-19T12:00:00.000Z", "2025-11-19T11:59:55.000Z"]


@pytest.mark.parametrize(("path", "body"), [(OTLP, HOST), (TELEGRAF, BATCH)])
async def test_a_report_is_one_command(instance: Instance, rig: Rig, path: str, body: Any) -> None:
    """As every report is."""
    async with bill(rig) as spent:
        await send(instance, path, body)
    assert spent == [1, 1]


@pytest.mark.parametrize(("path", "body"), [(OTLP, HOST), (TELEGRAF, BATCH)])
async def test_what_comes_late_is_answered_and_not_stored(instance: Instance, rig: Rig, path: str, body: Any) -> None:
    """After an outage an agent sends what it has kept, oldest first: it gets on at once, to what is new."""
    await report(instance, rig, [server("web")])
    for ahead_ms in (0, 61_000):
        rig.time.ms += ahead_ms
        reply = await send(instance, path, body)
        assert reply.status_code == (200 if path == OTLP else 202)
        assert "not stored" in reply.text
    assert list(await metrics(a_fleet(rig))) == ["web"]


async def test_how_much_was_not_stored(instance: Instance, rig: Rig) -> None:
    """In the protocol's own words: so many points, as a text."""
    rig.time.ms += 60_000
    told = (await send(instance, OTLP, HOST)).json()["partialSuccess"]
    assert told["rejectedDataPoints"] == "23"


async def test_too_often(instance: Instance, rig: Rig) -> None:
    """One in ten seconds; both kinds of agents try again after a 429."""
    await send(instance, OTLP, HOST)
    rig.time.ms += 1_000
    later = json.loads(json.dumps(HOST).replace("1763553600", "1763553601"))
    reply = await send(instance, OTLP, later)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "9")


@pytest.mark.parametrize("body", [{}, {"resourceMetrics": []}])
async def test_an_empty_export(instance: Instance, rig: Rig, body: Any) -> None:
    """Is a success, and deletes nobody's servers."""
    await report(instance, rig, [server("web")])
    rig.time.ms += 20_000
    reply = await send(instance, OTLP, body)
    assert (reply.status_code, reply.json()) == (200, {})
    assert list(await metrics(instance)) == ["web"]


async def test_an_export_of_services_alone(instance: Instance, rig: Rig) -> None:
    """Is answered, and says that there was nothing to store."""
    gauge = {"name": "queue.length", "gauge": {"dataPoints": [point(1)]}}
    reply = await send(instance, OTLP, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge]}]}]})
    assert reply.json()["partialSuccess"]["rejectedDataPoints"] == "1"
    assert rig.server.exists("servers") == 0


def nameless(body: Any) -> Any:
    """The same from a host that does not say its name."""
    return json.loads(json.dumps(body).replace('"host.name"', '"no.name"').replace('"host"', '"no host"'))


def named(body: Any, name: str) -> Any:
    """The same from another host."""
    return json.loads(json.dumps(body).replace("db-1", name).replace("web-1", name))


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (OTLP, nameless(HOST), (422, "invalid_request")),
        (TELEGRAF, nameless(BATCH), (422, "invalid_request")),
        (OTLP, named(HOST, "x" * 65), (422, "invalid_request")),
        (TELEGRAF, named(BATCH, "report"), (422, "invalid_request")),
        (OTLP, b"{", (400, "invalid_json")),
        (OTLP, {"resourceMetrics": 7}, (422, "invalid_request")),
        (OTLP, changed("x", gauge={"dataPoints": [{"timeUnixNano": "-1"}]}), (422, "invalid_request")),
        (TELEGRAF, {"metrics": []}, (422, "invalid_request")),
        (TELEGRAF, BATCH["metrics"][0], (422, "invalid_request")),
        (TELEGRAF, {"metrics": [{**BATCH["metrics"][0], "timestamp": 1e15}]}, (422, "invalid_request")),
        (TELEGRAF, {"metrics": [{**BATCH["metrics"][0], "timestamp": 1_763_553_666}]}, (401, "report_expired")),
        (OTLP, b'"' + b"x" * MOST_BYTES + b'"', (413, "body_too_large")),
    ],
)
async def test_what_is_refused(instance: Instance, rig: Rig, path: str, body: Any, expected: tuple[int, str]) -> None:
    """With the code of what is wrong; nothing is stored."""
    reply = await send(instance, path, body)
    assert (reply.status_code, reply.json()["code"]) == expected
    assert rig.server.exists("servers") == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no gzip", (422, "invalid_request")),
        (gzip.compress(b"{}", mtime=0)[:-4], (422, "invalid_request")),
        (gzip.compress(b" " * (MOST_UNPACKED + 1), mtime=0), (413, "body_too_large")),
    ],
)
async def test_gzip_is_bounded(instance: Instance, content: bytes, expected: tuple[int, str]) -> None:
    """A bomb is not unpacked whole; what is cut or no gzip is said to be."""
    reply = await send(instance, OTLP, content, content_encoding="gzip")
    assert (reply.status_code, reply.json()["code"]) == expected


@pytest.mark.parametrize(
    ("header", "value"),
    [("content_type", "application/x-protobuf"), ("content_encoding", "zstd"), ("content_encoding", "snappy")],
)
async def test_other_encodings(instance: Instance, header: str, value: str) -> None:
    """Are refused by name."""
    reply = await send(instance, OTLP, HOST, **{header: value})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", [OTLP, TELEGRAF])
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", f"Basic {SECRETS['seoul']}", "Breakwater a:1:0"]
)
async def test_who_may(instance: Instance, rig: Rig, path: str, authorization: str) -> None:
    """Whoever has a reporter's secret."""
    reply = await send(instance, path, HOST if path == OTLP else BATCH, authorization=authorization)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert rig.server.exists("servers") == 0


async def test_whoever_guesses_is_counted(instance: Instance) -> None:
    """By address, as wrong tokens are; the reporter itself is not."""
    caller = a_caller()
    found = {(await send(instance, OTLP, HOST, secret="wrong", x_forwarded_for=caller)).status_code for _ in range(25)}
    assert found == {401, 429}
    assert (await send(instance, OTLP, HOST)).status_code == 200


async def test_the_secret_names_the_reporter(instance: Instance, rig: Rig) -> None:
    """Each has its own servers."""
    await send(instance, OTLP, HOST)
    await send(instance, TELEGRAF, BATCH, secret=SECRETS["busan"])
    shown = (await look(instance)).json()["servers"]
    assert {each["id"]: each["reporter"] for each in shown} == {"db-1": "seoul", "web-1": "busan", "web-2": "busan"}


async def test_one_secret_of_two_reporters(rig: Rig) -> None:
    """Names nobody: the route says what to change, without the secret."""
    shared = SECRETS["seoul"]
    reply = await send(a_fleet(rig, FLEET_TOKENS=f"a={shared},b={shared}"), OTLP, HOST)
    assert (reply.status_code, reply.json()["code"]) == (403, "closed")
    assert shared not in reply.text


async def test_no_reporter_is_configured(rig: Rig) -> None:
    """The route is closed, and says which variable opens it."""
    reply = await send(a_fleet(rig, FLEET_TOKENS=None), OTLP, HOST)
    assert (reply.status_code, reply.json()["code"]) == (403, "closed")
    assert "FLEET_TOKENS" in reply.json()["detail"]


async def test_without_redis(rig: Rig) -> None:
    """Taken all the same; the reply says by whom."""
    rig.time.ms = WRITTEN_MS
    environ = {**rig.nowhere, "REDIS_TIMEOUT_MS": "300", "REDIS_CONNECT_TIMEOUT_MS": "300"}
    instance = a_fleet(rig, **environ, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)
    reply = await send(instance, OTLP, HOST)
    assert (reply.status_code, list(reply.json()["partialSuccess"])) == (200, ["errorMessage"])
    assert (await send(instance, TELEGRAF, BATCH, secret=SECRETS["busan"])).status_code == 202
    assert sorted(await metrics(instance)) == ["db-1", "web-1", "web-2"]
