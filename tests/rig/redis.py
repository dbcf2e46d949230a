"""A Redis of a module's own behind the stand-in for Upstash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dev.faults import Faults
from dev.redis_server import RedisServer
from dev.serve import ThreadedServer
from dev.upstash import upstash_app

TOKEN = "upstash-token"


@dataclass(frozen=True)
class RedisFront:
    """A Redis of one's own behind the Upstash stand-in: these tests flush it, and zero its counters."""

    redis_url: str
    url: str
    token: str
    faults: Faults


@contextmanager
def redis_front() -> Iterator[RedisFront]:
    """Start both."""
    faults = Faults()
    with RedisServer.start() as server, ThreadedServer(upstash_app(server.url, TOKEN, faults=faults)) as served:
        yield RedisFront(server.url, served.url, TOKEN, faults)
