"""What a contribution's landing does to a main: the files that come and go, the tensors that move, and why it cannot.

It reads offers and snapshots, and decides nothing: whether something may land is the policy's (governance/).

    landing.malformed(offer) or landing.conflicts_with(main, offer)   # "" where it can land
    landing.touched(offer, main)                                      # what the policy's scopes are asked about
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping

from souq.errors import Hostile, NotFound
from souq.evals.eval import SEALED
from souq.governance import POLICY
from souq.records import format_toml, read_json
from souq.repo.contribution import (
    BRINGS,
    CLAIMING,
    DOCUMENTS,
    NAMED,
    RECORDS,
    SKETCHES,
    YANKED,
    Offer,
    is_document,
    is_slug,
    number_of,
)
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta

TAKEN_BACK = ("weights", "sketches", "data", "evals", "documents")  # rules are amended, releases yanked
MOST_DOCUMENTS = 64  # of one contribution: each is looked for by its own name
_NAME = r"|[0-9A-Za-z][0-9A-Za-z.\-]{0,63}"


def malformed(offer: Offer) -> str:
    """What is wrong with an offer's files for the kind it says it is; "" where nothing is."""
    kind, of = offer.contribution.kind, offer.contribution.of
    brings = BRINGS[kind]
    allowed = ("contribution.toml", *brings.must, *brings.may)
    for path in brings.must:
        if not any(_is_of(name, path) for name in offer.files):
            return f"a contribution of {kind} without {path}"
    for name in sorted(offer.files):
        if not any(_is_of(name, path) for path in allowed):
            return f"a contribution of {kind} brings no {name[:80]}"
    if offer.contribution.fixes and kind not in CLAIMING:
        return f"a contribution of {kind} fixes nothing: what it names would be guarded"
    if bool(of) != (kind in NAMED) or not re.fullmatch(_NAME, of):
        return f"a contribution of {kind} {'does not say' if kind in NAMED else 'says'} what it is about"
    if len(offer.documents) > MOST_DOCUMENTS:
        return f"{len(offer.documents)} documents; the most of one contribution is {MOST_DOCUMENTS}"
    if odd := [path for path in sorted(offer.documents) if not is_document(path)]:
        return f"{odd[0][:80]!r} is no document: LICENSE, NOTICE, CITATION.cff, NAME.md, NAME.txt, docs/name.md"
    return _malformed_sketches(offer)


def _malformed_sketches(offer: Offer) -> str:
    for path in sorted(offer.files):
        inside = path.removeprefix(SKETCHES)
        if inside != path and not (inside.endswith(".lock") and is_slug(inside.removesuffix(".lock"))):
            return f"{path[:80]} is not named after a contribution: {SKETCHES}0003-iso-dates.lock"
    for slug, sketches in offer.sketches.items():
        if sketches.parts or sketches.new or not sketches.grams:
            return f"{SKETCHES}{slug}.lock {'changes weights' if sketches.grams else 'holds no sketch'}"
    return ""


def _is_of(name: str, path: str) -> bool:
    """Whether a file is what may be brought: it by name, or anything in a folder, `data/`."""
    return name.startswith(path) if path.endswith("/") else name == path


def conflicts_with(main: Snapshot, offer: Offer) -> str:
    """Why what an offer is about cannot be done on `main`; "" where it can."""
    kind, of = offer.contribution.kind, offer.contribution.of
    if kind == "revert" and (of not in main.offers or main.offers[of].contribution.kind not in TAKEN_BACK):
        return f"{of} brought no weights, sketches, data, evals or documents here, so it cannot be taken back"
    if kind == "yank" and (of not in main.releases or f"releases/{of}/{YANKED}" in main.paths(f"releases/{of}")):
        return f"there is no release {of} here that could be yanked"
    if kind == "release" and of in main.releases:
        return f"{of} is released already"
    if kind in ("ratify", "restore"):
        undone = main.offers.get(of)
        if undone is None or undone.contribution.kind not in ("revert", "yank"):
            return f"{of} took nothing back here"
    if kind == "evals":  # what is in them is asked before they land; here, that nobody is kept from reading the others
        lost, brought = files_lost(offer, main), {path for path in offer.files if path.startswith("evals/")}
        for home in sorted({"/".join(path.split("/")[:2]) for path in brought}):
            names = {*main.paths(home), *brought} - {*lost}
            names = {path.removeprefix(home) for path in names if path == home or path.startswith(f"{home}/")}
            if names not in ({"/eval.toml", "/cases.jsonl"}, {f"/{SEALED}"}):
                return f"a contribution of evals after which {home} holds {' '.join(sorted(names))}"
    if kind == "restore" and not (files_lost(offer, main) or files_returned(offer, main)):
        return f"what {of} took back is there again"
    if offer.sketches and (because := _cannot_renew(offer, main)):
        return because
    now = _standing(main, expected := _moved_elsewhere(offer, main))
    if changed := [path for path, (old, _) in expected.items() if now.get(path) != old]:
        return f"{changed[0]} is not as {of} left it: take back first what changed it since"
    return ""


