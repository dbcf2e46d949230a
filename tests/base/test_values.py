"""Our dataclasses are the standard ones in all that they do, and cost less to make."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import asdict, field, replace
from typing import Any, ClassVar

import pytest

from lib.base import values

KINDS = [pytest.param(dataclasses.dataclass, id="standard"), pytest.param(values.dataclass, id="ours")]


def classes(dataclass: Any) -> tuple[Any, Any, Any]:
    """A value, one that extends it, and something that changes."""

    @dataclass(frozen=True, slots=True)
    class Base:
        """A value."""

        kind: ClassVar[str] = "base"
        a: int
        b: str = field(default="b", repr=False)
        c: list[int] = field(default_factory=list, compare=False)

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        """A longer one."""

        kind: ClassVar[str] = "derived"
        d: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "d", self.a + 1)

    @dataclass(slots=True, kw_only=True)
    class Changing:
        """A thing."""

        a: int
        self_: Any = None

    return Base, Derived, Changing


@pytest.mark.parametrize("dataclass", KINDS)
def test_values(dataclass: Any) -> None:
    """Equality, hash, text, copies, patterns and freezing."""
    base, derived, _ = classes(dataclass)
    one, same, other = base(1, c=[1]), base(1, c=[2]), base(2)
    assert one == same
    assert one != other
    assert one != derived(1)
    assert one != 1
    assert hash(one) == hash(same) == hash((1, "b"))
    assert repr(one).endswith(".Base(a=1, c=[1])")
    assert repr(derived(1)).endswith(".Derived(a=1, c=[], d=2)")
    assert (replace(one, a=5).a, asdict(one)) == (5, {"a": 1, "b": "b", "c": [1]})
    assert [each.name for each in dataclasses.fields(derived)] == ["a", "b", "c", "d"]
    match one:
        case base(1, "b"):
            pass
        case _:
            raise AssertionError("its fields are its positional patterns")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.a = 2
    assert not hasattr(one, "__dict__")


@pytest.mark.parametrize("dataclass", KINDS)
def test_things_that_change(dataclass: Any) -> None:
    """They are equal by their fields, have no hash, and show themselves even where they hold themselves."""
    _, _, changing = classes(dataclass)
    thing = changing(a=1)
    assert thing == changing(a=1)
    thing.self_ = thing
    assert repr(thing).endswith(".Changing(a=1, self_=...)")
    with pytest.raises(TypeError):
        hash(thing)
    with pytest.raises(TypeError):
        changing(1)


@pytest.mark.parametrize("dataclass", KINDS)
def test_what_a_class_brings_itself_stays(dataclass: Any) -> None:
    """Own methods are kept; without ``eq`` an instance is equal to itself only."""

    @dataclass(frozen=True, slots=True)
    class Own:
        """A value with a text of its own."""

        a: int

        def __repr__(self) -> str:
            return "own"

    @dataclass(slots=True, eq=False)
    class Identity:
        """A thing."""

        a: int

    thing = Identity(1)
    assert repr(Own(1)) == "own"
    assert (thing == Identity(1), thing == thing, hash(thing) == hash(thing)) == (False, True, True)  # noqa: PLR0124


COUNT = """
import json, sys
compiled = []
sys.addaudithook(lambda event, about: compiled.append(str(about[0]).count(" def __")) if event == "compile" else None)
import dataclasses
from lib.base import values
found = []
for dataclass in (dataclasses.dataclass, values.dataclass):
    compiled.clear()
    @dataclass(frozen=True, slots=True)
    class Value:
        "A value."
        a: int
        b: str = ""
    found.append(sum(compiled))
print(json.dumps(found))
"""


def test_less_is_compiled() -> None:
    """At most half as many methods are compiled for a class."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    standard, ours = json.loads(done.stdout)
    assert 0 < ours <= standard / 2
