"""Who said what: in-toto statements in DSSE envelopes, signed with the ssh keys people already have.

OpenSSH and OpenSSL do the cryptography; this file decides what is signed and refuses what could be read two ways.
A signature made for one kind of record (its namespace) is no signature for another.

Sources: in-toto Statement v1 (https://github.com/in-toto/attestation), DSSE v1
(https://github.com/secure-systems-lab/dsse), SSHSIG (OpenSSH, PROTOCOL.sshsig).

    vote = statement("urn:souq:vote:1", "contributions/0001-x", digest, {"choice": "approve"})
    sealed = sign(vote, key, namespace="souq.vote.v1")
    verify(sealed, keys=[public], namespace="souq.vote.v1").key == public
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature as NotSigned
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from sshsig import InvalidSignature, check_signature
from sshsig.sshsig import SshsigSignature, SshsigWrapper

from souq.errors import Forged, Hostile, Missing, NotFound, UsageError
from souq.records import Author, Digest, Record, canonical, digest, is_digest, read_json, refuse_control
from souq.text import decoded

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_ENVELOPE = 1 << 20
MAX_SIGNATURES = 16
MAX_KEY = 8 << 10


class Signature(Record, frozen=True):
    """One signature; `keyid` is the key's fingerprint, a hint that is never trusted."""

    keyid: str
    sig: str  # an armoured SSH signature, in base64 as DSSE asks


class Envelope(Record, frozen=True, rename="camel"):
    """DSSE: a payload, its type, and signatures over both."""

    payload_type: str
    payload: str  # base64
    signatures: tuple[Signature, ...]


@dataclass(frozen=True)
class Person:
    """Who is at this keyboard: a name for people, and the private key that speaks for them."""

    name: str
    email: str
    key: Path
    org: str = ""

    @cached_property
    def public_key(self) -> str:
        return public_key(self.key)

    @property
    def author(self) -> Author:
        return Author(name=self.name, email=self.email, key=self.public_key, org=self.org)


