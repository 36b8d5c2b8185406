"""Only the kinds of files a contribution is made of, and only in its own folder: no code, no pickles, no surprises."""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec

from souq.checks.cases import Answer, Case, check
from souq.errors import NotFound, SouqError
from souq.evals.eval import Eval, unaskable
from souq.governance.decide import seconds
from souq.records import nesting, read_json, refuse_control, refuse_huge, walk
from souq.repo.config import Merging
from souq.repo.contribution import Offer
from souq.repo.git import MAX_OFFER
from souq.repo.landing import conflicts_with, malformed
from souq.repo.limits import exceeded, with_offer
from souq.repo.rows import parse_rows
from souq.repo.snapshot import Snapshot
from souq.text import plain_letters, skeleton

ALLOWED = (
    (re.compile(r"contribution\.toml"), 64 << 10),
    (re.compile(r"delta\.lock|sketches/[a-z0-9][a-z0-9\-]{0,79}\.lock"), 32 << 20),
    (re.compile(r"merge\.toml"), 256 << 10),
    (re.compile(r"GOVERNANCE\.toml|election\.toml"), 1 << 20),
    (re.compile(r"release/(release\.json|README\.md|CHANGELOG\.md|CREDITS\.md)"), 1 << 20),
    (re.compile(r"release/corpus\.json"), 64 << 10),
    (re.compile(r"documents/(docs/)?[A-Za-z0-9][A-Za-z0-9_\-.]{0,79}"), 1 << 20),
    (re.compile(r"data/[A-Za-z0-9_\-]{1,64}\.jsonl"), 16 << 20),
    (re.compile(r"evals/[a-z0-9][a-z0-9\-]{0,63}/(eval\.toml|cases\.jsonl)"), 16 << 20),
    (re.compile(r"evals/[a-z0-9][a-z0-9\-]{0,63}/sealed\.toml"), 64 << 10),
)
OTHER = "not an allowed kind of file"
TAKEN = "TOML, JSONL and tensors by digest"
MAX_NESTING, MAX_KEYS, MAX_LINE = 8, 256, 1 << 20
MAX_TITLE, MAX_RECIPE = 200, 1_000  # letters on one line; keys
# More marks on one letter than any language writes, marks that go around it, letters of no width, Unicode's tags.
_DRAWN = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{4}|[\u0488\u0489\u20dd-\u20e0\u20e2-\u20e4]"
    "|[\u200b\u2060-\u2064\ufeff]|[\U000e0000-\U000e007f]"
)
# Without a number where a forge has not given one yet.
SLUG = re.compile(r"(\d{4,9}-)?[a-z0-9]([a-z0-9\-]{0,62}[a-z0-9])?")
# Not names on Windows, whatever follows the point: main could not be checked out there.
DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


