"""A provider that is made when it is first called: an answer from the cache needs neither its module nor a client."""

from collections.abc import AsyncGenerator, Callable
from importlib import import_module
from typing import TYPE_CHECKING

from ...base.values import dataclass
from ..question import AnyQuestion
from .port import Piece, Provider
from .registry import BY_NAME, ProviderSettings

if TYPE_CHECKING:
    import httpx


@dataclass(slots=True, eq=False)
class LazyProvider:
    """Stands for the provider that ``settings`` describe."""

    settings: ProviderSettings
    client: "Callable[[], httpx.AsyncClient]"
    _provider: Provider | None = None

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.settings.name

    @property
    def provider(self) -> Provider:
        """The provider itself."""
        if self._provider is None:
            module = import_module(f".{BY_NAME[self.name].module}", __package__)
            built: Provider = module.build(self.settings, self.client())
            self._provider = built
        return self._provider

    def ask(self, question: AnyQuestion, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; see ``Provider``."""
        return self.provider.ask(question, request_id=request_id, left_s=left_s, stream=stream)
