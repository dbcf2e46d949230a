"""Optional packages: one that a setting calls for is missed when the instance starts, and not in the next outage."""

import ast
import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping

import pytest

from lib import Sql
from lib.app.instance import Instance
from lib.base.env import BadSettings
from lib.base.extras import EXTRAS, Extra
from tests.packaging import declared
from tests.packaging.declared import LIB, module, optional_modules

OFF = {"REDIS_ENABLED": "false"}
REST = {"KV_REST_API_URL": "https://x.upstash.io", "KV_REST_API_TOKEN": "t"}
SUPABASE = {"SUPABASE_URL": "https://s", "SUPABASE_SECRET_KEY": "k"}
TCP = {"REDIS_URL": "redis://127.0.0.1:1"}
BOTH = {**REST, **TCP}
DATABASES = {**OFF, "ONE_URL": "postgres://u:p@h/d", "TWO_URL": "oracle://u:p@h/d"}
ELSEWHERE = {"prometheus_client"}
"""The metrics' page alone needs it, which is a function of a deployment."""


def faults(environ: Mapping[str, str]) -> list[str]:
    """What is wrong with an environment, by the instance that is to run in it."""

    async def start() -> list[str]:
        instance = Instance(environ)
        try:
            await instance()
        except BadSettings as e:
            return e.faults
        await instance.aclose()
        return []

    return asyncio.run(start())


@pytest.mark.parametrize(
    ("environ", "lacks", "variable", "extra"),
    [
        pytest.param({**OFF, **SUPABASE}, "postgrest", "SUPABASE_URL", "supabase", id="limits in Supabase"),
        pytest.param({**OFF, **SUPABASE}, "jwt", "SUPABASE_URL", "signin", id="sign-in beside them"),
        pytest.param({**OFF, "SUPABASE_URL": "https://s"}, "jwt", "SUPABASE_URL", "signin", id="sign-in alone"),
        pytest.param({**OFF, "SUPABASE_URL": "https://s"}, "cryptography", "SUPABASE_URL", "signin", id="its keys"),
        pytest.param({**OFF, "SUPABASE_JWT_SECRET": "s"}, "jwt", "SUPABASE_JWT_SECRET", "signin", id="by a secret"),
        pytest.param(TCP, "redis", "REDIS_URL", "tcp", id="Redis over TCP"),
        pytest.param({**BOTH, "REDIS_TRANSPORT": "tcp"}, "redis", "REDIS_URL", "tcp", id="TCP chosen"),
        pytest.param(
            {**REST, "RATELIMIT_ALGORITHM": "upstash"},
            "upstash_ratelimit",
            "RATELIMIT_ALGORITHM",
            "upstash",
            id="the library's windows",
        ),
        pytest.param(
            {**DATABASES, "DB_CONNECTIONS": "a=postgres:ONE_URL"},
            "asyncpg",
            "DB_CONNECTIONS",
            "postgres",
            id="watched PostgreSQL",
        ),
        pytest.param(
            {**DATABASES, "DB_CONNECTIONS": "a=oracle:TWO_URL"}, "oracledb", "DB_CONNECTIONS", "oracle", id="Oracle"
        ),
    ],
)
def test_a_missing_package_is_named(
    environ: dict[str, str], lacks: str, variable: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance does not start: one line with the variable, the package, and what installs it."""
    assert faults(environ) == []
    monkeypatch.setitem(sys.modules, lacks, None)
    packages = " ".join(f"'{each}'" for each in EXTRAS[extra].packages)
    assert faults(environ) == [f"{variable}: needs the extra '{extra}': pip install {packages}"]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param(OFF, id="nothing"),
        pytest.param(BOTH, id="an address over TCP that is not used"),
        pytest.param({**OFF, **TCP}, id="Redis switched off"),
        pytest.param({**OFF, "DATABASE_URL": "postgres://h/d"}, id="an address that others may use"),
        pytest.param({**DATABASES, "DB_CONNECTIONS": "a=neon:ONE_URL"}, id="PostgreSQL over HTTP"),
    ],
)
def test_what_nothing_calls_for_may_be_missing(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without extras everything else works."""
    for each in optional_modules():
        monkeypatch.setitem(sys.modules, each, None)
    assert faults(environ) == []


def test_a_query_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be declared: nothing is left to fail in a read, where it would count against the database."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(BadSettings, match="Sql: needs the extra 'postgres': pip install 'asyncpg"):
        Sql("select 1")


WITHOUT = """
import json, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import lib
found = {}
for name in lib.__all__:
    try:
        getattr(lib, name)
    except Exception as e:
        found[name] = [type(e).__name__, str(e)]
print(json.dumps(found))
"""
"""Imports every name of the door where some modules are not installed, and prints what went wrong."""


@pytest.mark.parametrize(
    "lacks",
    [
        pytest.param({"upstash_ratelimit"}, id="the library"),
        pytest.param({"upstash_redis"}, id="its client"),
        pytest.param(optional_modules(), id="everything"),
    ],
)
def test_a_name_that_needs_an_extra(lacks: Collection[str]) -> None:
    """Only the limiter of ``upstash_ratelimit`` does, and its error says what to install."""
    ran = subprocess.run([sys.executable, "-c", WITHOUT, *lacks], cwd=LIB.parent, check=True, capture_output=True)
    what = "StrictWindows: needs the extra 'upstash': pip install 'upstash-ratelimit>=1.1' 'upstash-redis>=1.1'"
    assert json.loads(ran.stdout) == {"StrictWindows": ["ModuleNotFoundError", what]}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS.keys())
def test_an_extra_brings_what_is_looked_for(extra: Extra) -> None:
    """What the line tells people to install is what was missed."""
    brought = {module(re.split(r"[>\[]", each)[0]) for each in declared.EXTRAS[extra.name]}
    brought |= {"cryptography" for each in declared.EXTRAS[extra.name] if "[crypto]" in each}
    assert set(extra.modules) <= brought
    assert set(extra.packages) <= set(declared.EXTRAS[extra.name])


def test_every_optional_package_is_looked_for() -> None:
    """Whatever an extra brings and the library imports."""
    imported = set[str]()
    for path in LIB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
    looked_for = {name for each in EXTRAS.values() for name in each.modules}
    assert (imported & optional_modules()) - ELSEWHERE <= looked_for
