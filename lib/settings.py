"""Configuration: read once from a mapping, frozen, every fault reported together.

Nothing else reads the environment.
"""

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from lib.rules import policy
from lib.rules.answers import CacheRules
from lib.rules.breaker import BreakerPolicy
from lib.rules.caller import Network, Trust
from lib.rules.policy import Policy
from lib.rules.windows import Layout


class BadSettings(Exception):
    """The environment cannot be used as it is. ``faults`` has a line for each fault, and never a value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _flag(text: object) -> object:
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return known.get(text.strip().lower(), text) if isinstance(text, str) else text


def _url(text: object) -> object:
    if isinstance(text, str):
        text = text.strip().rstrip("/")
        if not text.startswith(("https://", "http://")):
            raise ValueError("must be a URL that begins with https:// (or http:// for a local server)")
    return text


def _items(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


def _networks(text: object) -> object:
    items = _items(text)
    return tuple(ipaddress.ip_network(item, strict=False) for item in items) if isinstance(text, str) else text  # type: ignore[attr-defined]


def _layout(text: object) -> object:
    return policy.parse_limits(text) if isinstance(text, str) else text


type Flag = Annotated[bool, BeforeValidator(_flag)]
type Url = Annotated[str, BeforeValidator(_url)]
type Items = Annotated[tuple[str, ...], BeforeValidator(_items)]
type Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
type Limits = Annotated[Layout, BeforeValidator(_layout)]
type Millis = Annotated[int, Field(ge=1, le=300_000)]


def _limit(group: str) -> Layout:
    return policy.parse_limits(policy.defaults()[group])


class Settings(BaseModel):
    """Every setting, under its environment name (the alias). ``README.md`` describes each; a test compares the two."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    redis_enabled: Flag = Field(True, alias="REDIS_ENABLED")
    redis_url: Url | None = Field(
        None, validation_alias=AliasChoices("KV_REST_API_URL", "UPSTASH_REDIS_REST_URL"), alias="KV_REST_API_URL"
    )
    redis_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("KV_REST_API_TOKEN", "UPSTASH_REDIS_REST_TOKEN"), alias="KV_REST_API_TOKEN"
    )
    redis_timeout_ms: Millis = Field(300, alias="REDIS_TIMEOUT_MS")
    redis_connect_timeout_ms: Millis = Field(1_000, alias="REDIS_CONNECT_TIMEOUT_MS")
    redis_cooldown_ms: Millis = Field(5_000, alias="REDIS_COOLDOWN_MS")
    redis_slow_ms: Millis = Field(100, alias="REDIS_SLOW_MS")

    supabase_url: Url | None = Field(None, alias="SUPABASE_URL")
    supabase_key: SecretStr | None = Field(None, alias="SUPABASE_SERVICE_ROLE_KEY")
    supabase_jwt_secret: SecretStr | None = Field(None, alias="SUPABASE_JWT_SECRET")
    fallback_timeout_ms: Millis = Field(800, alias="FALLBACK_TIMEOUT_MS")
    local_share: Annotated[float, Field(gt=0, le=1)] = Field(0.25, alias="LOCAL_LIMIT_SHARE")

    backend_url: Url = Field(alias="CLOUD_RUN_AI_URL")
    backend_secret: SecretStr | None = Field(None, alias="CLOUD_RUN_API_SECRET")
    backend_timeout_ms: Millis = Field(60_000, alias="AI_TIMEOUT_MS")
    backend_connect_timeout_ms: Millis = Field(5_000, alias="AI_CONNECT_TIMEOUT_MS")
    max_duration_ms: Millis = Field(290_000, alias="MAX_DURATION_MS")

    cache_fresh_s: Annotated[int, Field(ge=1, le=86_400)] = Field(3_600, alias="CACHE_TTL_SECONDS")
    cache_stale_s: Annotated[int, Field(ge=0, le=2_592_000)] = Field(86_400, alias="CACHE_STALE_SECONDS")
    breaker_failures: Annotated[int, Field(ge=1, le=100)] = Field(3, alias="BREAKER_FAILURES")
    breaker_cooldown_ms: Annotated[int, Field(ge=100, le=3_600_000)] = Field(60_000, alias="BREAKER_COOLDOWN_MS")

    ratelimit_algorithm: Literal["strict", "upstash"] = Field("strict", alias="RATELIMIT_ALGORITHM")
    ratelimit_prefix: str = Field("@upstash/ratelimit", alias="RATELIMIT_PREFIX")
    limit_ai_supervisor: Limits = Field(_limit("RATELIMIT_AI_SUPERVISOR"), alias="RATELIMIT_AI_SUPERVISOR")
    limit_ai: Limits = Field(_limit("RATELIMIT_AI"), alias="RATELIMIT_AI")
    limit_servers: Limits = Field(_limit("RATELIMIT_SERVERS"), alias="RATELIMIT_SERVERS")
    limit_api: Limits = Field(_limit("RATELIMIT_API"), alias="RATELIMIT_API")

    allowed_origins: Items = Field((), alias="ALLOWED_ORIGINS")
    trusted_proxies: Networks = Field((), alias="TRUSTED_PROXIES")
    identity_secret: SecretStr | None = Field(None, alias="IDENTITY_SECRET")
    on_vercel: Flag = Field(False, alias="VERCEL")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from an environment. An empty variable counts as unset. Raises BadSettings."""
        given = {name: value for name, value in environ.items() if value.strip()}
        faults = _missing(given)
        try:
            settings = cls.model_validate(given)
        except ValidationError as e:
            raise BadSettings(_faults(e) + faults) from None
        if faults:
            raise BadSettings(faults)
        return settings

    @property
    def identity_key(self) -> bytes:
        """The key of the identity hash: the same on every instance and in every mode, secret where any secret is."""
        for secret in (self.identity_secret, self.supabase_key, self.redis_token):
            if secret:
                return hashlib.sha256(b"breakwater identity\0" + secret.get_secret_value().encode()).digest()
        return b""

    @property
    def trust(self) -> Trust:
        """Which headers may name the client's address."""
        return Trust(self.on_vercel, self.trusted_proxies)

    def policy_for(self, path: str) -> Policy:
        """The policy of a route."""
        group = policy.group_of(path)
        layouts = {
            "RATELIMIT_AI_SUPERVISOR": self.limit_ai_supervisor,
            "RATELIMIT_AI": self.limit_ai,
            "RATELIMIT_SERVERS": self.limit_servers,
            "RATELIMIT_API": self.limit_api,
        }
        return Policy(
            group.name,
            layouts[group.variable],
            CacheRules(self.cache_fresh_s * 1000, self.cache_stale_s * 1000),
            # A probe's lease outlives the longest call, so that it is taken over only from one that crashed.
            BreakerPolicy(self.breaker_failures, self.breaker_cooldown_ms, self.backend_timeout_ms + 5_000),
        )


