"""Writing to a board, and one member's place on it. The lists are resources (``rankings.py``)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..base.encode import to_json
from ..base.values import dataclass
from ..edge import limits
from ..edge.data_replies import RankedBody, RankingBody
from ..edge.limits import BY_TABLE
from ..edge.problems import Problem
from ..edge.request import Reply, Request
from ..edge.tokens import require_one
from .rankings import MOST_SCORE, standing, write

if TYPE_CHECKING:
    from ..parts import Parts

_MAX_BODY_BYTES = 4 * 1024
_MOST_CHARS = 64


class Score(BaseModel):
    """A member's score. ``keep``: the better one of the old and the new (``best``), or the new one (``last``)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    member: Annotated[str, StringConstraints(min_length=1, max_length=_MOST_CHARS)]
    score: Annotated[int, Field(ge=-MOST_SCORE, le=MOST_SCORE)]
    keep: Literal["best", "last"] = "best"


@dataclass(frozen=True, slots=True, eq=False)
class WriteScore:
    """``POST /api/rankings/{board}``: with the ``ADMIN_TOKEN``, or the board's own token."""

    path: Mapping[str, str]

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        board = _short(self.path["board"], "board")
        own = parts.settings.ranking_tokens.get(board)
        require_one(request, (parts.settings.admin_token, own), "ADMIN_TOKEN or of the board in RANKING_TOKENS")
        # Whoever has a token is not counted.
        request.limit_headers = {}
        score = await request.json(Score, _MAX_BODY_BYTES)
        done = await write(parts, board, score.member, score.score, score.keep)
        request.notes.decision, request.notes.reason = "report", "ranked"
        reply: RankedBody = {
            "member": score.member,
            "rank": done.standing.rank,
            "score": done.standing.score,
            "shown": done.shown,
            "requestId": request.id,
        }
        return Reply(200, to_json(reply))


@dataclass(frozen=True, slots=True, eq=False)
class ReadStanding:
    """``GET /api/rankings/{board}/{member}``: exact at any time."""

    path: Mapping[str, str]

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        board, member = _short(self.path["board"], "board"), _short(self.path["member"], "member")
        await limits.count(request, parts, BY_TABLE)
        found = await standing(parts, board, member)
        request.notes.decision, request.notes.reason = "report", "standing"
        reply: RankingBody = {
            "member": member,
            "rank": found.rank,
            "score": found.score,
            "requestId": request.id,
        }
        return Reply(200, to_json(reply))


def _short(text: str, name: str) -> str:
    if not 0 < len(text) <= _MOST_CHARS:
        raise Problem("invalid_parameter", f"{name}: 1 to {_MOST_CHARS} characters.")
    return text
