"""`souq chat` and `souq pr try`: talk with a model, and ask main and main with a pull request merged the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from souq.build.model import Built, build
from souq.cli.console import answer, bars, done, err, json_option, out, starting_lab
from souq.cli.here import here, main_here
from souq.cli.named import PULL
from souq.cli.table import table
from souq.errors import NotFound, SouqError, UsageError
from souq.lab.chat import Completion, Sampling
from souq.model.source import open_source
from souq.progress import Progress
from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.records import spelled_out
from souq.releases import release as releases
from souq.repo.snapshot import Snapshot
from souq.repo.travel import bring_main

if TYPE_CHECKING:
    from souq.lab.conversation import Conversation

CUT = " …"  # after an answer that did not come to its end
STDIN, NEW = "-", "/new"
ONCE, TALKING = 64, 256  # tokens of an answer


# -- a conversation ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("prompt", required=False)
@click.option("--pr", "number", type=PULL, help="Main with this pull request merged, instead of main.")
@click.option("--release", "version", help="This release's model, instead of main's.")
@click.option("--model", "path", type=click.Path(path_type=Path), help="A Hugging Face folder, or a .gguf file.")
@click.option("--system", default="", help="What the model is told before all else.")
@click.option(
    "--tokens", type=click.IntRange(1), help=f"The most to answer with: {ONCE} to a PROMPT, {TALKING} a turn otherwise."
)
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", default=0, show_default=True, help="By which answers are drawn, with a temperature.")
@json_option
def chat(
    prompt: str | None,
    number: int | None,
    version: str | None,
    path: Path | None,
    system: str,
    tokens: int | None,
    temperature: float,
    seed: int,
    as_json: bool,
) -> None:
    """Talk with main's model, by its own chat template; an answer is shown as it is written.

    With PROMPT, one question and its answer; PROMPT `-` is all that stands on stdin. Without, a conversation: each
    line is a turn, typed or from another program; /new begins anew, Ctrl-C cuts an answer short, Ctrl-D ends.
    """
    if (chosen := [each for each in (number, version, path) if each is not None]) and len(chosen) > 1:
        raise UsageError("several models", hint="one of --pr, --release and --model")
    question = sys.stdin.read().strip() if prompt == STDIN else prompt
    if question == "":
        raise UsageError("nothing was asked", hint='souq chat "What is the capital of France?"')
    sampling = Sampling(max_tokens=tokens or (ONCE if prompt else TALKING), temperature=temperature)
    with bars() as progress:
        name, source, weights = _of_path(path) if path is not None else _of_repository(number, version, progress)
        with starting_lab(progress):
            from souq.lab import lm as lab_model
            from souq.lab.conversation import Conversation

        progress("load the model", 0, 1)
        lm = lab_model.load(source, weights)
        progress("load the model", 1, 1)
        talk = Conversation(lm, sampling, system=system, seed=seed)
    if question is not None:
        _ask(talk, question, silent=as_json)
    else:
        _converse(talk, name, silent=as_json)
    answer({"model": name, "turns": talk.turns}, as_json, lambda: None)


def _of_path(path: Path) -> tuple[str, Any, Any]:
    if path.is_file():
        source = open_source(str(path))
        return str(path), source.files, source.weights
    if not (path / "config.json").is_file():
        raise NotFound(f"no model in {path}", hint="name a Hugging Face folder, or a .gguf file")
    return str(path), path, None


def _of_repository(number: int | None, version: str | None, progress: Progress) -> tuple[str, Any, Any]:
    """The name, files and tensors of a model that this repository builds."""
    if number is not None or version is not None:
        here().refresh()
    built = _built(main_here(), number, version, progress)
    return built.digest, built.files, built.weights


def _built(main: Snapshot, number: int | None, version: str | None, progress: Progress) -> Built:
    if version is not None:
        repo, commit = here(), releases.read(main, version).release.commit
        bring_main(repo, progress, at=commit)
        return build(Snapshot(repo, commit), progress=progress)
    if number is not None:
        _, after = _with(main, number, progress)
        if after is not None:
            return after
        done(f"#{number} leaves main's model as it is: this is main")
    return build(main, progress=progress)


def _converse(talk: Conversation, name: str, *, silent: bool) -> None:
    """Turn after turn, until nothing more is asked."""
    watched = sys.stdin.isatty()
    if watched:
        done(f"{name}: {NEW} begins anew, Ctrl-C cuts an answer short, Ctrl-D ends")
    for text in _lines(watched):
        if text == NEW:
            talk.turns, talk.forgotten = [], 0
            continue
        before = talk.forgotten
        try:
            _ask(talk, text, silent=silent)
        except KeyboardInterrupt:
            if not watched:
                raise
            out.print(CUT)
        except SouqError as error:
            if not watched:
                raise
            done(f"{error}{f'; {error.hint}' if error.hint else ''}")
        if talk.forgotten > before:
            done(f"the model's context holds no more: the first {talk.forgotten} turns are left out")


def _lines(watched: bool) -> Iterator[str]:
    """What is typed, or what another program writes, a turn a line."""
    if watched:
        with suppress(ImportError):
            import readline  # noqa: F401  # line editing, where it is there
    while True:
        try:
            line = _typed() if watched else sys.stdin.readline()
        except EOFError:
            break
        if not watched and not line:
            break
        if line.strip():
            yield line.strip()
    if watched:
        err.print()


def _typed() -> str:
    if sys.stdout.isatty():
        return input("> ")
    err.print("> ", end="")
    return input()


def _ask(talk: Conversation, text: str, *, silent: bool) -> Completion:
    """One turn, shown as it is written; nobody's escape sequences reach the terminal."""

    def show(piece: str) -> None:
        if not silent:
            out.print(spelled_out(piece), end="")

    completion = talk.ask(text, show)
    if not silent:
        out.print()
    return completion


