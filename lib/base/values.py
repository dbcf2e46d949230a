"""``dataclass`` as the standard library has it, made in half the time.

For each class the standard decorator writes, compiles and executes the source of six methods or more; a hundred classes
are a tenth of a cold start (docs/performance.md). Only ``__init__``, and what freezes an instance, have to be written
for a class. The others are the same for all classes but for the names of the fields, and come from here as they are.

The result is a dataclass like any other: ``fields``, ``replace``, ``asdict`` and class patterns work with it. What this
module lacks of the standard decorator (``order``, ``unsafe_hash``) it refuses.
"""

import dataclasses
from collections.abc import Callable
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
            made = dataclasses.dataclass(cls, eq=False, repr=False, frozen=frozen, slots=slots, kw_only=kw_only)
            if repr and "__repr__" not in given:
                made.__repr__ = _repr
            if eq and "__eq__" not in given:
                _compare(made, hashes=frozen)
            return made

        return make


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"


def _compare(cls: Any, *, hashes: bool) -> None:
    """Let instances of a class be equal where their fields are; ``hashes``: they never change, and have a hash."""
    names = [each.name for each in dataclasses.fields(cls) if each.compare]
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda self: ()

    def equal(self: object, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def hashed(self: object) -> int:
        number: int = values(self).__hash__()
        return number

    cls.__eq__, cls.__hash__ = equal, hashed if hashes else None
