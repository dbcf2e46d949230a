"""LiteLLM's hook for keys that are kept elsewhere: every key is good, and has the limit that it names.

Without it LiteLLM wants a PostgreSQL for its keys; with it, it limits and caches just the same. Runs in LiteLLM's own
environment.
"""

from typing import Any

from litellm.proxy._types import UserAPIKeyAuth


async def user_api_key_auth(request: Any, api_key: str) -> Any:
    """`sk-<calls a minute>-<name>`."""
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=int(api_key.split("-")[1]))
