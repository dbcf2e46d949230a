"""Breakwater: what stands between callers and an AI backend on free tiers."""

import os

__version__ = "0.2.0"
"""The one place of the version: the distribution and the API's description read it here."""

# Pydantic would look through the metadata of every installed package for plugins: a tenth of its part in a cold start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
