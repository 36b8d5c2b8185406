"""What is a public key, in which one spelling, and what one is told who has none."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from souq import signing
from souq.cli import console
from souq.errors import Missing, NotFound, UsageError
from tests.annals import public

SPACE, DIGEST = "souq.vote.v1", "b3:" + "7" * 64


def test_what_is_no_key_says_what_to_paste():
    line = public("amira")
    for text, said, hint in [
        ("", "not an ssh public key: ''", "paste the one line of your .pub file"),
        ("x" * 99, f"not an ssh public key: {'x' * 60!r}", "paste the one line of your .pub file"),
        (
            f"no-pty {line}", f"not a plain ssh public key: {f'no-pty {line}'[:60]!r}",
            "options before the key mean nothing here: leave them out, the key's dates go into GOVERNANCE.toml",
        ),
    ]:  # fmt: skip
        with pytest.raises(UsageError) as caught:
            signing.normal_key(text)
        assert (str(caught.value), caught.value.hint) == (said, hint)


@pytest.mark.parametrize("word", ["ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "ssh-rsa"])
def test_keys_of_every_kind_have_one_spelling(word):
    raw = base64.b64encode(len(word).to_bytes(4, "big") + word.encode() + b"rest").decode()

    assert signing.normal_key(f"{word} {raw} me") == f"{word} {raw}"
    with pytest.raises(UsageError):
        signing.normal_key(f"dss-{word} {raw}")
    with pytest.raises(UsageError):
        signing.normal_key(f"{word}x {raw}")


def test_a_key_is_no_longer_than_keys_are():
    word, room = "ssh-rsa", signing.MAX_KEY - len("ssh-rsa ")
    raw = base64.b64encode((len(word).to_bytes(4, "big") + word.encode()).ljust(room * 3 // 4, b"x")).decode()

    assert len(f"{word} {raw}") == signing.MAX_KEY
    assert signing.normal_key(f"{word} {raw}")
    with pytest.raises(UsageError):
        signing.normal_key(f"{word} {raw} ")


def test_base64_of_a_key_is_strict():
    word, raw = public("amira").split()

    with pytest.raises(UsageError):
        signing.normal_key(f"{word} {raw[:20]}!{raw[20:]}")


def test_no_key_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFound) as caught:
        signing.sign(b"{}", tmp_path / "none", namespace=SPACE)
    assert str(caught.value) == f"no key {tmp_path / 'none'}"
    assert caught.value.hint == "make one with `ssh-keygen -t ed25519`"


def test_a_key_that_cannot_sign_or_be_made_says_why(tmp_path):
    (tmp_path / "key").write_text("no key")
    with pytest.raises(UsageError) as caught:
        signing.sign(b"{}", tmp_path / "key", namespace=SPACE)
    assert str(caught.value) == f"cannot sign with {tmp_path / 'key'}: it is no private key"
    assert caught.value.hint == "is it your private ssh key?"
    with pytest.raises(UsageError) as caught:
        signing.make_key(tmp_path / "no" / "key", "x")
    assert str(caught.value).startswith(f"cannot make {tmp_path / 'no' / 'key'}: ")
    assert caught.value.hint == "name another file"


def test_a_public_key_is_beside_its_private_one_or_in_it(tmp_path):
    key = tmp_path / "key"
    signing.make_key(key, "amira@home")
    beside = signing.public_key(key)

    assert key.with_name("key.pub").read_text().split()[2] == "amira@home"
    key.with_name("key.pub").unlink()
    assert signing.public_key(key) == beside

    with pytest.raises(NotFound) as caught:
        signing.public_key(tmp_path / "none")
    assert str(caught.value) == f"no public key {tmp_path / 'none.pub'}"
    assert caught.value.hint == f"run `ssh-keygen -y -f {tmp_path / 'none'} > {tmp_path / 'none.pub'}`"


@pytest.mark.parametrize(("told", "reason"), [(r"one\ntwo \377\n", "two \ufffd"), (r"\n\n", "no reason given")])
def test_what_ssh_keygen_says_last_is_the_reason(tmp_path, monkeypatch, told, reason):
    """Even in bytes that are no text."""
    fake = tmp_path / "bin" / "ssh-keygen"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nprintf '{told}' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/bin:/usr/bin")

    with pytest.raises(UsageError) as caught:
        signing.make_key(Path("key"), "x")
    assert str(caught.value) == f"cannot make key: {reason}"


OPEN = "Permissions 0644 for 'key' are too open"
YOURS, MODE = "is it your private ssh key?", "run `chmod 600 key`, as ssh asks"


@pytest.mark.parametrize(
    ("signing_says", "reading_says", "reason", "hint"),
    [
        ("agent refused", "unasked", "agent refused", YOURS),
        (rf"@@@\n  {OPEN}.\nbad permissions", "unasked", OPEN, MODE),
        (r"first\nCouldn't load public key", rf"{OPEN}.\nignored", OPEN, MODE),
        ("Couldn't load public key", r"odd \377", "odd \ufffd", YOURS),
        ("Couldn't load public key", "", "no reason given", YOURS),
    ],
)
def test_why_a_private_key_does_not_sign(tmp_path, monkeypatch, signing_says, reading_says, reason, hint):
    """The line that says it, wherever it stands; asked for the key itself where ssh-keygen speaks of its other half."""
    fake = tmp_path / "bin" / "ssh-keygen"
    fake.parent.mkdir()
    wanted = '"$*" = "-y -P  -f key"'
    fake.write_text(f"""#!/bin/sh
