"""A data route for measuring: a limit by address and a cached value, in one round trip; no provider, no body."""

from lib import Breakwater


async def disks(asked: object) -> dict[str, object]:
    """What is cached."""
    return {"cached": True, "disks": [{"name": "/", "percent": 41}]}


app = Breakwater.from_env().route(disks, limit="100/minute", cache=3600, scope="shared", name="data")
