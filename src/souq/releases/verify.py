"""A release as a folder, judged by somebody who has nothing else: no git, no torch, no network, no repository.

What it can prove is said, and so is what it cannot: a folder proves itself only as far as its reader knows the policy
in it, and history is judged where there is one (`souq verify` in a clone).

    judged = judge(Path("out"), governance="b3:…")
    judged.findings    # empty when all is well; each names the file that is wrong
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from souq import signing
from souq.errors import Forged, Hostile, Missing, NotFound, SouqError, UsageError
from souq.governance import POLICY, Policy, read_policy
from souq.progress import Progress, quiet
from souq.records import Release, canonical, digest, is_digest, read_json, read_record
from souq.releases import beside, claims, openssf
from souq.releases.beside import Stranger
from souq.releases.claims import Claim
from souq.releases.provenance import LOCK, PROVENANCE, WEIGHTS, dependencies, file_hashes, parameters
from souq.repo.history import signed_release
from souq.signing import Envelope
from souq.weights.delta import Lock, tensor_digest
from souq.weights.lockfile import parse_lock
from souq.weights.safetensors import open_tensors

T = TypeVar("T")

RELEASE = "release.json"
STATEMENT, BOM, SIGNATURE = "provenance.intoto.json", "bom.cdx.json", openssf.SIGNATURE
NEEDED = (RELEASE, POLICY, LOCK, WEIGHTS, STATEMENT, BOM)
NAMESPACE = "souq.provenance.v1"
# What git and hub clients leave in a folder they bring; nothing that loads a model reads it.
LEFT_BY_CLIENTS = (".git", ".gitattributes", ".cache")
MAX_PAPER = 64 << 20
MAX_CLAIM = 4 << 20
# What a paper that is not in souq's form may raise while it is read.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
UNREADABLE = (SouqError, msgspec.MsgspecError, OSError, *_MALFORMED)
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Finding:
    """A file that is not what it should be."""

    file: str
    because: str


@dataclass
class Judged:
    """What a folder proves about itself, what it cannot, and what is wrong with it."""

    version: str = ""
    model: str = ""
    governance: str = ""  # the digest of GOVERNANCE.toml, to compare with one from elsewhere
    proven: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    stated: list[str] = field(default_factory=list)  # files of the release, each as it says
    claims: list[Claim] = field(default_factory=list)  # put there later by who stands in the policy, and signed
    strangers: list[Stranger] = field(default_factory=list)  # anybody's, which no loader reads

    def wrong(self, file: str, because: str) -> None:
        self.findings.append(Finding(file, because))

    def reads(self, file: str, step: Callable[[], T]) -> T | None:
        """What a step makes of a file; where it cannot, that is a finding."""
        try:
            return step()
        except UNREADABLE as error:
            self.wrong(file, str(error) if isinstance(error, SouqError) else f"not in the form souq writes: {error}")
            return None


def judge(
    folder: Path, *, governance: str | None = None, public_keys: Sequence[Path] = (), progress: Progress = quiet
) -> Judged:
    """Judge an exported release by what is in its folder.

    `governance` is the policy as its reader pinned it: a digest (b3:… or sha256:…) or a file. `public_keys` are PEM
    files of OpenSSF signers who are not in it.

    Raises:
        NotFound: no such folder.
        UsageError: `governance` is neither a digest nor a file.
    """
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}", hint="name a folder that `souq release export` wrote")
    pinned = None if governance is None else _pinned(governance)
    judged = Judged()
    paths = _paths(folder, judged)
    for name in NEEDED:
        if name not in paths:
            judged.wrong(name, "is not there")
    hashes = _hashes(paths, progress)
    policy = judged.reads(POLICY, lambda: _policy(paths, pinned, judged)) if POLICY in paths else None
    release = None
    if policy is not None and RELEASE in paths:
        release = judged.reads(RELEASE, lambda: _release(_read(paths[RELEASE]), policy, judged))
    if LOCK in paths:
        lock = judged.reads(LOCK, lambda: _lock(_read(paths[LOCK]), release, judged))
        if lock is not None and WEIGHTS in paths:
            judged.reads(WEIGHTS, lambda: _tensors(paths[WEIGHTS], lock, judged, progress))
    if STATEMENT in paths:
        judged.reads(STATEMENT, lambda: _files(paths, policy, release, hashes, judged))
        judged.reads(STATEMENT, lambda: _provenance(_read(paths[STATEMENT]), policy, release, judged))
    if BOM in paths:
        judged.reads(BOM, lambda: _bom(_read(paths[BOM]), release, hashes, judged))
    if SIGNATURE in paths:
        judged.reads(SIGNATURE, lambda: _openssf(folder, policy, release, public_keys, judged))
    _limits(folder, paths, judged)
    return judged


# -- the folder --------------------------------------------------------------------------------------------------------


def _paths(folder: Path, judged: Judged) -> dict[str, Path]:
    """Every file by its path inside the folder, but for what clients leave there."""
    paths = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.partition("/")[0] in LEFT_BY_CLIENTS:
            continue
        if path.is_file():  # a link to one is one: that is how hub clients keep what they downloaded
            paths[name] = path
        elif path.is_symlink() or not path.is_dir():
            judged.wrong(name, "is neither a file nor a folder")
    return paths


def sha256(path: Path) -> str:
    """The sha256 of a file, as `sha256sum` prints it."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _hashes(paths: Mapping[str, Path], progress: Progress) -> dict[str, str]:
    hashes = {}
    for done, (name, path) in enumerate(paths.items()):
        progress("hash files", done, len(paths))
        hashes[name] = sha256(path)
    progress("hash files", len(paths), len(paths))
    return hashes


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_PAPER:
        raise Hostile(f"{path.name} is larger than {MAX_PAPER:,} bytes")
    return path.read_bytes()


