"""A function of this deployment as an origin."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ...base.values import dataclass
from ..body import Body
from ..functions import run
from .port import Values

if TYPE_CHECKING:
    from ...parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class Python:
    """``Python(read, "weather")``: ``read(values)``, async or not, returns what JSON can hold; None is absent.

    ``checked``: raises if all is down; without it nobody's failures but those of five callers open the circuit.
    """

    function: Callable[[Values], Any]
    name: str
    timeout_s: float = 5.0
    checked: Callable[[], Awaitable[object]] | None = None

    @property
    def has_check(self) -> bool:
        """Whether a check was given."""
        return self.checked is not None

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Call the function."""
        found = await run(self.function, values)
        if isinstance(found, Body):
            return found
        return Body.of(found)

    async def check(self, parts: "Parts") -> None:
        """Call the check."""
        if self.checked is not None:
            await self.checked()
