"""The local stack: what it starts, what it prints, and that nothing of it is left behind."""

import json
import os
import shlex
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
import psycopg
import pytest
import redis
from anyio import to_thread
from dotenv import dotenv_values
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from dev.serve import ThreadedServer
from dev.stack import Stack, StackError
from dev.started import ROOT, Command, command, until_ready
from lib.base.env import Secret
from lib.databases.readers.postgres import Direct
from tests.rig.clock import until

EXTERNAL = {
    "KV_REST_API_URL": "https://redis.example",
    "SUPABASE_URL": "https://supabase.example",
    "CLOUD_RUN_AI_URL": "https://ai.example",
}


def servers_of(running: Command) -> list[psutil.Process]:
    """Every process the command started; PostgreSQL detaches itself and is found by its lock file."""
    children: list[psutil.Process] = psutil.Process(running.process.pid).children(recursive=True)
    for name in ("postgres", "watched"):
        lock = running.data / name / "postmaster.pid"
        if not lock.exists():
            continue
        postmaster = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
        children += [postmaster, *postmaster.children(recursive=True)]
    return children


def to_copy(running: Command) -> tuple[str, str]:
    """The address and the body of the curl line."""
    line = next(line for line in running.printed if line.startswith("  curl"))
    curl, silent, url, *_, body = shlex.split(line)
    assert (curl, silent, json.loads(body)["query"]) == ("curl", "-s", "which disk is fullest?")
    return url, body


async def chat_completions(scope: Scope, receive: Receive, send: Send) -> None:
    """A provider that speaks OpenAI's protocol."""
    choice = {"message": {"role": "assistant", "content": "from Groq"}, "finish_reason": "stop"}
    if scope["type"] == "http":
        await JSONResponse({"model": "m", "choices": [choice]})(scope, receive, send)


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a detached process that ended stays a zombie where process 1 reaps nothing."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_starts_and_stops(tmp_path: Path, how: str) -> None:
    """It prints its parts and `ready`, serves, and on a signal ends in good order without leaving a process."""
    with command(tmp_path) as running:
        until_ready(running)
        origins = {line.split("  ")[0]: line.split()[-1] for line in running.printed if " embedded " in line}
        assert origins.keys() == {"Redis", "Supabase", "Watched", "AI backend", "API"}
        assert httpx.get(f"{running.url}/no/such/page").headers["x-vercel-error"] == "NOT_FOUND"
        assert httpx.get(f"{running.url}/api/metrics").json()["code"] == "unauthorized"
        assert httpx.get(f"{running.url}/api/ops").json()["code"] == "not_found"
        url, body = to_copy(running)
        assert "free" in httpx.post(url, content=body, headers={"content-type": "application/json"}).json()["answer"]
        servers = servers_of(running)
        # This machine reports to the stack.
        assert [each for each in servers if any("breakwater_collector" in word for word in each.cmdline())]
        assert {"redis", "postgres"} <= {
            name for server in servers for name in ("redis", "postgres") if name in server.name()
        }

        if how == "ctrl-c":
            os.killpg(running.process.pid, signal.SIGINT)
        else:
            running.process.terminate()
        out, err = running.process.communicate(timeout=60)
        assert (running.process.returncode, out) == (0, "- stopping\n")
        assert "Traceback" not in err
        assert [server for server in servers if alive(server)] == []


def test_names_what_it_does_not_start(tmp_path: Path) -> None:
    """Parts that are off or elsewhere are listed as such, and nothing is started for them."""
    with command(tmp_path, REDIS_ENABLED="false", SUPABASE_URL="https://supabase.example") as running:
        until_ready(running)
        rows = [line.split() for line in running.printed]
        assert ["Redis", "off", "-", "-"] in rows
        assert ["Supabase", "external", "-", "https://supabase.example"] in rows
        assert "- warning: SUPABASE_URL: the host supabase.example cannot be found" in running.printed
        assert servers_of(running) == []


def test_the_example_of_settings_works_as_it_is(tmp_path: Path) -> None:
    """Whoever copies .env.example and fills in nothing has everything embedded."""
    given = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
    with command(tmp_path, **given) as running:
        until_ready(running)
        assert sum(" embedded " in line for line in running.printed) == 5
        assert [line for line in running.printed if "warning" in line] == []


