"""A repository of years: 10,000 contributions of 1,000 people, 200 releases, 2,000 open pull requests; what one types daily.

All of it is real git with real signatures, written as `replay.py` writes it: four in ten contributions change weights, one
in fifty is a release, the others bring rows; every pull request that landed keeps its refs, so there are 70,000. Each verb
is a cold process on one core, `first` in a clone that remembers nothing and `then` once more, the least of three. Beside
it the same repository a tenth and a hundredth as long: what grows is seen.

    python bench/many.py [FOLDER [100 1000 10000]]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from machine import describe
from replay import BEGIN, PEOPLE, SOUQ, Signer
from souq.governance import CHECKS, Who, foundation
from souq.records import Author, Checked, Contribution, Recipe, Release, Verdict, Vote, digest, format_toml
from souq.repo.config import Config
from souq.repo.contribution import Offer
from souq.repo.git import blob_name
from souq.repo.landing import files_gained
from souq.signing import statement
from souq.weights.delta import Delta, Lora, TensorRef
from souq.weights.lockfile import format_delta, format_lock, lock_digest

AUTHORS, OPEN, RELEASES = (
    1_000,
    2_000,
    50,
)  # people who offer; open pull requests of 10,000; one in so many is a release
ROUNDS = 3
VERBS = ("status", "pr list", "pr list --all", "log", "pr view {0} --no-forecast", "verify --no-rebuild")


@dataclass
class Town:
    """A repository as it is written: git's importer, and all refs it is to have."""

    git: Any
    told: Any
    people: list[Signer]
    authors: list[Signer]
    base: dict[str, TensorRef]
    refs: dict[str, str] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)  # commits, by what the importer calls them

    def commit(self, ref: str, before: str, files: dict[str, bytes]) -> str:
        """One commit on a ref, after `before`."""
        mark = len(self.marks) + 1
        head = f"commit {ref}\nmark :{mark}\ncommitter bench <bench@localhost> {mark} +0000\ndata 2\nx\n"
        lines = [(head + (f"from :{self.marks[before]}\n" if before else "")).encode()]
        lines += [
            b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data) for path, data in files.items()
        ]
        self.git.stdin.write(b"".join([*lines, b"\nget-mark :%d\n" % mark]))
        self.git.stdin.flush()
        self.refs[ref] = oid = self.told.read(41).decode().strip()
        self.marks[oid] = mark
        return oid

    def offer(self, number: int, main: str) -> Offer:
        """What somebody offers."""
        author, chance = self.authors[number % len(self.authors)], np.random.default_rng(number)
        kind = "release" if number % RELEASES == 0 else "weights" if number % 5 in (1, 2) else "data"
        files: dict[str, bytes] = {}
        if kind == "weights":
            a, b = (TensorRef.of(chance.random(shape, np.float32)) for shape in ((1, 8), (8, 1)))
            delta = Delta(lock_digest(self.base), {"model.w.weight": Lora(a=a, b=b, scale=1.0)})
            files["delta.lock"] = format_delta(delta).encode()
        elif kind == "data":
            files["data/rows.jsonl"] = b'{"text": "row %d"}\n' % number
        else:
            author = self.people[0]
            files |= {"release/release.json": self._release(number, main), "release/README.md": b"# A release\n"}
        c = Contribution(
            title=f"Change {number}", kind=kind, licence="CC0-1.0", signoff=f"{author.name} <{author.name}@localhost>",
            author=Author(name=author.name, email=f"{author.name}@localhost", key=author.public, org=PEOPLE.get(author.name, "")),
            of=f"{number}.0" if kind == "release" else "",
        )  # fmt: skip
        return Offer(f"{number:04d}-a-change", files | {"contribution.toml": format_toml(c).encode()})

    def _release(self, number: int, main: str) -> bytes:
        recipe = Recipe(
            base=lock_digest(self.base), contributions=tuple(sorted(self.members)), method="covariance", settings={}
        )
        release = Release(
            version=f"{number}.0", commit=main, recipe=recipe, model=lock_digest(self.base), scores={}, at=_at(number)
        )
        named = statement("urn:souq:release:1", f"releases/{number}.0", release.model, msgspec.to_builtins(release))
        return self.people[0].sealed("release", named)

    def records(self, number: int, offer: Offer, main: str, votes: int, *, lands: bool) -> dict[str, bytes]:
        """What was signed about it, by the names that a landing gives them."""
        author = self.people[0] if number % RELEASES == 0 else self.authors[number % len(self.authors)]
        at, slug, subject = _at(number), offer.slug, offer.digest
        made = {"signoff": author.record("signoff", slug, subject, {"at": at, "licence": "CC0-1.0"})}
        verdicts = tuple(Verdict(check=name, outcome="pass", because="measured, and within bounds") for name in CHECKS)
        others = [person for person in self.people if person is not author]
        if votes:
            seen = (digest(made["signoff"]),)
            checked = Checked(subject=subject, base=main, verdicts=verdicts, by=others[0].name, at=at, after=seen)
            made["checked-1"] = others[0].record("checked", slug, subject, msgspec.to_builtins(checked))
        for place, person in enumerate(others[:votes]):
            seen = (digest(list(made.values())[-1]),)
            vote = Vote(subject=subject, choice="approve", reason="it holds", by=person.name, at=at, after=seen)
            made[f"vote-{place + 1}"] = person.record("vote", slug, subject, msgspec.to_builtins(vote))
        if lands:
            told = {
                "pr": number,
                "base": main,
                "by": others[1].name,
                "at": at,
                "after": [digest(list(made.values())[-1])],
            }
            made["merge"] = others[1].record("merge", slug, subject, told)
        return made

    def pull(self, number: int, offer: Offer, main: str, records: dict[str, bytes]) -> None:
        """A pull request's refs."""
        at = f"refs/souq/pr/{number}/"
        self.commit(f"{at}head", main, {offer.home + path: data for path, data in offer.files.items()})
        for name, data in records.items():
            if name != "merge":
                oid, kind = blob_name(data), name.partition("-")[0]
                self.refs[at + ("signoff" if kind == "signoff" else f"{kind}/{oid[:16]}")] = oid

    def land(self, number: int, main: str) -> str:
        """One pull request from its offer to main."""
        offer = self.offer(number, main)
        records = self.records(number, offer, main, 3, lands=True)
        self.pull(number, offer, main, records)
        if "delta.lock" in offer.files:
            self.members.append(offer.digest)
        held = {f"{offer.home}records/{name}.json": data for name, data in records.items()}
        return self.commit("refs/heads/main", main, files_gained(offer) | held)


