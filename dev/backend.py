"""The local AI backend: answers questions about this machine and the local stack, without a network.

It stands where the project's Cloud Run service stands and speaks its protocol. It is no language model: a table of
words finds what a question is about, and the answer is measured at that moment.

Three parts, in this order: what is measured (`Machine`, the only part that touches the computer), what is answered
(`reply_to`, a pure function), and the HTTP service (`backend_app`).
"""

import json
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil  # type: ignore[import-untyped]  # it ships no types
from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from dev import fleet_answers, sql_rules
from dev.faults import Faults, with_faults

MODEL = "local-supervisor"
MAX_BODY_BYTES = 1_000_000
EVENT_STREAM = "text/event-stream"

# ---------------------------------------------------------------- what is measured


class Disk(NamedTuple):
    """One mounted file system, in bytes. What is reserved for root is neither used nor free, as in `df`."""

    mount: str
    used: int
    free: int

    @property
    def total(self) -> int:
        """What an ordinary user can fill."""
        return self.used + self.free

    @property
    def percent(self) -> float:
        """How full it is."""
        return 100 * self.used / self.total if self.total else 0.0


class Process(NamedTuple):
    """One running process; `cpu_percent` is of one core, `memory` is the resident set in bytes."""

    name: str
    pid: int
    cpu_percent: float
    memory: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine at one moment. Bytes, seconds and percent; rates are bytes a second over the sampling interval."""

    cpu_percent: float
    cores: int
    load: tuple[float, float, float]
    memory_total: int
    memory_available: int
    swap_used: int
    swap_total: int
    uptime_s: float
    disks: tuple[Disk, ...]
    processes: tuple[Process, ...]
    received_rate: float
    sent_rate: float
    received: int
    sent: int


def _disks() -> tuple[Disk, ...]:
    """Every real file system once: bind mounts repeat a device, and an image such as a snap is always full."""
    seen: dict[int, Disk] = {}
    mounts = [part.mountpoint for part in psutil.disk_partitions() if part.fstype not in {"squashfs", "iso9660"}]
    for mount in ["/", *mounts]:
        with suppress(OSError):  # a mount that may not be read, or that went away
            device = Path(mount).stat().st_dev
            if device in seen or not Path(mount).is_dir():
                continue
            usage = psutil.disk_usage(mount)
            seen[device] = Disk(mount, usage.used, usage.free)
    return tuple(seen.values())


def _processes(watched: Sequence[psutil.Process]) -> tuple[Process, ...]:
    found = []
    for process in watched:
        with suppress(psutil.Error), process.oneshot():  # processes end while they are read
            found.append(
                Process(process.name(), process.pid, process.cpu_percent(interval=None), process.memory_info().rss)
            )
    return tuple(found)


def measure(interval_s: float = 0.2) -> Machine:
    """Measure this machine; blocks for `interval_s`, which CPU use and network rates are averaged over."""
    watched = list(psutil.process_iter())
    for process in watched:
        with suppress(psutil.Error):
            process.cpu_percent(interval=None)  # the first call only sets the starting point
    before = psutil.net_io_counters(nowrap=True)
    started = time.perf_counter()
    cpu_percent = psutil.cpu_percent(interval=interval_s)
    elapsed_s = time.perf_counter() - started
    after = psutil.net_io_counters(nowrap=True)
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    # A machine without network interfaces has no counters at all.
    received, sent = (after.bytes_recv, after.bytes_sent) if after else (0, 0)
    return Machine(
        cpu_percent=cpu_percent,
        cores=psutil.cpu_count() or 1,
        load=psutil.getloadavg(),
        memory_total=memory.total,
        memory_available=memory.available,
        swap_used=swap.used,
        swap_total=swap.total,
        uptime_s=max(0.0, time.time() - psutil.boot_time()),
        disks=_disks(),
        processes=_processes(watched),
        received_rate=(received - before.bytes_recv) / elapsed_s if before else 0.0,
        sent_rate=(sent - before.bytes_sent) / elapsed_s if before else 0.0,
        received=received,
        sent=sent,
    )


@dataclass(slots=True)
class Meter:
    """Measures at most once a second, however many callers ask: a benchmark must not turn into a process listing."""

    fresh_s: float = 1.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: tuple[float, Machine] | None = None

    def read(self) -> Machine:
        """Return a reading that is at most `fresh_s` old; blocks, so call it in a thread."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self.fresh_s:
                self._last = (time.monotonic(), measure())
            return self._last[1]


