"""Any address that sends JSON, as an origin."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ...base.values import dataclass
from ..body import Body
from .port import OriginFailed, Values
from .wire import is_there, json_of

if TYPE_CHECKING:
    from ...parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class Http:
    """``Http("https://api.example/menus/{id}")``. Values are percent-encoded; redirects are not followed.

    ``health``: an address for ``HEAD`` that shows whether it is there; without one, its root.
    """

    url: str
    name: str = ""
    headers: Mapping[str, str] | None = None
    """May hold a secret, which is neither logged nor part of a key."""
    health: str = ""
    timeout_s: float = 5.0
    has_check: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for what is no address."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "{" in parts.netloc:
            raise ValueError(f"url: {self.url!r}; write for example 'https://api.example/menus/{{id}}'")
        if not self.name:
            object.__setattr__(self, "name", parts.netloc.rpartition("@")[2])

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """GET the address."""
        encoded = {name: quote(value, safe="", errors="replace") for name, value in values.items()}
        url = self.url.format_map(encoded)
        if any(each in (".", "..") for each in urlsplit(url).path.split("/")):
            # They would be taken for the directory above, which was not offered.
            raise OriginFailed("rejected", "a value that is . or .. in the path", "caller", sent=False)
        return await json_of(
            parts.client.get(), "GET", url, left_s, headers=self.headers, secret=bool(self.headers), absent=(404, 410)
        )

    async def check(self, parts: "Parts") -> None:
        """HEAD the health address; anything but a failure of its own says that it is there."""
        address = urlsplit(self.url)
        url = self.health or f"{address.scheme}://{address.netloc}/"
        await is_there(parts.client.get(), url, self.timeout_s, self.headers)