def test_a_providers_key_is_used(tmp_path: Path) -> None:
    """With a key in the environment that provider answers, and no embedded backend is started in its place."""
    with ThreadedServer(chat_completions) as provider:
        given = {"GROQ_API_KEY": "key", "GROQ_BASE_URL": provider.url}
        with command(tmp_path, REDIS_ENABLED="false", SUPABASE_URL="http://127.0.0.1:9", **given) as running:
            until_ready(running)
            assert ["AI", "backend", "external", "groq", "-"] in [line.split() for line in running.printed]
            url, body = to_copy(running)
            reply = httpx.post(url, content=body, headers={"content-type": "application/json"}).json()
    assert (reply["answer"], reply["provider"]) == ("from Groq", "groq")


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"KV_REST_API_URL": "redis.example"}, "KV_REST_API_URL: must be a URL"),
        ({"GEMINI_API_KEY": "k", "GEMINI_LIMITS": "many"}, "GEMINI_LIMITS: "),
        ({"AI_PROVIDERS": "groq"}, "GROQ_API_KEY: missing, while AI_PROVIDERS names groq"),
        ({**EXTERNAL, "KV_REST_API_TOKEN": "t", "RATELIMIT_HEALTH": "often"}, "RATELIMIT_HEALTH: not a limit"),
    ],
    ids=["a store", "a budget", "a provider without its key", "a route's own limit"],
)
def test_settings_are_checked_before_it_is_ready(tmp_path: Path, environ: dict[str, str], fault: str) -> None:
    """It ends with every fault by its variable's name, and never says that it is ready."""
    with command(tmp_path, **EXTERNAL | environ) as running:
        out, err = running.process.communicate()
    assert running.process.returncode == 1
    assert "error: these settings cannot be used:" in err
    assert f"\n  {fault}" in err
    assert "ready" not in out.splitlines()


def test_the_token_stays_the_same(tmp_path: Path) -> None:
    """A second start shows the first one's token; the file is for its owner alone. One of your own wins."""
    tokens = []
    for environ in ({}, {}, {"ADMIN_TOKEN": "a-token-of-my-own-choice"}):
        with command(tmp_path, REDIS_ENABLED="false", SUPABASE_URL="http://127.0.0.1:9", **environ) as running:
            until_ready(running)
            (line,) = [line for line in running.printed if "its token is" in line]
            tokens.append(line.split()[-1])
    assert tokens[0] == tokens[1] == (tmp_path / "admin-token").read_text()
    assert len(tokens[0]) >= 20
    assert tokens[2] == "a-token-of-my-own-choice"
    assert (tmp_path / "admin-token").stat().st_mode & 0o077 == 0


def test_busy_port(tmp_path: Path) -> None:
    """A taken port is one line that names PORT, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command(tmp_path, PORT=str(port)) as running:
            out, err = running.process.communicate()
    assert (running.process.returncode, out) == (1, "")
    assert err.startswith(f"error: port {port} is in use")
    assert "PORT=" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize("port", ["http", "-1", "65536", "3000.0"])
def test_senseless_port(tmp_path: Path, port: str) -> None:
    """What is no port is one line as well."""
    with command(tmp_path, PORT=port) as running:
        out, err = running.process.communicate()
    assert (running.process.returncode, out) == (1, "")
    assert err.startswith(f"error: PORT={port} is not a port")


@pytest.mark.anyio
async def test_keeps_its_directory_to_itself(tmp_path: Path) -> None:
    """A second stack on the same data is refused, until the first has ended."""
    async with Stack.start(EXTERNAL, tmp_path):
        with pytest.raises(StackError, match="another local stack") as refused:
            async with Stack.start(EXTERNAL, tmp_path):
                pass
        stop, beside = (line.partition(": ")[2] for line in str(refused.value).splitlines())
        assert stop.endswith(f"kill {os.getpid()}")
        # What it names works: the target takes both variables, and starts a stack on data of its own.
        dry = await anyio.run_process([*shlex.split(beside), "--dry-run", "--no-print-directory"], cwd=ROOT)
        *_, named, data = shlex.split(dry.stdout.decode().splitlines()[-1])
        assert named == "--data"
        async with Stack.start(EXTERNAL, Path(data)):
            pass
    async with Stack.start(EXTERNAL, tmp_path):
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["KV_REST_API_URL", "UPSTASH_REDIS_REST_URL"])
async def test_starts_nothing_that_is_named(tmp_path: Path, name: str) -> None:
    """What the environment names is used as it is, under either of Redis's names, and needs no variables of ours."""
    given = {**EXTERNAL, name: EXTERNAL["KV_REST_API_URL"]}
    if name != "KV_REST_API_URL":
        given["KV_REST_API_URL"] = " "  # set to nothing is not set
    said: list[str] = []
    async with Stack.start(given, tmp_path, said.append) as stack:
        assert {part.origin for part in stack.parts.values()} == {"external"}
        assert (stack.environment, stack.control, said) == ({}, {}, [])
        assert await to_thread.run_sync(stack.state) == {
            "mode": "redis",
            "redis": {"state": "external", "url": "redis.example"},
            "supabase": {"state": "external", "url": "supabase.example"},
        }


@pytest.mark.anyio
async def test_without_redis(tmp_path: Path) -> None:
    """`REDIS_ENABLED=false` starts no Redis, and the AI backend knows."""
    given = {"SUPABASE_URL": EXTERNAL["SUPABASE_URL"], "REDIS_ENABLED": " False "}
    async with Stack.start(given, tmp_path) as stack:
        assert stack.redis is None
        assert stack.environment.keys() == {"CLOUD_RUN_AI_URL", "CLOUD_RUN_API_SECRET"}
        assert await ask(stack.environment, "which mode is the stack in?") == (
            "Mode: off\nRedis: state off\nSupabase: state external, url supabase.example"
        )


