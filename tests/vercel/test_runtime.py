"""A deployment of a made-up build output: the real runtime, started from its bundle, behind the edge played here."""

import json
import os
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import vercel_runtime

from dev.vercel.instance import InstanceError
from dev.vercel.output import HANDLER
from dev.vercel.runtime import CLIENT, INSTANCE, Deployment

SSL = ssl.create_default_context()
RUNTIME = Path(vercel_runtime.__file__).parent

# What @vercel/python writes into a bundle, less what only other bundles need.
TRAMPOLINE = """
import os, sys
_here = os.path.dirname(os.path.abspath(__file__))
os.environ.update({{
  "__VC_HANDLER_MODULE_NAME": "{module}",
  "__VC_HANDLER_ENTRYPOINT": "{name}.py",
  "__VC_HANDLER_ENTRYPOINT_ABS": os.path.join(_here, "{name}.py"),
  "__VC_HANDLER_VENDOR_DIR": "_vendor",
  "__VC_HANDLER_VARIABLE_NAME": "app"
}})
sys.path.insert(1, os.path.join(_here, "_vendor"))
from vercel_runtime.vc_init import vc_handler
"""

APP = """
import asyncio, json, os
from urllib.parse import parse_qs
from vercel_runtime import get_deadline

release, seen = asyncio.Event(), []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    what = parse_qs(scope["query_string"].decode()).get("do", ["echo"])[0]
    if what == "exit":
        os._exit(3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if what == "wait":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await release.wait()
        await send({"type": "http.response.body", "body": b"two"})
    elif what == "cut":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        os._exit(3)
    elif what == "hold":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        seen.append("left")
    elif what == "after":
        await send({"type": "http.response.body", "body": b"done"})
        await asyncio.to_thread(seen.append, "after")
    else:
        release.set()
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        found = {
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "path": scope["path"], "query": scope["query_string"].decode(), "method": scope["method"],
            "body": len(body), "seen": seen, "environ": dict(os.environ),
            "deadline": deadline.isoformat() if (deadline := get_deadline()) else None,
        }
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})
"""


def write_output(tree: Path, apps: dict[str, str]) -> Path:
    """A build output with these functions, and one page."""
    output = tree / ".vercel" / "output"
    (output / "static").mkdir(parents=True)
    (output / "static" / "index.html").write_text("<p>hello</p>")
    routes = [
        {"src": "^/(.*)/$", "headers": {"Location": "/$1"}, "status": 308},
        {"src": "^/((?!api/).*)$", "headers": {"X-Frame": "no"}, "continue": True},
        {"handle": "filesystem"},
        {"src": "^/old/([^/]+)$", "dest": "/api/app?name=$1", "check": True},
        {"src": "^/api(/.*)?$", "status": 404},
    ]
    (output / "config.json").write_text(json.dumps({"version": 3, "routes": routes}))
    for name, app in apps.items():
        directory = output / "functions" / f"{name}.func"
        directory.mkdir(parents=True)
        source = tree / f"{name}.py"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(app)
        (directory / HANDLER).write_text(TRAMPOLINE.format(name=name, module=name.replace("/", ".")))
        vendored = {
            f"_vendor/vercel_runtime/{path.relative_to(RUNTIME).as_posix()}": os.path.relpath(path, tree)
            for path in RUNTIME.rglob("*.py")
        }
        config = {
            "runtime": "python3.12",
            "maxDuration": 60,
            "environment": {"PYTHONDONTWRITEBYTECODE": "1"},
            "filePathMap": {f"{name}.py": f"{name}.py", **vendored},
        }
        (directory / ".vc-config.json").write_text(json.dumps(config))
    return tree


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One function on one instance."""
    tree = write_output(tmp_path_factory.mktemp("one"), {"api/app": APP})
    with Deployment(tree, {"GREETING": "hello"}) as running:
        yield running


@pytest.fixture
def client(deployment: Deployment) -> Iterator[httpx.Client]:
    """A client of the edge."""
    with httpx.Client(base_url=deployment.url, verify=SSL, timeout=20) as http:
        yield http


def test_who_the_client_is(client: httpx.Client) -> None:
    """The edge says who the client is, whatever the client says; only its own test header is believed."""
    forged = {
        "x-vercel-forwarded-for": "6.6.6.6",
        "x-real-ip": "6.6.6.6",
        "x-forwarded-for": "6.6.6.6",
        "forwarded": "for=6.6.6.6",
        "x-vercel-id": "mine",
        "x-vercel-internal-deadline": "2000-01-01T00:00:00Z",
    }
    plain = client.get("/api/app", headers=forged)
    chosen = client.get("/api/app", headers={**forged, CLIENT: "203.0.113.7"})
    for reply, address in ((plain, "127.0.0.1"), (chosen, "203.0.113.7")):
        headers = dict(reply.json()["headers"])
        assert {headers[name] for name in ("x-vercel-forwarded-for", "x-real-ip", "x-forwarded-for")} == {address}
        assert headers["x-vercel-id"] == reply.headers["x-vercel-id"] != "mine"
        assert "6.6.6.6" not in str(headers)
        assert CLIENT not in headers
        assert not [name for name in headers if name.startswith("x-vercel-internal-")]


def test_what_the_function_sees(client: httpx.Client) -> None:
    """The client's path, its query and what a rewrite adds, its body, a deadline, and no variables of this machine."""
    reply = client.post("/old/x?a=1&a=2", content=b"x" * 1_000_000).json()
    assert (reply["method"], reply["path"], reply["query"], reply["body"]) == (
        "POST",
        "/old/x",
        "a=1&a=2&name=x",
        1_000_000,
    )
    assert 0 < (datetime.fromisoformat(reply["deadline"]) - datetime.now(UTC)).total_seconds() <= 60
    assert reply["environ"]["VERCEL"] == "1"
    assert reply["environ"]["GREETING"] == "hello"
    assert "VIRTUAL_ENV" not in reply["environ"]
    assert client.get("/old/x?name=mine").json()["query"] == "name=mine"