def _missing(given: Mapping[str, str]) -> list[str]:
    """What belongs together and is not there together, whatever the values are."""
    redis_url = given.keys() & {"KV_REST_API_URL", "UPSTASH_REDIS_REST_URL"}
    redis_token = given.keys() & {"KV_REST_API_TOKEN", "UPSTASH_REDIS_REST_TOKEN"}
    supabase_url = given.keys() & {"SUPABASE_URL"}
    supabase_key = given.keys() & {"SUPABASE_SERVICE_ROLE_KEY"}
    faults = []
    if redis_url and not redis_token:
        faults.append("KV_REST_API_TOKEN: missing, while a Redis URL is set")
    if not redis_url and _flag(given.get("REDIS_ENABLED", "true")) is not False:
        faults.append("KV_REST_API_URL: missing; connect Upstash Redis, or set REDIS_ENABLED=false to do without it")
    # A project may name SUPABASE_URL for sign-in alone; only the key without the URL is surely a mistake.
    if supabase_key and not supabase_url:
        faults.append("SUPABASE_URL: missing, while SUPABASE_SERVICE_ROLE_KEY is set")
    return faults


def _faults(error: ValidationError) -> list[str]:
    faults: list[str] = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        text = "missing" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
        faults.append(f"{item['loc'][0]}: {text}")
    return faults
