"""A Redis of a module's own behind the stand-in for Upstash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dev.redis_server import RedisServer
from dev.serve import ThreadedServer
from dev.upstash import upstash_app


@dataclass(frozen=True)
class RedisFront:
    """A Redis of one's own behind the Upstash stand-in: these tests flush it, and zero its counters."""

    redis_url: str
    url: str
    token: str


@contextmanager
def redis_front() -> Iterator[RedisFront]:
    """Start both."""
    with RedisServer.start() as server, ThreadedServer(upstash_app(server.url, "upstash-token")) as served:
        yield RedisFront(server.url, served.url, "upstash-token")
