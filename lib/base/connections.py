"""Which databases are watched: ``DB_CONNECTIONS=prod=supabase,shop=postgres:SHOP_URL``."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from .env import Secret, items
from .values import dataclass

type Kind = Literal["supabase", "postgres", "neon", "oracle"]

_LONGEST_ID = 40
_EXAMPLE = "write for example 'prod=supabase,shop=postgres:SHOP_URL', with kinds supabase, postgres, neon and oracle"


@dataclass(frozen=True, slots=True)
class Named:
    """A connection as ``DB_CONNECTIONS`` has it: where its address is, not what it is."""

    id: str
    kind: Kind
    variable: str
    """The variable with the address; empty for ``supabase``, which has its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """A database that is watched. ``url`` is a secret: it is in no reply, key or log."""

    id: str
    kind: Kind
    url: Secret

    @property
    def circuit(self) -> str:
        """The name of its circuit, as an origin."""
        return f"db-{self.id}"

    @property
    def server(self) -> str:
        """A part of keys that says which database it is: a hash of its kind and its address, without any password."""
        at = urlsplit(self.url.value)
        who, _, where = at.netloc.rpartition("@")
        options = [each for each in parse_qsl(at.query) if "password" not in each[0].lower()]
        return _hashed(self.kind, who.partition(":")[0], where, at.path, options)

    def variant(self, *, shows_literals: bool) -> str:
        """A part of keys that is another one where the database is, or what is shown of texts."""
        return _hashed(self.server, shows_literals)


def variant_of_all(connections: Iterable[Connection]) -> str:
    """A part of keys that is another one where any of them is."""
    return _hashed(*((each.id, each.server) for each in connections))


def _hashed(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def parse(text: str) -> tuple[Named, ...]:
    """Read ``DB_CONNECTIONS``. Raises ValueError."""
    found = dict[str, Named]()
    for each in items(text):
        name, _, rest = each.partition("=")
        kind, _, variable = rest.partition(":")
        usable = name.replace("-", "").replace("_", "").isalnum() and name.isascii() and len(name) <= _LONGEST_ID
        if not usable or name in found or kind not in _KINDS or bool(variable) == (kind == "supabase"):
            raise ValueError(f"not a list of databases: {_EXAMPLE}; ids are ASCII letters and digits, each once")
        found[name] = Named(name, _KINDS[kind], variable)
    return tuple(found.values())


_SCHEMES: Mapping[Kind, tuple[str, ...]] = {
    "postgres": ("postgresql", "postgres"),
    "neon": ("postgresql", "postgres"),
    "oracle": ("oracle",),
}


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        at = urlsplit(text)
        # Drivers of PostgreSQL try several hosts one after the other.
        ports = [urlsplit(f"//{each}").port for each in at.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        return False
    return at.scheme in schemes and 0 not in ports


_KINDS: Mapping[str, Kind] = {"supabase": "supabase", "postgres": "postgres", "neon": "neon", "oracle": "oracle"}


def resolved(named: tuple[Named, ...], given: Mapping[str, str]) -> tuple[tuple[Connection, ...], list[str]]:
    """The connections with their addresses from the environment, and a line for each that has none."""
    found, faults = list[Connection](), list[str]()
    for each in named:
        variable = each.variable or "SUPABASE_URL"
        if variable not in given:
            faults.append(f"{variable}: missing, while DB_CONNECTIONS names it for {each.id!r}")
        elif each.kind in _SCHEMES and not _is_address(given[variable], _SCHEMES[each.kind]):
            example = f"{_SCHEMES[each.kind][0]}://user:password@host/name"
            faults.append(f"{variable}: must be an address like {example}, with special characters percent-encoded")
        elif each.kind == "supabase" and not given.keys() & {"SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"}:
            faults.append(f"SUPABASE_SECRET_KEY: missing, while DB_CONNECTIONS names supabase for {each.id!r}")
        else:
            found.append(Connection(each.id, each.kind, Secret(given[variable])))
    return tuple(found), faults
