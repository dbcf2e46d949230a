"""Supabase's REST interface for functions, over a real PostgreSQL: what PostgREST and the gateway before it do.

    POST /rest/v1/rpc/{function}              call a function of the schema public with named arguments
    GET  /rest/v1/{table}                     rows of a table (`select`, `order`, `limit`, `{column}=eq.{value}`)
    GET  /rest/v1/                            is it there
    GET  /auth/v1/.well-known/jwks.json       the keys that sign the project's access tokens

Everything that protects the data is PostgreSQL's own: the request runs in a transaction as the role that its token
names, on a connection of the role `authenticator`. Other filters and `GET` calls of functions are not spoken. Status
codes and error bodies follow PostgREST 13 (https://docs.postgrest.org/en/v13/references/errors.html) and Supabase's
gateway.
"""

import asyncio
import contextlib
import hmac
import json
import select
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, LiteralString, NoReturn, Self

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from psycopg import sql
from psycopg.rows import tuple_row
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dev.faults import Faults, with_faults
from dev.postgres import authenticator_uri

_CONNECTIONS: Final = 20
_CONNECT_S: Final = 2
_ACQUIRE_S: Final = 10.0  # PostgREST's db-pool-acquisition-timeout

_FIND: Final = """
select p.proretset,
       p.prorettype = 'void'::regtype,
       coalesce(p.proargnames, '{}')::text[],
       array(select format_type(a.type, null)
               from unnest(p.proargtypes::oid[]) with ordinality as a(type, position)
              order by a.position),
       p.pronargdefaults
  from pg_proc as p
 where p.pronamespace = 'public'::regnamespace
   and p.proname = %s
   and p.prokind = 'f'
"""

# By SQLSTATE, or by its class; what is not here is the caller's fault: 400.
_STATUS: Final = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "57P01": 503,
    "P0001": 400,
    **dict.fromkeys(("08", "53"), 503),
    **dict.fromkeys(("0L", "0P", "28"), 403),
    **dict.fromkeys(("09", "25", "2D", "38", "39", "3B", "40", "54", "55", "57", "58", "F0", "HV", "P0", "XX"), 500),
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A project's ES256 key: signs access tokens here, and is published without its private half."""

    kid: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls, kid: str = "local") -> Self:
        """A new key."""
        return cls(kid, ec.generate_private_key(ec.SECP256R1()))

    def jwk(self) -> dict[str, Any]:
        """The public half as an entry of a JWKS."""
        public = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": "ES256", "use": "sig", "key_ops": ["verify"]}


