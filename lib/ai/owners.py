"""Whom an answer belongs to, where it is kept, and which session its backend is told of (``CACHE_SCOPE``).

Limits count callers. Behind one address there may be several users, each with an API key or a name of its own: they
share the limits of their address, and neither answers nor sessions.
"""

import json
from collections.abc import Callable

from ..base.caller import Caller, identify
from ..base.values import dataclass
from ..cache import epochs
from ..policy import Scope

SHARED = "shared"
"""The session of all answers that belong to nobody, for the cache and for backends alike."""

_KEYS = ("authorization", "api-key", "x-api-key")
"""Where clients send the key of an API. Whatever it is, only its holder gets the answers that it was given."""


def owner_of(caller: Caller, header: Callable[[str], str], secret: bytes, user: str = "") -> str:
    """The caller's id, made narrower by its API key and the user that it names; 32 hexadecimal digits.

    A signed-in user is one user, whichever token says so: tokens are renewed each hour.
    """
    keys = [] if caller.kind == "user" else [header(name) for name in _KEYS]
    if user or any(keys):
        return identify("owner", json.dumps([caller.id, user, *keys]), secret).id
    return caller.id


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where an answer is kept."""

    owner: str
    """Whose it is; empty: everybody's."""
    session: str
    """The session that it is kept under; empty: any of its owner's."""
    told: str
    """The session as the backend is told of it: nobody else's has this name, whatever others call theirs."""
    epochs: tuple[str, ...]
    """What invalidates it."""


def shelf(scope: Scope, route: str, owner: str, session: str, secret: bytes, *, stands_alone: bool) -> Shelf:
    """Where the answer to a question is kept; ``session``: as its owner names it.

    ``stands_alone``: nothing of the question belongs to one user: no history, no user, no tools, no session that the
    client has named. Only such an answer is shared; the others are kept by session, as if nothing were.
    """
    if scope == "shared" and stands_alone:
        return Shelf("", SHARED, SHARED, epochs.of_route(route))
    told = identify("session", f"{owner}\0{session}", secret).id
    if scope == "caller":
        return Shelf(owner, "", told, epochs.of_route(route))
    return Shelf(owner, session, told, epochs.of_session(route, session))
