"""What a folder or a repository can show of its openness: each cell claimed and verified, with the files it rests on.

A claim is a word; what is verified is bytes that are here and were read. Whether a paper or a text is good no machine
knows, so documentation is at most partial here. Nothing unknown counts as open, and a contradicted claim counts only as
what was verified. Every file is a stranger's: sizes are bounded, links are not followed, nothing is run.

    audit(Path("SmolLM2-135M-Instruct"), today="2026-11-25").lower
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from souq.audit import index, mof, osaid, participation
from souq.audit.index import POINTS, Value
from souq.audit.mof import Mof
from souq.audit.osaid import Demand
from souq.audit.participation import Measure
from souq.audit.place import Evidence, open_place
from souq.audit.seen import OPEN_CODE, SECTIONS, Seen
from souq.errors import SouqError
from souq.progress import Progress, quiet
from souq.records import Record, spelled_out
from souq.releases.export import read as read_release
from souq.repo.snapshot import Snapshot
from souq.verify import verify

Status = Literal["verified", "contradicted", "unverifiable", "absent"]
RUBRICS = (index.RUBRIC, mof.RUBRIC, osaid.RUBRIC)
ORDER: tuple[Value, ...] = ("unknown", "closed", "partial", "open")


class Cell(Record, frozen=True, omit_defaults=False):
    """One thing that is rated: what is claimed, what is shown, and what to do next."""

    name: str
    claimed: Value
    verified: Value
    status: Status
    why: str
    evidence: tuple[Evidence, ...] = ()
    todo: str = ""

    @property
    def upper(self) -> Value:
        """The most it can be: a contradicted claim is worth what was verified."""
        return self.verified if self.status == "contradicted" else self.claimed


class Audit(Record, frozen=True, omit_defaults=False):
    """All that one place shows. `lower` and `upper` are sums over the index's fourteen dimensions."""

    name: str
    kind: str
    date: str
    commit: str
    lower: float
    upper: float
    cells: tuple[Cell, ...]
    components: tuple[Cell, ...]
    mof: Mof
    mof_claimed: Mof
    osaid: tuple[Demand, ...]
    bazaar: tuple[Measure, ...] = ()
    rebuilt: str = ""
    rubrics: tuple[str, ...] = RUBRICS

    @property
    def osaid_met(self) -> bool:
        return all(demand.verified for demand in self.osaid)


def _cell(
    name: str, *, why: str, claimed: Value = "unknown", verified: Value = "unknown", evidence: Sequence[Evidence] = (),
    todo: str = "", contradicted: bool = False,
) -> Cell:  # fmt: skip
    """A cell whose status follows: what is shown is verified, what is only claimed cannot be.

    A claim is never below what is verified.
    """
    claimed = max(claimed, verified, key=ORDER.index)
    status: Status = "unverifiable"
    if contradicted:
        status = "contradicted"
    elif verified in ("partial", "open"):
        status = "verified"
    elif claimed == "unknown" and not evidence:
        status = "absent"
    return Cell(
        name=name, claimed=claimed, verified=verified, status=status, why=spelled_out(why)[:400],
        evidence=tuple(evidence)[:12], todo=todo,
    )  # fmt: skip


# -- the index's fourteen dimensions: what is available ----------------------------------------------------------------


def _training_code(seen: Seen) -> Cell:
    place, share = seen.place, seen.share
    if share is not None and seen.recipes:
        return _cell(
            "opencode",
            claimed="open" if share.base != "binary" else "partial",
            verified="partial" if share.source else "unknown",
            why=f"{share.source} of {share.contributions} contributions can be trained again; the base is {share.base}",
            evidence=place.cite(*seen.recipes),
            todo="publish the base's training code, or name it as base_source",
        )
    code = place.matching(r"(.*/)?[^/]+\.py")
    return _cell(
        "opencode",
        claimed="partial" if re.search(r"https://(github|gitlab|codeberg)\.", seen.card) else "unknown",
        verified="partial" if code else "unknown",
        why="code in the folder" if code else "no code here; a link in the card is declared",
        evidence=place.cite(*code[:4]) or seen.bill,
        todo="put the training code or recipe beside the model",
    )


def _base_data(seen: Seen) -> Cell:
    source = seen.share is not None and seen.share.base != "binary"
    return _cell(
        "llmdata",
        claimed="partial" if seen.head.get("datasets") or source else "unknown",
        why="what the base was trained on is not here",
        evidence=seen.place.cite("souq.toml", note="names base and origin: declared") or seen.bill,
        todo="say in base_source where the base's data is",
    )


