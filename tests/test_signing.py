"""What a signature promises: it is for these bytes, by this key, in this namespace, or it is none."""

from __future__ import annotations

import base64
import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from souq import signing
from souq.errors import Forged, NotFound, UsageError
from souq.records import canonical

DIGEST = "b3:" + "7" * 64
SPACE = "souq.vote.v1"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        signing.make_key(folder / name, f"{name}@example")
    return folder


@pytest.fixture(scope="module")
def sealed(keys):
    said = signing.statement("urn:souq:vote:1", "contributions/0001-x", DIGEST, {"choice": "approve"})
    return canonical(signing.sign(said, keys / "mine", namespace=SPACE))


def public(keys, name="mine"):
    return signing.public_key(keys / name)


def test_what_was_said_comes_back_with_who_said_it(keys, sealed):
    said = signing.verify(sealed, keys=[public(keys, "other"), public(keys)], namespace=SPACE)

    assert (said.kind, said.subject, said.predicate) == ("urn:souq:vote:1", DIGEST, {"choice": "approve"})
    assert said.key == public(keys)


def test_a_signature_is_for_one_namespace(keys, sealed):
    """A vote is no merge, whoever signed it."""
    with pytest.raises(Forged):
        signing.verify(sealed, keys=[public(keys)], namespace="souq.merge.v1")


def test_a_stranger_s_signature_counts_for_nothing(keys, sealed):
    with pytest.raises(Forged):
        signing.verify(sealed, keys=[public(keys, "other")], namespace=SPACE)


@pytest.mark.parametrize("change", ["payload", "sig", "payloadType"])
def test_nothing_in_an_envelope_can_be_changed(keys, sealed, change):
    told = json.loads(sealed)
    if change == "payload":
        said = base64.b64decode(told["payload"]).replace(b"approve", b"decline")
        told["payload"] = base64.b64encode(said).decode()
    elif change == "sig":
        told["signatures"][0]["sig"] = base64.b64encode(b"-----BEGIN SSH SIGNATURE-----\n").decode()
    else:
        told["payloadType"] = "text/plain"

    with pytest.raises(Forged):
        signing.verify(json.dumps(told).encode(), keys=[public(keys)], namespace=SPACE)


def test_one_spelling_only(keys):
    """A signed statement with a key twice, or blanks, could be read two ways: it is refused."""
    said = signing.statement("urn:souq:vote:1", "x", DIGEST, {"choice": "approve"})
    for other in (said.replace(b'"approve"', b'"approve","choice":"reject"'), said.replace(b":", b": ", 1)):
        forged = canonical(signing.sign(other, keys / "mine", namespace=SPACE))
        with pytest.raises(Forged):
            signing.verify(forged, keys=[public(keys)], namespace=SPACE)


def test_a_wrong_fingerprint_is_only_a_wrong_hint(keys, sealed):
    told = json.loads(sealed)
    told["signatures"][0]["keyid"] = signing.fingerprint(public(keys, "other"))

    assert signing.verify(json.dumps(told).encode(), keys=[public(keys)], namespace=SPACE).key == public(keys)


def test_fingerprints_are_ssh_keygen_s(keys):
    told = subprocess.run(["ssh-keygen", "-l", "-f", keys / "mine.pub"], capture_output=True, text=True, check=True)

    assert signing.fingerprint(public(keys)) == told.stdout.split()[1]


def test_a_key_has_one_spelling(keys):
    """Comments and blanks do not make a second voter."""
    line = public(keys)

    assert signing.normal_key(f"  {line}   somebody@else \n") == line


@pytest.mark.parametrize("text", ["", "hello", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(UsageError):
        signing.normal_key(text)


def test_a_missing_key_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFound) as caught:
        signing.sign(b"{}", tmp_path / "none", namespace=SPACE)

    assert "ssh-keygen" in caught.value.hint


def test_namespaces_are_a_format():
    """What was signed years ago is verified under these very names: no module that moves takes one along."""
    text = "".join(path.read_text() for path in Path(signing.__file__).parent.rglob("*.py"))
    kinds = (
        "checked",
        "forge",
        "merge",
        "provenance",
        "release",
        "scores",
        "signoff",
        "vote",
        "vouch",
        "draw",
        "witness",
    )

    spelled = {*re.findall(r"souq\.[\w.]+\.v1", text)}  # others are made of their kind, f"souq.{kind}.v1"
    assert {"souq.witness.v1", "souq.release.v1"} <= spelled <= {f"souq.{kind}.v1" for kind in kinds}


def test_a_full_disk_is_no_fault_of_a_key(keys, tmp_path):
    """ssh-keygen writes the signature beside the message: here the message has taken the last page there was."""
    room, python = (
        tmp_path / "room",
        f"""
from pathlib import Path
from souq import signing
try:
    signing.sign(b"x", Path({str(keys / "mine")!r}), namespace="souq.vote.v1")
except OSError as error:
    print(error.errno, error.filename)
""",
    )
    room.mkdir()
    line = 'mount -t tmpfs -o size=4k tmpfs "$1" && TMPDIR="$1" exec "$2" -c "$3"'
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        line,
        "sh",
        str(room),
        sys.executable,
        python,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr or "denied" in done.stderr:
        pytest.skip("no disk of one's own can be mounted here")

    assert done.stdout == f"{errno.ENOSPC} {room}\n", done.stderr
