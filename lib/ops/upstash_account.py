"""What Upstash itself says that a database has used, by its developer API.

``GET /v2/redis/databases`` lists databases with ``database_id`` and ``endpoint``; ``GET /v2/redis/stats/{id}`` holds
``total_monthly_requests``, the figure that the month's limit is held against. Both take the account's e-mail and an API
key as Basic authentication (https://upstash.com/docs/devops/developer-api).
"""

import asyncio
from urllib.parse import quote, urlsplit

import httpx
from pydantic_core import from_json

from ..base.values import dataclass

_TIMEOUT_S = 10.0


class AccountDown(Exception):
    """Upstash did not say. The text holds neither the key nor the address."""


@dataclass(slots=True)
class UpstashAccount:
    """One account, and the database in it that a REST address belongs to."""

    client: httpx.AsyncClient
    url: str
    email: str
    key: str
    redis_url: str

    async def month_commands(self) -> int:
        """The commands billed so far in this calendar month. Raises AccountDown."""
        found = await self._get(f"/v2/redis/stats/{quote(await self._database(), safe='')}")
        match found:
            case {"total_monthly_requests": int(total)} if total >= 0:
                return total
            case {"total_monthly_requests": float(total)} if total >= 0:
                return round(total)
        raise AccountDown("the statistics have no total_monthly_requests")

    async def _database(self) -> str:
        host = urlsplit(self.redis_url).hostname or ""
        # An endpoint is listed with or without its domain.
        known_as = (host, host.partition(".")[0])
        listed = await self._get("/v2/redis/databases")
        for each in listed if isinstance(listed, list) else ():
            match each:
                case {"database_id": str(name), "endpoint": str(endpoint)} if endpoint in known_as:
                    return name
        raise AccountDown("none of the account's databases has the address in KV_REST_API_URL")

    async def _get(self, path: str) -> object:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                response = await self.client.get(
                    f"{self.url}{path}", auth=httpx.BasicAuth(self.email, self.key), timeout=_TIMEOUT_S
                )
        except (TimeoutError, httpx.HTTPError) as e:
            raise AccountDown(type(e).__name__) from e
        if response.status_code != 200:
            raise AccountDown(f"HTTP {response.status_code}")
        try:
            found: object = from_json(response.content)
        except ValueError as e:
            raise AccountDown("the reply is not JSON") from e
        return found
