"""The model card: what it is, who brought what, how it scores, how to rebuild it. Hugging Face reads its first lines."""

from __future__ import annotations

from collections.abc import Mapping

from souq.records import Digest, Recipe
from souq.snapshot import Snapshot
from souq.source import share, told


def card(
    main: Snapshot, model: Digest, recipe: Recipe, *, version: str = "", scores: Mapping[str, float] | None = None
) -> str:
    """The README.md of a release or of an exported folder."""
    config = main.config
    offers = [
        f"| {o.contribution.title} | {o.contribution.author.name} | {o.contribution.kind} | {o.contribution.licence} |"
        for o in main.offers.values()
    ]
    lines = [
        "---", f"license: {config.licence.lower()}", "library_name: transformers", "---", "",
        f"# {config.name} {version}".rstrip(), "",
        f"Built from {config.base} ({config.origin or 'origin not given'}) and {len(recipe.contributions)} "
        f"contributions of weights, merged with `{recipe.method}`. Licence: {config.licence}.", "",
        f"`souq verify` rebuilds it; model digest `{model}`.", "",
    ]  # fmt: skip
    if said := told(share(main)):
        lines += [f"Source: {said}.", ""]
    if offers:
        lines += ["| contribution | by | kind | licence |", "|---|---|---|---|", *offers, ""]
    if scores:
        lines += ["| eval | score |", "|---|---|", *(f"| {name} | {scores[name]:.3f} |" for name in sorted(scores)), ""]
    return "\n".join(lines)
