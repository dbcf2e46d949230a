"""What instances and operators leave in Redis for every request to see, read along with everything else."""

from ..base.calendar import month_of
from ..base.values import dataclass
from ..lookup import Lookup, Texts
from ..redis import keys


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks as they were read."""

    outage: str | None = None
    """Whether somebody settles an outage (``marker.py``)."""
    thrift: str | None = None
    """How sparingly Redis is to be used."""
    news: str | None = None
    """What was changed by hand (``news.py``)."""


def marks(now_ms: int) -> Lookup[Marks]:
    """All of them."""
    return Lookup((keys.OUTAGE, keys.thrift(month_of(now_ms)), keys.NEWS), _read, Marks)


def _read(texts: Texts) -> Marks:
    return Marks(*texts)