@pytest.mark.anyio
async def test_redis_over_tcp(tmp_path: Path) -> None:
    """`REDIS=tcp` has the functions use Redis itself; a board is there to look at."""
    given = {name: EXTERNAL[name] for name in ("SUPABASE_URL", "CLOUD_RUN_AI_URL")}
    async with Stack.start({**given, "REDIS": "tcp"}, tmp_path) as stack:
        assert stack.redis is not None
        assert stack.environment == {"REDIS_URL": stack.redis.url, "REDIS_BILLED": "false"}
        assert stack.control == {}
        with redis.Redis.from_url(stack.redis.url, decode_responses=True) as client:
            assert client.zrevrange("ranking:demo", 0, 0) == ["kim"]
        state = await to_thread.run_sync(stack.state)
        assert "commands" not in str(state)


@pytest.mark.anyio
async def test_a_database_that_is_named_is_read(tmp_path: Path) -> None:
    """`DATABASE_URL` stays what it was, also where Supabase is started here."""
    given = {name: EXTERNAL[name] for name in ("KV_REST_API_URL", "CLOUD_RUN_AI_URL")}
    given |= {"DATABASE_URL": "postgresql://me@db.example/x", "DB_CONNECTIONS": "prod=supabase"}
    async with Stack.start(given, tmp_path) as stack:
        assert stack.parts["supabase"].origin == "embedded"
        assert {**given, **stack.environment}["DATABASE_URL"] == "postgresql://me@db.example/x"


@pytest.mark.anyio
async def test_a_password_is_not_shown(tmp_path: Path) -> None:
    """Of a Redis that is named by `REDIS_URL` the table has the host alone."""
    given = {name: EXTERNAL[name] for name in ("SUPABASE_URL", "CLOUD_RUN_AI_URL")}
    async with Stack.start({**given, "REDIS_URL": "rediss://user:hunter2@redis.example:6380"}, tmp_path) as stack:
        assert stack.parts["redis"].url == "rediss://redis.example:6380"


@pytest.mark.anyio
async def test_embedded_parts_work(tmp_path: Path) -> None:
    """The environment opens every embedded part, and the AI backend reports on them, also when they die."""
    async with Stack.start({}, tmp_path) as stack, httpx.AsyncClient() as http:
        env = stack.environment
        assert stack.control == {
            "redis": env["KV_REST_API_URL"],
            "supabase": env["SUPABASE_URL"],
            "backend": env["CLOUD_RUN_AI_URL"],
        }
        token = {"authorization": f"Bearer {env['KV_REST_API_TOKEN']}"}
        stored = await http.post(env["KV_REST_API_URL"], json=["SET", "k", "v"], headers=token)
        assert stored.json() == {"result": "OK"}
        keys = {"apikey": env["SUPABASE_SERVICE_ROLE_KEY"]}
        assert (await http.get(f"{env['SUPABASE_URL']}/rest/v1/", headers=keys)).status_code == 200
        assert (await http.get(f"{env['SUPABASE_URL']}/rest/v1/")).status_code == 401

        answer = await ask(env, "Redis 상태는?")
        assert answer.startswith("Redis: 상태 up")
        assert "사용한 명령 1" in answer
        assert "state up, kind postgresql" in await ask(env, "how is supabase?")
        assert (await to_thread.run_sync(stack.state))["mode"] == "redis"

        assert stack.redis is not None
        stack.redis.kill()
        assert (await ask(env, "how is redis?")).startswith("Redis: state down")
        assert (await to_thread.run_sync(stack.state))["mode"] == "supabase"

        assert stack.postgres is not None
        stack.postgres.kill()
        assert (await ask(env, "how is supabase?")).startswith("Supabase: state down")
        assert (await to_thread.run_sync(stack.state))["mode"] == "local"


@pytest.mark.anyio
async def test_a_database_to_watch(tmp_path: Path) -> None:
    """The load shows: its sessions, a lock that is waited for, a forgotten transaction, statements by share."""
    async with Stack.start({}, tmp_path) as stack:
        assert stack.environment["DB_CONNECTIONS"] == "prod=supabase,shop=postgres:SHOP_URL"
        reader = Direct.at(Secret(stack.environment["SHOP_URL"]))
        with psycopg.connect(stack.environment["SHOP_URL"], autocommit=True) as connection:
            query = "select 1 from pg_stat_activity where application_name = 'checkout' and wait_event_type = 'Lock'"
            await until(lambda: connection.execute(query).fetchone() is not None)
        sessions = {each["application"]: each["state"] for each in await reader.rows("sessions", {}, 9)}
        assert sessions.keys() == {"shop", "import", "checkout", "report"}
        assert sessions["report"] == "idle in transaction"
        assert len(await reader.rows("top", {"limit": "5"}, 9)) > 1
        await reader.aclose()


async def ask(env: Mapping[str, str], query: str) -> str:
    headers = {"authorization": f"Bearer {env['CLOUD_RUN_API_SECRET']}"}
    async with httpx.AsyncClient(headers=headers) as http:
        reply = await http.post(env["CLOUD_RUN_AI_URL"], json={"query": query, "sessionId": "s"})
    return str(reply.json()["answer"])
