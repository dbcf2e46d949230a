"""Bearer tokens for operators, compared in constant time; a route is closed while its token is not configured."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ..base.env import LEAST_SECRET, Secret
from .problems import Problem
from .request import Request


def require(request: Request, secret: Secret | None, variable: str) -> None:
    """Let a request with ``Authorization: Bearer <secret>`` pass. Raises Problem."""
    if secret is None:
        raise Problem("closed", f"Set {variable} and deploy again to open this route.")
    if secret.is_short:
        raise Problem("closed", f"Set {variable} to {LEAST_SECRET} characters or more, and deploy again.")
    scheme, _, token = request.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not _same(token.strip(), secret.value):
        detail = f"Send Authorization: Bearer with the value of {variable}."
        raise Problem("unauthorized", detail, headers={"www-authenticate": "Bearer"})


def require_one(request: Request, secrets: Sequence[Secret | None], variables: str) -> None:
    """Let a request with one of these secrets as its bearer token pass. Raises Problem."""
    usable = [each for each in secrets if each is not None and not each.is_short]
    if not usable:
        raise Problem("closed", f"Set the value of {variables}, with {LEAST_SECRET} characters or more, to open this.")
    scheme, _, token = request.header("authorization").partition(" ")
    # All are compared, whichever matches.
    matching = sum(_same(token.strip(), each.value) for each in usable)
    if scheme.lower() != "bearer" or not matching:
        detail = f"Send Authorization: Bearer with the value of {variables}."
        raise Problem("unauthorized", detail, headers={"www-authenticate": "Bearer"})


def named_by(request: Request, secrets: Mapping[str, Secret], variable: str) -> str:
    """The name of the secret that a request has as its bearer token. Raises Problem."""
    if not secrets:
        raise Problem("closed", f"Set {variable} and deploy again to open this route.")
    scheme, _, token = request.header("authorization").partition(" ")
    # All are compared, whichever matches.
    matching = [name for name, secret in secrets.items() if _same(token.strip(), secret.value)]
    if scheme.lower() != "bearer" or not matching:
        detail = f"Send Authorization: Bearer with a secret of {variable}."
        raise Problem("unauthorized", detail, headers={"www-authenticate": "Bearer"})
    if len(matching) > 1:
        raise Problem("closed", f"{' and '.join(matching)} have one secret in {variable}: give each its own.")
    return matching[0]


def view_of(secret: Secret, day: str) -> str:
    """The key that opens what viewers may read, and nothing else, on one UTC day: an HMAC of the day (``2026-11-20``).

    It travels in the address, because an edge does not cache replies to requests with an Authorization header.
    """
    text = f"breakwater overview {day}".encode()
    return f"{day}.{hmac.new(secret.value.encode(), text, hashlib.sha256).hexdigest()}"


def may_view(view: str, secret: Secret | None, now_ms: int) -> bool:
    """Whether a key opens the overview now; the neighbouring days' do as well, for clocks that differ."""
    if secret is None or secret.is_short:
        return False
    today = datetime.fromtimestamp(now_ms / 1000, UTC)
    days = [(today + timedelta(days=offset)).strftime("%Y-%m-%d") for offset in (-1, 0, 1)]
    # All are compared, whichever matches.
    return sum(_same(view, view_of(secret, day)) for day in days) > 0


def _same(given: str, expected: str) -> bool:
    # Digests first: neither content nor length of the secret shows in the time.
    digests = [hashlib.sha256(text.encode(errors="surrogatepass")).digest() for text in (given, expected)]
    return hmac.compare_digest(*digests)