# -- each paper --------------------------------------------------------------------------------------------------------


def _policy(paths: Mapping[str, Path], pinned: str | None, judged: Judged) -> Policy:
    data = _read(paths[POLICY])
    judged.governance = digest(data)
    if pinned is None:
        judged.unproven.append(
            f"that {POLICY} is the one you trust: compare {judged.governance} with the digest you pinned, "
            "or give it with --governance"
        )
    elif pinned in (judged.governance, f"sha256:{hashlib.sha256(data).hexdigest()}"):
        judged.proven.append(f"{POLICY} is the one you gave: {pinned}")
    else:
        judged.wrong(POLICY, f"is {judged.governance}, not the one you gave, {pinned}")
    return read_policy(data.decode())


def _pinned(given: str) -> str:
    """The digest somebody gave, or that of the file they named."""
    if is_digest(given) or re.fullmatch(r"sha256:[0-9a-f]{64}", given):
        return given
    if not Path(given).is_file():
        raise UsageError(f"--governance is b3:…, sha256:… or a file, not {given!r}", hint="check the path")
    return digest(_read(Path(given)))


def _release(data: bytes, policy: Policy, judged: Judged) -> Release:
    signed = signed_release(data, policy)
    release, key = signed.release, signed.key
    if policy.person_of(key, release.at) is None:
        raise Forged(f"is signed with a key that did not hold on {release.at}")
    judged.version, judged.model = release.version, release.model
    judged.proven.append(
        f"{RELEASE} is signed by {_who(policy, key)}, who stands in {POLICY} (as of {release.at}, as they say)"
    )
    return release


def _lock(data: bytes, release: Release | None, judged: Judged) -> Lock:
    lock = parse_lock(data.decode())
    if release is not None and digest(data) != release.model:
        raise Forged(f"is {digest(data)}; {RELEASE} names {release.model}")
    if release is not None:
        judged.proven.append(f"{LOCK} is the model that {RELEASE} names: {release.model}")
    return lock


def _tensors(path: Path, lock: Lock, judged: Judged, progress: Progress) -> None:
    weights = open_tensors(path)
    names = sorted(weights.keys() | lock.keys())
    for done, name in enumerate(names):
        progress("read tensors", done, len(names))
        if name not in lock or name not in weights:
            judged.wrong(WEIGHTS, f"{name} is only in {LOCK if name in lock else WEIGHTS}")
        elif tensor_digest(weights[name]) != lock[name].digest:
            judged.wrong(WEIGHTS, f"{name} is not what {LOCK} says")
    progress("read tensors", len(names), len(names))
    if not any(finding.file == WEIGHTS for finding in judged.findings):
        judged.proven.append(f"all {len(names)} tensors are what {LOCK} says")


