"""The eight queries as resources of Breakwater: `BENCH_LIMIT` calls a minute and caller, none where it is not set.

With `BENCH_STRICT=1` every read looks into Redis.
"""

import os

from bench.apps.monitoring import QUERY, TIERS
from lib.app.instance import instance
from lib.data.origins.postgres import Sql
from lib.data.resource import Resource
from lib.data.table import data_routes
from lib.edge.limits import route_limit

_limit = os.environ.get("BENCH_LIMIT")
TABLE = {
    f"/api/read/q{n}/{{id}}": Resource(
        f"q{n}",
        key=f"cache:q{n}:{{id}}",
        tier=tier,  # type: ignore[arg-type]
        origin=Sql(QUERY, ("id",)),
        strict=bool(os.environ.get("BENCH_STRICT")),
    )
    for n, tier in enumerate(TIERS)
}

app = data_routes(
    instance, TABLE, limit=route_limit(f"{_limit}/minute" if _limit else None, "bench"), batch="/api/data"
)
