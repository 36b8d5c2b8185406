"""What a folder or a repository can show of its openness: each cell claimed and verified, with the files it rests on.

A claim is a word; what is verified is bytes that are here and were read. Whether a paper or a text is good no machine
knows, so documentation is at most partial here. Nothing unknown counts as open, and a contradicted claim counts only as
what was verified. Every file is a stranger's: sizes are bounded, links are not followed, nothing is run.

    audit(Path("SmolLM2-135M-Instruct"), today="2026-11-25").lower
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from souq.audit import index, mof, osaid, participation
from souq.audit.index import POINTS, Rating, refuse_bombs
from souq.audit.mof import Mof
from souq.audit.osaid import Asked
from souq.audit.participation import Measure
from souq.audit.place import Evidence, Place, open_place
from souq.errors import SouqError
from souq.progress import Progress, quiet
from souq.records import Record, read_json, spelled_out
from souq.snapshot import Snapshot
from souq.source import Share, share

Value = Rating | Literal["unknown"]
Status = Literal["verified", "contradicted", "unverifiable", "absent"]
RUBRICS = (index.RUBRIC, mof.RUBRIC, osaid.RUBRIC)
ORDER: tuple[Value, ...] = ("unknown", "closed", "partial", "open")
# A licence's text, by words that stand in no other.
TEXTS = {
    "Apache-2.0": r"Apache License\s+Version 2\.0, January 2004",
    "MIT": r"Permission is hereby granted, free of charge, to any person obtaining a copy",
    "GPL-3.0-only": r"GNU GENERAL PUBLIC LICENSE\s+Version 3",
    "CC-BY-4.0": r"Creative Commons Attribution 4\.0 International",
    "CC-BY-NC-4.0": r"Attribution-NonCommercial 4\.0 International",
    "CC0-1.0": r"CC0 1\.0 Universal",
    "CDLA-Permissive-2.0": r"Community Data License Agreement - Permissive - Version 2\.0",
    "OpenMDW-1.0": r"OpenMDW License Agreement, version 1\.0",
}
SECTIONS = {"data": "data", "evaluation": "eval|score|benchmark", "limits": "limit|bias|risk", "use": "use|usage"}


class Cell(Record, frozen=True, omit_defaults=False):
    """One thing that is rated: what is said, what is shown, and what to do next."""

    name: str
    claimed: Value
    verified: Value
    status: Status
    why: str
    evidence: tuple[Evidence, ...] = ()
    todo: str = ""


class Audit(Record, frozen=True, omit_defaults=False):
    """Everything found in one place. `lower` and `upper` are sums over the index's fourteen dimensions."""

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
    osaid: tuple[Asked, ...]
    bazaar: tuple[Measure, ...] = ()
    rebuilt: str = ""
    rubrics: tuple[str, ...] = RUBRICS

    @property
    def osaid_met(self) -> bool:
        return all(asked.verified for asked in self.osaid)


