"""Answers worth keeping: what makes two questions the same, what an entry holds, and when it may be served."""

import json
import re
from dataclasses import dataclass

from ..ai.question import Answer


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as the cache holds it, with the invalidation epochs it was computed under."""

    answer: Answer
    epochs: tuple[int, ...]


_HALF = re.compile("[\ud800-\udfff]")


def dump(entry: Entry) -> str:
    """The entry as stored."""
    answer = entry.answer
    fields = {"v": 2, "t": answer.text, "m": answer.model, "p": answer.provider, "at": answer.stored_at_ms}
    fields |= {"n": answer.tokens, "ms": answer.took_ms, "e": list(entry.epochs)}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def parse(text: str | None, epochs: tuple[int, ...]) -> Answer | None:
    """The answer that ``text`` stores, if it does and was computed under the present ``epochs``; else a miss."""
    try:
        values = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    match values:
        # Half a surrogate pair is no character: no reply could carry it.
        case {
            "v": 2,
            "t": str(text),
            "m": str(model),
            "p": str(provider),
            "at": int(at),
            "n": int() | None as tokens,
            "ms": int(took_ms),
            "e": [*stored],
        } if text and tuple(stored) == epochs and not _HALF.search(text + model + provider):
            return Answer(text, model, provider, at, tokens, took_ms)
    return None


def parse_epoch(text: str | None) -> int:
    """An invalidation counter; one that is missing or no number counts as 0."""
    return int(text) if text and re.fullmatch(r"\d{1,15}", text) else 0
