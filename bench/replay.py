"""Judging a long history: 100, 1,000 and 10,000 contributions with three votes each, one core, a cold process each.

The histories are real git with real ed25519 signatures: every contribution a change of weights with its sign-off,
verdicts, three votes and merge record, under the foundation's policy. They are written by git fast-import, and signed
here rather than by ssh-keygen, which would take ten minutes; ssh-keygen is asked about one of each kind. Beside it:
what ssh-keygen alone would need for the same signatures.

    python bench/replay.py [100 1000 10000]
"""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha512
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from machine import describe
from souq import signing
from souq.governance import CHECKS, Who, foundation
from souq.records import Author, Checked, Contribution, Verdict, Vote, canonical, digest, format_toml
from souq.repo.config import Config
from souq.repo.contribution import Offer
from souq.signing import PAYLOAD_TYPE, Envelope, Signature
from souq.weights.delta import Delta, Lora, TensorRef
from souq.weights.lockfile import format_delta, format_lock, lock_digest

SOUQ = Path(sys.executable).with_name("souq")
PEOPLE = {"amira": "Atlas", "bruno": "Borealis", "chen": "University", "dina": "Press"}
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
GOAL = 60.0


class Signer:
    """A person with a real key, who signs faster than ssh-keygen and the same."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, path = name, folder / name
        signing.make_key(path, name)
        self.public = signing.public_key(path)
        key = load_ssh_private_key(path.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self._key = key

    def record(self, kind: str, slug: str, subject: str, predicate: dict[str, Any]) -> bytes:
        return self.sealed(kind, signing.statement(f"urn:souq:{kind}:1", f"contributions/{slug}", subject, predicate))

    def sealed(self, kind: str, payload: bytes) -> bytes:
        """A statement in its envelope."""
        space, pae = _string(f"souq.{kind}.v1".encode()), signing._pae(payload)
        asked = b"SSHSIG" + space + _string(b"") + _string(b"sha512") + _string(sha512(pae).digest())
        blob = _string(base64.b64decode(self.public.split()[1]))
        sig = _string(_string(b"ssh-ed25519") + _string(self._key.sign(asked)))
        raw = b"SSHSIG" + struct.pack(">I", 1) + blob + space + _string(b"") + _string(b"sha512") + sig
        text = base64.b64encode(raw).decode()
        lines = "\n".join(text[i : i + 70] for i in range(0, len(text), 70))
        armour = f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n".encode()
        sealed = Signature(keyid=signing.fingerprint(self.public), sig=base64.b64encode(armour).decode())
        return canonical(
            Envelope(
                payload_type=PAYLOAD_TYPE, payload=base64.b64encode(payload).decode(), signatures=(sealed,)
            )
        )  # fmt: skip


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class Writing(Protocol):
    def write(self, data: bytes, /) -> object: ...


def build(folder: Path, count: int) -> None:
    """A repository with so many landings."""
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    (keys := folder.with_suffix(".keys")).mkdir()
    people = [Signer(name, keys) for name in PEOPLE]
    policy = foundation([Who(name=p.name, org=PEOPLE[p.name], keys=(p.public,)) for p in people])
    base = {"model.w.weight": TensorRef.of(np.zeros((8, 8), np.float32))}
    config = Config(name="bench", licence="Apache-2.0", base="zeros")
    files = {
        "souq.toml": format_toml(config).encode(), "GOVERNANCE.toml": policy.encode(), "base.lock": format_lock(base).encode(),
        "model.lock": format_lock(base).encode(), "model/config.json": b"{}",
    }  # fmt: skip
    ask, answer = os.pipe()
    words = ["git", "fast-import", "--quiet", f"--cat-blob-fd={answer}"]
    git = subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE, pass_fds=[answer])
    os.close(answer)
    assert git.stdin is not None
    with os.fdopen(ask, "rb", buffering=0) as told:
        tip = _commit(git.stdin, told, files, 1)
        for number in range(1, count + 1):
            tip = _commit(git.stdin, told, _landing(number, tip, people, base), number + 1)
        git.stdin.close()
        git.wait()


def _commit(git: Any, told: Any, files: dict[str, bytes], mark: int) -> str:
    lines = [
        f"commit refs/heads/main\nmark :{mark}\ncommitter bench <bench@localhost> {mark} +0000\ndata 2\nx\n".encode()
    ]
    for path, data in files.items():
        lines.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
    git.write(b"".join(lines) + f"\nget-mark :{mark}\n".encode())
    git.flush()
    return bytes(told.read(41)).decode().strip()


def _landing(number: int, before: str, people: list[Signer], base: dict[str, TensorRef]) -> dict[str, bytes]:
    """One contribution by one of four, checked by the next, approved by the other three, merged."""
    author, *others = (people[(number + i) % 4] for i in range(4))
    slug, chance = f"{number:04d}-a-change", np.random.default_rng(number)
    part = Lora(
        a=TensorRef.of(chance.random((1, 8), np.float32)), b=TensorRef.of(chance.random((8, 1), np.float32)), scale=1.0
    )
    signoff = f"{author.name} <{author.name}@localhost>"
    c = Contribution(
        title=f"Change {number}", kind="weights", licence="CC0-1.0", signoff=signoff,
        author=Author(name=author.name, email=f"{author.name}@localhost", key=author.public, org=PEOPLE[author.name]),
    )  # fmt: skip
    files = {
        "contribution.toml": format_toml(c).encode(),
        "delta.lock": format_delta(Delta(lock_digest(base), {"model.w.weight": part})).encode(),
    }
    subject = Offer(slug, files).digest
    at = (BEGIN + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    records = [author.record("signoff", slug, subject, {"at": at, "licence": "CC0-1.0"})]
    verdicts = tuple(
        Verdict(check=name, outcome="pass", because="measured and found to be within bounds") for name in CHECKS
    )
    found = Checked(subject=subject, base=before, verdicts=verdicts, by=others[0].name, at=at, after=_seen(records))
    records.append(others[0].record("checked", slug, subject, msgspec.to_builtins(found)))
    for other in others:
        vote = Vote(subject=subject, choice="approve", reason="it holds", by=other.name, at=at, after=_seen(records))
        records.append(other.record("vote", slug, subject, msgspec.to_builtins(vote)))
    told = {"pr": number, "base": before, "by": others[1].name, "at": at, "after": list(_seen(records))}
    names = ("signoff", "checked-1", "vote-1", "vote-2", "vote-3", "merge")
    records.append(others[1].record("merge", slug, subject, told))
    files |= {f"records/{name}.json": data for name, data in zip(names, records, strict=True)}
    return {f"contributions/{slug}/{path}": data for path, data in files.items()}


def _seen(records: list[bytes]) -> tuple[str, ...]:
    return (digest(records[-1]),)


def judged(folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of a cold `souq verify --no-rebuild` on one core, and what it said."""
    words = ["taskset", "-c", "0", SOUQ, "verify", "--no-rebuild", "--json", str(folder)]
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, check=False)
    took = time.perf_counter() - begun
    report = json.loads(done.stdout)
    if done.returncode or report["findings"]:
        raise SystemExit(f"not verified: {report['findings'][:3]}")
    return took, report


