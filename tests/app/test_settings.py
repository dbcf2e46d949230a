"""Settings: read from a mapping, all faults together, and no secret in any text."""

import dataclasses
import ipaddress
import json
import traceback

import pytest

from lib import settings as declared
from lib.ai.providers import registry
from lib.ai.providers.registry import PROVIDERS
from lib.base.env import BadSettings, Secret
from lib.breaker.circuit import BreakerPolicy
from lib.cache.freshness import CacheRules
from lib.limits.grammar import parse_budget, parse_limits
from lib.settings import Settings

REDIS = {"KV_REST_API_URL": "https://x.upstash.io", "KV_REST_API_TOKEN": "redis-s3cret"}
BACKEND = {"CLOUD_RUN_AI_URL": "https://ai.example"}
LEAST = {**REDIS, **BACKEND}
OFF = {"REDIS_ENABLED": "false", **BACKEND}


def faults_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(BadSettings) as error:
        Settings.from_env(environ)
    assert str(error.value) == "; ".join(error.value.faults)
    return error.value.faults


def test_the_least() -> None:
    """A Redis and a backend are enough; everything else has its default."""
    settings = Settings.from_env({**LEAST, "UNRELATED": "x"})
    assert settings.redis_url == "https://x.upstash.io"
    assert settings.redis_token is not None
    assert settings.redis_token.value == "redis-s3cret"
    assert settings.redis_enabled
    assert settings.supabase_url is None
    assert settings.limit_ai_supervisor == parse_limits("10/minute,100/day")
    assert settings.limit_servers == parse_limits("30/minute")
    assert settings.limit_api == parse_limits("100/minute")
    assert (settings.cache_fresh_s, settings.breaker_failures, settings.breaker_cooldown_ms) == (3_600, 3, 60_000)
    assert settings.flight_lease_ms == 10_000
    assert not settings.trust.vercel


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        pytest.param({"REDIS_ENABLED": "FALSE"}, "redis_enabled", False, id="a flag in capitals"),
        pytest.param({"REDIS_ENABLED": " 0 "}, "redis_enabled", False, id="a flag as a number"),
        pytest.param({"REDIS_ENABLED": "off"}, "redis_enabled", False, id="off"),
        pytest.param({"REDIS_ENABLED": "yes"}, "redis_enabled", True, id="yes"),
        pytest.param({"REDIS_ENABLED": "n"}, "redis_enabled", False, id="one letter"),
        pytest.param({"REDIS_ENABLED": ""}, "redis_enabled", True, id="an empty variable is unset"),
        pytest.param({"REDIS_TIMEOUT_MS": "  "}, "redis_timeout_ms", 300, id="so is a blank one"),
        pytest.param({"VERCEL": "1"}, "on_vercel", True, id="Vercel's own flag"),
        pytest.param({"KV_REST_API_URL": " https://y/ "}, "redis_url", "https://y", id="a URL is trimmed"),
        pytest.param({"SUPABASE_URL": "http://127.0.0.1:1/"}, "supabase_url", "http://127.0.0.1:1", id="http"),
        pytest.param({"RATELIMIT_PREFIX": " mine "}, "ratelimit_prefix", "mine", id="white space around a text"),
        pytest.param({"REDIS_SLOW_MS": " 250 "}, "redis_slow_ms", 250, id="white space around a number"),
        pytest.param({"REDIS_SLOW_MS": "250.0"}, "redis_slow_ms", 250, id="a whole number with a fraction of none"),
        pytest.param({"SUPABASE_MB": "8192"}, "supabase_mb", 8_192, id="a number without an upper bound"),
        pytest.param({"ALERT_ERROR_PERCENT": "2.5"}, "alert_error_percent", 2.5, id="a number with a fraction"),
        pytest.param({"ALLOWED_ORIGINS": "https://a, https://b,"}, "allowed_origins", ("https://a", "https://b")),
        pytest.param(
            {"TRUSTED_PROXIES": "10.0.0.1/8, ::1"},
            "trusted_proxies",
            (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")),
            id="networks",
        ),
        pytest.param({"RATELIMIT_AI": "5/hour"}, "limit_ai", parse_limits("5/hour"), id="a limit"),
        pytest.param({"RATELIMIT_API": "off"}, "limit_api", parse_limits("off"), id="no limit"),
        pytest.param({"LOCAL_LIMIT_SHARE": "1"}, "local_share", 1.0, id="a share"),
        pytest.param({"RATELIMIT_ALGORITHM": "upstash"}, "ratelimit_algorithm", "upstash", id="the library's windows"),
    ],
)
def test_a_value(given: dict[str, str], name: str, value: object) -> None:
    """Each kind of value is read as people write it."""
    assert getattr(Settings.from_env({**LEAST, **given}), name) == value


