"""What Supabase has recorded of a server, as a resource: from memory, Redis or Supabase, like any other."""

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