def _cannot_renew(offer: Offer, main: Snapshot) -> str:
    """Why an offer's sketches are not those of contributions on `main`; "" where they are."""
    renewed = main.sketched()
    for slug, sketches in offer.sketches.items():
        theirs = main.offers[slug].delta if slug in main.offers else None
        if theirs is None:
            return f"{slug} is no contribution of weights here, so it has no sketches to renew"
        if sketches.base != theirs.base:
            return f"the new sketches of {slug} are of another base"
        if idle := next((name for name in sketches.inputs if name not in theirs.parts), None):
            return f"a new sketch of {slug} is of what flows into {idle}, which it does not change"
        if bare := next((name for name in theirs.inputs if name not in sketches.inputs), None):
            return f"{slug} has a sketch of what flows into {bare}, and none would be left"
        if slug in renewed and number_of(renewed[slug]) > number_of(offer.slug):
            return f"{renewed[slug]} has renewed the sketches of {slug} since"
    return ""


def files_gained(offer: Offer) -> dict[str, bytes]:
    """The files main gains when an offer lands: its own folder, and what lives elsewhere, where that lives."""
    kind, of = offer.contribution.kind, offer.contribution.of
    gained = {f"{offer.home}{path}": data for path, data in offer.files.items()}
    gained |= {path: data for path, data in offer.files.items() if path.startswith("evals/") or path == POLICY}
    gained |= offer.documents
    if kind == "release":
        gained |= {
            f"releases/{of}/{path.removeprefix('release/')}": data
            for path, data in offer.files.items()
            if path.startswith("release/")
        }
    if kind == "yank":
        reason = {"by": offer.slug, "reason": offer.contribution.title}
        gained[f"releases/{of}/{YANKED}"] = format_toml(reason).encode()
    return gained


def files_lost(offer: Offer, main: Snapshot) -> dict[str, bytes]:
    """The files main loses when an offer lands on it."""
    kind, of = offer.contribution.kind, offer.contribution.of
    left = {path: old for path, (old, new) in _moved_elsewhere(offer, main).items() if new is None and old is not None}
    if kind == "evals":  # what is revealed is sealed no more
        paths = [f"evals/{name}/{SEALED}" for name in _revealed(offer, main)]
        return {path: main.repo.read(main.commit, path) for path in paths}
    if kind == "revert":
        home = f"contributions/{of}/"
        return {f"{home}{path}": data for path, data in main.below(home).items()} | left
    undone = main.offers.get(of) if kind == "restore" else None
    if undone is not None and undone.contribution.kind == "yank":
        path = f"releases/{undone.contribution.of}/{YANKED}"
        return {path: main.repo.read(main.commit, path)}
    return left


def _revealed(offer: Offer, main: Snapshot) -> list[str]:
    brought = {path.split("/")[1] for path in offer.files if re.fullmatch(r"evals/[^/]+/eval\.toml", path)}
    return sorted(brought & main.sealed.keys()) if brought.intersection(main.exam) else []


def files_returned(offer: Offer, main: Snapshot) -> dict[str, bytes]:
    """The files main gets back when an offer lands on it: what a revert took, as it was, or its exam of before."""
    undone = main.offers.get(offer.contribution.of) if offer.contribution.kind == "restore" else None
    there = undone is None or undone.contribution.of in main.offers
    taken = {} if undone is None or there else _taken_by(undone, main)
    return taken | {path: data for path, (_, data) in _moved_elsewhere(offer, main).items() if data is not None}


Moves = dict[str, tuple[bytes | None, bytes | None]]  # path -> its bytes before and after; None where it is not there


def _moved_elsewhere(offer: Offer, main: Snapshot) -> Moves:
    """What taking evals or documents back, or bringing them back, does to main beside the contribution's own folder."""
    kind, of = offer.contribution.kind, offer.contribution.of
    if kind == "revert" and of in main.offers:
        return {path: (new, old) for path, (old, new) in _brought_elsewhere(main.offers[of], main).items()}
    undone = main.offers.get(of) if kind == "restore" else None
    if undone is None or undone.contribution.kind != "revert" or undone.contribution.of in main.offers:
        return {}
    before = _landed_on(undone, main)
    return _brought_elsewhere(before.offer(undone.contribution.of), before)


