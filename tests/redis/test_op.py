"""Operations as values: joining them, and reading replies of the wrong shape."""

from collections.abc import Callable

import pytest

from lib.redis.op import CommandError, Op, Reply, UnreadableReply, as_int, as_list, as_text, gather, ignored, join

GET = Op((("GET", "a"),), lambda replies: as_text(replies[0]))
TWO = Op((("INCR", "b"), ("INCR", "c")), lambda replies: [as_int(reply) for reply in replies])
NONE: Op[str] = Op((), lambda replies: f"{len(replies)} replies")


def test_joined_operations_read_their_own_replies() -> None:
    """Commands keep their order, and each part is handed its replies only."""
    joined = join(join(GET, TWO), NONE)
    assert joined.commands == (("GET", "a"), ("INCR", "b"), ("INCR", "c"))
    assert joined.read(["x", 1, 2]) == (("x", [1, 2]), "0 replies")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_gathered_operations(count: int) -> None:
    """Any number of one kind."""
    gathered = gather([TWO] * count)
    assert len(gathered.commands) == 2 * count
    assert gathered.read(list(range(2 * count))) == [[2 * n, 2 * n + 1] for n in range(count)]


@pytest.mark.parametrize(
    ("read", "reply", "value"),
    [
        pytest.param(as_int, 3, 3, id="an integer"),
        pytest.param(as_text, "x", "x", id="a text"),
        pytest.param(as_text, None, None, id="no text"),
        pytest.param(lambda reply: as_list(reply, 2), [1, None], [1, None], id="a list"),
        pytest.param(lambda reply: ignored([reply]), "OK", None, id="anything"),
    ],
)
def test_readable(read: Callable[[Reply], object], reply: Reply, value: object) -> None:
    """A reply of the promised shape comes through."""
    assert read(reply) == value


@pytest.mark.parametrize("reply", [None, "7", [7], CommandError("ERR secret-free")], ids=str)
def test_no_integer(reply: Reply) -> None:
    """A text that looks like a number is none."""
    with pytest.raises(UnreadableReply):
        as_int(reply)


@pytest.mark.parametrize("reply", [7, ["x"], CommandError("ERR no")], ids=str)
def test_no_text(reply: Reply) -> None:
    """Nor is a number a text."""
    with pytest.raises(UnreadableReply):
        as_text(reply)


@pytest.mark.parametrize("reply", [None, "ab", [1], [1, 2, 3], CommandError("ERR no")], ids=str)
def test_no_list(reply: Reply) -> None:
    """A list of another length is none."""
    with pytest.raises(UnreadableReply):
        as_list(reply, 2)


def test_an_ignored_reply_may_not_be_an_error() -> None:
    """Nothing is read, but an error is noticed and told."""
    with pytest.raises(UnreadableReply, match="WRONGTYPE"):
        ignored(["OK", CommandError("WRONGTYPE Operation")])


def test_a_value_is_not_told() -> None:
    """The message of an unreadable reply holds its type, never the value: it may be somebody's answer."""
    with pytest.raises(UnreadableReply) as error:
        as_int("somebody's answer")
    assert "somebody" not in str(error.value)