def sign_user_token(
    sub: str,
    key: str | SigningKey,
    *,
    role: str = "authenticated",
    issued_at: int | None = None,
    lifetime_s: int = 3600,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """An access token as Supabase Auth issues them: HS256 with a project's shared secret, or ES256 with a `SigningKey`.

    `issued_at` is in seconds since 1970, now unless given. `claims` are added, or replace those made here.
    """
    issued_at = int(time.time()) if issued_at is None else issued_at
    content = {
        "sub": sub,
        "role": role,
        "aud": "authenticated",
        "iat": issued_at,
        "exp": issued_at + lifetime_s,
        **(claims or {}),
    }
    if isinstance(key, str):
        return jwt.encode(content, key, algorithm="HS256")
    return jwt.encode(content, key.private, algorithm="ES256", headers={"kid": key.kid})


def supabase_app(
    postgres_uri: str,
    *,
    service_key: str,
    anon_key: str,
    jwt_secret: str,
    faults: Faults | None = None,
    signing_keys: Sequence[SigningKey] = (),
) -> ASGIApp:
    """The stand-in as an ASGI app, with the control routes of `dev.faults`.

    `service_key` and `anon_key` are the project's API keys, opaque (`sb_secret_...`) or tokens. Access tokens verify
    with `jwt_secret` (HS256, at least 32 bytes) or with one of `signing_keys` (ES256), by default one that nobody can
    sign with. Connections are made when needed, in the event loop of the requests, and closed with the app's lifespan.
    """
    keys = _Keys(service_key, anon_key, jwt_secret, signing_keys or (SigningKey.generate(),))
    rest = _Rest(authenticator_uri(postgres_uri), keys)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await rest.connections.close()

    app = Starlette(
        routes=[
            Route("/rest/v1/", rest.root, methods=["GET"]),
            Route("/rest/v1/rpc/{function}", rest.call, methods=["POST"]),
            Route("/rest/v1/{table}", rest.read, methods=["GET"]),
            Route("/auth/v1/.well-known/jwks.json", keys.publish, methods=["GET"]),
        ],
        lifespan=lifespan,
        exception_handlers={_Refused: _answer_refused, HTTPException: _answer_unrouted},
    )
    return with_faults(
        app,
        faults or Faults(),
        error_body,
        stats=lambda: {"rpc_calls": dict(rest.calls)},
        reset_stats=rest.calls.clear,
    )


def error_body(status: int) -> dict[str, str | None]:
    """What a failing REST interface says with a status, where nothing more is known."""
    code = {401: "PGRST301", 403: "42501", 404: "PGRST202", 503: "PGRST001", 504: "PGRST003"}.get(status, "XX000")
    return {"code": code, "details": None, "hint": None, "message": HTTPStatus(status).phrase}


class _Refused(Exception):
    """A request that ends with an error of PostgREST's, PostgreSQL's or the gateway's."""

    def __init__(self, status: int, body: Mapping[str, str | None], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body["message"])
        self.status = status
        self.body = body
        self.headers = headers


def _refusal(
    status: int,
    code: str,
    message: str,
    *,
    details: str | None = None,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> _Refused:
    return _Refused(status, {"code": code, "details": details, "hint": hint, "message": message}, headers)


def _answer_refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, _Refused)  # noqa: S101 - Starlette's type for handlers is wider than what it calls them with
    return JSONResponse(refused.body, refused.status, refused.headers)


def _answer_unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - see above
    if error.status_code == 405:
        message, code = f"Cannot use the {request.method} method on RPC", "PGRST101"
    else:
        message, code = "Invalid path specified in request URL", "PGRST125"
    body = {"code": code, "details": None, "hint": None, "message": message}
    return JSONResponse(body, error.status_code, error.headers)


class _Keys:
    """Who calls: the gateway's check of the API key, then PostgREST's of the bearer token."""

    def __init__(self, service_key: str, anon_key: str, jwt_secret: str, signing_keys: Sequence[SigningKey]) -> None:
        self._roles = {service_key: "service_role", anon_key: "anon"}
        self._jwt_secret = jwt_secret
        self._signing_keys = signing_keys

    async def publish(self, _: Request) -> Response:
        """The JWKS."""
        return JSONResponse({"keys": [key.jwk() for key in self._signing_keys]})

    def claims(self, request: Request) -> dict[str, Any]:
        """The caller's claims, of which `role` is always one.

        Raises `_Refused` (401) for a missing or unknown API key and for a token that does not verify.
        """
        api_key = request.headers.get("apikey") or request.query_params.get("apikey")
        if not api_key:
            raise _Refused(
                401,
                {
                    "message": "No API key found in request",
                    "hint": "No `apikey` request header or url param was found.",
                },
            )
        if not (key_role := self._role_of_key(api_key)):
            raise _Refused(
                401,
                {
                    "message": "Invalid API key",
                    "hint": "Double check your Supabase `anon` or `service_role` API key.",
                },
            )
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return {"role": key_role}
        # A key that is no token (sb_secret_...) may pass the gateway here, but PostgREST takes it for a broken token.
        if (role := self._role_of_key(bearer)) and bearer.count(".") == 2:
            return {"role": role}
        claims = self._verify(bearer)
        return {**claims, "role": claims.get("role", "anon")}

    def _role_of_key(self, given: str) -> str | None:
        for key, role in self._roles.items():
            if hmac.compare_digest(key.encode(), given.encode()):
                return role
        return None

    def _verify(self, token: str) -> dict[str, Any]:
        if (parts := token.count(".") + 1) != 3:
            _refuse_token("PGRST301", f"Expected 3 parts in JWT; got {parts}")
        try:
            header = jwt.get_unverified_header(token)
            key: str | ec.EllipticCurvePublicKey
            match header:
                case {"alg": "HS256"}:
                    key = self._jwt_secret
                case {"alg": "ES256", "kid": kid}:
                    key = next(k.private.public_key() for k in self._signing_keys if k.kid == kid)
                case _:
                    _refuse_token("PGRST301", "No suitable key or wrong key type")
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[header["alg"]], options={"verify_aud": False, "verify_iat": False}
            )
        except StopIteration:
            _refuse_token("PGRST301", "No suitable key or wrong key type")
        except jwt.ExpiredSignatureError:
            _refuse_token("PGRST303", "JWT expired")
        except jwt.ImmatureSignatureError:
            _refuse_token("PGRST303", "JWT not yet valid")
        except jwt.InvalidSignatureError:
            _refuse_token("PGRST301", "JWSError JWSInvalidSignature")
        except jwt.InvalidTokenError as error:
            _refuse_token("PGRST301", f"JWSError {error}")
        return claims


