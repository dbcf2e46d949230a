"""A server that speaks Upstash's REST protocol over a Redis of one's own: what the functions talk to on this machine.

The protocol (https://upstash.com/docs/redis/features/restapi):

    POST /              ["SET", "k", "v"]           -> {"result": ...}, or {"error": "..."} with 400
    GET  /set/k/v       the command in the path; a POST or PUT body is one more argument, the query the last ones
    POST /pipeline      [["SET", ...], ["GET", ...]] -> [{"result": ...}, {"error": "..."}], in order, not atomic
    POST /multi-exec    likewise, atomic; {"error": "..."} with 400 when nothing was executed

`Authorization: Bearer <token>` or `?_token=<token>`. With `Upstash-Encoding: base64` every string of a result but a
plain `OK` is base64.

What is different from the service, on purpose or for want of knowledge:

- Redis answers, so the dialect is that of the Redis in use (see `dev.redis_server`), without Upstash's own additions.
- Commands that change the state of a connection, block it, or end the server are refused: connections are shared.
  `SUBSCRIBE` and `MONITOR`, which Upstash answers with server-sent events, are among them.
- Billing follows the published rules (one per command; see `FREE` for the exceptions). Not published, and read here to
  the caller's disadvantage: a command that fails costs as much as one that succeeds, a script costs one for itself and
  one for each command that it runs. Not billed: MULTI and EXEC around a transaction, and one that was not executed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic_core import from_json, to_json
from redis.asyncio import Connection, ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from starlette.types import ASGIApp, Receive, Scope, Send

from dev.faults import FAULT, Faults, read_body, respond, with_faults

type Args = list[bytes]
type Query = list[tuple[bytes, bytes]]
type Reply = bytes | int | list[Reply] | Exception | None

FREE: Final = frozenset({"auth", "hello", "select", "command", "config", "info", "ping", "reset", "quit"})
"""What Upstash does not bill."""

_MAX_CONNECTIONS: Final = 64
_REDIS_TIMEOUT_S: Final = 10.0
_MAX_ALIASES: Final = 1000
_UNAUTHORIZED: Final = "WRONGPASS invalid or missing auth token"

_SCRIPTS: Final = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"})
_SHEBANG: Final = re.compile(rb"\A#!lua[^\n]*")

# fmt: off
_UNAVAILABLE: Final = frozenset({
    "multi", "exec", "discard", "watch", "unwatch",
    "auth", "hello", "select", "reset", "quit", "client", "readonly", "readwrite", "asking",
    "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "monitor", "sync", "psync",
    "blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "wait", "waitaof",
    "shutdown", "replicaof", "slaveof", "failover", "cluster", "module", "acl", "save", "bgsave", "bgrewriteaof",
})

# A list of what may be read, not of what may not be written: a command unknown here is refused.
_READS: Final = frozenset({
    "bitcount", "bitfield_ro", "bitpos", "dbsize", "dump", "echo", "exists", "expiretime", "geodist", "geohash",
    "geopos", "georadius_ro", "georadiusbymember_ro", "geosearch", "get", "getbit", "getrange", "hexists", "hget",
    "hgetall", "hkeys", "hlen", "hmget", "hrandfield", "hscan", "hstrlen", "hvals", "info", "keys", "lindex",
    "llen", "lpos", "lrange", "mget", "object", "pexpiretime", "pfcount", "ping", "pttl", "randomkey", "scan",
    "scard", "sdiff", "sinter", "sintercard", "sismember", "smembers", "smismember", "srandmember", "sscan",
    "strlen", "substr", "sunion", "time", "touch", "ttl", "type", "xinfo", "xlen", "xpending", "xrange", "xread",
    "xrevrange", "zcard", "zcount", "zdiff", "zinter", "zintercard", "zlexcount", "zmscore", "zrandmember",
    "zrange", "zrangebylex", "zrangebyscore", "zrank", "zrevrange", "zrevrangebylex", "zrevrangebyscore",
    "zrevrank", "zscan", "zscore", "zunion",
})
# fmt: on


def upstash_app(
    redis_url: str, token: str, *, read_only_token: str | None = None, faults: Faults | None = None
) -> ASGIApp:
    """The ASGI app that stands in for an Upstash database.

    `GET /_control/stats` adds `billed_commands` and `commands` (billed ones by lower-case name) to `http_requests`.
    Redis being away is `{"error": ...}` with 500; the next request after its return is served. Connections are closed
    when the lifespan ends.
    """
    database = _Database(redis_url)
    front = _Front(database, token, read_only_token)
    return with_faults(
        front, faults or Faults(), error_body, stats=database.bill.as_stats, reset_stats=database.bill.clear
    )


def error_body(status: int) -> dict[str, str]:
    """The JSON of an error with this status, as Upstash words it where that is known."""
    words = {
        401: _UNAUTHORIZED,
        429: "ERR max requests limit exceeded. Limit: 500000, Usage: 500000.",
    }
    return {"error": words.get(status, f"ERR injected failure with status {status}")}


class _Malformed(Exception):
    """The request cannot be understood; the message is the error to answer with 400."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A command on its way to Redis, or `refused` with the error that stands in its place."""

    name: str
    args: Args
    refused: str | None = None
    loads: bytes | None = None
    """SCRIPT LOAD of a changed script: the digest that the caller knows it by."""


