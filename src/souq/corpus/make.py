"""Let a model answer seed prompts, keep what is right and new, and say of every row where it came from.

A finished answer is written to a journal before the next batch begins, under a digest of everything that shaped it
(teacher, prompt, sampling, seed): after kill -9 the same command goes on where it was, and a changed setting never
reuses a stale answer. What is published is Parquet: `kept/` and `rejected/`, one schema, and a manifest of digests.

    rows = make(lm, read_prompts(path), Path("corpus"), teacher=digest, licence="Apache-2.0")
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from souq.errors import Hostile, Missing, NotFound, UsageError, nearest
from souq.progress import Progress, quiet
from souq.records import Digest, Record, canonical, digest, digest_of

MAX_PROMPTS = 1_000_000
BATCH = 64


class Prompt(Record, frozen=True, forbid_unknown_fields=True):
    """A seed: what is asked, where it comes from, and how an answer can be checked, if it can."""

    prompt: str
    source: str
    licence: str
    checker: str = ""
    expected: str = ""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    max_tokens: int = 32
    samples: int = 1


def _equals(answer: str, expected: str) -> bool:
    return answer == expected


def _is_json(answer: str, expected: str) -> bool:
    try:
        return isinstance(json.loads(answer), dict)
    except (ValueError, RecursionError):
        return False


def _is_date(answer: str, expected: str) -> bool:
    try:
        return date.fromisoformat(answer).isoformat() == answer
    except ValueError:
        return False


CHECKERS: dict[str, Callable[[str, str], bool]] = {"equals": _equals, "json": _is_json, "iso-date": _is_date}


def read_prompts(path: Path) -> list[Prompt]:
    """Seeds from JSONL.

    Raises:
        NotFound: no such file.
        UsageError: a line that is no seed, or a checker that is not there.
    """
    if not path.is_file():
        raise NotFound(
            f"no file {path}", hint="a line is {prompt, source, licence} and, where it can be checked, checker"
        )
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            seed = msgspec.json.decode(line, type=Prompt)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        if seed.checker and seed.checker not in CHECKERS:
            raise UsageError(f"{path}, line {number}: no checker {seed.checker!r}{nearest(seed.checker, CHECKERS)}")
        found.append(seed)
    if not 0 < len(found) <= MAX_PROMPTS:
        raise UsageError(f"{path} has {len(found):,} prompts; between 1 and {MAX_PROMPTS:,} are taken")
    return found


def make(
    lm: Any, prompts: Sequence[Prompt], out: Path, *, teacher: Digest, licence: str, sampling: Sampling | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:  # fmt: skip
    """Generate, filter and publish; returns the manifest. Run again, it goes on or has nothing left to do."""
    sampling = sampling or Sampling()
    out.mkdir(parents=True, exist_ok=True)
    from souq.lab import generate

    jobs = [_job(seed, n, teacher, sampling, generate.ENGINE) for seed in prompts for n in range(sampling.samples)]
    told = _answer(lm, jobs, out / "journal.jsonl", sampling, progress)
    rows = list(_judge([_row(job, told[job["key"]], teacher, licence, sampling) for job in jobs]))
    return _publish(rows, out, teacher, licence)


def _job(seed: Prompt, sample: int, teacher: Digest, sampling: Sampling, engine: str) -> dict[str, Any]:
    facts = {"teacher": teacher, "prompt": seed.prompt, "sample": sample, "sampling": vars(sampling), "engine": engine}
    key = digest_of(facts)
    return {"seed": seed, "sample": sample, "key": key, "chance": int(key[3:18], 16), "engine": engine}


def _answer(
    lm: Any, jobs: Sequence[dict[str, Any]], journal: Path, sampling: Sampling, progress: Progress
) -> dict[str, str]:
    """Every job's answer; a batch that the journal holds is not asked again.

    Batches are cut from all jobs, not from what is left: the last bits of an answer's odds depend on what it is padded
    to, so a batch cut short by a crash is asked again whole.
    """
    from souq.lab import generate

    told = dict(_journalled(journal))
    with journal.open("ab") as file:
        for start in range(0, len(jobs), BATCH):
            progress("corpus rows", start, len(jobs))
            batch = jobs[start : start + BATCH]
            if all(job["key"] in told for job in batch):
                continue
            answers = generate.answers(
                lm, [job["seed"].prompt for job in batch], max_tokens=sampling.max_tokens,
                temperature=sampling.temperature, seeds=[job["chance"] for job in batch],
            )  # fmt: skip
            for job, answer in zip(batch, answers, strict=True):
                told[job["key"]] = answer
                file.write(canonical([job["key"], answer]) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    progress("corpus rows", len(jobs), len(jobs))
    return told


def _journalled(journal: Path) -> Iterator[tuple[str, str]]:
    """Finished answers; a last line cut off by a crash is not one, and is cut away so that the next begins clean."""
    if not journal.is_file():
        return
    whole = 0
    for line in journal.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        key, answer = json.loads(line)
        yield str(key), str(answer)
    os.truncate(journal, whole)


def _row(job: dict[str, Any], answer: str, teacher: Digest, licence: str, sampling: Sampling) -> dict[str, Any]:
    """One row with its provenance (specs/teacher.md, section 4)."""
    seed: Prompt = job["seed"]
    messages = [{"role": "user", "content": seed.prompt}, {"role": "assistant", "content": answer}]
    return {
        "id": digest_of(messages), "messages": messages, "teacher_digest": teacher,
        "prompt_digest": digest(seed.prompt.encode()), "seed_source": seed.source, "seed_licence": seed.licence,
        "temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "sample": job["sample"],
        "seed": str(job["chance"]), "engine": job["engine"], "checker": seed.checker,
        "checked": CHECKERS[seed.checker](answer, seed.expected) if seed.checker else None,
        "licence": licence, "origin": "synthetic", "ancestry_depth": 1, "rejected_because": "",
    }  # fmt: skip


def _judge(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Say why a row is not kept: empty, wrong by its checker, or said before."""
    seen: set[str] = set()
    for row in rows:
        because = ""
        if not row["messages"][-1]["content"]:
            because = "empty"
        elif row["checked"] is False:
            because = f"wrong by checker {row['checker']}"
        elif row["id"] in seen:
            because = "duplicate"
        seen.add(row["id"])
        yield row | {"rejected_because": because}


