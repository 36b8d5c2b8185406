"""A release written as a folder for those who have no repository: the model, and papers that say how it came to be.

It is rebuilt from the commit the release stands on, whatever main is now, and refused if it does not come out as the
release says. Judging such a folder is verify.py, and needs nothing of this.

    export(repo, "1.0", Path("out"), person)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from souq import signing
from souq.build import lock
from souq.errors import Corrupt, Forged, NotFound, Refused
from souq.files import new_folder, refuse_full, write_files
from souq.governance import POLICY, read_policy
from souq.licences import lineage
from souq.model.gguf.writer import vet
from souq.progress import Progress, quiet
from souq.records import Digest, Release, canonical
from souq.releases import beside, main_folder, openssf
from souq.releases.card import Edition, ForHub, card
from souq.releases.credits import Credit, changelog, credits, credits_text, step
from souq.releases.provenance import bom, facts_of, provenance
from souq.releases.verify import BOM, NAMESPACE, RELEASE, STATEMENT, sha256
from souq.repo import snapshot
from souq.repo.contribution import RECORDS, slug
from souq.repo.history import SignedRelease, signed_release
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, base_files
from souq.signing import Person
from souq.weights.lockfile import lock_digest

CARD, CREDITS, CHANGELOG = "README.md", "CREDITS.md", "CHANGELOG.md"
_PLAIN = ForHub()


def read(tip: Snapshot, version: str) -> SignedRelease:
    """A release of main, signed by somebody who might release by the policy of the commit it stands on.

    Raises:
        NotFound: no such release.
        Forged: its signature does not hold, or it stands on a commit that is not main's.
    """
    repo = tip.repo
    if version not in repo.folders(tip.commit, "releases"):
        raise NotFound(f"no release {version}", hint="see `souq release list`")
    record = repo.read(tip.commit, f"releases/{version}/{RELEASE}")
    commit = _commit(record)
    if not repo.contains(tip.commit, commit):
        raise Forged(f"release {version} stands on {commit[:12]}, which is not in main's history")
    policy = read_policy(Snapshot(repo, commit).policy_text)
    signed = signed_release(record, policy)
    release = signed.release
    if (release.version, release.commit) != (version, commit):
        raise Forged(f"the record of release {version} is about something else")
    if policy.person_of(signed.key, release.at) is None:
        raise Forged(f"release {version} is signed with a key that did not hold on {release.at}")
    return signed


def _commit(record: bytes) -> str:
    """The commit an unread record names, where the keys are that it is then read by."""
    commit = str(signing.peek(record).get("commit"))
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        raise Forged("a release's record that names no commit")
    return commit


def earlier(tip: Snapshot, signed: SignedRelease) -> list[SignedRelease]:
    """The releases before one, the newest first: those that stood on main when it was made."""
    age = {commit: n for n, commit in enumerate(tip.repo.history(tip.commit))}
    past = [read(tip, version) for version in tip.repo.folders(signed.release.commit, "releases")]
    return sorted(past, key=lambda before: (-age.get(before.release.commit, -1), before.release.version))


# -- what people read --------------------------------------------------------------------------------------------------


def texts(
    tip: Snapshot, signed: SignedRelease, credited: tuple[Credit, ...], for_hub: ForHub = _PLAIN
) -> dict[str, bytes]:
    """README.md, CREDITS.md and CHANGELOG.md: the same bytes for everybody, from main's history and credits alone."""
    release, past = signed.release, earlier(tip, signed)
    line = [(each.release.version, Snapshot(tip.repo, each.release.commit)) for each in (signed, *past)]
    main = line[0][1]
    steps = [
        step(version, credits(stood) if n else credited, line[n + 1] if n + 1 < len(line) else None)
        for n, (version, stood) in enumerate(line)
    ]
    edition = Edition(
        version=release.version,
        scores=release.scores,
        credits=credited,
        before=past[0].release.version if past else "",
        earlier=past[0].release.scores if past else None,
        root=main.repo.history(main.commit)[0],
        shown=lineage.card_lines(main),
        for_hub=for_hub,
    )
    name = main.config.name
    written = {
        CARD: card(main, release.model, release.recipe, edition),
        CREDITS: credits_text(name, release.version, credited, main),
        CHANGELOG: changelog(name, steps),
    }
    return {path: text.encode() for path, text in written.items()} | lineage.papers(main)


# -- the folder --------------------------------------------------------------------------------------------------------


