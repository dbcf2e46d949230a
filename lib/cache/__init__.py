"""Kept values: when they may be served, how they are stored, and who computes a missing one."""
