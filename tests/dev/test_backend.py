"""The local AI backend: what it understands, what it answers, and its protocol."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from dev.backend import Disk, Machine, Process, backend_app, measure, reply_to, size, span, understand
from dev.faults import Fault, Faults

GIB = 1024**3
SECRET = "test-secret"
MACHINE = Machine(
    cpu_percent=12.5,
    cores=4,
    load=(1.25, 0.75, 0.5),
    memory_total=16 * GIB,
    memory_available=4 * GIB,
    swap_used=0,
    swap_total=0,
    uptime_s=93_784,
    disks=(Disk("/", 30 * GIB, 70 * GIB), Disk("/data", 90 * GIB, 10 * GIB)),
    processes=(
        Process("postgres", 11, 1.0, 900 * 1024**2),
        Process("python", 12, 80.0, 200 * 1024**2),
        Process("redis-server", 13, 5.0, 8 * 1024**2),
    ),
    received_rate=2048.0,
    sent_rate=512.0,
    received=3 * GIB,
    sent=GIB,
)
STACK: Mapping[str, object] = {
    "mode": "redis",
    "redis": {"state": "up", "version": "6.2.14", "commands": 1234, "memory_bytes": 2 * 1024**2},
    "supabase": {"state": "down"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("which disk is fullest?", "The fullest disk is /data.\n- /data: 90.0 % used, 10.0 GiB", id="disk"),
        pytest.param("가장 많이 찬 디스크는?", "가장 많이 찬 디스크는 /data입니다.", id="disk-ko"),
        pytest.param("디스크 용량 얼마나 남았어?", "/data: 90.0% 사용, 100.0 GiB 중 10.0 GiB 남음", id="disk-left-ko"),
        pytest.param("메모리 얼마나 남았어?", "메모리는 16.0 GiB 중 4.0 GiB 남았습니다 (25.0% 여유).", id="memory-ko"),
        pytest.param("how much RAM is free?", "4.0 GiB of 16.0 GiB of memory is available (25.0 % free).", id="memory"),
        pytest.param("memory?", "Memory: 12.0 GiB of 16.0 GiB used (75.0 %), 4.0 GiB available.", id="memory-used"),
        pytest.param(
            "what is the load?",
            "The load average is 1.25 over 1 min, 0.75 over 5 min and 0.50 over 15 min: relaxed for 4 cores.",
            id="load",
        ),
        pytest.param("부하가 높아?", "평균 부하는 1분 1.25, 5분 0.75, 15분 0.50입니다", id="load-ko"),
        pytest.param("CPU usage", "CPU use is 12.5 % (4 cores).", id="cpu"),
        pytest.param("프로세서 사용률", "CPU 사용률은 12.5%입니다 (코어 4개).", id="cpu-ko"),
        pytest.param("CPU가 바빠?", "CPU 사용률은 12.5%입니다 (코어 4개).", id="cpu-with-a-particle"),
        pytest.param("DB는 괜찮아?", "Supabase: 상태 down", id="db-with-a-particle"),
        pytest.param("how long has it been up?", "Up for 1 d 2 h.", id="uptime"),
        pytest.param("서버 가동 시간은?", "가동 시간은 1일 2시간입니다.", id="uptime-ko"),
        pytest.param(
            "top processes by CPU", "Top 3 of 3 processes by CPU:\n- python (PID 12): CPU 80.0%", id="top-cpu"
        ),
        pytest.param(
            "top 2 processes by memory", "Top 2 of 3 processes by memory:\n- postgres (PID 11)", id="top-memory"
        ),
        pytest.param(
            "메모리 많이 쓰는 프로세스 1개", "메모리 사용 상위 프로세스 1개 (전체 3개):\n- postgres", id="top-ko"
        ),
        pytest.param("what is eating my memory?", "by memory:\n- postgres", id="top-memory-asked-differently"),
        pytest.param("network traffic", "Network: receiving 2.0 KiB/s, sending 512 B/s", id="network"),
        pytest.param("다운로드 속도는?", "네트워크는 수신 2.0 KiB/s, 송신 512 B/s입니다", id="network-ko"),
        pytest.param("Redis 상태는?", "Redis: 상태 up, 버전 6.2.14, 사용한 명령 1,234, 메모리 2.0 MiB", id="redis-ko"),
        pytest.param("how is redis?", "Redis: state up, version 6.2.14, commands used 1,234", id="redis"),
        pytest.param("is the database up?", "Supabase: state down", id="supabase"),
        pytest.param("which mode is the stack in?", "Mode: redis\nRedis: state up", id="stack"),
        pytest.param("CPU and memory?", "CPU use is 12.5 % (4 cores).\nMemory: 12.0 GiB", id="two-topics"),
        pytest.param("what is the meaning of life?", "Try: ", id="unknown"),
        pytest.param("오늘 날씨 어때?", "이 질문은 이해하지 못했습니다.", id="unknown-ko"),
    ],
)
def test_answers(text: str, expected: str) -> None:
    """A question gets the measured answer, with units, in its own language."""
    assert expected in reply_to(understand(text), MACHINE, STACK)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("Summarise the server", ["CPU use", "load average", "Memory", "/data", "Up for", "Mode"], id="en"),
        pytest.param(
            "서버 상태 요약해줘", ["CPU 사용률", "평균 부하", "메모리는", "/data", "가동 시간", "모드"], id="ko"
        ),
    ],
)
def test_summary(text: str, words: list[str]) -> None:
    """A summary tells everything."""
    answer = reply_to(understand(text), MACHINE, STACK)
    assert [word for word in words if word not in answer] == []


@pytest.mark.parametrize(
    ("earlier", "text", "expected"),
    [
        pytest.param("which disk is fullest?", "and memory?", "Memory: 12.0 GiB", id="another-topic"),
        pytest.param("top processes by CPU", "and memory?", "by memory:\n- postgres", id="sorted-anew"),
        pytest.param("메모리 얼마나 남았어?", "CPU?", "CPU 사용률은", id="keeps-the-language"),
        pytest.param("디스크 상태는?", "어디가 제일 꽉 찼어?", "가장 많이 찬 디스크는 /data", id="keeps-the-topic"),
        pytest.param("what is the load?", "and now?", "The load average is", id="again"),
        pytest.param("what is the load?", "tell me a joke", "I did not understand", id="no-follow-up"),
    ],
)
def test_follow_up(earlier: str, text: str, expected: str) -> None:
    """A follow-up leans on the question before it, and only where it needs to."""
    assert expected in reply_to(understand(text, understand(earlier)), MACHINE, STACK)


def test_state_that_nobody_told() -> None:
    """Without a stack the answer says so instead of inventing one."""
    assert reply_to(understand("how is redis?"), MACHINE, {}) == "This backend does not know the state of Redis."


def test_machine_without_disks() -> None:
    """A machine whose disks cannot be read still gets an answer."""
    assert reply_to(understand("disks"), replace(MACHINE, disks=()), {}) == "No disk can be read."


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * GIB, "5.0 GiB"), (3 * 1024**4, "3.0 TiB")],
)
def test_size(count: int, text: str) -> None:
    """Bytes are written in binary units."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_660, "1 h 1 min"), (86_400, "1 d"), (93_784, "1 d 2 h")],
)
def test_span(seconds: float, text: str) -> None:
    """A length of time is written in its two largest units."""
    assert span(seconds, "en") == text


