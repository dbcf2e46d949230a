"""All routes of an instance as one application, exactly as the files of api/ declare them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Receive, Scope, Send

from api.ai import supervisor
from api.cron import daily
from api.health import app as health
from api.ops import app as ops
from api.v1.chat import completions
from lib.app.wiring import Parts


@dataclass(frozen=True)
class Built:
    """An instance whose parts a test has built."""

    parts: Parts

    async def __call__(self) -> Parts:
        """The parts."""
        return self.parts

    async def goodbye(self) -> None:
        """Flush what was counted."""
        await self.parts.ledger.close()

    async def aclose(self) -> None:
        """The same: whoever has built the parts closes them."""
        await self.goodbye()


def apps(parts: Parts) -> Mapping[str, ASGIApp]:
    """The application of each path."""
    built = Built(parts)
    return {
        "/api/ai/supervisor": replace(supervisor.app, instance=built),
        "/api/v1/chat/completions": replace(completions.app, instance=built),
        "/api/health": replace(health, instance=built),
        "/api/cron/daily": replace(daily.app, instance=built),
        **dict.fromkeys(ops.routes, replace(ops, instance=built)),
    }


def routes(parts: Parts) -> ASGIApp:
    """All of them as one application, by path."""
    by_path = apps(parts)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] != "lifespan" else "/api/health"
        # What no route has, a rewrite may still lead to the function of several paths.
        await by_path.get(path, by_path["/api/admin"])(scope, receive, send)

    return app
