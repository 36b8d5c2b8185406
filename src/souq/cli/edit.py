"""`souq pr edit` and `souq pr checkout`: offer it anew in other words, and have it in front of one's own editor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from souq.build import delta_file
from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.here import here
from souq.cli.named import PULL
from souq.cli.together import together
from souq.errors import Hostile, NotFound, UsageError
from souq.files import new_folder, write_files
from souq.licences.table import refuse_unknown, spelled
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls.offer import Draft, refuse_unknown_fixes
from souq.pulls.pull import PullRequest
from souq.records import spelled_out
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.text import shortlist


@click.command()
@click.argument("number", type=PULL)
@click.option("--title", help="Another title.")
@click.option("--licence", "--license", help="Another licence, an SPDX expression; needs --signoff.")
@click.option("--signoff", is_flag=True, help="You may give this under that licence (developercertificate.org).")
@click.option("--provenance", help="Where it comes from.")
@click.option("--fixes", multiple=True, help="The evals it makes better, in place of those it names now.")
@click.option("--no-fixes", is_flag=True, help="It claims to fix nothing any more.")
@click.option("--delta", type=click.Path(path_type=Path), help="Other weights: a .delta in place of its own.")
@key_option
@json_option
def edit(
    number: int,
    title: str | None,
    licence: str | None,
    signoff: bool,
    provenance: str | None,
    fixes: tuple[str, ...],
    no_fixes: bool,
    delta: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Change what your open pull request says or brings; it is signed anew, so checks and votes begin anew."""
    spdx = spelled(licence) if licence is not None else None
    words: dict[str, Any] = {"title": title, "licence": spdx, "provenance": provenance}
    changes = {name: value for name, value in words.items() if value is not None}
    if fixes or no_fixes:
        changes["fixes"] = fixes
    if not changes and delta is None:
        raise UsageError("nothing to change", hint="--title, --licence, --provenance, --fixes, --no-fixes or --delta")
    if fixes and no_fixes:
        raise UsageError("--fixes and --no-fixes", hint="one of them")
    if licence is not None and not signoff:
        raise UsageError("another licence is another promise", hint="add --signoff: you may give this under it")
    if delta is not None and not delta.is_file():
        raise NotFound(f"no file {delta}", hint="`souq delta make` writes one")
    repo = here()
    author = person(repo, key)
    with bars() as progress:
        pull, main = pulls.open_now(repo, number)
        together(lambda: refuse_unknown(licence or "MIT"), lambda: refuse_unknown_fixes(main, fixes))
        draft = Draft.of(pull.offer)
        if delta is not None:
            if draft.delta is None:
                raise UsageError(f"#{number} brings no weights", hint="`souq pr create` offers them")
            read = delta_file.read_delta(delta)
            delta_file.keep(*read, main, progress)
            draft, changes = replace(draft, delta=read[0]), changes | {"recipe": delta_file.read_recipe(delta)}
        draft = replace(draft, contribution=msgspec.structs.replace(draft.contribution, **changes))
        again = offers.amend(repo, number, draft, author, progress)
    same = again.offer.digest == pull.offer.digest
    value = {"number": number, "digest": again.offer.digest, "was": pull.offer.digest}

    def show() -> None:
        out.print(f"#{number} {spelled_out(again.offer.contribution.title)}")
        new = f"digest {again.offer.digest}\nnext: `souq pr checks {number}`; votes on what was offered no longer count"
        done("nothing changed" if same else new)

    answer(value, as_json, show)


@click.command()
@click.argument("number", type=PULL)
@click.option("--branch", help="The branch's name.  [default: pr/NUMBER]")
@click.option("--force", is_flag=True, help="Move a branch of that name which holds something else.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Write its files to a new folder instead.")
@json_option
def checkout(number: int, branch: str | None, force: bool, folder: Path | None, as_json: bool) -> None:
    """Look at a pull request's files: on a branch of this clone, or in a folder; nothing of it is run or merged."""
    if folder is not None and (branch or force):
        raise UsageError("--to is a folder and no branch", hint="leave out --branch and --force")
    repo = here()
    repo.refresh()
    pull = pulls.get(repo, number)
    if folder is not None:
        files = pull.offer.files
        with new_folder(folder) as partial:
            write_files(files, partial)
        value = {"folder": str(folder), "files": sorted(files)}
        answer(value, as_json, lambda: out.print(f"{folder}: {len(files)} files"))
        return
    _refuse_strange(repo, pull)
    name = branch or f"pr/{number}"
    repo.check_out(name, pull.head, force=force)

    def show() -> None:
        out.print(f"{name}: {pull.offer.home}")
        done(f"next: `git diff main...{name}`, and `git switch main` to go back")

    answer({"branch": name, "commit": pull.head, "folder": pull.offer.home}, as_json, show)


def _refuse_strange(repo: Repo, pull: PullRequest) -> None:
    """A head puts a whole tree into the working folder: main's of some day and its own folder, and nothing else."""
    main, hint = Snapshot(repo, repo.tip()), f"look at its own folder: `souq pr checkout {pull.number} --to FOLDER`"
    before = repo.commit(f"{pull.head}^")
    if before not in repo.history(main.commit):
        raise Hostile(f"#{pull.number} does not stand on main", hint=hint)
    if outside := [path for path in repo.changed(before, pull.head) if not path.startswith(pull.offer.home)]:
        raise Hostile(f"#{pull.number} changes {shortlist(map(repr, outside))} outside its own folder", hint=hint)
    if odd := [path for path in pull.offer.files if "/.git" in f"/{path}".lower()]:  # what git itself would obey
        raise Hostile(f"#{pull.number} brings {odd[0]!r}", hint=hint)
