"""What a read of a data route costs, beside cashews and the customers' own scheme: the part ``data`` of `make bench`.

Eight queries of a PostgreSQL with some 300 tables, kept for 15 s to 30 min, are read over HTTP from functions under
`vercel_runtime`, each in a process of its own:

    origin alone        each read is a query
    GET, query, SETEX   the customers' own scheme
    cashews             its decorator with Redis, a lock and tags
    breakwater          resources, with a limit that counts each read
"""

from __future__ import annotations

from typing import Any

from bench.data import hits, load, paths
from bench.data.readers import prepare
from bench.data.targets import targets
from bench.rig import Say, rig


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """Commands by path, processor time of hits in paired rounds, and 50 users at once."""
    with rig(postgres=True) as parts:
        prepare(parts)
        found = {
            "paths": paths.measure(parts, say),
            "hits": hits.measure(parts, say, quick=quick),
            "load": load.measure(parts, say, quick=quick),
        }
    return {**found, "targets": targets(found)}
