"""Servers: their reporters' reports, how they are now, and how they were.

One function for all these paths, by rewrites in ``vercel.json``, so that reports and readers share warm instances.
"""

from lib.app.instance import instance
from lib.data.table import data_routes
from lib.fleet.agents import TakeBatch, TakeExport
from lib.fleet.dashboard import ReadFleet
from lib.fleet.history import HISTORY, HOUR
from lib.fleet.hour import ReadHour
from lib.fleet.report import TakeReport

app = data_routes(
    instance,
    {"/api/servers/{id}/history": HISTORY, "/api/dashboard/history": HOUR},
    more={
        "/api/dashboard": {"get": ReadFleet},
        # In front of the resource: simulated servers have no records.
        "/api/dashboard/history": {"get": ReadHour},
        "/api/servers": {"get": ReadFleet},
        "/api/servers/report": {"post": TakeReport},
        "/api/servers/report/v1/metrics": {"post": TakeExport},
        "/api/servers/report/telegraf": {"post": TakeBatch},
        "/api/servers/{id}": {"get": ReadFleet},
    },
)
