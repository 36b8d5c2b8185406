"""`souq pr`: offer, look at, check, review, merge and close pull requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import click
import msgspec

from souq.build import delta_file, reproducible
from souq.build import forecast as forecasting
from souq.build.lock import fold
from souq.cli.comment import LAST_COMMENTS, comment, show_thread
from souq.cli.console import answer, bars, done, err, json_option, key_option, on_option, out, person
from souq.cli.documents import changes, documents
from souq.cli.drafts import ADDRESS, offered
from souq.cli.edit import checkout, edit
from souq.cli.help import VerbGroup
from souq.cli.here import compute_on, here
from souq.cli.missing import show_missing
from souq.cli.named import PULL
from souq.cli.offers import offer_command
from souq.cli.refit import kept, measured_kept, rebase, resketch, search, show_kept
from souq.cli.table import table
from souq.cli.talk import try_
from souq.cli.together import together
from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.evals.eval import name_of
from souq.files import new_folder, replacing, write_files
from souq.licences.table import refuse_unknown, spelled
from souq.pulls import forge, land, reviews
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls.offer import Draft, refuse_unknown_fixes
from souq.pulls.overview import Overview, adapter_lines, gathered, making, rebuilt_lines, spoken
from souq.pulls.overview import overview as look_at
from souq.pulls.pull import PullRequest
from souq.pulls.waiting import Line
from souq.records import Checked, Contribution, Kind, Verdict
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.text import plain_utf8

MAX_PATCH = 1 << 20  # bytes of a pull request whose difference is shown
MOST_SENTENCES = 10  # of those that wait for others
MARKS = {"pass": "pass", "needs-eyes": "eyes", "refuse": "REFUSED"}


@click.group(cls=VerbGroup)
def pr() -> None:
    """Offer, look at, check, review and merge changes to the model."""


@pr.command()
@click.argument("delta", metavar="[DELTA|DRAFT]", required=False)
@click.option("--title", required=True, help="What it does, in a few words.")
@click.option("--licence", "--license", required=True, help="An SPDX expression.")
@click.option("--signoff", is_flag=True, help="You may give this under that licence (developercertificate.org).")
@click.option("--provenance", default="", help="Where it comes from.")
@click.option("--fixes", multiple=True, help="The eval on main that this makes better.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="JSONL it was trained on, or offers.")
@click.option(
    "--evals", type=click.Path(path_type=Path), multiple=True, help="A folder with eval.toml and cases.jsonl."
)
@click.option(
    "--file", "files", multiple=True, metavar="[NAME=]FILE",
    help="A document: LICENSE, NOTICE, README.md, DATASHEET.md, docs/NAME.md and the like.",
)  # fmt: skip
@click.option("--unchecked", is_flag=True, help="Do not run the quick checks here; leave them to others.")
@click.option("--branch", help="Offer it on a branch of this name, to be pushed to a fork on a forge.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Write it as files, for `hf upload … --create-pr` to a hub."
)
@key_option
@json_option
def create(
    delta: str | None,
    title: str,
    licence: str,
    signoff: bool,
    provenance: str,
    fixes: tuple[str, ...],
    data: tuple[Path, ...],
    evals: tuple[Path, ...],
    files: tuple[str, ...],
    unchecked: bool,
    branch: str | None,
    folder: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Offer a .delta, data, evals or documents to main; or, by its address on a hub, the files of a draft of yours."""
    repo = here()
    contributor = person(repo, key)
    with bars() as progress, ExitStack() as stack:
        repo.fetch()
        main = Snapshot(repo, repo.tip())
        asked = [] if unchecked else [partial(refuse_unknown, licence), partial(refuse_unknown_fixes, main, fixes)]
        kind, rows, cases, more, *_ = together(  # before what takes long
            partial(_kind, delta, data, evals, files), partial(_data, data), partial(_evals, evals),
            partial(documents, files), partial(_refuse_unsigned, signoff), *asked,
        )  # fmt: skip
        path = stack.enter_context(offered(delta, main, progress))
        recipe = delta_file.read_recipe(path) if path is not None else {}
        contribution = Contribution(
            title=title, kind=kind, author=contributor.author, licence=licence if unchecked else spelled(licence),
            signoff=f"{contributor.name} <{contributor.email}>", provenance=provenance, fixes=fixes, recipe=recipe,
        )  # fmt: skip
        read = delta_file.read_delta(path) if path is not None else None
        if read is not None:
            delta_file.keep(*read, main, progress)
        draft = Draft(contribution, read[0] if read else None, rows, cases, more=more)
        if branch is not None:
            made = forge.offer_branch(repo, draft, contributor, branch, checked=not unchecked, progress=progress)
            carried = {"branch": branch, "digest": made.offer.digest, "carried": made.carried}
            answer(carried, as_json, lambda: _show_branch(made))
            return
        if folder is not None:
            offer = _into(
                folder, *forge.offer_files(repo, draft, contributor, checked=not unchecked, progress=progress)
            )
            answer({"folder": str(folder), "digest": offer.digest}, as_json, lambda: out.print(f"{folder}: {title}"))
            return
        pull = offers.create(repo, draft, contributor, checked=not unchecked, progress=progress)
    value = {"number": pull.number, "contribution": pull.offer.slug, "digest": pull.offer.digest}

    def show() -> None:
        out.print(f"#{pull.number} {title}")
        if (judgement := reproducible.judged(pull.offer)) is not None:
            source = "source: it can be trained again from what it brings"
            binary = f"a binary, and welcome: nobody can train it again, since {judgement.because}"
            done(source if judgement else binary)
        done(f"digest {pull.offer.digest}\nnext: somebody runs `souq pr checks {pull.number}`")

    answer(value, as_json, show)


