"""A script that may run three times a minute, on however many machines.

In a checkout: ``pip install ./lib``, then ``python examples/script.py``. What it computes is kept for a minute, so that
of runs that follow one another only the first one computes it.
"""

import asyncio
import sys

from breakwater import Breakwater


async def report() -> dict[str, int]:
    # In the place of a query that takes a while.
    print("computing", file=sys.stderr)
    return {"servers": 3, "disks": 12}


async def main() -> int:
    async with Breakwater.from_env() as bw:
        verdict = await bw.limit("report", "3/minute")
        if not verdict.allowed:
            print(f"Try again in {verdict.retry_after_s} s.")
            return 1
        print(await bw.cached("report", report, fresh=60))
        return 0


sys.exit(asyncio.run(main()))
