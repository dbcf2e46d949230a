"""Replies of OpenAI's protocol as the tests of everything around it need them: a text, and how it ended."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lib.ai import answers
from lib.ai.completions import Chunk, text_in
from lib.ai.providers import port


@dataclass(frozen=True)
class End:
    """How an answer ends, by what the guard looks at; ``whole``: it was not cut."""

    model: str
    whole: bool
    tokens: int | None = None
    rests_s: float | None = None

    def piece(self, text: str) -> port.End:
        """The end of an answer with that text."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        reply = {**self._top, "object": "chat.completion", "choices": [choice], **self._usage}
        return port.End(answers.whole(reply, self.model), self.whole, self.rests_s)

    def last_chunks(self) -> Iterator[Chunk]:
        """What follows the last chunk with text."""
        choice = {"index": 0, "delta": {}, "finish_reason": self._finish}
        yield {**self._top, "object": "chat.completion.chunk", "choices": [choice]}
        if self._usage:
            yield {**self._top, "object": "chat.completion.chunk", "choices": [], **self._usage}

    @property
    def _finish(self) -> str:
        return "stop" if self.whole else "length"

    @property
    def _top(self) -> Mapping[str, Any]:
        return {"id": "chatcmpl-1", "created": 1_763_553_601, "model": self.model}

    @property
    def _usage(self) -> Mapping[str, Any]:
        if self.tokens is None:
            return {}
        return {"usage": {"prompt_tokens": 0, "completion_tokens": self.tokens, "total_tokens": self.tokens}}


def chunk(text: str, end: End) -> Chunk:
    """A piece of a text."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {**end._top, "object": "chat.completion.chunk", "choices": [choice]}


def said(chunk: Chunk) -> str:
    """What a chunk adds to the text."""
    return "".join(text_in(choice["delta"]) for choice in chunk["choices"])