@pytest.mark.parametrize("name", ["KV_REST_API_TOKEN", "UPSTASH_REDIS_REST_TOKEN"])
def test_a_secret_is_trimmed(name: str) -> None:
    """White space around a secret is not part of it, whatever pasted it there."""
    settings = Settings.from_env({**BACKEND, "KV_REST_API_URL": "https://x", name: " \ts3cret\n"})
    assert settings.redis_token is not None
    assert settings.redis_token.value == "s3cret"


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("KV_REST_API_URL", "KV_REST_API_TOKEN"),
        ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
    ],
)
def test_both_names_of_redis(url: str, token: str) -> None:
    """Vercel's integration and Upstash's own page name the same two variables differently."""
    settings = Settings.from_env({**BACKEND, url: "https://x", token: "t"})
    assert settings.redis_url == "https://x"
    assert settings.redis_token is not None


def test_vercels_names_come_first() -> None:
    """With both sets there, the integration's."""
    both = {**LEAST, "UPSTASH_REDIS_REST_URL": "https://old", "UPSTASH_REDIS_REST_TOKEN": "old"}
    assert Settings.from_env(both).redis_url == "https://x.upstash.io"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param({}, {"KV_REST_API_URL"}, id="nothing at all"),
        pytest.param({**LEAST, "UPSTASH_API_KEY": "x"}, {"UPSTASH_EMAIL"}, id="an account's key without its e-mail"),
        pytest.param({**LEAST, "SLACK_WEBHOOK_URL": "x"}, {"SLACK_WEBHOOK_URL"}, id="a webhook without a scheme"),
        pytest.param(
            {**BACKEND, "UPSTASH_REDIS_REST_URL": "x", "UPSTASH_REDIS_REST_TOKEN": "t"},
            {"UPSTASH_REDIS_REST_URL"},
            id="the name that was used",
        ),
        pytest.param(BACKEND, {"KV_REST_API_URL"}, id="no Redis"),
        pytest.param({**LEAST, "SUPABASE_URL": "https://a b.example"}, {"SUPABASE_URL"}, id="a URL with a space"),
        pytest.param({**LEAST, "KV_REST_API_URL": "https://x:99999"}, {"KV_REST_API_URL"}, id="a port beyond the last"),
        pytest.param({**LEAST, "KV_REST_API_URL": "https://x:0"}, {"KV_REST_API_URL"}, id="port zero"),
        pytest.param({**LEAST, "CLOUD_RUN_AI_URL": "http://x:port"}, {"CLOUD_RUN_AI_URL"}, id="a port in letters"),
        pytest.param({**LEAST, "UPSTASH_API_URL": "https://:443/"}, {"UPSTASH_API_URL"}, id="a URL without a host"),
        pytest.param({**LEAST, "ALERT_WEBHOOK_URL": "https://"}, {"ALERT_WEBHOOK_URL"}, id="a scheme alone"),
        pytest.param({**LEAST, "SLACK_WEBHOOK_URL": "https://[x"}, {"SLACK_WEBHOOK_URL"}, id="half an address"),
        pytest.param({**LEAST, "KV_REST_API_TOKEN": "a b"}, {"KV_REST_API_TOKEN"}, id="a secret of two words"),
        pytest.param({**LEAST, "ADMIN_TOKEN": "one\ntwo"}, {"ADMIN_TOKEN"}, id="a secret of two lines"),
        pytest.param({**LEAST, "GROQ_API_KEY": "clé"}, {"GROQ_API_KEY"}, id="a key no header can hold"),
        pytest.param({**LEAST, "CRON_SECRET": "“quoted”"}, {"CRON_SECRET"}, id="a secret in typographic quotes"),
        pytest.param(
            {**LEAST, "CLOUD_RUN_LIMITS": "9/day@America"}, {"CLOUD_RUN_LIMITS"}, id="a zone that is a folder"
        ),
        pytest.param(
            {**LEAST, "GEMINI_API_KEY": "k", "GEMINI_LIMITS": "9/day@leapseconds"},
            {"GEMINI_LIMITS"},
            id="a file that is no zone",
        ),
        pytest.param(
            {**LEAST, "GEMINI_API_KEY": "k", "GEMINI_LIMITS": "9/day@A/"},
            {"GEMINI_LIMITS"},
            id="a zone that ends in a slash",
        ),
        pytest.param({**LEAST, "ALLOWED_ORIGINS": "example.com"}, {"ALLOWED_ORIGINS"}, id="an origin without a scheme"),
        pytest.param({**LEAST, "ALLOWED_ORIGINS": "https://x/app"}, {"ALLOWED_ORIGINS"}, id="an origin with a path"),
        pytest.param({**BACKEND, "KV_REST_API_URL": "https://x"}, {"KV_REST_API_TOKEN"}, id="no token"),
        pytest.param({**BACKEND, "KV_REST_API_TOKEN": "x"}, {"KV_REST_API_URL"}, id="a token without a URL"),
        pytest.param(
            {**LEAST, "SUPABASE_SERVICE_ROLE_KEY": "x"}, {"SUPABASE_URL"}, id="a Supabase key without its URL"
        ),
        pytest.param({**LEAST, "KV_REST_API_URL": "x.upstash.io"}, {"KV_REST_API_URL"}, id="no scheme"),
        pytest.param({**LEAST, "REDIS_ENABLED": "maybe"}, {"REDIS_ENABLED"}, id="no flag"),
        pytest.param({**LEAST, "REDIS_TIMEOUT_MS": "0"}, {"REDIS_TIMEOUT_MS"}, id="a timeout of none"),
        pytest.param({**LEAST, "AI_TIMEOUT_MS": "1e9"}, {"AI_TIMEOUT_MS"}, id="a timeout of days"),
        pytest.param({**LEAST, "LOCAL_LIMIT_SHARE": "0"}, {"LOCAL_LIMIT_SHARE"}, id="a share of none"),
        pytest.param({**LEAST, "LOCAL_LIMIT_SHARE": "nan"}, {"LOCAL_LIMIT_SHARE"}, id="no number as a share"),
        pytest.param({**LEAST, "LOCAL_LIMIT_SHARE": "half"}, {"LOCAL_LIMIT_SHARE"}, id="a word as a share"),
        pytest.param({**LEAST, "REDIS_TIMEOUT_MS": "1.5"}, {"REDIS_TIMEOUT_MS"}, id="a fraction"),
        pytest.param({**LEAST, "REDIS_MONTH_PERCENTS": "90,80,95"}, {"REDIS_MONTH_PERCENTS"}, id="shares not in order"),
        pytest.param({**LEAST, "RATELIMIT_AI": "10/week"}, {"RATELIMIT_AI"}, id="no limit"),
        pytest.param({**LEAST, "RATELIMIT_ALGORITHM": "lax"}, {"RATELIMIT_ALGORITHM"}, id="an unknown algorithm"),
        pytest.param({**LEAST, "AI_PROVIDERS": "cloud-run,cloud-walk"}, {"AI_PROVIDERS"}, id="an unknown provider"),
        pytest.param({**LEAST, "AI_PROVIDERS": "cloud-run,cloud-run"}, {"AI_PROVIDERS"}, id="a provider twice"),
        pytest.param({**LEAST, "AI_PROVIDERS": "gemini"}, {"GEMINI_API_KEY"}, id="a provider without its key"),
        pytest.param({**REDIS, "AI_PROVIDERS": "cloud-run"}, {"CLOUD_RUN_AI_URL"}, id="a backend without its URL"),
        pytest.param({**LEAST, "GROQ_LIMITS": "10/week"}, {"GROQ_LIMITS"}, id="the budget of a provider without a key"),
        pytest.param({**REDIS, "CLOUD_RUN_AI_URL": "x"}, {"CLOUD_RUN_AI_URL"}, id="a backend without a scheme"),
        pytest.param({**LEAST, "CLOUD_RUN_VCPUS": "9"}, {"CLOUD_RUN_VCPUS"}, id="too many processors"),
        pytest.param({**LEAST, "GEMINI_LIMITS": "9/day@Mars/Olympus"}, {"GEMINI_LIMITS"}, id="no time zone"),
        pytest.param({**LEAST, "TRUSTED_PROXIES": "10.0.0.0/8,x"}, {"TRUSTED_PROXIES"}, id="no network"),
        pytest.param(
            {
                "KV_REST_API_URL": "x",
                "REDIS_TIMEOUT_MS": "soon",
                "RATELIMIT_API": "?",
                "TRUSTED_PROXIES": "?",
                "SUPABASE_SERVICE_ROLE_KEY": "k",
            },
            {
                "KV_REST_API_URL",
                "KV_REST_API_TOKEN",
                "REDIS_TIMEOUT_MS",
                "RATELIMIT_API",
                "TRUSTED_PROXIES",
                "SUPABASE_URL",
            },
            id="six faults at once",
        ),
    ],
)
def test_faults(environ: dict[str, str], named: set[str]) -> None:
    """One error names every faulty variable, once. CASE 39."""
    faults = faults_of(environ)
    assert sorted(fault.partition(":")[0] for fault in faults) == sorted(named)


