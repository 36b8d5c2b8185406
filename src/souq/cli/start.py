"""`souq init`, `clone`, `push`, `fetch`: where a model repository comes from and how it travels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click

from souq.cli.console import answer, bars, done, json_option, key_option, out, person, starting_lab
from souq.cli.here import here, own_commits
from souq.cli.together import together
from souq.errors import Missing, NotFound, Refused, SouqError, UsageError, nearest
from souq.evals import suite as general
from souq.evals.eval import name_of, read_folder
from souq.files import beside, refuse_full
from souq.governance import Who
from souq.governance.policy import Key
from souq.governance.templates import TEMPLATES, covering, from_template, without_evals
from souq.licences.compat import Input, into
from souq.licences.lineage import declared
from souq.licences.table import refuse_unknown, spelled
from souq.model.base import as_base
from souq.model.chat_template import CHATML, Approved
from souq.model.config import TOKENIZERS, approved
from souq.model.kinds import no_lab
from souq.model.source import Source, Unpack, is_hub_id, open_source, packaged, read_small
from souq.progress import Progress, step
from souq.pulls import pull as pulls
from souq.records import Record, parse_toml
from souq.repo.git import MAIN
from souq.repo.init import Beginning, licence_text
from souq.repo.init import init as start
from souq.repo.remote import Held, Raced, Repo, is_url
from souq.repo.snapshot import Snapshot, needed
from souq.repo.travel import absolute, bring_main
from souq.repo.travel import clone as copy
from souq.repo.travel import push as send
from souq.signing import Person, normal_key
from souq.text import decoded
from souq.weights.delta import Delta, Lock, Tensors
from souq.weights.lockfile import lock_digest
from souq.weights.place import check_url


@click.command()
@click.argument("name", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    required=True,
    help="A Hugging Face folder, a .gguf file, a hub id, or a package that carries a GGUF.",
)
@click.option("--revision", help="Of a hub id: 40 digits, a branch or a tag; the base is pinned by its digits.")
@click.option("--licence", "--license", help="SPDX; the source's own where it says one.")
@click.option("--chat-template", "template", help="A file, or `chatml`, in place of the source's own.")
@click.option(
    "--governance",
    "policy",
    default="solo",
    help="`solo`, `apache`, `foundation`, `company-plus-community`, or a GOVERNANCE.toml of yours.",
)
@click.option("--people", type=click.Path(path_type=Path), help="Who else decides: a TOML file of [[person]] tables.")
@click.option("--evals", type=click.Path(path_type=Path), multiple=True, help="Folders with eval.toml and cases.jsonl.")
@click.option("--store", default="", help="Where the tensors travel if not beside the remote: s3://bucket/folder.")
@click.option("--suite/--no-suite", default=True, help="Protect a small general suite, and sketch the base's inputs.")
@click.option(
    "--accept", multiple=True, type=click.Choice(["licence", "template"]),
    help="You have looked at it: a licence that is not its card's, a chat template that does more than write down.",
)  # fmt: skip
@key_option
@json_option
def init(
    name: Path, source: str, revision: str | None, licence: str | None, template: str | None, policy: str,
    people: Path | None, evals: tuple[Path, ...], store: str, suite: bool, accept: tuple[str, ...], key: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Start a model repository NAME from a model."""
    founder = person(Repo(Path.cwd() / ".git", Path.cwd()), key)
    cases, rules_text, *_ = together(  # before a model is read
        partial(_cases, evals),
        partial(_policy, policy, founder, people),
        partial(refuse_unknown, licence or ""),
        partial(refuse_full, name, "choose another name"),
        partial(_refuse_no_template, template),
        partial(_refuse_no_model, source, revision),
        *([partial(check_url, store, local=True)] if store else []),
    )
    with _unpacking(name.absolute()) as unpack, bars() as progress:
        with step("read the model", progress):
            model = as_base(_with_template(open_source(source, revision, unpack=unpack), template))
        config = json.loads(model.files["config.json"])
        unasked = no_lab(config)
        suite = suite and not unasked
        rules, added = _rules(policy, rules_text, model, asked=not unasked)
        says, (own, base), _ = together(
            partial(approved, model.files, owners=True, accepted="template" in accept),
            partial(_licences, model, licence, accepted="licence" in accept),
            partial(_refuse_untold, model, suite=suite),
        )
        notes = [_runs(str(config.get("model_type")), unasked, suite=suite), *_covered(added), *model.notes]
        notes += _lacks(model, says, suite=suite)
        notes += _untold(model)
        if suite:
            asked = says is not None
            cases |= {f: data for f, data in general.files().items() if asked or f.startswith(general.UNASKED)}
        begin = Beginning(
            name=name.name, licence=own, base_licence=base, policy=rules, evals=cases,
            store=store, sketch=partial(_sketch, progress) if suite else None, accepted="template" in accept,
        )  # fmt: skip
        repo = start(name, model, begin, progress)
    main = Snapshot(repo, repo.tip())
    value = {
        "repo": str(name), "root": main.commit, "base": main.base_digest, "tensors": len(main.base), "licence": own,
        "base_licence": base or own, "origin": model.origin, "notes": notes, "chat_template": says,
    }  # fmt: skip

    def show() -> None:
        out.print(f"{name}: {len(main.base)} tensors, base {main.base_digest}")
        for line in [*notes, *_said_by(says)]:
            done(line)
        done(f"root {main.commit} (pin it: `souq verify --root {main.commit}`)\nnext: cd {name} && souq status")

    answer(value, as_json, show)


