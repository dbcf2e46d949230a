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
    "realtime": "/api/monitoring/realtime",
    "sessions": "/api/monitoring/sessions",
    "locks": "/api/monitoring/locks",
    "wait-events": "/api/monitoring/wait-events",
    "sql-statistics": "/api/monitoring/sql-statistics",
    "dashboard": "/api/dashboard/metrics",
}
"""What a page asks for at once, by its names in ``/api/data``."""