def test_measures_this_machine() -> None:
    """The readings are this machine's own, and plausible."""
    machine = measure(interval_s=0.01)
    assert machine.cores >= 1
    assert 0 < machine.memory_available <= machine.memory_total
    assert 0 <= machine.cpu_percent <= 100
    assert {disk.mount for disk in machine.disks} >= {"/"}
    assert machine.processes


@asynccontextmanager
async def client(faults: Faults | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = backend_app(secret=SECRET, stack_state=lambda: STACK, faults=faults, read_machine=lambda: MACHINE)
    headers = {"authorization": f"Bearer {SECRET}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://backend", headers=headers) as http:
        yield http


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/api/ai/supervisor"])
async def test_answers_over_http(path: str) -> None:
    """Both paths answer the same question with the text and the model."""
    async with client() as http:
        reply = await http.post(path, json={"query": "CPU?", "sessionId": "s", "messages": [], "parameters": {}})
    assert reply.status_code == 200
    assert reply.json() == {"answer": "CPU use is 12.5 % (4 cores).", "model": "local-supervisor"}


@pytest.mark.anyio
@pytest.mark.parametrize("repeated", [False, True], ids=["history-only", "question-as-last-message"])
async def test_conversation_over_http(*, repeated: bool) -> None:
    """The earlier question comes from the messages, whether or not they end with the current one."""
    messages = [
        {"role": "user", "content": "top 1 process by CPU"},
        {"role": "assistant", "content": "The redis disk is fullest"},
        *([{"role": "user", "content": "and memory?"}] if repeated else []),
    ]
    async with client() as http:
        reply = await http.post("/", json={"query": "and memory?", "sessionId": "s", "messages": messages})
    assert reply.json()["answer"].startswith("Top 1 of 3 processes by memory:\n- postgres")


@pytest.mark.anyio
async def test_streams() -> None:
    """A stream's deltas add up to the answer of its last event, and the end mark closes it."""
    async with client() as http:
        reply = await http.post("/", json={"query": "디스크?", "sessionId": "s", "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, end, rest = reply.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    *deltas, last = [json.loads(event.removeprefix("data: ")) for event in events]
    assert last == {"answer": "".join(delta["delta"] for delta in deltas), "model": "local-supervisor", "done": True}
    assert len(deltas) > 3


@pytest.mark.anyio
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic dGVzdA==", "Bearer té"])
async def test_refuses_strangers(authorization: str) -> None:
    """Without the secret there is no answer, and the error is JSON."""
    async with client() as http:
        reply = await http.post("/", json={}, headers={b"authorization": authorization.encode("latin-1")})
    assert reply.status_code == 401
    assert reply.json()["error"]["message"] == "wrong or missing bearer token"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "Invalid JSON", id="empty"),
        pytest.param(b'{"query": "cpu?"', "Invalid JSON", id="cut"),
        pytest.param(b'"cpu?"', "should be an object", id="not-an-object"),
        pytest.param(b'{"query": "cpu?"}', "sessionId: Field required", id="no-session"),
        pytest.param(b'{"query": " ", "sessionId": "s"}', "query: ", id="blank"),
        pytest.param(b'{"query": 1, "sessionId": "s"}', "query: Input should be a valid string", id="number"),
        pytest.param(b'{"query": "a", "sessionId": "s", "session_id": "s"}', "session_id: Extra", id="misspelt"),
        pytest.param(b'{"query": "a", "sessionId": "s", "stream": "yes"}', "stream: ", id="stream-is-text"),
        pytest.param(b'{"query": "a", "sessionId": "s", "parameters": []}', "parameters: ", id="parameters"),
        pytest.param(
            b'{"query": "a", "sessionId": "s", "messages": [{"role": "robot", "content": ""}]}',
            "messages.0.role: Input should be 'system', 'user' or 'assistant'",
            id="role",
        ),
        pytest.param(b'{"query": "\xff", "sessionId": "s"}', "Invalid JSON", id="not-utf-8"),
        pytest.param(b'{"query": "\\ud800", "sessionId": "s"}', "Invalid JSON", id="lone-surrogate"),
    ],
)
async def test_refuses_malformed_requests(body: bytes, reason: str) -> None:
    """A malformed request is a 400 that says what is wrong with it."""
    async with client() as http:
        reply = await http.post("/", content=body)
    assert reply.status_code == 400
    assert reason in reply.json()["error"]["message"]


