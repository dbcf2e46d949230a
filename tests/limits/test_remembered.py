"""What an instance remembers of the subjects that it counts."""

from lib.limits.admission import Subject
from lib.limits.remembered import Memory
from lib.limits.window import Layout, window

LAYOUT = Layout((window("minute", 10),))


def whose(name: str) -> Subject:
    return Subject(name, LAYOUT)


def test_who_was_counted_elsewhere() -> None:
    """Each once, in the order of their coming, until Redis has been given what it lacks."""
    memory = Memory()
    memory.of(whose("in Redis alone"))
    for name in ("b", "a", "b"):
        memory.counted_elsewhere(whose(name))
    assert [(each.id, found.layout) for each, found in memory.elsewhere()] == [("b", LAYOUT), ("a", LAYOUT)]
    memory.of(whose("b")).layout = None
    assert [each.id for each, _ in memory.elsewhere()] == ["a"]
    memory.counted_elsewhere(whose("b"))
    assert [each.id for each, _ in memory.elsewhere()] == ["a", "b"]


def test_who_is_forgotten_was_counted_nowhere() -> None:
    """Whatever made an instance forget a subject: a reset, or ten thousand others that came since."""
    memory = Memory()
    for name in ("reset", "one of many", "old"):
        memory.counted_elsewhere(whose(name))
    memory.forget("reset")
    memory.forget_where(lambda name: name == "one of many")
    assert [each.id for each, _ in memory.elsewhere()] == ["old"]
    for number in range(10_000):
        memory.of(whose(f"{number}"))
    assert memory.elsewhere() == []
