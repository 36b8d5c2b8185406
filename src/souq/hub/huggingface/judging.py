"""Whether a draft can become souq's own: read as strictly as `souq pr create` reads it, by a process that ends.

It runs nothing of what is in them: an adapter is numbers in safetensors, and what is anything else is refused by name.

    python -m souq.hub.huggingface.judging REPOSITORY FOLDER
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from souq.build import deltas
from souq.errors import SouqError
from souq.files import beside
from souq.hub.plain.repository import Plain
from souq.model.adapter.peft import CONFIG, WEIGHTS, open_adapter
from souq.repo.git import GitRepo
from souq.repo.snapshot import Snapshot

SECONDS, MEGABYTES = 120, 4_096
MOST_BYTES = 2 << 30  # of a draft's files
READ = (CONFIG, WEIGHTS, "README.md", "recipe.toml")
_LEFT_OUT = (".json", ".toml", ".jinja", ".model", ".txt", ".md", ".gitattributes")


def judge(repository: Plain, commit: str, model: Path) -> str:
    """What is to be said of a draft."""
    listing = repository.listing(commit)
    others = sorted(path for path in listing if path not in READ and path != ".gitattributes")
    if odd := [path for path in others if not path.endswith(_LEFT_OUT)]:
        return f"cannot be taken: {', '.join(odd[:5])}: a draft is an adapter as PEFT saves it, and its README.md"
    if missing := [path for path in (CONFIG, WEIGHTS) if path not in listing]:
        return f"cannot be taken: no {' and no '.join(missing)}: a draft is an adapter as PEFT saves it"
    if sum(file.size for file in listing.values()) > MOST_BYTES:
        return f"cannot be taken: more than {MOST_BYTES >> 30} GiB"
    with beside(repository.git_dir / "judging") as scratch:
        for path in (CONFIG, WEIGHTS):
            os.link(repository.place(listing[path]), scratch / path)
        answer = _asked(model, scratch)
    return answer + (f"; not taken with it: {', '.join(others[:5])}" if others else "")


def _asked(model: Path, folder: Path) -> str:
    words = [sys.executable, "-m", "souq.hub.huggingface.judging", str(model), str(folder)]
    env = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME")}
    env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(words, capture_output=True, timeout=SECONDS, env=env, check=False)
        return str(json.loads(done.stdout.splitlines()[-1])["answer"])
    except subprocess.TimeoutExpired:
        return f"cannot be taken: reading it takes more than {SECONDS} seconds"
    except (ValueError, IndexError, KeyError):
        return f"cannot be taken: reading it takes more than {MEGABYTES:,} MB, or does not end well"


def _hold() -> None:
    """Have this process end before it takes more than it may."""
    most = MEGABYTES << 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer_of(model: Path, folder: Path) -> str:
    """What the strict reader says of an adapter's folder, against a model's main."""
    try:
        adapter = open_adapter(folder)
        repo = GitRepo.find(model)
        fitting = deltas.fitted(adapter, Snapshot(repo, repo.tip()))
    except SouqError as error:
        return f"cannot be taken: {error}"
    ranks = sorted({module.rank for module in adapter.modules.values() if module.a is not None})
    kind = f"LoRA of rank {' and '.join(map(str, ranks))}" if ranks else "whole tensors"
    return f"can be taken: {kind}, {len(fitting.touched)} tensors of main's base"


if __name__ == "__main__":
    _hold()
    sys.stdout.write(json.dumps({"answer": answer_of(Path(sys.argv[1]), Path(sys.argv[2]))}) + "\n")