class _Bill:
    """What Upstash would charge for."""

    def __init__(self) -> None:
        self._commands: Counter[str] = Counter()

    def charge(self, name: str, times: int = 1) -> None:
        if name not in FREE:
            self._commands[name] += times

    def clear(self) -> None:
        self._commands.clear()

    def as_stats(self) -> Mapping[str, object]:
        return {"billed_commands": self._commands.total(), "commands": dict(self._commands)}


class _Database:
    """Commands in, replies out: one write and one read phase on one connection per HTTP request.

    **Counting what a script runs inside.** Redis knows (`INFO commandstats`), but its counters are the server's, so a
    difference taken around EVAL would bill what others did meanwhile. Hence `MULTI, INFO, EVAL, INFO, EXEC`: nothing
    can run between the two INFOs but the script, whatever else goes on. It costs two short INFOs, no round trip, and
    applies to scripts only. A server without INFO (fakeredis) bills a script as one command.
    """

    def __init__(self, redis_url: str) -> None:
        self.bill = _Bill()
        # Raw bytes, nothing sent on connecting, and never a second attempt: a lost reply must look like one.
        self._pool = ConnectionPool.from_url(
            redis_url,
            max_connections=_MAX_CONNECTIONS,
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
        )
        self._slots = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._sees_into_scripts: bool | None = None

    async def close(self) -> None:
        await self._pool.aclose()

    async def pipeline(self, calls: Sequence[_Call]) -> list[Reply]:
        """The reply or error of each command, in order; other clients' commands may come in between."""
        counted = await self._counts(calls)
        wire: list[Args] = []
        for call in calls:
            if call.refused is None:
                wire += [_MULTI, _INFO, call.args, _INFO, _EXEC] if counted and call.name in _SCRIPTS else [call.args]
        replies = iter(await self._exchange(wire))
        return [self._read(call, replies, counted) for call in calls]

    async def transaction(self, calls: Sequence[_Call]) -> list[Reply] | Exception:
        """The replies of all commands, executed as one; an error when none was executed."""
        refused = next((call.refused for call in calls if call.refused), None)
        if refused:
            return ResponseError(f"EXECABORT Transaction discarded because of: {refused}")
        counted = await self._counts(calls)
        wire: list[Args] = []
        for call in calls:
            wire += [_INFO, call.args, _INFO] if counted and call.name in _SCRIPTS else [call.args]
        *_, outcome = await self._exchange([_MULTI, *wire, _EXEC])
        if not isinstance(outcome, list):
            return outcome if isinstance(outcome, Exception) else ResponseError("EXECABORT Transaction discarded.")
        replies = iter(outcome)
        return [self._settle(call, replies, counted=counted) for call in calls]

    def _read(self, call: _Call, replies: Iterator[Reply], counted: bool) -> Reply:
        if call.refused is not None:
            return ResponseError(call.refused)
        if not counted or call.name not in _SCRIPTS:
            return self._settle(call, replies, counted=False)
        _, _, queued, _, outcome = itertools.islice(replies, 5)
        if isinstance(outcome, list):
            return self._settle(call, iter(outcome), counted=True)
        # The script's own line was refused (a wrong number of arguments); why is said there, not in EXEC's error.
        self.bill.charge(call.name)
        return queued

    def _settle(self, call: _Call, replies: Iterator[Reply], *, counted: bool) -> Reply:
        """Take a command's reply off `replies`, and bill it."""
        if counted and call.name in _SCRIPTS:
            before, reply, after = next(replies), next(replies), next(replies)
            inside = _calls(after) - _calls(before) - Counter({"info": 1, call.name: 1})
            for name, times in inside.items():
                self.bill.charge(name, times)
        else:
            reply = next(replies)
        self.bill.charge(call.name)
        return call.loads if call.loads is not None and isinstance(reply, bytes) else reply

    async def _counts(self, calls: Sequence[_Call]) -> bool:
        if not any(call.name in _SCRIPTS for call in calls):
            return False
        if self._sees_into_scripts is None:
            (reply,) = await self._exchange([_INFO])
            self._sees_into_scripts = isinstance(reply, bytes)
        return self._sees_into_scripts

    async def _exchange(self, wire: Sequence[Args]) -> list[Reply]:
        if not wire:
            return []
        async with self._slots:
            connection: Connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.send_packed_command(b"".join(map(_packed, wire)), check_health=False)
                return [await _reply(connection) for _ in wire]
            except BaseException:
                # Whatever the reason, replies may be on their way still; nobody else may read them as theirs. Idle
                # connections go too: if Redis died, they are dead, and would fail one request each after its return.
                await connection.disconnect(nowait=True)
                await self._pool.disconnect(inuse_connections=False)
                raise
            finally:
                await self._pool.release(connection)


