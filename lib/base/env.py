"""How settings are declared and read: plain values from plain text, every fault with its variable and without a value.

A :class:`Variable` is one setting: its names in the environment, how its text reads, and its default, written as a
person would write it. A reader takes a text without white space around it, and raises ValueError with what to write.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .caller import Network
from .values import dataclass

type Reader[T] = Callable[[str], T]

_STARS = "**********"
LEAST_SECRET = 20
"""A secret of ours has as many characters at least: `openssl rand -base64 24` gives 32."""


class BadSettings(Exception):
    """The environment cannot be used as it is. ``faults`` has a line for each fault, and never a value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Secret:
    """A text that no log line, error or dump shows. ``value`` is the text itself."""

    # Not a dataclass: dataclasses.asdict() would take it apart.
    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @property
    def value(self) -> str:
        """The text itself."""
        return self._value

    @property
    def is_short(self) -> bool:
        """Whether it can be found by trying: whoever has seen a signature made with it may try without asking us."""
        return len(self._value) < LEAST_SECRET

    def __repr__(self) -> str:
        return f"Secret({_STARS!r})"

    def __str__(self) -> str:
        return _STARS


@dataclass(frozen=True, slots=True, eq=False)
class Variable[T]:
    """One setting. Of ``names`` the first that is set counts; without ``default`` it has no value where none is set."""

    names: tuple[str, ...]
    read: Reader[T]
    default: str | None = None

    @property
    def name(self) -> str:
        """The name that documents and errors use."""
        return self.names[0]

    def name_in(self, given: Mapping[str, str]) -> str | None:
        """The name under which it is set, if it is."""
        return next((name for name in self.names if name in given), None)


def given_in(environ: Mapping[str, str]) -> dict[str, str]:
    """What an environment sets, without white space around it. What is empty counts as unset."""
    return {name: text for name, value in environ.items() if (text := value.strip())}