# ---------------------------------------------------------------- what is answered

type Language = Literal["ko", "en"]
type Topic = Literal["processes", "disk", "memory", "cpu", "load", "uptime", "network", "redis", "supabase", "stack"]
type Aspect = Literal["left", "most", "by_memory", "by_cpu"]

# English words match at a word's start ("disk" finds "disks" but "load" not "download"); Korean ones match anywhere,
# since particles and compounds join them. The order is the order of a summary. To `re.ASCII` a word ends where Korean
# begins: "CPU가".
TOPICS: dict[Topic, str] = {
    "cpu": r"\bcpus?\b|\bprocessors?\b|\bcores?\b|시피유|프로세서|코어",
    "load": r"\bload(s|ed)?\b|\bload ?avg|부하|(?<!다운)(?<!업)로드",
    "memory": r"\bmemory\b|\bram\b|\bswap|메모리|램(?!프)|스왑",
    "disk": r"\bdis[kc]s?\b|\bstorage\b|\bvolumes?\b|\bfile ?systems?\b|\bssd\b"
    r"|디스크|저장 ?공간|스토리지|하드|(?<!메모리 )용량",
    "uptime": r"\bup ?time\b|\bboot|\brunning for\b|\b(how long|since when)\b.*\b(up|on)\b"
    r"|가동|업타임|부팅|켜진|켜져|얼마나 오래",
    "processes": r"\bprocess(es)?\b|\bprograms?\b|\bbusiest\b|\btop (\d+|by|cpu|memory|ram)\b"
    r"|\b(what|which|who)('s| is)? (using|eating|hogging|uses|eats)\b|프로세스|프로그램|많이 (쓰|사용하|먹)는|잡아먹",
    "network": r"\bnetwork|\btraffic\b|\bbandwidth\b|\b(down|up)loads?\b|\bnet\b"
    r"|네트워크|트래픽|대역폭|다운로드|업로드",
    "redis": r"\bredis\b|\bupstash\b|\bvalkey\b|\bcache\b|레디스|업스태시|캐시",
    "supabase": r"\bsupabase\b|\bpostgres|\bdatabase\b|\bdb\b|수파베이스|슈퍼베이스|포스트그레|데이터베이스|디비",
    "stack": r"\bstack\b|\bmode\b|\bcommands?\b|\bquota\b|스택|모드|명령|쿼터|할당량",
}
SUMMARY = (
    r"\bsummar|\boverview\b|\bstatus\b|\bhealth|\beverything\b|\b(server|machine|system)\b"
    r"|요약|전체|현황|상태|서버|시스템"
)
ASPECTS: dict[Aspect, str] = {
    "left": r"\bleft\b|\bfree\b|\bavailable\b|\bremain|\bspare\b|남|여유|가용|비어",
    "most": r"\bfullest\b|\bmost\b|\bbusiest\b|\bhighest\b|\blargest\b|\bbiggest\b|가장|제일|꽉|최대",
    "by_memory": r"\bmemory\b|\bram\b|메모리|램(?!프)",
    "by_cpu": r"\bcpu\b|시피유|프로세서",
}
# These say nothing about the language of a question.
NEUTRAL = r"\b(cpu|ram|ssd|db|io|ip|os|redis|upstash|supabase|postgres|postgresql|valkey|ok)\b"
MORE = r"^\W*(and|what about|how about|again|now|also|then)\b|^\W*(그럼|그러면|그리고|다시|또|지금)|(는|은|도)\W*$"