if [ {wanted} ]; then printf "{reading_says}" >&2; else printf "{signing_says}" >&2; fi
exit 1
""")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/bin:/usr/bin")
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")

    with pytest.raises(UsageError) as caught:
        signing.sign(b"{}", Path("key"), namespace=SPACE)
    assert (str(caught.value), caught.value.hint) == (f"cannot sign with key: {reason}", hint)


def test_without_ssh_keygen_one_is_told_how_to_have_it(monkeypatch):

    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing) as caught:
        signing.make_key(Path("x"), "x")
    assert str(caught.value) == "ssh-keygen is not installed"
    assert caught.value.hint == "for example `apt-get install openssh-client`"


def test_now_is_in_utc_to_the_second(monkeypatch):
    """Wherever the machine stands, and spelled as records spell it."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        spelled = signing.now()
        moment = datetime.strptime(spelled, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", spelled)
        assert abs(moment.timestamp() - time.time()) < 60
    finally:
        monkeypatch.undo()
        time.tzset()


def test_either_half_of_a_pair_may_be_named(tmp_path):
    """git takes the public one; where an agent has the other, the public one is all there is."""
    key, public = tmp_path / "key", tmp_path / "key.pub"
    signing.make_key(key, "x")

    assert signing.private_of(public) == signing.private_of(key) == key
    assert signing.public_key(public) == signing.public_key(key)
    key.unlink()
    assert signing.private_of(public) == public


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"])
def test_a_public_half_is_known_by_how_it_begins(tmp_path, kind):
    """Whatever its file is called, as long as it is no longer than keys are."""
    name = base64.b64encode(len(kind).to_bytes(4, "big") + kind.encode() + bytes(36)).decode()
    line, at = f"{kind} {name}", tmp_path / "mine"
    at.write_text(line)
    assert signing.public_key(at) == line
    at.write_text(line + " " * (signing.MAX_KEY - len(line)))
    assert signing.public_key(at) == line
    at.write_text(line + " " * (signing.MAX_KEY + 1 - len(line)))
    with pytest.raises(UsageError, match="it is no private key"):
        signing.public_key(at)


def test_a_file_that_calls_itself_public_is_read_as_one(tmp_path):
    (tmp_path / "key.pub").write_text("no key")
    with pytest.raises(UsageError, match="not an ssh public key"):
        signing.public_key(tmp_path / "key.pub")
    (tmp_path / "key.pub").write_bytes(b"ssh-ed25519 \xff")
    with pytest.raises(UsageError) as caught:
        signing.public_key(tmp_path / "key")
    assert str(caught.value) == f"{tmp_path / 'key.pub'}, line 1: not UTF-8"


def test_a_key_with_a_passphrase_and_no_public_half(tmp_path):
    """Nobody is asked for it: how to write the other half is said."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    assert signing.public_key(key)
    key.with_name("key.pub").unlink()
    with pytest.raises(NotFound, match=r"no public key .*key\.pub"):
        signing.public_key(key)


def test_a_public_half_is_read_in_whatever_letters_a_shell_wrote_it(tmp_path):
    signing.make_key(tmp_path / "key", "x")
    before = signing.public_key(tmp_path / "key")
    (tmp_path / "key.pub").write_text((tmp_path / "key.pub").read_text(), encoding="utf-16")
    assert signing.public_key(tmp_path / "key") == before


def test_a_key_that_others_may_read_says_so(tmp_path):
    """ssh-keygen's last lines speak of another thing."""
    signing.make_key(tmp_path / "key", "x")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(UsageError, match=r"Permissions 0644 for .* are too open") as caught:
        signing.sign(b"{}", tmp_path / "key", namespace=SPACE)
    assert "chmod 600" in caught.value.hint
    (tmp_path / "key.pub").unlink()
    with pytest.raises(UsageError, match="too open"):
        signing.public_key(tmp_path / "key")


def test_git_s_signing_key_is_the_one_that_signs_or_is_named(tmp_path, monkeypatch):
    """Written out, by either half, or by an address; one that is not there is never replaced by another in silence."""
    for name in (".ssh/id_ed25519", ".ssh/work"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        signing.make_key(tmp_path / name, "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / ".ssh" / "work"

    class Git:
        def __init__(self, key="", kind="ssh"):
            self.told = {"user.signingkey": key, "gpg.format": kind}

        def config(self, key):
            return self.told[key]

    for named in (
        "~/.ssh/work",
        str(work),
        f"{work}.pub",
        signing.public_key(work),
        f"key::{signing.public_key(work)} me",
    ):
        assert console._key(Git(named), None) == work, named
    assert console._key(Git("3AA5C34371567BD2", ""), None) == tmp_path / ".ssh" / "id_ed25519"
    assert console._key(Git(), work.with_suffix(".pub")) == work
    (tmp_path / ".ssh" / "id_ed25519").rename(tmp_path / ".ssh" / "id_rsa")
    assert console._key(Git(), None) == tmp_path / ".ssh" / "id_rsa"
    with pytest.raises(UsageError, match=r"user\.signingkey is ~/gone"):
        console._key(Git("~/gone"), None)
