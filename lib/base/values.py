"""``dataclass`` as the standard library has it, made in less than half the time.

For each class the standard decorator writes, compiles and executes the source of six methods or more; a hundred classes
are a tenth of a cold start (docs/performance.md). Only ``__init__`` has to be written for a class. The others are the
same for all classes but for the names of the fields, and come from here as they are. The standard decorator would
write the two that freeze an instance whether it is asked for them or not, together with an ``__init__`` that gets past
them: so it is told that nothing is frozen and that there is no ``__init__``, and both are added here.

The result is a dataclass like any other: ``fields``, ``replace``, ``asdict``, copies and class patterns work with it.
What this module lacks of the standard decorator (``order``, ``unsafe_hash``, ``InitVar``) it refuses.
"""

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Type checkers know the standard one by its name.
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - it is exported
else:

    def dataclass(
        *,
        frozen: bool = False,
        slots: bool = False,
        kw_only: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002
    ) -> Callable[[type], type]:
        """As :func:`dataclasses.dataclass`, always with parentheses."""

        def make(cls: type) -> type:
            given = set(cls.__dict__)
            made = dataclasses.dataclass(cls, init=False, eq=False, repr=False, slots=slots, kw_only=kw_only)
            fields = dataclasses.fields(made)
            if "__init__" not in given:
                made.__init__ = _initializer(made, fields, frozen=frozen)
            if frozen:
                made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
                if slots and "__getstate__" not in given:
                    made.__getstate__, made.__setstate__ = _state, _restore
            if repr and "__repr__" not in given:
                made.__repr__ = _repr
            if eq and "__eq__" not in given:
                _compare(made, fields, hashes=frozen)
            return made

        return make


class _Missing:
    """What nobody passes."""

    def __repr__(self) -> str:
        return "<factory>"


_MISSING = _Missing()


def _initializer(cls: Any, fields: Sequence["dataclasses.Field[Any]"], *, frozen: bool) -> Callable[..., None]:
    """``__init__``: of what is written here only the names of fields come from outside, and they are identifiers."""
    if any("InitVar" in str(each.type) for each in cls.__dataclass_fields__.values()):
        raise TypeError(f"{cls.__name__}: base/values.py knows no InitVar")
    known: dict[str, Any] = {"__name__": cls.__module__, "__set": object.__setattr__, "__missing": _MISSING}
    taken, named, body = ["self"], list[str](), list[str]()
    for each in fields:
        name, value, default = each.name, each.name, ""
        if each.default_factory is not dataclasses.MISSING:
            known[f"__new_{name}"], default = each.default_factory, "=__missing"
            value = f"__new_{name}() if {name} is __missing else {name}" if each.init else f"__new_{name}()"
        elif each.default is not dataclasses.MISSING:
            known[f"__default_{name}"], default = each.default, f"=__default_{name}"
            value = name if each.init else f"__default_{name}"
        elif not each.init:
            continue
        if each.init:
            (named if each.kw_only else taken).append(name + default)
        body.append(f"__set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*taken, *(["*", *named] if named else [])])
    exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), known)  # noqa: S102 - as the standard one does
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in dataclasses.fields(self)]


def _restore(self: Any, state: Sequence[Any]) -> None:
    for each, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"


def _compare(cls: Any, fields: Sequence["dataclasses.Field[Any]"], *, hashes: bool) -> None:
    """Let instances of a class be equal where their fields are; ``hashes``: they never change, and have a hash."""
    names = [each.name for each in fields if each.compare]
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda self: ()

    def equal(self: object, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def hashed(self: object) -> int:
        number: int = values(self).__hash__()
        return number

    cls.__eq__, cls.__hash__ = equal, hashed if hashes else None
