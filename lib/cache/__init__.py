"""Stored values: when they may be served, how they are written, and who computes a missing one."""
