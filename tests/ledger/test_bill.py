"""What scripts cost: as many commands as Redis says that it has run, where they go the longest way."""

from collections.abc import Callable

import pytest

from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.cache import lock
from lib.cache.lock import LockRules
from lib.data import rankings
from lib.ledger.bill import billed
from lib.limits import marker, news, settlement, shapes
from lib.limits.marker import Marker
from lib.limits.window import Layout, window
from lib.redis import keys
from lib.redis.op import Op, ignored
from tests.rig.redis import Store

NOW = 1_763_121_600_000
LAYOUT = Layout((window("minute", 10), window("day", 100)))
USAGE = ({NOW // 2_500: 1}, {NOW // 1_800_000: 1})
RULES = LockRules()

SCRIPTS: dict[str, Callable[[str], tuple[Op[object], ...]]] = {
    "a lock's takeover": lambda key: (lock.claim(key, "a", RULES), lock.replace(key, "a", "b", RULES)),
    "a lock's release": lambda key: (lock.claim(key, "a", RULES), lock.release(key, "a")),
    "a circuit's swap": lambda key: (stored.swap(key, None, Circuit("open", generation=1, until_ms=NOW), NOW),),
    "a return's marker": lambda key: (marker.swap(None, Marker(key, NOW)),),
    "news of a reset": lambda key: (news.report([key], NOW),),
    "counts in another layout": lambda key: (shapes.raised(key, LAYOUT, NOW, USAGE),),
    "calls admitted elsewhere": lambda key: (
        settlement.restore(key, LAYOUT, NOW, spent=USAGE, carried=USAGE, alone=USAGE),
    ),
    "a place on a board": lambda key: (Op((("EVAL", rankings._WRITE, 1, key, "me", 5, "best", 100),), ignored),),
}


@pytest.mark.parametrize("ops", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_is_billed_with_what_it_runs(
    redis: Store, subject: str, ops: Callable[[str], tuple[Op[object], ...]]
) -> None:
    """No more and no less: the month's figure neither lags behind the vendor's nor runs ahead of it."""
    redis.command("DEL", keys.OUTAGE)
    made = ops(subject)
    with redis.count() as spent:
        for op in made:
            redis.run(op)
    assert spent.commands == sum(billed(op.commands) for op in made)


def test_a_script_that_is_not_ours_is_the_vendors() -> None:
    """The sliding window of upstash_ratelimit, which its own client sends."""
    assert billed([("EVALSHA", "0a1b", 2, "a", "b"), ("EVAL", "return 1", 2, "a", "b"), ("PING",)]) == 10
