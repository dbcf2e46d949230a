"""Taking reports: who may, what is refused and how, and what one costs."""

import json
from typing import Any

import httpx
import pytest

from lib.fleet.report import MOST_BYTES
from lib.fleet.signature import header_of
from tests.rig.door import bill
from tests.rig.fleet import SECRETS, a_fleet, look, report, send, server, servers
from tests.rig.guard import Rig
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> Any:
    """Redis over both."""
    return request.param


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return a_fleet(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)


@pytest.mark.parametrize("count", [0, 1, 10, 100, 1_000])
async def test_a_report_is_one_command(instance: Instance, rig: Rig, count: int) -> None:
    """However many servers it names; the reply says when to report again."""
    async with bill(rig) as spent:
        reply = await report(instance, rig, servers(count))
    assert reply.json() | {"requestId": ""} == {"stored": True, "servers": count, "nextInS": 120, "requestId": ""}
    assert (reply.status_code, spent) == (200, [1, 1])


async def test_while_somebody_looks_reports_come_more_often(instance: Instance, rig: Rig) -> None:
    """As far as this instance knows."""
    await look(instance)
    assert (await report(instance, rig, [])).json()["nextInS"] == 40
    rig.time.ms += 300_000
    assert (await report(instance, rig, [])).json()["nextInS"] == 120