def _runs(kind: str, unasked: str, *, suite: bool) -> str:
    """What souq does with a model, in a line."""
    if unasked:
        lab = f". {unasked}: no general suite protects it, and a template's policy asks no evals"
    else:
        lab = ", and the lab runs it" if suite else ", and the lab runs it if transformers does"
    return f"{kind}: takes changes of weights, merges, verifies, exports{lab}"


def _untold(model: Source) -> Iterator[str]:
    if licence_text(model) is None:
        yield "no text of its licence came with it: put one beside it with `souq pr create --file LICENSE`"


def _covered(added: tuple[str, ...]) -> Iterator[str]:
    if added:
        yield f"the policy's `model.*` covers this model's {', '.join(added)} too: they were put beside it"


@contextmanager
def _unpacking(place: Path) -> Iterator[Unpack]:
    """A way to have a quantised model in 16 bits, in a folder beside `place` that is there as long as it is needed."""
    with ExitStack() as left:

        def unpack(folder: Path) -> tuple[Path, tuple[str, ...]]:
            from souq.lab.dequantise import dequantise

            out = left.enter_context(beside(place)) / "16-bit"
            return out, dequantise(folder, out)

        yield unpack


def _cases(folders: tuple[Path, ...]) -> dict[str, bytes]:
    return {path: data for folder in folders for path, data in _folder(folder).items()}


def _refuse_no_template(template: str | None) -> None:
    if template not in (None, "chatml") and not Path(str(template)).is_file():
        raise NotFound(f"no file {template}", hint="name a file with a jinja template, or `chatml`")


def _refuse_no_model(source: str, revision: str | None) -> None:
    """What can be told of a place without reading what is there."""
    there = Path(source).exists() or packaged(source) is not None
    if not is_hub_id(source) and (not there or revision is not None):
        open_source(source, revision)  # which says what it may be


def _with_template(model: Source, template: str | None) -> Source:
    if template is None:
        return model
    text = CHATML.encode() if template == "chatml" else read_small(Path(template))
    return replace(model, files=model.files | {"chat_template.jinja": text})


def _licences(model: Source, asked: str | None, *, accepted: bool) -> tuple[str, str]:
    """The model's licence, and the base's where that is another one.

    A card that says otherwise is not passed over: its clauses are asked, and where they do not simply let it, the
    owner; either way both are written down.
    """
    refuse_unknown(asked or "")
    named, own = model.licence or "", spelled(asked or "")
    base = declared(model.folder, named) if model.folder is not None else spelled(named)
    if not own and not base:
        raise UsageError("the source names no licence", hint="add --licence, for example --licence Apache-2.0")
    if own in ("", base) or not base:
        return own or base, ""
    cell = into(Input("base", model.name, base), own)
    if cell.verdict in ("review", "block") and not accepted:
        raise UsageError(
            f"{model.name} is under {base}, and --licence says {own}: {cell.because}"
            + (f" ({cell.clause})" if cell.clause else ""),
            hint="leave --licence out, correct its card if that is wrong, or add `--accept licence`: then both are "
            "written down",
        )
    return own, base