def _files(
    paths: Mapping[str, Path], policy: Policy | None, release: Release | None, hashes: Mapping[str, str], judged: Judged
) -> None:
    """Sort the files: stated, claimed later, strangers; what a loader would read is stated, or it is wrong."""
    listed = _listed(read_json(_payload(_read(paths[STATEMENT]))))  # unsigned words still say which file is wrong
    for name in sorted(listed.keys() - hashes.keys() - set(NEEDED)):
        judged.wrong(name, "is not there")
    others = {name for name in hashes.keys() - listed.keys() if name not in (STATEMENT, SIGNATURE)}
    if policy is not None and release is not None:
        small = {name for name in others if name.startswith(claims.FOLDER) and paths[name].stat().st_size <= MAX_CLAIM}
        judged.claims += claims.read({name: paths[name].read_bytes() for name in small}, policy, release)
    verified = {claim.file for claim in judged.claims}
    for name in sorted(hashes):
        if listed.get(name) == hashes[name]:
            judged.stated.append(name)
        elif name in listed:
            _changed(name, paths, judged)
        elif name in others - verified and beside.harmless(name):
            judged.strangers.append(beside.stranger(name))
        elif name in others - verified:
            judged.wrong(name, f"does not belong here: {STATEMENT} does not list it, and a loader could read it")
    judged.stated += [name for name in (STATEMENT, SIGNATURE) if name in hashes]


def _changed(name: str, paths: Mapping[str, Path], judged: Judged) -> None:
    """A file that is not as it is stated; people add to a card, and nothing loads it."""
    if name == beside.CARD and BOM in paths and paths[name].stat().st_size <= beside.MAX_CARD:
        with suppress(*UNREADABLE):
            if beside.keeps(paths[name].read_bytes(), _properties(read_json(_read(paths[BOM])))):
                judged.strangers.append(Stranger(name, "says all that the release states, and more that it does not"))
                return
    judged.wrong(name, f"is not the file that {STATEMENT} lists")


def _provenance(data: bytes, policy: Policy | None, release: Release | None, judged: Judged) -> None:
    """Who built it, from what, and that they signed this very list of files."""
    payload = _payload(data)
    statement = read_json(payload)
    if policy is None:
        return
    _, key = signing.unseal(data, keys=_keys(policy, release), namespace=NAMESPACE)
    if seal(payload, key, _armour(data)) != data or canonical(statement) != payload:
        raise Forged("not in the one spelling souq writes")
    if statement["predicateType"] != PROVENANCE or statement["_type"] != signing.STATEMENT_TYPE:
        raise Forged("is no SLSA provenance")
    stated = _listed(statement).keys()
    if not {finding.file for finding in judged.findings} & stated - {STATEMENT}:
        others = len(judged.claims) + len(judged.strangers)
        more = f"beside them are {others} that it does not state" if others else "no other is there"
        judged.proven.append(f"all {len(stated)} files are those that {_who(policy, key)} signed, and {more}")
    if release is not None:
        _same_build(statement["predicate"], release)
        judged.proven.append(f"{STATEMENT} (SLSA) gives the recipe, inputs and scores of {RELEASE}")


def stated_in(envelope: bytes) -> dict[str, str]:
    """The files that a provenance lists, and their sha256, whoever signed it.

    Raises:
        Forged: it lists one twice.
    """
    return _listed(read_json(_payload(envelope)))


def _listed(statement: Mapping[str, Any]) -> dict[str, str]:
    listed = {str(subject["name"]): str(subject["digest"]["sha256"]) for subject in statement["subject"]}
    if len(listed) != len(statement["subject"]):
        raise Forged("lists a file twice")
    return listed


def _same_build(predicate: Mapping[str, Any], release: Release) -> None:
    made, run = predicate["buildDefinition"], predicate["runDetails"]
    inputs = {(entry["name"], value) for entry in made["resolvedDependencies"] for value in entry["digest"].values()}
    scores = [base64.b64decode(entry["content"]) for entry in run["byproducts"] if entry["name"] == "scores"]
    if canonical(made["externalParameters"]) != canonical(parameters(release)):
        raise Forged(f"gives another recipe than {RELEASE}")
    if inputs != dependencies(release) | {("main", release.commit)}:
        raise Forged(f"gives other inputs than {RELEASE}")
    if scores != ([canonical(release.scores)] if release.scores else []):
        raise Forged(f"gives other scores than {RELEASE}")


