"""`lib/` installed elsewhere: the distribution `breakwater-guard` with the module `breakwater`.

The wheel is built from a copy and installed, from PyPI, into an environment of its own together with FastAPI. What is
tested of the installed module is a script that runs there: see the fixture `installed`.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

import lib
from tests.packaging.declared import LIB, PROJECT, ROOT, optional_modules
from tests.rig.redis import RedisFront

type Installed = Callable[..., Any]
"""Runs a script where the wheel is installed, with these environment variables; yields what it leaves in `found`."""


def run(command: Sequence[str | Path], cwd: Path, environ: Mapping[str, str] | None = None) -> str:
    """What a command prints. Fails the test where the command fails, with what it said."""
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))}\nended with {done.returncode}; building and installing the wheel needs "
            f"PyPI, and `make test QUICK=1` leaves it out.\n{done.stdout}{done.stderr}"
        )
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `lib/` without bytecode."""
    copy = tmp_path_factory.mktemp("source") / "lib"
    shutil.copytree(LIB, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from it."""
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source], out)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that has the wheel, what it depends on, and FastAPI."""
    directory = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", directory], directory)
    python = directory / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, "fastapi"], directory)
    return python


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    """Runs scripts with the installed module, far from the repository."""

    def in_environment(script: str, **environ: str) -> Any:
        text = f"import json, sys\n{textwrap.dedent(script)}\nprint(json.dumps(found))"
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return json.loads(run([environment, "-I", "-c", text], tmp_path, {**kept, **environ}))

    return in_environment


