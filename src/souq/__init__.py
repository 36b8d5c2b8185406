"""Develop language models the way the bazaar develops software.

The names here are the ones a program needs; each is loaded when it is first used, so `import souq` costs nothing and
brings neither numpy nor torch.

    import souq

    repo = souq.Repo.find(Path("smol"))
    main = souq.Snapshot(repo, "main")
    souq.build.build(main).digest              # what main builds to
    souq.verify.verify(repo, "main").findings  # empty when every digest and every vote holds
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from souq import build, pulls, verify
    from souq.errors import SouqError
    from souq.evals.eval import Eval, Score, compare
    from souq.governance import Policy, decide, read_policy
    from souq.merge import Fold, merge_method
    from souq.records import Contribution, Decision, Recipe, Release, Verdict, Vote
    from souq.repo.init import init
    from souq.repo.remote import Repo
    from souq.repo.snapshot import Snapshot
    from souq.sources import open_source
    from souq.weights.delta import Delta
    from souq.weights.store import Store

_HOMES = {
    "errors": ("SouqError",),
    "evals.eval": ("Eval", "Score", "compare"),
    "governance": ("Policy", "decide", "read_policy"),
    "merge": ("Fold", "merge_method"),
    "records": ("Contribution", "Decision", "Recipe", "Release", "Verdict", "Vote"),
    "repo.remote": ("Repo",),
    "repo.snapshot": ("Snapshot",),
    "sources": ("open_source",),
    "repo.init": ("init",),
    "weights.store": ("Store",),
    "weights.delta": ("Delta",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

_MODULES = ("build", "pulls", "verify")

__all__ = [
    "Contribution", "Decision", "Delta", "Eval", "Fold", "Policy", "Recipe", "Release", "Repo", "Score", "Snapshot",
    "SouqError", "Store", "Verdict", "Vote", "build", "compare", "decide", "init", "merge_method", "open_source", "pulls",
    "read_policy", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"souq.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'souq' has no attribute {name!r}")
    return getattr(import_module(f"souq.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
