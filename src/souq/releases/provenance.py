"""The papers of a release that machines read: how it was made (SLSA), and what it is made of (CycloneDX).

Pure: facts in, bytes out; no clock, no keys, no disk. Two people who export one release write the same papers, so a
difference between them is a finding.

Sources: SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance), in-toto Statement v1, CycloneDX 1.6
(https://cyclonedx.org/docs/1.6/json/).

    provenance(facts, {"model.safetensors": sha256})   # the bytes that are then signed
    bom(facts, {"model.safetensors": sha256})
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from souq.evals.eval import IN_NATS
from souq.model.origin import Origin
from souq.optional import installed_version
from souq.records import Digest, Release, canonical, digest, json_lines
from souq.releases.credits import Credit
from souq.repo.snapshot import Snapshot
from souq.signing import STATEMENT_TYPE

PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:souq:build:1"  # docs/releases.md says what it means
BUILDER = "urn:souq:builder:1"
WEIGHTS, LOCK = "model.safetensors", "model.lock"

_IDS = uuid.UUID("8f0c2b4e-6f5d-5d0a-9a56-2f1d6f1f3c70")  # of serial numbers: a name space of our own


@dataclass(frozen=True)
class Facts:
    """All that the papers say about one release."""

    name: str
    licence: str
    base: str
    origin: str
    release: Release
    credits: tuple[Credit, ...]
    config: Mapping[str, Any]  # config.json
    kinds: Mapping[str, str]  # eval -> how it is scored
    policy: Digest  # of GOVERNANCE.toml


def facts_of(main: Snapshot, release: Release, credited: tuple[Credit, ...], config: bytes) -> Facts:
    """The facts of a release, from the commit it stands on."""
    return Facts(
        name=main.config.name,
        licence=main.config.licence,
        base=main.config.base,
        origin=main.config.origin,
        release=release,
        credits=credited,
        config=json.loads(config),
        kinds={name: suite.spec.kind for name, suite in main.evals.items()},
        policy=digest(main.policy_text.encode()),
    )


# -- how it was made: SLSA ---------------------------------------------------------------------------------------------


def provenance(facts: Facts, files: Mapping[str, str]) -> bytes:
    """A statement about every file of the folder (name -> sha256): from what, and by what recipe, it was built."""
    subjects = [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)]
    for subject in subjects:
        if subject["name"] == LOCK:
            subject["digest"] = {"sha256": files[LOCK], "blake3": _hex(facts.release.model)}
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters(facts.release),
            "resolvedDependencies": _dependencies(facts),
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"souq": installed_version("souq", absent="0")}},
            "byproducts": [_scores(facts.release)] if facts.release.scores else [],
        },
    }
    return canonical(
        {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": PROVENANCE, "predicate": predicate}
    )


def parameters(release: Release) -> dict[str, Any]:
    """What the build was asked for: a verifier compares it with the signed release record."""
    return {"version": release.version, "recipe": msgspec.to_builtins(release.recipe)}


def dependencies(release: Release) -> set[tuple[str, str]]:
    """The kind and digest of everything that went in, by the recipe alone."""
    recipe = release.recipe
    sketch = recipe.settings.get("base_sketch")
    return {
        ("base.lock", _hex(recipe.base)),
        *(("contribution", _hex(name)) for name in recipe.contributions),
        *([("base.sketch", _hex(sketch))] if sketch else []),
    }


def _dependencies(facts: Facts) -> list[dict[str, Any]]:
    known = {credit.digest: credit for credit in facts.credits}
    listed = []
    for kind, name in sorted(dependencies(facts.release)):
        entry: dict[str, Any] = {"name": kind, "digest": {"blake3": name}, "uri": f"urn:souq:{kind}:{name}"}
        if (credit := known.get(f"b3:{name}")) is not None:
            entry["annotations"] = {
                "slug": credit.slug, "title": credit.title, "author": credit.author.name, "org": credit.org,
                "licence": credit.contribution.licence,
            }  # fmt: skip
        elif kind == "base.lock":
            entry["annotations"] = {"title": facts.base, "origin": facts.origin}
            entry["annotations"] |= {"purl": origin.purl} if (origin := Origin.of(facts.origin)) else {}
        listed.append(entry)
    commit = facts.release.commit
    algorithm = "gitCommit" if len(commit) == 40 else "sha256"
    return [*listed, {"name": "main", "digest": {algorithm: commit}, "uri": f"urn:souq:main:{commit}"}]


def _scores(release: Release) -> dict[str, Any]:
    data = canonical(release.scores)
    return {
        "name": "scores",
        "mediaType": "application/json",
        "digest": {"sha256": hashlib.sha256(data).hexdigest()},
        "content": base64.b64encode(data).decode(),
    }


# -- what it is made of: CycloneDX -------------------------------------------------------------------------------------


def bom(facts: Facts, files: Mapping[str, str], card: Mapping[str, str] | None = None) -> bytes:
    """The bill of materials: the model, its base, every contribution, every data set, and the folder's files by sha256.

    `card` is what its README.md is known again by, when somebody has added to it.

    One value, one spelling, indented for people.
    """
    data = [entry for credit in facts.credits for entry in _data(credit)]
    weights = [_change(credit) for credit in facts.credits if credit.contribution.kind == "weights"]
    base = _base(facts)
    used = [base["bom-ref"], *(entry["bom-ref"] for entry in weights)]
    made = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_IDS, canonical(facts.release).decode())}",
        "version": 1,
        "metadata": {
            **({"timestamp": facts.release.at} if facts.release.at else {}),  # the release's, as its signer says
            "tools": {
                "components": [
                    {"type": "application", "name": "souq", "version": installed_version("souq", absent="0")}
                ]
            },
            "component": _model(facts, files, data, card),
        },
        "components": [base, *weights, *data, *(_file(name, files[name]) for name in sorted(files) if name != WEIGHTS)],
        "dependencies": [{"ref": "model", "dependsOn": used}, *_trained_on(facts)],
    }
    return (json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _model(
    facts: Facts, files: Mapping[str, str], data: list[dict[str, Any]], card_mark: Mapping[str, str] | None
) -> dict[str, Any]:
    release, config = facts.release, facts.config
    card: dict[str, Any] = {
        "modelParameters": {
            "task": "text-generation",
            "architectureFamily": str(config.get("model_type", "")),
            "modelArchitecture": ", ".join(map(str, config.get("architectures") or [])),
            "datasets": [{"ref": entry["bom-ref"]} for entry in data],
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        }
    }
    if release.scores:
        kinds = {name: "nats a token" if facts.kinds.get(name) in IN_NATS else "accuracy" for name in release.scores}
        metrics = [
            {"type": kinds[name], "slice": name, "value": f"{value:.4f}"}
            for name, value in sorted(release.scores.items())
        ]
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    settings = {
        "souq:model": release.model, "souq:recipe": release.recipe.digest, "souq:commit": release.commit,
        "souq:method": release.recipe.method, "souq:governance": facts.policy,
    }  # fmt: skip
    settings |= card_mark or {}
    ancestor = {key: value for key, value in _base(facts).items() if key != "bom-ref"}
    count, method = len(release.recipe.contributions), release.recipe.method
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": facts.name,
        "version": release.version,
        "licenses": _licences(facts.licence),
        "hashes": [_sha256(files[WEIGHTS])] if WEIGHTS in files else [],
        "modelCard": card,
        "pedigree": {
            "ancestors": [ancestor],
            "notes": f"contributions of weights merged into it by `{method}`: {count}",
        },
        "properties": _properties(settings),
    }


def _base(facts: Facts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": facts.base,
        "hashes": [_blake3(facts.release.recipe.base)],
    }
    if facts.origin:
        entry["description"] = f"from {facts.origin}"
    if (origin := Origin.of(facts.origin)) is not None:
        entry["purl"] = origin.purl
    return entry


def _change(credit: Credit) -> dict[str, Any]:
    measured = [
        {
            "type": f"gain of {fix.eval}", "slice": fix.eval, "value": f"{fix.gain:.4f}",
            "confidenceInterval": {"lowerBound": f"{fix.low:.4f}", "upperBound": f"{fix.high:.4f}"},
        }
        for fix in credit.fixes
    ]  # fmt: skip
    entry = _given(credit, credit.slug, "machine-learning-model", credit.title, _blake3(credit.digest))
    entry["modelCard"] = {"quantitativeAnalysis": {"performanceMetrics": measured}}
    entry["properties"] = _properties({"souq:share": f"{credit.share:.4f}"})
    return entry


def _data(credit: Credit) -> list[dict[str, Any]]:
    """The rows it brings, a component a file."""
    listed = []
    for path, data in sorted(credit.data.items()):
        hashed = _sha256(hashlib.sha256(data).hexdigest())
        entry = _given(credit, f"{credit.slug}/{path}", "data", f"rows of {credit.title}", hashed)
        rows = sum(1 for _ in json_lines(data))
        entry["data"] = [{"type": "dataset", "name": path, "description": f"{rows} rows of JSONL"}]
        listed.append(entry)
    return listed


def _given(credit: Credit, ref: str, kind: str, description: str, hashed: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": kind,
        "bom-ref": ref,
        "name": ref,
        "description": description,
        "authors": [{"name": credit.author.name, "email": credit.author.email}],
        "licenses": _licences(credit.contribution.licence),
        "hashes": [hashed],
    }
    if credit.org:
        entry["supplier"] = {"name": credit.org}
    return entry


def _trained_on(facts: Facts) -> list[dict[str, Any]]:
    return [
        {"ref": credit.slug, "dependsOn": [f"{credit.slug}/{path}" for path in sorted(credit.data)]}
        for credit in facts.credits
        if credit.data and credit.contribution.kind == "weights"
    ]


def _file(name: str, sha256: str) -> dict[str, Any]:
    return {"type": "file", "bom-ref": f"file/{name}", "name": name, "hashes": [_sha256(sha256)]}


def file_hashes(bill: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 a bill of materials gives for each file of its folder."""
    listed = {entry["name"]: entry for entry in bill["components"] if entry["type"] == "file"}
    listed[WEIGHTS] = bill["metadata"]["component"]
    return {name: entry["hashes"][0]["content"] for name, entry in listed.items()}


def _licences(expression: str) -> list[dict[str, str]]:
    # An expression, never an id: ids are an enumeration that grows after a schema is published.
    return [{"expression": expression}]


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": values[name]} for name in sorted(values)]


def _sha256(content: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": content}


def _blake3(name: Digest) -> dict[str, str]:
    return {"alg": "BLAKE3", "content": _hex(name)}


def _hex(name: Digest) -> str:
    return name.removeprefix("b3:")
