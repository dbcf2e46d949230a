"""Who is limited: the signed-in user, else the network address. Hashed before it becomes a key or a log field."""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache

from .values import dataclass

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
type Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REMEMBERED = 1_000
"""So many of those who called last are not parsed and hashed again: who calls once mostly calls again."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose statements on the client's address are trusted."""

    vercel: bool = False
    """On Vercel the edge overwrites ``x-vercel-forwarded-for`` and ``x-real-ip``; elsewhere a client may send them."""
    proxies: tuple[Network, ...] = ()
    """Peers whose ``x-forwarded-for`` is trusted, for installations behind a proxy of their own."""


def client_address(header: Callable[[str], str], peer: str | None, trust: Trust) -> str:
    """The client's network as text: an IPv4 address, or the /64 of an IPv6 one (a household holds a whole /64).

    ``header`` returns a header field, or an empty text. ``unknown`` where nothing trustworthy says more: such callers
    share one limit, rather than having none.
    """
    if trust.vercel:
        for name in ("x-vercel-forwarded-for", "x-real-ip"):
            if address := _parse(header(name).split(",")[0]):
                return _network(address)
        return "unknown"
    address = _parse(peer or "")
    if address is None:
        return "unknown"
    if _believed(address, trust.proxies):
        # The rightmost entry that no trusted proxy wrote; the client may have made up what stands left of it.
        for hop in reversed(header("x-forwarded-for").split(",")):
            found = _parse(hop)
            if found is None:
                break
            address = found
            if not _believed(found, trust.proxies):
                break
    return _network(address)


@lru_cache(maxsize=_REMEMBERED)
def _parse(text: str) -> Address | None:
    text = text.strip().split("%")[0]
    if text.startswith("[") and "]" in text:
        text = text[1 : text.index("]")]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _believed(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _network(address: Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a call counts for: ``id`` is a keyed hash, fit for keys and logs; ``kind`` says of what."""

    kind: str
    id: str


@lru_cache(maxsize=_REMEMBERED)
def identify(kind: str, value: str, secret: bytes) -> Caller:
    """Hash an identity with a key, so that a leaked key name or log line does not reveal an address or a user."""
    digest = hmac.digest(secret, f"{kind}\0{value}".encode(errors="surrogatepass"), "sha256")
    return Caller(kind, digest[:16].hex())


def subject(caller: Caller, group: str, tag: str) -> str:
    """What the limiter counts under: one caller within one group of routes, in a layout of buckets with this tag."""
    return f"{hashlib.sha256(f'{group}\0{caller.id}'.encode()).hexdigest()[:24]}-{tag}"