def _base_weights(seen: Seen) -> Cell:
    main = seen.place.main
    if main is None:
        named = seen.head.get("base_model") or seen.bill
        return _cell(
            "llmweights",
            why="the base itself is not here" if named else "whether these are the base's weights is not said",
            evidence=seen.bill,
            todo="publish the base beside it",
        )
    here = sum(ref.digest in main.repo.store for ref in main.base.values())
    whole = here == len(main.base) > 0
    return _cell(
        "llmweights",
        claimed=_worth(seen),
        verified=_shown_worth(seen) if whole else "unknown",
        why=f"{here} of {len(main.base)} tensors of the base are in the store",
        evidence=seen.place.cite("base.lock"),
        todo="" if whole and seen.fits_data else "`souq fetch`; a licence that fits data",
    )


def _tuning_data(seen: Seen) -> Cell:
    rows, share = seen.place.cite(*seen.rows), seen.share
    whole = share is not None and 0 < share.contributions == share.source
    here = _shown_worth(seen) if whole else "partial"
    return _cell(
        "rldata",
        claimed="partial" if seen.bill else "unknown",
        verified=here if rows else "unknown",
        why=f"{len(seen.rows)} files of rows",
        evidence=rows or seen.bill,
        todo="" if whole and seen.fits_data else "bring the rows that every contribution was trained on",
    )


def _weights(seen: Seen) -> Cell:
    main = seen.place.main
    if main is not None:
        return _cell(
            "rlweights",
            claimed=_worth(seen),
            verified=_shown_worth(seen) if main.landed else "unknown",
            why="model.lock follows from the recipe; --rebuild computes it",
            evidence=seen.place.cite("model.lock"),
            todo="" if main.landed else "land a contribution",
        )
    verified = _shown_worth(seen) if seen.weights and not seen.broken else "unknown"
    holds = "every byte of the tensors is accounted for" if seen.weights else "no weights here"
    return _cell(
        "rlweights",
        claimed=_worth(seen) if seen.weights else "unknown",
        verified=verified,
        why=seen.broken or holds,
        evidence=seen.place.cite(*seen.weights[:4]),
        todo="" if verified == "open" else "weights, and the text of a licence that fits data",
        contradicted=bool(seen.broken),
    )


def _worth(seen: Seen) -> Value:
    """What weights and rows that are here can be called, if the licence holds as it is declared."""
    return "open" if seen.fits_data else "partial"


def _shown_worth(seen: Seen) -> Value:
    """What is here under terms that are only declared is available, and not yet shown to be licensed."""
    return "open" if seen.fits_data and seen.licence_shown != "unknown" else "partial"


def _licence(seen: Seen) -> Cell:
    place, declared = seen.place, seen.declared
    papers = place.cite(*seen.licence_texts, note="licence text")
    papers += place.cite("souq.toml" if place.main else seen.card_path)
    if declared and declared not in OPEN_CODE and not _is_spdx(declared):
        return _cell(
            "license",
            claimed="closed",
            why=f"{declared} is no SPDX licence",
            evidence=papers,
            todo="name one by its SPDX name",
            contradicted=True,
        )
    where = "here" if declared in seen.licence_texts.values() else "not here"
    claimed: Value = "partial" if declared else "unknown"
    return _cell(
        "license",
        claimed="open" if declared in OPEN_CODE else claimed,
        verified=seen.licence_shown,
        why=seen.contradiction or f"{declared or 'none'} declared; its text is {where}",
        evidence=papers if declared or seen.licence_texts else (),
        todo="" if seen.licence_shown == "open" else "offer the licence's text: `souq pr create --file LICENSE`",
        contradicted=bool(seen.contradiction),
    )


def _is_spdx(name: str) -> bool:
    from license_expression import get_spdx_licensing  # slow to load its list

    try:
        return not get_spdx_licensing().unknown_license_keys(name)
    except Exception:  # the parser answers some nonsense with whatever error lay at hand
        return False


# -- what is documented ------------------------------------------------------------------------------------------------


def _code_docs(seen: Seen) -> Cell:
    place = seen.place
    docs = place.cite("README.md", "CREDITS.md", "CHANGELOG.md") if place.kind != "folder" else ()
    good = "how to build and verify is written down; how well, a machine cannot judge"
    return _cell(
        "code",
        verified="partial" if docs else "unknown",
        why=good if docs else "no documentation of code",
        evidence=docs,
        todo="document training; a person must attest it",
    )


