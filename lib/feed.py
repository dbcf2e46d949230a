"""The pieces of an opened source, for a reader that may be cancelled while it waits: another can go on from there.

When a client disconnects, the server cancels the task that writes its stream, mostly in the middle of a wait. A
generator that is cancelled is over, so each wait that another request may have to continue is a task of its own.
"""

import asyncio

from .base.values import dataclass
from .pieces import Done, Piece
from .source import Opened


@dataclass(slots=True, eq=False)
class Feed[P, V]:
    """Reads an opened source piece by piece."""

    opened: Opened[P, V]
    ended: bool = False
    """The last piece has come, or none will: the source broke off, or was closed."""
    _coming: "asyncio.Future[Piece[P, V] | None] | None" = None
    """The piece that is waited for, or that was waited for when its reader was cancelled."""

    async def next(self) -> Piece[P, V]:
        """The next piece. Raises SourceFailed. A wait that is cancelled loses nothing."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self.opened.pieces, None))
        # This does not cancel what it waits for.
        await asyncio.wait((self._coming,))
        come, self._coming, self.ended = self._coming, None, True
        piece = come.result()
        self.ended = isinstance(piece, Done)
        return _not_over(piece)

    async def last(self) -> Done[V]:
        """The last piece, whatever comes before it. Raises SourceFailed. No reader goes on where this is cancelled."""
        try:
            piece = await self._coming if self._coming is not None else None
            while not isinstance(piece, Done):
                piece = _not_over(await anext(self.opened.pieces, None))
            return piece
        finally:
            self.ended = True
            await self.close()

    async def close(self) -> None:
        """Close the source in whatever state it is. May be called again."""
        self.ended = True
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
            self._coming = None
        await self.opened.pieces.aclose()
        await self.opened.close()


def _not_over[P, V](piece: Piece[P, V] | None) -> Piece[P, V]:
    if piece is None:
        raise AssertionError("a source's pieces end with a Done")
    return piece
