"""The models that are configured, in the shapes of OpenAI's ``GET /v1/models``. Pure."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from .openai_errors import model_not_found
from .providers.registry import ProviderSettings


class ModelBody(TypedDict):
    """One model. ``created`` is always 0: no provider's settings say when a model was made."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsBody(TypedDict):
    """All models, in the order in which their providers are asked."""

    object: Literal["list"]
    data: list[ModelBody]


def model_id(provider: ProviderSettings) -> str:
    """``provider/model``; the provider's name alone where it has one model of its own."""
    return f"{provider.name}/{provider.model}" if provider.model else provider.name


def listed(providers: Sequence[ProviderSettings]) -> ModelsBody:
    """What is configured."""
    return {"object": "list", "data": [_described(each) for each in providers]}


def described(providers: Sequence[ProviderSettings], name: str) -> ModelBody:
    """One model by its id, or by the provider's own name for it. Raises Problem."""
    for each in providers:
        if name in (model_id(each), each.model):
            return _described(each)
    raise model_not_found(name, [model_id(each) for each in providers])


def _described(provider: ProviderSettings) -> ModelBody:
    return {"id": model_id(provider), "object": "model", "created": 0, "owned_by": provider.name}
