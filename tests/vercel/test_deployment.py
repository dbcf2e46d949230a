"""The real build's functions under the real runtime, against real stand-ins: what only a deployment can show.

Needs the output of `python -m dev.vercel build`; `python -m dev.vercel test` runs this and takes a missing one for a
failure. Without it, these tests are skipped, and so they are when the code has changed since the build.
"""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
import redis

from dev.stack import Stack
from dev.vercel import check
from dev.vercel.build import BUILD, ROOT, build, tools
from dev.vercel.output import NoOutput, read_output, read_tree
from dev.vercel.runtime import CLIENT, INSTANCE, Deployment
from dev.vercel.thread import InThread
from tests.blackbox.target import ENVIRONMENT
from tests.vercel import rewrites
from tests.vercel.rewrites import Case

SSL = ssl.create_default_context()
ASK = "/api/ai/supervisor"
DEMANDED = os.environ.get("BREAKWATER_VERCEL") == "1"


@pytest.fixture(scope="module")
def tree() -> Path:
    """The tree with the build output."""
    tree = Path(os.environ.get("BREAKWATER_VERCEL_DIR", BUILD))
    try:
        built = [path for path in read_tree(tree).files if path.startswith(("api/", "lib/", "vercel.json"))]
        read_output(tree)
    except NoOutput as missing:
        if DEMANDED:
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    if not DEMANDED and any(_differs(ROOT / path, tree / path) for path in built):
        pytest.skip("the code has changed since `python -m dev.vercel build`")
    return tree


def _differs(now: Path, then: Path) -> bool:
    return not now.is_file() or now.read_bytes() != then.read_bytes()


@pytest.fixture(scope="module")
def running(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stand-ins, after it is clear that they are needed."""
    assert tree.is_dir()
    directory = tmp_path_factory.mktemp("stack")
    with InThread(lambda: Stack.start({}, directory)) as stack:
        yield stack


@pytest.fixture
def direct(running: Stack) -> Iterator[redis.Redis]:
    """Redis itself, past the stand-in."""
    assert running.redis is not None
    with redis.Redis.from_url(running.redis.url, protocol=2, decode_responses=True) as client:
        yield client


@pytest.fixture
def stack(running: Stack, direct: redis.Redis) -> Stack:
    """The stand-ins as new: nothing in Redis, nothing counted, no fault set."""
    direct.flushall()
    for url in running.control.values():
        httpx.delete(f"{url}/_control/faults", verify=SSL)
        httpx.delete(f"{url}/_control/stats", verify=SSL)
    return running


def spoil(stack: Stack, name: str, **fault: object) -> None:
    """Set a fault of a stand-in."""
    httpx.put(f"{stack.control[name]}/_control/faults", json=fault, verify=SSL).raise_for_status()


def asked(stack: Stack) -> int:
    """How often the AI backend was asked."""
    return int(httpx.get(f"{stack.control['backend']}/_control/stats", verify=SSL).json()["http_requests"])


def deployed(tree: Path, stack: Stack, instances: int = 2, **settings: str) -> AbstractContextManager[Deployment]:
    """The build, connected to the stand-ins."""
    return Deployment(tree, {**stack.environment, **settings}, instances=instances)


def ask(deployment: Deployment, query: str, **headers: str) -> httpx.Response:
    """Ask, and wait until the work after the reply is done too."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"query": query, "sessionId": "deployment"}
    reply = httpx.post(f"{deployment.url}{ASK}", json=body, headers=sent, timeout=30, verify=SSL)
    deployment.settle()
    return reply


def test_the_output_is_what_we_mean_to_deploy(tree: Path) -> None:
    """No check finds a fault."""
    _, faults = check.report(read_output(tree), read_tree(tree))
    assert faults == []


def test_instances_share_the_limit(tree: Path, stack: Stack) -> None:
    """Two instances count a caller's calls together."""
    with deployed(tree, stack, RATELIMIT_AI_SUPERVISOR="4/minute") as deployment:
        replies = [ask(deployment, "CPU?") for _ in range(6)]
    assert [reply.headers[INSTANCE] for reply in replies] == ["0", "1", "0", "1", "0", "1"]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 200, 429, 429]
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["3", "2", "1", "0", "0", "0"]


def test_instances_share_answers(tree: Path, stack: Stack, direct: redis.Redis) -> None:
    """An answer that one instance paid for is served by the other; it was stored after the reply, before the freeze."""
    with deployed(tree, stack) as deployment:
        first = ask(deployment, "which disk is fullest?")
        stored = direct.keys("ai:supervisor:deployment:*")
        second = ask(deployment, "which disk is fullest?")
    assert (first.headers[INSTANCE], first.headers["x-cache"]) == ("0", "MISS")
    assert len(stored) == 1
    assert (second.headers[INSTANCE], second.headers["x-cache"]) == ("1", "HIT")
    assert second.json()["answer"] == first.json()["answer"]
    assert asked(stack) == 1