def _into(folder: Path, offer: Offer, files: dict[str, bytes]) -> Offer:
    """Write the files of a pull request for a hub into a new folder."""
    with new_folder(folder) as partial_folder:
        write_files(files, partial_folder)
    done(f"next: hf upload ORG/NAME {folder} . --create-pr")
    return offer


def _show_branch(made: forge.Branch) -> None:
    out.print(f"{made.name}: {made.offer.contribution.title}")
    where = "in the branch" if made.carried else "in the store, being too large for git"
    done(f"digest {made.offer.digest}, its tensors {where}")
    done(f"next: `git push FORK {made.name}`, and open a pull request there")


def _refuse_unsigned(signoff: bool) -> None:
    if not signoff:
        raise UsageError("not signed off", hint="add --signoff: you may give this under that licence")


def _kind(delta: str | None, data: tuple[Path, ...], evals: tuple[Path, ...], files: tuple[str, ...]) -> Kind:
    if delta is not None and not ADDRESS.fullmatch(delta) and not Path(delta).is_file():
        raise NotFound(f"no file {delta}", hint="`souq delta make` writes one")
    if files:
        if delta is not None or data or evals:
            raise UsageError("documents come in a pull request of their own", hint="offer them apart: --file alone")
        return "documents"
    if delta is not None:
        return "weights"
    if evals:
        return "evals"
    if data:
        return "data"
    raise UsageError("nothing to offer", hint="name a .delta file, --data FILE.jsonl, --evals FOLDER or --file NAME.md")


def _data(paths: tuple[Path, ...]) -> dict[str, bytes]:
    for path in paths:
        if not path.is_file():
            raise NotFound(f"no file {path}", hint="check --data")
    _refuse_twice("--data", [path.name for path in paths])
    return {path.name: plain_utf8(path.read_bytes(), str(path)) for path in paths}


