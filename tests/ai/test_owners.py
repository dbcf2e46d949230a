"""Whom answers and sessions belong to: users behind one address, backends' sessions, and CACHE_SCOPE."""

from typing import Any

import httpx
import pytest

from dev.supabase import sign_user_token
from lib.ai.owners import owner_of
from lib.base.caller import identify
from tests.rig.guard import Rig
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

ASK, CHAT = "/api/ai/supervisor", "/api/v1/chat/completions"
ADDRESS = "203.0.113.7"
PATHS = pytest.mark.parametrize("path", [ASK, CHAT], ids=["supervisor", "chat"])


async def ask(made: Instance, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """One question from one address."""
    if path == CHAT:
        content = {"model": "m", "messages": [{"role": "user", "content": "q"}], **body}
    else:
        content = body if "messages" in body else {"query": "q", **body}
    reply = await made.http.post(path, json=content, headers={"x-forwarded-for": ADDRESS, **(headers or {})})
    assert reply.status_code == 200, reply.text
    return reply


def told(rig: Rig) -> list[str]:
    """The sessions that the backend was told of."""
    return [each["sessionId"] for each in rig.script.questions]


USERS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "bearer keys": ({"authorization": "Bearer sk-one"}, {"authorization": "Bearer sk-two"}),
    "Azure's keys": ({"api-key": "one"}, {"api-key": "two"}),
    "other keys": ({"x-api-key": "one"}, {"x-api-key": "two"}),
    "a key and none": ({"authorization": "Bearer sk-one"}, {}),
    "one key in two places": ({"api-key": "one"}, {"x-api-key": "one"}),
}


@PATHS
@pytest.mark.parametrize("users", USERS.values(), ids=USERS)
async def test_keys_keep_users_of_one_address_apart(rig: Rig, path: str, users: tuple[dict[str, str], ...]) -> None:
    """Neither answers nor sessions are shared; the limit of the address is."""
    made = rig.instance()
    replies = [await ask(made, path, headers) for headers in (*users, *users)]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "MISS", "HIT", "HIT"]
    assert [each.headers["x-ratelimit-remaining"] for each in replies] == ["9", "8", "7", "6"]
    assert len(set(told(rig))) == 2


@pytest.mark.parametrize("scope", ["session", "caller"])
async def test_named_users_are_apart(rig: Rig, scope: str) -> None:
    """By ``user``, whoever holds the key."""
    made, key = rig.instance(CACHE_SCOPE=scope), {"authorization": "Bearer sk-one"}
    replies = [await ask(made, CHAT, key, user=user) for user in ("ann", "bob", "ann")]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "MISS", "HIT"]
    assert [each.headers["x-ratelimit-remaining"] for each in replies] == ["9", "8", "7"]
    assert len(set(told(rig))) == 2


async def test_sessions_by_header(rig: Rig) -> None:
    """``X-Session-Id`` names a session, as ``sessionId`` does on the supervisor's route."""
    made = rig.instance()
    replies = [await ask(made, CHAT, {"x-session-id": name}) for name in ("a", "b", "a", "", " a ")]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "MISS", "HIT", "MISS", "HIT"]
    assert len(set(told(rig))) == 3


async def test_a_session_that_is_too_long(rig: Rig) -> None:
    """400, with the header's name."""
    headers = {"x-session-id": "s" * 129}
    reply = await rig.instance().http.post(
        CHAT, json={"model": "m", "messages": [{"role": "user", "content": "q"}]}, headers=headers
    )
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "X-Session-Id")


async def test_nobody_walks_into_anothers_session(rig: Rig) -> None:
    """One name of a session is another session at the backend for each caller and each key, and says nothing of it."""
    made = rig.instance()
    await ask(made, ASK, sessionId="secret-session")
    await ask(made, ASK, {"x-forwarded-for": "198.51.100.1"}, sessionId="secret-session")
    await ask(made, ASK, {"authorization": "Bearer sk-one"}, sessionId="secret-session")
    mine, others, by_key = told(rig)
    assert len({mine, others, by_key}) == 3
    # What a backend was told names nobody's session when it is sent by a client.
    await ask(made, ASK, {"x-forwarded-for": "198.51.100.1"}, sessionId=mine)
    assert mine not in told(rig)[1:]
    assert "secret" not in mine
    reply = await ask(made, ASK, query="another", sessionId="secret-session")
    assert reply.json()["sessionId"] == "secret-session"
    assert told(rig)[-1] == mine


async def test_a_signed_in_user_is_one_user(rig: Rig, supabase: Any) -> None:
    """Tokens are renewed each hour; answers and sessions stay."""
    made = rig.instance(SUPABASE_JWT_SECRET=supabase.jwt_secret)
    user = "6f1f0c0e-0000-4000-8000-00000000beef"
    tokens = [sign_user_token(user, supabase.jwt_secret, lifetime_s=seconds) for seconds in (3_600, 3_599)]
    replies = [await ask(made, ASK, {"authorization": f"Bearer {token}"}) for token in tokens]
    assert tokens[0] != tokens[1]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "HIT"]


def test_fields_do_not_run_into_each_other() -> None:
    """A key that holds what another user is called is still another user."""
    caller, secret = identify("address", "a", b"k"), b"k"
    given = [("x", "y"), ("xy", ""), ("", "xy"), ('x","y', ""), ("x\0y", "")]

    def owner(key: str, user: str) -> str:
        return owner_of(caller, lambda name: key if name == "authorization" else "", secret, user)

    found = {owner(*each) for each in given}
    assert len(found) == len(given)
    assert owner_of(caller, lambda name: "", secret) == caller.id


