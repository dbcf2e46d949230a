"""A data route for measuring: a limit by address and a value from Redis, in one round trip; no provider, no body.

It does by hand what a guarded data route does for a hit, with the same parts.
"""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lib.app.instance import parts
from lib.edge import headers
from lib.edge.app import Reply, Request, endpoint

if TYPE_CHECKING:
    from lib.app.wiring import Parts
    from lib.redis.op import Reply as RedisReply

_KEY = "bench:data"


async def data(request: Request, parts: "Parts") -> Reply:
    """Count the caller, read the value, and put it there where it is missing."""
    from lib.base import caller
    from lib.limits.limiter import Subject
    from lib.redis.op import Op, as_list, as_text, ignored

    policy = parts.settings.policy_for("/api/data")
    who = await request.identify(parts)
    subject = Subject(caller.subject(who, policy.group, policy.layout.tag), policy.layout, policy.group, who.id)

    def read(replies: Sequence["RedisReply"]) -> tuple[int, str | None]:
        (value,) = (as_text(each) for each in as_list(replies[0], 1))
        return 0, value

    now_ms = parts.clock.now_ms()
    limits = parts.guard.limits
    admission, kept = await limits.spend(subject, 1, now_ms, Op((("MGET", _KEY),), read), request.deadline)
    if kept is None and parts.guard.redis is not None:
        kept = json.dumps({"disks": [{"name": "/", "percent": 41}], "at": int(time.time())})
        await parts.guard.redis.run(Op((("SET", _KEY, kept, "PX", 3_600_000),), ignored), "write_back", 5.0)
    body = b'{"cached":true,"value":' + (kept or "null").encode() + b"}"
    return Reply(200, body, headers.rate_limit(admission.quota, now_ms))


app = endpoint(parts, get=data)
