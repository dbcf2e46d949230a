"""The models that clients may name, in the shapes of OpenAI's ``GET /v1/models``."""

from typing import Literal, TypedDict

from .models import DEFAULT, Models
from .openai_errors import model_not_found


class ModelBody(TypedDict):
    """One model. ``created`` is always 0: no provider's settings say when a model was made."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsBody(TypedDict):
    """All models: first the one that means all providers in their order, then theirs."""

    object: Literal["list"]
    data: list[ModelBody]


def listed(models: Models) -> ModelsBody:
    """What may be named."""
    return {"object": "list", "data": [_described(name, owner) for name, owner in _named(models).items()]}


def described(models: Models, name: str) -> ModelBody:
    """One model by what a client may call it. Raises Problem."""
    named = _named(models)
    owner = named.get(name) or next(iter(models.choose(name) or ()), None)
    if owner is None:
        raise model_not_found(name, named)
    return _described(name, owner)


def _named(models: Models) -> dict[str, str]:
    return {DEFAULT: "breakwater", **dict(models.names())}


def _described(name: str, owner: str) -> ModelBody:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