def _bom(data: bytes, release: Release | None, hashes: Mapping[str, str], judged: Judged) -> None:
    bill = read_json(data)
    listed = file_hashes(bill)
    known = {stranger.file for stranger in judged.strangers}
    wrong = [name for name, content in sorted(listed.items()) if hashes.get(name) != content and name not in known]
    for name in wrong:
        judged.wrong(name, f"is not the file that {BOM} lists")
    properties = _properties(bill)
    if release is not None and properties["souq:model"] != release.model:
        raise Forged(f"is about {properties['souq:model']}; {RELEASE} names {release.model}")
    if not wrong:
        judged.proven.append(f"{BOM} (CycloneDX) gives the right hash of {len(listed.keys() - known)} files")


def _properties(bill: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in bill["metadata"]["component"]["properties"]}


def _openssf(
    folder: Path, policy: Policy | None, release: Release | None, public_keys: Sequence[Path], judged: Judged
) -> None:
    """By model_signing itself, where it is installed."""
    others = [claim.file for claim in judged.claims] + [stranger.file for stranger in judged.strangers]
    if beside.CARD in others:
        judged.unproven.append(f"{SIGNATURE}, which is of {beside.CARD} as it was")
        return
    try:
        known = filter(openssf.usable, _keys(policy, release) if policy is not None else [])
        keys = {openssf.public_pem(key): _who(policy, key) for key in known}
        keys |= {_read(path): str(path) for path in public_keys}
        signer = keys[openssf.verify(folder, keys, ignored=[*LEFT_BY_CLIENTS, *others])]
    except Missing as error:
        judged.unproven.append(f"{SIGNATURE}, which was not looked at: {error} ({error.hint})")
        return
    judged.proven.append(f"{SIGNATURE} (OpenSSF) is a signature on the whole folder by {signer}")


def _limits(folder: Path, paths: Collection[str], judged: Judged) -> None:
    judged.unproven.append(
        "that main's history was judged by its policy, and that the recipe builds to this model: "
        "`souq verify` in a clone of the repository"
    )
    if any(name.startswith("records/") for name in paths):
        judged.unproven.append("that the votes in records/ were enough: `souq verify` in a clone counts them")
    if left := [name for name in LEFT_BY_CLIENTS if (folder / name).exists()]:
        judged.unproven.append(f"what is in {', '.join(left)}: left there by git or a hub's client, and not looked at")


def _keys(policy: Policy, release: Release | None) -> list[str]:
    """Whose signature on papers counts: everybody's who was enrolled when the release was made."""
    return [key for key in policy.keys if release is None or policy.person_of(key, release.at) is not None]


def _who(policy: Policy | None, key: str) -> str:
    person = policy.person_of(key) if policy is not None else None
    return f"{person.name} of {person.org}" if person is not None else signing.fingerprint(key)


# -- envelopes in one spelling -----------------------------------------------------------------------------------------


def _payload(data: bytes) -> bytes:
    return base64.b64decode(read_record(data, Envelope, where=STATEMENT).payload, validate=True)


def _armour(data: bytes) -> bytes:
    """The ssh signature, spelled as ssh-keygen spells it: the same bytes from every spelling that means the same."""
    text = base64.b64decode(read_record(data, Envelope, where=STATEMENT).signatures[0].sig, validate=True).decode()
    first, *lines, last = text.splitlines()
    body, width = base64.b64encode(base64.b64decode("".join(lines), validate=True)).decode(), len(lines[0])
    wrapped = [body[start : start + width] for start in range(0, len(body), width)]
    marks = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
    if (first, last) != marks:
        raise Forged("its signature is no ssh signature")
    return "\n".join([first, *wrapped, last, ""]).encode()


def seal(payload: bytes, key: str, armour: bytes) -> bytes:
    """An envelope as souq writes it, so that no byte of it can be another unseen."""
    return canonical(signing.enveloped(payload, key, armour))
