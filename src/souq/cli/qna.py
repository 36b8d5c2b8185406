"""`souq corpus import-qna` and `export-qna`: trees of InstructLab's qna.yaml."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from souq.cli.console import answer, done, json_option, out
from souq.corpus import qna
from souq.errors import Hostile, NotFound, SouqError, UsageError, nearest
from souq.files import replacing
from souq.records import spelled_out

MOST = 100_000  # files
SHAPES = ("seeds", "messages")


@click.command("import-qna")
@click.argument("tree", type=click.Path(path_type=Path))
@click.option("--out", "target", type=click.Path(path_type=Path), help="Write JSONL here.")
@click.option(
    "--as",
    "shape",
    type=click.Choice(SHAPES),
    default="seeds",
    show_default=True,
    help="For `souq corpus make`, or as rows for `souq pr create --data`.",
)
@click.option("--licence", default="", help="Of what has no attribution.txt: what the tree's own LICENSE says.")
@json_option
def import_qna(tree: Path, target: Path | None, shape: str, licence: str, as_json: bool) -> None:
    """Read every qna.yaml below TREE; what is refused is named with its line and the reason, and left out."""
    if licence and licence not in qna.LICENCES:
        hint = f"one of {', '.join(qna.LICENCES)}"
        raise UsageError(f"{licence!r} may not come in{nearest(licence, qna.LICENCES)}", hint=hint)
    nodes, rows, refused = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, str]()
    files, misnamed = _files(tree)
    refused |= {name: f"{name}: {qna.MISNAMED}" for name in misnamed}
    for path, name in files:
        try:
            node, terms = _read(path, name, licence)
        except SouqError as error:
            refused[name] = str(error)
            continue
        pairs = [pair for example in node.examples for pair in example.asked()]
        rows += [_row(shape, node, asked, expected, name, terms) for asked, expected in pairs]
        nodes.append({"file": name, "kind": node.kind, "rows": len(pairs), "licence": terms, "notes": qna.notes(node)})
    if target is not None and rows:
        _write(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())

    def show() -> None:
        for read in nodes:
            out.print(spelled_out(f"{read['file']}: {read['kind']}, {read['rows']} rows, {read['licence']}"))
            for note in read["notes"]:
                out.print(f"  note: {note}")
        for because in refused.values():
            out.print(spelled_out(f"refused: {because}"))
        wrote = f"; wrote {target}" if target and rows else ""
        done(f"{len(rows)} rows of {len(nodes)} files; {len(refused)} refused{wrote}")

    answer({"nodes": nodes, "refused": refused, "rows": len(rows)}, as_json, show)
    if refused:
        raise click.exceptions.Exit(3)


@click.command("export-qna")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", "target", type=click.Path(path_type=Path), help="Write here instead of to stdout.")
def export_qna(file: Path, target: Path | None) -> None:
    """Write FILE, a qna.yaml of any version that is read, as version 3."""
    if not file.is_file():
        raise NotFound(f"no file {file}", hint="name a qna.yaml")
    data = qna.write(qna.read(_bytes(file, str(file)), str(file)))
    if target is None:
        sys.stdout.buffer.write(data)
    else:
        _write(target, data)


def _files(tree: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """Every qna.yaml and its name in the tree, in the order of names; and the names of those spelled otherwise."""
    if not tree.is_dir():
        raise NotFound(f"no folder {tree}", hint="name the root of a taxonomy: its files are all called qna.yaml")
    files, others = qna.files_in(tree)
    if not files:
        there = f"; there is {others[0].relative_to(tree)}" if others else ""
        raise NotFound(f"no qna.yaml below {tree}{there}", hint="a file must be called exactly that")
    if len(files) > MOST:
        raise Hostile(f"{len(files):,} files, and {MOST:,} is the most")
    return [(file, _name(file, tree)) for file in files], [_name(file, tree) for file in others]


def _name(file: Path, tree: Path) -> str:
    return file.relative_to(tree).as_posix()


def _read(path: Path, name: str, licence: str) -> tuple[qna.Node, str]:
    """The node and the terms of its text."""
    kinds: dict[str, qna.Kind] = {"compositional_skills": "skill", "knowledge": "knowledge"}
    node = qna.read(_bytes(path, name), name, kind=kinds.get(name.split("/")[0]))
    beside = path.with_name("attribution.txt")
    if beside.is_file() and not beside.is_symlink():
        where = name.removesuffix("qna.yaml") + "attribution.txt"
        return node, qna.attribution(_bytes(beside, where), where)
    if not licence:
        raise UsageError(f"{name}: no attribution.txt says under which terms its text is", hint="say it with --licence")
    return node, licence


def _bytes(path: Path, name: str) -> bytes:
    if (size := path.stat().st_size) > qna.MAX_BYTES:
        raise Hostile(f"{name}: {size:,} bytes, and {qna.MAX_BYTES:,} is the most")
    return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)


def _row(shape: str, node: qna.Node, asked: str, expected: str, name: str, licence: str) -> dict[str, Any]:
    """A seed of `souq corpus make`, or a row of a data contribution."""
    source = f"{node.document.repo}@{node.document.commit}" if node.document else name
    if shape == "seeds":
        return {"prompt": asked, "source": source, "licence": licence, "expected": expected}
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": expected}]
    return {"messages": turns, "source": source, "licence": licence}
