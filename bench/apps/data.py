"""A data route for measuring: a limit by address and a value from Redis, in one round trip; no provider, no body.

It does by hand what a guarded data route does for a hit, with the same parts.
"""

import json
import time
from typing import TYPE_CHECKING

from lib.app.instance import parts
from lib.edge import headers
from lib.edge.app import Reply, Request, endpoint

if TYPE_CHECKING:
    from lib.app.wiring import Parts

_KEY = "bench:data"


async def data(request: Request, parts: "Parts") -> Reply:
    """Count the caller, read the value, and put it there where it is missing."""
    from lib.afterwards import Afterwards
    from lib.base import caller
    from lib.limits.admission import Charge, Subject
    from lib.lookup import Lookup
    from lib.redis.op import Op, ignored

    policy = parts.settings.policy_for("/api/data")
    who = await request.identify(parts)
    subject = Subject(caller.subject(who, policy.group, policy.layout.tag), policy.layout, policy.group, who.id)
    wanted: Lookup[str | None] = Lookup((_KEY,), lambda texts: texts[0], lambda: None)
    now_ms, after = parts.clock.now_ms(), Afterwards()
    admission, kept = await parts.guard.limits.admit(Charge(subject, now_ms, request.deadline), wanted, after)
    if kept is None:
        kept = json.dumps({"disks": [{"name": "/", "percent": 41}], "at": int(time.time())})
        after.add(Op((("SET", _KEY, kept, "PX", 3_600_000),), ignored))

    async def finish() -> None:
        await parts.guard.outbox.send(after, 5.0)

    body = b'{"cached":true,"value":' + kept.encode() + b"}"
    return Reply(200, body, headers.rate_limit(admission.quota, now_ms), after=finish)


app = endpoint(parts, get=data)
