"""HTTP: what every route shares, from the request to the log line."""
