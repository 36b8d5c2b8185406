"""A stall at the bazaar: a real repository with texts and no weights, for checks that read nothing else."""

from __future__ import annotations

import base64
import json

import numpy as np

from souq.checks import Case
from souq.evals.eval import EvalSpec, read_eval, write_cases
from souq.records import Author, Contribution, format_toml
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import TensorRef
from souq.weights.lockfile import format_lock
from tests.tiny import CONFIG, tokenizer_files


def key(number=0):
    """An ssh public key that nobody has the private half of."""
    parts = (b"ssh-ed25519", bytes([number]) * 32)
    return "ssh-ed25519 " + base64.b64encode(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).decode()


def qa(asked, told):
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def eval_files(pairs, *, kind="exact", title="Facts", **more):
    """eval.toml and cases.jsonl of questions and answers, or of ready cases."""
    spec = EvalSpec(title=title, kind=kind, source="tests", licence="CC0-1.0", **more)
    cases = [p if isinstance(p, dict) else {"prompt": p[0], "expected": p[1]} for p in pairs]
    numbered = [{"id": f"c{i}", **case} for i, case in enumerate(cases)]
    return {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases(numbered)}


def an_eval(name, pairs, **more):
    return read_eval(name, eval_files(pairs, **more))


def contribution(*, by=0, org="Nowhere", kind="data", **more):
    author = Author(name="mallory", email="mallory@souq.example", key=by if isinstance(by, str) else key(by), org=org)
    told = {"licence": "CC0-1.0", "signoff": "mallory <mallory@souq.example>", **more}
    return format_toml(Contribution(title="Rows", kind=kind, author=author, **told)).encode()


def offer(rows=(), slug="0002-rows", *, files=None, **more):
    """An offer of data, whose files were not read by any client."""
    made = {"contribution.toml": contribution(**more)} | ({"data/rows.jsonl": jsonl(rows)} if rows else {})
    return Offer(slug, made | (files or {}))


def stall(folder, *, evals=None, landed=(), checks=""):
    """A main of these evals and landed offers."""
    repo = Repo.create(folder / "stall")
    files = {"souq.toml": f'name = "stall"\nlicence = "Apache-2.0"\nbase = "tiny"\n[checks]\n{checks}'.encode()}
    files |= {"base.lock": format_lock({"w": TensorRef.of(np.zeros((2, 2), "<f4"))}).encode()}
    files |= {"model/config.json": json.dumps(CONFIG).encode()}
    files |= {f"model/{name}": text.encode() for name, text in tokenizer_files().items()}
    for name, pairs in (evals or {}).items():
        files |= {f"evals/{name}/{path}": data for path, data in eval_files(pairs).items()}
    for one in landed:
        files |= {f"{one.home}{path}": data for path, data in one.files.items()}
    return Snapshot(repo, repo.write_commit([], files, "a stall\n"))


def case(main, offered, head=None, **more):
    return Case(main, head or main.commit, offered, **more)
