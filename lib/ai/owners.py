"""Whom an answer belongs to, where it is kept, and which session its backend is told of.

Limits count callers. Behind one address there may be several users, each with an API key or a name of its own: they
share the limits of their address, and neither answers nor sessions.
"""

import json
from collections.abc import Callable

from ..base.caller import Caller, identify
from ..base.values import dataclass
from ..cache import epochs
from ..policy import Scope

_KEYS = ("authorization", "api-key", "x-api-key")
"""Where clients send the key of an API. Whatever it is, only its holder gets the answers that it was given."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Whom an answer belongs to."""

    id: str
    """The caller's, made narrower by its API key and the user that it names; 32 hexadecimal digits."""
    session: str
    """As the client names it; without a name it is made of the id: stable, and not to be guessed."""
    told: str
    """The session as backends are told of it: nobody else's session has this name, whatever others call theirs."""


def asker(caller: Caller, header: Callable[[str], str], secret: bytes, *, session: str = "", user: str = "") -> Asker:
    """Who asks, by the caller, the request's headers, and what its body says of the user.

    A signed-in user is one user, whichever token says so: tokens are renewed each hour.
    """
    keys = [header(name) for name in _KEYS] if caller.kind != "user" else []
    found = caller.id
    if user or any(keys):
        found = identify("asker", json.dumps([caller.id, user, *keys]), secret).id
    named = session or f"s-{found[:16]}"
    return Asker(found, named, identify("session", f"{found}\0{named}", secret).id)


SHARED = "shared"
"""The session of all answers that belong to nobody, for the cache and for backends alike."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where an answer is kept."""

    owner: str
    """Whose it is; empty: everybody's."""
    session: str
    """The session that it is kept under; empty: any of its owner's."""
    told: str
    """The session that the backend is told of."""
    epochs: tuple[str, ...]
    """What invalidates it."""


def shelf(scope: Scope, route: str, asker: Asker, *, stands_alone: bool) -> Shelf:
    """Where the answer to a question is kept.

    ``stands_alone``: nothing of the question belongs to one user: no history, no user, no tools, no session that the
    client has named. Only such an answer is shared; the others are kept by session, as if nothing were.
    """
    if scope == "shared" and stands_alone:
        return Shelf("", SHARED, SHARED, epochs.of_route(route))
    if scope == "caller":
        return Shelf(asker.id, "", asker.told, epochs.of_route(route))
    return Shelf(asker.id, asker.session, asker.told, epochs.of_session(route, asker.session))