def now() -> str:
    """The time, as records spell it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Signed:
    """A statement whose signature holds, and the public key that made it."""

    kind: str  # the predicate type
    name: str  # what it is about, contributions/0001-x
    subject: Digest
    predicate: dict[str, Any]
    key: str
    envelope: bytes  # it came in, in the one spelling souq writes: what a record is named by

    @property
    def id(self) -> Digest:
        return digest(self.envelope)


def statement(kind: str, name: str, subject: Digest, predicate: dict[str, Any]) -> bytes:
    """The canonical bytes of an in-toto statement about one contribution, release or model."""
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"blake3": subject.removeprefix("b3:")}}],
            "predicateType": kind,
            "predicate": predicate,
        }
    )


def sign(payload: bytes, key: Path, *, namespace: str) -> Envelope:
    """Sign a statement with an ssh private key; ssh-keygen asks for a passphrase on the terminal if there is one.

    Raises:
        NotFound: no such key.
        UsageError: ssh-keygen could not sign with it.
    """
    if not key.is_file():
        raise NotFound(f"no key {key}", hint="make one with `ssh-keygen -t ed25519`")
    with tempfile.TemporaryDirectory() as folder:
        message = Path(folder) / "message"
        message.write_bytes(_pae(payload))
        done = _ssh_keygen("-Y", "sign", "-q", "-f", str(key), "-n", namespace, str(message))
        if done.returncode:
            raise _unusable(key, done.stderr)
        armour = message.with_suffix(".sig").read_bytes()
    return enveloped(payload, public_key(key), armour)


def enveloped(payload: bytes, key: str, armour: bytes) -> Envelope:
    """An envelope as souq writes it, of a payload and the signature of one key."""
    sealed = Signature(keyid=fingerprint(key), sig=base64.b64encode(armour).decode())
    return Envelope(payload_type=PAYLOAD_TYPE, payload=base64.b64encode(payload).decode(), signatures=(sealed,))


def verify(envelope: bytes, *, keys: Iterable[str], namespace: str) -> Signed:
    """The statement in an envelope, if one of `keys` (ssh public keys) signed it for this namespace.

    Raises:
        Forged: no signature by any of them holds, or the envelope is not one souq writes.
    """
    payload, key, signature = _unsealed(envelope, keys, namespace)
    return _statement_in(payload, key, canonical(enveloped(payload, key, _spelled(signature))))


def kind_of(envelope: bytes) -> str:
    """The predicate type of what an envelope holds, whoever signed it; only `verify` says that it is signed as that.

    Raises:
        Forged: it is no envelope, or holds no statement.
    """
    try:
        return str(read_json(_envelope_in(envelope)[1])["predicateType"])
    except (Hostile, KeyError, TypeError) as error:
        raise Forged(f"signed, but not a statement souq knows: {error}") from error


def unseal(envelope: bytes, *, keys: Iterable[str], namespace: str) -> tuple[bytes, str]:
    """What an envelope holds, unread, and which of `keys` signed it for this namespace.

    Raises:
        Forged: no signature by any of them holds.
    """
    return _unsealed(envelope, keys, namespace)[:2]


def _unsealed(envelope: bytes, keys: Iterable[str], namespace: str) -> tuple[bytes, str, Signature]:
    sealed, payload = _envelope_in(envelope)
    known = frozenset(normal_key(key) for key in keys)
    signers = [signer(_pae(payload), signature, known, namespace) for signature in sealed.signatures]
    for key, signature in zip(signers, sealed.signatures, strict=True):
        if key in known:
            return payload, key, signature
    # Of several signatures the one that nearly held says most; a stranger's beside it says nothing.
    raise Forged(min(signers, key=_REFUSALS.index), hint="who signed it must stand in GOVERNANCE.toml")


def peek(envelope: bytes) -> dict[str, Any]:
    """What an envelope says, whoever signed it: for finding what it names, never for believing it."""
    try:
        predicate = read_json(_envelope_in(envelope)[1])["predicate"]
    except (Forged, Hostile, KeyError, TypeError):
        return {}
    return predicate if isinstance(predicate, dict) and isinstance(predicate.get("after", []), list) else {}


def make_key(key: Path, comment: str) -> None:
    """A new ed25519 key without a passphrase, its public half beside it.

    Raises:
        UsageError: ssh-keygen would not make it, for example because one is there already.
    """
    done = _ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key), stdin=b"n\n")
    if done.returncode:
        raise UsageError(f"cannot make {key}: {_last_line(done.stderr)}", hint="name another file")


def public_key(key: Path) -> str:
    """The public half of a private key: from the file beside it, or from the key itself, which may be that half.

    Raises:
        NotFound: no such key, or one with a passphrase and no file beside it.
        UsageError: no ssh key, or one that ssh-keygen does not take.
    """
    beside = key.with_name(key.name + ".pub")
    if public := next((path for path in (beside, key) if _is_public(path)), None):
        return normal_key(decoded(public.read_bytes(), str(public)))
    done = _ssh_keygen("-y", "-P", "", "-f", str(key))
    if done.returncode and b"passphrase" not in done.stderr and key.is_file():
        raise _unusable(key, done.stderr)
    if done.returncode:
        raise NotFound(f"no public key {beside}", hint=f"run `ssh-keygen -y -f {key} > {beside}`")
    return normal_key(done.stdout.decode())


def private_of(key: Path) -> Path:
    """The private key of a pair of which either half was named; the public one, where an agent has the private one."""
    private = key.with_suffix("")
    return private if key.suffix == ".pub" and private.is_file() else key


def _is_public(path: Path) -> bool:
    """Whether a file is a pair's public half."""
    if not path.is_file() or path.stat().st_size > MAX_KEY:
        return False
    return path.suffix == ".pub" or path.read_bytes().startswith((b"ssh-", b"ecdsa-", b"sk-"))


def _unusable(key: Path, stderr: bytes) -> UsageError:
    """Why a key does not sign, in ssh-keygen's words: the line that says it is not always its last.

    Raises:
        OSError: no key is at fault: the disk is full.
    """
    if (full := os.strerror(errno.ENOSPC)).encode() in stderr:  # it writes the signature beside the message
        raise OSError(errno.ENOSPC, full, tempfile.gettempdir())
    hint = "is it your private ssh key?"
    if b"PRIVATE KEY" not in key.read_bytes()[:MAX_KEY]:
        return UsageError(f"cannot sign with {key}: it is no private key", hint=hint)
    if "load public key" in _last_line(stderr):  # it could not read the private one, and then looked for another
        stderr = _ssh_keygen("-y", "-P", "", "-f", str(key)).stderr
    lines = stderr.decode("utf-8", "replace").splitlines()
    if reason := next((line.strip().rstrip(".") for line in lines if "too open" in line), None):
        return UsageError(f"cannot sign with {key}: {reason}", hint=f"run `chmod 600 {key}`, as ssh asks")
    return UsageError(f"cannot sign with {key}: {_last_line(stderr)}", hint=hint)


