"""What replies about data routes look like; see ``replies.py``."""

from typing import Annotated, Any, NotRequired, TypedDict

from .replies import Text


class InvalidatedBody(TypedDict):
    """What was invalidated, and when that shows everywhere."""

    invalidated: dict[str, str | bool]
    everywhereWithinS: Annotated[int, Text("Until then another instance may serve what it has read before.")]
    edgeWithinS: Annotated[int, Text("Until then a cache on the way may, where a resource is everybody's.")]
    requestId: str


class FamilyBody(TypedDict):
    """Reads of one family of resources."""

    reads: Annotated[
        dict[str, int],
        Text("By where values came from: `memory`, `redis`, `stale`, `collapsed` (another's), `origin`, `failed`."),
    ]
    hitRatio: Annotated[float | None, Text("Reads for which no origin was asked, of all; null while there are none.")]
    originCallsSaved: int
    bytesSaved: int


class ReadsBody(TypedDict):
    """Reads of data routes in the present month."""

    total: FamilyBody
    families: dict[str, FamilyBody]


class CacheStatsBody(ReadsBody):
    """The same by itself."""

    month: str
    source: Annotated[str, Text("`redis`, `last` (Redis gives no reply) or `instance` (nothing was read yet).")]
    requestId: str


class BatchBody(TypedDict):
    """Several resources at once."""

    values: dict[str, Any]
    errors: Annotated[dict[str, dict[str, Any]], Text("`status`, `code` and `detail` of those that have no value.")]
    stale: NotRequired[Annotated[dict[str, dict[str, Any]], Text("`ageS` and `why` of those past their time.")]]


class RankingBody(TypedDict):
    """Where a member of a board stands."""

    member: str
    rank: Annotated[int | None, Text("From 1; null where the member is not on the board.")]
    score: int | None
    requestId: str


class RankedBody(RankingBody):
    """The same, right after a score was written."""

    shown: Annotated[bool, Text("False: the score stands, but lists may show it a minute later.")]
