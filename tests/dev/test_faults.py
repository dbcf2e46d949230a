import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from dev.faults import CLOSE, FAULT, Fault, Faults, read_body, respond, with_faults
from dev.serve import Served, ThreadedServer, serve

SSL = ssl.create_default_context()
"""One for all clients: making it is most of what a client costs, and every URL here is plain HTTP anyway."""
IMPATIENT = httpx.Timeout(10, read=0.05)
BODY = b'{"answer": "forty-two"}'


class StandIn:
    """A stand-in of the smallest kind: it counts what it executes and answers with BODY."""

    def __init__(self) -> None:
        self.executed: Counter[str] = Counter()
        self.told: list[object] = []
        self.no_delay: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count, and answer."""
        assert scope["type"] == "http"
        transport = scope["extensions"][CLOSE].__self__
        self.no_delay.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.told.append(scope["extensions"].get(FAULT))
        body = await read_body(receive)
        self.executed[(body or b"").decode()] += 1
        await respond(send, 200, BODY)

    def as_stats(self) -> dict[str, object]:
        """What was executed, by request body."""
        return {"executed": dict(self.executed)}


class Bench:
    """A served stand-in, its faults, and a client that talks to it."""

    def __init__(self, stand_in: StandIn, faults: Faults, client: httpx.Client) -> None:
        self.stand_in = stand_in
        self.faults = faults
        self.client = client

    def ask(self, path: str = "/ask", content: str = "hello") -> httpx.Response:
        """Send one request."""
        return self.client.post(path, content=content)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StandIn, Faults, str]]:
    stand_in, faults = StandIn(), Faults()
    app = with_faults(
        stand_in,
        faults,
        lambda status: {"error": f"status {status}"},
        stats=stand_in.as_stats,
        reset_stats=stand_in.executed.clear,
    )
    with ThreadedServer(app) as server:
        yield stand_in, faults, server.url


@pytest.fixture
def bench(served: tuple[StandIn, Faults, str]) -> Iterator[Bench]:
    stand_in, faults, url = served
    faults.clear()
    with httpx.Client(base_url=url, timeout=10, verify=SSL) as client:
        client.delete("/_control/stats")
        stand_in.told.clear()
        yield Bench(stand_in, faults, client)


def test_without_a_fault_requests_pass(bench: Bench) -> None:
    """Nothing set, nothing changed."""
    assert bench.ask().content == BODY


@pytest.mark.parametrize(
    ("kind", "executed"), [pytest.param("drop", 1, id="drop executes"), pytest.param("refuse", 0, id="refuse does not")]
)
def test_drop_and_refuse_close_without_a_status_line(bench: Bench, kind: str, executed: int) -> None:
    """The connection ends in good order and not a single byte of a reply comes."""
    bench.faults.set(Fault.model_validate({"kind": kind}))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        bench.ask()
    assert bench.stand_in.executed.total() == executed

    with socket.create_connection((bench.client.base_url.host, bench.client.base_url.port or 0), timeout=10) as raw:
        raw.sendall(b"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        assert raw.recv(1000) == b""


def test_cut_announces_more_than_it_sends(bench: Bench) -> None:
    """The whole length is announced, half of the body comes, and the request took effect."""
    bench.faults.set(Fault(kind="cut"))
    received = b""
    with bench.client.stream("POST", "/ask", content="hello") as response:
        assert (response.status_code, response.headers["content-length"]) == (200, str(len(BODY)))
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - the bytes before the error are the point
            for chunk in response.iter_bytes():
                received += chunk
    assert received == BODY[: len(BODY) // 2]
    assert bench.stand_in.executed.total() == 1


def test_hang_never_answers_and_ends_when_the_client_leaves(bench: Bench) -> None:
    """The client's own timeout is what ends it; nothing took effect."""
    bench.faults.set(Fault(kind="hang", times=1))
    with pytest.raises(httpx.ReadTimeout):
        bench.client.post("/ask", content="hello", timeout=IMPATIENT)
    assert bench.stand_in.executed.total() == 0
    assert bench.ask().content == BODY


def test_delay_takes_effect_at_once_and_answers_late(bench: Bench) -> None:
    """The reply is right and late; a client that does not wait has spent all the same."""
    bench.faults.set(Fault(kind="delay", delay_ms=150))
    before = time.monotonic()
    assert bench.ask(content="patient").content == BODY
    assert time.monotonic() - before >= 0.15
    with pytest.raises(httpx.ReadTimeout):
        bench.client.post("/ask", content="hasty", timeout=IMPATIENT)
    bench.ask(content="last")
    assert bench.stand_in.executed == {"patient": 1, "hasty": 1, "last": 1}


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "text"),
    [
        pytest.param(Fault(kind="status"), 503, "application/json", '{"error":"status 503"}', id="status"),
        pytest.param(Fault(kind="status", status=429), 429, "application/json", '{"error":"status 429"}', id="429"),
        pytest.param(Fault(kind="html"), 502, "text/html; charset=utf-8", "<html>", id="html"),
        pytest.param(Fault(kind="html", status=504), 504, "text/html; charset=utf-8", "Error 504", id="html 504"),
        pytest.param(Fault(kind="not_json"), 200, "text/plain; charset=utf-8", "The service is", id="not_json"),
    ],
)
def test_wrong_answers(bench: Bench, fault: Fault, status: int, content_type: str, text: str) -> None:
    """Errors, proxies' pages and text instead of JSON come whole, and execute nothing."""
    bench.faults.set(fault)
    response = bench.ask()
    assert (response.status_code, response.headers["content-type"]) == (status, content_type)
    assert text in response.text
    assert bench.stand_in.executed.total() == 0


