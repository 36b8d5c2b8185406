"""Develop language models the way the bazaar develops software.

The names here are the ones a program needs; each is loaded when it is first used, so `import souq` costs nothing and
brings neither numpy nor torch.

    import souq

    repo = souq.open("smol")            # for a notebook: docs/python.md
    repo.main.scores()
    souq.verify.verify(repo.repo).findings  # empty when every digest and every vote holds
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from souq.lazy import lazily

if TYPE_CHECKING:
    from souq import build, pulls, verify
    from souq.errors import SouqError
    from souq.evals.eval import Eval
    from souq.evals.score import Score, compare
    from souq.governance import Policy, decide, read_policy
    from souq.merge import Fold, merge_method
    from souq.model.source import open_source
    from souq.notebook.repository import open_repository as open
    from souq.records import Contribution, Decision, Recipe, Release, Verdict, Vote
    from souq.repo.init import init
    from souq.repo.remote import Repo
    from souq.repo.snapshot import Snapshot
    from souq.weights.delta import Delta
    from souq.weights.store import Store

__all__ = [
    "Contribution", "Decision", "Delta", "Eval", "Fold", "Policy", "Recipe", "Release", "Repo", "Score", "Snapshot",
    "SouqError", "Store", "Verdict", "Vote", "build", "compare", "decide", "init", "merge_method", "open",
    "open_source",
    "pulls", "read_policy", "verify",
]  # fmt: skip

_home = lazily(
    __name__,
    {
        "": ("build", "pulls", "verify"),
        "souq.errors": ("SouqError",),
        "souq.evals.eval": ("Eval",),
        "souq.evals.score": ("Score", "compare"),
        "souq.governance": ("Policy", "decide", "read_policy"),
        "souq.merge": ("Fold", "merge_method"),
        "souq.model.source": ("open_source",),
        "souq.notebook.repository": ("open_repository",),
        "souq.optional": ("installed_version",),
        "souq.records": ("Contribution", "Decision", "Recipe", "Release", "Verdict", "Vote"),
        "souq.repo.init": ("init",),
        "souq.repo.remote": ("Repo",),
        "souq.repo.snapshot": ("Snapshot",),
        "souq.weights.delta": ("Delta",),
        "souq.weights.store": ("Store",),
    },
)


def __getattr__(name: str) -> Any:
    if name == "open":  # the name in its module is a longer one, since there are files to open too
        return _home("open_repository")
    return str(_home("installed_version")("souq")) if name == "__version__" else _home(name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
