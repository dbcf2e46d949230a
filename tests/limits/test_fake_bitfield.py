"""The contract of the commands behind the windows: the real Redis passes it, and so does the fake."""

from collections.abc import Callable
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.redis.op import Command, Reply
from tests.limits.fake_bitfield import FakeBitfield
from tests.rig.redis import Store


class Executes(Protocol):
    """Runs one command."""

    def command(self, *command: str | int) -> Reply:
        """The reply."""


@pytest.fixture(params=["redis", "fake"])
def store(request: pytest.FixtureRequest, redis: Store) -> Executes:
    return redis if request.param == "redis" else FakeBitfield()


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        pytest.param([("BITFIELD", "INCRBY", "u4", 0, 1)], [[1]], id="a missing key counts from zero"),
        pytest.param([("BITFIELD_RO", "GET", "u8", 100)], [[0]], id="a missing key reads zero"),
        pytest.param([("BITFIELD_RO", "GET", "u8", 0), ("EXISTS",)], [[0], 0], id="a read makes no key"),
        pytest.param([("BITFIELD", "GET", "u8", 0), ("EXISTS",)], [[0], 0], id="nor does a read by BITFIELD"),
        pytest.param(
            [("BITFIELD", "OVERFLOW", "SAT", "INCRBY", "u4", 0, 14, "INCRBY", "u4", 0, 14)],
            [[14, 15]],
            id="saturates at the top",
        ),
        pytest.param([("BITFIELD", "OVERFLOW", "SAT", "INCRBY", "u4", 4, -3)], [[0]], id="saturates at zero"),
        pytest.param(
            [("BITFIELD", "OVERFLOW", "FAIL", "INCRBY", "u4", 8, 15, "INCRBY", "u4", 8, 1, "GET", "u4", 8)],
            [[15, None, 15]],
            id="fails without effect",
        ),
        pytest.param(
            [("BITFIELD", "OVERFLOW", "FAIL", "INCRBY", "u8", 8, 256), ("EXISTS",)],
            [[None], 1],
            id="a failed increment makes the key",
        ),
        pytest.param([("BITFIELD", "INCRBY", "u4", 0, 17)], [[1]], id="wraps unless told otherwise"),
        pytest.param(
            [("BITFIELD", "OVERFLOW", "SAT", "INCRBY", "u4", 0, 99, "OVERFLOW", "FAIL", "INCRBY", "u4", 4, 99)],
            [[15, None]],
            id="an overflow rule holds until the next",
        ),
        pytest.param(
            [("BITFIELD", "INCRBY", "u8", 8, 1, "INCRBY", "u8", 16, 2), ("BITFIELD_RO", "GET", "u16", 8)],
            [[1, 2], [258]],
            id="a pack has its first bucket on top",
        ),
        pytest.param(
            [("BITFIELD", "INCRBY", "u4", 6, 9), ("BITFIELD_RO", "GET", "u8", 0, "GET", "u8", 8)],
            [[9], [2, 64]],
            id="a bucket across bytes",
        ),
        pytest.param(
            [("BITFIELD", "INCRBY", "u32", 32, (1 << 32) - 1), ("BITFIELD_RO", "GET", "u48", 16)],
            [[(1 << 32) - 1], [(1 << 32) - 1]],
            id="48 bits at once",
        ),
        pytest.param(
            [("TTL",), ("EXPIRE", 9), ("BITFIELD", "INCRBY", "u4", 0, 1), ("TTL",), ("EXPIRE", 9), ("TTL",)],
            [-2, 0, [1], -1, 1, 9],
            id="a time to live",
        ),
        pytest.param(
            [("BITFIELD", "INCRBY", "u4", 0, 1), ("EXPIRE", 9), ("DEL",), ("DEL",), ("TTL",)],
            [[1], 1, 1, 0, -2],
            id="deletion",
        ),
    ],
)
def test_contract(store: Executes, subject: str, commands: list[Command], replies: list[Reply]) -> None:
    """Each command replies as Redis's documentation says."""
    assert [store.command(name, subject, *rest) for name, *rest in commands] == replies


WIDTHS = st.sampled_from([4, 8, 16, 32, 48])
PARTS = st.one_of(
    st.builds(lambda bits, at: ("GET", f"u{bits}", at), WIDTHS, st.integers(0, 200)),
    st.builds(
        lambda rule, bits, at, by: ("OVERFLOW", rule, "INCRBY", f"u{bits}", at, by),
        st.sampled_from(["SAT", "FAIL", "WRAP"]),
        WIDTHS,
        st.integers(0, 200),
        st.integers(-20, 300),
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(PARTS, min_size=1, max_size=8), min_size=1, max_size=4))
def test_the_fake_replies_as_redis_does(
    redis: Store, subjects: Callable[[], str], batches: list[list[tuple[str | int, ...]]]
) -> None:
    """Any sequence of increments and reads has the same replies from both."""
    key, fake = subjects(), FakeBitfield()
    for batch in batches:
        command: Command = ("BITFIELD", key, *(word for part in batch for word in part))
        assert fake.command(*command) == redis.command(*command)