def _refuse_token(code: str, message: str) -> NoReturn:
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    raise _refusal(401, code, message, headers={"WWW-Authenticate": challenge}) from None


class _Connections:
    """At most 20 connections, reused.

    Not psycopg's pool: when the database is gone, that one retries in the background while callers wait for their
    timeout, and goes on waiting for a while after the database is back. The database behind this stand-in is there to
    be killed and restarted, and both must show at once.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._idle: list[psycopg.AsyncConnection[tuple[Any, ...]]] = []
        self._room = asyncio.Semaphore(_CONNECTIONS)

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """A connection for one request.

        Raises `_Refused`: 503 if the database cannot be reached, 504 if no connection becomes free.
        """
        try:
            await asyncio.wait_for(self._room.acquire(), _ACQUIRE_S)
        except TimeoutError:
            raise _refusal(504, "PGRST003", "Timed out acquiring connection from connection pool.") from None
        try:
            connection = await self._take()
            try:
                yield connection
            finally:
                await self._give(connection)
        finally:
            self._room.release()

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        while self._idle:
            connection = self._idle.pop()
            if not _readable(connection.fileno()):
                return connection
            # It was sent nothing, so what it sends can only be that the server is stopping, or the end of the stream.
            await connection.close()
        try:
            return await psycopg.AsyncConnection.connect(
                self._uri, autocommit=True, row_factory=tuple_row, connect_timeout=_CONNECT_S
            )
        except psycopg.OperationalError as error:
            raise _refusal(
                503, "PGRST000", "Database connection error. Retrying the connection.", details=str(error)
            ) from error

    async def _give(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self._idle.append(connection)
        else:  # lost, or left within a transaction by a cancelled request
            await connection.close()


class _Rest:
    """The endpoints under `/rest/v1`."""

    def __init__(self, uri: str, keys: _Keys) -> None:
        self.connections = _Connections(uri)
        self.calls: Counter[str] = Counter()
        self._keys = keys

    async def root(self, request: Request) -> Response:
        """Answers whoever has a key."""
        self._keys.claims(request)
        return JSONResponse({"swagger": "2.0", "info": {"title": "Breakwater's local stand-in for Supabase"}})

    async def call(self, request: Request) -> Response:
        """One function call, one transaction."""
        claims = self._keys.claims(request)
        name: str = request.path_params["function"]
        body, arguments = _parse(await request.body())
        self.calls[name] += 1
        async with self.connections.one() as connection:
            try:
                async with connection.transaction():
                    return await _run(connection, claims, name, body, arguments)
            except psycopg.Error as error:
                raise _translated(error, anonymous=claims["role"] == "anon") from error

    async def read(self, request: Request) -> Response:
        """Rows of a table, in one transaction."""
        claims = self._keys.claims(request)
        table: str = request.path_params["table"]
        query = _select(table, request.query_params.multi_items())
        self.calls[table] += 1
        async with self.connections.one() as connection:
            try:
                async with connection.transaction():
                    await _become(connection, claims)
                    row = await (await connection.execute(*query)).fetchone()
            except psycopg.errors.UndefinedTable as error:
                message = f"Could not find the table 'public.{table}' in the schema cache"
                raise _refusal(404, "PGRST205", message) from error
            except psycopg.Error as error:
                raise _translated(error, anonymous=claims["role"] == "anon") from error
        return Response(row[0] if row else "[]", media_type="application/json; charset=utf-8")


def _select(table: str, given: Sequence[tuple[str, str]]) -> tuple[sql.Composed, list[str]]:
    """The statement for a read, and its values; raises `_Refused` (400) for what is not spoken here."""
    columns: sql.Composable = sql.SQL("*")
    order: sql.Composable = sql.SQL("")
    limit: sql.Composable = sql.SQL("")
    conditions, values = list[sql.Composed](), list[str]()
    for name, text in given:
        match name, text.partition("."):
            case "select", _:
                names = [] if text == "*" else text.split(",")
                columns = sql.SQL(", ").join(map(sql.Identifier, names)) if names else columns
            case "order", (column, _, "asc" | "desc" as way):
                order = sql.SQL(" order by {} {}").format(sql.Identifier(column), sql.SQL(way))
            case "limit", (number, "", ""):
                limit = sql.SQL(" limit {}").format(sql.Literal(int(number)))
            case _, ("eq", ".", value):
                conditions.append(sql.SQL("{} = %s").format(sql.Identifier(name)))
                values.append(value)
            case _:
                raise _refusal(400, "PGRST100", f'"failed to parse filter ({text})" (line 1, column 1)')
    where = sql.SQL(" where ") + sql.SQL(" and ").join(conditions) if conditions else sql.SQL("")
    rows = sql.SQL("select {} from {}{}{}{}").format(columns, sql.Identifier("public", table), where, order, limit)
    return sql.SQL("select coalesce(json_agg(r), '[]')::text from ({}) as r").format(rows), values


async def _become(connection: psycopg.AsyncConnection[tuple[Any, ...]], claims: Mapping[str, Any]) -> None:
    """Be the role that the caller's token names, for this transaction."""
    await connection.execute(
        "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
        (str(claims["role"]), json.dumps(claims)),
    )


