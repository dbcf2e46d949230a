"""Every Redis key, as a function. Nothing else in the project spells one.

A caller's identity and a question's text are hashed before they get here; what a client chose itself (a session id) is
percent-encoded, so that no value can name another key.
"""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, unquote

from .op import Command


def under(prefix: str, command: Command) -> Command:
    """The same command on keys that begin with ``KEY_PREFIX``.

    The first argument is the key, but for these few; scripts get all of their keys as arguments. A test compares this
    with what Redis says of each command that is used.
    """
    match command:
        case ("DEL" | "MGET" as name, *named):
            return (name, *(f"{prefix}{each}" for each in named))
        case ("EVAL", script, int(count), *given):
            return ("EVAL", script, count, *(f"{prefix}{each}" for each in given[:count]), *given[count:])
        case (name, key, *rest):
            return (name, f"{prefix}{key}", *rest)
    # As PING.
    return command


def windows(subject: str, day: int) -> str:
    """The buckets of one subject (hash of route group and caller, and the layout's tag) on one UTC day.

    The braces are a hash tag: a cluster keeps a caller's days together and spreads callers.
    """
    return f"rl:{{{subject}}}:{day}"


def given(subject: str, day: int) -> str:
    """How much of a day's buckets was admitted by Supabase and added afterwards; beside them, also on a cluster."""
    return f"given:{{{subject}}}:{day}"


def answer(route: str, session: str, query_hash: str) -> str:
    """The cached answer to one question in one session; ``route`` is the route's path without ``/api/``."""
    return f"{route.replace('/', ':')}:{quote(session, safe='')}:{query_hash}"


def value(route: str, value_hash: str) -> str:
    """A stored value of a route or function of other people's code; ``route`` may hold anything."""
    return f"v:{quote(route, safe='')}:{value_hash}"


MOST_BYTES = 4_000_000
"""The largest body that a function may send on Vercel, with room for its head."""


def resource(template: str, values: Mapping[str, str], caller: str = "") -> str:
    """A resource's value: ``cache:menu:{id}`` with each value percent-encoded; of one caller where there is one."""
    parts = (
        quote(values[part[1:-1]], safe="", errors="surrogatepass") if part.startswith("{") else part
        for part in template.split(":")
    )
    return ":".join([*parts, caller] if caller else parts)


def board(name: str) -> str:
    """The scores of a ranking, by member."""
    return f"ranking:{quote(name, safe='', errors='surrogatepass')}"


SERVERS = "servers"
"""A hash of all servers: a field for each reporter, and one for a running simulation (``fleet/``). It has no TTL: there
are as many fields as reporters were ever configured."""


def reporter(name: str) -> str:
    """The field of that hash with one reporter's servers."""
    return f"r:{name}"


SIMULATION = "simulation"
"""The field of that hash that says which simulation runs."""


def samples(connection: str, server: str) -> str:
    """What a watched database counted at certain times, by the slot of each."""
    return f"tms-samples:{quote(connection, safe='')}:{server}"


def catalogue(connection: str, variant: str) -> str:
    """The hash of a watched database's catalogue as it was last seen."""
    return f"tms-catalogue:{quote(connection, safe='')}:{variant}"


def looked(connection: str, variant: str) -> str:
    """Held for a minute by the instance that looked at a watched database's catalogue."""
    return f"tms-looked:{quote(connection, safe='')}:{variant}"


def lock(answer_key: str) -> str:
    """Held by the request that computes this value now."""
    return f"lock:{answer_key}"


def circuit(provider: str) -> str:
    """The circuit of one provider. The number names the form of its value: release 0.1 keeps ``cb:{provider}``."""
    return f"cb:2:{provider}"


def circuit_of_app(name: str) -> str:
    """The name of a circuit of other people's code, apart from the providers' names."""
    return f"app:{quote(name, safe='')}"


def circuit_of_origin(name: str) -> str:
    """The name of the circuit of where data come from."""
    return f"origin:{quote(name, safe='')}"


def circuit_named(name: str) -> tuple[Literal["circuit", "origin"], str] | None:
    """Whose circuit it is and how that is called there; None for a provider's."""
    kind, _, quoted = name.partition(":")
    if kind == "app":
        return "circuit", unquote(quoted)
    return ("origin", unquote(quoted)) if kind == "origin" else None


def budget(provider: str, tag: str) -> str:
    """The subject under which a provider's calls are counted in one layout, beside the callers' hashes."""
    return f"provider-{provider}-{tag}"


SHAPES = "shapes"
"""The tags of the layouts that each provider's budget was counted in lately (``limits/shapes.py``)."""


def checks(provider: str, tag: str) -> str:
    """The subject under which the checks of a provider are counted in one layout, where its budget allows only some."""
    return f"checks-{provider}-{tag}"


def month(provider: str, name: str) -> str:
    """What a provider has used up in one calendar month (``2026-11``)."""
    return f"used:{provider}:{name}"


OUTAGE = "outage:2"
"""Who settles an outage, and which was settled last (``limits/marker.py``). Release 0.1 has a marker of its own."""


def epoch_route(route: str) -> str:
    """The epoch of every value of a route."""
    return f"epoch:2:{route.replace('/', ':')}"


def epoch_session(route: str, bucket: int) -> str:
    """The epoch that the sessions of one bucket share."""
    return f"epoch:2:{route.replace('/', ':')}:s{bucket}"


def epoch_tag(bucket: int) -> str:
    """The epoch that the tags of one bucket share."""
    return f"epoch:2::t{bucket}"


def ledger(month: str) -> str:
    """Everything that is counted across instances in one calendar month. The number names the layout of its places."""
    return f"ledger:2:{month}"


def ledger_1(month: str) -> str:
    """The same as version 0.1 counts it, with other places (``ledger/upgrade.py``)."""
    return f"ledger:1:{month}"


def thrift(month: str) -> str:
    """The thrift step for the rest of a month (``thrift.py``)."""
    return f"thrift:{month}"


def alert(kind: str, about: str, period: str) -> str:
    """Held for a period by the instance that has sent this alert."""
    return f"alert:{kind}:{quote(about, safe='')}:{period}"


RECENT = "recent"
"""What the instances saw lately: their busiest callers by hash, and their notable requests (``ledger/batches.py``)."""

ALERTS = "alerts"
"""The last alerts that were sent (``ops/alerts.py``)."""

EPOCH_ALL = "epoch:2"
"""The epoch of every stored value there is. The number names the scheme: release 0.1 counted its epochs."""

NEWS = "news"
"""What was changed by hand: a number, and the subjects whose counts were last reset (``limits/news.py``)."""
