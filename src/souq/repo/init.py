"""How a model repository begins: a base's tensors in the store, and the files of its root commit.

Either everything is there or nothing is: the repository is made in a folder beside and renamed at the end.

    init(Path("smol"), open_source("./SmolLM2-135M-Instruct"), policy, progress=progress)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from souq.errors import SouqError, UsageError
from souq.files import new_folder
from souq.governance import read_policy
from souq.model.base import as_base
from souq.model.config import approved, fits
from souq.model.source import LICENCE_FILES, Source, inside, read_small
from souq.progress import Progress, quiet
from souq.records import format_toml
from souq.repo.config import Config
from souq.repo.git import MAIN
from souq.repo.limits import exceeded
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.text import plain_utf8
from souq.weights.delta import Delta, Lock, TensorRef, Tensors
from souq.weights.lockfile import format_delta, format_lock, lock_digest
from souq.weights.place import Shared, check_url
from souq.weights.store import Store

README = """\
# {name}

A model repository, developed with souq: the weights, data and evals of this model take pull requests.

    souq status          where things stand
    souq build           fold the accepted contributions into a model
    souq verify          judge the history again, rebuild, and compare every digest
"""


@dataclass(frozen=True)
class Beginning:
    """What the root commit holds besides the base itself."""

    name: str
    licence: str
    policy: str  # GOVERNANCE.toml
    evals: Mapping[str, bytes]  # path below evals/ -> bytes
    sketch: Callable[[Source, Lock], tuple[Delta, Tensors]] | None = None
    store: str = ""  # where the tensors travel, if not beside the remote
    base_licence: str = ""  # where the base is under another one
    accepted: bool = False  # whatever its chat template does, its owner has read it


def init(root: Path, source: Source, beginning: Beginning, progress: Progress = quiet) -> Repo:
    """A new model repository in `root`.

    Raises:
        UsageError: the folder is already there and holds something, or nobody could read what would be in it.
        Hostile: the configuration is not of these weights, or its chat template does more than it may.
    """
    read_policy(beginning.policy)
    with new_folder(root, hint="choose another name") as partial:
        _fill(Repo.create(partial), source, beginning, progress)
    return Repo.find(root)


def licence_text(source: Source) -> bytes | None:
    """The text of its licence that a model's folder brings, plain; None where it brings none that can be read."""
    for name in LICENCE_FILES if source.folder is not None else ():
        with suppress(SouqError):
            if source.folder is not None and (source.folder / name).is_file():
                return plain_utf8(read_small(inside(source.folder, name)), name)
    return None


def _fill(repo: Repo, source: Source, beginning: Beginning, progress: Progress) -> None:
    text = licence_text(source)
    approved(source.files, owners=True, accepted=beginning.accepted)
    source = as_base(source)
    lock = _store(source, repo.store, progress)
    fits(json.loads(source.files["config.json"]), {name: ref.shape for name, ref in lock.items()})
    config = Config(
        name=beginning.name, licence=beginning.licence, base=source.name, origin=source.origin,
        base_licence=beginning.base_licence,
    )  # fmt: skip
    if beginning.store:
        config = msgspec.structs.replace(config, store=Shared(url=check_url(beginning.store, local=True)))
    files: dict[str, bytes | None] = {
        "README.md": README.format(name=beginning.name).encode(),
        "souq.toml": format_toml(config).encode(),
        "GOVERNANCE.toml": beginning.policy.encode(),
        "base.lock": format_lock(lock).encode(),
        "model.lock": format_lock(lock).encode(),
    }
    if text is not None:
        files["LICENSE.base" if beginning.base_licence else "LICENSE"] = text
    if beginning.sketch is not None:
        sketch, tensors = beginning.sketch(source, lock)
        for array in tensors.values():
            repo.store.put(array)
        files["base.sketch"] = format_delta(sketch).encode()
    files |= {f"model/{name}": data for name, data in source.files.items()}
    files |= {f"evals/{path}": data for path, data in beginning.evals.items()}
    commit = repo.write_commit([], files, f"{beginning.name}: begin from {source.name}\n\nbase {lock_digest(lock)}\n")
    if lines := exceeded(Snapshot(repo, commit)):
        raise UsageError(
            f"nobody could read this main: {'; '.join(lines)}", hint="begin with less; more can land later"
        )
    repo.publish({MAIN: (None, commit)}, [])


def _store(source: Source, store: Store, progress: Progress) -> Lock:
    lock: Lock = {}
    for done, (name, array) in enumerate(source.weights.items()):
        progress("store tensors", done, len(source.weights))
        store.put(array)
        lock[name] = TensorRef.of(array)
    progress("store tensors", len(source.weights), len(source.weights))
    return lock
