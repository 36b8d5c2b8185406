"""A text to sign with an ssh key, to sign in or to prove a key: of this hub, for minutes, once.

The signature is of a kind of its own (`-n souq-hub`), so none of a vote opens an account, and none made here is a vote.
The text names the hub as its owner named it; who is asked to sign one of another host's is being cheated.

    asked = challenge(secret, "hub.example", "ada")
    asked.command    # printf %s '…' | ssh-keygen -Y sign -n souq-hub -f ~/.ssh/id_ed25519
"""

from __future__ import annotations

import base64
import re
import secrets
import shlex
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError
from sshsig.sshsig import SshsigSignature

from souq import signing
from souq.errors import Forged, Refused
from souq.hub.accounts.sessions import is_sealed, seal
from souq.hub.accounts.tokens import in_days
from souq.hub.database.tables import Spent

NAMESPACE = "souq-hub"
MINUTES = 10
MAX_ARMOUR = 8 << 10  # characters
_FORM = re.compile(r"souq hub (\S+): (sign in|a key of \S+) until (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ([0-9a-f]{32})")


@dataclass(frozen=True)
class Challenge:
    """What a page gives out, and wants back with a signature."""

    text: str
    seal: str

    @property
    def command(self) -> str:
        """What to type."""
        return f"printf %s {shlex.quote(self.text)} | ssh-keygen -Y sign -n {NAMESPACE} -f ~/.ssh/id_ed25519"


def challenge(secret: bytes, host: str, account: str = "") -> Challenge:
    """A new one: to prove a key of an account, or to sign in."""
    until, nonce = in_days(MINUTES / 1_440), secrets.token_hex(16)
    text = f"souq hub {host}: {_purpose(account)} until {until} {nonce}"
    return Challenge(text, seal(secret, "challenge", text))


def signed_by(secret: bytes, given: Challenge, armour: str, *, host: str, account: str = "") -> str:
    """The key that signed what was given out; `spend` has it count once.

    Raises:
        Refused: it is not this hub's, is for something else, or is too old.
        Forged: the signature does not hold.
    """
    match = _FORM.fullmatch(given.text) if len(given.text) < 400 else None
    if match is None or not is_sealed(secret, given.seal, "challenge", given.text):
        raise Refused("this text was not given out here")
    if match[1] != host or match[2] != _purpose(account):
        raise Refused("this text was given out for something else")
    if match[3] <= signing.now():
        raise Refused("this text is too old", hint="sign the new one")
    return signer_of(given.text.encode(), plain_armour(armour), NAMESPACE)


def signer_of(message: bytes, armour: bytes, namespace: str) -> str:
    """Which ssh public key signed a message as it stands, by `ssh-keygen -Y sign -n namespace`.

    Raises:
        Forged: the signature does not hold, or was made for something else.
    """
    try:
        blob = SshsigSignature.from_armored(armour).public_key
    except (NotImplementedError, ValueError, AssertionError) as error:
        raise Forged("this is no signature of ssh-keygen's") from error
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode("ascii", "replace")
    key = f"{kind} {base64.b64encode(blob).decode()}"
    signature = signing.Signature(keyid="", sig=base64.b64encode(armour).decode())
    if (signer := signing.signer(message, signature, frozenset([key]), namespace)) != key:
        raise Forged(signer)
    return key


def spend(connection: Connection, given: Challenge) -> None:
    """Have it count no more; at the same time as what it was for.

    Raises:
        Refused: it was used.
    """
    connection.execute(delete(Spent).where(Spent.expires <= signing.now()))
    match = _FORM.fullmatch(given.text)
    try:
        with connection.begin_nested():
            connection.execute(insert(Spent).values(nonce=match[4] if match else "", expires=match[3] if match else ""))
    except IntegrityError as error:
        raise Refused("this text was used", hint="sign the new one") from error


def plain_armour(text: str) -> bytes:
    """A signature as ssh-keygen writes it, of what a browser made of its lines.

    Raises:
        Forged: far too long for one.
    """
    if len(text) > MAX_ARMOUR:
        raise Forged("its signature does not hold")
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join([line for line in lines if line]).encode("utf-8", "replace") + b"\n"


def _purpose(account: str) -> str:
    return f"a key of {account}" if account else "sign in"
