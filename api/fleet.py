"""Servers: their reporters' reports, how they are now, and how they were.

One function for all these paths, by rewrites in ``vercel.json``, so that reports and readers share warm instances.
"""

from lib.app.instance import instance
from lib.data.table import data_routes
from lib.fleet.dashboard import ReadFleet
from lib.fleet.history import HISTORY, HOUR
from lib.fleet.report import TakeReport

app = data_routes(
    instance,
    {"/api/servers/{id}/history": HISTORY, "/api/dashboard/history": HOUR},
    more={
        "/api/dashboard": {"get": ReadFleet},
        "/api/servers": {"get": ReadFleet},
        "/api/servers/report": {"post": TakeReport},
        "/api/servers/{id}": {"get": ReadFleet},
    },
)
