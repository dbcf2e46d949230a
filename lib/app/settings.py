"""Configuration: read once from a mapping, frozen, every fault reported together.

Nothing else reads the environment.
"""

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from .. import policy
from ..base.caller import Network, Trust
from ..breaker.circuit import BreakerPolicy
from ..cache.freshness import CacheRules
from ..edge.problems import BadSettings
from ..limits.grammar import parse_budget, parse_limits
from ..limits.window import Layout
from ..policy import Policy
from ..redis import thrift


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
    if not isinstance(text, str):
        return text
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("not a list of networks: write for example '10.0.0.0/8,127.0.0.1/32'") from None


def _layout(text: object) -> object:
    return parse_limits(text) if isinstance(text, str) else text


def _budget(text: object) -> object:
    return parse_budget(text) if isinstance(text, str) else text


def _percents(text: object) -> object:
    return thrift.parse_percents(text) if isinstance(text, str) else text


type Flag = Annotated[bool, BeforeValidator(_flag)]
type Url = Annotated[str, BeforeValidator(_url)]
type Items = Annotated[tuple[str, ...], BeforeValidator(_items)]
type Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
type Limits = Annotated[Layout, BeforeValidator(_layout)]
type BudgetLimits = Annotated[Layout, BeforeValidator(_budget)]
type Percents = Annotated[tuple[int, ...], BeforeValidator(_percents)]
type Millis = Annotated[int, Field(ge=1, le=300_000)]


def _limit(group: str) -> Layout:
    return parse_limits(policy.defaults()[group])