def export(
    repo: Repo,
    version: str,
    out: Path,
    person: Person,
    *,
    sign: Path | None = None,
    password: str | None = None,
    gguf: str = "",
    for_hub: ForHub = _PLAIN,
    progress: Progress = quiet,
) -> Release:
    """Write a release, its papers signed by `person`; with `sign`, an OpenSSF signature on the whole by that key too.

    With `gguf`, a kind of numbers, there is a file for llama.cpp in it too, of which the papers speak; the card says
    what is `for_hub` besides.

    Raises:
        Refused: this person's key is not in the release's policy, so that nobody could tell whose papers these are.
        Corrupt: the recipe does not build to what the release says.
        UsageError: the folder is already there and holds something.
    """
    refuse_full(out)
    tip = Snapshot(repo, repo.tip())
    signed = read(tip, version)
    release, main = signed.release, Snapshot(repo, signed.release.commit)
    if read_policy(main.policy_text).person_of(person.public_key, release.at) is None:
        raise Refused(
            f"{person.name}'s key is not in the {POLICY} of {version}, so their papers would be worth nothing",
            hint="`souq export` writes the model without papers; or ask somebody who is enrolled",
        )
    if sign is not None:
        openssf.ready(sign, password)
    if gguf:
        vet(gguf, base_files(main), main.config.name)
    _bring(repo, [signed, *earlier(tip, signed)], progress)
    with new_folder(out) as folder:
        _write(tip, signed, folder, person, progress, gguf=gguf, for_hub=for_hub)
        if sign is not None:
            openssf.sign(folder, sign, password)
    return release


def write(
    tip: Snapshot, version: str, folder: Path, person: Person | None = None, progress: Progress = quiet
) -> Release:
    """Write a release of `tip` into a folder that is there and empty.

    Where there is no `person`, or the release's policy does not know their key, nobody signs how it was made.

    Raises:
        Corrupt: the recipe does not build to what the release says.
    """
    signed = read(tip, version)
    policy = read_policy(Snapshot(tip.repo, signed.release.commit).policy_text)
    knows = person is not None and policy.person_of(person.public_key, signed.release.at) is not None
    _bring(Repo.of(tip.repo), [signed, *earlier(tip, signed)], progress)
    _write(tip, signed, folder, person if knows else None, progress)
    return signed.release


def rebuilt(repo: Repo, signed: SignedRelease, progress: Progress = quiet) -> Digest:
    """What the commit of a release builds to, computed and not read."""
    _bring(repo, [signed], progress)
    return lock_digest(lock.model_lock(Snapshot(repo, signed.release.commit, fresh=True), progress))


def _bring(repo: Repo, wanted: Sequence[SignedRelease], progress: Progress) -> None:
    """The tensors these commits point at; main today may need fewer."""
    if (remote := repo.remote_store()) is not None:
        names = snapshot.needed(repo, {each.release.version: each.release.commit for each in wanted})
        remote.copy(repo.store, [name for name in names if name not in repo.store and name in remote], progress)


def _write(
    tip: Snapshot, signed: SignedRelease, folder: Path, person: Person | None, progress: Progress = quiet,
    *, gguf: str = "", for_hub: ForHub = _PLAIN,
) -> None:  # fmt: skip
    release, main = signed.release, Snapshot(tip.repo, signed.release.commit)
    built = main_folder.export(main, folder, progress)
    if built.digest != release.model or built.recipe != release.recipe:
        raise Corrupt(
            f"release {release.version} says {release.model[:15]}…; its commit builds to {built.digest[:15]}…",
            hint="run `souq verify`: somebody released what their recipe does not make",
        )
    if gguf:
        name = f"{slug(main.config.name)}-{release.version}.{gguf}.gguf"
        main_folder.write_built(built, main, folder / name, gguf, progress)
    credited = credits(main)
    papers = texts(tip, signed, credited, for_hub) | _records(tip, release.version)
    papers |= {RELEASE: signed.record, POLICY: main.policy_text.encode()}
    write_files(papers, folder)
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    facts = facts_of(main, release, credited, built.files["config.json"])
    (folder / BOM).write_bytes(bom(facts, hashes, beside.card_mark(papers[CARD])))
    hashes[BOM] = sha256(folder / BOM)
    if person is not None:
        statement = provenance(facts, hashes)
        (folder / STATEMENT).write_bytes(canonical(signing.sign(statement, person.key, namespace=NAMESPACE)))


def _records(tip: Snapshot, version: str) -> dict[str, bytes]:
    """Votes and whatever else was signed about this release, where it was voted on."""
    slugs = [slug for slug, landing in tip.landed.items() if (landing.kind, landing.about) == ("release", version)]
    return {
        path: data
        for slug in slugs
        for path, data in tip.below(f"contributions/{slug}").items()
        if path.startswith(RECORDS)
    }