def test_instances_share_the_breaker(tree: Path, stack: Stack) -> None:
    """Three failures, seen by two instances, open the circuit for both."""
    spoil(stack, "backend", kind="status", status=503)
    with deployed(tree, stack) as deployment:
        failed = [ask(deployment, f"question {number}") for number in range(3)]
        paid = asked(stack)
        refused = [ask(deployment, f"another {number}") for number in range(2)]
    assert [reply.json()["code"] for reply in failed] == ["backend_failed"] * 3
    assert [(reply.headers[INSTANCE], reply.json()["code"]) for reply in refused] == [
        ("1", "circuit_open"),
        ("0", "circuit_open"),
    ]
    assert asked(stack) == paid


def test_requests_overlap(tree: Path, stack: Stack) -> None:
    """Six calls at once, each two seconds long, share one instance and take nothing like twelve seconds."""
    with deployed(tree, stack, instances=1) as deployment:
        ask(deployment, "warm up")
        spoil(stack, "backend", kind="delay", delay_ms=2_000)
        before = time.monotonic()
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda number: _post(deployment, f"CPU {number}?"), range(6)))
        took = time.monotonic() - before
    assert [reply.status_code for reply in replies] == [200] * 6
    # Half of it is far more than a busy machine adds.
    assert 2 <= took < 6


def _post(deployment: Deployment, query: str) -> httpx.Response:
    return httpx.post(f"{deployment.url}{ASK}", json={"query": query}, timeout=30, verify=SSL)


def test_a_caller_cannot_choose_its_address(tree: Path, stack: Stack) -> None:
    """What a client says of its own address changes nothing; another address is another caller."""
    with deployed(tree, stack, RATELIMIT_AI_SUPERVISOR="1/minute") as deployment:
        first = ask(deployment, "CPU?")
        forged = ask(
            deployment, "CPU?", x_forwarded_for="6.6.6.6", x_real_ip="6.6.6.6", x_vercel_forwarded_for="6.6.6.6"
        )
        other = ask(deployment, "CPU?", **{CLIENT: "203.0.113.9"})
    assert [first.status_code, forged.status_code, other.status_code] == [200, 429, 200]
    assert forged.headers["x-request-id"] == forged.headers["x-vercel-id"]


def test_a_client_that_leaves(tree: Path, stack: Stack) -> None:
    """The runtime tells the function, which gives up its call and says so."""
    spoil(stack, "backend", kind="hang")
    with deployed(tree, stack, instances=1) as deployment:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{deployment.url}{ASK}", json={"query": "CPU?"}, timeout=httpx.Timeout(30, read=1), verify=SSL)
        deployment.settle()
        assert '"decision": "client_left"' in deployment.printed


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        pytest.param({}, "KV_REST_API_URL", id="nothing"),
        pytest.param({"REDIS_ENABLED": "false"}, "CLOUD_RUN_AI_URL", id="no AI provider"),
    ],
)
def test_without_an_environment(tree: Path, stack: Stack, environ: dict[str, str], name: str) -> None:
    """A deployment that was not configured says which variables to set."""
    assert stack.control
    with Deployment(tree, environ) as deployment:
        reply = ask(deployment, "CPU?")
    assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
    assert reply.json()["code"] == "misconfigured"
    assert name in reply.json()["detail"]


def test_what_a_browser_gets(tree: Path, stack: Stack) -> None:
    """The page and its parts with the security headers; no file of the tree beside them."""
    with deployed(tree, stack, instances=1) as deployment, httpx.Client(base_url=deployment.url, verify=SSL) as browser:
        for path in ("/", *(f"/{name}" for name in read_output(tree).static)):
            page = browser.get(path)
            assert (path, page.status_code) == (path, 200)
            assert "default-src 'none'" in page.headers["content-security-policy"]
        for path in ("/lib/guard.py", "/requirements.txt", "/vercel.json", "/.env", "/README.md", "/api/ai", "/lib"):
            assert (path, browser.get(path).status_code) == (path, 404)
        assert browser.get("/api/health/").headers["location"] == "/api/health"
        assert browser.get("/api/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/api/overview", 200, None, id="overview"),
        pytest.param("GET", "/api/metrics", 200, None, id="metrics"),
        pytest.param("POST", "/api/admin", 422, "invalid_request", id="admin"),
        pytest.param("GET", "/api/admin", 405, "method_not_allowed", id="each-has-its-own-methods"),
        pytest.param("GET", "/api/ops", 404, "not_found", id="the-functions-own-path"),
        pytest.param("POST", "/api/ops?path=/api/admin", 404, "not_found", id="the-query-chooses-nothing"),
    ],
)
def test_one_function_for_several_paths(
    observed: httpx.Client, method: str, path: str, status: int, code: str | None
) -> None:
    """Rewrites lead three paths to api/ops, which tells them apart; at its own path there is nothing."""
    reply = observed.request(method, path, headers={"authorization": "Bearer admin-token-for-tests"}, json={})
    assert (reply.status_code, reply.json()["code"] if code else None) == (status, code)
    assert reply.headers["x-request-id"] == reply.headers["x-vercel-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        pytest.param("GET", "/api/v1/models", 200, '"supervisor"', id="models"),
        pytest.param("GET", "/api/v1/models/supervisor", 200, '"supervisor"', id="one-model"),
        pytest.param("GET", "/api/v1/models/none/such", 404, "model_not_found", id="no-such-model"),
        pytest.param("POST", "/api/v1/responses", 404, "unsupported_endpoint", id="not-served"),
        pytest.param("GET", "/api/v1", 404, "unsupported_endpoint", id="the-base"),
        pytest.param("GET", "/api/v1/others", 404, "unsupported_endpoint", id="the-functions-own-path"),
        pytest.param("GET", "/api/v1/chat/completions", 405, "method_not_allowed", id="a-function-comes-first"),
        pytest.param("GET", "/api/ai/supervisor/chat-1/stream", 204, "", id="nothing-to-resume"),
        pytest.param("GET", "/api/ai/resume", 404, "not_found", id="nobodys-address"),
    ],
)
def test_every_path_under_v1_is_answered(
    observed: httpx.Client, method: str, path: str, status: int, says: str
) -> None:
    """Rewrites lead what no file serves to a function, which answers in OpenAI's shape, and a chat's stream to one."""
    reply = observed.request(method, path, json={} if method == "POST" else None)
    assert (reply.status_code, says in reply.text) == (status, True)