def test_contents(wheel: Path) -> None:
    """The wheel holds every Python file of lib/, the marker of types and its own metadata: no tests, no routes."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    inside = {name.removeprefix("breakwater/") for name in names if name.startswith("breakwater/")}
    assert inside == {str(path.relative_to(LIB)) for path in LIB.rglob("*.py")} | {"py.typed"}
    beside = {name.partition("/")[2] for name in names if not name.startswith("breakwater/")}
    assert beside == {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


def test_building_leaves_nothing_behind(source: Path, wheel: Path) -> None:
    """The tree holds the same files after a build as before it."""
    assert wheel.exists()
    before = {path.relative_to(LIB) for path in LIB.rglob("*") if "__pycache__" not in path.parts}
    assert {path.relative_to(source) for path in source.rglob("*")} == before


def test_metadata(wheel: Path) -> None:
    """Name, version, Python, license and extras are what the repository says."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        given = HeaderParser().parsestr(archive.read(name).decode())
    assert (given["Name"], given["Version"]) == ("breakwater-guard", lib.__version__)
    assert (given["Requires-Python"], given["License-Expression"]) == (">=3.12", "MIT")
    assert set(given.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_version(installed: Installed) -> None:
    """What is installed and what is imported have the version of lib/__init__.py."""
    script = """
        import importlib.metadata, breakwater
        found = [importlib.metadata.version("breakwater-guard"), breakwater.__version__]
    """
    assert installed(script) == [lib.__version__, lib.__version__]


def test_it_stands_by_itself(installed: Installed) -> None:
    """The module and its types come from the environment, beside FastAPI, without the repository's `lib`."""
    script = """
        import breakwater, fastapi, importlib.resources, importlib.util
        found = {
            "in the environment": breakwater.__file__.startswith(sys.prefix),
            "typed": importlib.resources.files("breakwater").joinpath("py.typed").is_file(),
            "lib": importlib.util.find_spec("lib") is not None,
        }
    """
    assert installed(script) == {"in the environment": True, "typed": True, "lib": False}


GUARDED = """
    import asyncio, fastapi, httpx
    from breakwater import Breakwater, GuardMiddleware

    bw = Breakwater.from_env()
    app = fastapi.FastAPI()
    app.add_middleware(GuardMiddleware, breakwater=bw, limit="3/minute", paths="/api/*")

    @app.get("/api/hello")
    async def hello(): return {"hello": "world"}

    @app.get("/api/crash")
    async def crash(): raise ZeroDivisionError

    async def main():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with bw, httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            paths = ["/api/hello", "/api/hello", "/api/crash", "/api/hello", "/docs"]
            return [await http.get(path) for path in paths]

    ours = ("x-ratelimit", "retry-after")
    found = [
        [reply.status_code, {name: text for name, text in reply.headers.items() if name.startswith(ours)}]
        for reply in asyncio.run(main())
    ]
"""


def test_it_guards_a_fastapi_application(installed: Installed, upstash: RedisFront) -> None:
    """By pip and one line: 200, 200, 500, then 429, each with the headers of the limit; other paths are left alone."""
    environ = {**upstash.environ}
    *guarded, (status, headers) = installed(GUARDED, **environ, IDENTITY_SECRET="one")
    assert (status, headers) == (200, {})
    assert [status for status, _ in guarded] == [200, 200, 500, 429]
    assert [headers["x-ratelimit-limit"] for _, headers in guarded] == ["3"] * 4
    assert [headers["x-ratelimit-remaining"] for _, headers in guarded] == ["2", "1", "0", "0"]
    assert 0 < int(guarded[-1][1]["retry-after"]) <= 65


EXAMPLE = """
    import asyncio, httpx, importlib.util, os
    spec = importlib.util.spec_from_file_location("fastapi_app", os.environ["EXAMPLE"])
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastapi_app"] = module
    spec.loader.exec_module(module)
    app = module.app

    async def main():
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app")
        async with app.router.lifespan_context(app), http:
            asks = [("GET", "/api/weather/seoul")] * 2 + [("POST", "/api/weather/refresh")] * 2
            asks += [("GET", "/api/weather/seoul")] * 2
            return [await http.request(*each) for each in asks]

    found = [[reply.status_code, reply.json()] for reply in asyncio.run(main())]
"""


def test_the_fastapi_example(installed: Installed, upstash: RedisFront) -> None:
    """examples/fastapi_app.py as it is, with a limit from the environment: answers, refuses, and refreshes once."""
    environ = {**upstash.environ}
    own = {"IDENTITY_SECRET": "two", "RATELIMIT_MIDDLEWARE_API": "5/minute"}
    *passed, refused = installed(EXAMPLE, EXAMPLE=str(ROOT / "examples" / "fastapi_app.py"), **environ, **own)
    weather = [200, {"city": "seoul", "sky": "clear"}]
    first, second = passed[2][1], passed[3][1]
    assert (passed[:2], passed[4]) == ([weather] * 2, weather)
    assert (first, second["refreshed"]) == ({"refreshed": True, "retryAfter": None}, False)
    # An hour, and two of its buckets of 150 s.
    assert 0 < second["retryAfter"] <= 3_900
    assert (refused[0], refused[1]["code"]) == (429, "rate_limited")


def test_nothing_is_configured(installed: Installed) -> None:
    """Importing works; each guarded request answers 500 with what to set."""
    *guarded, (status, _) = installed(GUARDED)
    assert ([status for status, _ in guarded], status) == ([500] * 4, 200)


def test_an_extra_that_is_called_for(installed: Installed) -> None:
    """Without it the first request says what to install, and not the first outage."""
    script = """
        import asyncio, breakwater
        async def faults():
            try:
                await breakwater.Breakwater.from_env().parts()
            except breakwater.BadSettings as e:
                return e.faults
        found = asyncio.run(faults())
    """
    environ = {"REDIS_URL": "redis://127.0.0.1:1", "SUPABASE_URL": "https://s.example", "SUPABASE_SECRET_KEY": "k"}
    assert installed(script, **environ) == [
        "SUPABASE_URL: needs the extra 'supabase': pip install 'postgrest>=2.34'",
        "SUPABASE_URL: needs the extra 'signin': pip install 'PyJWT[crypto]>=2.14'",
        "REDIS_URL: needs the extra 'tcp': pip install 'redis>=6.0'",
    ]


def test_extras_are_optional(installed: Installed) -> None:
    """Without extras every module can be imported, but for those that are about an extra."""
    script = """
        import importlib, pkgutil, breakwater
        found = {}
        for module in pkgutil.walk_packages(breakwater.__path__, "breakwater."):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as e:
                found[module.name] = e.name
    """
    # A module of an extra may import it at its top or where it is needed: either is right.
    assert {name: lacks for name, lacks in installed(script).items() if lacks not in optional_modules()} == {}
