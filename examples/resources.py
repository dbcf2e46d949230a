"""A data route: what many read and few change, kept in memory and in Redis.

In a checkout: ``pip install ./lib uvicorn``, then ``uvicorn --app-dir examples resources:app``.
"""

from collections.abc import Mapping

from breakwater import Breakwater, Python, Resource

PRICES = {"espresso": 2.5, "lungo": 3.0}


async def price(values: Mapping[str, str]) -> float | None:
    """Whatever is slow; None where there is no such thing."""
    return PRICES.get(values["drink"])


PRICE = Resource("price", key="cache:price:{drink}", tier="5m", origin=Python(price, "prices"))

bw = Breakwater.from_env()
app = bw.resources({"/api/prices/{drink}": PRICE}, limit="60/minute")


async def change(drink: str, amount: float) -> None:
    """Write, then let everybody read the new price."""

    async def commit() -> float:
        PRICES[drink] = amount
        return amount

    await bw.write(PRICE, {"drink": drink}, commit)