SUMMARY_TOPICS: tuple[Topic, ...] = ("cpu", "load", "memory", "disk", "uptime", "processes", "network", "stack")


@dataclass(frozen=True, slots=True)
class Question:
    """What a question asks: the topics in order (none: not understood), what of them, and how many processes."""

    topics: tuple[Topic, ...]
    aspects: frozenset[Aspect]
    language: Language
    count: int | None = None


def understand(text: str, earlier: Question | None = None) -> Question:
    """Find what `text` asks. `earlier` is the question before it, which a follow-up leans on."""
    text = text.casefold()
    topics = tuple(topic for topic, words in TOPICS.items() if re.search(words, text, re.ASCII))
    aspects = frozenset(aspect for aspect, words in ASPECTS.items() if re.search(words, text, re.ASCII))
    number = re.search(r"\btop (\d{1,2})\b|(\d{1,2}) ?개|\b(\d{1,2}) (?:top|busiest|process)", text)
    count = int(next(group for group in number.groups() if group)) if number else None

    if "processes" in topics:
        # "Top processes by CPU" is about processes; the CPU is how they are sorted.
        topics = tuple(topic for topic in topics if topic not in {"cpu", "memory", "load"})
    if topics[-1:] == ("stack",) and {"redis", "supabase"} & set(topics):
        topics = topics[:-1]  # "how many commands did Redis use" is answered by Redis alone
    if not topics and re.search(SUMMARY, text):
        topics = SUMMARY_TOPICS

    # "and memory?", "그럼 디스크는?"; or a question without a subject, such as "and which is the fullest?"
    if earlier is not None and (re.search(MORE, text) or (aspects and not topics)):
        if earlier.topics == ("processes",) and topics in {("memory",), ("cpu",)}:
            topics = ("processes",)  # after "top processes by CPU", "and memory?" sorts them anew
        elif not topics:
            topics = earlier.topics
        count = count or earlier.count
        if not aspects & {"left", "most"}:
            aspects |= earlier.aspects & {"left", "most"}
    return Question(topics, aspects, _language(text, earlier), count)


def _language(text: str, earlier: Question | None) -> Language:
    if re.search(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]", text):
        return "ko"
    if earlier is not None and not re.search(r"[a-z]", re.sub(NEUTRAL, "", text, flags=re.ASCII)):
        return earlier.language
    return "en"