# -- what is seen ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What the files of a place say and show, each read once."""

    place: Place

    @cached_property
    def card(self) -> str:
        if (main := self.place.main) is not None and main.releases:
            return self.place.text(f"releases/{main.releases[-1]}/README.md")
        return self.place.text("README.md")

    @cached_property
    def card_path(self) -> str:
        main = self.place.main
        return f"releases/{main.releases[-1]}/README.md" if main is not None and main.releases else "README.md"

    @cached_property
    def head(self) -> Mapping[str, Any]:
        """The card's YAML, plainly read; nothing where it cannot be."""
        found = re.match(r"---\n(.{0,65536}?)\n---", self.card, re.DOTALL)
        if not found:
            return {}
        import yaml

        with suppress(SouqError, yaml.YAMLError, ValueError):
            refuse_bombs(found.group(1), "README.md")
            told = yaml.safe_load(found.group(1))
            return told if isinstance(told, dict) else {}
        return {}

    @cached_property
    def sections(self) -> set[str]:
        """Which of a model card's subjects have a heading (Mitchell et al. 2019)."""
        heads = re.findall(r"^#{1,4} (.{1,200})$", self.card, re.MULTILINE)
        return {
            name for name, words in SECTIONS.items() if any(re.search(words, head, re.IGNORECASE) for head in heads)
        }

    @cached_property
    def declared(self) -> str:
        """The licence that is said, by its SPDX name where it has one."""
        said = self.place.main.config.licence if self.place.main else self.head.get("license_name") or self.head.get("license")  # fmt: skip
        known = {name.lower(): name for names in mof.FIT.values() for name in names}
        return known.get(str(said).lower(), str(said)[:80]) if said and isinstance(said, str) else ""

    @cached_property
    def texts(self) -> dict[str, str]:
        """Files with a licence's text, and which one it is; "" where it is none that is known here."""
        files = self.place.matching(r"(licen[cs]e|copying)[^/]{0,20}")
        return {p: next((n for n, words in TEXTS.items() if re.search(words, self.place.text(p)[:20_000])), "") for p in files}  # fmt: skip

    @cached_property
    def conflict(self) -> str:
        other = [f"{path} is {name}" for path, name in self.texts.items() if name and self.declared and name != self.declared]  # fmt: skip
        return f"{self.declared} is declared, but {other[0]}" if other else ""

    @cached_property
    def weights(self) -> list[str]:
        return self.place.matching(r"(model|pytorch_model)[^/]*\.(safetensors|gguf|bin)|[^/]+\.gguf")

    @cached_property
    def broken(self) -> str:
        """Why the weights are no model; nothing where their headers hold and every byte is accounted for."""
        from souq.weights.safetensors import open_tensors

        for path in self.weights if self.place.folder else []:
            try:
                if path.endswith(".safetensors") and self.place.folder:
                    open_tensors(self.place.folder / path)
            except (SouqError, OSError, ValueError) as error:
                return f"{path}: {error}"
        return next((line for line in self.place.wrong), "")

    @cached_property
    def config(self) -> Mapping[str, Any]:
        path = self.config_path
        with suppress(SouqError, json.JSONDecodeError):
            told = read_json(self.place.text(path).encode()) if path else {}
            return told if isinstance(told, dict) else {}
        return {}

    @cached_property
    def config_path(self) -> str:
        return next((p for p in ("config.json", "model/config.json") if p in self.place.paths), "")

    @cached_property
    def share(self) -> Share | None:
        return share(self.place.main) if self.place.main else None

    @cached_property
    def data(self) -> list[str]:
        return self.place.matching(r"(contributions/[^/]+/)?data/.+\.(jsonl|parquet|csv)")

    @cached_property
    def recipes(self) -> list[str]:
        """What says how each change of weights was trained."""
        main = self.place.main
        return (
            [f"contributions/{slug}/contribution.toml" for slug, one in main.landed.items() if one.moves]
            if main
            else []
        )

    @cached_property
    def misfit(self) -> str:
        """A contribution under terms that are not open, whatever the repository says of itself."""
        main = self.place.main
        said = {slug: offer.contribution.licence for slug, offer in main.offers.items()} if main else {}
        return next((f"{slug} is under {name}" for slug, name in said.items() if name not in mof.FIT["data"]), "")

    @cached_property
    def exam(self) -> str:
        """The licence of the evals, where there are any: theirs, not the model's; the first that does not fit."""
        main = self.place.main
        said = sorted({found.spec.licence for found in main.evals.values()}) if main else []
        return next((name for name in said if name not in mof.FIT["data"]), said[0] if said else "")

    @cached_property
    def papers(self) -> dict[str, list[str]]:
        """Files that are papers by their names; a link in a card is a claim and no file."""
        return {
            "paper": self.place.matching(r"(docs/)?paper[^/]*\.(pdf|md|tex)"),
            "preprint": self.place.matching(r"(docs/)?(preprint|technical[_-]report)[^/]*\.(pdf|md|tex)"),
        }

    def licence_of(self, component: str) -> str:
        """Evals have licences of their own; whatever else has none of its own has the distribution's."""
        return self.exam if component == "Evaluation data" and self.exam else self.declared

    @property
    def listed(self) -> tuple[Evidence, ...]:
        """A release's bill of materials, which names base, contributions and rows by digest."""
        return self.place.cite("bom.cdx.json", note="names it by digest; declared, the bytes are not here")


def _cell(name: str, claimed: Value, verified: Value, why: str, evidence: Sequence[Evidence] = (), todo: str = "", *, wrong: bool = False) -> Cell:  # fmt: skip
    """A cell whose status follows: what is shown is verified; what is only said cannot be; a claim is never below it."""
    claimed = max(claimed, verified, key=ORDER.index)
    status: Status = "contradicted" if wrong else "verified" if ORDER.index(verified) > 1 else "absent" if claimed == "unknown" and not evidence else "unverifiable"  # fmt: skip
    return Cell(name=name, claimed=claimed, verified=verified, status=status, why=spelled_out(why)[:400], evidence=tuple(evidence)[:12], todo=todo)  # fmt: skip


