"""OpenSSF model signatures over a whole folder, by the ssh key a person has already, checked by `model_signing` itself.

The signature is model_signing's own (https://github.com/sigstore/model-transparency), in its mode for keys, which asks
no server. It takes keys on NIST's curves, so an `ecdsa-sha2-nistp256` ssh key is at once a voice in GOVERNANCE.toml and
an OpenSSF identity; an ed25519 key cannot be.

    sign(Path("out"), Path("id_ecdsa"))
    verify(Path("out"), [public_pem("ecdsa-sha2-nistp256 AAAA…")])
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from souq.errors import Forged, Missing, NotFound, UsageError
from souq.records import read_json

SIGNATURE = "model.sig"
_CURVES = ("ecdsa-sha2-nistp256 ", "ecdsa-sha2-nistp384 ", "ecdsa-sha2-nistp521 ")


def usable(key: str) -> bool:
    """Whether an ssh public key is on a curve that model_signing takes."""
    return key.startswith(_CURVES)


def public_pem(key: str) -> bytes:
    """An ssh public key as `ssh-keygen -e -m PKCS8` writes it.

    Raises:
        Missing: the optional part is not installed.
    """
    return _pem(_crypto().load_ssh_public_key(key.encode()))


def public_of(key: Path, password: str | None = None) -> bytes:
    """The public half of a private key, in PEM."""
    return _pem(_private(key, password).public_key())


def ready(key: Path, password: str | None = None) -> None:
    """Raise now what `sign` would raise after minutes of work."""
    _model_signing()
    _private(key, password)


def sign(folder: Path, key: Path, password: str | None = None) -> None:
    """Write `model.sig` into a folder: a signature on every file that is in it now.

    Raises:
        UsageError: not a private key on a curve that model_signing takes.
        Missing: the optional part is not installed.
    """
    signing = _model_signing().signing
    with _on_disk(_private_bytes(_private(key, password))) as path:
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=path)
            config.set_hashing_config(_hashing(())).sign(folder, folder / SIGNATURE)
        except ValueError as error:
            raise UsageError(f"cannot sign with {key}: {error}", hint="take an ecdsa-sha2-nistp256 key") from error


def verify(folder: Path, keys: Iterable[bytes], *, ignored: Iterable[str] = ()) -> bytes:
    """Which of these public keys (PEM) made the signature that stands in a folder; the others' files are as signed.

    Raises:
        Forged: none of them, another file than was signed, or a spelling that could be read two ways.
        Missing: the optional part is not installed.
    """
    verifying, data = _model_signing().verifying, (folder / SIGNATURE).read_bytes()
    hint = _hint(data)
    normal = {_pem(_crypto().load_pem_public_key(pem)): pem for pem in keys}
    key = next((pem for pem in normal if hashlib.sha256(pem).hexdigest() == hint), None)
    if key is None:
        raise Forged("is by a key that is nobody's here", hint="name its public half, a PEM file, with --public-key")
    with _on_disk(key) as path:
        config = verifying.Config().use_elliptic_key_verifier(public_key=path)
        try:
            config.set_hashing_config(_hashing(ignored, links=True)).verify(folder, folder / SIGNATURE)
        except Exception as error:  # model_signing raises what its libraries raise
            raise Forged(f"model_signing does not verify it: {error or type(error).__name__}") from error
    return normal[key]


def _hint(data: bytes) -> str:
    """Who says they made a signature, by the sha256 of their public key; nothing else is read from it unsigned."""
    bundle = read_json(data)
    material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
    (signature,) = envelope["signatures"]
    plain = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": material["publicKey"]["hint"]}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _base64(envelope["payload"]),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": _base64(signature["sig"]), "keyid": ""}],
        },
    }
    if plain != _full(bundle):
        raise Forged("holds more than a signature by a key")
    if json.dumps(bundle, separators=(",", ":")).encode() != data:
        raise Forged("is not in the spelling model_signing writes")
    return str(material["publicKey"]["hint"])


def _full(bundle: dict[str, Any]) -> dict[str, Any]:
    """With the empty fields that one version of model_signing writes and another leaves out."""
    material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
    signatures = [{"keyid": "", **signature} for signature in envelope["signatures"]]
    return bundle | {
        "verificationMaterial": {"tlogEntries": [], **material},
        "dsseEnvelope": envelope | {"signatures": signatures},
    }


def _base64(text: str) -> str:
    return base64.b64encode(base64.b64decode(text, validate=True)).decode()


def _hashing(ignored: Iterable[str], *, links: bool = False) -> Any:
    """`links`: a link to a file is that file, as the hub's clients keep what they bring; what it leads to is hashed."""
    paths = [SIGNATURE, *ignored]  # of the folder
    config = _model_signing().hashing.Config().set_allow_symlinks(links)
    return config.set_ignored_paths(paths=paths, ignore_git_paths=True)


@contextmanager
def _on_disk(pem: bytes) -> Iterator[Path]:
    """A key where model_signing can read it, for as long as it does, for this user alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        yield path


def _private(key: Path, password: str | None) -> Any:
    """A private key in OpenSSH's form or in PEM."""
    if not key.is_file():
        raise NotFound(f"no key {key}", hint="make one with `ssh-keygen -t ecdsa`")
    data, secret = key.read_bytes(), password.encode() if password else None
    crypto = _crypto()
    from cryptography.exceptions import UnsupportedAlgorithm

    load = crypto.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data[:64] else crypto.load_pem_private_key
    try:
        loaded = load(data, secret)
    except TypeError as error:
        raise UsageError(f"{key} has a passphrase, or has none", hint="give it with --ask-passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"cannot read {key}: {error}", hint="name a private key, in OpenSSH's form or PEM") from error
    if getattr(getattr(loaded, "curve", None), "name", "") not in ("secp256r1", "secp384r1", "secp521r1"):
        raise UsageError(
            f"{key} is not on a curve that model_signing takes", hint="make one with `ssh-keygen -t ecdsa`"
        )
    return loaded


def _private_bytes(key: Any) -> bytes:
    crypto = _crypto()
    pem: bytes = key.private_bytes(crypto.Encoding.PEM, crypto.PrivateFormat.PKCS8, crypto.NoEncryption())
    return pem


def _pem(key: Any) -> bytes:
    crypto = _crypto()
    pem: bytes = key.public_bytes(crypto.Encoding.PEM, crypto.PublicFormat.SubjectPublicKeyInfo)
    return pem


def _crypto() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise _missing() from error
    return serialization


def _model_signing() -> Any:
    try:
        import model_signing
        from model_signing import hashing, signing, verifying  # noqa: F401
    except ImportError as error:
        raise _missing() from error
    return model_signing


def _missing() -> Missing:
    return Missing("model_signing is not installed", hint='run `pip install "souq[sign]"`')
