"""What Supabase has recorded, of one server and of all of them, as resources: from memory, Redis or Supabase."""

from ..data.origins.supabase import Rpc
from ..data.resource import Query, Resource

HISTORY = Resource(
    "server-history",
    key="cache:server-history:{id}:{range}",
    tier="5m",
    origin=Rpc("breakwater_fleet_history", {"p_server": "id", "p_range": "range"}),
    query={"range": Query("24h", "1h|24h|7d|90d")},
    roles=("viewer", "admin"),
)

HOUR = Resource(
    "fleet-hour",
    key="cache:fleet-hour:cpu",
    tier="5m",
    origin=Rpc("breakwater_fleet_hour"),
    roles=("viewer", "admin"),
    # Of 5,000 servers it is some 280 KB.
    max_bytes=524_288,
)
"""The CPU of all servers in the last hour, for a line beside each: one read, however many servers there are."""
