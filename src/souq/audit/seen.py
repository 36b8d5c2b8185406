"""What the files of a place say and show of its openness, each read once: card, licence, weights, rows, papers.

It judges nothing: evidence.py makes the cells of an audit from it.

    Seen(open_place(Path("SmolLM2-135M-Instruct"))).declared     # "Apache-2.0"
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from souq.audit import mof
from souq.audit.index import Value
from souq.audit.place import Evidence, Place
from souq.build.reproducible import Share, share
from souq.errors import SouqError
from souq.licences.table import is_text_of, licence_of, spelled
from souq.model.card import front_matter, licence_in
from souq.records import read_json
from souq.weights.safetensors import open_tensors

OPEN_CODE = mof.FIT["code"]  # a licence that counts as open, of the table's own names
OPEN_DATA = mof.FIT["data"]
MAX_LICENCES = 32  # files with a licence's text that are read; more of them than people write say nothing
SECTIONS = {"data": "data", "evaluation": "eval|score|benchmark", "limits": "limit|bias|risk", "use": "use|usage"}


@dataclass(frozen=True)
class Seen:
    """A place, read: every fact is looked up when it is first asked for."""

    place: Place

    # -- the model card

    @cached_property
    def card_path(self) -> str:
        """The last release's card in a repository, else the README."""
        main = self.place.main
        return f"releases/{main.releases[-1]}/README.md" if main is not None and main.releases else "README.md"

    @cached_property
    def card(self) -> str:
        return self.place.text(self.card_path)

    @cached_property
    def head(self) -> Mapping[str, Any]:
        """The card's YAML; nothing where it cannot be read."""
        with suppress(SouqError):
            return front_matter(self.card)
        return {}

    @cached_property
    def sections(self) -> set[str]:
        """Which of a model card's subjects have a heading (Mitchell et al. 2019, arXiv 1810.03993)."""
        heads = re.findall(r"^#{1,4} (.{1,200})$", self.card, re.MULTILINE)
        return {
            name for name, words in SECTIONS.items() if any(re.search(words, head, re.IGNORECASE) for head in heads)
        }

    # -- licences

    @cached_property
    def declared(self) -> str:
        """The licence that is named, by its SPDX name where it has one."""
        main = self.place.main
        return spelled(main.config.licence if main else licence_in(self.head))[:80]

    @cached_property
    def licence_texts(self) -> dict[str, str]:
        """Files with a licence's text, and which one it is; "" where it is none that is known here."""
        return {path: licence_of(self.place.text(path)) for path in self._licence_files[:MAX_LICENCES]}

    @cached_property
    def _licence_files(self) -> list[str]:
        return self.place.matching(r"(licen[cs]e|copying)[^/]{0,20}")

    @cached_property
    def contradiction(self) -> str:
        """What speaks against the declared licence: the text of another one, or a contribution under closed terms."""
        if len(self._licence_files) > MAX_LICENCES:
            return f"there are {len(self._licence_files):,} licence files: which of them holds?"
        for path, name in self.licence_texts.items():
            if self.declared and not is_text_of(name, self.declared):
                return f"{self.declared} is declared, but {path} is {name}"
        offers = self.place.main.offers if self.place.main else {}
        licences = {slug: offer.contribution.licence for slug, offer in offers.items()}
        return next((f"{slug} is under {name}" for slug, name in licences.items() if name not in OPEN_DATA), "")

    @cached_property
    def fits_data(self) -> bool:
        """Whether the declared licence is an open one for weights and rows, and nothing here contradicts it."""
        return self.declared in OPEN_DATA and not self.contradiction

    @cached_property
    def licence_shown(self) -> Value:
        """How far the declared licence is more than named: its text shows all of it, authors' sign-offs a part."""
        if self.contradiction or self.declared not in OPEN_CODE:
            return "unknown"
        if any(name and is_text_of(name, self.declared) for name in self.licence_texts.values()):
            return "open"
        return "partial" if self.recipes else "unknown"

    @cached_property
    def eval_licence(self) -> str:
        """The licence of the evals, where there are any: theirs, not the model's; the first that does not fit."""
        main = self.place.main
        names = sorted({suite.spec.licence for suite in main.evals.values()}) if main else []
        return next((name for name in names if name not in OPEN_DATA), names[0] if names else "")

    def licence_of(self, component: str) -> str:
        """Evals have licences of their own; whatever else has none of its own has the distribution's."""
        return self.eval_licence if component == "Evaluation data" and self.eval_licence else self.declared

    # -- weights, rows and how they were made

    @cached_property
    def weights(self) -> list[str]:
        return self.place.matching(r"(model|pytorch_model)[^/]*\.(safetensors|gguf|bin)|[^/]+\.gguf")

    @cached_property
    def broken(self) -> str:
        """Why the weights are no model; nothing where their headers hold and every byte is accounted for."""
        for path in self.weights if self.place.folder else []:
            try:
                if path.endswith(".safetensors") and self.place.folder:
                    open_tensors(self.place.folder / path)
            except (SouqError, OSError, ValueError) as error:
                return f"{path}: {error}"
        return next(iter(self.place.wrong), "")

    @cached_property
    def config_path(self) -> str:
        return next((path for path in ("config.json", "model/config.json") if path in self.place.paths), "")

    @cached_property
    def config(self) -> Mapping[str, Any]:
        with suppress(SouqError, json.JSONDecodeError):
            config = read_json(self.place.text(self.config_path).encode()) if self.config_path else {}
            return config if isinstance(config, dict) else {}
        return {}

    @cached_property
    def share(self) -> Share | None:
        """How much of a repository's contributions can be trained again; None of what is no repository."""
        return share(self.place.main) if self.place.main else None

    @cached_property
    def rows(self) -> list[str]:
        return self.place.matching(r"(contributions/[^/]+/)?data/.+\.(jsonl|parquet|csv)")

    @cached_property
    def recipes(self) -> list[str]:
        """What says how each change of weights was trained."""
        landed = self.place.main.landed if self.place.main else {}
        return [f"contributions/{slug}/contribution.toml" for slug, offer in landed.items() if offer.moves]

    # -- papers

    @cached_property
    def papers(self) -> dict[str, list[str]]:
        """Files that are papers by their names; a link in a card is a claim and no file."""
        return {
            "paper": self.place.matching(r"(docs/)?paper[^/]*\.(pdf|md|tex)"),
            "preprint": self.place.matching(r"(docs/)?(preprint|technical[_-]report)[^/]*\.(pdf|md|tex)"),
        }

    @cached_property
    def datasheets(self) -> list[str]:
        return self.place.matching(r"(docs/)?(datasheet|data[_-]card)[^/]*\.md")

    @property
    def bill(self) -> tuple[Evidence, ...]:
        """A release's bill of materials, which names base, contributions and rows by digest."""
        return self.place.cite("bom.cdx.json", note="names it by digest; declared, the bytes are not here")