def _refuse_twice(option: str, names: list[str]) -> None:
    """Two of one name would be one file of the contribution, and the other lost."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{option} names two that are called {twice}", hint="call one of them otherwise")


def _evals(folders: tuple[Path, ...]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for folder in folders:
        if not (folder / "eval.toml").is_file():
            raise NotFound(f"no eval.toml in {folder}", hint="an eval is a folder with eval.toml and cases.jsonl")
        shown = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        if inside := [path.name for path in shown if path.is_dir()]:
            raise UsageError(f"{folder} holds a folder, {inside[0]}", hint="an eval is eval.toml and cases.jsonl")
        files |= {f"{name_of(folder)}/{path.name}": plain_utf8(path.read_bytes(), str(path)) for path in shown}
    _refuse_twice("--evals", [name_of(folder) for folder in folders])
    return files


@pr.command("list")
@click.option("--all", "everything", is_flag=True, help="Merged and closed ones too.")
@json_option
def list_(everything: bool, as_json: bool) -> None:
    """Pull requests, open ones unless --all."""
    repo = here()
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        main.read_landed(progress)
        every = pulls.listed(repo, progress=progress)
    listed, waits = [(pull, pull.state(main)) for pull in every], Line(repo, main).waits
    rows = [_row(pull, state) for pull, state in listed if state == "open" or everything]
    rows = [row | ({"waits": waits[row["number"]]} if row["number"] in waits else {}) for row in rows]

    def show() -> None:
        if not rows:
            done("no open pull requests; `souq pr create` makes one, `souq pr list --all` shows the past")
            return
        shown = [row | ({"state": "waits"} if "waits" in row else {}) for row in rows]
        table(["#", "state", "kind", "from", "title", "author"], [list(row.values())[:6] for row in shown])
        for number, sentence in list(waits.items())[:MOST_SENTENCES]:
            done(f"#{number} {sentence}")
        if len(waits) > MOST_SENTENCES:
            done(f"and {len(waits) - MOST_SENTENCES} more wait: `souq pr list --json` says for whom")

    answer(rows, as_json, show)


def _row(pull: PullRequest, state: str) -> dict[str, Any]:
    try:
        c = pull.summary
        facts = {"kind": c.kind, "source": c.source, "title": c.title, "author": c.author.name, "digest": c.digest}
    except SouqError as error:  # one hostile pull request must not hide the others
        facts = {"kind": "?", "source": "?", "title": f"cannot be read: {error}", "author": "?", "digest": ""}
    return {"number": pull.number, "state": state, **facts}


@pr.command()
@click.argument("number", type=PULL)
@click.option(
    "--forecast/--no-forecast", default=True, help="What the merge is expected to do to it and to the others."
)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the forecast, layer by layer: an SVG.")
@click.option("--comments", "every", is_flag=True, help=f"All comments, not only the last {LAST_COMMENTS}.")
@json_option
def view(number: int, forecast: bool, picture: Path | None, every: bool, as_json: bool) -> None:
    """What is offered, what the machines found, who voted, what people say, what is missing, what a merge costs."""
    repo = here()
    repo.refresh()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    overview = look_at(pull, main)
    ahead = _forecast(main, pull, overview.state) if forecast and overview.state != "closed" else None
    if picture is not None:
        if ahead is None:
            raise UsageError(f"#{number} changes no weights here, so there is nothing to draw")
        picture.write_text(forecasting.picture(ahead))

    def show() -> None:
        _show_offer(overview)
        _show_source(overview)
        for checked in overview.checked[-1:]:
            show_verdicts(checked)
        for word in overview.words:
            nothing = f" (does not count: {word.uncounted})" if word.uncounted else ""
            out.print(f"{word.choice} by {word.by}: {word.reason}{nothing}")
        show_thread(overview.comments, number, overview.digest, every=every)
        if ahead is not None:
            _show_forecast(number, ahead)
        for line in overview.eyes:
            out.print(line)
        for line in gathered(overview.missing, number):
            out.print(f"missing: {line}")
        if overview.turned_away is not None:
            out.print(f"\n{overview.turned_away.text()}")
        if picture is not None:
            done(f"picture: {picture}")

    seen = msgspec.to_builtins(overview)
    first = ("number", "state", "digest", "contribution")  # as this JSON has always begun
    value = {key: seen.pop(key) for key in first} | {"forecast": msgspec.to_builtins(ahead)} | seen
    turned = value.pop("turned_away")
    value |= {"turned_away": overview.turned_away.text()} if overview.turned_away and turned else {}
    if not overview.comments:  # nobody who reads this JSON since before there were any meets a new key
        del value["comments"]
    answer(value, as_json, show)


def _show_offer(overview: Overview) -> None:
    c = overview.contribution
    out.print(f"#{overview.number} {c.title} ({overview.state})")
    out.print(f"{c.kind} by {c.author.name} <{c.author.email}>, {c.licence}")
    out.print(f"digest {overview.digest}")
    if c.fixes:
        out.print(f"claims to fix {', '.join(c.fixes)}")
    for line in making(c.recipe):
        out.print(line)


def _show_source(overview: Overview) -> None:
    """How its weights were made, whether it can be trained again, and what came of it where somebody did."""
    for line in adapter_lines(overview.contribution.recipe):
        out.print(line)
    if overview.source is not None:
        out.print(": ".join(filter(None, overview.source.values())))
    for line in rebuilt_lines(overview.rebuilt):
        out.print(line)


def _forecast(main: Snapshot, pull: PullRequest, state: pulls.State) -> forecasting.Forecast | None:
    """What the merge is expected to do to it; None where it changes no weights, or where that cannot be told."""
    if pull.offer.contribution.kind != "weights":
        return None
    try:  # whose delta.lock cannot be read is shown too
        if pull.offer.delta is None:
            return None
        return _remembered_forecast(main, pull.offer, None if state == "merged" else pull.offer)
    except SouqError as error:  # what cannot be forecast can still be looked at
        done(f"no forecast: {error}")
        return None


def _remembered_forecast(main: Snapshot, offer: Offer, extra: Offer | None) -> forecasting.Forecast:
    """The forecast for an offer among those on main, from memory where it was made before."""
    note = main.repo.cache / "forecasts" / f"{main.recipe(extra).digest[3:35]}-{offer.digest[3:35]}.json"
    with suppress(OSError, msgspec.MsgspecError):  # not made yet, or damaged
        return msgspec.json.decode(note.read_bytes(), type=forecasting.Forecast)
    with bars() as progress:
        reviews.bring(Repo.of(main.repo), main, offer, progress)
        members = main.members(extra)
        offers = {name: offer if slug == offer.slug else main.offers[slug] for name, slug in members.items()}
        own = next(name for name, slug in members.items() if slug == offer.slug)
        made = forecasting.forecast(fold(main, extra), own, offers, progress)
    with replacing(note) as partial:
        partial.write_bytes(msgspec.json.encode(made))
    return made


def _show_forecast(number: int, forecast: forecasting.Forecast) -> None:
    out.print(f"forecast: the merge keeps about {forecast.kept:.0%} of what it learned")
    if forecast.met:
        rows = []
        for met in forecast.met:
            overlap = [f"{share:.2f}" for share in (met.inputs, met.outputs, met.signs)]
            rows.append([met.slug, *overlap, f"{met.blame:+.3f}", f"{met.before:.0%}", f"{met.kept:.0%}"])
        table(["meets", "inputs", "outputs", "signs", "costs it", "kept before", "kept with it"], rows)
    if forecast.worst:
        worst = list(forecast.worst.items())[:3]
        out.print("most of its loss: " + ", ".join(f"{name} {share:.0%}" for name, share in worst))
    if forecast.warning:
        out.print(f"warning: {forecast.warning}; its author can run `souq pr rebase {number}`")


def show_verdicts(checked: Checked) -> None:
    """One line a check, and what main and the changed model say to a few everyday prompts."""
    table(["check", "verdict", "because"], [[v.check, MARKS[v.outcome], v.because] for v in checked.verdicts])
    quoted = [each for v in checked.verdicts if v.check == "evals" for each in spoken(v.evidence)]
    if quoted:
        out.print("\nHow main answers before and after; whether well, people judge:")
    for answers in quoted:
        out.print(answers["prompt"], style="bold")
        for whose in ("before", "after"):
            out.print(f"  {whose:7} {answers[whose]}")


@pr.command("diff")
@click.argument("number", type=PULL)
def diff_(number: int) -> None:
    """The text of the change, as git shows it; its tensors by digest."""
    repo = here()
    repo.refresh()
    pull = pulls.get(repo, number)
    before = repo.commit(f"{pull.head}^")
    paths = repo.changed(before, pull.head)  # raises where there is more than a person, or git, could show
    # Its own folder, whose size is known before git compares it: beside it there may be gigabytes.
    if (size := sum(map(len, pull.offer.files.values()))) > MAX_PATCH:
        hint = f"look at one file of it: `git diff {before[:12]} {pull.head[:12]} -- PATH`"
        raise Hostile(f"#{number} brings {size:,} bytes of text; the most shown is {MAX_PATCH:,}", hint=hint)
    for line in changes(Snapshot(repo, before), pull.offer):
        out.print(line)
    out.print(repo.patch(before, pull.head, [pull.offer.home]))
    for path in [path for path in paths if not path.startswith(pull.offer.home)][:20]:
        done(f"changes {path!r} too, outside its own folder: the check `files` refuses that")


@pr.command()
@click.argument("number", type=PULL)
@click.option("--quick", is_flag=True, help="All but the costly checks, with their times; nothing is signed.")
@click.option("--unsigned", is_flag=True, help="Every check; nothing is signed.")
@click.option("--out-of-turn", is_flag=True, help="Also where others are to be looked at first, or no evals are left.")
@on_option
@key_option
@json_option
def checks(
    number: int, quick: bool, unsigned: bool, out_of_turn: bool, on: str | None, key: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Run main's checks on a pull request and sign the verdicts; exit 3 when one refuses."""
    repo = here()
    if quick or unsigned:
        _look(repo, number, as_json, on, costly=not quick)
        return
    checker = person(repo, key)
    if note := reviews.checks_count_for_nothing(repo, number, checker):
        done(f"note: {note}; `--quick` looks in seconds and signs nothing")
    with bars() as progress:
        compute_on(on, repo, progress)
        checked = reviews.check(repo, number, checker, progress, out_of_turn=out_of_turn)
    refused = [verdict for verdict in checked.verdicts if not verdict]
    answer(checked, as_json, lambda: show_verdicts(checked))
    if repo.tip() != checked.base:
        done(f"main has moved while these ran: a merge asks for them again, `souq pr checks {number}`")
    _next_after_checks(number, refused)