def size(count: float) -> str:
    """Write bytes for a reader, in binary units: 1536 is 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def span(seconds: float, language: Language) -> str:
    """Write a length of time for a reader, its two largest units."""
    minutes, hours, days = int(seconds) // 60 % 60, int(seconds) // 3600 % 24, int(seconds) // 86400
    units = (
        [(days, "일"), (hours, "시간"), (minutes, "분"), (int(seconds) % 60, "초")]
        if language == "ko"
        else [(days, " d"), (hours, " h"), (minutes, " min"), (int(seconds) % 60, " s")]
    )
    first = next((i for i, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count}{unit}" for count, unit in units[first : first + 2] if count or first == len(units) - 1)


def _cpu(m: Machine, q: Question) -> str:
    if q.language == "ko":
        return f"CPU 사용률은 {m.cpu_percent:.1f}%입니다 (코어 {m.cores}개)."
    return f"CPU use is {m.cpu_percent:.1f} % ({m.cores} core{'s' * (m.cores != 1)})."


def _load(m: Machine, q: Question) -> str:
    one, five, fifteen = m.load
    busy = one / m.cores
    if q.language == "ko":
        verdict = "여유 있음" if busy < 0.7 else "바쁨" if busy <= 1 else "과부하"
        return f"평균 부하는 1분 {one:.2f}, 5분 {five:.2f}, 15분 {fifteen:.2f}입니다 (코어 {m.cores}개 기준 {verdict})."
    verdict = "relaxed" if busy < 0.7 else "busy" if busy <= 1 else "overloaded"
    return (
        f"The load average is {one:.2f} over 1 min, {five:.2f} over 5 min and {fifteen:.2f} over 15 min: "
        f"{verdict} for {m.cores} core{'s' * (m.cores != 1)}."
    )


def _memory(m: Machine, q: Question) -> str:
    used = m.memory_total - m.memory_available
    percent = 100 * used / m.memory_total
    free, total = size(m.memory_available), size(m.memory_total)
    if q.language == "ko":
        swap = f" 스왑은 {size(m.swap_total)} 중 {size(m.swap_used)} 사용 중입니다." if m.swap_total else ""
        if "left" in q.aspects:
            return f"메모리는 {total} 중 {free} 남았습니다 ({100 - percent:.1f}% 여유).{swap}"
        return f"메모리는 {total} 중 {size(used)} 사용 중이고({percent:.1f}%) {free} 남았습니다.{swap}"
    swap = f" Swap: {size(m.swap_used)} of {size(m.swap_total)} used." if m.swap_total else ""
    if "left" in q.aspects:
        return f"{free} of {total} of memory is available ({100 - percent:.1f} % free).{swap}"
    return f"Memory: {size(used)} of {total} used ({percent:.1f} %), {free} available.{swap}"


def _disk(m: Machine, q: Question) -> str:
    if not m.disks:
        return "읽을 수 있는 디스크가 없습니다." if q.language == "ko" else "No disk can be read."
    disks = sorted(m.disks, key=lambda disk: disk.percent, reverse=True)
    if q.language == "ko":
        lines = [f"{d.mount}: {d.percent:.1f}% 사용, {size(d.total)} 중 {size(d.free)} 남음" for d in disks]
        if len(disks) == 1:
            return f"디스크는 하나입니다. {lines[0]}."
        return f"가장 많이 찬 디스크는 {disks[0].mount}입니다.\n" + "\n".join(f"- {line}" for line in lines)
    lines = [f"{d.mount}: {d.percent:.1f} % used, {size(d.free)} of {size(d.total)} free" for d in disks]
    if len(disks) == 1:
        only = "the fullest, and the only one" if "most" in q.aspects else "the only one"
        return f"Disk {lines[0]} ({only})."
    return f"The fullest disk is {disks[0].mount}.\n" + "\n".join(f"- {line}" for line in lines)


def _uptime(m: Machine, q: Question) -> str:
    if q.language == "ko":
        return f"가동 시간은 {span(m.uptime_s, 'ko')}입니다."
    return f"Up for {span(m.uptime_s, 'en')}."


def _top(m: Machine, q: Question) -> str:
    by_memory = "by_memory" in q.aspects and "by_cpu" not in q.aspects
    ranked = sorted(m.processes, key=lambda p: (p.memory, p.cpu_percent), reverse=True)
    if not by_memory:
        ranked.sort(key=lambda p: p.cpu_percent, reverse=True)  # stable: idle ones stay in order of memory
    shown = ranked[: max(1, min(q.count or 5, 20))]
    lines = [f"- {p.name} (PID {p.pid}): CPU {p.cpu_percent:.1f}%, {size(p.memory)}" for p in shown]
    if q.language == "ko":
        head = f"{'메모리' if by_memory else 'CPU'} 사용 상위 프로세스 {len(shown)}개 (전체 {len(m.processes)}개):"
    else:
        head = f"Top {len(shown)} of {len(m.processes)} processes by {'memory' if by_memory else 'CPU'}:"
    return "\n".join([head, *lines])


def _network(m: Machine, q: Question) -> str:
    down, up, received, sent = size(m.received_rate), size(m.sent_rate), size(m.received), size(m.sent)
    if q.language == "ko":
        return f"네트워크는 수신 {down}/s, 송신 {up}/s입니다 (부팅 후 수신 {received}, 송신 {sent})."
    return f"Network: receiving {down}/s, sending {up}/s ({received} received and {sent} sent since boot)."


WRITERS: dict[Topic, Callable[[Machine, Question], str]] = {
    "cpu": _cpu,
    "load": _load,
    "memory": _memory,
    "disk": _disk,
    "uptime": _uptime,
    "processes": _top,
    "network": _network,
}

KOREAN_LABELS = {
    "mode": "모드", "state": "상태", "kind": "종류", "version": "버전", "url": "주소", "commands": "사용한 명령",
    "keys": "키", "memory_bytes": "메모리", "error": "오류", "supabase": "Supabase",
    "redis": "Redis", "size_bytes": "크기", "rpc_calls": "RPC 호출",
}  # fmt: skip
ENGLISH_LABELS = {
    "mode": "Mode", "redis": "Redis", "supabase": "Supabase", "commands": "commands used",
    "memory_bytes": "memory", "size_bytes": "size", "rpc_calls": "RPC calls",
}  # fmt: skip


def _stack(state: Mapping[str, object], q: Question, only: str | None = None) -> str:
    """Write the stack's state: a plain value or a mapping of values for each part."""
    if only is not None and only not in state:
        if q.language == "ko":
            return f"{KOREAN_LABELS[only]}의 상태는 이 백엔드에서 알 수 없습니다."
        return f"This backend does not know the state of {ENGLISH_LABELS[only]}."
    if not state:
        return "스택의 상태를 알 수 없습니다." if q.language == "ko" else "The state of the stack is not known here."
    labels = KOREAN_LABELS if q.language == "ko" else ENGLISH_LABELS

    def value(name: str, item: object) -> str:
        if isinstance(item, int) and not isinstance(item, bool):
            return size(item) if name.endswith("_bytes") else f"{item:,}"
        return str(item)

    lines = []
    for name, part in state.items():
        if only is not None and name != only:
            continue
        if isinstance(part, Mapping):
            text = ", ".join(f"{labels.get(key, key)} {value(key, item)}" for key, item in part.items())
        else:
            text = value(name, part)
        lines.append(f"{labels.get(name, name)}: {text}")
    return "\n".join(lines)


