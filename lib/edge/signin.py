"""Supabase sign-in: whether an access token is valid, and whose it is.

An invalid token counts as none: its bearer is limited by address, as an anonymous caller.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..base.clock import Clock
from ..base.env import opened
from ..base.events import Event, SignInKeysUnavailable, TokenRefused
from ..base.values import dataclass

if TYPE_CHECKING:
    import httpx

    from ..parts import Parts

_KEYS_FOR_S = 600.0
_RETRY_AFTER_S = 60.0
"""A key set is fetched at most this often, whatever key ids the tokens that arrive may name."""
_MAX_TOKEN = 8_192
_ALGORITHMS = ("ES256", "RS256", "EdDSA")
_LEEWAY_S = 10.0


@dataclass(slots=True, eq=False)
class SignIn:
    """Verifies with the project's shared secret where one is set, else with the project's published keys."""

    client: "Callable[[], httpx.AsyncClient]"
    """Makes the client with its first use: most requests carry no token of a user."""
    url: str | None
    secret: str | None
    timeout_s: float
    emit: Callable[[Event], None]
    clock: Clock = field(default_factory=Clock)
    _keys: Any = None
    _fetched_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, parts: "Parts") -> "SignIn":
        """The instance's."""
        return parts.keep(cls, _as_configured)

    async def user(self, authorization: str | None) -> str | None:
        """The user id in a valid ``Bearer`` access token of a signed-in user, else None."""
        return _user(await self._claims(authorization))

    async def roles(self, authorization: str | None) -> frozenset[str]:
        """The roles that the project gave to a signed-in user: ``role`` or ``roles`` in the ``app_metadata``.

        A user cannot change these; ``user_metadata`` is the user's own.
        """
        claims = await self._claims(authorization)
        about = claims.get("app_metadata") if _user(claims) is not None else None
        given = (about.get("role"), about.get("roles")) if isinstance(about, dict) else ()
        listed = [role for each in given for role in (each if isinstance(each, list) else [each])]
        return frozenset(role for role in listed if isinstance(role, str))

    async def _claims(self, authorization: str | None) -> Mapping[str, Any]:
        """The claims of a valid token; none of any other."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        # Three parts: an opaque key is no token, and needs no import.
        if scheme.lower() != "bearer" or token.count(".") != 2 or len(token) > _MAX_TOKEN:
            return {}
        if not (self.secret or self.url):
            return {}
        import jwt

        try:
            key, algorithms = await self._key(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience="authenticated",
                # Its library asks this machine's clock, which may be off by more than a token lives.
                options={"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            _check_times(claims, self.clock.now_ms() / 1000)
        except jwt.PyJWTError as e:
            self.emit(TokenRefused(type(e).__name__))
            return {}
        return claims

    async def _key(self, token: str) -> tuple[Any, list[str]]:
        """The key and the algorithms it may be used with: never those that the token alone names."""
        import jwt

        header = jwt.get_unverified_header(token)
        if self.secret and header.get("alg") == "HS256":
            return self.secret, ["HS256"]
        if not self.url or header.get("alg") not in _ALGORITHMS:
            raise jwt.InvalidAlgorithmError("not an algorithm this project signs with")
        keys = await self._published(header.get("kid"))
        found = next((key for key in keys if key.key_id == header.get("kid")), None)
        if found is None:
            raise jwt.InvalidKeyError("signed with a key the project does not publish")
        return found, [str(header["alg"])]

    async def _published(self, kid: object) -> Any:
        import httpx
        import jwt

        loop = asyncio.get_running_loop()
        async with self._lock:
            age = loop.time() - self._fetched_at
            known = self._keys is not None and any(key.key_id == kid for key in self._keys)
            if age > _KEYS_FOR_S or (not known and age > _RETRY_AFTER_S):
                self._fetched_at = loop.time()
                try:
                    # In all, not for each read: requests with a token wait here.
                    async with asyncio.timeout(self.timeout_s):
                        response = await self.client().get(
                            f"{self.url}/auth/v1/.well-known/jwks.json", timeout=self.timeout_s
                        )
                    response.raise_for_status()
                    self._keys = jwt.PyJWKSet.from_dict(response.json()).keys
                except (TimeoutError, httpx.HTTPError, ValueError, jwt.PyJWTError, AttributeError) as e:
                    # The old keys stay, so that an outage of the key server signs nobody out.
                    self.emit(SignInKeysUnavailable(type(e).__name__))
            return self._keys or []


def _check_times(claims: Mapping[str, Any], now_s: float) -> None:
    """Raise what PyJWT raises where a token is over, or not valid yet."""
    import jwt

    until, since = claims["exp"], claims.get("nbf", 0)
    if not all(isinstance(each, int | float) for each in (until, since)):
        raise jwt.DecodeError("exp and nbf are numbers")
    if until <= now_s - _LEEWAY_S:
        raise jwt.ExpiredSignatureError("over")
    if since > now_s + _LEEWAY_S:
        raise jwt.ImmatureSignatureError("not valid yet")


def _user(claims: Mapping[str, Any]) -> str | None:
    """The signed-in user of a valid token's claims."""
    user = claims.get("sub")
    # Supabase signs anybody in anonymously, as often as asked: such a user is as good as none.
    signed_in = claims.get("role") == "authenticated" and claims.get("is_anonymous") is not True
    return user if signed_in and isinstance(user, str) and user else None


def _as_configured(parts: "Parts") -> SignIn:
    settings = parts.settings
    secret, timeout_s = opened(settings.supabase_jwt_secret), settings.fallback_timeout_ms / 1000
    return SignIn(parts.client.get, settings.supabase_url, secret, timeout_s, parts.emit, parts.clock)