TEXTS = {
    "REDIS_ENABLED": "must be true or false",
    "REDIS_TIMEOUT_MS": "must be a whole number from 1 to 300000",
    "SUPABASE_MB": "must be a whole number, at least 1",
    "LOCAL_LIMIT_SHARE": "must be a number above 0 and at most 1",
    "RATELIMIT_ALGORITHM": "must be 'strict' or 'upstash'",
    "RATELIMIT_API": "not a limit: write for example '10/minute,100/day', or 'off'",
    "GEMINI_LIMITS": "not a limit: write for example '9/minute,225/day@America/Los_Angeles', or 'off'",
    "TRUSTED_PROXIES": "not a list of networks: write for example '10.0.0.0/8,127.0.0.1/32'",
    "SUPABASE_URL": "must be a URL that begins with https:// (or http:// for a local server)",
    "AI_PROVIDERS": f"a name that is not one of {', '.join(each.name for each in PROVIDERS)}",
}


def test_a_fault_says_what_to_write() -> None:
    """Each fault is the variable's name and what its value should look like."""
    assert sorted(faults_of({**LEAST, **dict.fromkeys(TEXTS, "?")})) == sorted(
        f"{name}: {text}" for name, text in TEXTS.items()
    )


KEYS = {"GEMINI_API_KEY": "g", "GROQ_API_KEY": "q", "OPENAI_API_KEY": "o"}


