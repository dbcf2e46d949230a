"""Who may read a resource that not everybody may read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..edge.request import Request
from ..edge.signin import SignIn
from ..edge.tokens import may_view, require
from .resource import Role

if TYPE_CHECKING:
    from ..parts import Parts

VIEW = "view"
"""The parameter with the view key."""


async def require_role(request: Request, parts: "Parts", roles: Sequence[Role]) -> bool:
    """Let those pass who have one of the roles; whether a view key in the address has shown it. Raises Problem.

    ``ADMIN_TOKEN`` has every role, a view key is a viewer's, and users have those of their ``app_metadata``.
    """
    if not roles:
        return False
    secret = parts.settings.admin_token
    if "viewer" in roles and may_view(request.http.query_params.get(VIEW, ""), secret, parts.clock.now_ms()):
        return True
    if await SignIn.of(parts).roles(request.header("authorization")) & set(roles):
        return False
    require(request, secret, "ADMIN_TOKEN")
    return False