class _Front:
    """HTTP in, HTTP out: tokens, shapes and encodings."""

    def __init__(self, database: _Database, token: str, read_only_token: str | None) -> None:
        self._database = database
        self._tokens = [(token.encode(), False)]
        if read_only_token is not None:
            self._tokens.append((read_only_token.encode(), True))
        self._aliases: dict[bytes, bytes] = {}
        self._sync = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        headers = dict(scope["headers"])
        status, answer = await self._answer(scope, headers, body)
        # Reads see earlier writes here in any case, one Redis that it is; any value does.
        await respond(send, status, to_json(answer), headers=((b"upstash-sync-token", b"%d" % next(self._sync)),))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._database.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes) -> tuple[int, object]:
        query = parse_qsl(scope["query_string"], keep_blank_values=True)
        reads_only = self._authorise(headers, query)
        if reads_only is None:
            return 401, {"error": _UNAUTHORIZED}
        if scope["method"] not in {"GET", "HEAD", "POST", "PUT"}:
            return 405, {"error": f"ERR method {scope['method']} is not allowed"}
        try:
            return await self._execute(scope, headers, query, body, reads_only)
        except _Malformed as malformed:
            return 400, {"error": str(malformed)}
        except (RedisConnectionError, RedisTimeoutError, OSError) as away:
            return 500, {"error": f"ERR the database cannot be reached: {away}"}

    async def _execute(
        self, scope: Scope, headers: Mapping[bytes, bytes], query: Query, body: bytes, reads_only: bool
    ) -> tuple[int, object]:
        base64 = headers.get(b"upstash-encoding", b"").lower() == b"base64"
        match scope["path"].rstrip("/"):
            case "/pipeline":
                calls = [self._call(args, reads_only) for args in _many(body)]
                if scope.get("extensions", {}).get(FAULT) == "one_failed":
                    calls[0] = _Call(calls[0].name, [], refused="ERR injected failure of one command")
                return 200, [_item(reply, base64) for reply in await self._database.pipeline(calls)]
            case "/multi-exec":
                outcome = await self._database.transaction([self._call(args, reads_only) for args in _many(body)])
                if isinstance(outcome, Exception):
                    return 400, _item(outcome, base64)
                return 200, [_item(reply, base64) for reply in outcome]
            case path:
                args = _from_path(scope, query, body) if path else _one(body)
                (reply,) = await self._database.pipeline([self._call(args, reads_only)])
                return 400 if isinstance(reply, Exception) else 200, _item(reply, base64)

    def _authorise(self, headers: Mapping[bytes, bytes], query: Query) -> bool | None:
        """Whether the caller's token is the read-only one, None when it is none of ours."""
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = dict(query).get(b"_token", b"")
        return next((reads for token, reads in self._tokens if hmac.compare_digest(given.strip(), token)), None)

    def _call(self, args: Args, reads_only: bool) -> _Call:
        name = args[0].decode("utf-8", "replace").lower()
        if name in _UNAVAILABLE:
            return _Call(name, args, refused=f"ERR Command is not available: '{name.upper()}'.")
        if reads_only and name not in _READS:
            message = f"NOPERM this user has no permissions to run the '{name}' command or its subcommand"
            return _Call(name, args, refused=message)
        return self._script(name, args)

    def _script(self, name: str, args: Args) -> _Call:
        """Make scripts written for Upstash run on a plain Redis.

        Upstash locks the whole database for a script unless its first line is `#!lua flags=allow-key-locking`. No Redis
        knows that flag: 7 refuses it, 6 cannot compile the line at all. The line goes, its newline stays, so that line
        numbers in errors remain right. Clients compute the digest for EVALSHA over the script as they wrote it, so the
        two digests are remembered.
        """
        if name in {"eval", "eval_ro"} and len(args) > 1:
            return _Call(name, [args[0], self._plain(args[1]), *args[2:]])
        if name in {"evalsha", "evalsha_ro"} and len(args) > 1:
            return _Call(name, [args[0], self._aliases.get(args[1].lower(), args[1]), *args[2:]])
        match name, args[1:2], args[2:]:
            case "script", [verb], [script] if verb.lower() == b"load":
                plain = self._plain(script)
                return _Call(name, [*args[:2], plain], loads=_digest(script) if plain != script else None)
            case "script", [verb], digests if verb.lower() == b"exists":
                return _Call(name, [*args[:2], *(self._aliases.get(digest.lower(), digest) for digest in digests)])
        return _Call(name, args)

    def _plain(self, script: bytes) -> bytes:
        line = _SHEBANG.match(script)
        if line is None or b"allow-key-locking" not in line.group():
            return script
        plain = script[line.end() :]
        if len(self._aliases) >= _MAX_ALIASES:
            del self._aliases[next(iter(self._aliases))]
        self._aliases[_digest(script)] = _digest(plain)
        return plain


