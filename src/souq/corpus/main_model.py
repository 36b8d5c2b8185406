"""Main's model as the teacher: built, opened in an engine, and let write an edition."""

from __future__ import annotations

from pathlib import Path

from souq.build.folder import export_model
from souq.build.model import Built, Model, build
from souq.corpus.edition import EditionInfo
from souq.corpus.make import Teacher, make
from souq.corpus.recipe import CorpusRecipe
from souq.evals.eval import Eval, read_eval, read_folder
from souq.lab.engines import Transformers
from souq.lab.writers import writer
from souq.progress import Progress, quiet
from souq.records import digest
from souq.repo.snapshot import Snapshot


def write_edition(
    main: Snapshot, recipe: CorpusRecipe, base: Path, out: Path, progress: Progress = quiet, *,
    price: tuple[float, float] = (0.0, 0.0),
) -> EditionInfo:  # fmt: skip
    """One edition of a corpus in `out`, written by main's model; paths of the recipe are seen from `base`.

    Raises:
        UsageError: the recipe cannot be carried out, or nothing is kept.
        NotFound: what the recipe names is not there.
    """
    built = build(main, progress=progress)
    if recipe.engine.startswith("ray:"):  # every machine loads a folder
        model = Transformers(built.digest, _exported(main, built, progress), bf16=True)
    else:
        model = Transformers(built.digest, built.files, built.weights, bf16=True)
    tokenizer = digest(built.files["tokenizer.json"]) if "tokenizer.json" in built.files else ""
    teacher = Teacher(writer(recipe.engine, model), main.config.licence, tokenizer)
    evals = main.evals | {suite.name: suite for suite in own_evals(recipe, base)}
    edition = make(recipe, base, teacher, out, evals=evals, progress=progress, price=price)
    edition.refuse_empty()
    return edition


def _exported(main: Snapshot, built: Built, progress: Progress) -> Path:
    """Main's model as a folder in the repository's cache, which every machine of a cluster must see."""
    folder = main.repo.cache / "exported" / built.digest.removeprefix("b3:")
    if not folder.is_dir():
        layout = {name: (ref.dtype, ref.shape) for name, ref in built.lock.items()}
        export_model(Model(built.files, built.weights, layout), folder, progress)
    return folder


def own_evals(recipe: CorpusRecipe, base: Path) -> list[Eval]:
    """The evals that the recipe brings: held out of its corpus, and what its student is scored on."""
    return [read_eval(Path(name).name, read_folder(base / name)) for name in recipe.evals]
