"""The parts of a process: built once for an event loop and an environment, whoever asks for them."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from lib.app.instance import Instance
from lib.base.env import BadSettings
from lib.parts import Parts
from tests.rig.redis import RedisFront

ENVIRON = {"REDIS_ENABLED": "false"}


def run(work: Callable[[], Any]) -> Any:
    """In an event loop of its own, as a new instance has one."""
    return asyncio.run(work())


def test_one_set_of_parts() -> None:
    """Every caller of a process gets the same parts, and so does one that brings an equal environment."""

    async def all_parts() -> list[Parts]:
        found = [await Instance(each)() for each in (ENVIRON, ENVIRON, dict(ENVIRON))]
        await found[0].aclose()
        return found

    first, again, equal = run(all_parts)
    assert first is again
    assert first is equal


def test_another_environment_has_parts_of_its_own() -> None:
    """What is configured otherwise is not shared."""

    async def both() -> tuple[Parts, Parts]:
        found = await Instance(ENVIRON)(), await Instance({**ENVIRON, "RATELIMIT_API": "1/minute"})()
        for each in found:
            await each.aclose()
        return found

    one, other = run(both)
    assert one is not other
    assert one.settings.limit_api != other.settings.limit_api


def test_another_loop_has_parts_of_its_own() -> None:
    """Connections belong to the event loop they were made in."""

    async def parts() -> Parts:
        found = await Instance(ENVIRON)()
        await found.aclose()
        return found

    assert run(parts) is not run(parts)


def test_faults_are_found_again() -> None:
    """Nothing is kept of settings that cannot be used: each call says what is wrong."""

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(BadSettings):
                await Instance({"REDIS_ENABLED": "perhaps"})()

    run(twice)


def test_goodbye_flushes_every_ledger(upstash: RedisFront) -> None:
    """At the end of an instance the counts of all its parts go to Redis."""
    environ = upstash.environ

    async def count_and_leave() -> list[int]:
        both = [await Instance({**environ, "REDIS_SLOW_MS": slow})() for slow in ("10000", "20000")]
        for parts in both:
            parts.ledger.sent([("GET", "x")] * 20)
        await Instance(environ).goodbye()
        for parts in both:
            await parts.aclose()
        return [parts.ledger.flushes for parts in both]

    assert run(count_and_leave) == [1, 1]


def test_no_client_before_it_is_needed() -> None:
    """Building the parts makes no HTTP client; the first to need one makes it, for all."""

    async def client() -> tuple[Any, bool]:
        parts = await Instance({**ENVIRON, "GEMINI_API_KEY": "k", "SUPABASE_URL": "https://s"})()
        before, same = parts.client.made, parts.client.get() is parts.client.get()
        await parts.aclose()
        return before, same

    assert run(client) == (None, True)


def test_the_environment_stays_outside_of_a_function() -> None:
    """Where others run beside us, building the parts changes no variable of theirs."""
    before = dict(os.environ)
    run(Instance(ENVIRON))
    assert dict(os.environ) == before
