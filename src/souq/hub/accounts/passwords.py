"""Passwords, as argon2 keeps them: by its library, with the settings that RFC 9106 gives for small memory.

The same work is done whether an account is there or not, so the time of a no says nothing.

    kept = hashed("correct horse battery staple")
    holds(kept, "correct horse battery staple")    # True
"""

from __future__ import annotations

import unicodedata
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from souq.errors import UsageError

LEAST, MOST = 10, 512  # characters
_HASHER = PasswordHasher()
_AT_ONCE = BoundedSemaphore(2)  # each takes 64 MiB


def hashed(password: str) -> str:
    """What is kept of a password.

    Raises:
        UsageError: it is too short, or longer than anything honest.
    """
    if not LEAST <= len(password) <= MOST:
        raise UsageError(f"a password has {LEAST} to {MOST} characters", hint="a few words that nobody says together")
    with _AT_ONCE:
        return _HASHER.hash(_bytes(password))


def holds(kept: str, password: str) -> bool:
    """Whether this is the password; where nothing is kept, no, after the same work."""
    with _AT_ONCE:
        try:
            right = _HASHER.verify(kept or _nobody_s(), _bytes(password[:MOST]))
        except (VerificationError, InvalidHashError):
            return False
    return right and bool(kept) and len(password) <= MOST


def _bytes(password: str) -> bytes:
    """One spelling of letters that keyboards compose in two ways (RFC 8265)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


@cache
def _nobody_s() -> str:
    return _HASHER.hash(b"\0 nobody has this password")
