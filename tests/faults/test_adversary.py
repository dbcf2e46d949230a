"""The short form of the adversary: `python -m tests.faults adversary` plays it in whole, and prints the table."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.adversary import ATTACKS, play
from tests.rig.guard import Rig, rigged
from tests.rig.redis import RedisFront
from tests.rig.script import Script
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.fixture
async def target(front: RedisFront, supabase: SupabaseStandIn, script: Script, transport: str) -> AsyncIterator[Rig]:
    """Instances between stores of their own, with production's timeouts."""
    async with rigged(front, supabase, script, transport) as rig:
        yield rig


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_costs_no_more_than_its_bound(target: Rig, attack: str) -> None:
    """CASES 31 to 37: each attack of the table."""
    rows = await play(target, attack, short=True)
    assert [row.text() for row in rows if not row.holds] == []