def test_one_failed_is_left_to_the_stand_in_and_concerns_pipelines_only(bench: Bench) -> None:
    """The stand-in is told, and requests that are no pipelines do not use the fault up."""
    bench.faults.set(Fault(kind="one_failed", times=1))
    for path in ("/ask", "/pipeline", "/pipeline"):
        bench.ask(path)
    assert bench.stand_in.told == [None, "one_failed", None]


def test_times_and_match_say_which_requests_are_spoilt(bench: Bench) -> None:
    """Only matching requests, by path or body, are spoilt and counted."""
    bench.faults.set(Fault(kind="status", times=2, match="needle"))
    requests = [("/ask", "hay"), ("/ask", "a needle"), ("/needle", "hay"), ("/ask", "needle")]
    assert [bench.ask(*request).status_code for request in requests] == [200, 503, 503, 200]


def test_control_sets_and_clears_faults(bench: Bench) -> None:
    """Faults can be set over HTTP, are shown back, and setting `none` or DELETE clears them."""
    shown = bench.client.put("/_control/faults", json={"kind": "status", "status": 429})
    assert (shown.status_code, shown.json()["status"]) == (200, 429)
    assert bench.ask().status_code == 429
    assert bench.client.delete("/_control/faults").status_code == 204
    assert bench.ask().status_code == 200
    bench.client.put("/_control/faults", json={"kind": "status"})
    bench.client.put("/_control/faults", json={"kind": "none"})
    assert bench.ask().status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="no JSON"),
        pytest.param('{"kind": "explode"}', id="unknown kind"),
        pytest.param('{"kind": "drop", "time": 1}', id="unknown field"),
        pytest.param('{"kind": "drop", "times": 0}', id="never"),
        pytest.param('{"kind": "delay"}', id="delay without a length"),
        pytest.param('{"kind": "drop", "delay_ms": 5}', id="a length without delay"),
        pytest.param('{"kind": "drop", "status": 503}', id="a status without a reply"),
        pytest.param('{"kind": "status", "status": 200}', id="success is no fault"),
    ],
)
def test_control_refuses_what_is_no_fault(bench: Bench, content: str) -> None:
    """What does not validate is 422 with reasons, and changes nothing."""
    response = bench.client.put("/_control/faults", content=content)
    assert (response.status_code, bool(response.json())) == (422, True)
    assert not bench.faults.armed


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/_control/faults", 405), ("PUT", "/_control/stats", 405), ("GET", "/_control/other", 404)],
)
def test_control_knows_its_routes(bench: Bench, method: str, path: str, status: int) -> None:
    """Other methods and routes are errors and never reach the stand-in."""
    assert bench.client.request(method, path).status_code == status
    assert bench.stand_in.executed.total() == 0


def test_stats_count_every_request_spoilt_ones_too(bench: Bench) -> None:
    """`http_requests` counts what was asked, the stand-in's counters what was executed; DELETE resets both."""
    bench.ask()
    bench.faults.set(Fault(kind="status"))
    bench.ask()
    assert bench.client.get("/_control/stats").json() == {"http_requests": 2, "executed": {"hello": 1}}
    assert bench.client.delete("/_control/stats").status_code == 204
    assert bench.client.get("/_control/stats").json() == {"http_requests": 0, "executed": {}}


def test_replies_are_not_held_back_for_one_packet(bench: Bench) -> None:
    """Nagle's algorithm is off, or every reply would take 40 ms."""
    bench.stand_in.no_delay.clear()
    bench.ask()
    assert bench.stand_in.no_delay == [1]


def test_serve_in_the_running_loop() -> None:
    """An app is served beside other work in the same event loop, and its port is free again afterwards."""

    async def once(port: int) -> Served:
        served = await serve(with_faults(StandIn(), Faults(), lambda _: {}), port)
        async with httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.post("/ask", content="hello")).content == BODY
            with pytest.raises(OSError, match="in use"):
                await serve(StandIn(), served.port)
        await served.stop()
        await served.stop()
        return served

    async def twice() -> None:
        served = await once(0)
        assert (await once(served.port)).port == served.port

    asyncio.run(twice())


def test_an_app_whose_lifespan_fails_is_not_served() -> None:
    """A failed startup is an error where the server is started, and no process ends for it."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="lifespan failed"):
        ThreadedServer(fails).start()
