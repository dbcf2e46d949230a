"""Who may read a resource with roles: the admin, users by their role, viewers by a key in the address."""

import re

import pytest

from dev.supabase import sign_user_token
from lib.base.env import Secret
from lib.edge.tokens import view_of
from tests.rig.data import menu, read, site
from tests.rig.door import Counted, an_instance, bill
from tests.rig.guard import Rig
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio

TOKEN = "admin-token-of-this-test"


async def test_who_may_read(rig: Rig, supabase: SupabaseStandIn) -> None:
    """ADMIN_TOKEN reads all, a role of `app_metadata` what names it; `user_metadata` is the user's own."""
    made = an_instance(rig, ADMIN_TOKEN=TOKEN)
    apps = {roles: site(made, menu(Counted("v"), roles=roles)) for roles in (("viewer",), ("admin",))}

    def bearer(**claims: object) -> str:
        return f"Bearer {sign_user_token('me', supabase.jwt_secret, claims=claims)}"

    cases = {
        f"Bearer {TOKEN}": {"viewer", "admin"},
        bearer(app_metadata={"role": "viewer"}): {"viewer"},
        bearer(app_metadata={"roles": ["x", "admin"]}): {"admin"},
        bearer(app_metadata={"roles": "viewer"}): {"viewer"},
        bearer(user_metadata={"role": "admin"}): set(),
        bearer(app_metadata={"role": "viewer"}, is_anonymous=True): set(),
        bearer(app_metadata="viewer"): set(),
        bearer(): set(),
        "Bearer wrong": set(),
    }
    for authorization, may in cases.items():
        for (role,), app in apps.items():
            reply = await read(app, authorization=authorization)
            assert reply.status_code == (200 if role in may else 401), (authorization[:40], role)
            if role in may:
                assert reply.headers["cache-control"] == "private, no-cache"


async def test_a_view_key(rig: Rig) -> None:
    """It opens what viewers may read, which a cache on the way may keep; not what is the admin's, and not if wrong."""
    made = an_instance(rig, ADMIN_TOKEN=TOKEN)
    key = view_of(Secret(TOKEN), "2025-11-19")
    viewer, admin = (site(made, menu(Counted("v"), roles=(role,))) for role in ("viewer", "admin"))
    reply = await read(viewer, f"/api/menus/1?view={key}")
    assert reply.status_code == 200
    assert re.fullmatch(r"public, max-age=0, s-maxage=[56]\d", reply.headers["cache-control"])
    assert "vary" not in reply.headers
    for app, view in ((admin, key), (viewer, "2025-11-19.wrong"), (viewer, view_of(Secret(TOKEN), "2025-11-16"))):
        assert (await read(app, f"/api/menus/1?view={view}")).status_code == 401


async def test_nobody_may_read_what_is_closed(rig: Rig) -> None:
    """Without ADMIN_TOKEN only users with a role may; the origin is not asked for others."""
    function = Counted("v")
    app = site(an_instance(rig), menu(function, roles=("viewer",)))
    async with bill(rig) as spent:
        reply = await read(app)
    assert (reply.status_code, reply.json()["code"], function.calls, spent) == (403, "closed", 0, [0, 0])
