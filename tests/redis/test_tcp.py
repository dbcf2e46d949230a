"""Redis over TCP: replies as over REST, each failure by its kind, one deadline, and no reply taken for another's."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection

from dev.redis_server import RedisServer
from lib.base.env import BadSettings
from lib.redis.errors import RedisDown
from lib.redis.op import CommandError, Op, as_text
from lib.redis.tcp import Tcp, packed
from lib.settings import Settings
from tests.rig.clock import until

pytestmark = pytest.mark.anyio

GET = Op((("GET", "k"),), lambda replies: as_text(replies[0]))
type Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that talks as it is told; its port."""
    talks, writers = list[asyncio.Future[None]](), list[asyncio.StreamWriter]()

    def begun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        talks.append(asyncio.ensure_future(talk(reader, writer)))

    server = await asyncio.start_server(begun, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # Each ends when its client has gone.
        await asyncio.gather(*talks, return_exceptions=True)
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def told(*replies: bytes, then_close: bool = False) -> Talk:
    """Says OK to the client's name, then one of these for each further packet; then nothing more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"+OK\r\n", *replies):
            if not await reader.read(65_536):
                break
            writer.write(reply)
        if then_close:
            writer.close()
        while await reader.read(65_536):
            pass
        writer.close()

    return talk


@asynccontextmanager
async def wire(url: str, timeout_s: float = 10.0, ca: str | None = None) -> AsyncIterator[Tcp]:
    """A transport that is closed at the end."""
    made = Tcp(url, timeout_s, 10.0, ca=ca)
    try:
        yield made
    finally:
        await made.aclose()


async def failing(redis: Tcp, left_s: float = 60.0) -> str:
    """The kind with which a round trip fails."""
    with pytest.raises(RedisDown) as failed:
        await redis.run(GET, left_s)
    return failed.value.kind


async def test_replies(redis_server: RedisServer) -> None:
    """Texts, numbers, lists, nothing and refusals are what they are over REST; neighbours of a refusal are executed."""
    async with wire(redis_server.url) as redis:
        found = await redis.send(
            [
                ("SET", "tcp:a", "값 \n x", "PX", 60_000),
                ("GET", "tcp:a"),
                ("INCR", "tcp:a"),
                ("LPUSH", "tcp:a", 1),
                ("MGET", "tcp:a", "tcp:none"),
                ("BITFIELD", "tcp:b", "INCRBY", "u8", 0, 3),
                ("EVAL", "return {1, 'x', false}", 0),
                ("DEL", "tcp:a", "tcp:b"),
            ]
        )
    ok, text, number, wrong, several, bits, script, gone = found
    assert (ok, text, several, bits, script, gone) == ("OK", "값 \n x", ["값 \n x", None], [3], [1, "x", None], 2)
    assert isinstance(number, CommandError)
    assert isinstance(wrong, CommandError)
    assert wrong.message.startswith("WRONGTYPE")


@given(st.lists(st.lists(st.text() | st.integers(), min_size=1).map(tuple), min_size=1))
def test_commands_are_packed_as_redis_py_packs_them(commands: list[tuple[str | int, ...]]) -> None:
    """Any texts and numbers, lone surrogates, line breaks and nothing among them; its commands are one word."""
    words = [("X", *command) for command in commands]
    theirs = Connection(encoding_errors="replace", driver_info=None).pack_commands(words)
    assert packed(words) == b"".join(theirs)


async def test_a_refused_command_by_its_kind(redis_server: RedisServer) -> None:
    """What a key holds concerns that key alone."""
    async with wire(redis_server.url) as redis:
        await redis.send([("LPUSH", "tcp:list", 1), ("PEXPIRE", "tcp:list", 60_000)])
        with pytest.raises(RedisDown) as failed:
            await redis.run(Op((("GET", "tcp:list"),), lambda replies: as_text(replies[0])))
    assert failed.value.kind == "command"


async def test_connections_are_used_again(redis_server: RedisServer) -> None:
    """One after another by one connection, with our name; at once by as many as it takes."""
    mine = Op((("CLIENT", "ID"),), lambda replies: replies[0])
    name = Op((("CLIENT", "GETNAME"),), lambda replies: replies[0])
    async with wire(redis_server.url) as redis:
        ids = [await redis.run(mine) for _ in range(3)]
        assert len(set(ids)) == 1
        assert await redis.run(name) == "breakwater"
        await asyncio.gather(*(redis.run(mine) for _ in range(200)))
        assert len(redis._idle) <= 100


async def test_a_connection_that_was_closed_meanwhile(redis_server: RedisServer) -> None:
    """The server gave up on it while it was idle: the next round trip takes a new one."""
    mine = Op((("CLIENT", "ID"),), lambda replies: replies[0])
    async with wire(redis_server.url) as redis, wire(redis_server.url) as other:
        first = await redis.run(mine)
        ((connection, _),) = redis._idle
        await other.send([("CLIENT", "KILL", "ID", str(first))])
        reader = connection._reader
        assert reader is not None
        await until(reader.at_eof)
        assert await redis.run(mine) != first


async def test_a_late_reply_is_nobodys(redis_server: RedisServer) -> None:
    """A round trip that runs out of time takes its connection along: the next one gets its own reply."""
    del redis_server

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"+OK\r\n")
        number = 0
        while await reader.read(65_536):
            number += 1
            if number > 1 or asked:
                writer.write(b"$3\r\nnew\r\n")
            asked.append(number)
        writer.close()

    asked = list[int]()
    async with listening(slow) as port, wire(f"redis://127.0.0.1:{port}") as redis:
        assert await failing(redis, 0.05) == "timeout"
        assert await redis.run(GET) == "new"


async def test_who_is_cancelled_takes_its_connection_along() -> None:
    """As with a timeout."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"+OK\r\n")
        await reader.read(65_536)
        asked.set()
        while await reader.read(65_536):
            pass
        writer.close()

    async with listening(silent) as port, wire(f"redis://127.0.0.1:{port}") as redis:
        asking = asyncio.ensure_future(redis.run(GET))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert redis._idle == []


REPLIES = {
    "cut": (told(b"$10\r\nhalf", then_close=True), "connection"),
    "closed": (told(then_close=True), "connection"),
    "not redis": (told(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol"),
    "loading": (told(b"-LOADING Redis is loading the dataset in memory\r\n"), "server"),
    "full": (told(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"), "server"),
    "read only": (told(b"-READONLY You can't write against a read only replica.\r\n"), "server"),
    "no permission": (told(b"-NOPERM this user has no permissions\r\n"), "unauthorized"),
    "no auth": (told(b"-NOAUTH Authentication required.\r\n"), "unauthorized"),
    "quota": (told(b"-ERR max requests limit exceeded. Limit: 500000\r\n"), "quota"),
    "a list for a text": (told(b"*1\r\n$1\r\nx\r\n"), "protocol"),
}


@pytest.mark.parametrize("name", REPLIES)
async def test_failures_by_their_kind(name: str) -> None:
    """Each is told apart; a connection that broke is not used again."""
    talk, kind = REPLIES[name]
    async with listening(talk) as port, wire(f"redis://127.0.0.1:{port}") as redis:
        assert await failing(redis) == kind
        if kind == "connection":
            assert redis._idle == []


async def test_nobody_listens() -> None:
    """Refused: `connection`; and no time: `timeout`."""
    async with wire("redis://127.0.0.1:9") as redis:
        assert await failing(redis) == "connection"


async def test_a_host_that_cannot_be_found() -> None:
    """It is named, as over REST."""
    async with wire("redis://nowhere.invalid:6379") as redis:
        with pytest.raises(
            RedisDown, match=r"^connection: ConnectionError: the host nowhere\.invalid cannot be found$"
        ):
            await redis.run(GET)


async def test_a_server_that_says_nothing() -> None:
    """One deadline for the whole round trip, the connecting included; an answer in drops does not lengthen it."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"+")
        while await reader.read(65_536):
            pass
        writer.close()

    async with listening(silent) as port, wire(f"redis://127.0.0.1:{port}", 0.05) as redis:
        assert await failing(redis, 0.05) == "timeout"


async def test_passwords_and_users(redis_server: RedisServer) -> None:
    """AUTH with a user of an ACL; a wrong password is `unauthorized`, as is what the user may not read."""
    async with wire(redis_server.url) as admin:
        await admin.send([("ACL", "SETUSER", "app", "on", ">secret", "~tcp:*", "+get", "+client|setname", "+client")])
        try:
            host = redis_server.url.removeprefix("redis://")
            async with wire(f"redis://app:secret@{host}") as redis:
                assert await redis.send([("GET", "tcp:none")]) == [None]
                assert await failing(redis) == "unauthorized"
            async with wire(f"redis://app:wrong@{host}") as redis:
                assert await failing(redis) == "unauthorized"
        finally:
            await admin.send([("ACL", "DELUSER", "app")])


# ---------------------------------------------------------------- TLS


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own, and the same certificate as the authority that signs it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / f"{name}.pem").write_bytes(secret + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem")
    return context, pem.decode()


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    """As PEM or as a file; another authority, another name, no TLS there: `connection`."""
    context, pem = certificate(tmp_path, "localhost")
    _, other = certificate(tmp_path, "elsewhere")
    (tmp_path / "ca.pem").write_text(pem)
    async with listening(told(b"$1\r\nv\r\n"), context) as port:
        for ca in (pem, str(tmp_path / "ca.pem")):
            async with wire(f"rediss://localhost:{port}", ca=ca) as redis:
                assert await redis.run(GET) == "v"
        wrong: list[tuple[str, str | None]] = [
            (f"rediss://localhost:{port}", other),
            (f"rediss://localhost:{port}", None),
            (f"rediss://127.0.0.1:{port}", pem),
            (f"redis://localhost:{port}", pem),
        ]
        for url, given in wrong:
            async with wire(url, ca=given) as redis:
                assert await failing(redis) == "connection", url


# ---------------------------------------------------------------- settings

REST = {"KV_REST_API_URL": "http://127.0.0.1:9", "KV_REST_API_TOKEN": "t"}
URL = {"REDIS_URL": "rediss://u:hunter2@redis.example:6380/1"}


@pytest.mark.parametrize(
    ("environ", "uses"),
    [
        (REST, "Upstash"),
        (URL, "Tcp"),
        ({"REDIS_URL": f"{URL['REDIS_URL']}?ssl_cert_reqs=none&ssl_check_hostname=false"}, "Tcp"),
        ({"REDIS_URL": "redis://x/?db=1"}, "Tcp"),
        ({**REST, "REDIS_URL": "redis://x/mine?family=0"}, "Upstash"),
        ({**REST, **URL}, "Upstash"),
        ({**REST, **URL, "REDIS_TRANSPORT": "tcp"}, "Tcp"),
        ({**URL, "REDIS_ENABLED": "false"}, ""),
    ],
)
async def test_which_is_used(environ: dict[str, str], uses: str) -> None:
    """REST where both are set, unless the settings say otherwise."""
    from lib.app.wiring import build

    parts = build(Settings.from_env(environ))
    store = parts.guard.limits.redis
    assert (type(store.redis).__name__ if store else "") == uses
    assert "hunter2" not in repr(parts.settings) + repr(store.redis if store else "")
    await parts.aclose()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"REDIS_URL": "http://x"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x:0"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://["}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x:nine"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x/mine"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x/0/1"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x?family=0"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x/0?db=1&socket_timeout=5"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://x?ssl_cert_reqs=none"}, "REDIS_URL"),
        ({"REDIS_URL": "rediss://x?protocol=3"}, "REDIS_URL"),
        ({**REST, "REDIS_URL": "redis://x?family=0", "REDIS_TRANSPORT": "tcp"}, "REDIS_URL"),
        ({**REST, "REDIS_TRANSPORT": "tcp"}, "REDIS_URL"),
        ({**REST, "REDIS_TRANSPORT": "udp"}, "REDIS_TRANSPORT"),
        ({**URL, "RATELIMIT_ALGORITHM": "upstash"}, "RATELIMIT_ALGORITHM"),
        ({}, "KV_REST_API_URL"),
    ],
)
def test_what_cannot_be_used(environ: dict[str, str], named: str) -> None:
    """A line that names the variable, without its value."""
    with pytest.raises(BadSettings) as refused:
        Settings.from_env(environ)
    assert [fault.partition(":")[0] for fault in refused.value.faults] == [named]


async def test_what_is_not_billed(redis_server: RedisServer) -> None:
    """With `REDIS_BILLED=false` no command counts against the month, and round trips still show."""
    from lib.app.wiring import build

    # The first round trip asks for the store's time as well.
    for billed, commands in (("true", 2), ("false", 0)):
        parts = build(Settings.from_env({"REDIS_URL": redis_server.url, "REDIS_BILLED": billed}))
        store = parts.guard.limits.redis
        assert store is not None
        await store.redis.run(GET, 10)
        totals = next(iter(parts.ledger._pending.totals.values()))
        assert (totals["redis_commands",], totals["redis_round_trips",]) == (commands, 1)
        await parts.aclose()
