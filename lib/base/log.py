"""Events as lines of the log, and for any number of listeners."""

import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from .cost import Cost
from .events import Event, Listener, Spent

_log = logging.getLogger("breakwater")


def log(event: Event) -> None:
    """Log an event as one line of JSON, which Vercel shows as a structured record."""
    if not _log.isEnabledFor(event.level):
        return
    record: dict[str, object] = {"event": event.event, "level": logging.getLevelName(event.level).lower()}
    kind: Any = type(event)
    for name in _names(kind):
        if (value := getattr(event, name)) is not None:
            record[name] = value if isinstance(value, str) else _short(value)
    _log.log(event.level, _to_line(record))


_to_line = json.JSONEncoder(ensure_ascii=False).encode


@lru_cache(maxsize=64)
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _short(value: object) -> object:
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, Spent | Cost):
        kind: Any = type(value)
        return {name: round(part, 2) for name in _names(kind) if (part := getattr(value, name))}
    return value


def broadcast(listeners: Sequence[Listener]) -> Listener:
    """One listener that calls all of them; one that fails is logged and disturbs neither the others nor the request."""

    def emit(event: Event) -> None:
        for listener in listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - whatever it is, observing must not break what is observed
                _log.exception("a listener failed on %s", event.event)

    return emit