# ---------------------------------------------------------------- CACHE_SCOPE


@pytest.mark.parametrize(("scope", "second"), [("session", "MISS"), ("caller", "HIT"), ("shared", "MISS")])
async def test_a_callers_sessions(rig: Rig, scope: str, second: str) -> None:
    """CASE 26: they share with ``caller``; a session that a client has named may hold a history, and is not shared."""
    made = rig.instance(CACHE_SCOPE=scope)
    replies = [await ask(made, ASK, sessionId=name) for name in ("one", "two")]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", second]
    assert [each.json()["sessionId"] for each in replies] == ["one", "two"]


@pytest.mark.parametrize(("scope", "second"), [("session", "MISS"), ("caller", "MISS"), ("shared", "HIT")])
@PATHS
async def test_a_question_of_everybody(rig: Rig, path: str, scope: str, second: str) -> None:
    """CASE 26: with ``shared`` it is computed once for all, whatever their keys; each is counted by its own limit."""
    made = rig.instance(CACHE_SCOPE=scope)
    who: tuple[dict[str, str], ...] = (
        {},
        {"x-forwarded-for": "198.51.100.1"},
        {"x-forwarded-for": "198.51.100.2", "authorization": "Bearer sk-one"},
    )
    replies = [await ask(made, path, headers) for headers in who]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", second, second]
    assert [each.headers["x-ratelimit-remaining"] for each in replies] == ["9", "9", "9"]
    if scope == "shared":
        assert told(rig) == ["shared"]


HISTORY = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "q"}]
NOT_SHARED: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "history": (CHAT, {}, {"messages": HISTORY}),
    "a user's turn before": (CHAT, {}, {"messages": [HISTORY[0], HISTORY[2]]}),
    "a user": (CHAT, {}, {"user": "ann"}),
    "metadata": (CHAT, {}, {"metadata": {"user": "ann"}}),
    "a hashed user": (CHAT, {}, {"safety_identifier": "ann"}),
    "a session by header": (CHAT, {"x-session-id": "one"}, {}),
    "a session": (ASK, {}, {"sessionId": "one"}),
    "a supervisor's history": (ASK, {}, {"messages": HISTORY}),
    "a chat's history": (ASK, {}, {"messages": HISTORY, "id": "c", "trigger": "submit-message", "stream": False}),
    "a history before the query": (ASK, {}, {"messages": HISTORY[:2], "query": "q"}),
}


@pytest.mark.parametrize(("path", "headers", "body"), NOT_SHARED.values(), ids=NOT_SHARED)
async def test_what_belongs_to_one_user_is_not_shared(
    rig: Rig, path: str, headers: dict[str, str], body: dict[str, Any]
) -> None:
    """CASE 26: whatever the scope, another caller's same request is computed anew, with a session of its own."""
    made = rig.instance(CACHE_SCOPE="shared")
    replies = [
        await ask(made, path, {**headers, "x-forwarded-for": address}, **body)
        for address in (ADDRESS, "198.51.100.1", ADDRESS)
    ]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "MISS", "HIT"]
    assert len(set(told(rig))) == 2
    assert "shared" not in told(rig)


SHARED: dict[str, tuple[str, dict[str, Any]]] = {
    "a system prompt": (CHAT, {"messages": [{"role": "system", "content": "Be brief."}, HISTORY[2]]}),
    "the first question of a chat": (ASK, {"messages": [HISTORY[2]], "trigger": "submit-message", "stream": False}),
    "parameters": (ASK, {"query": "q", "parameters": {"temperature": 0}}),
}


@pytest.mark.parametrize(("path", "body"), SHARED.values(), ids=SHARED)
async def test_what_everybody_may_share(rig: Rig, path: str, body: dict[str, Any]) -> None:
    """A question that stands alone, though its chat has a name."""
    made = rig.instance(CACHE_SCOPE="shared")
    replies: list[httpx.Response] = []
    for number, address in enumerate((ADDRESS, "198.51.100.1")):
        given: Any = {**body, "id": f"chat-{number}"} if path == ASK else body
        replies.append(await ask(made, path, {"x-forwarded-for": address}, **given))
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "HIT"]


# ---------------------------------------------------------------- useChat's own fields


EXTRA: dict[str, dict[str, Any]] = {
    "a model": {"model": "gpt-5"},
    "a switch": {"webSearch": True},
    "an object": {"user": {"name": "ann", "tags": [1, None]}},
    "braces in the name": {"{x}": 1},
    "names of ours, misspelt": {"sessionID": "x", "querry": "y"},
}


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
async def test_a_chats_own_fields_are_ignored(rig: Rig, extra: dict[str, Any]) -> None:
    """``useChat`` sends an application's ``body`` at top level: accepted, sent to nobody, no other answer."""
    made = rig.instance()
    chat: dict[str, Any] = {"messages": [HISTORY[2]], "id": "c", "trigger": "submit-message", "stream": False}
    replies = [await ask(made, ASK, **chat), await ask(made, ASK, **chat, **extra)]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "HIT"]
    assert set(rig.script.questions[0]) == {"query", "sessionId", "messages", "parameters"}


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
async def test_elsewhere_an_unknown_field_is_a_mistake(rig: Rig, extra: dict[str, Any]) -> None:
    """Whoever is no chat is told what is misspelt."""
    reply = await rig.instance().http.post(ASK, json={"query": "q", **extra})
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, next(iter(extra)))