# -- the fourteen ------------------------------------------------------------------------------------------------------


def cells(seen: Seen) -> tuple[Cell, ...]:
    """The index's dimensions in its order."""
    return (*_available(seen), *_documented(seen), *_accessible(seen))


def _available(seen: Seen) -> Iterator[Cell]:
    place, shared = seen.place, seen.share
    code = place.matching(r"(.*/)?[^/]+\.py")
    linked: Value = "partial" if re.search(r"https://(github|gitlab|codeberg)\.", seen.card) else "unknown"
    whole = shared is not None and 0 < shared.contributions == shared.source
    if shared is not None and seen.recipes:
        base: Value = "open" if shared.base != "binary" else "partial"
        why = f"{shared.source} of {shared.contributions} contributions can be trained again; the base is {shared.base}"
        yield _cell("opencode", base, "partial" if shared.source else "unknown", why, place.cite(*seen.recipes), "publish the base's training code, or name it as base_source")  # fmt: skip
    else:
        yield _cell("opencode", linked, "partial" if code else "unknown", "code in the folder" if code else "no code here; a link in the card is declared", place.cite(*code[:4]) or seen.listed, "put the training code or recipe beside the model")  # fmt: skip
    said: Value = "partial" if seen.head.get("datasets") or (shared and shared.base != "binary") else "unknown"
    yield _cell("llmdata", said, "unknown", "what the base was trained on is not here", place.cite("souq.toml", note="names base and origin: declared") or seen.listed, "say in base_source where the base's data is")  # fmt: skip
    fit = seen.declared in mof.FIT["data"] and not seen.conflict and not seen.misfit
    worth: Value = "open" if fit else "partial"
    terms = _licence(seen)
    # What is here under terms that are only said is available, and not yet shown to be licensed.
    firm: Value = "open" if fit and terms.verified != "unknown" else "partial"
    main = place.main
    if main is not None:
        here = sum(ref.digest in main.repo.store for ref in main.base.values())
        held = here == len(main.base) and bool(main.base)
        yield _cell("llmweights", worth, firm if held else "unknown", f"{here} of {len(main.base)} tensors of the base are in the store", place.cite("base.lock"), "" if held and fit else "`souq fetch`; a licence that fits data")  # fmt: skip
    else:
        yield _cell("llmweights", "unknown", "unknown", "the base itself is not here" if seen.head.get("base_model") or seen.listed else "whether these are the base's weights is not said", seen.listed, "publish the base beside it")  # fmt: skip
    rows = place.cite(*seen.data)
    yield _cell("rldata", "partial" if seen.listed else "unknown", (firm if whole else "partial") if rows else "unknown", f"{len(seen.data)} files of rows", rows or seen.listed, "" if whole and fit else "bring the rows that every contribution was trained on")  # fmt: skip
    if main is not None:
        yield _cell("rlweights", worth, firm if main.landed else "unknown", "model.lock follows from the recipe; --rebuild computes it", place.cite("model.lock"), "land a contribution" if not main.landed else "")  # fmt: skip
    else:
        there = bool(seen.weights) and not seen.broken
        yield _cell("rlweights", worth if seen.weights else "unknown", firm if there else "unknown", seen.broken or ("every byte of the tensors is accounted for" if there else "no weights here"), place.cite(*seen.weights[:4]), "" if there and firm == "open" else "weights, and the text of a licence that fits data", wrong=bool(seen.broken))  # fmt: skip
    yield terms


def _licence(seen: Seen) -> Cell:
    place = seen.place
    proof = place.cite(*seen.texts, note="licence text") + place.cite("souq.toml" if place.main else seen.card_path)
    known = seen.declared in mof.OSI | {"OpenMDW-1.0", "OpenMDW-1.1"}
    read = any(name == seen.declared for name in seen.texts.values())
    why = (
        seen.conflict
        or seen.misfit
        or f"{seen.declared or 'none'} declared; its text is {'here' if read else 'not here'}"
    )
    if seen.declared and not known and not _is_spdx(seen.declared):
        return _cell("license", "closed", "unknown", f"{seen.declared} is no SPDX licence", proof, "name one by its SPDX name", wrong=True)  # fmt: skip
    verified: Value = "unknown" if seen.conflict or seen.misfit else "open" if read and known else "unknown"
    if verified == "unknown" and place.main and known and seen.recipes and not seen.conflict and not seen.misfit:
        verified = "partial"  # each contribution's author signed it off under its licence
    return _cell("license", "open" if known else "partial" if seen.declared else "unknown", verified, why, proof if seen.declared or seen.texts else (), "" if verified == "open" else "add the licence's text as LICENSE", wrong=bool(seen.conflict or seen.misfit))  # fmt: skip


