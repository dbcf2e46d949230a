"""Breakwater: what stands between callers and an AI backend on free tiers."""

import os

# Pydantic would look through the metadata of every installed package for plugins: a tenth of its part in a cold start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