def _architecture(seen: Seen) -> Cell:
    described = bool(seen.config.get("architectures")) and bool(seen.config.get("model_type"))
    return _cell(
        "architecture",
        verified="partial" if described else "unknown",
        why=f"config.json says {str(seen.config['architectures'])[:80]}" if described else "no configuration",
        evidence=seen.place.cite(seen.config_path) if described else (),
        todo="describe training and architecture; a person must attest it",
    )


def _preprint(seen: Seen) -> Cell:
    return _paper("preprint", seen, linked="arxiv.org" in seen.card.lower())


def _paper(name: str, seen: Seen, linked: bool = False) -> Cell:
    files = seen.papers[name]
    link = "a link in the card: declared" if linked else "none here"
    return _cell(
        name,
        claimed="partial" if files or linked else "unknown",
        why="a file that calls itself one: whether it was reviewed, a person must attest" if files else link,
        evidence=seen.place.cite(*files),
        todo=f"offer docs/{name}.md, `souq pr create --file`, and an attestation",
    )


def _model_card(seen: Seen) -> Cell:
    lacking = ", ".join(sorted(SECTIONS.keys() - seen.sections))
    return _cell(
        "modelcard",
        verified="partial" if seen.sections else "unknown",
        why=f"sections lacking: {lacking or 'none'}" if seen.card else "no card",
        evidence=seen.place.cite(seen.card_path) if seen.card else (),
        todo=f"write about {lacking}" if lacking else "a person must attest it",
    )


def _datasheet(seen: Seen) -> Cell:
    sheets = seen.place.cite(*(seen.datasheets or ["bom.cdx.json"]))
    origins = sheets or (seen.place.cite(*seen.recipes) if seen.rows else ())
    return _cell(
        "datasheet",
        verified="partial" if origins else "unknown",
        why="where rows come from, by contribution" if origins else "no datasheet",
        evidence=origins,
        todo="offer DATASHEET.md (Gebru et al. 2021), `souq pr create --file`; a person must attest it",
    )


# -- what can be had and used ------------------------------------------------------------------------------------------


def _package(seen: Seen) -> Cell:
    place, main = seen.place, seen.place.main
    releases = [f"releases/{version}/release.json" for version in main.releases] if main else ["release.json"]
    signed = place.cite(*releases, note="signed")
    # A signature that does not hold shows nothing: a folder's papers are judged whole, a repository's by their policy.
    valid = _releases_hold(main) if main else bool(place.proven) and not place.wrong
    return _cell(
        "package",
        claimed="partial" if seen.weights or signed else "unknown",
        verified="partial" if signed and valid else "unknown",
        why="a signed, versioned release" if signed else "files of a folder, in no package index",
        evidence=signed or place.cite(*seen.weights[:1]),
        todo="publish it in a package index",
        contradicted=bool(signed) and not valid,
    )


def _releases_hold(main: Snapshot) -> bool:
    try:
        return bool([read_release(main, version) for version in main.releases])
    except SouqError:
        return False


def _api(seen: Seen) -> Cell:
    files = seen.place.cite(seen.config_path, *seen.place.matching(r"(model/)?tokenizer(_config)?\.json"))
    return _cell(
        "api",
        why="nothing answers here; files that `transformers serve` loads: not tried",
        evidence=files if seen.config else (),
        todo="serve it where anybody may ask",
    )


DIMENSIONS: Mapping[str, Callable[[Seen], Cell]] = {
    "opencode": _training_code,
    "llmdata": _base_data,
    "llmweights": _base_weights,
    "rldata": _tuning_data,
    "rlweights": _weights,
    "license": _licence,
    "code": _code_docs,
    "architecture": _architecture,
    "preprint": _preprint,
    "paper": lambda seen: _paper("paper", seen),
    "modelcard": _model_card,
    "datasheet": _datasheet,
    "package": _package,
    "api": _api,
}


# -- the framework's seventeen components ------------------------------------------------------------------------------