@pytest.mark.anyio
async def test_refuses_a_huge_body() -> None:
    """A body over the limit is refused while it is read."""
    async with client() as http:
        reply = await http.post("/", content=b" " * 1_000_001)
    assert reply.status_code == 413


@pytest.mark.anyio
async def test_health_counters_and_faults() -> None:
    """Health needs no secret; the control routes count requests and answers, and faults spoil replies."""
    faults = Faults()
    async with client(faults) as http:
        assert (await http.get("/health", headers={"authorization": ""})).json() == {"ok": True}
        await http.post("/", json={"query": "CPU?", "sessionId": "s"})
        await http.post("/", json={})
        faults.set(Fault(kind="status", times=1))
        spoilt = await http.post("/", json={"query": "CPU?", "sessionId": "s"})
        assert spoilt.status_code == 503
        assert spoilt.json() == {"error": {"status": 503, "message": "Service Unavailable"}}
        assert (await http.get("/_control/stats")).json() == {"http_requests": 4, "answers": 1}
        await http.delete("/_control/stats")
        assert (await http.get("/_control/stats")).json() == {"http_requests": 0, "answers": 0}


def test_needs_a_secret() -> None:
    """An empty secret would let everybody in."""
    with pytest.raises(ValueError, match="secret"):
        backend_app(secret="")