def normal_key(text: str) -> str:
    """`type base64`, without options or comment: one key, one spelling.

    Raises:
        UsageError: not an ssh public key.
    """
    words = text.split()
    if len(words) >= 2 and len(text) <= MAX_KEY and words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        try:
            raw = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if raw[4 : 4 + len(words[0])] == words[0].encode():
            return f"{words[0]} {base64.b64encode(raw).decode()}"
    if any(word.startswith(("ssh-", "ecdsa-", "sk-")) for word in words[1:]):
        hint = "options before the key mean nothing here: leave them out, the key's dates go into GOVERNANCE.toml"
        raise UsageError(f"not a plain ssh public key: {text[:60]!r}", hint=hint)
    raise UsageError(f"not an ssh public key: {text[:60]!r}", hint="paste the one line of your .pub file")


def fingerprint(key: str) -> str:
    """`SHA256:…`, as ssh-keygen -l prints it."""
    raw = base64.b64decode(normal_key(key).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: type and payload, each with its length."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _envelope_in(data: bytes) -> tuple[Envelope, bytes]:
    if len(data) > MAX_ENVELOPE:
        raise Forged(f"an envelope of {len(data):,} bytes; the most is {MAX_ENVELOPE:,}")
    try:
        read_json(data)
        sealed = msgspec.json.decode(data, type=Envelope)
        payload = base64.b64decode(sealed.payload, validate=True)
    except (Hostile, ValueError, msgspec.MsgspecError) as error:
        raise Forged(f"not an envelope: {error}") from error
    if sealed.payload_type != PAYLOAD_TYPE or not 0 < len(sealed.signatures) <= MAX_SIGNATURES:
        raise Forged("not an envelope of an in-toto statement with signatures")
    return sealed, payload


_REFUSALS = (
    "its signature does not hold",
    "signed as another kind of record",
    "signed by a tool of another version",
    "not signed by anybody who is known here",
)
"""What a signature may be instead, what says most first."""


def signer(message: bytes, signature: Signature, keys: frozenset[str], namespace: str) -> str:
    """Which of these keys made the signature, or why it is none of theirs.

    ed25519 is checked here, by OpenSSL. For other kinds of keys ssh-keygen is asked, which takes thirty times as long:
    only about what OpenSSL takes, so that no stranger makes it run, and once.
    """
    wrong, other, version, stranger = _REFUSALS
    try:
        armour = base64.b64decode(signature.sig, validate=True)
        blob = SshsigSignature.from_armored(armour)
    except NotImplementedError:  # sshsig's word for a signature of a version that it does not know
        return version
    except (ValueError, AssertionError):
        return wrong
    kind = blob.public_key[4 : 4 + int.from_bytes(blob.public_key[:4], "big")].decode("ascii", "replace")
    key = f"{kind} {base64.b64encode(blob.public_key).decode()}"
    if key not in keys:
        return stranger
    if blob.namespace != namespace.encode():
        return other
    # One signature, one spelling: nothing before, inside or behind it that a reader could take for something else.
    if _armoured(armour) != bytes(blob) or blob.hash_algo not in (b"sha256", b"sha512"):
        return wrong
    if kind != "ssh-ed25519":
        is_worth_asking = _could_hold(message, blob)
        return key if is_worth_asking and _keygen_verifies(message, _spelled(signature), key, namespace) else wrong
    try:
        check_signature(message, armour, namespace)
    except (InvalidSignature, NotImplementedError, ValueError, AssertionError):
        return wrong
    return key


_ARMOUR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)\n-----END SSH SIGNATURE-----\n?")


def _armoured(armour: bytes) -> bytes:
    """What stands between the lines that begin and end a signature; nothing where there is more."""
    match = _ARMOUR.fullmatch(armour)
    try:
        return base64.b64decode(match[1].replace(b"\n", b""), validate=True) if match else b""
    except binascii.Error:
        return b""


def _spelled(signature: Signature) -> bytes:
    """The armour of a signature that holds, as ssh-keygen breaks its lines."""
    body = base64.b64encode(_armoured(base64.b64decode(signature.sig)))
    lines = [body[at : at + 70] for at in range(0, len(body), 70)]
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""])


_RSA = {b"rsa-sha2-256": SHA256, b"rsa-sha2-512": SHA512}
_CURVES = {
    b"nistp256": (ec.SECP256R1, SHA256),
    b"nistp384": (ec.SECP384R1, SHA384),
    b"nistp521": (ec.SECP521R1, SHA512),
}