class Settings(BaseModel):
    """Every setting, under its environment name (the alias). ``README.md`` describes each; a test compares the two."""

    model_config = ConfigDict(
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        # Built with the first request rather than before the instance is ready.
        defer_build=True,
    )

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

    providers: Items = Field((), alias="AI_PROVIDERS")
    ai_timeout_ms: Millis = Field(60_000, alias="AI_TIMEOUT_MS")
    ai_connect_timeout_ms: Millis = Field(5_000, alias="AI_CONNECT_TIMEOUT_MS")
    cloud_run_url: Url | None = Field(None, alias="CLOUD_RUN_AI_URL")
    cloud_run_secret: SecretStr | None = Field(None, alias="CLOUD_RUN_API_SECRET")
    cloud_run_limits: BudgetLimits = Field(Layout(()), alias="CLOUD_RUN_LIMITS")
    cloud_run_month_s: Annotated[int, Field(ge=0)] = Field(180_000, alias="CLOUD_RUN_MONTH_VCPU_SECONDS")
    cloud_run_vcpus: Annotated[float, Field(gt=0, le=8)] = Field(1.0, alias="CLOUD_RUN_VCPUS")
    gemini_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("GEMINI_API_KEY", "GOOGLE_API_KEY"), alias="GEMINI_API_KEY"
    )
    gemini_model: str = Field("gemini-2.5-flash", alias="GEMINI_MODEL")
    gemini_url: Url = Field("https://generativelanguage.googleapis.com", alias="GEMINI_BASE_URL")
    gemini_limits: BudgetLimits = Field(parse_budget("9/minute,225/day@America/Los_Angeles"), alias="GEMINI_LIMITS")
    groq_key: SecretStr | None = Field(None, alias="GROQ_API_KEY")
    groq_model: str = Field("llama-3.3-70b-versatile", alias="GROQ_MODEL")
    groq_url: Url = Field("https://api.groq.com/openai/v1", alias="GROQ_BASE_URL")
    groq_limits: BudgetLimits = Field(parse_budget("14400/day"), alias="GROQ_LIMITS")
    openai_key: SecretStr | None = Field(None, alias="OPENAI_API_KEY")
    openai_model: str = Field("gpt-4o-mini", alias="OPENAI_MODEL")
    openai_url: Url = Field("https://api.openai.com/v1", alias="OPENAI_BASE_URL")
    openai_limits: BudgetLimits = Field(Layout(()), alias="OPENAI_LIMITS")
    max_duration_ms: Millis = Field(290_000, alias="MAX_DURATION_MS")

    cache_fresh_s: Annotated[int, Field(ge=1, le=86_400)] = Field(3_600, alias="CACHE_TTL_SECONDS")
    cache_refresh_s: Annotated[int, Field(ge=0, le=86_400)] = Field(600, alias="CACHE_REFRESH_SECONDS")
    cache_stale_s: Annotated[int, Field(ge=0, le=2_592_000)] = Field(86_400, alias="CACHE_STALE_SECONDS")
    flight_lease_ms: Annotated[int, Field(ge=100, le=300_000)] = Field(15_000, alias="SINGLE_FLIGHT_LEASE_MS")
    breaker_failures: Annotated[int, Field(ge=1, le=100)] = Field(3, alias="BREAKER_FAILURES")
    breaker_cooldown_ms: Annotated[int, Field(ge=100, le=3_600_000)] = Field(60_000, alias="BREAKER_COOLDOWN_MS")

    ratelimit_algorithm: Literal["strict", "upstash"] = Field("strict", alias="RATELIMIT_ALGORITHM")
    ratelimit_prefix: str = Field("@upstash/ratelimit", alias="RATELIMIT_PREFIX")
    limit_ai_supervisor: Limits = Field(_limit("RATELIMIT_AI_SUPERVISOR"), alias="RATELIMIT_AI_SUPERVISOR")
    limit_ai: Limits = Field(_limit("RATELIMIT_AI"), alias="RATELIMIT_AI")
    limit_servers: Limits = Field(_limit("RATELIMIT_SERVERS"), alias="RATELIMIT_SERVERS")
    limit_api: Limits = Field(_limit("RATELIMIT_API"), alias="RATELIMIT_API")

    admin_token: SecretStr | None = Field(None, alias="ADMIN_TOKEN")
    cron_secret: SecretStr | None = Field(None, alias="CRON_SECRET")
    redis_month_commands: Annotated[int, Field(ge=1)] = Field(500_000, alias="REDIS_MONTH_COMMANDS")
    redis_month_percents: Percents = Field((80, 90, 95), alias="REDIS_MONTH_PERCENTS")
    ledger_flush_commands: Annotated[int, Field(ge=1, le=10_000)] = Field(64, alias="LEDGER_FLUSH_COMMANDS")
    supabase_mb: Annotated[int, Field(ge=1)] = Field(500, alias="SUPABASE_MB")
    alert_error_percent: Annotated[float, Field(gt=0, le=100)] = Field(1.0, alias="ALERT_ERROR_PERCENT")
    slack_webhook: SecretStr | None = Field(None, alias="SLACK_WEBHOOK_URL")
    alert_webhook: SecretStr | None = Field(None, alias="ALERT_WEBHOOK_URL")
    upstash_email: str | None = Field(None, alias="UPSTASH_EMAIL")
    upstash_api_key: SecretStr | None = Field(None, alias="UPSTASH_API_KEY")
    upstash_api_url: Url = Field("https://api.upstash.com", alias="UPSTASH_API_URL")

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
        return self._policy(policy.group_of(path))

    def policies(self) -> list[Policy]:
        """The policy of every group of routes."""
        return [self._policy(group) for group in policy.GROUPS]

    def _policy(self, group: policy.Group) -> Policy:
        layouts = {
            "RATELIMIT_AI_SUPERVISOR": self.limit_ai_supervisor,
            "RATELIMIT_AI": self.limit_ai,
            "RATELIMIT_SERVERS": self.limit_servers,
            "RATELIMIT_API": self.limit_api,
        }
        cache = CacheRules(self.cache_fresh_s * 1000, self.cache_refresh_s * 1000, self.cache_stale_s * 1000)
        return Policy(group.name, layouts[group.variable], cache)

    @property
    def breaker(self) -> BreakerPolicy:
        """When a provider's circuit opens. A probe's lease outlives the longest call, so only a crashed one ends."""
        return BreakerPolicy(self.breaker_failures, self.breaker_cooldown_ms, self.ai_timeout_ms + 5_000)

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the configured providers, in the order in which they are asked."""
        configured = {
            "cloud-run": self.cloud_run_url,
            "gemini": self.gemini_key,
            "groq": self.groq_key,
            "openai": self.openai_key,
        }
        return self.providers or tuple(name for name, given in configured.items() if given)


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
    if "UPSTASH_API_KEY" in given and "UPSTASH_EMAIL" not in given:
        faults.append("UPSTASH_EMAIL: missing, while UPSTASH_API_KEY is set")
    # Kept as secrets, because whoever knows them can write there; so they are looked at here.
    hooks = [name for name in ("SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL") if name in given]
    wrong = [name for name in hooks if not given[name].strip().startswith(("https://", "http://"))]
    faults += [f"{name}: must be a URL that begins with https:// (or http:// for a local server)" for name in wrong]
    return faults + _provider_faults(given)


_NEEDS = {
    "cloud-run": ("CLOUD_RUN_AI_URL",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
}


def _provider_faults(given: Mapping[str, str]) -> list[str]:
    named = [name.strip() for name in given.get("AI_PROVIDERS", "").split(",") if name.strip()]
    faults = [f"AI_PROVIDERS: a name that is not one of {', '.join(_NEEDS)}"] if set(named) - _NEEDS.keys() else []
    if len(set(named)) != len(named):
        faults.append("AI_PROVIDERS: a name twice")
    for name in named:
        needs = _NEEDS.get(name, ())
        if needs and not given.keys() & set(needs):
            faults.append(f"{needs[0]}: missing, while AI_PROVIDERS names {name}")
    if not named and not given.keys() & {variable for needs in _NEEDS.values() for variable in needs}:
        faults.append("CLOUD_RUN_AI_URL: missing; set it, or GEMINI_API_KEY, GROQ_API_KEY or OPENAI_API_KEY")
    return faults


def _faults(error: ValidationError) -> list[str]:
    faults: list[str] = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        text = "missing" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
        faults.append(f"{item['loc'][0]}: {text}")
    return faults
