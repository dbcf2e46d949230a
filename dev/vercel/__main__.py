"""The real Vercel build, its checks, its tests and its cold start, each as one command.

python -m dev.vercel build [--bytecode]   build the tree in build/vercel
python -m dev.vercel check                check what came out
python -m dev.vercel test                 run the tests against what came out, under the real runtime
python -m dev.vercel cold                 measure a cold start
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from dev.vercel import check, cold
from dev.vercel.build import BUILD, ROOT, BuildError, build, tools
from dev.vercel.instance import InstanceError
from dev.vercel.output import NoOutput, read_output, read_tree

TESTS = "tests/vercel/test_deployment.py"


def main() -> int:
    """Run one command; 0 when all is well, 1 with the reasons on standard error."""
    parser = argparse.ArgumentParser(prog="python -m dev.vercel", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    each = {name: commands.add_parser(name, help=text) for name, text in _HELP.items()}
    for name in ("build", "check", "test"):
        each[name].add_argument("--dir", type=Path, default=BUILD, help="where the copy of the tree is built")
    each["build"].add_argument("--bytecode", action="store_true", help="ship compiled modules in the bundles")
    each["cold"].add_argument("--runs", type=int, default=15, help="starts of each function, at least 9 (15)")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "build":
                build(ROOT, arguments.dir.resolve(), tools(), bytecode=arguments.bytecode)
                return 0
            case "check":
                return _check(arguments.dir.resolve())
            case "test":
                return _test(arguments.dir.resolve())
            case _:
                return cold.measure(max(9, arguments.runs))
    except (BuildError, NoOutput, InstanceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


_HELP = {
    "build": "build a copy of the tree with the pinned Vercel CLI",
    "check": "check the build output",
    "test": "run the tests against the build output, under the real runtime",
    "cold": "measure a cold start, relative to a function that does nothing",
}


def _check(tree: Path) -> int:
    table, faults = check.report(read_output(tree), read_tree(tree))
    print("\n".join(table))
    if faults:
        print("\n".join(["", *faults]), file=sys.stderr)
    return 1 if faults else 0


def _test(tree: Path) -> int:
    environ = {**os.environ, "BREAKWATER_VERCEL": "1", "BREAKWATER_VERCEL_DIR": str(tree)}
    return subprocess.run([sys.executable, "-m", "pytest", TESTS], cwd=ROOT, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
