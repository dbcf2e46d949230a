"""What operators see and change of the data routes' cache: invalidation by name, and how much it saves."""

from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, StringConstraints

from ..base.events import AdminActed
from ..cache import epochs
from ..data.invalidation import EDGE_WITHIN_S, WITHIN_S, invalidate
from ..edge.data_replies import CacheStatsBody, InvalidatedBody
from ..edge.problems import Problem
from ..ledger.reading import Reading
from ..redis import keys
from . import data_reads

if TYPE_CHECKING:
    from ..parts import Parts

type Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]

_ONE = (
    'send one of {"entity", "id"}, {"entity"}, {"connectionId", "resource"}, {"connectionId", "all": true}, '
    '{"tag"} and {"all": true}'
)


class Invalidation(BaseModel):
    """What is not to be served any more: a value or all of an entity, of a connection, of a tag, or everything."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    entity: Text | None = None
    id: Text | None = None
    connectionId: Text | None = None  # noqa: N815 - the name that clients send
    resource: Text | None = None
    tag: Text | None = None
    all: Literal[True] | None = None


def key_of(wanted: Invalidation) -> str:
    """The epoch that is to be replaced. Raises Problem where that is not clear."""
    match wanted.model_dump(exclude_none=True):
        case {"all": True, **rest} if not rest:
            return keys.EPOCH_ALL
        case {"tag": str(tag), **rest} if not rest:
            return epochs.tag_key(tag)
        case {"entity": str(entity), **rest} if rest.keys() <= {"id"}:
            return epochs.tag_key(_name("cache", entity, *rest.values()))
        case {"connectionId": str(connection), "resource": str(resource), **rest} if not rest:
            return epochs.tag_key(_name("tms", connection, resource))
        case {"connectionId": str(connection), "all": True, **rest} if not rest:
            return epochs.tag_key(_name("tms", connection))
    raise Problem("invalid_request", _ONE)


def _name(*parts: str) -> str:
    """A beginning of resources' keys: no part can name another."""
    return ":".join([parts[0], *(quote(part, safe="", errors="surrogatepass") for part in parts[1:])])


async def act(parts: "Parts", wanted: Invalidation, request_id: str) -> InvalidatedBody:
    """Do it, log it, and say when it shows. Raises Problem."""
    await invalidate(parts, [key_of(wanted)])
    about = ", ".join(f"{name}={value}" for name, value in wanted.model_dump(exclude_none=True).items())
    parts.emit(AdminActed(request_id, "invalidate", about, "invalidated"))
    return {
        "invalidated": wanted.model_dump(exclude_none=True),
        "everywhereWithinS": WITHIN_S,
        "edgeWithinS": EDGE_WITHIN_S,
        "requestId": request_id,
    }


def stats(reading: Reading, source: str, request_id: str) -> CacheStatsBody:
    """This month's reads of data routes, by family and by where their values came from."""
    return {
        "month": reading.month,
        "source": source,
        **data_reads.body(reading),
        "requestId": request_id,
    }