# What forges obey in the message of any commit that reaches main: closing issues, calling people, leaving out checks.
ORDERS = re.compile(
    r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?|implement(?:s|ed)?):?\s{1,9}(?:[\w./\-]{0,200}[#!]\d|GH-\d|https?://)"
    r"|(?<![\w.])@[A-Za-z0-9]|\[(?:skip[ -]ci|ci[ -]skip|no[ -]ci|skip actions|actions skip)\]|^skip-checks:",
    re.IGNORECASE | re.MULTILINE,
)


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
    if obeyed := ORDERS.search(repo.message(case.head)):  # the commit lands with what it brings
        return "refuse", f"its commit's message tells a forge {obeyed[0][:60]!r}: offer it again without", {}
    if not SLUG.fullmatch(offer.slug):
        return "refuse", f"its folder is {offer.slug[:80]!r}, not a number and plain words: 0007-iso-dates", {}
    if repo.folders(base, home.rstrip("/")) or offer.slug in case.main.offers:
        return "refuse", f"{home} is already there", {}
    if because := _unreadable(offer):
        return "refuse", because, {}
    for path, data in offer.files.items():
        if because := _refused(path, data):
            return "refuse", because, {"path": path[:300], "bytes": len(data)}
    if len({path.casefold() for path in offer.files}) != len(offer.files):
        return "refuse", "two of its files have one name where capitals do not count", {}
    if offer.contribution.kind != "evals" and offer.evals:
        return "refuse", "evals come in a pull request of their own, so that nobody edits the exam they sit", {}
    if because := malformed(offer) or conflicts_with(case.main, offer):
        return "refuse", because, {}
    if offer.merge is not None and (stranger := _stranger(case)):
        return "refuse", f"merge.toml weighs {stranger[:80]}, which is no contribution here", {"weights": stranger[:80]}
    density = (offer.merge or {}).get("density", 1.0)
    if not isinstance(density, int | float) or not 0 < density <= 1:
        return "refuse", f"merge.toml keeps a share `density` of {density!r}: a share is above 0 and at most 1", {}
    if because := _misprinted(case):
        return "refuse", because, {}
    if because := _unsealed(case):
        return "refuse", because, {}
    if lines := exceeded(with_offer(case.main, offer), case.main):
        return "refuse", f"nobody could read main with it: {'; '.join(lines)}", {"beyond": [*lines]}
    for suite in offer.evals:
        if (because := _squats(suite, case)) is not None:
            return "refuse", because, {"eval": suite.name}
        old = case.main.evals.get(suite.name)
        if because := unaskable(suite, frozenset(each.id for each in old.cases) if old else frozenset()):
            return "refuse", f"evals/{suite.name}: {because}", {"eval": suite.name}
        if old is not None and not _only_grows(old, suite):
            because = f"evals/{suite.name} is there already: cases may be added, none changed or taken away"
            return "refuse", because, {"eval": suite.name}
    return "pass", f"{len(offer.files)} files, all of allowed kinds", {"files": sorted(offer.files)}


def _misprinted(case: Case) -> str:
    """What is wrong with the documents it brings; "" where nothing is."""
    main, base = case.main, Snapshot(case.main.repo, f"{case.head}^")
    there = main.paths("docs") if case.offer.documents else []
    if alike := _alike(sorted({*there, *case.offer.documents})):
        return f"{alike[0]} and {alike[1]} are one file where capitals do not count"
    for path, data in case.offer.documents.items():
        try:
            refuse_control(data.decode(), where=path)
        except (UnicodeDecodeError, SouqError) as error:
            return f"{path} is no plain text in UTF-8: {error}"
        if _oid(base, path) != _oid(main, path):
            return f"{path} is another on main by now: its author looks at that and offers it anew"
    return ""


def _oid(main: Snapshot, path: str) -> str:
    with suppress(NotFound):
        return main.repo.entry(main.commit, path).oid
    return ""


def _stranger(case: Case) -> str | None:
    """A contribution that is weighed and not there."""
    weights = Merging.of(case.offer.merge or {}).weights
    return next((slug for slug in sorted(weights) if slug not in case.main.offers and slug != case.offer.slug), None)


def _unsealed(case: Case) -> str:
    """What is wrong with the hidden evals it brings, or with those it reveals; "" where nothing is."""
    main, offer = case.main, case.offer
    for name in offer.sealed:
        if name in main.sealed or name in main.evals or f"evals/{name}/eval.toml" in offer.files:
            return f"evals/{name} is there already: a seal is never changed, and hides nothing that was shown"
    for suite in offer.evals:
        if suite.name in main.sealed and suite.digest != main.sealed[suite.name].digest:
            sealed = main.sealed[suite.name].digest
            return f"evals/{suite.name} is not what was sealed: its digest is {suite.digest[:19]}…, not {sealed[:19]}…"
    return ""


def _squats(suite: Eval, case: Case) -> str | None:
    """A bug is called by the number of the pull request that files it, so that two are never called the same."""
    number = re.match(r"\d{1,9}", case.offer.slug)
    own = f"bug-{int(number[0])}" if number else ""
    if re.match(r"bug-", suite.name) and suite.name != own and suite.name not in case.main.evals:
        return f"evals/{suite.name}: a bug is called by the number of the pull request that files it, here {own}"
    return None


def _only_grows(old: Eval, new: Eval) -> bool:
    cases = {case.id: case for case in new.cases}
    return new.spec == old.spec and all(cases.get(case.id) == case for case in old.cases)


def _unreadable(offer: Offer) -> str | None:
    """Why nobody could read what it says of itself: it is long, draws over its neighbours, or is about nobody."""
    c = offer.contribution
    for what, text in (("title", c.title), ("author's name", c.author.name), ("organisation", c.author.org)):
        if len(text) > MAX_TITLE:
            return f"its {what} has {len(text):,} letters; the most is {MAX_TITLE}"
        if odd := _DRAWN.search(text):
            return f"its {what} holds signs that draw over others or are not seen: {odd[0][:4]!a}"
    if (election := offer.election) is not None and not election.candidates:
        return "an election of nobody: election.toml names no candidates"
    if election is not None and seconds(election.closes) is None:
        return f"an election that closes {election.closes[:40]!r}, which is no time"
    if (keys := sum(len(value) for _, value in walk(c.recipe) if isinstance(value, dict))) > MAX_RECIPE:
        return f"its recipe has {keys:,} keys; the most is {MAX_RECIPE:,}"
    return None


def _refused(path: str, data: bytes) -> str | None:
    limit = next((limit for pattern, limit in ALLOWED if pattern.fullmatch(path)), None)
    if any(DEVICES.fullmatch(part) for part in path.split("/")):
        return f"{path[:120]!r} is a device on Windows, so nobody there could clone it"
    if limit is None:
        kind = _kind(path, data)
        because = f"{path[:120]!r} is {kind}: only {TAKEN} are taken"
        return (_misnamed(path) if kind == OTHER else None) or because
    if len(data) > limit:
        return f"{path} has {len(data):,} bytes; the most is {limit:,}"
    if path.endswith(".jsonl"):
        return _rows_refused(path, data)
    return None


def _misnamed(path: str) -> str | None:
    """What is wrong with the name of a file or folder whose kind is right, and what it may be called."""
    parts = path.split("/")
    match parts:
        case ["data", name] if name.lower().endswith(".jsonl"):
            plain = re.sub(r"[^A-Za-z0-9_\-]+", "-", plain_letters(skeleton(name[:-6]))).strip("-")[:64] or "rows"
            return f"{path[:120]!r}: rows are in letters a to z, digits, - and _, then .jsonl: call it {plain}.jsonl"
        case ["evals", name, "eval.toml" | "cases.jsonl" | "sealed.toml"]:
            plain = re.sub(r"[^a-z0-9]+", "-", plain_letters(skeleton(name))).strip("-")[:64] or "cases"
            return f"{path[:120]!r}: an eval's folder is called by small letters a to z, digits and -: call it {plain}"
        case ["evals", _, _]:
            return f"{path[:120]!r} is no part of an eval: its folder holds eval.toml and cases.jsonl alone"
    return None


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
    return OTHER


def _rows_refused(path: str, data: bytes) -> str | None:
    for number, line in enumerate(data.splitlines(), 1):
        if because := row_refused(line, trained=path.startswith("data/")):
            return f"{path}, line {number}: {because}"
    return None


def row_refused(line: bytes, *, trained: bool) -> str | None:
    """Why a line of JSONL is not taken: all readers must read it alike, and find what is trained on in it."""
    if len(line) > MAX_LINE:
        return f"a line of {len(line):,} bytes; the most is {MAX_LINE:,}"
    try:
        row = read_json(line)
        if not isinstance(row, dict) or nesting(row) > MAX_NESTING:
            return "not a plain JSON object"
        if sum(len(value) for _, value in walk(row) if isinstance(value, dict)) > MAX_KEYS:
            return f"more than {MAX_KEYS} keys"
        refuse_huge(row, where="a row")
        # A second reader: half a surrogate pair is text to Python's, and nothing to this one.
        if msgspec.json.decode(line) != row:
            return "not read alike by two readers"
        if trained:
            parse_rows(line, where="it")
    except (SouqError, msgspec.MsgspecError) as error:
        return str(error)
    return None
