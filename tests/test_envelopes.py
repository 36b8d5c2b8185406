"""What may stand in an envelope: one spelling, one signer, one namespace; everything else is turned away in words."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sshsig.sshsig import SshsigSignature

from souq import signing
from souq.errors import Forged
from souq.records import canonical, digest
from tests.annals import public, seal

SPACE, DIGEST = "souq.vote.v1", "b3:" + "7" * 64


SAID = signing.statement("urn:souq:vote:1", "contributions/0001-x", DIGEST, {"choice": "approve"})
KEYS = [public("bruno"), f"{public('amira')} amira@home"]


def opened(data, *, keys=KEYS, namespace=SPACE):
    return signing.verify(data, keys=keys, namespace=namespace)


def refused(data, **more):
    with pytest.raises(Forged) as caught:
        opened(data, **more)
    return str(caught.value)


def armour_of(data) -> bytes:
    return base64.b64decode(json.loads(data)["signatures"][0]["sig"])


def with_armour(data, *armours: bytes) -> bytes:
    told = json.loads(data)
    told["signatures"] = [{"keyid": "", "sig": base64.b64encode(armour).decode()} for armour in armours]
    return json.dumps(told).encode()


GOOD = seal(SAID, "amira", SPACE)
ARMOUR = armour_of(GOOD)
STRANGER = armour_of(seal(SAID, "mallory", SPACE))


@pytest.mark.parametrize("hashed", ["sha512", "sha256"])
def test_what_ssh_signs_is_read(hashed):
    sealed = seal(SAID, "amira", SPACE, hashed=hashed)

    assert opened(sealed) == signing.Signed(
        "urn:souq:vote:1", "contributions/0001-x", DIGEST, {"choice": "approve"}, public("amira"), sealed
    )
    assert opened(sealed).id == digest(sealed)
    assert signing.kind_of(sealed) == "urn:souq:vote:1"


def test_a_record_has_one_name_however_its_envelope_is_spelled():
    """Other key ids, line breaks and signatures of others are outside what was signed; its signer does not change."""
    wide = ARMOUR.replace(b"\n", b"").replace(b"-----BEGIN SSH SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----\n")
    wide = wide.replace(b"-----END", b"\n-----END") + b"\n"
    respelled = [with_armour(GOOD, ARMOUR), with_armour(GOOD, wide), with_armour(GOOD, STRANGER, ARMOUR)]

    assert [opened(data).envelope for data in respelled] == [GOOD] * 3
    assert len({GOOD, *respelled}) == 4


def test_what_an_envelope_holds_may_be_handed_on_unread():
    """By whom, too; and not where nobody who is known signed it as that."""
    sealed = seal(b"no statement", "amira", SPACE)

    assert signing.unseal(sealed, keys=KEYS, namespace=SPACE) == (b"no statement", public("amira"))
    for keys, namespace in ((KEYS, "souq.merge.v1"), (KEYS[:1], SPACE)):
        with pytest.raises(Forged):
            signing.unseal(sealed, keys=keys, namespace=namespace)


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"7", b"\xff", b'{"predicateType":1,"predicateType":2}'])
def test_what_holds_no_statement_is_of_no_kind(payload):
    with pytest.raises(Forged, match="not a statement souq knows"):
        signing.kind_of(seal(payload, "amira", SPACE))


def test_ssh_keygen_reads_what_these_tests_sign(tmp_path):
    (tmp_path / "sig").write_bytes(ARMOUR)
    (tmp_path / "allowed").write_text(f"amira {public('amira')}\n")
    words = ["-Y", "verify", "-f", tmp_path / "allowed", "-I", "amira", "-n", SPACE, "-s", tmp_path / "sig"]
    told = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(SAID), SAID)

    assert subprocess.run(["ssh-keygen", *words], input=told, capture_output=True, check=False).returncode == 0


def _by_ssh_keygen(tmp_path, *words):
    subprocess.run(["ssh-keygen", "-q", "-t", *words, "-N", "", "-f", tmp_path / "key"], check=True)
    sealed = canonical(signing.sign(SAID, tmp_path / "key", namespace=SPACE))
    return sealed, signing.public_key(tmp_path / "key")


def _by_device(curve=None):
    """What a hardware key makes of it: that it was touched, and how often, is signed too."""
    private = ec.generate_private_key(curve) if curve else Ed25519PrivateKey.generate()
    how, form = (Encoding.X962, PublicFormat.UncompressedPoint) if curve else (Encoding.Raw, PublicFormat.Raw)
    kind = b"sk-ecdsa-sha2-nistp256@openssh.com" if curve else b"sk-ssh-ed25519@openssh.com"
    point = private.public_key().public_bytes(how, form)
    blob = _strings(kind, *([b"nistp256"] if curve else []), point, b"ssh:")
    said = b"SSHSIG" + _strings(SPACE.encode(), b"", b"sha512", hashlib.sha512(signing._pae(SAID)).digest())
    touched = b"\1" + (7).to_bytes(4, "big")
    message = hashlib.sha256(b"ssh:").digest() + touched + hashlib.sha256(said).digest()
    if curve:
        numbers = decode_dss_signature(private.sign(message, ec.ECDSA(SHA256())))
        made = _strings(*(number.to_bytes(number.bit_length() // 8 + 1, "big") for number in numbers))
    else:
        made = private.sign(message)
    whole = _strings(blob, SPACE.encode(), b"", b"sha512", _strings(kind, made) + touched)
    armour = base64.encodebytes(b"SSHSIG\0\0\0\1" + whole)
    armour = b"-----BEGIN SSH SIGNATURE-----\n" + armour + b"-----END SSH SIGNATURE-----\n"
    return with_armour(GOOD, armour), f"{kind.decode()} {base64.b64encode(blob).decode()}"


def _strings(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


OTHERS = {
    "rsa": lambda at: _by_ssh_keygen(at, "rsa", "-b", "2048"),
    "nistp256": lambda at: _by_ssh_keygen(at, "ecdsa"),
    "nistp384": lambda at: _by_ssh_keygen(at, "ecdsa", "-b", "384"),
    "nistp521": lambda at: _by_ssh_keygen(at, "ecdsa", "-b", "521"),
    "ed25519 in a device": lambda at: _by_device(),
    "nistp256 in a device": lambda at: _by_device(ec.SECP256R1()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_keys_are_read_by_ssh_keygen(tmp_path, monkeypatch, kind):
    """Once for each signature that OpenSSL takes; a stranger, who can make none, never makes it run."""
    sealed, mine = OTHERS[kind](tmp_path)
    asked, ask = [], signing._ssh_keygen
    monkeypatch.setattr(signing, "_ssh_keygen", lambda *words, **more: asked.append(words) or ask(*words, **more))

    assert opened(sealed, keys=[mine]).key == mine
    respelled = json.loads(sealed)
    respelled["signatures"][0]["keyid"] = "SHA256:other"
    assert opened(json.dumps(respelled).encode(), keys=[mine]).key == mine
    assert len(asked) == 1

    changed = json.loads(sealed)
    changed["payload"] = base64.b64encode(SAID.replace(b"approve", b"decline")).decode()
    assert refused(json.dumps(changed).encode(), keys=[mine]) == "its signature does not hold"
    assert refused(sealed, keys=[mine], namespace="souq.merge.v1") == "signed as another kind of record"
    whole = base64.b64decode(b"".join(armour_of(sealed).splitlines()[1:-1]))
    for byte in range(len(whole) - 90, len(whole)):  # the signature itself, what it says it is, and a device's word
        odd = whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :]
        armour = b"-----BEGIN SSH SIGNATURE-----\n" + base64.encodebytes(odd) + b"-----END SSH SIGNATURE-----\n"
        assert refused(with_armour(sealed, armour), keys=[mine])
    assert len(asked) == 1


def test_a_signature_of_rsa_may_leave_out_the_zeros_before_it(tmp_path, monkeypatch):
    """As some agents do; ssh-keygen puts them back."""
    sealed, mine = _by_ssh_keygen(tmp_path, "rsa", "-b", "1024")
    blob = SshsigSignature.from_armored(armour_of(sealed))
    payload = SAID
    while blob.signature[-128]:
        payload += b" "
        blob = SshsigSignature.from_armored(
            armour_of(canonical(signing.sign(payload, tmp_path / "key", namespace=SPACE)))
        )
    blob.signature = _strings(b"rsa-sha2-512", blob.signature[-128:].lstrip(b"\0"))
    signature = signing.Signature(keyid="", sig=base64.b64encode(blob.to_armored().encode()).decode())

    assert signing.signer(signing._pae(payload), signature, frozenset([mine]), SPACE) == mine


ODD = ["another algorithm", "another curve", "no such hash", "no point", "cut", "longer numbers", "more behind it"]


@pytest.mark.parametrize("odd", ODD)
def test_a_signature_that_says_it_is_another_is_none(tmp_path, monkeypatch, odd):
    """Nor is it asked about, or in the way."""
    sealed, mine = _by_ssh_keygen(tmp_path, *(["rsa", "-b", "2048"] if odd == "no such hash" else ["ecdsa"]))
    blob = SshsigSignature.from_armored(armour_of(sealed))
    how, raw = signing._strings_in(blob.signature)
    if odd == "another algorithm":
        blob.signature = _strings(how.replace(b"256", b"384")) + blob.signature[4 + len(how) :]
    elif odd == "another curve":
        blob.public_key = blob.public_key.replace(b"nistp256\0", b"nistp999\0")
    elif odd == "no such hash":
        blob.signature = _strings(b"ssh-rsa") + blob.signature[4 + len(how) :]
    elif odd == "no point":
        blob.public_key = blob.public_key[:-1] + bytes([blob.public_key[-1] ^ 1])
    elif odd == "longer numbers":
        blob.signature = _strings(how, _strings(*(b"\0" + number for number in signing._strings_in(raw))))
    elif odd == "more behind it":
        blob.signature += bytes(5)
    else:
        blob.signature = _strings(how, raw[:9])
    kind = blob.public_key[4 : 4 + int.from_bytes(blob.public_key[:4], "big")].decode()
    mine = f"{kind} {base64.b64encode(blob.public_key).decode()}"
    monkeypatch.setattr(signing, "_ssh_keygen", lambda *words, **more: pytest.fail("ssh-keygen was asked"))

    assert refused(with_armour(sealed, blob.to_armored().encode()), keys=[mine]) == "its signature does not hold"


def test_what_a_browser_signs_for_a_device_is_left_to_ssh_keygen(monkeypatch):
    """It signs more than OpenSSL is told here. How much of what it said is remembered has a bound."""
    sealed, mine = _by_device(ec.SECP256R1())
    asked = []
    monkeypatch.setattr(signing, "_ssh_keygen", lambda *words, **more: subprocess.CompletedProcess(asked.append(1), 1))
    monkeypatch.setattr(signing, "_ASKED", {})
    monkeypatch.setattr(signing, "MAX_ASKED", 2)
    whole = base64.b64decode(b"".join(armour_of(sealed).splitlines()[1:-1]))
    kind = b"sk-ecdsa-sha2-nistp256@openssh.com"
    for number in range(3):
        blob = SshsigSignature(whole)
        blob.signature = _strings(b"webauthn-" + kind, bytes([number])) + bytes(5)
        odd = with_armour(sealed, blob.to_armored().encode())
        for _ in range(2):
            assert refused(odd, keys=[mine]) == "its signature does not hold"
    assert (len(asked), len(signing._ASKED)) == (3, 1)


def test_why_a_signature_is_none_is_told():
    """And of several, the one that nearly held says most; one that holds is enough."""
    changed = json.loads(GOOD)
    changed["payload"] = base64.b64encode(SAID.replace(b"approve", b"decline")).decode()
    version = base64.b64decode(b"".join(ARMOUR.splitlines()[1:-1]))
    newer = b"SSHSIG" + b"\0\0\0\2" + version[10:]
    newer = b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(newer) + b"\n-----END SSH SIGNATURE-----\n"
    stranger, other = "not signed by anybody who is known here", "signed as another kind of record"

    assert refused(json.dumps(changed).encode()) == "its signature does not hold"
    assert refused(GOOD, namespace="souq.merge.v1") == other
    assert refused(GOOD, keys=[public("chen")]) == stranger
    assert refused(with_armour(GOOD, newer)) == "signed by a tool of another version"
    assert refused(with_armour(GOOD, STRANGER, newer)) == "signed by a tool of another version"
    assert refused(with_armour(GOOD, STRANGER, ARMOUR), namespace="souq.merge.v1") == other
    assert opened(with_armour(GOOD, STRANGER, newer, ARMOUR)).key == public("amira")
    with pytest.raises(Forged) as caught:
        opened(GOOD, keys=[])
    assert caught.value.hint == "who signed it must stand in GOVERNANCE.toml"


def _respelled():
    lines = ARMOUR.splitlines(keepends=True)
    body = b"".join(line.strip() for line in lines[1:-1])
    raw = base64.b64decode(body)
    yield "before", b"x\n" + ARMOUR
    yield "behind", ARMOUR + b"x"
    yield "two line feeds", ARMOUR + b"\n"
    yield "a blank inside", lines[0] + b" " + b"".join(lines[1:])
    yield "more bytes", lines[0] + base64.b64encode(raw + b"x") + b"\n" + lines[-1]
    yield "fewer bytes", lines[0] + base64.b64encode(raw[:-1]) + b"\n" + lines[-1]
    yield "no base64", lines[0] + body[:-1] + b"\n" + lines[-1]
    yield "odd base64", lines[0] + body[:-2] + b"\n" + lines[-1]
    yield "another hash", armour_of(seal(SAID, "amira", SPACE, hashed="sha384"))
    yield "nothing", b""
    yield "a flipped bit", lines[0] + base64.b64encode(raw[:-1] + bytes([raw[-1] ^ 1])) + b"\n" + lines[-1]


@pytest.mark.parametrize(("what", "armour"), list(_respelled()), ids=lambda x: x if isinstance(x, str) else "")
def test_a_signature_has_one_spelling(what, armour):
    assert refused(with_armour(GOOD, armour)) == "its signature does not hold"


def test_a_signature_may_be_wrapped_anywhere():
    lines = ARMOUR.splitlines()
    assert opened(with_armour(GOOD, b"\n".join([lines[0], b"".join(lines[1:-1]), lines[-1]])))


# -- envelopes ---------------------------------------------------------------------------------------------------------


def test_an_envelope_is_small_and_holds_some_signatures():
    limit = signing.MAX_ENVELOPE
    assert refused(b" " * (limit + 1)) == "an envelope of 1,048,577 bytes; the most is 1,048,576"
    assert refused(b" " * limit).startswith("not an envelope: ")
    odd = "not an envelope of an in-toto statement with signatures"
    assert refused(with_armour(GOOD)) == odd
    assert refused(with_armour(GOOD, *[STRANGER] * 17)) == odd
    assert opened(with_armour(GOOD, *[STRANGER] * 15, ARMOUR))
    assert opened(with_armour(GOOD, ARMOUR))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"payloadType": "text/plain"}, "not an envelope of an in-toto statement with signatures"),
        ({"payload": "%%%"}, "not an envelope: "),
        ({"payload": 3}, "not an envelope: "),
        ({"signatures": None}, "not an envelope: "),
        ({"signatures": [{"keyid": "", "sig": "%%"}]}, "its signature does not hold"),
        (
            {"signatures": [{"keyid": "", "sig": base64.b64encode(ARMOUR).decode() + "\n"}]},
            "its signature does not hold",
        ),
    ],
)
def test_what_is_no_envelope_is_turned_away(change, why):
    assert refused(json.dumps(json.loads(GOOD) | change).encode()).startswith(why)


def test_json_that_could_be_read_two_ways_is_none():
    assert refused(GOOD.replace(b'{"payload"', b'{"payload":"","payload"')).startswith(
        "not an envelope: a key stands twice"
    )
    assert refused(b"\xff").startswith("not an envelope: ")
    assert refused(b"[]").startswith("not an envelope: ")


def test_what_an_envelope_says_can_be_looked_at_without_belief():
    """And what cannot be read, or names what it saw in no list, says nothing."""
    assert signing.peek(with_armour(GOOD, STRANGER)) == {"choice": "approve"}
    assert signing.peek(seal(statement_with({"after": ["x"]}), "mallory", "x")) == {"after": ["x"]}
    for odd in (b"{}", seal(b"[]", "amira", "x"), seal(b"{}", "amira", "x"), seal(b"\xff", "amira", "x")):
        assert signing.peek(odd) == {}
    for predicate in (3, {"after": 3}, None):
        assert signing.peek(seal(statement_with(predicate), "amira", "x")) == {}


def statement_with(predicate):
    return canonical(json.loads(SAID) | {"predicate": predicate})


# -- statements --------------------------------------------------------------------------------------------------------


def signed(payload: bytes) -> bytes:
    return seal(payload, "amira", SPACE)


TOLD = json.loads(SAID)


@pytest.mark.parametrize(
    "payload",
    [
        SAID.replace(b":", b": ", 1),
        canonical(TOLD | {"_type": "https://in-toto.io/Statement/v0.1"}),
        canonical(TOLD | {"subject": [{"name": "x", "digest": {"blake3": "7" * 63}}]}),
        canonical(TOLD | {"subject": [{"name": "x", "digest": {"blake3": "G" * 64}}]}),
    ],
)
def test_a_statement_has_one_spelling(payload):
    assert refused(signed(payload)) == "signed, but not in the one spelling souq writes"


@pytest.mark.parametrize(
    "payload",
    [
        b"[]", b"3", b"{", SAID.replace(b'"approve"', b'"approve","choice":"reject"'),
        canonical({k: v for k, v in TOLD.items() if k != "predicateType"}),
        canonical(TOLD | {"subject": []}),
        canonical(TOLD | {"subject": TOLD["subject"] * 2}),
        canonical(TOLD | {"subject": [{"name": "x", "digest": {"sha256": "7" * 64}}]}),
        canonical(TOLD | {"subject": [{"digest": {"blake3": "7" * 64}}]}),
        canonical(TOLD | {"subject": [{"name": "x", "digest": {"blake3": 7}}]}),
        canonical(TOLD | {"predicate": 3}),
        canonical(TOLD | {"predicate": {"reason": "\x1b[2J"}}),
        canonical({"_type": signing.STATEMENT_TYPE}),
    ],
)  # fmt: skip
def test_what_is_no_statement_is_turned_away(payload):
    assert refused(signed(payload)).startswith("signed, but not a statement souq knows: ")


def test_where_a_control_character_was_is_said():
    assert "a statement: a control character (U+001B)" in refused(
        signed(canonical(TOLD | {"predicate": {"a": "\x1b"}}))
    )


def test_a_statement_without_its_type_is_none():
    assert refused(signed(canonical({k: v for k, v in TOLD.items() if k != "_type"})))
