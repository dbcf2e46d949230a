"""Our dataclasses are the standard ones in all that they do, and cost less to make."""

import copy
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
def test_what_is_frozen_stays(dataclass: Any) -> None:
    """No field can be set or deleted; copies are the same value."""
    base, derived, _ = classes(dataclass)
    for one in (base(1, c=[1]), derived(1)):
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
            one.a = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'a'"):
            del one.a
        shallow, deep = copy.copy(one), copy.deepcopy(one)
        assert shallow == deep == one
        assert (shallow.c is one.c, deep.c is one.c, deep.c == one.c) == (True, False, True)


@pytest.mark.parametrize("dataclass", KINDS)
@pytest.mark.parametrize("frozen", [True, False])
def test_initial_values(dataclass: Any, frozen: bool) -> None:
    """Defaults, one list for each instance, what is named only, what is not taken, and what runs at the end."""
    ran = list[Any]()

    @dataclass(frozen=frozen, slots=True)
    class Value:
        """A value."""

        a: int
        b: str = "b"
        c: list[int] = field(default_factory=list)
        d: int = field(default=4, kw_only=True)
        e: int = field(kw_only=True)
        f: int = field(default=6, init=False)
        g: list[int] = field(default_factory=lambda: [7], init=False)

        def __post_init__(self) -> None:
            ran.append((self.a, self.b, self.c, self.d, self.e, self.f, self.g))

    one, other = Value(1, e=5), Value(1, "x", [2], d=3, e=4)
    assert ran == [(1, "b", [], 4, 5, 6, [7]), (1, "x", [2], 3, 4, 6, [7])]
    assert (one.c is not Value(1, e=5).c, one.g is not other.g) == (True, True)
    assert Value.__init__.__qualname__.endswith("Value.__init__")
    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((), {"e": 5}), ((1,), {}), ((1, 2, 3, 4), {"e": 5})]
    for given, named in (*wrong, ((1,), {"e": 5, "f": 6})):
        with pytest.raises(TypeError, match="argument"):
            Value(*given, **named)


def test_what_is_not_known_is_refused() -> None:
    """A parameter that is no field would silently be none."""
    with pytest.raises(TypeError, match="knows no InitVar"):

        @values.dataclass(slots=True)
        class Value:
            """A value."""

            a: dataclasses.InitVar[int]


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
import json, re, sys
compiled = []
def count(event, about):
    if event == "compile":
        compiled.append(len(re.findall(r"def __(?!create_fn)", str(about[0]))))
sys.addaudithook(count)
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
    """One method is compiled for a class."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    standard, ours = json.loads(done.stdout)
    assert standard > ours == 1