def _at(number: int) -> str:
    return (BEGIN + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder: Path, count: int) -> None:
    """A repository with so many landings, a fifth as many open pull requests, and a tenth as many people."""
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    (keys := folder.with_suffix(".keys")).mkdir()
    people = [Signer(name, keys) for name in PEOPLE]
    authors = [Signer(f"author{i:04}", keys) for i in range(AUTHORS * count // 10_000)]
    policy = foundation([Who(name=p.name, org=PEOPLE[p.name], keys=(p.public,)) for p in people])
    base = {"model.w.weight": TensorRef.of(np.zeros((8, 8), np.float32))}
    lock = format_lock(base).encode()
    files = {"souq.toml": format_toml(Config(name="bench", licence="Apache-2.0", base="zeros")).encode(), "GOVERNANCE.toml": policy.encode()}  # fmt: skip
    files |= {"base.lock": lock, "model.lock": lock, "model/config.json": b"{}"}
    ask, answer = os.pipe()
    words = ["git", "fast-import", "--quiet", f"--cat-blob-fd={answer}"]
    git = subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE, pass_fds=[answer])
    os.close(answer)
    assert git.stdin is not None
    with os.fdopen(ask, "rb", buffering=0) as told:
        town = Town(git, told, people, authors, base)
        main = town.commit("refs/heads/main", "", files)
        for number in range(1, count + 1):
            main = town.land(number, main)
        for number in range(count + 1, count + 1 + OPEN * count // 10_000):
            offer = town.offer(number, main)
            records = town.records(number, offer, main, number % 3, lands=False)
            for data in records.values():
                git.stdin.write(b"blob\ndata %d\n%s\n" % (len(data), data))
            town.pull(number, offer, main, records)
        git.stdin.close()
        git.wait()
    shutil.rmtree(folder / ".git" / "refs" / "souq", ignore_errors=True)
    (folder / ".git" / "refs" / "heads" / "main").unlink(missing_ok=True)
    (folder / ".git" / "packed-refs").write_text("".join(f"{oid} {ref}\n" for ref, oid in sorted(town.refs.items())))
    subprocess.run(["git", "reset", "-q", "--hard"], cwd=folder, check=True)


def typed(folder: Path, line: str) -> tuple[float, float]:
    """Seconds of a verb in a clone that remembers nothing, and of the same line again."""
    shutil.rmtree(folder / ".git" / "souq", ignore_errors=True)
    took = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        words = ["taskset", "-c", "1", SOUQ, *line.split(), "--json"]
        done = subprocess.run(words, cwd=folder, capture_output=True, check=False)
        took.append(time.perf_counter() - begun)
        if done.returncode:
            raise SystemExit(f"{line}: {done.stderr.decode()[-500:]}")
    return took[0], min(took[1:])


def figures(folder: Path, count: int) -> Iterator[tuple[str, float, float]]:
    """Every verb's seconds, first and then."""
    for line in VERBS:
        yield line, *typed(folder, line.format(count + 2))


def main() -> None:
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as home:
        place = Path(words.pop(0)) if words else Path(home)
        place.mkdir(exist_ok=True)
        print(describe())
        for count in [int(word) for word in words] or [100, 1_000, 10_000]:
            if not (folder := place / f"r{count}").is_dir():
                begun = time.perf_counter()
                write(folder, count)
                print(f"{count:,} contributions written in {time.perf_counter() - begun:.0f} s", flush=True)
            for line, first, then in figures(folder, count):
                verb = line.replace(" {0}", "")
                print(f"{count:6,}  {verb:28} first {first:7.2f} s   then {then:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