def _brought_elsewhere(landed: Offer, main: Snapshot) -> Moves:
    """What a contribution that has landed on `main` changed beside its folder: evals with their seals, documents."""
    brought = {path: data for path, data in landed.files.items() if path.startswith("evals/")} | landed.documents
    if not brought:
        return {}
    opened = {f"{path.rpartition('/')[0]}/{SEALED}" for path in brought if path.endswith("/eval.toml")}
    before = _standing(_landed_on(landed, main), brought.keys() | opened)
    return {path: (before.get(path), brought.get(path)) for path in sorted(brought.keys() | before.keys())}


def _standing(main: Snapshot, paths: Collection[str]) -> dict[str, bytes]:
    """Those of some files of evals and some documents that are there."""
    return main.exam_files(paths) | main.documents([path for path in paths if not path.startswith("evals/")])


def deltas_moved(offer: Offer, main: Snapshot) -> list[Delta]:
    """The changes of weights that an offer brings, takes back or restores, or whose sketches it does that with."""
    if offer.contribution.kind == "revert" and offer.contribution.of in main.offers:
        return _changes_of(main.offers[offer.contribution.of], main)
    if offer.contribution.kind == "restore" and (returned := files_returned(offer, main)):
        return _changes_of(_offered_in(returned), main)
    return _changes_of(offer, main)


def _changes_of(offer: Offer, main: Snapshot) -> list[Delta]:
    """What an offer changes; of sketches the changes they are of, where those are on `main`, and with them."""
    changes = [offer.delta] if offer.delta is not None else []
    for slug, sketches in offer.sketches.items():
        theirs = main.offers[slug].delta if slug in main.offers else None
        changes += [theirs.sketched(sketches)] if theirs is not None else []
    return changes


def touched(offer: Offer, main: Snapshot) -> list[str]:
    """Every path and every tensor an offer changes on `main`: what the policy's scopes are asked about.

    Who ratifies settles for good what was taken, so all of that is asked about again.
    """
    moved = deltas_moved(offer, main)
    paths = {*files_gained(offer), *files_lost(offer, main), *files_returned(offer, main)}
    if offer.contribution.kind == "ratify" and (undone := main.offers.get(offer.contribution.of)) is not None:
        taken = _taken_by(undone, main)
        paths |= {*files_gained(undone)} if undone.contribution.kind == "yank" else {*taken, *_elsewhere_in(taken)}
        moved = _changes_of(_offered_in(taken), main)
    paths |= {"souq.toml"} if offer.merge is not None else set()
    return sorted(paths) + sorted({name for delta in moved for name in delta.touches()})


def _taken_by(revert: Offer, main: Snapshot) -> dict[str, bytes]:
    """The files that a revert on `main` took, from the main it landed on."""
    if revert.contribution.kind != "revert":
        return {}
    home, before = f"contributions/{revert.contribution.of}/", _landed_on(revert, main)
    return {f"{home}{path}": data for path, data in before.below(home).items()}


def _landed_on(landed: Offer, main: Snapshot) -> Snapshot:
    """The main that a contribution of `main` landed on.

    Raises:
        Hostile: its merge record does not say, or names what is no part of this history.
    """
    try:
        record = read_json(main.repo.read(main.commit, f"{landed.home}{RECORDS}merge.json"))
        before = str(read_json(base64.b64decode(record["payload"]))["predicate"]["base"])
    except (KeyError, TypeError, ValueError, NotFound) as error:
        raise Hostile(f"{landed.slug} does not say what main it landed on") from error
    if not re.fullmatch(r"[0-9a-f]{40}", before) or not main.repo.contains(main.commit, before):
        raise Hostile(f"{landed.slug} names a commit that is not in this history")
    return Snapshot(main.repo, before)


def _elsewhere_in(taken: Mapping[str, bytes]) -> set[str]:
    """The paths of main's exam, and the documents, that taken folders of contributions brought."""
    inside = [path.split("/", 2)[2] for path in taken if path.startswith("contributions/")]
    return {path.removeprefix(DOCUMENTS) for path in inside if path.startswith(("evals/", DOCUMENTS))}


def _offered_in(taken: Mapping[str, bytes]) -> Offer:
    """A contribution by the files of its folder, `contributions/<slug>/…`, as a revert took them; empty of none."""
    homes = {"/".join(path.split("/")[:2]) + "/" for path in taken if path.startswith("contributions/")}
    home = min(homes, default="")
    files = {path.removeprefix(home): data for path, data in taken.items() if home and path.startswith(home)}
    return Offer(home.removeprefix("contributions/").rstrip("/"), files)
