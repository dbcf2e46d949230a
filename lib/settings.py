"""Configuration: read once from a mapping, frozen, every fault reported together.

Nothing else reads the environment. Providers' variables are declared in ``ai/providers/registry.py``, all others here;
how their texts read is in ``base/env.py``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from functools import lru_cache
from typing import Any, Literal, Self, overload

from . import policy
from .ai.models import Models, parse_aliases
from .ai.prices import Prices, parse_prices
from .ai.providers import registry
from .ai.providers.registry import ProviderSettings
from .base import connections, env
from .base.caller import Network, Trust
from .base.connections import Connection, Named
from .base.env import BadSettings, Reader, Secret, Variable
from .base.values import dataclass
from .breaker.circuit import BreakerPolicy
from .cache.freshness import CacheRules
from .limits.grammar import parse_limits
from .limits.window import Layout
from .policy import Policy, Scope
from .redis import thrift

_MILLIS = env.integer(1, 300_000)
_LIMITS = policy.defaults()
_LONGEST_CHECK_MS = 10_000


@overload
def setting[T](names: str, read: Reader[T]) -> T | None: ...
@overload
def setting[T](names: str, read: Reader[T], default: str) -> T: ...
def setting(names: str, read: Reader[Any], default: str | None = None) -> Any:
    """A setting by its environment names, the preferred one first. ``default`` is written as in the environment."""
    return field(metadata={"variable": Variable(tuple(names.split()), read, default)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """Every setting. ``docs/configuration.md`` describes each; a test compares the two."""

    redis_enabled: bool = setting("REDIS_ENABLED", env.flag, "true")
    redis_url: str | None = setting("KV_REST_API_URL UPSTASH_REDIS_REST_URL", env.url)
    redis_token: Secret | None = setting("KV_REST_API_TOKEN UPSTASH_REDIS_REST_TOKEN", env.token)
    redis_tcp_url: Secret | None = setting("REDIS_URL", env.redis_url)
    redis_ca: str | None = setting("REDIS_CA", str)
    redis_transport: str = setting("REDIS_TRANSPORT", env.one_of("rest", "tcp"), "rest")
    key_prefix: str = setting("KEY_PREFIX", env.key_prefix, "")
    redis_billed: bool = setting("REDIS_BILLED", env.flag, "true")
    redis_timeout_ms: int = setting("REDIS_TIMEOUT_MS", _MILLIS, "300")
    redis_connect_timeout_ms: int = setting("REDIS_CONNECT_TIMEOUT_MS", _MILLIS, "1000")
    redis_cooldown_ms: int = setting("REDIS_COOLDOWN_MS", _MILLIS, "5000")
    redis_slow_ms: int = setting("REDIS_SLOW_MS", _MILLIS, "100")
    request_slow_ms: int = setting("REQUEST_SLOW_MS", _MILLIS, "10000")

    supabase_url: str | None = setting("SUPABASE_URL", env.url)
    supabase_key: Secret | None = setting("SUPABASE_SERVICE_ROLE_KEY SUPABASE_SECRET_KEY", env.supabase_key)
    supabase_jwt_secret: Secret | None = setting("SUPABASE_JWT_SECRET", Secret)
    database_url: Secret | None = setting("DATABASE_URL", Secret)
    db_named: tuple[Named, ...] = setting("DB_CONNECTIONS", connections.parse, "")
    db_show_literals: bool = setting("DB_SHOW_LITERALS", env.flag, "false")
    fallback_timeout_ms: int = setting("FALLBACK_TIMEOUT_MS", _MILLIS, "800")
    local_share: float = setting("LOCAL_LIMIT_SHARE", env.number(0, 1), "0.25")

    ai_providers: tuple[str, ...] = setting("AI_PROVIDERS", env.items, "")
    ai_timeout_ms: int = setting("AI_TIMEOUT_MS", _MILLIS, "60000")
    ai_connect_timeout_ms: int = setting("AI_CONNECT_TIMEOUT_MS", _MILLIS, "5000")
    ai_models: Mapping[str, str] = setting("AI_MODELS", parse_aliases, "")
    ai_prices: Prices = setting("AI_PRICES", parse_prices, "")
    ai_safety_failover: bool = setting("AI_SAFETY_FAILOVER", env.flag, "false")
    ai_keep_alive: bool = setting("AI_KEEP_ALIVE", env.flag, "true")
    ai_finish_abandoned: bool = setting("AI_FINISH_ABANDONED", env.flag, "false")
    max_duration_ms: int = setting("MAX_DURATION_MS", _MILLIS, "290000")

    cache_scope: Scope = setting("CACHE_SCOPE", env.one_of("session", "caller", "shared"), "session")
    cache_fresh_s: int = setting("CACHE_TTL_SECONDS", env.integer(1, 86_400), "3600")
    cache_refresh_s: int = setting("CACHE_REFRESH_SECONDS", env.integer(0, 86_400), "600")
    cache_stale_s: int = setting("CACHE_STALE_SECONDS", env.integer(0, 2_592_000), "86400")
    flight_lease_ms: int = setting("SINGLE_FLIGHT_LEASE_MS", env.integer(100, 300_000), "10000")
    breaker_failures: int = setting("BREAKER_FAILURES", env.integer(1, 100), "3")
    breaker_cooldown_ms: int = setting("BREAKER_COOLDOWN_MS", env.integer(100, 3_600_000), "60000")
    breaker_max_rest_ms: int = setting("BREAKER_MAX_REST_MS", env.integer(100, 86_400_000), "600000")
    check_query: str = setting("CHECK_QUERY", str, "ping")

    ratelimit_algorithm: str = setting("RATELIMIT_ALGORITHM", env.one_of("strict", "upstash"), "strict")
    ratelimit_prefix: str = setting("RATELIMIT_PREFIX", str, "@upstash/ratelimit")
    limit_ai_supervisor: Layout = setting("RATELIMIT_AI_SUPERVISOR", parse_limits, _LIMITS["RATELIMIT_AI_SUPERVISOR"])
    limit_ai: Layout = setting("RATELIMIT_AI", parse_limits, _LIMITS["RATELIMIT_AI"])
    limit_servers: Layout = setting("RATELIMIT_SERVERS", parse_limits, _LIMITS["RATELIMIT_SERVERS"])
    limit_data: Layout = setting("RATELIMIT_DATA", parse_limits, _LIMITS["RATELIMIT_DATA"])
    limit_api: Layout = setting("RATELIMIT_API", parse_limits, _LIMITS["RATELIMIT_API"])

    admin_token: Secret | None = setting("ADMIN_TOKEN", env.token)
    ranking_tokens: Mapping[str, Secret] = setting("RANKING_TOKENS", env.named_tokens, "")
    fleet_tokens: Mapping[str, Secret] = setting("FLEET_TOKENS", env.named_tokens, "")
    alert_server_percent: float = setting("ALERT_SERVER_PERCENT", env.number(0, 100), "90")
    alert_server_reports: int = setting("ALERT_SERVER_REPORTS", env.integer(1, 100), "3")
    cron_secret: Secret | None = setting("CRON_SECRET", env.token)
    redis_month_commands: int = setting("REDIS_MONTH_COMMANDS", env.integer(1), "500000")
    redis_month_percents: tuple[int, ...] = setting("REDIS_MONTH_PERCENTS", thrift.parse_percents, "80,90,95")
    ledger_flush_commands: int = setting("LEDGER_FLUSH_COMMANDS", env.integer(1, 10_000), "64")
    supabase_mb: int = setting("SUPABASE_MB", env.integer(1), "500")
    alert_error_percent: float = setting("ALERT_ERROR_PERCENT", env.number(0, 100), "1")
    slack_webhook: Secret | None = setting("SLACK_WEBHOOK_URL", env.secret_url)
    alert_webhook: Secret | None = setting("ALERT_WEBHOOK_URL", env.secret_url)
    alert_webhook_format: Literal["json", "slack", "discord", "teams"] | None = setting(
        "ALERT_WEBHOOK_FORMAT", env.one_of("json", "slack", "discord", "teams")
    )
    upstash_email: str | None = setting("UPSTASH_EMAIL", str)
    upstash_api_key: Secret | None = setting("UPSTASH_API_KEY", env.token)
    upstash_api_url: str = setting("UPSTASH_API_URL", env.url, "https://api.upstash.com")

    allowed_origins: tuple[str, ...] = setting("ALLOWED_ORIGINS", env.origins, "")
    trusted_proxies: tuple[Network, ...] = setting("TRUSTED_PROXIES", env.networks, "")
    identity_secret: Secret | None = setting("IDENTITY_SECRET", Secret)
    on_vercel: bool = setting("VERCEL", env.flag, "false")

    providers: tuple[ProviderSettings, ...]
    """The configured AI providers, in the order in which they are called."""
    connections: tuple[Connection, ...]
    """The databases that are watched."""
    limits_by_name: Mapping[str, str]
    """Limits as they are written, by the variable that sets them (``RATELIMIT_MY_ROUTE``)."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from an environment. An empty variable counts as unset. Raises BadSettings."""
        given = env.given_in(environ)
        values, faults = env.read(_OWN, given)
        times = (values.get(f"{name}_ms", 0) / 1000 for name in ("ai_timeout", "ai_connect_timeout"))
        databases, without = connections.resolved(values.get("db_named", ()), given)
        failover = values.get("ai_safety_failover", False)
        providers, wrong = registry.read(given, values["ai_providers"], *times, safety_failover=failover)
        if not wrong and not _models(providers, values.get("ai_models", {})).are_configured:
            wrong = [
                "AI_MODELS: a model that no configured provider has; name it in GROQ_MODEL=one,another or the like"
            ]
        faults += wrong + without + _missing(given, redis_enabled=values.get("redis_enabled", True))
        if faults:
            raise BadSettings(faults)
        return cls(**values, providers=providers, connections=databases, limits_by_name=_named_limits(given))

    @property
    def uses_tcp(self) -> bool:
        """Whether Redis is spoken to over TCP: where that is asked for, or where there is no other address."""
        over_tcp = self.redis_transport == "tcp" or self.redis_url is None
        return self.redis_enabled and self.redis_tcp_url is not None and over_tcp

    @property
    def warnings(self) -> list[str]:
        """What is set but not used as it is: a line each, with the variable's name and never its value."""
        closes = {"ADMIN_TOKEN": self.admin_token, "CRON_SECRET": self.cron_secret}
        return [
            f"{name}: shorter than {env.LEAST_SECRET} characters; the routes that it opens stay closed"
            for name, secret in closes.items()
            if secret is not None and secret.is_short
        ]

    def require_ai(self) -> None:
        """What an AI route checks first. Raises BadSettings where no AI provider is configured."""
        if not self.providers:
            raise BadSettings([registry.missing()])

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the configured providers, in the order in which they are called."""
        return tuple(each.name for each in self.providers)

    @property
    def omitted(self) -> frozenset[str]:
        """The fields of a request that no configured provider is sent."""
        return (
            frozenset[str]()
            .union(*(each.omit for each in self.providers))
            .intersection(*(each.omit for each in self.providers))
        )

    @property
    def models(self) -> Models:
        """The models that clients may name."""
        return _models(self.providers, self.ai_models)

    @property
    def identity_key(self) -> bytes:
        """The key of the identity hash: the same on every instance and in every mode, secret where any secret is."""
        secret = self.identity_secret or self.supabase_key or self.redis_token or self.redis_tcp_url
        return _identity_key(secret.value) if secret else b""

    @property
    def trust(self) -> Trust:
        """Which headers may name the client's address."""
        return Trust(self.on_vercel, self.trusted_proxies)

    def policy_for(self, path: str) -> Policy:
        """The policy of a route."""
        return self._policy(policy.group_of(path))

    def policy_named(self, name: str, layout: Layout) -> Policy:
        """The policy of a route with a limit of its own; the environment's word wins over the code's.

        Raises BadSettings where that is no limit: only here is it known to be meant as one.
        """
        variable = policy.variable_of(name)
        if (text := self.limits_by_name.get(variable)) is not None:
            try:
                layout = parse_limits(text)
            except ValueError as e:
                raise BadSettings([f"{variable}: {e}"]) from e
        return Policy(policy.group_named(name), layout)

    def policies(self) -> list[Policy]:
        """The policy of every group of routes."""
        return [*(self._policy(group) for group in policy.GROUPS), policy.SIGN_INS]

    def _policy(self, group: policy.Group) -> Policy:
        layouts = {
            "RATELIMIT_AI_SUPERVISOR": self.limit_ai_supervisor,
            "RATELIMIT_AI": self.limit_ai,
            "RATELIMIT_SERVERS": self.limit_servers,
            "RATELIMIT_DATA": self.limit_data,
            "RATELIMIT_API": self.limit_api,
        }
        cache = CacheRules(self.cache_fresh_s * 1000, self.cache_refresh_s * 1000, self.cache_stale_s * 1000)
        return policy.policy_of(group, layouts[group.variable], cache)

    @property
    def breaker(self) -> BreakerPolicy:
        """When a provider's circuit opens. A probe's lease outlives the longest call, so only a crashed one ends."""
        return BreakerPolicy(
            self.breaker_failures,
            self.breaker_cooldown_ms,
            lease_ms=self.ai_timeout_ms + 5_000,
            check_ms=min(_LONGEST_CHECK_MS, max(1, self.ai_timeout_ms // 2)),
            max_rest_ms=self.breaker_max_rest_ms,
        )


_OWN: dict[str, Variable[Any]] = {each.name: each.metadata["variable"] for each in fields(Settings) if each.metadata}


def variables() -> list[Variable[Any]]:
    """Every variable that is read, those of the providers included."""
    return [*_OWN.values(), *(each for one in registry.PROVIDERS for each in one.variables.values())]


@lru_cache(maxsize=4)
def _identity_key(secret: str) -> bytes:
    return hashlib.sha256(b"breakwater identity\0" + secret.encode()).digest()


def _models(providers: Sequence[ProviderSettings], aliases: Mapping[str, str]) -> Models:
    return Models({each.name: each.models for each in providers}, aliases)


def _named_limits(given: Mapping[str, str]) -> dict[str, str]:
    """What may be limits of routes with a limit of their own. Other software may have variables of such names, too."""
    others = {name for each in _OWN.values() if each.read is not parse_limits for name in each.names}
    return {name: text for name, text in given.items() if name.startswith("RATELIMIT_") and name not in others}


def _missing(given: Mapping[str, str], *, redis_enabled: bool) -> list[str]:
    """What belongs together and is not there together, whatever the values are."""
    redis_url, redis_token = (_OWN[name].name_in(given) for name in ("redis_url", "redis_token"))
    faults = []
    if redis_url and not redis_token:
        faults.append("KV_REST_API_TOKEN: missing, while a Redis URL is set")
    tcp = "REDIS_URL" in given
    if redis_enabled and tcp and (not redis_url or given.get("REDIS_TRANSPORT") == "tcp"):
        # Where it is not used it may be other software's.
        fault = env.redis_url_fault(given["REDIS_URL"])
        faults += [f"REDIS_URL: {fault}"] if fault else []
    if redis_enabled and not tcp and given.get("REDIS_TRANSPORT") == "tcp":
        faults.append("REDIS_URL: missing, while REDIS_TRANSPORT is tcp")
    if redis_enabled and given.get("RATELIMIT_ALGORITHM") == "upstash" and not redis_url and tcp:
        faults.append("RATELIMIT_ALGORITHM: 'upstash' speaks REST, and only REDIS_URL is set")
    if redis_enabled and not redis_url and not tcp:
        faults.append("KV_REST_API_URL: missing; connect Upstash Redis, or set REDIS_ENABLED=false to do without it")
    # A project may name SUPABASE_URL for sign-in alone; only the key without the URL is surely a mistake.
    key = _OWN["supabase_key"].name_in(given)
    if key and "SUPABASE_URL" not in given:
        faults.append(f"SUPABASE_URL: missing, while {key} is set")
    if "UPSTASH_API_KEY" in given and "UPSTASH_EMAIL" not in given:
        faults.append("UPSTASH_EMAIL: missing, while UPSTASH_API_KEY is set")
    return faults
