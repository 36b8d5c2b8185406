"""`souq build`, `export`, `eval`, `train`: the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import tomli_w

from souq.build import lock
from souq.build import model as building
from souq.build.additions import layers_of
from souq.build.delta_file import RECIPE
from souq.build.folder import export_model
from souq.build.plan import Plan
from souq.cli.console import answer, bars, done, json_option, key_option, on_option, out, person, starting_lab
from souq.cli.here import compute_on, here, main_here
from souq.cli.own_eval import is_eval, own_eval, ruled_out, show_power
from souq.cli.pr import show_verdicts
from souq.cli.sizes import bytes_of, shown
from souq.cli.table import table
from souq.cli.together import together
from souq.errors import NotFound, UsageError, nearest
from souq.evals import suite
from souq.evals.eval import Eval
from souq.evals.score import Score
from souq.files import refuse_full
from souq.lab import engines, harness
from souq.licences import lineage
from souq.model.gguf.writer import GGUF_KINDS
from souq.progress import Progress
from souq.pulls import hidden
from souq.releases import main_folder
from souq.repo.remote import Repo
from souq.repo.rows import Rows, read_rows
from souq.repo.snapshot import Snapshot, base_files, needed
from souq.text import shortlist
from souq.weights import store
from souq.weights.bucket import Bucket
from souq.weights.delta import Delta
from souq.weights.lockfile import lock_digest
from souq.weights.store import Store


@click.command()
@click.option("--explain", is_flag=True, help="Say what was computed, and what an earlier build left to use again.")
@click.option("--plan", is_flag=True, help="Only say what it would read, write, compute and hold; exit 3 if it cannot.")
@click.option("--memory", help="Hold no more than this, such as 8GB; what is larger is merged by rows.")
@on_option
@json_option
def build(explain: bool, plan: bool, memory: str | None, on: str | None, as_json: bool) -> None:
    """Fold the accepted contributions into a model; tensors that are not here come from where they travel."""
    main, limit = main_here(), bytes_of(memory, "--memory") if memory else 0
    if memory and on:
        raise UsageError("--memory bounds this machine, and --on has others merge", hint="leave out one of them")
    there = _there(main)
    if plan:
        _plan(building.planned(main, memory=limit, there=there), as_json)
        return
    with bars() as progress:
        compute_on(on, main.repo, progress)
        built = building.build(main, progress=progress, memory=limit, there=there)
    differing = lock.differing(main.model, built.lock)
    value = {"model": built.digest, "recipe": built.recipe, "path": str(built.path), "differs": differing}
    if explain:
        value["made"] = built.info

    def show() -> None:
        moved = f"{len(lock.moved(main, built.lock))} moved by {len(built.recipe.contributions)} contributions"
        out.print(f"{built.digest}\n{len(built.lock)} tensors, {moved}")
        if explain:
            _explain(built, {landed.digest: slug for slug, landed in main.landed.items()} | main.members())
        done("next: `souq verify`, or `souq export ./out`")

    answer(value, as_json, show)
    if differing:
        done(f"Error: {len(differing)} tensors are not what model.lock says, first {differing[0]}")
        raise click.exceptions.Exit(3)


def _there(main: Snapshot) -> Bucket | Store | None:
    """Where the tensors travel, if some that main points at are not here."""
    if all(name in main.repo.store for name in needed(main.repo, {"main": main.commit})):
        return None
    return Repo(main.repo.git_dir, main.repo.root).remote_store()


def _plan(plan: Plan | None, as_json: bool) -> None:
    def show() -> None:
        if plan is None:
            out.print("nothing: this model is built already")
            return
        away = f", {shown(plan.fetches)} of it from the remote" if plan.fetches else ""
        beside = f", and {shown(plan.scratch)} beside it for a while" if plan.scratch else ""
        limit = f" of {shown(plan.limit)}" if plan.limit else f"; the least that would do is {shown(plan.needs)}"
        out.print(f"reads     {shown(plan.reads)}{away}")
        out.print(f"writes    {shown(plan.writes)}{beside}")
        out.print(f"computes  {plan.operations / 1e9:,.1f} billion operations")
        out.print(f"holds     {shown(plan.peak)} of memory at once{limit}")
        out.print("tensors   " + ", ".join(f"{count} {how}" for how, count in sorted(plan.tensors.items())))

    answer({"built": True} if plan is None else plan, as_json, show)
    if plan is not None and plan.lacking:
        try:
            building.refuse_unfit(plan)
        except UsageError as error:
            done(f"Error: {error}\nHint: {error.hint}")
        raise click.exceptions.Exit(3)


def _explain(built: building.Built, slugs: dict[str, str]) -> None:
    made = built.info

    def named(digests: tuple[str, ...]) -> str:
        return shortlist([slugs.get(digest, digest[:14]) for digest in digests], 8) or "none"

    out.print("When this model was built,")
    out.print(f"  contributions already in the sums that were kept   {made.kept:>5}  (none of them was read)")
    out.print(f"  contributions read, to join                        {len(made.joined):>5}  {named(made.joined)}")
    out.print(f"  contributions read, to take out again              {len(made.left):>5}  {named(made.left)}")
    out.print(f"  tensors computed                                   {len(made.computed):>5}")
    out.print(f"  tensors copied from an earlier build               {made.copied:>5}")
    out.print(f"  tensors of the base, read from the store           {made.base:>5}")
    if not made.sums:
        out.print(f"The method {built.recipe.method} is not a sum over contributions, so it reads them all.")


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--base", is_flag=True, help="The base itself, for training a contribution on.")
@click.option("--gguf", "file", type=click.Path(path_type=Path), help="Write this file, for llama.cpp and its kin.")
@click.option("--gguf-kind", "kind", type=click.Choice(GGUF_KINDS), help="Of its numbers; the base's own otherwise.")
def export(folder: Path | None, base: bool, file: Path | None, kind: str | None) -> None:
    """Write a folder that transformers, vLLM and others load, or a file that llama.cpp loads."""
    if folder is None and file is None:
        raise UsageError("nowhere to write to", hint="souq export FOLDER, or souq export --gguf FILE.gguf")
    if base and (folder is None or file is not None):
        raise UsageError("--base is written as a folder", hint="souq export --base FOLDER")
    main = main_here()
    if base and folder is not None:
        with bars() as progress:
            export_model(building.applied(main, Delta(main.base_digest, {}), main.repo.store.get), folder, progress)
        out.print(f"{folder}: {main.base_digest}")
        done("next: train on it, then `souq delta make --from TRAINED --out FILE.delta`")
        return
    if file is not None:
        with bars() as progress:
            built, kept = main_folder.export_gguf(main, file, kind or "", progress)
        out.print(f"{file}: {built.digest} in {kept}")
    if folder is None:
        return
    with bars() as progress:
        built = main_folder.export(main, folder, progress, papers=lineage.papers(main), shown=lineage.card_lines(main))
    out.print(f"{folder}: {built.digest}")


@click.command("eval")
@click.argument("names", nargs=-1, metavar="[NAME|FOLDER]...")
@click.option(
    "--model", "folder", type=click.Path(path_type=Path), help="Score this Hugging Face folder instead of main."
)
@click.option(
    "--engine",
    "line",
    default="transformers",
    show_default=True,
    help="Who answers: transformers, openai:http://HOST:PORT/v1#MODEL, or llama.cpp:FILE.gguf.",
)
@click.option("--task", help="Instead of an eval, a task of lm-evaluation-harness.")
@click.option(
    "--include",
    type=click.Path(path_type=Path),
    help="The folder that defines the task. A task can run code: trust it.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the task's first cases.")
@click.option("--again", is_flag=True, help="Ask again what was scored before.")
@on_option
@click.option("--attest", "number", type=int, help="Run main's checks on this pull request, and sign what was found.")
@click.option(
    "--hidden", "held", type=click.Path(path_type=Path), multiple=True, help="With --attest: the folder of a hold-out."
)
@key_option
@json_option
def eval_(
    names: tuple[str, ...],
    folder: Path | None,
    line: str,
    task: str | None,
    include: Path | None,
    limit: int | None,
    again: bool,
    on: str | None,
    number: int | None,
    held: tuple[Path, ...],
    key: Path | None,
    as_json: bool,
) -> None:
    """Score main's model, or any other, on main's evals (all, or those NAMED); or evaluate a pull request and sign.

    A NAME may be a folder too, of an eval that is not offered yet: it is scored as it would be on main, and what so
    many cases can rule out is said.
    """
    if number is not None:
        _attest(number, held, key, on, as_json)
        return
    main = main_here()
    if task is None and (include or limit):
        raise UsageError("--include and --limit belong to --task", hint="name the task: --task NAME --include FOLDER")
    if task is not None and (names or line != "transformers" or include is None):
        raise UsageError(
            "a task stands alone", hint="write --task NAME --include FOLDER, and perhaps --model or --limit"
        )
    own = {name: own_eval(main, Path(name)) for name in names if name not in main.evals and is_eval(Path(name))}
    for name in names:
        if name not in main.evals and name not in own:
            raise NotFound(f"no eval {name!r}{nearest(name, main.evals)}", hint=f"one of {', '.join(main.evals)}")
    if folder is not None and line != "transformers":
        raise UsageError("--model is for transformers", hint="another engine names its own model in --engine")
    asked = [own[name] if name in own else main.evals[name] for name in names or main.evals]
    suites = {suite.name: suite for suite in asked}
    with bars() as progress:
        compute_on(on, main.repo, progress)
        if task is not None and include is not None:
            engine = _of_main(main, progress) if folder is None else engines.of_folder(main, folder)
            wanted = harness.Task(task, include, limit)
            scores = {task: harness.score(main.repo, wanted, engine, progress, again=again)}
        elif line != "transformers":
            scores = _ask_engine(main, line, suites, progress, named=bool(names), again=again)
        else:
            engine = _of_main(main, progress) if folder is None else engines.of_folder(main, folder)
            scores = engines.scores(main.repo, suites, engine, progress, again=again)
    power = {suite.name: ruled_out(suite, scores[suite.name]) for suite in own.values() if suite.name in scores}
    value = {name: msgspec.to_builtins(score) | power.get(name, {}) for name, score in scores.items()}

    def show() -> None:
        show_scores(scores)
        for mine in own.values():
            show_power(mine, power.get(mine.name, {}))

    answer(value if own else scores, as_json, show)


def _attest(number: int, held: tuple[Path, ...], key: Path | None, on: str | None, as_json: bool) -> None:
    repo = here()
    repo.fetch()
    folders = hidden.held_by(Snapshot(repo, repo.tip()), held)
    with bars() as progress:
        compute_on(on, repo, progress)
        checked = hidden.attest(repo, number, person(repo, key), folders, progress)
    answer(checked, as_json, lambda: show_verdicts(checked))
    if not all(checked.verdicts):
        raise click.exceptions.Exit(3)


def _of_main(main: Snapshot, progress: Progress) -> engines.Transformers:
    return engines.of_built(main, building.build(main, progress=progress))


def _ask_engine(
    main: Snapshot, line: str, suites: dict[str, Eval], progress: Progress, *, named: bool, again: bool
) -> dict[str, Score]:
    """What it cannot judge is left out and said, unless it was asked for by name."""
    engine = engines.parse(line, serves=lock_digest(main.model))
    fit = {name: suite for name, suite in suites.items() if named or suite.spec.kind in engine.kinds}
    scores = engines.scores(main.repo, fit, engine, progress, again=again)
    for name in sorted(suites.keys() - fit.keys()):
        done(f"{engine.under.engine} cannot judge `{name}`, of kind `{suites[name].spec.kind}`: left out")
    return scores


def show_scores(scores: dict[str, Score]) -> None:
    """One line an eval, with its standard error."""
    rows = [[name, score.n, f"{score.value:.3f}", f"{score.stderr:.3f}"] for name, score in scores.items()]
    table(["eval", "cases", "score", "± s.e."], rows, right=["cases", "score", "± s.e."])


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--epochs", default=2, type=click.IntRange(1), show_default=True, help="How often each row is read.")
@click.option("--rank", default=8, type=click.IntRange(1), show_default=True, help="Of the LoRA.")
@click.option(
    "--alpha", default=16, type=click.IntRange(1), show_default=True, help="Of the LoRA: it counts alpha / rank."
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="Of a LoRA and of tokens 1e-3, of layers and experts 3e-4, unless you say.",
)
@click.option("--batch", default=16, type=click.IntRange(1), show_default=True, help="Rows a step.")
@click.option("--layers", default="", help="A LoRA on these only, such as 20-29: fewer are faster.")
@click.option("--token", "tokens", multiple=True, help="Instead of a LoRA, a new token and its row; again for more.")
@click.option("--new-layers", default="", help="Instead, new layers before these of the base, such as 15,30.")
@click.option("--expert", "experts", default="", help="Instead, an expert beside the feed-forward of these layers.")
@click.option(
    "--replay", default=0.1, show_default=True, type=click.FloatRange(0, 0.9),
    help="The share of what a LoRA reads that is the base's own everyday answers, so that it keeps them.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="By which rows are shuffled and weights begin.")
def train(
    data: Path,
    folder: Path,
    epochs: int,
    rank: int,
    alpha: int,
    lr: float | None,
    batch: int,
    layers: str,
    tokens: tuple[str, ...],
    new_layers: str,
    experts: str,
    replay: float,
    seed: int,
) -> None:
    """Train a change on JSONL rows (messages, prompt and completion, or text): a LoRA adapter of the base, or, with
    --token, --new-layers or --expert, what the base does not have."""
    main = main_here()
    rows, _, chosen, new, beside = together(  # before torch is started
        partial(_rows, data),
        partial(refuse_full, folder),
        partial(_layers, layers, main),
        partial(_layers, new_layers, main, after=1),
        partial(_layers, experts, main),
    )
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab import additions
            from souq.lab import lm as lab_model
            from souq.lab import replay as replays
            from souq.lab import train as training

        wanted = additions.Wanted(tokens, tuple(new or ()), tuple(beside or ()))
        if wanted:
            texts = suite.general_texts() if wanted.experts else ()
            rate = lr or (3e-4 if wanted.layers or wanted.experts else 1e-3)
            model, recipe = additions.train_additions(
                main, rows, wanted, texts, epochs=epochs, lr=rate, batch=batch, seed=seed, progress=progress
            )
            export_model(model, folder, progress)
            (folder / RECIPE).write_text(tomli_w.dumps(recipe))
        else:
            lm = lab_model.load(base_files(main), store.Stored(main.base, main.repo.store))
            speaks = bool(lm.tokenizer.chat_template)
            recipe = training.train_lora(
                lm, rows, folder, epochs=epochs, rank=rank, alpha=alpha, lr=lr or 1e-3, batch=batch, layers=chosen,
                seed=seed, replay=replays.how_many(len(rows), replay) if speaks else 0, progress=progress,
            )  # fmt: skip
            alone = training.left_alone(lm.net, recipe["targets"])
    if wanted:
        out.print(f"{folder}: the base with {wanted}")
        done(f"next: `souq delta make --from {folder} --out {folder.name}.delta`")
    else:
        out.print(f"{folder}: a LoRA of rank {rank}")
        beside = f"it stands beside {', '.join(recipe['targets'])}"
        done(f"{beside}{'; left as they are: ' + ', '.join(alone) if alone else ''}")
        for line in learned(recipe, speaks):
            done(line)
        done(f"next: `souq delta make --from {folder} --data {data} --out {folder.name}.delta`")


BY_HEART = 0.05  # nats a token: of what was trained on, next to nothing is left to learn


def learned(recipe: Mapping[str, Any], speaks: bool) -> Iterator[str]:
    """What training came to, in sentences."""
    before, after, own = recipe["loss"]["before"], recipe["loss"]["after"], recipe["replay"]
    yield f"loss on the rows: {before:.3f} before, {after:.3f} after, in nats a token of their answers"
    if after > before:
        yield "it got worse: try a smaller --lr"
    elif after < BY_HEART and recipe["epochs"] > 1:
        yield "the rows are known by heart: where others like them fail, bring more rows or train fewer --epochs"
    if own:
        yield f"read among the rows: {own} of the base's own everyday answers (--replay), which it so keeps"
    elif speaks:
        yield "none of the base's own answers were read (--replay 0): it may forget how to speak (`souq pr checks`)"


def _rows(data: Path) -> Rows:
    if not data.is_file():
        raise NotFound(f"no file {data}", hint="name a JSONL file with training rows")
    return read_rows(data)


def _layers(text: str, main: Snapshot, *, after: int = 0) -> list[int] | None:
    """`20-29` or `3,5` as numbers of the base's layers, or of places `after` the last."""
    if not text:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise UsageError(f"not layers: {text!r}", hint="write 20-29, or 3,5,8")
        numbers += range(int(first), int(last or first) + 1)
    count = len(layers_of(main.base))
    if count and (beyond := [number for number in numbers if number >= count + after]):
        shown = shortlist([*map(str, beyond)], 8)
        raise UsageError(f"no layer {shown}: this model has {count}", hint=f"they are counted from 0 to {count - 1}")
    return numbers