def keygen(folder: Path) -> float:
    """Seconds of one `ssh-keygen -Y verify`, over the records of the last contribution; each must hold."""
    slug = max(path.name for path in _below(folder))
    took = []
    for path in sorted((folder / "contributions" / slug / "records").iterdir()):
        sealed = json.loads(path.read_bytes())
        kind = path.stem.partition("-")[0]
        with tempfile.TemporaryDirectory() as here:
            sig, allowed = Path(here) / "sig", Path(here) / "allowed"
            sig.write_bytes(base64.b64decode(sealed["signatures"][0]["sig"]))
            keys = [file.read_text() for file in folder.with_suffix(".keys").glob("*.pub")]
            allowed.write_text("".join(f"signer {key}" for key in keys))
            words = ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "signer", "-n", f"souq.{kind}.v1", "-s", sig]
            begun = time.perf_counter()
            subprocess.run(
                words, input=signing._pae(base64.b64decode(sealed["payload"])), capture_output=True, check=True
            )
            took.append(time.perf_counter() - begun)
    return sorted(took)[len(took) // 2]


def _below(folder: Path) -> Iterator[Path]:
    subprocess.run(["git", "reset", "-q", "--hard"], cwd=folder, check=True)
    return (folder / "contributions").iterdir()


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [100, 1_000, 10_000]
    print(describe())
    each = {}
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as home:
        for count in counts:
            folder = Path(home) / f"r{count}"
            build(folder, count)
            took, report = judged(folder)
            each[count] = took / count
            told = f"{report['landings']:,} contributions, {3 * count:,} votes, {6 * count:,} signatures"
            goal = f" (goal {GOAL:.0f} s)" if count == 10_000 else ""
            print(f"{told}: {took:.1f} s on one core{goal}, {1000 * took / count:.2f} ms each", flush=True)
        one = keygen(Path(home) / f"r{counts[0]}")
        last = counts[-1]
        print(
            f"ssh-keygen alone for the last: {6 * last * one:.0f} s, ratio {each[last] * last / (6 * last * one):.2f}"
        )
    few, many = counts[0], counts[-1]
    print(
        f"each at {many:,} against each at {few:,}: ratio {each[many] / each[few]:.2f} (1 is linear; the start is in it)"
    )


if __name__ == "__main__":
    main()
