"""The keys: one for each thing, and none that a client's value could reach into."""

import itertools

import pytest

from lib.redis import keys


@pytest.mark.parametrize(
    ("key", "text"),
    [
        pytest.param(keys.windows("ab12", 20_411), "rl:{ab12}:20411", id="windows"),
        pytest.param(keys.answer("ai/supervisor", "s-1", "ff"), "ai:supervisor:s-1:ff", id="answer"),
        pytest.param(keys.circuit("cloud-run"), "cb:2:cloud-run", id="circuit"),
        pytest.param(keys.epoch_route("ai/supervisor"), "epoch:2:ai:supervisor", id="a route's epoch"),
        pytest.param(keys.epoch_session("ai/supervisor", 7), "epoch:2:ai:supervisor:s7", id="some sessions' epoch"),
        pytest.param(keys.epoch_tag(7), "epoch:2::t7", id="some tags' epoch"),
    ],
)
def test_spelling(key: str, text: str) -> None:
    """Keys live longer than releases: their spelling does not change by accident."""
    assert key == text


SESSIONS = ["a", "a:b", "a*", "a%3Ab", "a/b", "{a}", "a b", "a\r\nb", "세션", "", "%", "a:", ":a", "A", "x" * 10_000]


def test_sessions_stay_apart() -> None:
    """CASE 14: no two sessions share a key, and none contains a separator, a pattern or a hash tag."""
    assert len({keys.answer("ai", session, "ff") for session in SESSIONS}) == len(SESSIONS)
    for session in SESSIONS:
        inner = keys.answer("ai", session, "ff").removeprefix("ai:").removesuffix(":ff")
        assert not set(inner) & set(":*?[]{} \r\n")


def test_kinds_stay_apart() -> None:
    """A key of one kind is never one of another, whatever a session is called."""
    hostile = ["supervisor", "epoch", "rl", "ai:supervisor", "epoch:ai:supervisor"]
    answers = {keys.answer("ai/supervisor", each, "ff") for each in hostile}
    epochs = {keys.epoch_route(each) for each in hostile} | {keys.epoch_session(each, 1) for each in hostile}
    epochs |= {keys.EPOCH_ALL, keys.epoch_tag(1)}
    limits = {keys.windows(each, 1) for each in hostile}
    circuits = {keys.circuit(each) for each in hostile}
    for one, other in itertools.combinations([answers, epochs, limits, circuits], 2):
        assert not one & other
