"""The three protocols from the server's side: strict about requests, literal about replies.

`Stage` is one server for all of them. It checks each request as the real service would, refuses a wrong one with 400 in
that service's shape, and otherwise plays the `Reply` that the test has set, byte by byte if need be.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.types import Receive, Scope, Send

from dev.backend import Query
from dev.faults import CLOSE, read_body
from lib.ai.providers import port
from lib.ai.providers.cloud_run import CloudRun
from lib.ai.providers.dialects import DIALECTS
from lib.ai.providers.openai_chat import OpenAIChat
from lib.ai.providers.port import Kind, Provider, ProviderFailed
from lib.ai.question import AnyQuestion, Json, Message, Question
from lib.pieces import Delta, Fault
from tests.rig.completions import End, said

KEY: Final = "key-7Zq3-never-shown"
ASKED: Final = "What is the tallest mountain, Chomolungma?"
SPOKEN: Final = "Sagarmatha is 8,849 metres tall."
REQUEST_ID: Final = "req-0193"


def asking(*turns: tuple[Literal["system", "user", "assistant"], str], **parameters: Json) -> Question:
    """A question; without turns the one that every test may ask."""
    messages = tuple(Message(role, content) for role, content in turns or (("user", ASKED),))
    return Question("session-1", messages, parameters)


# ---------------------------------------------------------------- what a server does


class Step:
    """What a reply does beside sending bytes."""

    HANG: Final = "hang"  # send nothing more, until the client leaves
    CUT: Final = "cut"  # close the connection in the middle of the body
    DRIP: Final = "drip"  # send a comment every few milliseconds, until the client leaves


@dataclass(frozen=True)
class Reply:
    """A status, headers and a body in the given chunks; the body ends where the steps do."""

    body: Sequence[bytes | str] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False
    """Not even the status line is sent."""


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply in JSON."""
    return Reply([json.dumps(value).encode()], status, {"content-type": "application/json", **(headers or {})})


def event(value: object, name: str | None = None) -> bytes:
    """A server-sent event."""
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def stream_reply(*body: bytes | str, headers: Mapping[str, str] | None = None) -> Reply:
    """A stream of events, each its own chunk, and steps."""
    return Reply(body, 200, {"content-type": "text/event-stream", **(headers or {})})


# ---------------------------------------------------------------- what a server demands


class Strict(BaseModel):
    """Unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ChatMessage(Strict):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class StreamOptions(Strict):
    """Without it the tokens of a stream are not told."""

    include_usage: Literal[True]


class ChatRequest(Strict):
    """CreateChatCompletionRequest, the part that is used."""

    model: str = Field(min_length=1)
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    stop: Annotated[list[str], Field(min_length=1, max_length=4)] | None = None
    stream: Literal[True] | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_belong_to_streams(self) -> "ChatRequest":
        if (self.stream is None) != (self.stream_options is None):
            raise ValueError("stream_options belongs to stream")
        return self


@dataclass(frozen=True)
class Seen:
    """A request that was taken."""

    path: str
    query: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    port: int
    """The client's: requests on one connection share it."""


class Refused(Exception):
    """The request is not what the protocol demands."""


def _demand(what: str, *, that: bool) -> None:
    if not that:
        raise Refused(what)


def _check_cloud_run(seen: Seen) -> None:
    query = Query.model_validate_json(json.dumps(seen.body))
    _demand("a bearer token", that=seen.headers.get("authorization") == f"Bearer {KEY}")
    _demand("a request id", that=seen.headers.get("x-request-id") == REQUEST_ID)
    accepted = "text/event-stream" if query.stream else "application/json"
    _demand("Accept to fit stream", that=seen.headers.get("accept") == accepted)


def _check_chat(seen: Seen) -> None:
    ChatRequest.model_validate(seen.body)
    _demand("a bearer token", that=seen.headers.get("authorization") == f"Bearer {KEY}")


