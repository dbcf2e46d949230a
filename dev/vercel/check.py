"""Whether a build output is what we meant to deploy. Most of what can go wrong leaves the build green.

Each check is a function from the output, and what it was built from, to a list of faults: one line each, for a person.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from dev.vercel.edge import Call, Page, Site
from dev.vercel.output import HANDLER, VENDOR, Function, Output, Tree, normal

MAX_FUNCTIONS = 12
MAX_BUNDLE_BYTES = 250_000_000
MAX_DURATION_S = 300
"""The limits of the Hobby plan."""

IMPORTED = ("httpx", "jwt", "pydantic", "starlette", "supabase", "upstash_ratelimit", "upstash_redis")
"""What the code imports from packages, by import name."""
OVERRIDING = ("pyproject.toml", "Pipfile", "Pipfile.lock", "uv.lock", "package.json", "setup.py", "manage.py")
"""Files that, at the root, make Vercel ignore requirements.txt or take the project for something else."""
SECURITY_HEADERS = ("content-security-policy", "strict-transport-security", "x-content-type-options")

type Check = Callable[[Output, Tree], list[str]]


def nothing_overrides_requirements(_: Output, tree: Tree) -> list[str]:
    """The root holds no file that makes the build ignore requirements.txt, or guess a framework."""
    faults = [f"{name}: a file of this name at the root changes the build" for name in OVERRIDING if name in tree.files]
    if "framework" not in tree.config or tree.config["framework"] is not None:
        faults.append('vercel.json: "framework" is not null; a detected preset would replace the functions by one')
    if "buildCommand" in tree.config:
        faults.append("vercel.json: a buildCommand adds a second copy of all packages to every bundle")
    return faults


def routes_are_functions(output: Output, tree: Tree) -> list[str]:
    """Every file of api/ became a function, and nothing else did."""
    expected = {path.removesuffix(".py"): path for path in tree.files if _is_route(path)}
    built = {function.name for function in output.functions}
    faults = [
        f"{expected[name]}: did not become a function; `app` must be bound by a plain statement at the top level"
        for name in sorted(expected.keys() - built)
    ]
    return faults + [f"{name}: a function without a file in api/" for name in sorted(built - expected.keys())]


def _is_route(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[0] == "api" and path.endswith(".py") and not any(part.startswith(("_", ".")) for part in parts)


def few_enough_functions(output: Output, _: Tree) -> list[str]:
    """A Hobby deployment has at most 12 functions."""
    count = len(output.functions)
    return [f"{count} functions, and the plan allows {MAX_FUNCTIONS}"] if count > MAX_FUNCTIONS else []


def functions_run_on_the_right_python(output: Output, _: Tree) -> list[str]:
    """Python 3.12, able to stream."""
    faults = []
    for function in output.functions:
        if (runtime := function.config.get("runtime")) != "python3.12":
            faults.append(f"{function.name}: runs on {runtime}, not on python3.12")
        if not function.config.get("supportsResponseStreaming"):
            faults.append(f"{function.name}: cannot stream")
    return faults


def only_public_is_static(output: Output, tree: Tree) -> list[str]:
    """What a browser can fetch is public/, all of it and nothing else."""
    meant = {path.removeprefix("public/") for path in tree.files if path.startswith("public/")}
    if not meant:
        return ["public/: is empty, so that Vercel publishes the whole tree; commit public/robots.txt"]
    return [f"{path}: is published and must not be" for path in sorted(output.static - meant)] + [
        f"public/{path}: is not published" for path in sorted(meant - output.static)
    ]


def static_files_are_protected(output: Output, _: Tree) -> list[str]:
    """Every static file is served with the security headers."""
    site, faults = _site(output), []
    for path in sorted(output.static):
        page = site.resolve(f"/{path}")
        given = {name.lower() for name in page.headers} if isinstance(page, Page) else set()
        faults += [f"/{path}: is served without {name}" for name in SECURITY_HEADERS if name not in given]
    return faults


def bundles_hold_only_code(output: Output, _: Tree) -> list[str]:
    """A bundle holds Python files of api/ and lib/: no test, no dev/, no docs, no SQL, no .env, no configuration."""
    return [
        f"{function.name}: its bundle holds {name}"
        for function in output.functions
        for name in function.own
        if not re.fullmatch(r"(api|lib)/(?!(?:.*/)?\.)(?!(?:.*/)?tests/).*\.pyc?", name)
    ]


def bundles_hold_all_code(output: Output, tree: Tree) -> list[str]:
    """A bundle holds all of lib/, its own file of api/, and what starts it."""
    library = {path for path in tree.files if path.startswith("lib/") and path.endswith(".py")}
    faults = ["lib/: has no Python files; do the ignore rules hide it?"] if not library else []
    for function in output.functions:
        needed = library | {f"{function.name}.py", HANDLER}
        faults += [f"{function.name}: its bundle lacks {name}" for name in sorted(needed - function.files.keys())]
    return faults


def bundles_hold_packages(output: Output, tree: Tree) -> list[str]:
    """A bundle holds every package that requirements.txt pins, in that version, and Vercel's runtime."""
    faults = [] if tree.requirements else ["requirements.txt: pins nothing"]
    for function in output.functions:
        there = _distributions(function)
        for name, version in sorted(tree.requirements.items()):
            if there.get(name) != version:
                faults.append(f"{function.name}: its bundle has {name} {there.get(name, 'not at all')}, not {version}")
        tops = {name.removeprefix(VENDOR).split("/")[0] for name in function.files if name.startswith(VENDOR)}
        missing = [name for name in (*IMPORTED, "vercel_runtime") if name not in tops]
        faults += [f"{function.name}: cannot import {name}" for name in missing]
    return faults


