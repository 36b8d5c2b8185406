"""People and their ssh keys, made by ssh-keygen; what ed25519 signs is signed here, since a suite signs thousands.

keys = Keys.make(folder)
keys["amira"].sign(b"payload", namespace="souq.vote.v1")
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from souq import signing
from souq.records import canonical

PEOPLE = {
    "amira": "Atlas", "adil": "Atlas", "bruno": "Borealis", "chen": "University", "dora": "Delta Labs",
    "mallory": "Nowhere",
}  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {
    "amira-2": ("ed25519",), "bruno-rsa": ("rsa", "-b", "2048"), "chen-ecdsa": ("ecdsa", "-b", "256"),
}  # fmt: skip
"""Second keys of some."""


@dataclass(frozen=True)
class Holder:
    """A key and whose it is."""

    name: str
    key: Path

    @cached_property
    def public(self) -> str:
        return signing.public_key(self.key)

    @cached_property
    def _private(self) -> Ed25519PrivateKey | None:
        private = load_ssh_private_key(self.key.read_bytes(), None)
        return private if isinstance(private, Ed25519PrivateKey) else None

    def sign(self, payload: bytes, namespace: str, *, version: int = 1) -> signing.Signature:
        """One signature of a DSSE envelope, as an SSHSIG of that version."""
        if self._private is None:
            return signing.sign(payload, self.key, namespace=namespace).signatures[0]
        return sshsig(self._private, payload, namespace, version=version)


def public_of(private: Ed25519PrivateKey) -> str:
    """The line of a .pub file, without a comment."""
    return str(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "ascii")


def sshsig(
    private: Ed25519PrivateKey, payload: bytes, namespace: str, *, version: int = 1, hashed: str = "sha512"
) -> signing.Signature:
    """One signature of a DSSE envelope, as ssh-keygen makes it (OpenSSH, PROTOCOL.sshsig)."""
    public, head = public_of(private), _strings(namespace.encode(), b"", hashed.encode())
    made = private.sign(b"SSHSIG" + head + _strings(hashlib.new(hashed, signing._pae(payload)).digest()))
    blob = b"SSHSIG" + version.to_bytes(4, "big") + _strings(base64.b64decode(public.split()[1])) + head
    body = base64.b64encode(blob + _strings(_strings(b"ssh-ed25519", made))).decode()
    lines = "".join(f"{body[at : at + 70]}\n" for at in range(0, len(body), 70))  # as long as ssh-keygen's
    armour = f"-----BEGIN SSH SIGNATURE-----\n{lines}-----END SSH SIGNATURE-----\n"
    return signing.Signature(keyid=signing.fingerprint(public), sig=base64.b64encode(armour.encode()).decode())


def _strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def seal(payload: bytes, signatures: list[signing.Signature]) -> bytes:
    """An envelope."""
    return canonical(
        signing.Envelope(
            payload_type=signing.PAYLOAD_TYPE, payload=base64.b64encode(payload).decode(), signatures=tuple(signatures)
        )
    )


class Keys(dict[str, Holder]):
    """Everybody's keys by the name of the key; `amira-2` is Amira's second."""

    @classmethod
    def make(cls, folder: Path) -> Keys:
        """New keys, by ssh-keygen."""
        folder.mkdir(parents=True, exist_ok=True)
        kinds: dict[str, tuple[str, ...]] = dict.fromkeys(PEOPLE, ("ed25519",)) | KINDS
        for name, (kind, *bits) in kinds.items():
            words = ["ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-C", f"{name}@example", "-f", str(folder / name)]
            subprocess.run(words, check=True)
        return cls({name: Holder(name.partition("-")[0], folder / name) for name in kinds})


__all__ = ["PEOPLE", "Holder", "Keys", "public_of", "seal", "sshsig"]