@dataclass(frozen=True)
class Speech:
    """One provider: how to make its adapter, and how its server talks."""

    name: str
    path: str
    check: Callable[[Seen], None]
    error: Callable[[int, str], object]
    make: Callable[..., Provider]
    """`make(client, server's URL, **changes)`."""
    whole: Callable[[str], object]
    """A whole reply, as JSON."""
    piece: Callable[[str], object]
    """The next event of a stream."""
    ending: Callable[[str], Sequence[bytes]]
    """What follows the last piece of the given answer."""
    end: End
    """What the adapter makes of such an ending."""


def chat_chunk(finish: str | None = None, **delta: object) -> dict[str, object]:
    """A chat.completion.chunk."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_763_553_601,
        "model": "llama-3.3-70b",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": None,
    }


def chat_usage(total: int = 12) -> dict[str, object]:
    """The chunk that `include_usage` adds."""
    usage = {"prompt_tokens": total - 3, "completion_tokens": 3, "total_tokens": total}
    return {**chat_chunk(), "choices": [], "usage": usage}


def chat_completion(content: object, finish: str = "stop", **message: object) -> dict[str, object]:
    """A chat.completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_763_553_601,
        "model": "llama-3.3-70b",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }


def _cloud_run(client: httpx.AsyncClient, server: str, **changes: Any) -> Provider:
    return CloudRun(**{"client": client, "url": f"{server}/supervisor", "secret": KEY, **_TIMES, **changes})


def _gemini(client: httpx.AsyncClient, server: str, **changes: Any) -> Provider:
    named = {"api_key": KEY, "model": "gemini-2.5-flash", "base_url": f"{server}/v1beta/openai", "name": "gemini"}
    return OpenAIChat(**{"client": client, **named, "dialect": DIALECTS["gemini"], **_TIMES, **changes})


def _groq(client: httpx.AsyncClient, server: str, **changes: Any) -> Provider:
    named = {"api_key": KEY, "model": "llama-3.3-70b", "base_url": f"{server}/openai/v1", "name": "groq"}
    return OpenAIChat(**{"client": client, **named, **_TIMES, **changes})


_TIMES: Mapping[str, Any] = {"timeout_s": 10.0, "connect_timeout_s": 5.0}