def components(seen: Seen, dimensions: Mapping[str, Cell]) -> tuple[Cell, ...]:
    """The framework's components: open where they are here and verified, partial where here and not fitly licensed."""
    place = seen.place
    cases = place.matching(r"evals/[^/]+/(cases\.jsonl|eval\.toml)")
    passing = place.matching(r"contributions/[^/]+/delta\.lock|base\.lock|checkpoints?/.+\.safetensors")
    evidence: dict[str, tuple[Evidence, ...]] = {
        "Model architecture": dimensions["architecture"].evidence,
        "Model parameters (Final)": dimensions["rlweights"].evidence,
        "Technical report": place.cite(*seen.papers["preprint"]),
        "Evaluation results": place.cite(seen.card_path) if "evaluation" in seen.sections else (),
        "Model card": dimensions["modelcard"].evidence,
        "Data card": place.cite(*seen.datasheets),
        "Sample model outputs": place.cite(*place.matching(r"(docs/)?(samples?|outputs)[^/]*\.(md|jsonl|txt)")),
        "Training code": place.cite(*seen.recipes) if seen.share and seen.share.source else (),
        "Inference code": place.cite(*place.matching(r"(.*/)?(modeling|inference|generate)[^/]*\.py")),
        "Evaluation code": place.cite(*place.matching(r"evals?/.*\.py")),
        "Evaluation data": place.cite(*cases[:8]),
        "Supporting libraries and tools": place.cite(*place.matching(r"requirements[^/]*\.txt|pyproject\.toml")),
        "Datasets": place.cite(*seen.rows) if dimensions["llmdata"].verified == "open" else (),
        "Data preprocessing code": place.cite(*place.matching(r"(.*/)?(prepare|preprocess)[^/]*\.py")),
        "Model parameters (Intermediate)": place.cite(*passing),
        "Research paper": place.cite(*seen.papers["paper"]),
        "Model metadata": place.cite("model.lock", "bom.cdx.json"),
    }
    licensed = dimensions["license"].verified != "unknown"
    return tuple(_component(name, evidence[name], seen.licence_of(name), licensed) for name in mof.PARTS)


def _component(name: str, evidence: tuple[Evidence, ...], licence: str, licensed: bool) -> Cell:
    """A component's cell; `licensed`: whether the licence is more than declared."""
    state = mof.state(name, mof.Component(bool(evidence), licence))
    todo = {"absent": "bring it", "unlicensed": "license it", "not open": "license it openly"}
    if not evidence:
        return _cell(name, why="absent", todo=todo["absent"])
    return _cell(
        name,
        claimed="open" if state == "open" else "partial",
        verified="open" if state == "open" and licensed else "partial",
        why=f"{state}, under {licence or 'no licence'}",
        evidence=evidence,
        todo=todo.get(state) or ("" if licensed else "add the licence's text"),
    )


# -- the audit ---------------------------------------------------------------------------------------------------------


def audit(path: Path, *, today: str, rebuild: bool = False, progress: Progress = quiet) -> Audit:
    """Everything that can be seen of a place; a repository's date is its commit's, a folder's is `today`.

    Raises:
        NotFound: nothing is there.
        Hostile: more than anybody publishes.
    """
    place = open_place(path, progress)
    seen, main = Seen(place), place.main
    cells = {name: rule(seen) for name, rule in DIMENSIONS.items()}
    rebuilt = ""
    if rebuild and main is not None:
        cells["rlweights"], rebuilt = _rebuilt(main, cells["rlweights"], progress)
    parts = components(seen, cells)
    verified = {name: cell.verified for name, cell in cells.items()}
    claimed = {name: cell.upper for name, cell in cells.items()}
    return Audit(
        name=spelled_out(place.name),
        kind=place.kind,
        date=main.repo.summary(main.commit)[1][:10] if main else today,
        commit=main.commit if main else "",
        lower=sum(map(_points, verified.values())),
        upper=sum(map(_points, claimed.values())),
        cells=tuple(cells.values()),
        components=parts,
        mof=_mof(seen, parts, [part.verified for part in parts]),
        mof_claimed=_mof(seen, parts, [part.upper for part in parts]),
        osaid=osaid.judge(claimed, verified),
        bazaar=participation.measure(main) if main else (),
        rebuilt=rebuilt,
    )


def _mof(seen: Seen, parts: Sequence[Cell], values: Sequence[Value]) -> Mof:
    """The framework's class, where only components whose value is open count as licensed."""
    licences = [
        seen.licence_of(part.name) if value == "open" else "" for part, value in zip(parts, values, strict=True)
    ]
    bundle = {p.name: mof.Component(bool(p.evidence), licence) for p, licence in zip(parts, licences, strict=True)}
    return mof.judge(seen.place.name, bundle)


def _rebuilt(main: Snapshot, cell: Cell, progress: Progress) -> tuple[Cell, str]:
    """The weights' cell after `souq verify`, and its answer."""
    report = verify(main.repo, main.commit, progress=progress)
    if not report.findings:
        why = f"souq verify built {report.rebuilt} tensors again: {report.model}"
        return msgspec.structs.replace(cell, why=spelled_out(why)[:400]), why
    why, todo = f"souq verify: {report.findings[0]}", "run `souq verify`"
    again = _cell(cell.name, claimed=cell.claimed, why=why, evidence=cell.evidence, todo=todo, contradicted=True)
    return again, why


def _points(value: Value) -> float:
    return 0.0 if value == "unknown" else POINTS[value]