async def _run(
    connection: psycopg.AsyncConnection[tuple[Any, ...]],
    claims: Mapping[str, Any],
    name: str,
    body: str,
    arguments: frozenset[str],
) -> Response:
    await _become(connection, claims)
    function = await _find(connection, name, arguments)
    given = sorted(arguments)
    query = sql.SQL(
        "select ({result})::text from json_to_record(%s::json) as a({columns}), lateral {function}({arguments}) as r"
    ).format(
        result=sql.SQL(function.result),
        # A record has at least one column, a call may have no argument.
        columns=sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(key), sql.SQL(function.types.get(key, "text")))
            for key in given or ["-"]
        ),
        function=sql.Identifier("public", name),
        arguments=sql.SQL(", ").join(sql.SQL("{0} => a.{0}").format(sql.Identifier(key)) for key in given),
    )
    row = await (await connection.execute(query, (body,))).fetchone()
    if function.result == "null":
        return Response(status_code=204)
    return Response(row[0] if row and row[0] is not None else "null", media_type="application/json; charset=utf-8")


@dataclass(frozen=True, slots=True)
class _Function:
    result: LiteralString
    """How its result `r` becomes JSON; `null` for none."""
    types: Mapping[str, LiteralString]
    """Arguments and their types, in PostgreSQL's own spelling, which is why they may stand in a statement."""


async def _find(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], name: str, arguments: frozenset[str]
) -> _Function:
    """The function of this name that takes these arguments; raises `_Refused` (404) if none does."""
    cursor = await connection.execute(_FIND, (name,))
    for is_set, is_void, names, types, defaults in await cursor.fetchall():
        taken = dict(zip(names[: len(types)], types, strict=True))
        required = names[: len(types) - defaults]
        if arguments.issubset(taken) and arguments.issuperset(required):
            return _Function("coalesce(json_agg(r), '[]')" if is_set else "null" if is_void else "to_json(r)", taken)
    listed = ", ".join(sorted(arguments))
    raise _refusal(
        404,
        "PGRST202",
        f"Could not find the function public.{name}({listed}) in the schema cache",
        details=f"Searched for the function public.{name} with parameters {listed or '(none)'}.",
    )


def _parse(body: bytes) -> tuple[str, frozenset[str]]:
    """The body as text, and the names of the arguments in it; PostgreSQL converts the values."""
    try:
        text = body.decode() or "{}"
        arguments = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        raise _refusal(400, "PGRST102", "Empty or invalid json") from None
    if not isinstance(arguments, dict):
        raise _refusal(400, "PGRST102", "The arguments of a function are a JSON object")
    return text, frozenset(arguments)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is Python's, not JSON")


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _translated(error: psycopg.Error, *, anonymous: bool) -> _Refused:
    """A database error as PostgREST sends it."""
    code = error.sqlstate
    if code is None:  # not the server's word but the client library's: the connection was lost
        return _refusal(503, "PGRST001", "Database client error. Retrying the connection.", details=str(error))
    message = error.diag.message_primary or str(error)
    return _refusal(
        _status(code, message, anonymous=anonymous),
        code,
        message,
        details=error.diag.message_detail,
        hint=error.diag.message_hint,
    )


def _status(code: str, message: str, *, anonymous: bool) -> int:
    if code == "42501":  # a privilege is missing: who has not signed in may get it by doing so
        return 401 if anonymous else 403
    if code == "22023" and message.startswith("role ") and message.endswith(" does not exist"):
        return 401
    return _STATUS.get(code) or _STATUS.get(code[:2], 400)
