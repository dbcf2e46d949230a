"""Every provider there is, one declaration each: its name, its number in the ledger, its variables, its module.

To add a provider, add a declaration here. One whose protocol another provider speaks as well is then complete; a new
protocol is a module of this package with ``build(settings: ProviderSettings, client: httpx.AsyncClient) -> Provider``,
which is imported when the provider is first called (``lazy.py``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...base import env
from ...base.env import Secret, Variable
from ...base.values import dataclass
from ...limits.grammar import parse_budget
from ...limits.window import Layout


@dataclass(frozen=True, slots=True, eq=False)
class ProviderSettings:
    """What one provider is configured with, as its module's ``build`` gets it."""

    name: str
    url: str
    timeout_s: float
    """How long a call may take in all."""
    connect_timeout_s: float
    limits: Layout
    """The calls and tokens that its plan allows, by window."""
    key: Secret | None = None
    models: tuple[str, ...] = ()
    """Its own model, then others that clients may name."""
    dialect: str | None = None
    """How it differs from OpenAI (``dialects.py``); None: as its address says."""
    omit: tuple[str, ...] = ()
    """Fields of a request that it is not sent."""
    safety_failover: bool = False
    """Whether another provider is asked where this one withheld an answer for its content."""
    month_s: int = 0
    """vCPU-seconds that its plan allows in a calendar month; 0 where a month is not limited."""
    vcpus: float = 0.0
    """Processors that a second of answering occupies; 0 where they are not billed to us."""
    health_url: str | None = None
    """Answers GET with 2xx while the provider works; where there is one, no question is asked as a check."""

    @property
    def model(self) -> str:
        """Its own model; empty where that is not ours to choose."""
        return self.models[0] if self.models else ""


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """One provider. ``variables`` are its settings, by the field of :class:`ProviderSettings` that each fills."""

    name: str
    """In keys, logs, headers and ``AI_PROVIDERS``; never changed, as keys in Redis are made of it."""
    ledger_id: int
    """Its number in the ledger, 1 to 15; never changed and never given to another provider."""
    module: str
    """The module of this package that speaks its protocol."""
    needs: str
    """The field whose variable configures the provider: without it, it is not there."""
    variables: Mapping[str, Variable[Any]]
    dialect: str | None = None
    """Its dialect (``dialects.py``), where neither a variable nor its address says so."""

    @property
    def needed(self) -> Variable[Any]:
        """The variable that configures it."""
        return self.variables[self.needs]

    def is_configured(self, given: Mapping[str, str]) -> bool:
        """Whether an environment configures it."""
        return self.needed.name_in(given) is not None


def hosted(
    name: str,
    ledger_id: int,
    *,
    model: str,
    url: str,
    limits: str = "off",
    key: tuple[str, ...] = (),
    dialect: str | None = None,
    more: Mapping[str, Variable[Any]] | None = None,
) -> Declaration:
    """An API of OpenAI's protocol, under the usual names: ``{NAME}_API_KEY``, ``_MODEL``, ``_BASE_URL``, ``_LIMITS``.

    ``key`` has further names of the key's variable, ``limits`` the budget of its free plan, or one that a day of a paid
    key may cost without anybody having thought about it, ``more`` further variables.
    """
    prefix = name.upper().replace("-", "_")
    variables: dict[str, Variable[Any]] = {
        "key": Variable((f"{prefix}_API_KEY", *key), env.token),
        "models": Variable((f"{prefix}_MODEL",), _models, model),
        "url": Variable((f"{prefix}_BASE_URL",), env.url, url),
        "limits": Variable((f"{prefix}_LIMITS",), parse_budget, limits),
        **(more or {}),
    }
    return Declaration(name, ledger_id, "openai_chat", "key", variables, dialect)


def _models(text: str) -> tuple[str, ...]:
    found = env.items(text)
    if not found:
        raise ValueError("must be a model, or several by comma, of which the first is used where a client names none")
    return found


