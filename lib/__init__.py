"""Breakwater: what stands between callers and an AI backend on free tiers."""
