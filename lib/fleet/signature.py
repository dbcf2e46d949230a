"""Who sent a report: an HMAC-SHA256 with the reporter's secret over its name, the time and the body.

Authorization: Breakwater <reporter>:<unix seconds>:<hex digest of "<reporter>:<unix seconds>:" and the body>
"""

import hashlib
import hmac

from ..base.values import dataclass

SCHEME = "Breakwater"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a header says; nothing of it is proved yet."""

    reporter: str
    at_s: int
    digest: str


def claim_of(header: str) -> Claim | None:
    """What an ``Authorization`` header claims; None where it has another form."""
    scheme, _, rest = header.partition(" ")
    parts = rest.strip().rsplit(":", 2)
    if scheme.lower() != SCHEME.lower() or len(parts) != 3:
        return None
    reporter, at_s, digest = parts
    if not (at_s.isascii() and at_s.isdigit() and len(at_s) <= 12):
        return None
    return Claim(reporter, int(at_s), digest)


def sign(secret: str, reporter: str, at_s: int, body: bytes) -> str:
    """The hexadecimal digest."""
    signed = f"{reporter}:{at_s}:".encode() + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def header_of(secret: str, reporter: str, at_s: int, body: bytes) -> str:
    """The value of the ``Authorization`` header of a report."""
    return f"{SCHEME} {reporter}:{at_s}:{sign(secret, reporter, at_s, body)}"


def proves(claim: Claim, secret: str, body: bytes) -> bool:
    """Whether whoever made the claim has the secret. In constant time."""
    expected = sign(secret, claim.reporter, claim.at_s, body)
    return hmac.compare_digest(expected.encode(), claim.digest.encode())