@pytest.mark.parametrize(
    ("method", "path", "status", "headers"),
    [
        pytest.param("GET", "/", 200, {"content-type": "text/html; charset=utf-8", "x-frame": "no"}, id="page"),
        pytest.param("HEAD", "/", 200, {"content-length": "12"}, id="head"),
        pytest.param("POST", "/", 405, {"x-vercel-error": "INVALID_REQUEST_METHOD"}, id="page-post"),
        pytest.param("GET", "/api/app/?a=1", 308, {"location": "/api/app?a=1"}, id="trailing-slash"),
        pytest.param("GET", "/api/none", 404, {"x-vercel-error": "NOT_FOUND"}, id="nothing"),
    ],
)
def test_what_the_edge_answers(
    client: httpx.Client, method: str, path: str, status: int, headers: dict[str, str]
) -> None:
    """Files, redirects and errors need no function."""
    reply = client.request(method, path)
    assert reply.status_code == status
    assert {name: reply.headers.get(name) for name in headers} == headers


def test_streams_and_overlaps(client: httpx.Client) -> None:
    """A reply arrives as it is sent, while another request is served on the same instance."""
    with client.stream("GET", "/api/app?do=wait") as reply:
        chunks = reply.iter_raw()
        assert next(chunks) == b"one"
        client.get("/api/app").raise_for_status()
        assert b"".join(chunks) == b"two"


def test_a_client_that_leaves(client: httpx.Client, deployment: Deployment) -> None:
    """The function sees the disconnect."""
    with client.stream("GET", "/api/app?do=hold") as reply:
        assert next(reply.iter_raw()) == b"one"
    deployment.settle()
    assert "left" in client.get("/api/app").json()["seen"]


def test_frozen_between_requests(client: httpx.Client, deployment: Deployment) -> None:
    """An instance is stopped as soon as its last request is over, work after the reply included, and goes on later."""
    assert client.get("/api/app?do=after").text == "done"
    deployment.settle()
    give_up = time.monotonic() + 60
    # The signal has been sent; the kernel delivers it when the process is next scheduled.
    while (states := [psutil.Process(pid).status() for pid in deployment.pids]) != [psutil.STATUS_STOPPED]:
        assert time.monotonic() < give_up, states
        time.sleep(0.01)
    assert "after" in client.get("/api/app").json()["seen"]


def test_instances_take_turns(tmp_path: Path) -> None:
    """Two instances of one function are two processes; both end with the deployment."""
    with Deployment(write_output(tmp_path, {"api/app": APP}), {}, instances=2) as two:
        answered = [httpx.get(f"{two.url}/api/app", verify=SSL).headers[INSTANCE] for _ in range(4)]
        pids = two.pids
    assert answered == ["0", "1", "0", "1"]
    assert len(set(pids)) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not list((tmp_path / ".vercel").glob("run-*"))


def test_an_instance_that_dies(tmp_path: Path) -> None:
    """A request without a reply is Vercel's own error, a cut one stays incomplete, and nobody waits for either."""
    with Deployment(write_output(tmp_path, {"api/app": APP}), {}, instances=2) as two:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{two.url}/api/app?do=cut", verify=SSL)
        reply = httpx.get(f"{two.url}/api/app?do=exit", verify=SSL)
        two.settle()
    assert (reply.status_code, reply.headers["x-vercel-error"]) == (500, "FUNCTION_INVOCATION_FAILED")


def test_a_function_that_does_not_start(tmp_path: Path) -> None:
    """The error holds what it printed, and the functions that did start are ended."""
    tree = write_output(tmp_path, {"api/app": APP, "api/bad": "raise ValueError('no such luck')"})
    before = set(psutil.Process().children())
    with pytest.raises(InstanceError, match="ValueError: no such luck"), Deployment(tree, {}):
        pass
    assert not set(psutil.Process().children()) - before