def _help(q: Question) -> str:
    if q.language == "ko":
        return (
            "이 질문은 이해하지 못했습니다. 저는 이 서버의 CPU, 부하, 메모리, 디스크, 가동 시간, 프로세스, 네트워크와 "
            "Redis·Supabase 상태를 알려 드릴 수 있습니다.\n"
            '예: "서버 상태 요약해줘", "메모리 얼마나 남았어?", "가장 많이 찬 디스크는?", "Redis 상태는?"'
        )
    return (
        "I did not understand that. I can report on this server's CPU, load, memory, disks, uptime, processes and "
        "network, and on the state of Redis and Supabase.\n"
        'Try: "summarise the server", "which disk is fullest?", "top 3 processes by memory", "how is Redis?"'
    )


def reply_to(question: Question, machine: Machine, stack: Mapping[str, object]) -> str:
    """Write the answer, in the question's language. Pure: equal values give an equal answer."""
    if not question.topics:
        return _help(question)
    parts = []
    for topic in question.topics:
        if topic in WRITERS:
            parts.append(WRITERS[topic](machine, question))
        elif topic == "stack":
            parts.append(_stack(stack, question))
        else:
            parts.append(_stack(stack, question, only=topic))
    return "\n".join(parts)


# ---------------------------------------------------------------- the service


class Message(BaseModel):
    """One earlier turn of the conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Query(BaseModel):
    """The body of a request. Unknown fields are refused, so that a misspelt one shows here and not in production."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: str = Field(min_length=1, max_length=20_000, pattern=r"\S")
    sessionId: str = Field(min_length=1, max_length=200)  # noqa: N815  # the protocol's spelling
    messages: list[Message] = Field(default_factory=list, max_length=200)
    parameters: dict[str, Any] = Field(default_factory=dict)
    stream: bool = False

    def question(self) -> Question:
        """Read the query in the light of the last question before it."""
        asked = [message.content for message in self.messages if message.role == "user"]
        if asked and asked[-1] == self.query:
            asked.pop()  # some callers list the current question as the last message
        earlier: Question | None = None
        for text in asked[-5:]:  # a chain of follow-ups: each leans on the one before
            earlier = understand(text, earlier)
        return understand(self.query, earlier)


