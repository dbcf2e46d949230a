"""What is looked at of a watched database: the statement behind each path, with what its parameters are by default."""

VIEWS: dict[str, tuple[str, dict[str, str]]] = {
    "/api/dashboard/metrics": ("dashboard", {}),
    "/api/monitoring/sessions": ("sessions", {}),
    "/api/monitoring/locks": ("locks", {}),
    "/api/monitoring/wait-events": ("waits", {}),
    "/api/monitoring/realtime": ("realtime", {}),
    "/api/monitoring/sql-statistics": ("top", {"limit": "100"}),
    "/api/schemas": ("schemas", {}),
    "/api/tables": ("tables", {"schema": "public", "page": "1", "sizes": "0"}),
    "/api/columns": ("columns", {"schema": "public", "table": ""}),
}
BATCH = {
    "realtime:shop": "/api/monitoring/realtime",
    "sessions:shop": "/api/monitoring/sessions",
    "locks:shop": "/api/monitoring/locks",
    "wait-events:shop": "/api/monitoring/wait-events",
    "sql-statistics:shop:100": "/api/monitoring/sql-statistics",
    "dashboard:shop": "/api/dashboard/metrics",
}
"""What a page asks for at once, by its names in ``/api/data``."""