_MULTI: Final[Args] = [b"MULTI"]
_EXEC: Final[Args] = [b"EXEC"]
_INFO: Final[Args] = [b"INFO", b"commandstats"]


def _digest(script: bytes) -> bytes:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()


def _calls(commandstats: Reply) -> Counter[str]:
    """`INFO commandstats` as calls by lower-case command; Redis 7 counts subcommands apart, a bill does not."""
    found: Counter[str] = Counter()
    if isinstance(commandstats, bytes):
        for name, calls in re.findall(rb"^cmdstat_([^:|]+)[^:]*:calls=(\d+)", commandstats, re.MULTILINE):
            found[name.decode().lower()] += int(calls)
    return found


def _packed(args: Args) -> bytes:
    """A command as RESP. redis-py's own packing splits a command's name at spaces, and so changes the command."""
    return b"*%d\r\n%b" % (len(args), b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]))


async def _reply(connection: Connection) -> Reply:
    """The next reply, an error reply as a value."""
    try:
        reply: Reply = await connection.read_response()
    except ResponseError as error:
        return error
    return reply


def _item(reply: Reply, base64: bool) -> dict[str, object]:
    if isinstance(reply, Exception):
        return {"error": _message(reply)}
    return {"result": _result(reply, base64)}


def _message(error: Exception) -> str:
    """An error as Redis said it; redis-py takes the code off the text and keeps it aside."""
    code = error.status_code if isinstance(error, RedisError) else None
    return f"{code} {error}" if code else str(error)


def _result(reply: Reply, base64: bool) -> object:
    if isinstance(reply, list):
        return [_result(element, base64) for element in reply]
    if isinstance(reply, Exception):
        return _message(reply)
    if not isinstance(reply, bytes):
        return reply
    # A stored "OK" and the status cannot be told apart here. Callers need not: base64 is never two characters long.
    if base64 and reply != b"OK":
        return b64encode(reply).decode("ascii")
    return reply.decode("utf-8", "replace")


def _many(body: bytes) -> list[Args]:
    commands = _json(body)
    if not isinstance(commands, list) or not commands:
        raise _Malformed("ERR failed to parse pipeline request: expected a non-empty array of commands")
    return [_command(command) for command in commands]


def _one(body: bytes) -> Args:
    return _command(_json(body))


def _from_path(scope: Scope, query: Query, body: bytes) -> Args:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    args = [unquote_to_bytes(segment) for segment in raw.strip(b"/").split(b"/")]
    if body and scope["method"] in {"POST", "PUT"}:
        args.append(body)
    for name, value in query:
        if name != b"_token":
            args += [name, value] if value else [name]
    return args


def _json(body: bytes) -> object:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _Malformed(f"ERR failed to parse JSON request: {error}") from error


def _command(command: object) -> Args:
    if not isinstance(command, list) or not command or not isinstance(command[0], str) or not command[0]:
        raise _Malformed("ERR failed to parse command: expected an array that begins with the command's name")
    return [_argument(value) for value in command]


def _argument(value: object) -> bytes:
    """A JSON value as a Redis argument: strings as they are, everything else as its JSON text."""
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