@pytest.mark.parametrize(
    ("environ", "chain"),
    [
        pytest.param(BACKEND, ("cloud-run",), id="the backend alone"),
        pytest.param({"GOOGLE_API_KEY": "g"}, ("gemini",), id="another provider alone, by its key's other name"),
        pytest.param({**KEYS, **BACKEND}, ("cloud-run", "gemini", "groq", "openai"), id="all: the backend first"),
        pytest.param({**KEYS, **BACKEND, "AI_PROVIDERS": "groq, cloud-run"}, ("groq", "cloud-run"), id="as named"),
    ],
)
def test_chain(environ: dict[str, str], chain: tuple[str, ...]) -> None:
    """Who is asked, in which order: all that are configured, unless it is said."""
    assert Settings.from_env({**REDIS, **environ}).chain == chain


def test_without_a_provider() -> None:
    """No provider is no fault: data routes need none. A route that needs one learns what to set."""
    settings = Settings.from_env(REDIS)
    assert settings.chain == ()
    with pytest.raises(BadSettings) as error:
        settings.require_ai()
    (fault,) = error.value.faults
    assert fault.startswith("CLOUD_RUN_AI_URL: missing; set it, or GEMINI_API_KEY, ")
    assert [each.needed.name for each in PROVIDERS if each.needed.name not in fault] == []
    Settings.from_env(LEAST).require_ai()


def test_without_redis() -> None:
    """REDIS_ENABLED=false needs no Redis, and does not look at a half-configured one more than it must."""
    assert not Settings.from_env(OFF).redis_enabled


VARIABLES = sorted({name for each in declared.variables() for name in each.names})
SECRETS = [
    "KV_REST_API_TOKEN",
    "UPSTASH_REDIS_REST_TOKEN",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_JWT_SECRET",
    "CLOUD_RUN_API_SECRET",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "OPENAI_API_KEY",
    "IDENTITY_SECRET",
]


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_print_as_stars(name: str) -> None:
    """No secret in any text of settings, nor of what is derived from them."""
    environ = {**LEAST, "SUPABASE_URL": "https://s", name: "hunter2-s3cret"}
    if name == "UPSTASH_REDIS_REST_TOKEN":
        environ = {**BACKEND, "UPSTASH_REDIS_REST_URL": "https://x", name: "hunter2-s3cret"}
    settings = Settings.from_env(environ)
    dumped = dataclasses.asdict(settings)
    for text in (repr(settings), str(settings), f"{settings}", f"{dumped}", json.dumps(dumped, default=str)):
        assert "hunter2" not in text
        assert "redis-s3cret" not in text


