"""Whether an adapter was trained on this base: what its configuration names, compared with what is here.

A folder that is here is compared tensor by tensor; a name is compared as people write it (`unsloth/X-bnb-4bit` is X,
quantised). What names another model is a question that only the adapter's owner can answer.

    origin = origin_of("unsloth/SmolLM2-135M-bnb-4bit", main, touched, Path("adapter"))
    origin.question, origin.notes
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from souq.errors import SouqError
from souq.model.origin import Origin as HubOrigin
from souq.model.source import weights_of
from souq.records import spelled_out
from souq.repo.snapshot import Snapshot
from souq.weights.delta import TensorRef

# How people mark the form of a model at the end of its name: the model is the same, its numbers are coarser.
_COARSE = r"bnb|(4|8)[-_]?bits?|int(4|8)|nf4|fp(4|8)|gptq\w*|awq\w*|gguf|w\d+a\d+|i?q\d\w*|mxfp4|hqq"
_QUANTISED = re.compile(rf"[-_.]({_COARSE})(?![a-z0-9])", re.I)
_MARKS = re.compile(rf"([-_.]({_COARSE}|unsloth|dynamic|hf|mlx|bf16|fp16))+$", re.I)
_CACHED = re.compile(r"models--([\w.\-]+?)--([\w.\-]+)")


@dataclass(frozen=True)
class Origin:
    """What an adapter says of its base: remarks, and a question where it names another one."""

    notes: tuple[str, ...] = ()
    question: str = ""
    of_main: bool = False  # it was trained on what main builds to now, which is not its base


def origin_of(name: str, main: Snapshot, touched: Collection[str], adapter: Path) -> Origin:
    """What is to be said of the base that the adapter in a folder names; `touched` are the tensors it changes.

    A path is looked for from here, and from where the adapter lies: trainers write it as it was typed to them.
    """
    name = shown_name(name)
    if not name:
        return Origin()
    folder = _folder(name) or _folder(str(adapter.absolute().parent / name))
    if folder is not None and (known := _compared(folder, main, touched)) is not None:
        return known
    cached = _CACHED.search(name)
    named = f"{cached[1]}/{cached[2]}" if cached else name
    notes = (
        [f"trained on {named}, which is quantised: its numbers were found beside coarser ones"]
        if _QUANTISED.search(named)
        else []
    )
    hub = HubOrigin.of(main.config.origin)
    ours = [word for word in (main.config.base, hub.repo if hub else main.config.origin.rpartition(" ")[2]) if word]
    if _stem(named) in {_stem(word) for word in ours}:
        return Origin((*notes, *_alias(named, ours)))
    if not re.fullmatch(r"[\w\-][\w.\-]*(/[\w.\-]+)?", named):
        return Origin((*notes, f"trained on {named}, a path that is not here: taken to be this base"))
    return Origin(tuple(notes), f"the adapter says it was trained on {named}, and the base here is {main.config.base}")


def shown_name(name: str) -> str:
    """A base's name as it may be shown: somebody else wrote it."""
    return spelled_out(" ".join(name[:300].split()))


def _folder(name: str) -> Path | None:
    """The folder of that name here; None where there is none, or no path can be so."""
    with suppress(OSError, RuntimeError, ValueError):
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    return None


def _alias(named: str, ours: Collection[str]) -> tuple[str, ...]:
    return () if named in ours or "/" not in named else (f"trained on {named}, taken to be {next(iter(ours))}",)


def _stem(name: str) -> str:
    """A model's name without its owner and the marks of its form, however it is written."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9]+", "", _MARKS.sub("", last).lower())


def _compared(folder: Path, main: Snapshot, touched: Collection[str]) -> Origin | None:
    """By the tensors the adapter changes; None where the folder cannot be read."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        return Origin(question=f"the adapter was trained on {folder}, which is an adapter itself")
    try:
        theirs = weights_of(folder)
        known = [name for name in touched if name in theirs]
        refs = {name: TensorRef.of(theirs[name]) for name in known}
    except (SouqError, OSError):
        return None
    if not known:
        return None
    if all(refs[name] == main.base.get(name) for name in known):
        return Origin()
    if all(refs[name] == main.model.get(name) for name in known):
        return Origin((f"trained on main as it is now ({folder}), and offered as a change of its base",), of_main=True)
    return Origin(question=f"the adapter was trained on {folder}, whose tensors are not those of the base here")
