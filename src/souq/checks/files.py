"""Only the kinds of files a contribution is made of, and only in its own folder: no code, no pickles, no surprises."""

from __future__ import annotations

import re

from souq.checks.cases import Answer, Case, check
from souq.errors import Hostile, UsageError
from souq.evals import Eval
from souq.records import read_json
from souq.repo import MAX_OFFER
from souq.rows import parse_rows
from souq.snapshot import Merging

ALLOWED = (
    (re.compile(r"contribution\.toml"), 64 << 10),
    (re.compile(r"delta\.lock"), 32 << 20),
    (re.compile(r"merge\.toml"), 256 << 10),
    (re.compile(r"GOVERNANCE\.toml|election\.toml"), 1 << 20),
    (re.compile(r"release/(release\.json|README\.md|CHANGELOG\.md|CREDITS\.md)"), 1 << 20),
    (re.compile(r"data/[A-Za-z0-9_\-]{1,64}\.jsonl"), 16 << 20),
    (re.compile(r"evals/[a-z0-9][a-z0-9\-]{0,63}/(eval\.toml|cases\.jsonl)"), 16 << 20),
)
MAX_NESTING = 8
MAX_ROW = 1 << 20  # bytes


@check("files")
def files(case: Case) -> Answer:
    """Every changed path is an allowed kind of file, inside the one new folder of this contribution."""
    repo, offer = case.main.repo, case.offer
    base = repo.commit(f"{case.head}^")
    home = f"contributions/{offer.slug}/"
    if (total := sum(map(len, offer.files.values()))) > MAX_OFFER:
        return "refuse", f"{len(offer.files):,} files of {total:,} bytes; the most is {MAX_OFFER:,}", {"bytes": total}
    if alike := _alike([*offer.files]):
        return "refuse", f"{alike[0]} and {alike[1]} are one file where capitals do not count", {"paths": [*alike]}
    for path in repo.changed(base, case.head):
        if not path.startswith(home):
            return "refuse", f"changes {path[:120]!r}, outside its own folder {home}", {"path": path[:300]}
    if repo.folders(base, home.rstrip("/")) or offer.slug in case.main.offers:
        return "refuse", f"{home} is already there", {}
    for path, data in offer.files.items():
        if because := _refused(path, data):
            return "refuse", because, {"path": path[:300], "bytes": len(data)}
    if offer.contribution.kind != "evals" and offer.evals:
        return "refuse", "evals come in a pull request of their own, so that nobody edits the exam they sit", {}
    if because := offer.odd() or offer.wrong(case.main):
        return "refuse", because, {}
    if offer.merge is not None and (stranger := _stranger(case)):
        return "refuse", f"merge.toml weighs {stranger[:80]}, which is no contribution here", {"weights": stranger[:80]}
    for found in offer.evals:
        if (old := case.main.evals.get(found.name)) is not None and not _only_grows(old, found):
            because = f"evals/{found.name} is there already: cases may be added, none changed or taken away"
            return "refuse", because, {"eval": found.name}
    return "pass", f"{len(offer.files)} files, all of allowed kinds", {"files": sorted(offer.files)}


def _stranger(case: Case) -> str | None:
    """A contribution that is weighed and not there."""
    weights = Merging.of(case.offer.merge or {}).weights
    return next((slug for slug in sorted(weights) if slug not in case.main.offers and slug != case.offer.slug), None)


def _only_grows(old: Eval, new: Eval) -> bool:
    cases = {case.id: case for case in new.cases}
    return new.spec == old.spec and all(cases.get(case.id) == case for case in old.cases)


def _refused(path: str, data: bytes) -> str | None:
    limit = next((limit for pattern, limit in ALLOWED if pattern.fullmatch(path)), None)
    if limit is None:
        return f"{path[:120]!r} is {_kind(path, data)}: only TOML, JSONL and tensors by digest are taken"
    if any(_DEVICE.fullmatch(name.partition(".")[0]) for name in path.split("/")):
        return f"{path} is a device on Windows: choose another name"
    if len(data) > limit:
        return f"{path} has {len(data):,} bytes; the most is {limit:,}"
    if path.endswith(".jsonl"):
        return _rows_refused(path, data)
    return None


# Not names on Windows, whatever follows the point: main could not be checked out there.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)


def _alike(paths: list[str]) -> tuple[str, str] | None:
    """Two paths that are one on a file system without capitals."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        if (other := seen.setdefault(path.casefold(), path)) != path:
            return other, path
    return None


def _kind(path: str, data: bytes) -> str:
    if data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or data[:4] == b"PK\x03\x04":
        return "a pickle, which runs code when it is opened"
    if path.endswith((".py", ".so", ".sh")):
        return "code"
    return "not an allowed kind of file"


def _rows_refused(path: str, data: bytes) -> str | None:
    for number, line in enumerate(data.splitlines(), 1):
        if len(line) > MAX_ROW:
            return f"{path}, line {number}: {len(line):,} bytes; the most is {MAX_ROW:,}"
        try:
            row = read_json(line)
        except Hostile as error:
            return f"{path}, line {number}: {error}"
        if not isinstance(row, dict) or _depth(row) > MAX_NESTING:
            return f"{path}, line {number}: not a plain JSON object"
    return _no_rows(path, data) if path.startswith("data/") else None


def _no_rows(path: str, data: bytes) -> str | None:
    """Rows in TRL's formats: every check behind this one, and whoever trains, reads them as such."""
    try:
        parse_rows(data, where=path)
    except UsageError as error:
        return str(error)
    return None


def _depth(value: object) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inside), default=0)
