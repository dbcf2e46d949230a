"""The vendor's own sliding windows behind our port: how long a call of theirs may take."""

from collections.abc import Awaitable, Callable

import pytest

from dev.faults import Fault
from lib.limits.grammar import parse_limits
from lib.limits.stock import StockWindows
from lib.redis.errors import RedisDown
from tests.rig.clock import PATIENT_BACKEND, patient
from tests.rig.redis import RedisFront

LIMITS = parse_limits("10/minute").windows

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    """Time that jumps when the server keeps somebody waiting."""
    return PATIENT_BACKEND


async def took_s(call: Callable[[], Awaitable[object]]) -> float:
    """How long a call took that was given up."""
    loop = patient()
    began_s = loop.time()
    with pytest.raises(RedisDown, match=r"^timeout"):
        await call()
    return loop.time() - began_s


async def test_a_new_connection_may_take_longer(upstash: RedisFront, subject: str) -> None:
    """The first call connects, and so does one after a pause; one after another does not."""
    stock = StockWindows(upstash.url, upstash.token, "stock", 0.3, 1.0)

    async def call() -> object:
        return await stock.spend(subject, "group", LIMITS, 1)

    upstash.faults.waits = patient().jump
    try:
        upstash.faults.set(Fault(kind="hang"))
        assert await took_s(call) == pytest.approx(1.3, abs=0.1)
        upstash.faults.clear()
        await call()
        upstash.faults.set(Fault(kind="hang"))
        assert await took_s(call) == pytest.approx(0.3, abs=0.1)
        stock._answered_at -= 5.0
        assert await took_s(call) == pytest.approx(1.3, abs=0.1)
    finally:
        upstash.faults.clear()
        upstash.faults.waits = lambda: None
