"""From a recipe to a model: folded, compared, written down; and what a change of weights is made from.

What a program needs of it is found here under `souq.build.` and loaded when it is first used; the files inside import
each other and never this. `export` is found here too, though it lives above, with the releases, whose card it writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from souq.lazy import lazily

if TYPE_CHECKING:
    from souq.build.folder import export_model
    from souq.build.lock import differing, fold, model_lock, moved
    from souq.build.model import Built, Model, applied, build
    from souq.build.spread import model_lock_on
    from souq.files import refuse_full
    from souq.repo.snapshot import needed
    from souq.weights.store import Stored

__all__ = [
    "Built", "Model", "Stored", "applied", "build", "differing", "export_model", "fold", "model_lock", "model_lock_on",
    "moved", "needed", "refuse_full",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "souq.build.folder": ("export_model",),
        "souq.build.lock": ("differing", "fold", "model_lock", "moved"),
        "souq.build.model": ("Built", "Model", "applied", "build"),
        "souq.build.spread": ("model_lock_on",),
        "souq.files": ("refuse_full",),
        "souq.releases.main_folder": ("export",),
        "souq.repo.snapshot": ("needed",),
        "souq.weights.store": ("Stored",),
    },
)
