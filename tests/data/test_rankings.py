"""Rankings: who may write, when lists are invalidated, and that one's own place is exact."""

from typing import Any

import httpx
import pytest

from lib.data.rankings import LISTS, MOST_MEMBERS
from tests.rig.callers import a_caller
from tests.rig.door import an_instance, bill
from tests.rig.guard import Rig
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


ADMIN, DEMO = "admin-token-of-this-test", "demo-token-of-this-test"


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return an_instance(rig, ADMIN_TOKEN=ADMIN, RANKING_TOKENS=f"demo={DEMO},other={DEMO}-too")


async def post(instance: Instance, board: str = "demo", token: str = DEMO, **score: Any) -> httpx.Response:
    """Write a score."""
    headers = {"authorization": f"Bearer {token}", "x-forwarded-for": a_caller()}
    return await instance.http.post(f"/api/rankings/{board}", json=score, headers=headers)


async def get(instance: Instance, path: str = "demo") -> Any:
    """Read something of a board."""
    reply = await instance.http.get(f"/api/rankings/{path}", headers={"x-forwarded-for": a_caller()})
    return reply.json() if reply.status_code == 200 else reply.status_code


async def test_a_board(instance: Instance) -> None:
    """The best first, each once; a worse score changes nothing unless it is the last that counts."""
    assert await get(instance) == []
    for member, score in (("kim", 10), ("이", 30), ("kim", 20), ("kim", 5)):
        reply = await post(instance, member=member, score=score)
    assert reply.json() | {"requestId": ""} == {
        "member": "kim",
        "rank": 2,
        "score": 20,
        "shown": True,
        "requestId": "",
    }
    assert await get(instance) == [{"rank": 1, "member": "이", "score": 30}, {"rank": 2, "member": "kim", "score": 20}]
    assert (await post(instance, member="kim", score=5, keep="last")).json()["score"] == 5
    assert (await get(instance))[1]["score"] == 5


async def test_ones_own_place_is_exact(instance: Instance) -> None:
    """Never from the cache; who is not on the board has none."""
    for n in range(12):
        await post(instance, member=f"m{n}", score=n)
    assert (await get(instance, "demo/m0"))["rank"] == 12
    await post(instance, member="m0", score=100)
    found = await get(instance, "demo/m0")
    assert (found["rank"], found["score"]) == (1, 100)
    assert (await get(instance, "demo/nobody"))["rank"] is None


async def test_only_what_changed_is_invalidated(instance: Instance, rig: Rig) -> None:
    """CASE 42: a write invalidates after it stands, and only the lists that it changed; then they show it."""
    for n in range(120):
        rig.server.zadd("ranking:demo", {f"m{n}": 1000 - n})
    found = list[int]()
    for member, score in (("m119", 882), ("m50", 951), ("m5", 996), ("m5", 996)):
        async with bill(rig) as spent:
            await post(instance, member=member, score=score)
        found.append(spent[1])
    assert found == [1, 2, 2, 1]
    for top in LISTS:
        await get(instance, f"demo?top={top}")
    await post(instance, member="m50", score=952)
    rig.time.ms += 1
    long = await get(instance, "demo?top=100")
    assert next(each["score"] for each in long if each["member"] == "m50") == 952


@pytest.mark.parametrize(
    ("board", "token", "status"),
    [
        ("demo", DEMO, 200),
        ("demo", ADMIN, 200),
        ("other", f"{DEMO}-too", 200),
        ("third", ADMIN, 200),
        ("other", DEMO, 401),
        ("third", DEMO, 401),
        ("demo", "wrong", 401),
    ],
)
async def test_who_may_write(instance: Instance, board: str, token: str, status: int) -> None:
    """The admin to every board, a token to its own."""
    assert (await post(instance, board, token, member="a", score=1)).status_code == status


async def test_a_board_without_a_token_is_closed(rig: Rig) -> None:
    """403 while nothing is configured."""
    assert (await post(an_instance(rig), member="a", score=1)).status_code == 403


@pytest.mark.parametrize(
    "score",
    [
        {"member": "", "score": 1},
        {"member": "x" * 65, "score": 1},
        {"member": "a", "score": 1.5},
        {"member": "a", "score": "1"},
        {"member": "a", "score": 2**53},
        {"member": "a", "score": 1, "keep": "worst"},
        {"member": "a", "score": 1, "x": 1},
        {"member": "a"},
    ],
)
async def test_what_is_no_score(instance: Instance, score: dict[str, Any]) -> None:
    """422, and nothing is written."""
    assert (await post(instance, **score)).status_code == 422
    assert await get(instance) == []


async def test_a_board_does_not_grow_for_ever(instance: Instance, rig: Rig) -> None:
    """Of more than the most the worst go; who is not on it is told so."""
    rig.server.zadd("ranking:demo", {f"m{n}": n + 1 for n in range(MOST_MEMBERS)})
    assert (await post(instance, member="low", score=0)).json()["rank"] is None
    assert rig.server.zcard("ranking:demo") == MOST_MEMBERS


async def test_hostile_names(instance: Instance, rig: Rig) -> None:
    """A board's name is one part of its keys."""
    assert await get(instance, "a%3Ab?top=10") == []
    assert (await post(instance, "a%3Ab%2Fc", ADMIN, member="*", score=1)).status_code == 200
    assert rig.server.exists("ranking:a%3Ab%2Fc")
    assert await get(instance, "demo?top=11") == 400
    assert await get(instance, "x" * 65 + "/m") == 400