def _codes(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


async def test_a_forged_report(instance: Instance, rig: Rig) -> None:
    """A wrong secret, another's name, nobody's name, a changed body: one error, and nothing stored."""
    body = json.dumps({"sequence": 1, "servers": [server("web")]}).encode()
    at_s = rig.time.ms // 1000
    for header, content in (
        (header_of("another-secret-altogether", "seoul", at_s, body), body),
        (header_of(SECRETS["busan"], "seoul", at_s, body), body),
        (header_of(SECRETS["seoul"], "nobody", at_s, body), body),
        (header_of("", "nobody", at_s, body), body),
        (header_of(SECRETS["seoul"], "seoul", at_s, body), body + b" "),
        (header_of(SECRETS["seoul"], "seoul", at_s - 1, body).replace(str(at_s - 1), str(at_s)), body),
        ("Bearer " + SECRETS["seoul"], body),
        ("", body),
    ):
        headers = {"content-type": "application/json", "x-forwarded-for": "10.9.9.9"}
        given = headers | ({"authorization": header} if header else {})
        reply = await instance.http.post("/api/servers/report", content=content, headers=given)
        assert _codes(reply) == (401, "unauthorized")
    assert rig.server.exists("servers") == 0


async def test_whoever_guesses_is_counted(instance: Instance, rig: Rig) -> None:
    """By address, as wrong tokens are; the reporter itself is not."""
    found = set[int]()
    for _ in range(25):
        headers = {"authorization": f"Breakwater seoul:{rig.time.ms // 1000}:00", "x-forwarded-for": "10.9.9.8"}
        found.add(
            (
                await instance.http.post(
                    "/api/servers/report", content=b"{}", headers={"content-type": "application/json", **headers}
                )
            ).status_code
        )
    assert found == {401, 429}
    assert (await report(instance, rig, [])).status_code == 200


@pytest.mark.parametrize("off_s", [-61, 61])
async def test_a_report_of_another_time(instance: Instance, rig: Rig, off_s: int) -> None:
    """Late or early by more than a minute, whoever signed it."""
    reply = await report(instance, rig, [], at_ms=rig.time.ms + off_s * 1000)
    assert _codes(reply) == (401, "report_expired")
    assert rig.server.exists("servers") == 0


@pytest.mark.parametrize("off_s", [-59, 60])
async def test_clocks_may_differ_a_little(instance: Instance, rig: Rig, off_s: int) -> None:
    """By a minute."""
    assert (await report(instance, rig, [], at_ms=rig.time.ms + off_s * 1000)).status_code == 200


async def test_a_replayed_report(instance: Instance, rig: Rig) -> None:
    """The same, and an older one; also where another instance took it and this one has read it since."""
    await report(instance, rig, [server("web")], sequence=7)
    rig.time.ms += 30_000
    for sequence in (7, 6):
        assert _codes(await report(instance, rig, [], sequence=sequence)) == (409, "report_replayed")
    other = a_fleet(rig)
    await look(other)
    assert _codes(await report(other, rig, [], sequence=7)) == (409, "report_replayed")
    assert (await report(other, rig, [server("web")], sequence=8)).status_code == 200


async def test_numbers_may_begin_anew(instance: Instance, rig: Rig) -> None:
    """When no copy of the last report could pass any more."""
    await report(instance, rig, [], sequence=1_000)
    rig.time.ms += 120_001
    assert (await report(instance, rig, [], sequence=1)).status_code == 200


async def test_too_often(instance: Instance, rig: Rig) -> None:
    """Each reporter has a report in ten seconds, and another's does not count for it."""
    await report(instance, rig, [], sequence=1)
    rig.time.ms += 9_500
    reply = await report(instance, rig, [], sequence=2)
    assert (*_codes(reply), reply.headers["retry-after"]) == (429, "rate_limited", "1")
    assert (await report(instance, rig, [], reporter="busan")).status_code == 200
    rig.time.ms += 500
    assert (await report(instance, rig, [], sequence=2)).status_code == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"servers": []}, 422),
        ({"sequence": 1}, 422),
        ({"sequence": -1, "servers": []}, 422),
        ({"sequence": 1, "servers": servers(1_001)}, 422),
        ({"sequence": 1, "servers": [server("web"), server("web")]}, 422),
        ({"sequence": 1, "servers": [server("report")]}, 422),
        ({"sequence": 1, "servers": [server("")]}, 422),
        ({"sequence": 1, "servers": [server("x" * 65)]}, 422),
        ({"sequence": 1, "servers": [server("web", cpu=100.1)]}, 422),
        ({"sequence": 1, "servers": [server("web", memory=-1)]}, 422),
        ({"sequence": 1, "servers": [server("web", disk="50")]}, 422),
        ({"sequence": 1, "servers": [server("web", age=-1)]}, 422),
        ({"sequence": 1, "servers": [server("web", color="red")]}, 422),
        (b'{"sequence": 1, "servers": [{"id": "web", "cpu": NaN}]}', 422),
        (b"{", 400),
        (b'"' + b"x" * MOST_BYTES + b'"', 413),
    ],
)
async def test_a_malformed_report(instance: Instance, rig: Rig, body: Any, expected: int) -> None:
    """Is refused whole, and says what is wrong; the next one is taken."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert (await send(instance, rig, content)).status_code == expected
    assert rig.server.exists("servers") == 0
    assert (await report(instance, rig, [])).status_code == 200


async def test_the_largest_report_fits(instance: Instance, rig: Rig) -> None:
    """1,000 servers with the longest names."""
    named = [server(f"{n:064}", name="서" * 30) for n in range(1_000)]
    assert (await report(instance, rig, named)).status_code == 200


async def test_a_metric_that_could_not_be_measured(instance: Instance, rig: Rig) -> None:
    """Is null, not 0; whether it was sent as null or left out."""
    await report(instance, rig, [{"id": "web", "cpu": None, "disk": 5}])
    found = (await look(instance)).json()["servers"][0]
    assert found["metrics"] == {"cpu": None, "memory": None, "disk": 5, "network": None}


async def test_a_server_that_is_named_no_more_is_gone(instance: Instance, rig: Rig) -> None:
    """A report is the whole of its reporter's servers."""
    await report(instance, rig, [server("web"), server("db")])
    rig.time.ms += 30_000
    await report(instance, rig, [server("db")])
    assert [each["id"] for each in (await look(a_fleet(rig))).json()["servers"]] == ["db"]


async def test_without_redis(rig: Rig) -> None:
    """The report is taken, and the reply says that only this instance has it; which shows it."""
    instance = a_fleet(rig, **rig.nowhere, REDIS_TIMEOUT_MS="300", REDIS_CONNECT_TIMEOUT_MS="300")
    reply = await report(instance, rig, [server("web")])
    assert (reply.status_code, reply.json()["stored"]) == (202, False)
    shown = (await look(instance)).json()
    assert ([each["id"] for each in shown["servers"]], shown["source"], shown["cached"]) == (["web"], "last", True)


async def test_no_reporter_is_configured(rig: Rig) -> None:
    """The route is closed, and says which variable opens it."""
    instance = a_fleet(rig, FLEET_TOKENS=None)
    reply = await report(instance, rig, [])
    assert _codes(reply) == (403, "closed")
    assert "FLEET_TOKENS" in reply.json()["detail"]


async def test_the_secret_is_nowhere(instance: Instance, rig: Rig) -> None:
    """Neither in Redis nor in what was logged."""
    await report(instance, rig, [server("web")])
    stored = rig.server.hgetall("servers")
    assert SECRETS["seoul"] not in f"{stored}{instance.events}"