def _distributions(function: Function) -> dict[str, str]:
    """The version of each distribution in a bundle, from the names of its metadata directories."""
    found = {}
    for name in function.files:
        if match := re.match(rf"{VENDOR}([^/]+?)-([^/-]+)\.dist-info/", name):
            found[normal(match[1])] = match[2]
    return found


def bundles_are_small_enough(output: Output, _: Tree) -> list[str]:
    """A bundle has at most 250 MB, uncompressed."""
    return [
        f"{function.name}: its bundle has {function.size / 1e6:.0f} MB, and the plan allows 250 MB"
        for function in output.functions
        if function.size > MAX_BUNDLE_BYTES
    ]


def durations_are_as_configured(output: Output, tree: Tree) -> list[str]:
    """Each function may run as long as the first matching pattern of vercel.json says, which the plan must allow."""
    faults = []
    for function in output.functions:
        path, built = f"{function.name}.py", function.max_duration_s
        rules = tree.config.get("functions", {}).items()
        wanted = next((rule.get("maxDuration") for pattern, rule in rules if _glob(pattern).fullmatch(path)), None)
        if wanted is None:
            faults.append(f"{function.name}: vercel.json sets no maxDuration for it")
        elif built != wanted:
            faults.append(f"{function.name}: may run for {built} s, and vercel.json says {wanted} s")
        elif wanted > MAX_DURATION_S:
            faults.append(f"{function.name}: asks for {wanted} s, and the plan allows {MAX_DURATION_S} s")
    return faults


def _glob(pattern: str) -> re.Pattern[str]:
    """A path pattern of vercel.json: `**/` is any number of directories, `*` part of one name."""
    tokens = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return re.compile("".join(tokens.get(part, re.escape(part)) for part in parts))


def crons_are_sound(output: Output, tree: Tree) -> list[str]:
    """Every cron of vercel.json is built, calls a function that exists, and runs once a day at most."""
    site, faults = _site(output), []
    meant = [(cron.get("path", ""), cron.get("schedule", "")) for cron in tree.config.get("crons", ())]
    built = [(cron.get("path", ""), cron.get("schedule", "")) for cron in output.crons]
    if sorted(meant) != sorted(built):
        faults.append(f"crons: vercel.json has {meant}, and the output {built}")
    for path, schedule in built:
        if not isinstance(site.resolve(path.partition("?")[0]), Call):
            faults.append(f"cron {path}: names no function")
        if fault := _schedule_fault(schedule):
            faults.append(f"cron {path}: {schedule!r} {fault}")
    return faults


def rewrites_are_sound(output: Output, tree: Tree) -> list[str]:
    """Every rewrite of vercel.json leads to a function, and nothing else answers its path."""
    site, faults = _site(output), []
    for rewrite in tree.config.get("rewrites", ()):
        source, destination = rewrite["source"], rewrite["destination"].partition("?")[0]
        if ":" in destination or "$" in destination:
            continue  # it depends on the path
        leads_to = site.resolve(destination)
        if not isinstance(leads_to, Call):
            faults.append(f"rewrite {source}: {destination} is no function")
        elif not re.search(r"[:(]", source):
            answers = site.resolve(source)
            if not isinstance(answers, Call) or answers.function != leads_to.function:
                faults.append(f"rewrite {source}: something else than {destination} answers this path, or nothing")
    return faults


_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def _schedule_fault(schedule: str) -> str | None:
    """What is wrong with a cron schedule, if anything. Vercel takes numbers only, and one of the two kinds of days."""
    fields = schedule.split()
    if len(fields) != len(_FIELDS) or not all(_valid(text, *span) for text, span in zip(fields, _FIELDS, strict=True)):
        return "is no schedule"
    minute, hour, day, _, weekday = fields
    if not (minute.isdecimal() and hour.isdecimal()):
        return "runs more than once a day, which the plan does not allow"
    return "sets both a day of the month and a day of the week" if "*" not in (day, weekday) else None


def _valid(text: str, low: int, high: int) -> bool:
    for part in text.split(","):
        found = re.fullmatch(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/([1-9]\d?))?", part)
        if not found or not all(low <= int(number) <= high for number in found.groups()[:2] if number):
            return False
    return True


def _site(output: Output) -> Site:
    return Site(output.routes, frozenset(function.name for function in output.functions), output.static)


CHECKS: tuple[Check, ...] = (
    nothing_overrides_requirements,
    routes_are_functions,
    few_enough_functions,
    functions_run_on_the_right_python,
    only_public_is_static,
    static_files_are_protected,
    bundles_hold_only_code,
    bundles_hold_all_code,
    bundles_hold_packages,
    bundles_are_small_enough,
    durations_are_as_configured,
    rewrites_are_sound,
    crons_are_sound,
)


def report(output: Output, tree: Tree) -> tuple[list[str], list[str]]:
    """The lines of a short table, and all faults."""
    faults: list[str] = []
    verdicts = []
    for check in CHECKS:
        found = check(output, tree)
        faults += found
        verdicts.append((("ok" if not found else f"{len(found)} x"), (check.__doc__ or "").partition("\n")[0]))
    functions = [("function", "maxDuration", "files", "MB")] + [
        (each.name, f"{each.max_duration_s} s", str(len(each.files)), f"{each.size / 1e6:.1f}")
        for each in output.functions
    ]
    static = [f"static: {', '.join(f'/{path}' for path in sorted(output.static)) or 'nothing'}"]
    return [*_columns(functions), "", *static, "", *_columns(verdicts)], faults


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