def _is_spdx(name: str) -> bool:
    from license_expression import get_spdx_licensing

    try:
        return bool(name) and not get_spdx_licensing().unknown_license_keys(name)
    except Exception:  # the parser answers some nonsense with whatever error lay at hand
        return False


def _documented(seen: Seen) -> Iterator[Cell]:
    place = seen.place
    docs = [p for p in ("README.md", "CREDITS.md", "CHANGELOG.md") if p in place.paths]
    ours = bool(docs) and (place.main is not None or place.kind == "exported release")
    yield _cell("code", "unknown", "partial" if ours else "unknown", "how to build and verify is written down; how well, a machine cannot judge" if ours else "no documentation of code", place.cite(*docs) if ours else (), "document training; a person must attest it")  # fmt: skip
    told = bool(seen.config.get("architectures")) and bool(seen.config.get("model_type"))
    yield _cell("architecture", "unknown", "partial" if told else "unknown", f"config.json says {str(seen.config.get('architectures'))[:80]}" if told else "no configuration", place.cite(seen.config_path) if told else (), "describe training and architecture; a person must attest it")  # fmt: skip
    for name in ("preprint", "paper"):
        files = seen.papers[name]
        linked = name == "preprint" and "arxiv.org" in seen.card.lower()
        yield _cell(name, "partial" if files or linked else "unknown", "unknown", "a file that calls itself one: whether it was reviewed, a person must attest" if files else "a link in the card: declared" if linked else "none here", place.cite(*files), f"add docs/{name}.pdf and an attestation")  # fmt: skip
    lacks = sorted(SECTIONS.keys() - seen.sections)
    yield _cell("modelcard", "unknown", "partial" if seen.card and seen.sections else "unknown", f"sections lacking: {', '.join(lacks) or 'none'}" if seen.card else "no card", place.cite(seen.card_path) if seen.card else (), f"write about {', '.join(lacks)}" if lacks else "a person must attest it")  # fmt: skip
    sheets = place.matching(r"(docs/)?(datasheet|data[_-]card)[^/]*\.md")
    proof = place.cite(*(sheets or ["bom.cdx.json"])) or (place.cite(*seen.recipes) if seen.data else ())
    yield _cell("datasheet", "unknown", "partial" if proof else "unknown", "where rows come from, by contribution" if proof else "no datasheet", proof, "write DATASHEET.md (Gebru et al. 2021); a person must attest it")  # fmt: skip


def _accessible(seen: Seen) -> Iterator[Cell]:
    place = seen.place
    main = place.main
    release = [f"releases/{v}/release.json" for v in main.releases] if main else ["release.json"]
    signed = place.cite(*release, note="signed")
    # A signature that does not hold shows nothing: a folder's papers are judged whole, a repository's by their policy.
    valid = _release_holds(main) if main else bool(place.proven) and not place.wrong
    yield _cell("package", "partial" if seen.weights or signed else "unknown", "partial" if signed and valid else "unknown", "a signed, versioned release" if signed else "files of a folder, in no package index", signed or place.cite(*seen.weights[:1]), "publish it in a package index", wrong=bool(signed) and not valid)  # fmt: skip
    serves = place.cite(seen.config_path, *place.matching(r"(model/)?tokenizer(_config)?\.json"))
    yield _cell("api", "unknown", "unknown", "nothing answers here; files that `transformers serve` loads: not tried", serves if seen.config else (), "serve it where anybody may ask")  # fmt: skip


def _release_holds(main: Snapshot) -> bool:
    from souq.bundling import read

    try:
        return bool([read(main, version) for version in main.releases])
    except SouqError:
        return False


# -- the seventeen -----------------------------------------------------------------------------------------------------