def _publish(rows: Sequence[dict[str, Any]], out: Path, teacher: Digest, licence: str) -> dict[str, Any]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise Missing("pyarrow is not installed", hint='run `pip install "souq[corpus]"`') from error
    turn = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
    kinds = {"messages": arrow.list_(turn), "temperature": arrow.float32(), "max_tokens": arrow.int32(), "sample": arrow.int32(),
             "checked": arrow.bool_(), "ancestry_depth": arrow.int32()}  # fmt: skip
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in rows[0]])
    files = {}
    for subset in ("kept", "rejected"):
        chosen = sorted(
            (row for row in rows if bool(row["rejected_because"]) == (subset == "rejected")), key=lambda r: r["id"]
        )
        path = out / subset / "part-00000.parquet"
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".part")
        parquet.write_table(arrow.Table.from_pylist(chosen, schema=schema), partial, compression="zstd")
        partial.replace(path)
        files[f"{subset}/{path.name}"] = {"rows": len(chosen), "digest": digest(path.read_bytes())}
    manifest = {"teacher": teacher, "licence": licence, "files": files, "rejected": _reasons(rows)}
    (out / "manifest.json").write_bytes(canonical(manifest))
    return manifest


def _reasons(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    reasons = [row["rejected_because"] for row in rows if row["rejected_because"]]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The kept rows of a corpus, its files checked against the manifest.

    Raises:
        NotFound: not a corpus.
        Hostile: a file is not what the manifest says.
    """
    import pyarrow.parquet as parquet

    if not (folder / "manifest.json").is_file():
        raise NotFound(f"no manifest.json in {folder}", hint="make a corpus with `souq corpus make`")
    told = json.loads((folder / "manifest.json").read_bytes())
    path = folder / "kept" / "part-00000.parquet"
    if digest(path.read_bytes()) != told["files"]["kept/part-00000.parquet"]["digest"]:
        raise Hostile(f"{path} is not what manifest.json says")
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows
