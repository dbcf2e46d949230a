"""Every check of a build output passes on a good one, and fails on each thing that can go wrong."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.vercel import check
from dev.vercel.output import HANDLER, VENDOR, File, Function, Output, Tree, pins

HEADERS = dict.fromkeys(("Content-Security-Policy", "Strict-Transport-Security", "X-Content-Type-Options"), "x")
ROUTES: tuple[Mapping[str, Any], ...] = (
    {"src": "^/(.*)/$", "headers": {"Location": "/$1"}, "status": 308},
    {"src": "^(?:/((?!api/).*))$", "headers": HEADERS, "continue": True},
    {"handle": "filesystem"},
    {"src": "^/api/metrics$", "dest": "/api/ops", "check": True},
    {"src": "^/api/queries(?:/([^/]+?))$", "dest": "/api/ops?name=$1", "check": True},
    {"src": "^/api(/.*)?$", "status": 404},
)
LIBRARY = ("lib/__init__.py", "lib/guard.py")
PACKAGES = (*check.IMPORTED, "vercel_runtime")
REWRITES = [
    {"source": "/api/metrics", "destination": "/api/ops"},
    {"source": "/api/queries/:name", "destination": "/api/ops"},
    {"source": "/old/:path*", "destination": "/:path*"},
]
CRON = {"path": "/api/cron/report", "schedule": "0 3 * * *"}

TREE = Tree(
    files=frozenset(
        {
            "api/ai/supervisor.py",
            "api/cron/report.py",
            "api/ops.py",
            "api/_shared.py",
            *LIBRARY,
            "public/index.html",
            "README.md",
            "vercel.json",
        }
    ),
    config={
        "framework": None,
        "functions": {"api/ai/**/*.py": {"maxDuration": 300}, "api/**/*.py": {"maxDuration": 30}},
        "rewrites": REWRITES,
        "crons": [CRON],
    },
    requirements={"httpx": "0.28.1", "pydantic-core": "2.50.4"},
)


def function(name: str, **config: Any) -> Function:
    metadata = (f"{VENDOR}httpx-0.28.1.dist-info/METADATA", f"{VENDOR}pydantic_core-2.50.4.dist-info/METADATA")
    modules = (f"{VENDOR}{package}/__init__.py" for package in PACKAGES)
    names = (HANDLER, f"{name}.py", "lib/__pycache__/guard.cpython-312.pyc", *LIBRARY, *modules, *metadata)
    return Function(
        name,
        {each: File(Path(each), 1000) for each in names},
        {"runtime": "python3.12", "supportsResponseStreaming": True, **config},
    )


SUPERVISOR = function("api/ai/supervisor", maxDuration=300)
REPORT = function("api/cron/report", maxDuration=30)
OPS = function("api/ops", maxDuration=30)
OUTPUT = Output((SUPERVISOR, REPORT, OPS), frozenset({"index.html"}), ROUTES, (CRON,))


def with_file(name: str, size: int = 1) -> Output:
    """The good output with one file more in a bundle."""
    more = replace(SUPERVISOR, files={**SUPERVISOR.files, name: File(Path(name), size)})
    return replace(OUTPUT, functions=(more, REPORT, OPS))


def without_file(name: str) -> Output:
    """The good output with one file less in a bundle."""
    files = {each: file for each, file in SUPERVISOR.files.items() if each != name}
    return replace(OUTPUT, functions=(replace(SUPERVISOR, files=files), REPORT, OPS))


def with_config(**config: Any) -> Output:
    """The good output with one function configured differently."""
    other = replace(SUPERVISOR, config={**SUPERVISOR.config, **config})
    return replace(OUTPUT, functions=(other, REPORT, OPS))


def with_tree(**config: Any) -> Tree:
    """The good tree with a different vercel.json."""
    return replace(TREE, config={**TREE.config, **config})


def with_cron(path: str, schedule: str) -> tuple[Output, Tree]:
    """The good output and tree with another cron."""
    crons = [{"path": path, "schedule": schedule}]
    return replace(OUTPUT, crons=tuple(crons)), with_tree(crons=crons)


@pytest.mark.parametrize("each", check.CHECKS, ids=lambda each: each.__name__)
def test_a_good_output_passes(each: check.Check) -> None:
    """No check finds a fault in what is as it should be."""
    assert each(OUTPUT, TREE) == []


type Fault = tuple[Callable[[Output, Tree], list[str]], Output, Tree, str]

FAULTS: Mapping[str, Fault] = {
    "pyproject": (
        check.nothing_overrides_requirements,
        OUTPUT,
        replace(TREE, files=TREE.files | {"pyproject.toml"}),
        "pyproject.toml: ",
    ),
    "framework": (check.nothing_overrides_requirements, OUTPUT, with_tree(framework="fastapi"), '"framework" is not'),
    "build-command": (check.nothing_overrides_requirements, OUTPUT, with_tree(buildCommand="make"), "buildCommand"),
    "app-not-seen": (
        check.routes_are_functions,
        replace(OUTPUT, functions=(REPORT, OPS)),
        TREE,
        "api/ai/supervisor.py: did not become a function",
    ),
    "preset-took-over": (
        check.routes_are_functions,
        replace(OUTPUT, functions=(SUPERVISOR, REPORT, OPS, function("index"))),
        TREE,
        "index: a function without a file",
    ),
    "too-many": (
        check.few_enough_functions,
        replace(OUTPUT, functions=tuple(function(f"api/f{number}") for number in range(13))),
        TREE,
        "13 functions",
    ),
    "old-python": (
        check.functions_run_on_the_right_python,
        with_config(runtime="python3.9"),
        TREE,
        "runs on python3.9",
    ),
    "no-stream": (
        check.functions_run_on_the_right_python,
        with_config(supportsResponseStreaming=False),
        TREE,
        "cannot stream",
    ),
    "leaks-source": (
        check.only_public_is_static,
        replace(OUTPUT, static=OUTPUT.static | {"lib/guard.py"}),
        TREE,
        "lib/guard.py: is published",
    ),
    "page-lost": (
        check.only_public_is_static,
        replace(OUTPUT, static=frozenset()),
        TREE,
        "public/index.html: is not published",
    ),
    "public-empty": (
        check.only_public_is_static,
        replace(OUTPUT, static=frozenset()),
        replace(TREE, files=TREE.files - {"public/index.html"}),
        "public/: is empty",
    ),
    "no-headers": (
        check.static_files_are_protected,
        replace(OUTPUT, routes=ROUTES[2:]),
        TREE,
        "/index.html: is served without content-security-policy",
    ),
    "bundle-lacks-lib": (check.bundles_hold_all_code, without_file("lib/guard.py"), TREE, "lacks lib/guard.py"),
    "bundle-lacks-itself": (check.bundles_hold_all_code, without_file("api/ai/supervisor.py"), TREE, "lacks api/ai/"),
    "bundle-lacks-handler": (check.bundles_hold_all_code, without_file(HANDLER), TREE, f"lacks {HANDLER}"),
    "lib-ignored": (
        check.bundles_hold_all_code,
        OUTPUT,
        replace(TREE, files=TREE.files - set(LIBRARY)),
        "lib/: has no Python files",
    ),
    "no-requirements": (check.bundles_hold_packages, OUTPUT, replace(TREE, requirements={}), "pins nothing"),
    "package-missing": (
        check.bundles_hold_packages,
        without_file(f"{VENDOR}httpx-0.28.1.dist-info/METADATA"),
        TREE,
        "has httpx not at all, not 0.28.1",
    ),
    "package-version": (
        check.bundles_hold_packages,
        OUTPUT,
        replace(TREE, requirements={"pydantic-core": "2.0"}),
        "has pydantic-core 2.50.4, not 2.0",
    ),
    "package-hollow": (
        check.bundles_hold_packages,
        without_file(f"{VENDOR}supabase/__init__.py"),
        TREE,
        "cannot import supabase",
    ),
    "too-big": (check.bundles_are_small_enough, with_file(f"{VENDOR}big.so", 250_000_000), TREE, "has 250 MB"),
    "other-duration": (check.durations_are_as_configured, with_config(maxDuration=10), TREE, "may run for 10 s"),
    "no-duration": (
        check.durations_are_as_configured,
        OUTPUT,
        with_tree(functions={"api/ai/**/*.py": {"maxDuration": 300}}),
        "api/cron/report: vercel.json sets no maxDuration",
    ),
    "long-duration": (
        check.durations_are_as_configured,
        with_config(maxDuration=800),
        with_tree(functions={"api/**/*.py": {"maxDuration": 800}}),
        "asks for 800 s",
    ),
    "rewrite-nowhere": (
        check.rewrites_are_sound,
        OUTPUT,
        with_tree(rewrites=[{"source": "/api/metrics", "destination": "/api/gone"}]),
        "rewrite /api/metrics: /api/gone is no function",
    ),
    "rewrite-to-a-page": (
        check.rewrites_are_sound,
        OUTPUT,
        with_tree(rewrites=[{"source": "/api/metrics", "destination": "/index.html"}]),
        "/index.html is no function",
    ),
    "rewrite-behind-a-function": (
        check.rewrites_are_sound,
        OUTPUT,
        with_tree(rewrites=[{"source": "/api/ai/supervisor", "destination": "/api/ops"}]),
        "rewrite /api/ai/supervisor: ",
    ),
    "rewrite-lost": (
        check.rewrites_are_sound,
        replace(OUTPUT, routes=tuple(route for route in ROUTES if route.get("dest") != "/api/ops")),
        TREE,
        "rewrite /api/metrics: ",
    ),
    "cron-lost": (check.crons_are_sound, replace(OUTPUT, crons=()), TREE, "crons: vercel.json has"),
    "cron-nowhere": (check.crons_are_sound, *with_cron("/api/cron/gone", "0 3 * * *"), "names no function"),
    "cron-page": (check.crons_are_sound, *with_cron("/index.html", "0 3 * * *"), "names no function"),
    "cron-hourly": (check.crons_are_sound, *with_cron("/api/cron/report", "0 * * * *"), "more than once a day"),
    "cron-twice": (check.crons_are_sound, *with_cron("/api/cron/report", "0 3,15 * * *"), "more than once a day"),
    "cron-words": (check.crons_are_sound, *with_cron("/api/cron/report", "0 3 * * MON"), "is no schedule"),
    "cron-short": (check.crons_are_sound, *with_cron("/api/cron/report", "@daily"), "is no schedule"),
    "cron-hour": (check.crons_are_sound, *with_cron("/api/cron/report", "0 24 * * *"), "is no schedule"),
    "cron-both-days": (check.crons_are_sound, *with_cron("/api/cron/report", "0 3 1 * 1"), "sets both"),
}


@pytest.mark.parametrize(("each", "output", "tree", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(each: check.Check, output: Output, tree: Tree, said: str) -> None:
    """Each thing that can go wrong is one fault, and the line names it."""
    faults = each(output, tree)
    assert faults
    assert said in faults[0]


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_guard.py",
        "dev/stack.py",
        "docs/architecture.md",
        "bench/run.py",
        "supabase/migrations/limits.sql",
        "Makefile",
        "README.md",
        "requirements.txt",
        "vercel.json",
        ".env",
        ".env.local",
        "lib/.env",
        "lib/notes.md",
        "lib/pyproject.toml",
        "lib/py.typed",
        "lib/.secret.py",
        "lib/tests/test_guard.py",
        "api/ai/prompt.txt",
        "node_modules/x/index.js",
    ],
)
def test_a_bundle_with_more_than_code(name: str) -> None:
    """What is neither a package nor Python of api/ or lib/ has no place in a bundle."""
    assert check.bundles_hold_only_code(with_file(name), TREE) == [f"api/ai/supervisor: its bundle holds {name}"]


def test_every_check_can_fail() -> None:
    """There is no check without a case above that it fails on."""
    assert {fault[0] for fault in FAULTS.values()} | {check.bundles_hold_only_code} == set(check.CHECKS)


@pytest.mark.parametrize("schedule", ["0 3 * * *", "59 23 1,15 * *", "0 0 * 1-6/2 *", "30 4 * * 1-5"])
def test_sound_schedules(schedule: str) -> None:
    """Once a day or less, on any days."""
    assert check.crons_are_sound(*with_cron("/api/cron/report", schedule)) == []


def test_report() -> None:
    """The table names functions, static files and every check; faults come beside it."""
    table, faults = check.report(with_file("README.md"), TREE)
    text = "\n".join(table)
    assert faults == ["api/ai/supervisor: its bundle holds README.md"]
    assert "api/ai/supervisor  300 s" in text
    assert "static: /index.html" in text
    assert text.count("\nok ") == len(check.CHECKS) - 1
    assert "1 x  A bundle holds Python files" in text


def test_pins() -> None:
    """Pins are read with normal names; comments, extras, markers and hashes are no part of them."""
    lines = (
        "# a==1",
        "PyJWT[crypto]==2.15.1",
        "    # via b==2",
        "yarl==1.25.1 ; python_version > '3' \\",
        "  --hash=sha256:0",
    )
    assert pins("\n".join(lines)) == {"pyjwt": "2.15.1", "yarl": "1.25.1"}