CLOUD_RUN = Speech(
    name="cloud-run",
    path="/supervisor",
    check=_check_cloud_run,
    error=lambda status, message: {"error": {"status": status, "message": message}},
    make=_cloud_run,
    whole=lambda text: {"answer": text, "model": "supervisor-1"},
    piece=lambda text: {"delta": text},
    ending=lambda text: [event({"answer": text, "model": "supervisor-1", "done": True}), event("[DONE]")],
    end=End("supervisor-1", whole=True),
)
GEMINI = Speech(
    name="gemini",
    path="/v1beta/openai/chat/completions",
    check=_check_chat,
    error=lambda status, message: [{"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}],
    make=_gemini,
    whole=chat_completion,
    piece=lambda text: chat_chunk(content=text),
    ending=lambda _: [event(chat_chunk("stop")), event(chat_usage()), event("[DONE]")],
    end=End("llama-3.3-70b", whole=True, tokens=12),
)
GROQ = Speech(
    name="groq",
    path="/openai/v1/chat/completions",
    check=_check_chat,
    error=lambda _, message: {"error": {"message": message, "type": "invalid_request_error", "code": None}},
    make=_groq,
    whole=chat_completion,
    piece=lambda text: chat_chunk(content=text),
    ending=lambda _: [event(chat_chunk("stop")), event(chat_usage()), event("[DONE]")],
    end=End("llama-3.3-70b", whole=True, tokens=12),
)
SPEECHES = (CLOUD_RUN, GEMINI, GROQ)


# ---------------------------------------------------------------- the server


class Stage:
    """The server. Set `reply`; read `seen` (requests taken), `faults` (why others were refused), `left`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.reply: Reply = Reply(status=500)
        self.waits: Callable[[], None] = lambda: None
        """Called when a client begins to be kept waiting."""
        self.seen: list[Seen] = []
        self.faults: list[str] = []
        self.requests = 0
        self.taken = threading.Event()
        """Set when a request was understood."""
        self.left = threading.Event()
        """Set when a client left in the middle of a reply."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI app."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        self.requests += 1
        body = await read_body(receive)
        if body is None:
            self.left.set()
            return
        speech = next((each for each in SPEECHES if scope["path"].startswith(each.path)), None)
        reply = self.reply
        try:
            self.seen.append(_take(speech, scope, body))
            self.taken.set()
        except (Refused, ValidationError, ValueError) as error:
            self.faults.append(str(error))
            reply = json_reply(speech.error(400, str(error)) if speech else {}, 400 if speech else 404)
        await self._play(reply, scope, receive, send)

    async def _play(self, reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
        if not reply.silent:
            raw = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
            await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        gone = asyncio.create_task(_gone(receive))
        for step in reply.body:
            match step:
                case bytes():
                    await send({"type": "http.response.body", "body": step, "more_body": True})
                case Step.CUT:
                    scope["extensions"][CLOSE]()
                    await gone
                    return
                case Step.HANG:
                    self.waits()
                    await gone
                case Step.DRIP:
                    self.waits()
                    while not gone.done():
                        await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
                        await asyncio.wait([gone], timeout=0.01)
            if gone.done():
                self.left.set()
                return
        await send({"type": "http.response.body", "body": b""})
        await gone


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _take(speech: Speech | None, scope: Scope, body: bytes) -> Seen:
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode()
    _demand("a known path", that=speech is not None)
    _demand("POST", that=scope["method"] == "POST")
    _demand("application/json", that=headers.get("content-type") == "application/json")
    _demand("no key in the URL", that=KEY not in scope["path"] + query)
    value = json.loads(body)
    _demand("an object", that=isinstance(value, dict))
    seen = Seen(scope["path"], query, headers, value, scope["client"][1])
    if speech is not None:
        speech.check(seen)
    return seen


# ---------------------------------------------------------------- what a test expects


@dataclass(frozen=True)
class Failure:
    """A ProviderFailed, by what the guard looks at."""

    kind: Kind
    status: int | None = None
    rests_s: float | None = None
    fault: Fault = "theirs"


type Shown = Delta[str] | End


@dataclass
class Outcome:
    """What an answer says, piece by piece, and how it ended, or the failure that ended it."""

    pieces: list[Shown] = field(default_factory=list)
    error: ProviderFailed | None = None
    ended: port.End | None = None
    chunks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failure(self) -> Failure | None:
        """The failure as a value; its waiting time to the millisecond."""
        if self.error is None:
            return None
        rests_s = None if self.error.rests_s is None else round(self.error.rests_s, 3)
        return Failure(self.error.kind, self.error.status, rests_s, self.error.fault)

    @property
    def text(self) -> str:
        """The text that came."""
        return "".join(piece.part for piece in self.pieces if isinstance(piece, Delta))

    @property
    def seen(self) -> object:
        """What a table compares: the failure alone if nothing came before it, else the pieces, then the failure."""
        if self.failure is None:
            return self.pieces
        return [*self.pieces, self.failure] if self.pieces else self.failure


async def ask(
    provider: Provider, question: AnyQuestion | None = None, *, stream: bool = False, left_s: float = 10.0
) -> Outcome:
    """Ask to the end. A whole reply is shown as one piece, a chunk that has no text not at all."""
    outcome = Outcome()
    try:
        pieces = provider.ask(question or asking(), request_id=REQUEST_ID, left_s=left_s, stream=stream)
        async for piece in pieces:
            if isinstance(piece, Delta):
                outcome.chunks.append(piece.part)
                if text := said(piece.part):
                    outcome.pieces.append(Delta(text))
                continue
            answer, outcome.ended = piece.answer, piece
            if not stream and answer.text:
                outcome.pieces.append(Delta(answer.text))
            outcome.pieces.append(End(answer.model, piece.keeps, answer.tokens, piece.rests_s))
    except ProviderFailed as failed:
        outcome.error = failed
    return outcome
