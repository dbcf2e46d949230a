"""What a failure of PostgreSQL says, by its code (SQLSTATE): the same whether it came by asyncpg or over HTTP."""

from .port import OriginFailed

_OF_A_VALUE = frozenset(
    ("22000", "22001", "22003", "22007", "22008", "22018", "22021", "22023", "22P02", "22P03", "22P05")
)
"""A parameter holds no value of its type. Functions say so themselves by ``raise ... using errcode = '22023'``."""
_MISSING = ("42", "3F", "55000")
"""No such schema, table, function or column, no right to it, no valid query; or an extension that is not loaded."""
_TOO_LATE = frozenset(("57014", "55P03"))
"""It took too long, or a lock was not to be had in time."""
_RAISED = ("0A", "20", "21", "22", "23", "54", "P0")
"""Classes of what a query or function runs into: what is not supported or too complex, a case that it lacks, a division
by zero, ``raise exception``."""


def failure(state: str) -> OriginFailed:
    """The failure that a code stands for."""
    detail = f"SQLSTATE {state}"
    if state in _OF_A_VALUE:
        return OriginFailed("rejected", detail, "caller")
    if state.startswith(_MISSING):
        return OriginFailed("missing", detail, "ours")
    if state in _TOO_LATE:
        return OriginFailed("timeout", detail)
    if state.startswith("53"):
        return OriginFailed("throttled", detail)
    if state.startswith("28"):
        return OriginFailed("unauthorized", detail, "ours", sent=False)
    return OriginFailed("raised" if state.startswith(_RAISED) else "server", detail)