def _refuse_untold(model: Source, *, suite: bool) -> None:
    """Without a tokenizer, or what runs models, the suite could not even be sketched."""
    if suite and find_spec("torch") is None:
        hint = 'run `pip install "souq[lab]"`, or add --no-suite'
        raise Missing("torch is not installed, and the general suite asks the model", hint=hint)
    if suite and not any(name in model.files for name in TOKENIZERS):
        raise UsageError(
            f"{model.name} has no tokenizer: nothing can be scored, sketched or trained without one",
            hint="put tokenizer.json and tokenizer_config.json beside config.json, or add --no-suite",
        )


def _lacks(model: Source, template: Approved | None, *, suite: bool) -> Iterator[str]:
    """What the lab will miss, said at once."""
    if not any(name in model.files for name in TOKENIZERS):
        yield "it has no tokenizer: `souq eval`, `train` and `chat` need one in the folder that main begins from"
    elif "tokenizer.json" not in model.files:
        yield (
            "it has no tokenizer.json: no tokens can be added and no GGUF written; transformers writes one with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…), after `pip install sentencepiece` if it has a .model"
        )
    if template is None:
        yield (
            "it has no chat template, which `souq chat`, rows with messages and evals that ask need: put "
            "chat_template.jinja beside config.json, or add --chat-template FILE (or chatml)"
        )
        if suite:
            yield f"so of the general suite it has {', '.join(general.UNASKED)} alone"


SHOWN = 300  # characters of what a template says


def _said_by(template: Approved | None) -> Iterator[str]:
    """What the chat template says of its own, for its owner to see."""
    if template is None:
        return
    if template.adds:
        more = f" … ({len(template.adds):,} characters)" if len(template.adds) > SHOWN else ""
        yield f"where nobody gives a system message, its chat template says: {template.adds[:SHOWN]}{more}"
    yield from (f"its chat template {line}" for line in template.says)


class _Enrolled(Record, frozen=True, forbid_unknown_fields=True):
    person: tuple[Who, ...]


def _policy(template: str, founder: Person, people: Path | None) -> str:
    if template in TEMPLATES:
        return from_template(template, _people(people, founder))
    path = Path(template)
    if not path.is_file():
        known = nearest(template, TEMPLATES)
        raise NotFound(f"no template and no file {template!r}{known}", hint=f"one of {', '.join(TEMPLATES)}, or a path")
    return decoded(path.read_bytes(), str(path))


def _rules(template: str, text: str, model: Source, *, asked: bool) -> tuple[str, tuple[str, ...]]:
    """GOVERNANCE.toml for a model, and the patterns that were put beside `model.*`.

    A template covers all tensors; a file of somebody's own is left as it is unless its `model.*` is none of them.
    """
    tensors = list(model.weights)
    if template in TEMPLATES:
        return covering(text if asked else without_evals(text), tensors)
    return covering(text, tensors) if not any(name.startswith("model.") for name in tensors) else (text, ())


def _people(people: Path | None, founder: Person) -> list[Who]:
    """Who decides, the founder first: as they stand in a file that has their key, or as git knows them."""
    if people is not None and not people.is_file():
        raise NotFound(f"no file {people}", hint="check --people")
    named = parse_toml(decoded(people.read_bytes(), str(people)), _Enrolled, where=str(people)).person if people else ()
    mine = [each for each in named if founder.public_key in [normal_key(_plain(key)) for key in each.keys]]
    if not mine:
        if any(each.name == founder.name for each in named):
            why = f"{people} has {founder.name} with another key than the one you sign with"
            raise UsageError(why, hint="name that one with --key, or add yours to their keys in it")
        mine = [
            Who(name=founder.name, org=founder.org or founder.name, email=founder.email, keys=(founder.public_key,))
        ]
    return [*mine, *(each for each in named if each not in mine)]


def _plain(key: str | Key) -> str:
    return key.key if isinstance(key, Key) else key


def _sketch(progress: Progress, source: Source, lock: Lock) -> tuple[Delta, Tensors]:
    with starting_lab(progress):
        from souq.lab import sketching

    try:
        return sketching.of_base(source, lock_digest(lock), general.general_texts(), progress)
    except (UsageError, NotFound) as error:
        hint = f"{error.hint}; or begin without the suite, which asks the model: --no-suite"
        raise type(error)(str(error), hint=hint) from error