def _look(repo: Repo, number: int, as_json: bool, on: str | None, *, costly: bool) -> None:
    """What is found, and in how many seconds."""
    took: dict[str, float] = {}

    @contextmanager
    def watch(name: str) -> Iterator[None]:
        begun = perf_counter()
        yield
        took[name] = perf_counter() - begun

    with bars() as progress:
        compute_on(on, repo, progress)
        looked = reviews.look(repo, number, watch, progress, costly=costly)
    verdicts = looked.verdicts
    rows = [[v.check, MARKS[v.outcome], f"{took.get(v.check, 0.0):.2f} s", v.because] for v in verdicts]
    columns = ["check", "verdict", "took", "because"]
    value = {"subject": looked.subject, "base": looked.base, "verdicts": verdicts, "seconds": took}
    answer(value, as_json, lambda: table(columns, rows))
    done(f"nothing was signed; `souq pr checks {number}` runs every check and signs")
    if not all(verdicts):
        raise click.exceptions.Exit(3)


def _next_after_checks(number: int, refused: list[Verdict]) -> None:
    if refused:
        done(f"refused by {', '.join(v.check for v in refused)}; `souq pr close {number} --reason …` turns it down")
        raise click.exceptions.Exit(3)
    done(f"next: `souq pr review {number} --approve --reason …`")