def test_a_secret_shows_its_text_to_who_asks() -> None:
    """Stars for everybody else, always the same number."""
    secret = Secret("hunter2")
    assert (str(secret), repr(secret), f"{secret:}", secret.value) == (
        "**********",
        "Secret('**********')",
        "**********",
        "hunter2",
    )


@pytest.mark.parametrize("name", VARIABLES)
def test_no_value_in_a_fault(name: str) -> None:
    """A secret pasted into the wrong variable, or one beside a fault, is not in the error, nor in its traceback."""
    # Whatever else: the key without its URL is a fault.
    environ = {**LEAST, "UPSTASH_API_KEY": "hunter2", name: "hunter2-s3cret", "UPSTASH_EMAIL": ""}
    with pytest.raises(BadSettings) as error:
        Settings.from_env(environ)
    told = [str(error.value), repr(error.value), *error.value.faults, *traceback.format_exception(error.value)]
    assert "hunter2" not in "".join(told)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("https://app.example.com/, *", ("https://app.example.com", "*"), id="a slash at the end"),
        pytest.param("HTTPS://App.Example.COM", ("https://app.example.com",), id="capitals"),
        pytest.param(
            "https://a.example:443,http://b.example:80", ("https://a.example", "http://b.example"), id="ports"
        ),
        pytest.param("http://a.example:443", ("http://a.example:443",), id="a port of the other scheme"),
        pytest.param("http://[::1]:3000", ("http://[::1]:3000",), id="an IPv6 address"),
        pytest.param("https://*.example.com/", ("https://*.example.com",), id="subdomains"),
        pytest.param("http://*.localhost:3000", ("http://*.localhost:3000",), id="subdomains of this machine"),
        pytest.param(
            "capacitor://localhost,chrome-extension://abcdef", ("capacitor://localhost", "chrome-extension://abcdef")
        ),
        pytest.param("https://a.example,https://A.example/", ("https://a.example",), id="the same twice"),
    ],
)
def test_origins_are_read_as_browsers_send_them(text: str, read: tuple[str, ...]) -> None:
    """However they were copied: from an address bar, with the usual port, in capitals."""
    assert Settings.from_env({**LEAST, "ALLOWED_ORIGINS": text}).allowed_origins == read


