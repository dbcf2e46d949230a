"""A store's gate: when it closes, who may look whether the store is back, and what it makes of late results."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from lib.base.clock import Clock
from lib.breaker.gate import Gate, Passage, Resting
from lib.breaker.vitals import VitalsPolicy

COOLDOWN_MS, SLOW_MS = 5_000, 150

pytestmark = pytest.mark.anyio


@dataclass
class Store:
    """A gate and the clock it is shown."""

    ms: int = 1_000_000
    policy: VitalsPolicy = field(default_factory=lambda: VitalsPolicy(COOLDOWN_MS))
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        clock = Clock(now_ms=lambda: self.ms, monotonic=lambda: self.ms / 1000)
        self.gate = Gate(self.policy, clock, SLOW_MS)

    async def call(self, how: str = "ok") -> None:
        """One call that ends in this way: ok, slow, fails, times out, neutral."""
        async with self.gate.call() as passage:
            self.end(passage, how)

    def end(self, passage: Passage, how: str) -> None:
        """The end of a call."""
        match how:
            case "slow":
                self.ms += SLOW_MS + 1
                passage.succeeded()
            case "fails" | "times out":
                passage.failed(how, at_once=how == "times out")
            case "neutral":
                passage.neutral()

    async def calls(self, hows: Sequence[str]) -> None:
        """One after another."""
        for how in hows:
            await self.call(how)


@pytest.mark.parametrize(
    ("hows", "rests"),
    [
        pytest.param(["times out"], True, id="a timeout at once"),
        pytest.param(["fails"] * 2, False, id="two failures"),
        pytest.param(["fails"] * 3, True, id="three failures"),
        pytest.param(["fails", "fails", "ok", "fails"], False, id="a good call between"),
        pytest.param(["fails", "fails", "neutral", "fails"], True, id="a neutral call says nothing"),
        pytest.param(["slow"] * 9, False, id="nine slow replies"),
        pytest.param(["slow"] * 10, True, id="ten slow replies"),
        pytest.param(["slow"] * 9 + ["ok"] + ["slow"] * 9, False, id="a quick reply between"),
        pytest.param(["fails", *["ok"] * 98, "fails"], True, id="more than 1 % of a hundred"),
        pytest.param(["fails", *["ok"] * 199, "fails"], False, id="the first has left the window"),
    ],
)
async def test_what_closes_it(hows: list[str], rests: bool) -> None:
    """A store that is not well is left alone."""
    store = Store()
    await store.calls(hows)
    assert store.gate.rests() is rests


async def test_who_comes_while_it_rests_learns_why() -> None:
    """The reason of the failure, until the last millisecond of the cool-down."""
    store = Store()
    await store.call("times out")
    for later in (0, COOLDOWN_MS - 1):
        store.ms += later
        with pytest.raises(Resting, match="times out"):
            await store.call()


async def test_one_probe() -> None:
    """After the cool-down one call goes, the others are refused until it has ended."""
    store = Store()
    await store.call("times out")
    store.ms += COOLDOWN_MS
    async with store.gate.call():
        for _ in range(3):
            with pytest.raises(Resting):
                await store.call()
    await store.call()
    assert store.gate.circuit.state == "closed"


@pytest.mark.parametrize("back_ms", [1, 3_600_000])
async def test_a_clock_that_is_set_back(back_ms: int) -> None:
    """CASE 37: the store is left alone for a cool-down, and not until the clock shows that time again."""
    store = Store()
    await store.call("times out")
    store.ms -= back_ms
    await store.call("times out")
    store.ms += COOLDOWN_MS - 1
    with pytest.raises(Resting):
        await store.call()
    store.ms += 1
    await store.call()
    assert store.gate.circuit.state == "closed"


@pytest.mark.parametrize("how", ["fails", "times out"])
async def test_a_probe_that_fails_opens_for_another_cool_down(how: str) -> None:
    """From its end, by a single failure, with its reason."""
    store = Store()
    await store.call("times out")
    store.ms += COOLDOWN_MS
    await store.call(how)
    store.ms += COOLDOWN_MS - 1
    with pytest.raises(Resting, match=how):
        await store.call()
    store.ms += 1
    await store.call()
    assert store.gate.circuit.state == "closed"


async def test_a_probe_whose_caller_leaves_is_free_again() -> None:
    """An exception that says nothing of the store holds nothing up."""
    store = Store()
    await store.call("times out")
    store.ms += COOLDOWN_MS
    with pytest.raises(KeyError):
        async with store.gate.call():
            raise KeyError
    await store.call()
    assert store.gate.circuit.state == "closed"


async def test_a_probe_that_never_ends_is_replaced() -> None:
    """After a cool-down somebody else may look."""
    store = Store()
    await store.call("times out")
    store.ms += COOLDOWN_MS
    lost = store.gate.call()
    await lost.__aenter__()
    store.ms += COOLDOWN_MS
    await store.call()
    assert store.gate.circuit.state == "closed"


async def test_a_slow_probe_closes_on_probation() -> None:
    """It may have paid for a connection; the next slow reply opens again, a quick one forgets all."""
    store = Store()
    await store.call("times out")
    store.ms += COOLDOWN_MS
    await store.call("slow")
    assert store.gate.circuit.state == "closed"
    await store.call("slow")
    assert store.gate.rests()
    store.ms += COOLDOWN_MS
    await store.calls(["slow", "ok", *["slow"] * 9])
    assert not store.gate.rests()


@pytest.mark.parametrize("late", ["ok", "fails", "times out", "slow", "neutral"])
async def test_late_results_change_nothing(late: str) -> None:
    """A call that began before the gate closed ends after it, or after it opened again."""
    store = Store()
    async with store.gate.call() as while_open, store.gate.call() as while_closed:
        await store.call("times out")
        before = store.gate.circuit
        store.end(while_open, late)
        assert store.gate.circuit == before
        store.ms = 1_000_000 + 2 * COOLDOWN_MS
        await store.call()
        before = store.gate.circuit
        store.end(while_closed, late)
        while_open.over = while_closed.over = True
        assert store.gate.circuit == before
    await store.calls(["fails"] * 2)
    assert not store.gate.rests()


async def test_each_switch_is_news_once() -> None:
    """Open, then closed; probes on their way, and failures of calls at one time, are none."""
    store = Store()
    news = [store.gate.news()]
    async with store.gate.call() as first, store.gate.call() as second:
        for passage in (first, second):
            passage.failed("gone", at_once=True)
            news.append(store.gate.news())
    store.ms += COOLDOWN_MS
    async with store.gate.call() as probe:
        news.append(store.gate.news())
        probe.failed("gone", at_once=True)
    news.append(store.gate.news())
    store.ms += COOLDOWN_MS
    await store.call()
    news += [store.gate.news(), store.gate.news()]
    assert news == [None, "open", None, None, None, "closed", None]