def _could_hold(signed: bytes, blob: SshsigSignature) -> bool:
    """What OpenSSL says of a signature by a key that is not ed25519; yes of a kind that is not known here.

    In one spelling: whoever has a signature that holds could else write it in a million ways.
    """
    hashed = hashlib.new(blob.hash_algo.decode(), signed).digest()
    message = bytes(SshsigWrapper(namespace=blob.namespace, hash_algo=blob.hash_algo, hash=hashed))
    try:
        (kind, *key), (how, raw, *touched) = _strings_in(blob.public_key), _strings_in(blob.signature, 2)
        if how.startswith(b"webauthn-"):
            return True
        if kind.startswith(b"sk-"):  # a device signs that it was touched, and how often
            message = hashlib.sha256(key.pop()).digest() + b"".join(touched) + hashlib.sha256(message).digest()
        elif touched:
            return False
        if kind == b"ssh-rsa":
            exponent, modulus = (int.from_bytes(number, "big") for number in key)
            whole = raw.rjust((modulus.bit_length() + 7) // 8, b"\0")  # some agents leave them out
            RSAPublicNumbers(exponent, modulus).public_key().verify(whole, message, PKCS1v15(), _RSA[how]())
        elif b"ecdsa-sha2-" in kind:
            curve, hashing = _CURVES[key[0]]
            pair = [int.from_bytes(number, "big") for number in _strings_in(raw)]
            point = ec.EllipticCurvePublicKey.from_encoded_point(curve(), key[1])
            point.verify(encode_dss_signature(*pair), message, ec.ECDSA(hashing()))
            return how == kind and raw == b"".join(map(_number, pair))
        elif kind == b"sk-ssh-ed25519@openssh.com":
            Ed25519PublicKey.from_public_bytes(key[0]).verify(raw, message)
            return how == kind
    except (NotSigned, ValueError, KeyError, IndexError, TypeError):
        return False
    return True


def _strings_in(data: bytes, most: int = 8) -> list[bytes]:
    """The strings in what ssh wrote, each behind its length; what is left after `most` of them as it is.

    Raises:
        ValueError: it ends before it should.
    """
    strings = list[bytes]()
    while data and len(strings) < most:
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < end:
            raise ValueError("cut")
        strings.append(data[4:end])
        data = data[end:]
    return [*strings, data] if data else strings


def _number(value: int) -> bytes:
    """A number as ssh writes it: no longer than it is, and never negative."""
    size = value.bit_length() // 8 + 1
    return size.to_bytes(4, "big") + value.to_bytes(size, "big")


_ASKED: dict[bytes, bool] = {}
MAX_ASKED = 1 << 16


def _keygen_verifies(message: bytes, armour: bytes, key: str, namespace: str) -> bool:
    """What ssh-keygen says, asked once however often a signature is copied."""
    name = hashlib.sha256(canonical([namespace, key, digest(message), digest(armour)])).digest()
    if name not in _ASKED:
        if len(_ASKED) >= MAX_ASKED:
            _ASKED.clear()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sig").write_bytes(armour)
            (Path(folder) / "allowed").write_text(f'signer namespaces="{namespace}" {key}\n')
            words = ("-Y", "verify", "-f", f"{folder}/allowed", "-I", "signer", "-n", namespace, "-s", f"{folder}/sig")
            _ASKED[name] = _ssh_keygen(*words, stdin=message).returncode == 0
    return _ASKED[name]


def _statement_in(payload: bytes, key: str, envelope: bytes) -> Signed:
    try:
        in_toto = read_json(payload)
        refuse_control(in_toto, where="a statement")
        (subject,) = in_toto["subject"]
        signed = Signed(
            kind=str(in_toto["predicateType"]),
            name=str(subject["name"]),
            subject="b3:" + subject["digest"]["blake3"],
            predicate=dict(in_toto["predicate"]),
            key=key,
            envelope=envelope,
        )
        one_spelling = canonical(in_toto) == payload
    except (Hostile, ValueError, KeyError, TypeError) as error:
        raise Forged(f"signed, but not a statement souq knows: {error}") from error
    if not one_spelling or in_toto.get("_type") != STATEMENT_TYPE or not is_digest(signed.subject):
        raise Forged("signed, but not in the one spelling souq writes")
    return signed


def _ssh_keygen(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *words], input=stdin, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise Missing("ssh-keygen is not installed", hint="for example `apt-get install openssh-client`") from error


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
