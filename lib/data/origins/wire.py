"""A JSON reply over HTTP, within a size and a time, and what went wrong where there is none."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...redis.keys import MOST_BYTES
from ..body import Body, parsed
from .port import OriginFailed
from .sqlstate import failure

if TYPE_CHECKING:
    import httpx


async def json_of(
    client: "httpx.AsyncClient",
    method: str,
    url: str,
    left_s: float,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    secret: bool = False,
    absent: Sequence[int] = (),
    sql: bool = False,
) -> Body:
    """The JSON that an address sends. Raises OriginFailed.

    ``secret``: we sent one, so that a refusal of it is ours. ``absent``: the statuses that say that nothing is there.
    ``sql``: a failure's body has PostgreSQL's own code, which says more than the status.
    """
    import httpx

    try:
        given = {"accept": "application/json", **(headers or {})}
        async with client.stream(method, url, headers=given, params=query, json=body, timeout=left_s) as reply:
            if reply.status_code in absent:
                return Body.of(None)
            if sql and reply.status_code >= 400:
                _look_at_state(reply.status_code, await _content(reply))
            _look_at(reply.status_code, secret=secret)
            content = await _content(reply)
    except (httpx.ConnectError, httpx.ConnectTimeout) as e:
        raise OriginFailed("connection", type(e).__name__, sent=False) from e
    except httpx.TimeoutException as e:
        raise OriginFailed("timeout", type(e).__name__) from e
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise OriginFailed("connection", type(e).__name__) from e
    try:
        return Body.sent(content, parsed(content))
    except ValueError as e:
        raise OriginFailed("protocol", "the reply is not JSON in UTF-8") from e


def _look_at(status: int, *, secret: bool) -> None:
    """Raise OriginFailed for what is no success."""
    if 200 <= status < 300:
        return
    if status in (401, 403):
        raise OriginFailed("unauthorized", f"HTTP {status}", "ours" if secret else "caller")
    if status == 404:
        raise OriginFailed("missing", "HTTP 404", "ours")
    if status == 429:
        raise OriginFailed("throttled", "HTTP 429")
    if 400 <= status < 500 and status != 408:
        raise OriginFailed("rejected", f"HTTP {status}", "caller")
    # A redirect, too: it is not followed, for it could lead anywhere.
    raise OriginFailed("server", f"HTTP {status}")


def _look_at_state(status: int, content: bytes) -> None:
    """Raise OriginFailed for a code of PostgreSQL's, which says more than the status; PostgREST's own are longer."""
    try:
        told = parsed(content)
    except ValueError:
        return
    state = told.get("code") if isinstance(told, dict) else None
    # With 401 it is about the secret. A function that raises 'PT422' chooses the status itself.
    if status != 401 and isinstance(state, str) and len(state) == 5 and not state.startswith("PT"):
        raise failure(state)


async def is_there(
    client: "httpx.AsyncClient", url: str, left_s: float, headers: Mapping[str, str] | None = None
) -> None:
    """Ask whether an address answers: ``HEAD``. Raises OriginFailed unless it does, and does not fail itself."""
    import httpx

    try:
        reply = await client.head(url, headers=headers, timeout=left_s)
    except httpx.ConnectError as e:
        raise OriginFailed("connection", type(e).__name__, sent=False) from e
    except httpx.TimeoutException as e:
        raise OriginFailed("timeout", type(e).__name__) from e
    except httpx.HTTPError as e:
        raise OriginFailed("connection", type(e).__name__) from e
    if reply.status_code in (401, 403):
        raise OriginFailed("unauthorized", f"HTTP {reply.status_code}", "ours")
    if reply.status_code == 429 or reply.status_code >= 500:
        raise OriginFailed("server", f"HTTP {reply.status_code}")


async def _content(reply: "httpx.Response") -> bytes:
    content = bytearray()
    async for chunk in reply.aiter_bytes():
        content += chunk
        if len(content) > MOST_BYTES:
            raise OriginFailed("too_large", f"more than {MOST_BYTES} bytes")
    return bytes(content)
