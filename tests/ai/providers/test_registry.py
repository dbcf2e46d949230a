"""The registry of providers: what each declaration promises, and when a provider is made."""

import httpx
import pytest

from lib.ai.providers import registry
from lib.ai.providers.dialects import DIALECTS
from lib.ai.providers.lazy import LazyProvider
from lib.ai.providers.registry import PROVIDERS, Declaration, hosted
from lib.base.http import new_client
from lib.limits.grammar import parse_budget
from lib.limits.window import DAY_MS
from lib.settings import Settings

STORE = {"REDIS_ENABLED": "false"}
EVERYBODY = {"CLOUD_RUN_AI_URL": "https://a", "GEMINI_API_KEY": "b", "GROQ_API_KEY": "c", "OPENAI_API_KEY": "d"}
DECLARED = [pytest.param(each, id=each.name) for each in PROVIDERS]
HOSTED = [pytest.param(each, id=each.name) for each in PROVIDERS if each.needed.name.endswith("_API_KEY")]


def test_places_in_the_ledger() -> None:
    """Each provider keeps its own number for ever: what is counted in Redis is found by it.

    Those that come later are in ``tests/ledger/places.golden``.
    """
    first = {"cloud-run": 1, "gemini": 2, "groq": 3, "openai": 4}
    assert first.items() <= {each.name: each.ledger_id for each in PROVIDERS}.items()


def test_names_and_places_are_unique() -> None:
    """No two providers share a name, a place in the ledger or a variable."""
    for found in (
        [each.name for each in PROVIDERS],
        [each.ledger_id for each in PROVIDERS],
        [name for each in PROVIDERS for variable in each.variables.values() for name in variable.names],
    ):
        assert len(set(found)) == len(found)
    assert all(1 <= each.ledger_id <= 15 for each in PROVIDERS)


@pytest.mark.anyio
@pytest.mark.parametrize("declared", DECLARED)
async def test_a_provider_is_made_when_it_is_called(declared: Declaration) -> None:
    """Its module builds a provider of its name, with a client that nobody had needed before."""
    made: list[httpx.AsyncClient] = []

    def client() -> httpx.AsyncClient:
        made.append(new_client())
        return made[0]

    # An address is as good a key as any.
    settings = Settings.from_env({**STORE, declared.needed.name: "https://a"})
    (configured,) = settings.providers
    lazy = LazyProvider(configured, client)
    assert (lazy.name, made) == (declared.name, [])
    assert lazy.provider.name == declared.name
    assert lazy.provider is lazy.provider
    assert len(made) == 1
    await made[0].aclose()


def test_the_usual_variables() -> None:
    """A hosted API is declared in one line; its variables follow from its name."""
    declared = hosted("some-ai", 9, model="m", url="https://some.example/v1")
    assert {field: each.names for field, each in declared.variables.items()} == {
        "key": ("SOME_AI_API_KEY",),
        "models": ("SOME_AI_MODEL",),
        "url": ("SOME_AI_BASE_URL",),
        "limits": ("SOME_AI_LIMITS",),
    }
    assert declared.needed.name == "SOME_AI_API_KEY"
    assert not declared.is_configured({"SOME_AI_MODEL": "m2"})
    assert declared.is_configured({"SOME_AI_API_KEY": "k"})


def test_the_defaults_of_who_is_not_configured_are_not_read() -> None:
    """Only what is set for such a provider is looked at: its budget's time zone is not loaded for nothing."""
    providers, faults = registry.read({"GEMINI_LIMITS": "1/minute"}, (), 1.0, 1.0)
    assert (providers, faults) == ((), [])


def test_limits_as_set_and_as_declared() -> None:
    """A budget is the environment's, else that of the provider's free plan."""
    settings = Settings.from_env({**STORE, **EVERYBODY, "GROQ_LIMITS": "7/minute"})
    assert [each.limits for each in settings.providers] == [
        parse_budget("off"),
        parse_budget("9/minute,225/day@America/Los_Angeles"),
        parse_budget("7/minute"),
        parse_budget("1000/day,200000 tokens/day"),
    ]


@pytest.mark.parametrize("declared", HOSTED)
def test_a_key_has_a_budget_by_default(declared: Declaration) -> None:
    """Whoever sets a key and nothing else cannot be billed without end: each day has a limit. ``off`` takes it away."""
    (limited,) = Settings.from_env({**STORE, declared.needed.name: "key"}).providers
    assert [each.name for each in limited.limits.windows if each.length_ms == DAY_MS] != []
    (unlimited,) = Settings.from_env(
        {**STORE, declared.needed.name: "key", declared.variables["limits"].name: "off"}
    ).providers
    assert unlimited.limits.windows == ()


def test_the_names_of_dialects() -> None:
    """The settings know each dialect that there is."""
    assert set(registry.DIALECTS) == set(DIALECTS)
