"""`souq delta`: make a change of weights from what you trained, look at it, or try it on."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Literal

import click
import numpy as np
from rich.text import Text

from souq.build import delta_file
from souq.build.folder import export_model
from souq.build.guess import with_guess
from souq.build.model import applied
from souq.checks import Case
from souq.checks.tensors import relative_norms
from souq.cli.adapter import How, is_adapter, make_adapter
from souq.cli.console import answer, bars, done, json_option, out, starting_lab
from souq.cli.help import VerbGroup
from souq.cli.here import main_here
from souq.cli.together import together
from souq.cli.tune import make_tune, tune_notes
from souq.errors import NotFound, UsageError
from souq.model.trained_folder import trained_folder
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Rows
from souq.weights.lockfile import format_delta

ADDED = ("layer", "expert")
GUESSED = "its sketches are guessed from the change itself: with --data the merge keeps more of it"
SHADES = " ░▒▓█"


@click.group(cls=VerbGroup)
def delta() -> None:
    """Make, show or apply a change of weights."""


@delta.command()
@click.option(
    "--from",
    "source",
    required=True,
    help="An adapter (PEFT's or MLX's) or a full fine-tune: a folder, a hub id, or a .gguf that is not quantised.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="What it was trained on: records a sketch of each layer's inputs, never the data.",
)
@click.option("--sketch-rank", default=64, show_default=True, help="Of the sketch.")
@click.option("--guess/--no-guess", default=True, help="Without --data, guess the sketches from the change itself.")
@click.option("--within", is_flag=True, help="Sketch it once more as part of today's main: what RegMean++ does.")
@click.option("--merged", is_flag=True, help="Have PEFT merge the adapter, and offer the whole difference.")
@click.option("--for-this-base", is_flag=True, help="Take an adapter that names another base than this.")
@click.option("--rank", type=click.IntRange(1), help="Keep what is no LoRA as the nearest one, and state the error.")
@click.option("--of", type=click.Choice(["base", "main"]), help="Of a full fine-tune: what it was trained from.")
@click.option("--cast", is_flag=True, help="Take a fine-tune in the base's dtype however much rounding loses.")
@click.option("--weights-only", is_flag=True, help="Offer the weights of a fine-tune without its other settings.")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="The .delta file to write.")
@json_option
def make(
    source: str, data: Path | None, sketch_rank: int, guess: bool, within: bool, merged: bool, for_this_base: bool,
    rank: int | None, of: Literal["base", "main"] | None, cast: bool, weights_only: bool, target: Path, as_json: bool,
) -> None:  # fmt: skip
    """Turn an adapter or a fine-tune of main's base into a .delta file."""
    folder, *_ = together(
        partial(_source, source), partial(_refuse_no_rows, data, within=within), partial(_refuse_nowhere, target)
    )
    adapter = is_adapter(folder)
    main, notes = main_here(), list[str]()
    with bars() as progress:
        if adapter:
            if of or cast or weights_only:
                raise UsageError(
                    "--of, --cast and --weights-only are for a full fine-tune, and this is an adapter",
                    hint="leave them out",
                )
            taken = make_adapter(folder, main, How(merged, rank, for_this_base), progress)
            made, tensors, recipe, notes = taken.delta, taken.tensors, taken.recipe, list(taken.notes)
        else:
            if merged or for_this_base:
                raise UsageError(
                    "--merged and --for-this-base are for an adapter, and this is a full fine-tune",
                    hint="leave them out",
                )
            tune = make_tune(folder, main, progress, weights_only=weights_only, cast=cast, rank=rank, of=of)
            made, tensors, notes = tune.delta, tune.tensors, tune_notes(tune)
            recipe = delta_file.recipe_beside(folder) | tune.recipe()
        if data is not None:
            with starting_lab(progress):
                from souq.lab import sketching

            made, tensors, sketches = sketching.add_sketches(
                main, made, tensors, data, rank=sketch_rank, within_main=within, progress=progress
            )
            recipe |= sketches
        elif guess:
            made, tensors = with_guess(main, made, tensors, progress)
            recipe |= {"sketched": {"guessed": True}} if made.grams else {}
            notes += [GUESSED] if made.grams else []
    delta_file.write_delta(target, made, tensors, recipe)
    kinds = sorted({part.kind for part in (*made.parts.values(), *made.new.values())})
    value = {
        "file": str(target),
        "bytes": target.stat().st_size,
        "tensors": len(made.parts),
        "adds": additions(made),
        "kinds": kinds,
        "sketches": len(made.grams),
        "notes": notes,
    }
    for note in notes:
        done(f"note: {note}")

    def show() -> None:
        size = f"{target.stat().st_size / 1e6:.1f} MB"
        out.print(f"{target}: {summary(made)} ({', '.join(kinds)}), {len(made.grams)} sketches, {size}")
        done(f"next: `souq pr create {target} --title … --licence … --signoff --fixes … --data …`")

    answer(value, as_json, show)


