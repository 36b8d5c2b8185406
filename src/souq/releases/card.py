"""The model card: what it is, who brought what, how it scores, how to check it. Hugging Face reads its first lines."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from souq.build.reproducible import sentence, share
from souq.evals.eval import IN_NATS
from souq.licences.table import find
from souq.model.origin import Origin
from souq.records import Digest, Recipe
from souq.releases.credits import Credit, credits_table
from souq.repo.snapshot import Snapshot
from souq.text import escape_markdown

# What Hugging Face calls the licences it knows (https://huggingface.co/docs/hub/repositories-licenses); others are
# "other" there, with a name of their own.
HUB_LICENCES = (
    "agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 "
    "cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 "
    "cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 "
    "ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 ms-pl ncsa "
    "odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unlicense wtfpl zlib "
    "llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma openrail creativeml-openrail-m bigscience-openrail-m "
    "bigscience-bloom-rail-1.0 bigcode-openrail-m"
)

_NOT_WORDS = ("no", "on", "y", "n")  # YAML reads them as yes and no: Norwegian is one of them


@dataclass(frozen=True)
class ForHub:
    """What only people know, for a hub's reader: the languages that a model speaks, the data sets it was trained on."""

    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def facts(self) -> dict[str, list[str]]:
        """As a card's head has it."""
        return {
            name: list(words) for name, words in (("language", self.languages), ("datasets", self.datasets)) if words
        }


@dataclass(frozen=True)
class Edition:
    """What only a release has: its version, its scores, the scores before it, and who brought what."""

    version: str
    scores: Mapping[str, float]
    credits: Sequence[Credit] = ()
    before: str = ""  # the version before it
    earlier: Mapping[str, float] | None = None  # and what that scored
    root: str = ""  # the first commit of main
    shown: Sequence[str] = ()  # what licences ask to be shown prominently
    for_hub: ForHub = ForHub()


def card(main: Snapshot, model: Digest, recipe: Recipe, edition: Edition) -> str:
    """The README.md of an exported folder, or of a release where the edition has a version."""
    config, count = main.config, len(recipe.contributions)
    lines = [
        *_yaml(head(config.licence, config.origin, count) | edition.for_hub.facts()), "",
        f"# {escape_markdown(config.name)} {edition.version}".rstrip(), "",
        f"Built from {escape_markdown(config.base)} ({escape_markdown(config.origin) or 'origin not given'}) and "
        f"{count} contribution{'' if count == 1 else 's'} of weights, merged with `{recipe.method}`. "
        f"Licence: {config.licence}.",
        "", f"Model digest `{model}`.", "",
    ]  # fmt: skip
    if edition.shown:
        lines += [*(f"**{text}**\n" for text in edition.shown), "[NOTICE](NOTICE) says what else its licences ask.", ""]
    if trainable := sentence(share(main)):
        lines += [f"Source: {trainable}.", ""]
    if edition.credits:
        lines += ["## Who brought what", "", *credits_table(edition.credits), ""]
        lines += ["[CREDITS.md](CREDITS.md) says how this was measured, [CHANGELOG.md](CHANGELOG.md) what is new.", ""]
    elif main.offers:
        lines += _offered(main)
    lines += _scores(edition, {name for name, suite in main.evals.items() if suite.spec.kind in IN_NATS})
    return "\n".join(lines + (_check(edition) if edition.root else ["`souq verify` rebuilds it.", ""]))


def head(licence: str, origin: str, merged: int = 0) -> dict[str, str | list[str]]:
    """What a card says to Hugging Face's hub, in words that need no quotes; `merged` contributions are in the model.

    One contribution on a base is a fine-tune of it, several are a merge; with none it is the base itself.
    """
    row = find(licence)
    names = [name.lower() for name in (licence, *(row.names if row else ()))]
    known = next((name for name in names if name in HUB_LICENCES.split()), "")
    facts: dict[str, str | list[str]] = {"license": known or "other"}
    if not known:
        named = row.names[0] if row and row.names else licence  # whichever name its author gave it
        facts["license_name"] = re.sub(r"[^a-z0-9.+-]+", "-", named.lower()).strip("-") or "unknown"
    if hub := Origin.of(origin):
        facts["base_model"] = hub.repo
        facts |= {"base_model_relation": "finetune" if merged == 1 else "merge"} if merged else {}
    return facts | {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["souq"]}


def _yaml(facts: Mapping[str, str | list[str]]) -> list[str]:
    lines = ["---"]
    for name, value in facts.items():
        if isinstance(value, str):
            lines += [f"{name}: {value}"]
        else:
            lines += [f"{name}:", *(f"- {json.dumps(word) if word in _NOT_WORDS else word}" for word in value)]
    return [*lines, "---"]


def _offered(main: Snapshot) -> list[str]:
    lines = ["| contribution | by | kind | licence |", "|---|---|---|---|"]
    for c in (offer.contribution for offer in main.offers.values()):
        title, author, licence = map(escape_markdown, (c.title, c.author.name, c.licence))
        lines.append(f"| {title} | {author} | {c.kind} | {licence} |")
    return [*lines, ""]


def _scores(edition: Edition, losses: Collection[str]) -> list[str]:
    """Shares of cases that are right, or nats; beside what the release before scored."""
    if not edition.scores:
        return []
    earlier, names = edition.earlier, sorted({*edition.scores, *(edition.earlier or {})})
    titles = {name: f"{name}, in nats a token: less is better" if name in losses else name for name in names}
    if earlier is None:
        rows = [f"| {titles[name]} | {edition.scores[name]:.3f} |" for name in names]
        return ["## Scores", "", "| eval | score |", "|---|---:|", *rows, ""]
    rows = [f"| eval | {edition.before} | {edition.version} | change |", "|---|---:|---:|---:|"]
    for name in names:
        old, new = earlier.get(name), edition.scores.get(name)
        change = f"{new - old:+.3f}" if old is not None and new is not None else ""
        rows.append(f"| {titles[name]} | {_figure(old)} | {_figure(new)} | {change} |")
    return ["## Scores", "", *rows, ""]


def _figure(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"


def check_commands(version: str, root: str) -> tuple[str, str, str]:
    """What a doubter types: in a release's folder, then in a clone of the repository whose first commit is `root`."""
    return "souq release verify .", f"souq verify --root {root}", f"souq release verify {quote(version)}"


def _check(edition: Edition) -> list[str]:
    in_folder, *in_clone = check_commands(edition.version, edition.root)
    return [
        "## How to check it", "",
        "With this folder alone; it takes neither git nor torch nor a network:", "",
        "```sh", in_folder, "```", "",
        "It prints the digest of `GOVERNANCE.toml`, which says who may release: compare it with one you had from "
        "elsewhere, or give it with `--governance`. With a clone of the model's repository, whose first commit is "
        f"`{edition.root}`, everything is judged and built again:", "",
        "```sh", *in_clone, "```", "",
    ]  # fmt: skip