def read(variables: Mapping[str, Variable[Any]], given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The value of each variable, and a line for each fault: the variable's name and what to write instead."""
    values, faults = dict[str, Any](), list[str]()
    for field, variable in variables.items():
        name = variable.name_in(given)
        text = variable.default if name is None else given[name]
        try:
            values[field] = None if text is None else variable.read(text)
        except ValueError as e:
            faults.append(f"{name or variable.name}: {e}")
    return values, faults


# Readers


def flag(text: str) -> bool:
    """``true`` or ``false``, or another common way to say so."""
    match text.lower():
        case "true" | "1" | "yes" | "on" | "y" | "t":
            return True
        case "false" | "0" | "no" | "off" | "n" | "f":
            return False
    raise ValueError("must be true or false")


def integer(low: int, high: int | None = None) -> Reader[int]:
    """A whole number from ``low`` on, up to ``high`` where that is given."""

    def whole(text: str) -> int:
        try:
            found = int(text.removesuffix(".0"))
        except ValueError:
            # The exception's own text quotes the value.
            found = low - 1
        if found < low or (high is not None and found > high):
            bounds = f", at least {low}" if high is None else f" from {low} to {high}"
            raise ValueError(f"must be a whole number{bounds}")
        return found

    return whole


def number(above: float, most: float) -> Reader[float]:
    """A number above ``above`` and at most ``most``."""

    def real(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            # The exception's own text quotes the value.
            found = above
        # "nan" is a float, and is neither above nor below anything.
        if not above < found <= most:
            raise ValueError(f"must be a number above {above:g} and at most {most:g}")
        return found

    return real


def one_of[S: str](*words: S) -> Reader[S]:
    """One of a few words."""

    def word(text: str) -> S:
        for each in words:
            if each == text:
                return each
        raise ValueError("must be " + " or ".join(f"'{each}'" for each in words))

    return word


def url(text: str) -> str:
    """An HTTP address, without the slash at its end."""
    if not text.startswith(("https://", "http://")):
        raise ValueError("must be a URL that begins with https:// (or http:// for a local server)")
    if not _is_word(text):
        raise ValueError("must be a URL of plain ASCII characters without white space")
    try:
        parts = urlsplit(text)
        named, port = parts.hostname, parts.port
    except ValueError:
        named, port = None, 0
    if port == 0:
        raise ValueError("must be a URL whose port is a number from 1 to 65535, or left out")
    if not named:
        raise ValueError("must be a URL with a host, such as https://example.com")
    return text.rstrip("/")


def redis_url(text: str) -> Secret:
    """The address of a Redis, with its password in it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0 and _is_word(text)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address such as rediss://user:password@redis.example.com:6379")
    return Secret(text)


_OPTIONS = frozenset({"db", "username", "password"})
_TLS_OPTIONS = frozenset(
    f"ssl_{each}" for each in ("ca_certs", "ca_path", "cert_reqs", "certfile", "check_hostname", "keyfile", "password")
)


def redis_url_fault(text: str) -> str | None:
    """What no connection can be made with, in the path and the options of a Redis address; None where all is well."""
    try:
        parts = urlsplit(text)
    except ValueError:
        # Its reader says that it is none at all.
        return None
    if not re.fullmatch(r"/?\d*", parts.path):
        return "what follows the port is the number of a database, such as /0, or left out"
    known = _OPTIONS | _TLS_OPTIONS if parts.scheme == "rediss" else _OPTIONS
    if not known.issuperset(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "an option behind its '?' that is not known here, or not without TLS: leave it out"
    return None


_PREFIX = re.compile(r"[A-Za-z0-9._:-]{0,64}")


def key_prefix(text: str) -> str:
    """What keys begin with; without braces, which would put all of them into one slot of a cluster."""
    if not _PREFIX.fullmatch(text):
        raise ValueError("must be at most 64 letters, digits, dots, colons, hyphens and underscores, such as 'shop:'")
    return text


def token(text: str) -> Secret:
    """A secret that is sent in a header."""
    if not _is_word(text):
        raise ValueError("must be one word of plain ASCII characters without white space: was more than it copied?")
    return Secret(text)


def named_tokens(text: str) -> Mapping[str, Secret]:
    """Tokens by name: ``demo=<token>,other=<token>``."""
    found = dict[str, Secret]()
    for each in items(text):
        name, _, secret = each.partition("=")
        if not name or not _is_word(secret) or len(secret) < LEAST_SECRET or name in found:
            raise ValueError(
                f"not a list of tokens by name: write 'demo=<token>,other=<token>', each of {LEAST_SECRET} characters "
                "or more, and each name once"
            )
        found[name] = Secret(secret)
    return found


def supabase_key(text: str) -> Secret:
    """A key of Supabase's that may call the fallback's functions: a secret key, or the older service role key."""
    if text.startswith("sb_publishable_"):
        raise ValueError("is a publishable key, which may do nothing here: take a secret key (sb_secret_...)")
    return token(text)


def _is_word(text: str) -> bool:
    return all("!" <= each <= "~" for each in text)


def secret_url(text: str) -> Secret:
    """An HTTP address that is a secret, because whoever knows it can write there."""
    url(text)
    return Secret(text)


def items(text: str) -> tuple[str, ...]:
    """A list by comma."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


_LABEL = "[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_ORIGIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]+))?/?"
)
_USUAL_PORTS = {"http": 80, "https": 443}


def origins(text: str) -> tuple[str, ...]:
    """A list of origins by comma; yields them as browsers send them.

    An origin is a scheme, a host and perhaps a port. ``https://*.example.com`` is every subdomain, however deep, and
    ``*`` every origin there is.
    """
    return tuple(dict.fromkeys(_origin(number, each) for number, each in enumerate(items(text), 1)))


def _origin(number: int, text: str) -> str:
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        # Without the text itself, as everywhere: whatever was pasted here may be a secret.
        write = "'https://app.example.com', 'http://localhost:3000', 'https://*.example.com' or '*'"
        raise ValueError(f"number {number} is no origin: write for example {write}")
    scheme, host, port = found["scheme"], found["host"], int(found["port"] or 0)
    if found["port"] and not 0 < port < 65_536:
        raise ValueError(f"number {number} has a port that is no number from 1 to 65535")
    if host.startswith("*.") and host.count(".") == 1 and host != "*.localhost":
        raise ValueError(f"number {number} is every site below one top-level domain: name at least one part more")
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORTS.get(scheme) else "")


def networks(text: str) -> tuple[Network, ...]:
    """A list of networks by comma."""
    try:
        return tuple(ipaddress.ip_network(part, strict=False) for part in items(text))
    except ValueError:
        raise ValueError("not a list of networks: write for example '10.0.0.0/8,127.0.0.1/32'") from None


def opened(secret: Secret | None) -> str | None:
    """The text of a secret, if there is one."""
    return secret.value if secret else None