def _source(source: str) -> Path:
    return Path(source) if is_adapter(Path(source)) else trained_folder(source)


def _refuse_no_rows(data: Path | None, *, within: bool) -> None:
    if data is not None and not data.is_file():
        raise NotFound(f"no file {data}", hint="check --data")
    if within and data is None:
        raise UsageError("--within sketches, and there is nothing to sketch", hint="name its rows with --data")


def _refuse_nowhere(target: Path) -> None:
    if not target.absolute().parent.is_dir():
        raise NotFound(f"no folder {target.parent} to write {target.name} into", hint="make it, or check --out")


def additions(made: Delta) -> dict[str, int]:
    """How many tokens, layers and experts a change adds."""
    places = {kind: {tuple(t.split(" ")[1].split(".")[:2]) for t in made.new if t.startswith(kind)} for kind in ADDED}
    tokens = max((len(new.tokens) for new in made.new.values() if isinstance(new, Rows)), default=0)
    experts = {k for _, k in places["expert"]}
    return {"tokens": tokens, "layers": len(places["layer"]), "experts": len(experts)}


def summary(made: Delta) -> str:
    """What a change does, in a few words."""
    parts = [f"{len(made.parts)} tensors"] if made.parts or not made.new else []
    parts += [f"{count} new {kind if count > 1 else kind[:-1]}" for kind, count in additions(made).items() if count]
    return ", ".join(parts)


@delta.command()
@click.argument("path", metavar="FILE.delta|NUMBER")
@click.option("--text", is_flag=True, help="Print its delta.lock.")
@json_option
def show(path: str, text: bool, as_json: bool) -> None:
    """How large the change is, layer by layer: a heat map of its norm over the weight's."""
    main = main_here()
    made, case = _read(path, main)
    if text:
        out.print(format_delta(made))
        return
    sizes = relative_norms(case, made)
    answer(sizes, as_json, lambda: heat_map(sizes))


def _read(path: str, main: Snapshot) -> tuple[Delta, Case]:
    """A .delta file, or the weights of a pull request by number."""
    if path.isdigit():
        pull = pulls.get(repo := Repo.of(main.repo), int(path))
        reviews.bring(repo, main, pull.offer)
        if pull.offer.delta is None:
            raise UsageError(f"#{path} brings no weights", hint=f"see `souq pr diff {path}`")
        return pull.offer.delta, Case(main, pull.head, pull.offer)
    made, tensors = delta_file.read_delta(Path(path))
    delta_file.keep(made, tensors, main)
    return made, Case(main, main.commit, Offer(path, {}))


def heat_map(sizes: dict[str, float]) -> None:
    """Layers down, modules across; darker is larger."""
    cells: dict[tuple[int, str], float] = {}
    for name, size in sizes.items():
        if match := re.search(r"(?:^|\.)(\d+)\.(?:.*\.)?(\w+?)(?:_proj)?\.(?:weight|bias)$", name):
            cells[int(match[1]), match[2]] = size
        else:
            out.print(f"{size:8.4f}  {name}")
    if not cells:
        return
    columns = sorted({column for _, column in cells})
    top = max(cells.values()) or 1.0
    out.print("layer " + " ".join(f"{column:>5.5}" for column in columns))
    for layer in sorted({layer for layer, _ in cells}):
        line = Text(f"{layer:>5} ")
        for column in columns:
            share = cells.get((layer, column), 0.0) / top
            shade = SHADES[min(int(np.ceil(share * (len(SHADES) - 1))), len(SHADES) - 1)]
            colour = f"rgb({int(255 * share)},{int(80 + 60 * share)},{int(255 - 200 * share)})"
            line.append(f" {shade * 4} ", style=colour)
        out.print(line)
    out.print(f"largest {top:.4f} of its matrix's norm, mean {float(np.mean(list(cells.values()))):.4f}")


@delta.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE.delta")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="The folder to write.")
def apply(path: Path, target: Path) -> None:
    """Write the base with this one change, whole, as a Hugging Face folder."""
    main = main_here()
    made, tensors = delta_file.read_delta(path)
    delta_file.keep(made, tensors, main)
    with bars() as progress:
        export_model(applied(main, made, main.repo.store.get), target, progress)
    out.print(f"{target}: the base with a change of {summary(made)}")
