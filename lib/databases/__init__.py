"""Databases that are watched: their sessions, locks, statements and tables, read through data routes."""