@pytest.mark.parametrize(
    "text",
    [
        "example.com", "*.example.com", "//example.com", "https://", "https://*", "https://*.", "https://*.com",
        "https://a.*.example.com", "https://app*.example.com", "https://*.*.example.com", "https://x/app",
        "https://x?q", "https://x#f", "https://user@x", "https://x:0", "https://x:99999", "https://x:*", "https://x y",
        "https://예.example", "null", "https://-x.example", "https://x..example", "file://", "'https://x'",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_a_fault(text: str) -> None:
    """Nothing is accepted that can never match; the fault says which one it is, and shows none."""
    with pytest.raises(BadSettings) as error:
        Settings.from_env({**LEAST, "ALLOWED_ORIGINS": f"https://good.example, {text}"})
    (fault,) = error.value.faults
    assert fault.startswith("ALLOWED_ORIGINS: number 2 ")
    assert "good.example" not in fault


def test_both_names_of_supabases_key() -> None:
    """Supabase's integration names the newer key differently; a publishable key is a fault."""
    url = {"SUPABASE_URL": "https://x.supabase.co"}
    for name in ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY"):
        settings = Settings.from_env({**LEAST, **url, name: "sb_secret_x"})
        assert settings.supabase_key is not None
        with pytest.raises(BadSettings, match=f"^{name}: .*publishable"):
            Settings.from_env({**LEAST, **url, name: "sb_publishable_x"})
        with pytest.raises(BadSettings, match=f"SUPABASE_URL: missing, while {name}"):
            Settings.from_env({**LEAST, name: "sb_secret_x"})


@pytest.mark.parametrize("name", ["ADMIN_TOKEN", "CRON_SECRET"])
def test_a_short_secret_of_ours_is_no_fault_but_a_warning(name: str) -> None:
    """The site goes on; the routes that the secret opens are closed, and it is said what to do. CASE 39."""
    settings = Settings.from_env({**LEAST, name: "nineteen-characters"})
    assert [warning.partition(":")[0] for warning in settings.warnings] == [name]
    assert "nineteen" not in settings.warnings[0]
    assert Settings.from_env({**LEAST, name: "nineteen-characters+"}).warnings == []


def test_settings_are_frozen() -> None:
    """Configuration does not change while it is used."""
    settings = Settings.from_env(LEAST)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.redis_enabled = False  # type: ignore[misc] # that is what is tested


def test_identity_key() -> None:
    """The first secret there is makes it, the same on every instance; without any it is empty."""
    every = {
        **LEAST,
        "SUPABASE_URL": "https://s",
        "SUPABASE_SERVICE_ROLE_KEY": "service",
        "IDENTITY_SECRET": "identity",
    }
    only = [Settings.from_env({**every, "IDENTITY_SECRET": ""}), Settings.from_env(LEAST), Settings.from_env(OFF)]
    made = [Settings.from_env(every).identity_key, *(settings.identity_key for settings in only)]
    assert len(set(made)) == 4
    assert made[-1] == b""
    assert Settings.from_env({**every, "KV_REST_API_TOKEN": "rotated"}).identity_key == made[0]


@pytest.mark.parametrize(
    ("path", "group", "limits"),
    [
        ("/api/ai/supervisor", "ai/supervisor", "1/minute"),
        ("/api/ai/other", "ai", "2/minute"),
        ("/api/servers/1", "servers", "3/minute"),
        ("/api/health", "api", "4/minute"),
    ],
)
def test_policy_for(path: str, group: str, limits: str) -> None:
    """Each route has the limits of its group, as the environment sets them."""
    given = {"SUPERVISOR": "1/minute", "AI": "2/minute", "SERVERS": "3/minute", "API": "4/minute"}
    environ = {f"RATELIMIT_{name}".replace("_SUPERVISOR", "_AI_SUPERVISOR"): text for name, text in given.items()}
    policy = Settings.from_env({**LEAST, **environ}).policy_for(path)
    assert (policy.group, policy.layout) == (group, parse_limits(limits))


def test_a_policys_other_parts() -> None:
    """Seconds become milliseconds; a probe's lease is longer than the longest call."""
    environ = {
        "CACHE_TTL_SECONDS": "60",
        "CACHE_REFRESH_SECONDS": "30",
        "CACHE_STALE_SECONDS": "120",
        "BREAKER_FAILURES": "5",
        "BREAKER_COOLDOWN_MS": "1000",
        "AI_TIMEOUT_MS": "7000",
    }
    settings = Settings.from_env({**LEAST, **environ})
    assert settings.policy_for("/api/ai/supervisor").cache == CacheRules(60_000, 30_000, 120_000)
    assert settings.breaker == BreakerPolicy(5, 1_000, 12_000, 3_500, 600_000)


def test_providers() -> None:
    """A configured provider has the settings of its variables, and the defaults of its declaration otherwise."""
    environ = {"GEMINI_API_KEY": "g", "GEMINI_LIMITS": "5/minute", "AI_TIMEOUT_MS": "7000", "CLOUD_RUN_VCPUS": "2"}
    backend, gemini = Settings.from_env({**LEAST, **environ}).providers
    assert (backend.url, backend.key, backend.month_s, backend.vcpus) == ("https://ai.example", None, 180_000, 2.0)
    assert gemini.key is not None
    assert gemini.key.value == "g"
    assert (gemini.model, gemini.url) == ("gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta/openai")
    assert (gemini.limits, gemini.timeout_s, gemini.month_s) == (parse_budget("5/minute"), 7.0, 0)


def test_every_default_is_a_value() -> None:
    """Each default reads as a value does."""
    for variable in declared.variables():
        if variable.default is not None:
            variable.read(variable.default)


def test_no_variable_is_declared_twice() -> None:
    """A name of the environment belongs to one setting."""
    names = [name for each in declared.variables() for name in each.names]
    assert len(set(names)) == len(names)
    assert {each.needed.name for each in registry.PROVIDERS} < set(names)
