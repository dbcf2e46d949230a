"""What the local server honours of `vercel.json`: rewrites, headers, the trailing slash, the public directory.

`tests/vercel/rewrites.py` has paths with what answers them: the tests send them to this server, to the routes that the
real build made of the same rewrites, and to a real build.
"""

import json
import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

log = logging.getLogger("dev.vercel_json")

# `/:name*`, `/:name+` and `/:name?`; `:name` with or without a pattern; a pattern alone; any other character.
_SOURCE = re.compile(
    r"/:(?P<many>\w+)(?P<times>[*+?])"
    r"|:(?P<one>\w+)(?P<pattern>\((?:[^()]|\([^()]*\))*\))?"
    r"|(?P<group>\((?:[^()]|\([^()]*\))*\))"
    r"|(?P<plain>.)",
    re.DOTALL,
)
# What a destination takes from the source: `:name`, `:name*` or `$1`.
_REFERENCE = re.compile(r":(?P<name>[A-Za-z_]\w*)[*+?]?|\$(?P<index>\d+)")


@cache
def source_pattern(source: str) -> re.Pattern[str]:
    """Compile a `source`: `:name` is one segment, `:name*` any number of them, `:name(a|b)` and `(.*)` are patterns."""
    pattern = ""
    for token in _SOURCE.finditer(source):
        match token.lastgroup:
            case "times" if token["times"] == "?":
                pattern += f"(?:/(?P<{token['many']}>[^/]+))?"
            case "times":
                group = f"(?P<{token['many']}>[^/]+(?:/[^/]+)*)"
                pattern += f"(?:/{group})?" if token["times"] == "*" else f"/{group}"
            case "one" | "pattern":
                pattern += f"(?P<{token['one']}>{(token['pattern'] or '([^/]+)')[1:-1]})"
            case "group":
                pattern += token["group"]
            case _:
                pattern += re.escape(token["plain"])
    return re.compile(pattern)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite: a path that matches `source` is answered by what is at `destination`."""

    source: str
    destination: str

    def apply(self, path: str) -> tuple[str, dict[str, str]] | None:
        """Return the path to serve and what is added to the query, or None when `path` does not match.

        Vercel adds all named parts of the source to the query, unless the destination's path uses one of them.
        """
        found = source_pattern(self.source).fullmatch(path)
        if found is None:
            return None
        target, _, query = self.destination.partition("?")
        names = found.groupdict()
        if not any(token["name"] in names for token in _REFERENCE.finditer(target)):
            given = dict(parse_qsl(query, keep_blank_values=True))
            query = "&".join(filter(None, [query, *(f"{name}=:{name}" for name in names if name not in given)]))
        return _filled(target, found), dict(parse_qsl(_filled(query, found), keep_blank_values=True))


def _filled(text: str, found: re.Match[str]) -> str:
    """Replace each reference by what the source's pattern found; an unknown one stays."""

    def value(token: re.Match[str]) -> str:
        if token["index"]:
            index = int(token["index"])
            return (found[index] or "") if index <= found.re.groups else token[0]
        names = found.groupdict()
        return (names[token["name"]] or "") if token["name"] in names else token[0]

    return _REFERENCE.sub(value, text)


@dataclass(frozen=True, slots=True)
class Config:
    """What this server honours of vercel.json."""

    rewrites: tuple[Rewrite, ...]
    headers: tuple[tuple[re.Pattern[str], dict[str, str]], ...]
    drop_slash: bool
    public: str

    @classmethod
    def read(cls, path: Path) -> "Config":
        """Read the file; without one, Vercel's defaults. What is not served here is named in a warning."""
        data: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        ignored = [name for name in ("redirects", "routes", "cleanUrls") if data.get(name)]
        rules = [*data.get("rewrites", ()), *data.get("headers", ())]
        ignored += sorted({f"{rule['source']}: {key}" for rule in rules for key in ("has", "missing") if key in rule})
        for name in ignored:
            log.warning("vercel.json: %s is not honoured by the local server", name)
        for rule in data.get("rewrites", ()):
            if not rule["destination"].startswith("/"):
                raise ValueError(f"vercel.json: the local server does not rewrite to {rule['destination']}")
        return cls(
            rewrites=tuple(Rewrite(rule["source"], rule["destination"]) for rule in data.get("rewrites", ())),
            headers=tuple(
                (source_pattern(rule["source"]), {h["key"]: h["value"] for h in rule["headers"]})
                for rule in data.get("headers", ())
            ),
            drop_slash=data.get("trailingSlash") is False,
            public=data.get("outputDirectory") or "public",
        )
