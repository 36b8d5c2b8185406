"""`souq config`: what is set, by whom and what it means; one's own settings can be set, main's are everybody's."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from souq.cli.console import answer, done, json_option, out
from souq.cli.here import here
from souq.cli.table import table
from souq.errors import NotFound, Refused, SouqError, nearest
from souq.records import spelled_out
from souq.repo.config import Config, Limits
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.place import Shared, check_url

MAIN = {
    "name": "what the model is called",
    "licence": "the model's licence, an SPDX expression",
    "base": "the checkpoint that main began with",
    "origin": "where the base came from",
    "base_licence": "the base's licence, where it is another one",
    "base_source": "where the base's own data and training are to be had",
    "merge.method": "how contributions are merged; its other settings stand beside it",
    "store.url": "where tensors travel, where that is not beside the remote",
    "checks.max_norm": "the most a change may be, over the norm of the matrix it changes",
    "checks.max_added": "the most one landing may move the built model, likewise",
    "checks.max_away": "the most the built model may be from its base, all changes together",
    "checks.norm_mads": "from how many MADs above main's median people are asked to look",
    "checks.enough": "accepted contributions before main's own say what is usual",
    "checks.max_rows": "rows of training data in one contribution",
    "checks.max_rows_per_author": "rows of one author on main, with this one",
    "checks.max_rows_per_org": "rows of one organisation, likewise",
    "checks.max_repeated": "share of rows that repeat others: more need eyes",
    "checks.max_burst": "rows that share a rare string and an answer: as many need eyes",
    "checks.drift": "margins a protected eval may lose from release to release",
    "checks.keep_tail": "share of rare words a published corpus keeps: less needs eyes",
    "checks.exam_tokens": "tokens to ask one contribution's evals once: more need eyes",
    "checks.max_exam_tokens": "and all evals of main, with it",
    "checks.tries": "on hidden evals, of one author and of one organisation",
}
"""Keys of souq.toml: what each means."""


@dataclass(frozen=True)
class Own:
    """A setting of this person: what it means, where git keeps it, and the variable that goes before it."""

    meaning: str
    git: str = ""
    variable: str = ""
    secret: bool = False


OWN = {
    "user.name": Own("your name, as what you sign says it", git="user.name"),
    "user.email": Own("your e-mail address, likewise", git="user.email"),
    "user.signingkey": Own("your ssh key", git="user.signingkey", variable="SOUQ_KEY"),
    "souq.org": Own("your organisation, as your offers say it", git="souq.org"),
    "souq.store": Own("where your clone finds tensors, before what main says", git="souq.store"),
    "seconds": Own("what a verb that only reads may take", variable="SOUQ_SECONDS"),
    "megabytes": Own("and how much memory", variable="SOUQ_MEGABYTES"),
    "quiet": Own("no progress is shown", variable="SOUQ_QUIET"),
    "debug": Own("a fault of souq's own is shown whole", variable="SOUQ_DEBUG"),
    "no_color": Own("no colours", variable="NO_COLOR"),
    "engine_key": Own("the password of a server that answers", variable="SOUQ_ENGINE_KEY", secret=True),
    "clock": Own("your clock is right, whatever others say", variable="SOUQ_MY_CLOCK_IS_RIGHT"),
}
"""A person's own settings."""


@click.command()
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help="Forget your own value of KEY.")
@click.option("--global", "everywhere", is_flag=True, help="In all your clones, and not in this one alone.")
@json_option
def config(key: str | None, value: str | None, unset: bool, everywhere: bool, as_json: bool) -> None:
    """All settings with what they mean; the value of KEY; or set KEY, one of your own, to VALUE."""
    repo = here()
    rows = _rows(repo)
    if key is None:
        answer(list(rows.values()), as_json, lambda: _show(rows))
        return
    if key not in rows:
        raise NotFound(f"no setting {key[:80]!r}{nearest(key, rows)}", hint="`souq config` lists them all")
    if value is None and not unset:
        shown = "" if rows[key]["value"] is None else str(rows[key]["value"])
        answer(rows[key], as_json, lambda: out.print(spelled_out(shown)))
        return
    _set(repo, key, value, everywhere)
    answer(_rows(repo)[key], as_json, lambda: done(f"{key} is {'unset' if value is None else value}"))


def _rows(repo: Repo) -> dict[str, dict[str, Any]]:
    main = Snapshot(repo, repo.tip()).config
    rows = {key: {"key": key, "value": value, "default": _default(key), "of": "main"} for key, value in _flat(main)}
    rows = {key: row | {"meaning": MAIN.get(key, "a setting of the merge method")} for key, row in rows.items()}
    names = dict[str, str]()
    with suppress(SouqError):  # git was never told
        names = dict(zip(("user.name", "user.email"), repo.identity(), strict=True))
    for key, own in OWN.items():
        value = os.environ.get(own.variable) or names.get(key) or (repo.config(own.git) if own.git else "") or None
        shown = "(set)" if value and own.secret else value
        rows[key] = {"key": key, "value": shown, "default": None, "of": own.variable or "you", "meaning": own.meaning}
    return rows


def _flat(main: Config) -> list[tuple[str, Any]]:
    """souq.toml's keys with dots, defaults too."""
    plain = {name: getattr(main, name) for name in ("name", "licence", "base", "origin", "base_licence", "base_source")}
    checks = {f"checks.{field.name}": getattr(main.checks, field.name) for field in msgspec.structs.fields(Limits)}
    merge = {"merge.method": "covariance"} | {f"merge.{name}": value for name, value in main.merge.items()}
    return [*plain.items(), *merge.items(), ("store.url", main.store.url), *checks.items()]


def _default(key: str) -> Any:
    table, _, name = key.rpartition(".")
    kind: Any = {"checks": Limits(), "store": Shared()}.get(table)
    return getattr(kind, name, None) if kind is not None else {"merge.method": "covariance"}.get(key)


def _show(rows: dict[str, dict[str, Any]]) -> None:
    lines = [[row["key"], "" if row["value"] is None else row["value"], row["meaning"]] for row in rows.values()]
    split = len(rows) - len(OWN)
    out.print("souq.toml: everybody's, by pull request")
    table(["key", "value", "meaning"], lines[:split])
    out.print("\nyours")
    table(["key", "value", "meaning"], lines[split:])


def _set(repo: Repo, key: str, value: str | None, everywhere: bool) -> None:
    if key not in OWN:
        way = "`souq pr search NUMBER --take` and a merge.toml change [merge]" if key.startswith("merge.") else ""
        hint = way or "it was written by `souq init`; a commit of one's own on main would be one that nobody verifies"
        raise Refused(f"{key} is main's, which no one person sets", hint=hint)
    if not (own := OWN[key]).git:
        hint = f"export {own.variable}={value or '…'}" if value is not None else f"unset {own.variable}"
        raise Refused(f"{key} is a variable of your shell", hint=hint)
    if key == "souq.store" and value is not None:
        check_url(value, local=True)
    repo.configure(own.git, value, everywhere=everywhere)