@pr.command()
@click.argument("number", type=PULL)
@click.option("--approve", "choice", flag_value="approve", help="Yes.")
@click.option("--reject", "choice", flag_value="reject", help="No; needs a reason.")
@click.option("--reason", default="", help="Why, for everybody to read.")
@click.option("--digest", help="What you have read; refused if something else is offered by now.")
@key_option
@json_option
def review(
    number: int,
    choice: Literal["approve", "reject"] | None,
    reason: str,
    digest: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Sign a yes or no to exactly what is offered."""
    if choice is None:
        raise UsageError("yes or no?", hint=f"run `souq pr review {number} --approve` or `--reject --reason …`")
    repo = here()
    voter = person(repo, key)
    vote = reviews.review(repo, number, choice, reason, voter, read=digest)
    decision, word = land.decision(repo, number), reviews.word_of(repo, number, voter)
    uncounted = word.uncounted if word else ""

    def show() -> None:
        out.print(f"{vote.choice} #{number} by {word.by if word else vote.by}")
        if uncounted:
            done(f"  it does not count: {uncounted}")
        show_missing(number, decision)

    answer({"vote": vote, "uncounted": uncounted, "missing": decision.missing}, as_json, show)


vote = review  # `souq vote`: on a forge, where the button that says approve is not proof


@pr.command()
@click.argument("number", type=int)
@click.option("--head", help="A ref of the remote, or a commit in refs/pull/NUMBER/head, which it is unless told.")
@key_option
@json_option
def adopt(number: int, head: str | None, key: Path | None, as_json: bool) -> None:
    """Make the pull request NUMBER of the forge one of souq's, or bring the one it became up to date."""
    repo = here()
    with bars() as progress:
        pull = forge.adopt(repo, number, head or f"refs/pull/{number}/head", person(repo, key), progress)
    value = {"forge": number, "number": pull.number, "contribution": pull.offer.slug, "digest": pull.offer.digest}

    def show() -> None:
        out.print(f"#{pull.number} {pull.offer.contribution.title}")
        done(f"digest {pull.offer.digest}\nnext: `souq pr checks {pull.number}`")

    answer(value, as_json, show)


@pr.command()
@click.argument("number", type=PULL)
@click.option("--kept", "measure", is_flag=True, help="Then measure what main keeps of each: `pr kept`.")
@key_option
@json_option
def merge(number: int, measure: bool, key: Path | None, as_json: bool) -> None:
    """Land it on main, if main's policy says yes; exit 3 and what is missing if not."""
    repo = here()
    with bars() as progress:
        decision, commit = land.merge(repo, number, person(repo, key), progress)
    value = {"merged": commit, "missing": decision.missing}
    if commit is None:
        answer(value, as_json, lambda: None)
        err.print(f"Error: #{number} cannot merge yet")
        show_missing(number, decision)
        raise click.exceptions.Exit(3)
    if left := land.left_behind(repo, number, commit):
        done(f"{left} under refs/souq/pr/{number} stayed there: no records of what landed, or of nobody enrolled")
    for line in decision.eyes:
        done(f"  {line}")
    main = Snapshot(repo, commit)
    measured = measured_kept(main) if measure else []
    answer(value | {"kept": measured}, as_json, lambda: out.print(f"merged #{number} as {commit[:12]}"))
    if measure and not as_json:
        show_kept(measured)
    elif len(main.members()) > 1 and pulls.get(repo, number).offer.moves_weights:
        done("next: `souq pr kept` says what main now keeps of each contribution")


TAKE_BACK = "Offer to take landed contribution SLUG back: main then builds as if it had never been there."
RATIFY = "Offer to let stand what emergency SLUG took back, before it lapses."
RESTORE = "Offer to bring back what SLUG took back; once an emergency has lapsed, nobody's leave is needed."

for verb in (checkout, comment, edit, kept, rebase, resketch, search, try_):
    pr.add_command(verb)
pr.add_command(offer_command("revert", "SLUG", TAKE_BACK, why="Why, for everybody to read."))
pr.add_command(offer_command("ratify", "SLUG", RATIFY))
pr.add_command(offer_command("restore", "SLUG", RESTORE))


@pr.command()
@click.argument("number", type=PULL)
@click.option("--reason", required=True, help="Why, for everybody to read.")
@click.option("--junk", is_flag=True, help="It was sent for nothing: whoever vouches for its author answers for it.")
@key_option
def close(number: int, reason: str, junk: bool, key: Path | None) -> None:
    """Withdraw a pull request, or turn it down; its records stay."""
    repo = here()
    reviews.close(repo, number, reason, person(repo, key), junk=junk)
    out.print(f"closed #{number}")