def error_body(status: int, message: str | None = None) -> dict[str, object]:
    """The JSON of every error that this service answers."""
    return {"error": {"status": status, "message": message or HTTPStatus(status).phrase}}


def backend_app(
    *,
    secret: str,
    stack_state: Callable[[], Mapping[str, object]] | None = None,
    faults: Faults | None = None,
    read_machine: Callable[[], Machine] | None = None,
) -> ASGIApp:
    """The ASGI app of the local AI backend.

        POST / or /api/ai/supervisor   a `Query` with `Authorization: Bearer <secret>` -> {"answer", "model"}
        GET  /health                   {"ok": true}

    With `"stream": true` the answer comes as server-sent events: `{"delta"}` for each word, then
    `{"answer", "model", "done": true}`, then `[DONE]`. Errors are `error_body(status)`. `stack_state` and
    `read_machine` run in a thread and may block; an exception of theirs is a 500.
    """
    if not secret:
        raise ValueError("the backend needs a secret")
    service = _Service(secret, stack_state or dict, read_machine or Meter().read)
    app = Starlette(
        routes=[
            Route("/", service.answer, methods=["POST"]),
            Route("/api/ai/supervisor", service.answer, methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refused},
    )
    return with_faults(app, faults or Faults(), error_body, stats=service.stats, reset_stats=service.reset_stats)


class _Service:
    def __init__(
        self, secret: str, stack_state: Callable[[], Mapping[str, object]], read_machine: Callable[[], Machine]
    ) -> None:
        self._authorization = f"Bearer {secret}".encode()
        self._stack_state = stack_state
        self._read_machine = read_machine
        self._answers = 0

    def stats(self) -> dict[str, object]:
        return {"answers": self._answers}

    def reset_stats(self) -> None:
        self._answers = 0

    async def answer(self, request: Request) -> Response:
        # Bytes, since compare_digest refuses other than ASCII text; a header's bytes are latin-1.
        given = request.headers.get("authorization", "").encode("latin-1")
        if not secrets.compare_digest(given, self._authorization):
            raise HTTPException(401, "wrong or missing bearer token", {"WWW-Authenticate": "Bearer"})
        try:
            query = Query.model_validate_json(await _read(request))
        except ValidationError as error:
            raise HTTPException(400, _reasons(error)) from error
        system = next((message.content for message in query.messages if message.role == "system"), "")
        text = sql_rules.answer(system, query.query)
        if text is None and isinstance(fleet := query.parameters.get("fleet"), dict):
            asked = query.question()
            text = fleet_answers.answer(query.query, asked.topics, asked.language, fleet)
        if text is None:
            text = await to_thread.run_sync(self._reply_to, query.question())
        self._answers += 1
        if query.stream:
            return StreamingResponse(_events(text), headers={"cache-control": "no-store"}, media_type=EVENT_STREAM)
        return JSONResponse({"answer": text, "model": MODEL})

    def _reply_to(self, question: Question) -> str:
        return reply_to(question, self._read_machine(), self._stack_state())


async def _health(_: Request) -> Response:
    return JSONResponse({"ok": True})


async def _refused(_: Request, error: Exception) -> Response:
    # Starlette types handlers for any exception; this one is registered for HTTPException alone.
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse(error_body(error.status_code, error.detail), error.status_code, error.headers)


def _reasons(error: ValidationError) -> str:
    """Name every fault of a request on one line: `messages.0.role: Input should be ...`."""
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]]))
        for fault in error.errors(include_url=False, include_input=False)
    )


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _events(answer: str) -> AsyncIterator[str]:
    for word in re.findall(r"\S+\s*", answer):
        yield _event({"delta": word})
    yield _event({"answer": answer, "model": MODEL, "done": True})
    yield "data: [DONE]\n\n"


def _event(data: Mapping[str, object]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
