"""The wire to Supabase's published keys: when they are fetched, kept and fetched again."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dev.supabase import SigningKey, sign_user_token
from lib.base.events import Event, SignInKeysUnavailable
from lib.base.http import new_client
from lib.edge.signin import SignIn
from tests.guardkit import together
from tests.rig.clock import PATIENT_BACKEND, patient
from tests.rig.script import Script, scripted

pytestmark = pytest.mark.anyio
TIMEOUT_S = 0.3
KEYS = [SigningKey.generate("first"), SigningKey.generate("second")]
BODY = json.dumps({"keys": [key.jwk() for key in KEYS]}).encode()


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PATIENT_BACKEND


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    with scripted() as server:
        yield server


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def signin(script: Script, events: list[Event]) -> AsyncIterator[SignIn]:
    script.reset(body=BODY)
    async with new_client() as client:
        yield SignIn(lambda: client, script.url, None, TIMEOUT_S, events.append)


def bearer(key: SigningKey) -> str:
    return f"Bearer {sign_user_token('me', key)}"


async def test_fetched_once(signin: SignIn, script: Script) -> None:
    """Twenty users at once, with either key, cost one fetch; later ones none."""
    assert await together([signin.user(bearer(KEYS[n % 2])) for n in range(20)]) == ["me"] * 20
    assert await signin.user(bearer(KEYS[0])) == "me"
    assert script.asked == 1


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer sb_publishable_x", "a.b.c", "Bearer " + "a." * 9_000],
)
async def test_no_token(signin: SignIn, script: Script, header: str | None) -> None:
    """What is no token asks nobody."""
    assert await signin.user(header) is None
    assert script.asked == 0


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_scheme_in_any_case(signin: SignIn, scheme: str) -> None:
    """RFC 9110, section 11.1: the scheme's case does not matter."""
    assert await signin.user(bearer(KEYS[0]).replace("Bearer", scheme)) == "me"


async def test_failed_fetch_is_not_repeated_at_once(signin: SignIn, script: Script, events: list[Event]) -> None:
    """While the keys cannot be had, tokens name nobody, and the key server is left alone for a minute."""
    script.reset(status=500)
    assert await together([signin.user(bearer(KEYS[0])) for _ in range(5)]) == [None] * 5
    assert script.asked == 1
    assert len([event for event in events if isinstance(event, SignInKeysUnavailable)]) == 1


@pytest.mark.parametrize("slow", [{"hold": True}, {"trickle_s": 0.05}], ids=["no answer", "a byte now and then"])
async def test_a_slow_fetch_ends_in_time(
    signin: SignIn, script: Script, events: list[Event], slow: dict[str, Any]
) -> None:
    """A key server that sends a byte now and then holds a request no longer than one that sends nothing."""
    loop = patient()
    script.reset(body=BODY, waits=loop.jump, **slow)
    began = loop.time()
    assert await signin.user(bearer(KEYS[0])) is None
    assert loop.time() - began == pytest.approx(TIMEOUT_S, abs=0.1)
    assert SignInKeysUnavailable("TimeoutError") in events


async def test_unknown_key(signin: SignIn, script: Script) -> None:
    """A token of a key that is not published names nobody, and known keys go on working."""
    assert await signin.user(bearer(SigningKey.generate("third"))) is None
    assert await signin.user(bearer(KEYS[0])) == "me"
    assert script.asked == 1


async def test_unconfigured(script: Script, events: list[Event]) -> None:
    """Without a project there is no signing in."""
    async with new_client() as client:
        assert await SignIn(lambda: client, None, None, TIMEOUT_S, events.append).user(bearer(KEYS[0])) is None