# -- main beside main with a pull request ------------------------------------------------------------------------------


@click.command("try")
@click.argument("number", type=PULL)
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option("--tokens", type=click.IntRange(1), default=ONCE, show_default=True, help="The most to answer with.")
@json_option
def try_(number: int, prompts: tuple[str, ...], tokens: int, as_json: bool) -> None:
    """Ask main, and main with the pull request merged, the same, and see both answers side by side."""
    repo = here()
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab.side_by_side import side_by_side

        kind, after = _with(main, number, progress)
        if after is None:
            hint = f"see `souq pr view {number}`"
            raise UsageError(f"#{number} brings {kind}: main's model stays as it is", hint=hint)
        pairs = side_by_side(build(main, progress=progress), after, prompts, max_tokens=tokens, progress=progress)
    value = [{**msgspec.to_builtins(pair), "same": pair.same} for pair in pairs]

    def show() -> None:
        for each in value:
            out.print(f"> {spelled_out(each['prompt'])}")
            table(["main", f"main with #{number}"], [[_shown(each["before"]), _shown(each["after"])]])
        if same := sum(each["same"] for each in value):
            done(f"{same} of {len(value)} the same")

    answer(value, as_json, show)


def _with(main: Snapshot, number: int, progress: Progress) -> tuple[str, Built | None]:
    """The kind of a pull request, and the model that main builds to with it; None where it stays as it is.

    Raises:
        UsageError: it is in main already.
    """
    repo = here()
    pull = pulls.get(repo, number)
    if pull.landed(main):
        raise UsageError(f"#{number} is in main already", hint="`souq chat` asks main")
    reviews.bring(repo, main, pull.offer, progress)
    return pull.offer.contribution.kind, land.built_with(main, pull.offer, progress)


def _shown(completion: dict[str, Any]) -> str:
    return str(completion["text"]) + (CUT if completion["finish"] == "length" else "")
