"""Callers that no other test has."""

import itertools

_callers = itertools.count(1)


def a_caller() -> str:
    """An address that nobody else in this run calls from."""
    number = next(_callers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