DIALECTS = ("openai", "gemini", "groq", "mistral", "cohere")
"""The names in ``dialects.py``, which only a request to an AI needs."""

# In the order in which they are called unless AI_PROVIDERS gives another.
PROVIDERS = (
    Declaration(
        "cloud-run",
        1,
        "cloud_run",
        "url",
        {
            "url": Variable(("CLOUD_RUN_AI_URL",), env.url),
            "key": Variable(("CLOUD_RUN_API_SECRET",), env.token),
            "limits": Variable(("CLOUD_RUN_LIMITS",), parse_budget, "off"),
            "month_s": Variable(("CLOUD_RUN_MONTH_VCPU_SECONDS",), env.integer(0), "180000"),
            "vcpus": Variable(("CLOUD_RUN_VCPUS",), env.number(0, 8), "1"),
            "health_url": Variable(("CLOUD_RUN_HEALTH_URL",), env.url),
        },
    ),
    hosted(
        "gemini",
        2,
        model="gemini-2.5-flash",
        url="https://generativelanguage.googleapis.com/v1beta/openai",
        limits="9/minute,225/day@America/Los_Angeles",
        key=("GOOGLE_API_KEY",),
        dialect="gemini",
    ),
    hosted(
        "groq",
        3,
        model="llama-3.3-70b-versatile",
        url="https://api.groq.com/openai/v1",
        limits="14400/day",
        dialect="groq",
    ),
    hosted(
        "openai",
        4,
        model="gpt-4o-mini",
        url="https://api.openai.com/v1",
        # No free plan ends here by itself: whatever is let through is paid for.
        limits="1000/day,200000 tokens/day",
        more={
            "dialect": Variable(("OPENAI_DIALECT",), env.one_of(*DIALECTS)),
            "omit": Variable(("OPENAI_OMIT",), env.items, ""),
        },
    ),
)

BY_NAME = {each.name: each for each in PROVIDERS}


def read(
    given: Mapping[str, str],
    order: Sequence[str],
    timeout_s: float,
    connect_timeout_s: float,
    *,
    safety_failover: bool = False,
) -> tuple[tuple[ProviderSettings, ...], list[str]]:
    """The configured providers in the order in which they are called, and the faults of all providers' variables.

    ``order`` is what ``AI_PROVIDERS`` says; without it, all that are configured. With faults there are no providers.
    """
    found, faults = dict[str, dict[str, Any]](), list[str]()
    for each in PROVIDERS:
        configured = each.is_configured(given)
        # What is set for a provider that is not configured is looked at as well; its defaults are not needed.
        wanted = {field: one for field, one in each.variables.items() if configured or one.name_in(given)}
        values, wrong = env.read(wanted, given)
        faults += wrong
        if configured:
            found[each.name] = values
    faults += _order_faults(given, order)
    if faults:
        return (), faults
    common = {"timeout_s": timeout_s, "connect_timeout_s": connect_timeout_s, "safety_failover": safety_failover}
    return tuple(
        ProviderSettings(name, **{"dialect": BY_NAME[name].dialect, **common, **found[name]}) for name in order or found
    ), []


def _order_faults(given: Mapping[str, str], order: Sequence[str]) -> list[str]:
    faults = [f"AI_PROVIDERS: a name that is not one of {', '.join(BY_NAME)}"] if set(order) - BY_NAME.keys() else []
    if len(set(order)) != len(order):
        faults.append("AI_PROVIDERS: a name twice")
    for name in order:
        each = BY_NAME.get(name)
        if each is not None and not each.is_configured(given):
            faults.append(f"{each.needed.name}: missing, while AI_PROVIDERS names {name}")
    return faults


def missing() -> str:
    """What to set where no provider is configured and one is needed."""
    first, *others = (each.needed.name for each in PROVIDERS)
    return f"{first}: missing; set it, or {', '.join(others[:-1])} or {others[-1]}"
