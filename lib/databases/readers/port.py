"""What asks a watched database, whatever it speaks."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

type Row = Mapping[str, Any]


class Reader(Protocol):
    """One database. Statements are named; how they are written is the reader's own."""

    async def rows(self, statement: str, arguments: Mapping[str, str], left_s: float) -> Sequence[Row]:
        """The rows of a statement, within ``left_s`` seconds. Raises OriginFailed."""

    async def explain(self, query: str, left_s: float) -> object:
        """What the server would do for a query, without running it. Raises OriginFailed."""

    async def check(self, left_s: float) -> None:
        """Ask something trivial. Raises OriginFailed."""

    async def aclose(self) -> None:
        """Give the connection back."""