def components(seen: Seen, found: Mapping[str, Cell]) -> tuple[Cell, ...]:
    """The framework's components: open where they are here and verified, partial where here and not fitly licensed."""
    place = seen.place
    evals = place.matching(r"evals/[^/]+/(cases\.jsonl|eval\.toml)")
    scored = place.cite(seen.card_path) if "evaluation" in seen.sections else ()
    there: dict[str, tuple[Evidence, ...]] = {
        "Model architecture": found["architecture"].evidence,
        "Model parameters (Final)": found["rlweights"].evidence,
        "Technical report": place.cite(*seen.papers["preprint"]),
        "Evaluation results": scored,
        "Model card": found["modelcard"].evidence,
        "Data card": place.cite(*place.matching(r"(docs/)?(datasheet|data[_-]card)[^/]*\.md")),
        "Sample model outputs": place.cite(*place.matching(r"(docs/)?(samples?|outputs)[^/]*\.(md|jsonl|txt)")),
        "Training code": place.cite(*seen.recipes) if seen.share and seen.share.source else (),
        "Inference code": place.cite(*place.matching(r"(.*/)?(modeling|inference|generate)[^/]*\.py")),
        "Evaluation code": place.cite(*place.matching(r"evals?/.*\.py")),
        "Evaluation data": place.cite(*evals[:8]),
        "Supporting libraries and tools": place.cite(*place.matching(r"requirements[^/]*\.txt|pyproject\.toml")),
        "Datasets": place.cite(*seen.data) if found["llmdata"].verified == "open" else (),
        "Data preprocessing code": place.cite(*place.matching(r"(.*/)?(prepare|preprocess)[^/]*\.py")),
        "Model parameters (Intermediate)": place.cite(*place.matching(r"contributions/[^/]+/delta\.lock|base\.lock|checkpoints?/.+\.safetensors")),
        "Research paper": place.cite(*seen.papers["paper"]),
        "Model metadata": place.cite("model.lock", "bom.cdx.json"),
    }  # fmt: skip
    shown = found["license"].verified != "unknown"
    return tuple(_component(name, there[name], seen.licence_of(name), shown) for name in mof.PARTS)


def _component(name: str, proof: tuple[Evidence, ...], licence: str, shown: bool) -> Cell:
    """`shown`: whether the licence is more than said."""
    state = mof.state(name, mof.Component(bool(proof), licence))
    claimed: Value = "open" if state == "open" else "partial" if proof else "unknown"
    verified: Value = "unknown" if not proof else "open" if state == "open" and shown else "partial"
    why = f"{state}, under {licence or 'no licence'}" if proof else "absent"
    todo = {"absent": "bring it", "unlicensed": "license it", "not open": "license it openly"}.get(state, "")
    return _cell(name, claimed, verified, why, proof, todo or ("" if shown else "add the licence's text"))


# -- the audit ---------------------------------------------------------------------------------------------------------


def audit(path: Path, *, today: str, rebuild: bool = False, progress: Progress = quiet) -> Audit:
    """Everything that can be seen of a place; a repository's date is its commit's, a folder's is `today`.

    Raises:
        NotFound: nothing is there.
        Hostile: more than anybody publishes.
    """
    place = open_place(path, progress)
    seen = Seen(place)
    found = {cell.name: cell for cell in cells(seen)}
    rebuilt = ""
    if rebuild and place.main is not None:
        found["rlweights"], rebuilt = _rebuilt(place.main, found["rlweights"], progress)
    made = components(seen, found)
    classes = [mof.judge(place.name, {c.name: mof.Component(bool(c.evidence), seen.licence_of(c.name) if _value(c, side) == "open" else "") for c in made}) for side in ("verified", "claimed")]  # fmt: skip
    main = place.main
    return Audit(
        name=spelled_out(place.name), kind=place.kind, commit=main.commit if main else "", rebuilt=rebuilt,
        date=main.repo.summary(main.commit)[1][:10] if main else today,
        lower=sum(_points(c.verified) for c in found.values()), upper=sum(_points(_value(c, "claimed")) for c in found.values()),
        cells=tuple(found.values()), components=made, mof=classes[0], mof_claimed=classes[1],
        osaid=osaid.judge({n: _value(c, "claimed") for n, c in found.items()}, {n: c.verified for n, c in found.items()}),
        bazaar=participation.measure(main) if main else (),
    )  # fmt: skip


def _rebuilt(main: Snapshot, cell: Cell, progress: Progress) -> tuple[Cell, str]:
    from souq.verify import verify

    report = verify(main.repo, main.commit, progress=progress)
    if report.findings:
        why = f"souq verify: {report.findings[0]}"
        return _cell(cell.name, cell.claimed, "unknown", why, cell.evidence, "run `souq verify`", wrong=True), why
    why = f"souq verify built {report.rebuilt} tensors again: {report.model}"
    return _cell(cell.name, cell.claimed, cell.verified, why, cell.evidence, cell.todo), why


def _value(cell: Cell, side: str) -> Value:
    """A contradicted claim is worth what was verified."""
    return cell.claimed if side == "claimed" and cell.status != "contradicted" else cell.verified


def _points(value: Value) -> float:
    return 0.0 if value == "unknown" else POINTS[value]
