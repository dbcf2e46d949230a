"""What happened, as frozen values. The guard and the edge emit them; the log (``log.py``) and the ledger listen.

No event holds a token, an address in clear, or the text of a question or an answer.
"""

from collections.abc import Callable
from dataclasses import field
from typing import ClassVar, Literal

from .cost import Cost
from .values import dataclass

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
"""Levels, with the numbers of Python's ``logging``."""

type Mode = Literal["redis", "supabase", "local", "off"]
type StorePhase = Literal[
    "ask",
    "claim",
    "poll",
    "budget",
    "circuit",
    "write_back",
    "settle",
    "health",
    "ledger",
    "alert",
    "read",
    "admin",
    "report",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events: the name it is logged under, and how loudly."""

    event: ClassVar[str]
    level: ClassVar[int] = INFO


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds a request spent: ``guard`` is everything that is neither a store nor a provider.

    ``fallback``: counting elsewhere because Redis did not answer, its failed round trip included.
    """

    guard: float = 0.0
    redis: float = 0.0
    fallback: float = 0.0
    backend: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestDone(Event):
    """One request was answered, whatever the answer."""

    event: ClassVar[str] = "request"
    request_id: str
    method: str
    route: str
    status: int
    decision: str
    reason: str
    caller: str | None = None
    caller_kind: str | None = None
    cache: str | None = None
    provider: str | None = None
    mode: Mode | None = None
    remaining: int | None = None
    saved: Cost | None = None
    """What the answer had cost, where it came from the cache."""
    attempts: str | None = None
    """The parts of the source that were called in turn, each with its outcome, where there was more than one."""
    spent_ms: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True)
class ModeSwitched(Event):
    """Limits are now counted elsewhere; once for each switch of an instance."""

    event: ClassVar[str] = "mode_switched"
    level: ClassVar[int] = WARNING
    before: Mode
    after: Mode
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """Redis or Supabase gave no usable reply."""

    event: ClassVar[str] = "store_failed"
    level: ClassVar[int] = WARNING
    store: Literal["redis", "supabase"]
    phase: StorePhase
    reason: str


@dataclass(frozen=True, slots=True)
class StoreSwitched(Event):
    """This instance stops calling a store that fails, or calls it again; once for each switch."""

    event: ClassVar[str] = "store_switched"
    level: ClassVar[int] = WARNING
    store: Literal["redis", "supabase"]
    now: Literal["paused", "resumed"]
    reason: str


@dataclass(frozen=True, slots=True)
class RedisSlow(Event):
    """A reply of Redis took longer than ``REDIS_SLOW_MS``, connecting included; what fails is a StoreFailed instead."""

    event: ClassVar[str] = "redis_slow"
    level: ClassVar[int] = WARNING
    ms: float


@dataclass(frozen=True, slots=True)
class CircuitChanged(Event):
    """This instance moved a circuit; ``provider`` is its name, whosever it is."""

    event: ClassVar[str] = "circuit_changed"
    level: ClassVar[int] = WARNING
    provider: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class OriginFailure(Event):
    """Where data come from gave no usable value."""

    event: ClassVar[str] = "origin_failed"
    level: ClassVar[int] = WARNING
    origin: str
    reason: str
    fault: str


@dataclass(frozen=True, slots=True)
class DatabaseNoticed(Event):
    """Something of a watched database that people should know. ``text`` holds numbers and ids alone."""

    event: ClassVar[str] = "database_noticed"
    level: ClassVar[int] = WARNING
    connection: str
    kind: Literal["db_lock", "db_sessions", "db_slower"]
    about: str
    """The session or statement; empty where it is the database as a whole."""
    text: str


@dataclass(frozen=True, slots=True)
class CatalogueChanged(Event):
    """A watched database's tables were changed: what is kept of them is not served any more."""

    event: ClassVar[str] = "catalogue_changed"
    connection: str


@dataclass(frozen=True, slots=True)
class DataRead(Event):
    """A resource was read: where its value came from, and the bytes of its body."""

    event: ClassVar[str] = "data_read"
    level: ClassVar[int] = DEBUG
    family: str
    tier: str
    size: int


@dataclass(frozen=True, slots=True)
class ProviderFailure(Event):
    """A provider gave no usable answer."""

    event: ClassVar[str] = "provider_failed"
    level: ClassVar[int] = WARNING
    provider: str
    reason: str
    fault: str


@dataclass(frozen=True, slots=True)
class ProviderAsked(Event):
    """A call was sent to a provider, which counts it, whether it succeeds or not."""

    event: ClassVar[str] = "provider_asked"
    level: ClassVar[int] = DEBUG
    provider: str


@dataclass(frozen=True, slots=True)
class ProviderAnswered(Event):
    """A provider answered to the end."""

    event: ClassVar[str] = "provider_answered"
    level: ClassVar[int] = DEBUG
    provider: str
    ms: float
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class ThriftChanged(Event):
    """This instance has changed its thrift step (``redis/thrift.py``): how many commands it saves."""

    event: ClassVar[str] = "thrift_changed"
    level: ClassVar[int] = WARNING
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Alerted(Event):
    """An alert was sent to whoever operates this deployment; once for all instances."""

    event: ClassVar[str] = "alert"
    level: ClassVar[int] = WARNING
    kind: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class WebhookFailed(Event):
    """An alert could not be delivered."""

    event: ClassVar[str] = "webhook_failed"
    level: ClassVar[int] = WARNING
    to: Literal["slack", "webhook"]
    reason: str


@dataclass(frozen=True, slots=True)
class VendorUnavailable(Event):
    """Upstash did not say how many commands it has billed."""

    event: ClassVar[str] = "vendor_unavailable"
    level: ClassVar[int] = WARNING
    reason: str


@dataclass(frozen=True, slots=True)
class AdminActed(Event):
    """Somebody with the token carried out an admin action. ``about`` names no caller in clear."""

    event: ClassVar[str] = "admin"
    level: ClassVar[int] = WARNING
    request_id: str
    action: str
    about: str
    done: str


@dataclass(frozen=True, slots=True)
class WouldRefuse(Event):
    """A limit in a dry run would have refused a call."""

    event: ClassVar[str] = "would_refuse"
    level: ClassVar[int] = WARNING
    group: str
    reason: str
    caller: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRefused(Event):
    """An access token was not valid; its bearer is limited by address."""

    event: ClassVar[str] = "token_refused"
    reason: str


@dataclass(frozen=True, slots=True)
class SignInKeysUnavailable(Event):
    """Supabase's published keys could not be fetched."""

    event: ClassVar[str] = "sign_in_keys_unavailable"
    level: ClassVar[int] = WARNING
    reason: str


@dataclass(frozen=True, slots=True)
class Crashed(Event):
    """An unexpected exception reached the edge: a bug of ours, or of the application's function."""

    event: ClassVar[str] = "crashed"
    level: ClassVar[int] = ERROR
    request_id: str
    traceback: str


type Listener = Callable[[Event], None]
