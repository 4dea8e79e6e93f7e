"""How webhooks are signed. Comparisons take the same time whatever is wrong, and see the bytes as they came."""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Sequence
from typing import Literal, get_args

from relayd.sources.base import Forged

Algorithm = Literal["sha256", "sha1"]

INVALID, STALE = "invalid_signature", "stale_signature"
MAX_SIGNATURES = 16
"""Of one request that are compared."""


def digest(secret: str, signed: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """The HMAC of what was signed."""
    return hmac.digest(secret.encode(), signed, algorithm)


def require_any(expected: bytes, found: Sequence[bytes], where: str) -> None:
    """Raise `Forged` unless one of the signatures is the expected one; all of them are looked at."""
    matches = [hmac.compare_digest(expected, each) for each in found[:MAX_SIGNATURES]]
    if not any(matches):
        why = "does not fit the body and the secret" if found else "is missing or no signature"
        raise Forged(INVALID, f"{where} {why}")


def require_recent(signed_at: float | None, tolerance: float, now: float, where: str) -> None:
    """Raise `Forged` unless the time is within ``tolerance`` seconds of ``now``; 0 allows any."""
    if not tolerance:
        return
    if signed_at is None:
        raise Forged(INVALID, f"{where} has no time that can be read")
    if abs(now - signed_at) > tolerance:
        raise Forged(
            STALE, f"the webhook was signed {now - signed_at:.0f} s ago, more than the tolerance; check clocks"
        )


def candidates(text: str) -> list[bytes]:
    """What a signature may be that is in hex or base64, perhaps after ``sha256=``."""
    text = text.strip()
    for algorithm in get_args(Algorithm):
        text = text.removeprefix(f"{algorithm}=")
    return [found for found in (from_hex(text), from_base64(text)) if found]


def from_hex(text: str) -> bytes:
    """The bytes that hex digits spell; none for other texts."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def from_base64(text: str) -> bytes:
    """The bytes that base64 spells; none for other texts."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def require_secret(secret: str, given: str, where: str) -> None:
    """Raise `Forged` unless a header's value is the secret, perhaps after ``Bearer``."""
    scheme, _, rest = given.partition(" ")
    if scheme.lower() == "bearer":
        given = rest.strip()
    if not hmac.compare_digest(secret.encode(), given.encode("latin-1")):
        raise Forged(INVALID, f"{where} {'is not the secret' if given else 'is missing'}")