@pytest.fixture(scope="module")
def observed(tree: Path, running: Stack) -> Iterator[httpx.Client]:
    """A client of one deployment, whose token opens what is not for everybody."""
    with (
        deployed(tree, running, instances=1, ADMIN_TOKEN="admin-token-for-tests") as deployment,
        httpx.Client(base_url=deployment.url, verify=SSL, timeout=30) as client,
    ):
        yield client


def test_the_functions_are_few(tree: Path) -> None:
    """What shares a function is none of its own: the Hobby plan allows 12."""
    functions = {function.name for function in read_output(tree).functions}
    assert "api/ops" in functions
    assert not functions & {"api/admin", "api/metrics", "api/overview"}


def test_logs_are_structured(tree: Path, stack: Stack) -> None:
    """Every line that a function logs is JSON of ours, none a library's, which may hold a URL with a secret in it."""
    with deployed(tree, stack, instances=1) as deployment:
        ask(deployment, "CPU?")
        lines = [line for line in deployment.printed.splitlines() if not line.startswith(("---", "(it printed"))]
    assert lines
    assert [line for line in lines if not line.startswith('{"event": ')] == []


def test_black_box(tree: Path, stack: Stack) -> None:
    """The suite that the local server passes, the deployment passes too."""
    if not DEMANDED:
        pytest.skip("it takes two minutes: `python -m dev.vercel test` runs it")
    # Health and the supervisor are two processes here: each sees the other's circuit only while its cool-down lasts.
    settings = {**ENVIRONMENT, "BREAKER_COOLDOWN_MS": "15000"}
    with deployed(tree, stack, instances=1, **settings) as deployment:
        environ = {
            **os.environ,
            "BLACKBOX_URL": deployment.url,
            "BLACKBOX_CALLER_HEADER": CLIENT,
            **{f"BLACKBOX_{name.upper()}_CONTROL": url for name, url in stack.control.items()},
        }
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/blackbox"]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        deployment.settle()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{deployment.printed[-4000:]}"


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Deployment]]:
    """A real build of a small project with rewrites of every kind, and its deployment."""
    if not DEMANDED:
        pytest.skip("it is a build of its own: `python -m dev.vercel test` runs it")
    directory = tmp_path_factory.mktemp("rewrites")
    root, target = directory / "project", directory / "build"
    for name, text in rewrites.FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    build(root, target, tools(), bytecode=False)
    with Deployment(target, {}) as deployment:
        yield target, deployment


def test_the_build_of_rewrites(rewritten: tuple[Path, Deployment]) -> None:
    """The build makes of the rewrites what the tests of routing take for granted."""
    assert read_output(rewritten[0]).routes == rewrites.BUILT


@pytest.mark.parametrize("case", rewrites.CASES.values(), ids=rewrites.CASES)
def test_rewrites(rewritten: tuple[Path, Deployment], case: Case) -> None:
    """A function sees the path that the client sent, decoded and undecoded, and the query that a rewrite adds to."""
    reply = httpx.get(f"{rewritten[1].url}{case.sent}", verify=SSL)
    if case.function is None:
        assert (reply.status_code, reply.headers["x-vercel-error"]) == (404, "NOT_FOUND")
    else:
        path = case.sent.partition("?")[0]
        assert reply.json() == {
            "function": case.function,
            "path": httpx.URL(path).path,
            "raw_path": path,
            "query": case.query,
        }
