"""What a provider's failure means: for its circuit, for the providers after it, and for what the caller is told."""

from ..breaker.circuit import Failure
from .providers.port import TOO_LONG, ProviderFailed, Told

_VALUES = ("unsupported_value", "invalid_value")
TOO_LARGE = ProviderFailed(
    "rejected",
    "more tokens than the provider's limit can hold",
    went_out=False,
    told=Told(
        "The question and the longest answer that it allows are more tokens than the provider's budget can ever hold."
        " Ask for less, or allow fewer tokens for the answer.",
        code=TOO_LONG,
    ),
)
"""A provider's budget can never hold the call, so that it is not sent."""


def failure_of(error: ProviderFailed, had_s: float, least_s: float) -> Failure | None:
    """What a failure says of the provider; None: nothing. ``had_s``: the time that the call had.

    A call that had less time than a check has may well time out at a provider that works.
    """
    if error.fault != "theirs" or (error.kind == "timeout" and had_s < least_s):
        return None
    if error.kind in ("throttled", "quota"):
        return "throttled"
    return "soft" if error.went_out else "never_sent"


def is_final(error: ProviderFailed, *, safety_failover: bool) -> bool:
    """Whether the failure is the answer: another provider would be asked in vain, or for what nobody should answer."""
    if error.kind == "blocked":
        return not safety_failover
    return error.kind == "rejected" and not _is_too_long(error)


def cannot(error: ProviderFailed) -> bool:
    """Whether it says of this provider alone that it cannot do what is asked: a field, or so long a question."""
    return error.kind == "unsupported" or (error.kind == "rejected" and _is_too_long(error))


def to_tell(before: ProviderFailed | None, error: ProviderFailed) -> ProviderFailed:
    """Which of two failures the caller is told. That one provider cannot do it is no news where another one failed."""
    return before if before is not None and cannot(error) and not cannot(before) else error


def to_tell_of_all(failure: ProviderFailed | None, *, others_may: bool) -> ProviderFailed | None:
    """What the caller is told in the end; None: when a provider may be asked again.

    ``others_may``: there are providers that were not asked, and of which it is not known that they cannot do it.
    """
    return None if failure is not None and cannot(failure) and others_may else failure


def out_of_time(failure: ProviderFailed | None) -> ProviderFailed:
    """What is told where no time is left for the providers that come next."""
    if failure is not None and not cannot(failure):
        return failure
    return ProviderFailed("timeout", "no time is left", went_out=False)


def field_in(error: ProviderFailed) -> str:
    """The field that asks for what a provider cannot do; the messages where none is named."""
    told = error.told
    return told.param if told is not None and told.param and told.param != "model" else "messages"


def is_to_learn(error: ProviderFailed) -> bool:
    """Whether a provider does not have the field that it names, whatever its value."""
    told = error.told
    named = told is not None and told.param not in (None, "", "messages", "model") and told.code not in _VALUES
    return error.kind == "unsupported" and named


def _is_too_long(error: ProviderFailed) -> bool:
    return error.status == 413 or (error.told is not None and error.told.code == TOO_LONG)
