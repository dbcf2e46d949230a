"""Invalidation without searching: what is stored names the epochs it was computed under, and an epoch can be replaced.

An epoch is a random word under a key of its own. All values share one, those of each route share one, and sessions and
tags have 256 buckets each (sessions for each route). Invalidating one session makes a few others miss as well, which is
harmless, and the number of keys stays bounded, so that they need no TTL. An epoch that is missing (never used, or
evicted) means a miss, and whoever is about to compute creates it with a new word: the loss of a key never revives what
was invalidated.
"""

import hashlib
import secrets
from collections.abc import Sequence

from ..redis import keys
from ..redis.op import Op, Reply, as_list, as_text, ignored

BUCKETS = 256


def bucket(name: str) -> int:
    """The bucket of a session or tag."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()[0]


def of_route(route: str) -> tuple[str, ...]:
    """The keys of the epochs that every value of a route belongs to."""
    return (keys.EPOCH_ALL, keys.epoch_route(route))


def of_session(route: str, session: str) -> tuple[str, ...]:
    """The same for a value of one session."""
    return (*of_route(route), session_key(route, session))


def of_tags(route: str, tags: Sequence[str]) -> tuple[str, ...]:
    """The same for a value with tags."""
    return (*of_route(route), *dict.fromkeys(tag_key(tag) for tag in tags))


def session_key(route: str, session: str) -> str:
    """The key of the epoch that a session shares with others of its bucket."""
    return keys.epoch_session(route, bucket(session))


def tag_key(tag: str) -> str:
    """The key of the epoch that a tag shares with others of its bucket."""
    return keys.epoch_tag(bucket(tag))


def new_word() -> str:
    """A word that no epoch has had."""
    return secrets.token_hex(6)


def create(key: str, word: str) -> Op[None]:
    """Create an epoch unless somebody has done so meanwhile: 1 command."""
    return Op((("SET", key, word, "NX"),), ignored)


def complete(names: Sequence[str], words: Sequence[str | None]) -> Op[tuple[str, ...]]:
    """Create the epochs whose words are missing, and yield the words of all: 1 command for each of them, and 1."""
    missing = (("SET", name, new_word(), "NX") for name, word in zip(names, words, strict=True) if word is None)

    def read(replies: Sequence[Reply]) -> tuple[str, ...]:
        # One that is lost again at once is a miss for whoever comes next.
        return tuple(as_text(word) or new_word() for word in as_list(replies[-1], len(names)))

    return Op((*missing, ("MGET", *names)), read)


def replace(key: str) -> Op[tuple[str | None, str]]:
    """Invalidate everything that belongs to an epoch, and yield its word before and now: 1 command."""
    word = new_word()
    return Op((("SET", key, word, "GET"),), lambda replies: (as_text(replies[0]), word))
