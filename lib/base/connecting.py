"""Why a connection failed, in a few words for the log."""

import socket


def why(error: BaseException, host: str | None) -> str:
    """The kind of an error that ended a call; where the host cannot be found, its name too."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return f"{type(error).__name__}: the host {host} cannot be found"
        # httpcore raises its own error "from None": what it met is the context then.
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