def _folder(folder: Path) -> dict[str, bytes]:
    called = name_of(folder)
    return {f"{called}/{name}": data for name, data in read_folder(folder).items()}


@click.command()
@click.argument("url")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--no-tensors", is_flag=True, help="History only: enough to read and to vote; `souq fetch` brings the rest."
)
def clone(url: str, folder: Path | None, no_tensors: bool) -> None:
    """Copy a model repository, history and tensors."""
    folder = folder or Path(Path(url).name.removesuffix(".git"))
    with bars() as progress:
        repo = copy(url, folder, progress, tensors=not no_tensors)
    out.print(f"{folder}: {len(Snapshot(repo, repo.tip()).base)} tensors")
    done(f"next: cd {folder} && souq status")


@click.command()
@click.argument("remote", required=False)
@click.option("--set-remote", is_flag=True, help="Share with REMOTE from now on, though another is set.")
def push(remote: str | None, set_remote: bool) -> None:
    """Send history and missing tensors to the shared remote; REMOTE, a folder or a URL, names it the first time.

    It may be the name of one of git's remotes, such as origin.
    """
    repo = here()
    where = _meant(repo, remote, set_remote)
    if wrong := own_commits(repo):
        raise Refused(wrong[0], hint=f"nothing was sent; {wrong[1]}")
    commits = {"main": repo.commit(MAIN)} | {
        str(pull.number): pull.head for pull in pulls.listed(repo) if _readable(repo, pull.head)
    }
    try:
        with bars() as progress:
            send(repo, needed(repo, commits), progress, to=where)
    except Raced as error:
        if where is not None or isinstance(error, Held):
            raise
        repo.fetch()
        if repo.contains(repo.commit(MAIN), repo.tip()):
            raise
        raise Raced("the remote has what is not here yet; nothing was sent", hint="`souq pull`, then push") from error
    out.print(f"pushed to {repo.remote if remote is None or _named(repo, remote) else remote}")


def _meant(repo: Repo, remote: str | None, set_remote: bool) -> str | None:
    """Where to push to, by a URL, a folder, or a name that git has for one; None where it is the one that is set.

    Raises:
        UsageError: another than the one that is set, and nobody said so; or a name that git has for none.
    """
    if remote is None:
        return None
    url = _named(repo, remote)
    where = absolute(url or remote)
    if repo.remote is not None and _same_place(where, absolute(repo.remote)):
        return None
    if repo.remote is not None and not set_remote:
        hint = f"`souq push` sends there; to share with {remote} from now on: `souq push {remote} --set-remote`"
        raise UsageError(f"this clone is shared with {repo.remote}", hint=hint)
    if not url and _NAME.fullmatch(remote) and not Path(remote).exists():
        hint = f"name a folder or a URL: `souq push ../{remote}.git`"
        raise NotFound(f"git knows no remote called {remote}", hint=hint)
    if not is_url(where) and not Path(where).exists():
        done(f"{remote} is not there: it becomes a new bare repository")
    return where


_NAME = re.compile(r"[A-Za-z0-9_\-]+")


def _named(repo: Repo, remote: str) -> str:
    """The URL of one of git's remotes by its name; "" where it is none."""
    return repo.config(f"remote.{remote}.url") if _NAME.fullmatch(remote) else ""


def _same_place(a: str, b: str) -> bool:
    """Whether two remotes are one, however the way to it is written."""
    return a == b or (not is_url(a) and not is_url(b) and Path(a).resolve() == Path(b).resolve())


def _readable(repo: Repo, head: str) -> bool:
    try:
        return all(ref.digest in repo.store for ref in Snapshot(repo, head).tensors())
    except SouqError:
        return False


@click.command()
@json_option
def fetch(as_json: bool) -> None:
    """Bring history and missing tensors from the shared remote."""
    repo = here()
    repo.fetch()
    with bars() as progress:
        bring_main(repo, progress)
    if stays := repo.forward(repo.tip()):
        repo.notice(stays)
    tip = repo.tip()
    answer({"main": tip, "notices": repo.notices}, as_json, lambda: out.print(f"main is {tip[:12]}"))


pull = fetch  # git's other name: main here comes along by itself
