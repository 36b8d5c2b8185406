"""What a model is made of, read from a repository or a folder, and the papers that its licences ask for.

inputs = of_main(Snapshot(repo, repo.tip()))
notice("Llama-3-souq", judge(inputs, "llama3"))    # the text of NOTICE
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from souq.errors import Hostile, NotFound, Refused, UsageError
from souq.licences.compat import Assessment, Input, Relation, judge
from souq.licences.questions import duties_in_words
from souq.licences.table import begins, is_text_of, licence_of, spelled
from souq.model.card import licence_in, read_card
from souq.model.source import LICENCE_FILES
from souq.repo.contribution import Offer
from souq.repo.rows import json_rows
from souq.repo.snapshot import Snapshot
from souq.text import escape_markdown

NOTICE = "NOTICE"
MAX_PARENTS, MAX_MODELS, MAX_LICENCE = 50, 200, 64 << 10


def of_main(main: Snapshot) -> tuple[Input, ...]:
    """The base, every contribution of weights or data, and what rows say of themselves or of who wrote them."""
    config = main.config
    base = Input("base", config.base, config.base_licence or config.licence)
    return tuple(dict.fromkeys((base, *(item for offer in main.offers.values() for item in _of_offer(offer)))))


def _of_offer(offer: Offer) -> Iterator[Input]:
    contribution = offer.contribution
    if contribution.kind in ("weights", "data"):
        yield Input("merge" if contribution.kind == "weights" else "data", offer.slug, contribution.licence)
    if teacher := contribution.recipe.get("teacher_licence"):
        yield Input("teacher", f"{offer.slug}: its teacher", str(teacher)[:200])
    for row in json_rows(offer.data):
        if isinstance(row, dict) and (licence := row.get("licence") or row.get("license")):
            relation: Relation = "teacher" if row.get("teacher") else "data"
            yield Input(relation, f"{offer.slug}: rows", str(licence)[:200])


# -- a folder ----------------------------------------------------------------------------------------------------------


def of_folder(folder: Path) -> tuple[tuple[Input, ...], str]:
    """What a model's folder says of itself and of the models beside it that it names; and its own licence.

    Raises:
        NotFound: no card, or a model beside it that is not there.
        Hostile: models that are made of each other, or too many; a card too large or leading elsewhere.
        UsageError: its card and its licence file say different things.
    """
    return _read(folder.resolve(), folder.resolve().parent, (), {})


def _read(
    folder: Path, home: Path, above: tuple[Path, ...], known: dict[Path, tuple[tuple[Input, ...], str]]
) -> tuple[tuple[Input, ...], str]:
    """A folder and all it names, each read once: thirty cards that name the next one twice are 2^30 ways."""
    if folder in known:
        return known[folder]
    if folder in above:
        circle = " from ".join(path.name for path in (*above[above.index(folder) :], folder))
        raise Hostile(f"a circle: {circle}", hint="correct base_model in one of their cards")
    if len(above) >= MAX_PARENTS:
        raise Hostile(f"more than {MAX_PARENTS} models, each made of the next")
    if len(known) >= MAX_MODELS:
        raise Hostile(f"more than {MAX_MODELS} models are named by its cards, and theirs")
    if not (folder / "README.md").is_file():
        raise NotFound(
            f"no model card {folder / 'README.md'}",
            hint="name a licence, a souq repository, or a folder with a README.md",
        )
    front = read_card(folder)
    licence, inputs = declared(folder, licence_in(front)), list[Input]()
    bases = front.get("base_model") or []
    for base in bases if isinstance(bases, list) else [bases]:
        if not str(base).startswith(("./", "../")):
            inputs.append(Input("base", str(base)[:200], ""))  # a hub's name: its terms are not here
            continue
        where = (folder / str(base)).resolve()
        if not where.is_relative_to(home):
            raise Hostile(f"{folder.name}: base_model leads out of {home}")
        inner, its = _read(where, home, (*above, folder), known)
        inputs += [*inner, Input("base", where.name, its)]
    known[folder] = tuple(dict.fromkeys((*inputs, Input("base", folder.name, licence)))), licence
    return known[folder]


def declared(folder: Path, named: str) -> str:
    """The licence a folder is under, by its SPDX names: what its card names, or else its licence file; "" for none.

    Raises:
        UsageError: these are two.
    """
    written, named = "", spelled(named)
    for path in (folder / name for name in LICENCE_FILES if not written and (folder / name).is_file()):
        with path.open("rb") as file:
            written = licence_of(file.read(MAX_LICENCE).decode("utf-8", errors="replace"))
    if named and not is_text_of(written, named):
        raise UsageError(
            f"{folder.name}: the card says {named}, the licence file is {written}",
            hint="a lawyer or its author must say which holds: correct one of them",
        )
    return named or written


# -- papers ------------------------------------------------------------------------------------------------------------


def judge_main(main: Snapshot) -> Assessment:
    """Whether all that main's model is made of may be released under main's own licence, and what is owed."""
    return judge(of_main(main), main.config.licence)


def notice(name: str, assessment: Assessment) -> str:
    """The text of NOTICE: the sentences that licences ask for in their own words, then every duty by its clause."""
    duties = assessment.duties
    notices = [duty.text for _, duty in duties if duty.do in ("notice", "badge") and duty.text]
    policies = [
        f"Use of this model is subject to {duty.text} ({licence.title}, {duty.clause})."
        for licence, duty in duties
        if duty.do == "policy" and duty.text
    ]
    files = "The base model's weights were changed by the contributions that model.lock and the card name."
    made_of = [
        f"  {escape_markdown(item.name)} ({item.relation}): {escape_markdown(item.licence)}"
        for item, _ in assessment.cells
    ]
    shown = escape_markdown(name)
    parts = [
        [shown],
        [text.replace("{name}", shown) for text in dict.fromkeys(notices)],
        list(dict.fromkeys(policies)),
        [files] if any(duty.do == "changes" for _, duty in duties) else [],
        ["Made of:", *made_of],
        ["Duties, by clause:", *(f"  {line.replace('{name}', shown)}" for line in duties_in_words(assessment))],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def papers(main: Snapshot) -> dict[str, bytes]:
    """The files that licences ask an export to carry: NOTICE, where anything is owed."""
    assessment = judge_main(main)
    return {NOTICE: notice(main.config.name, assessment).encode()} if assessment.duties else {}


def card_lines(main: Snapshot) -> tuple[str, ...]:
    """The sentences that licences ask a card to show prominently."""
    name = escape_markdown(main.config.name)
    badges = (duty.text.replace("{name}", name) for _, duty in judge_main(main).duties if duty.do == "badge")
    return tuple(dict.fromkeys(badges))


def refuse_name(main: Snapshot) -> None:
    """Refuse to release a model whose name a licence does not allow; of two beginnings the longer is named.

    Raises:
        Refused: a licence of what it is made of asks for another beginning of its name.
    """
    name = main.config.name
    asked = [(licence, duty) for licence, duty in judge_main(main).duties if duty.do == "name"]
    broken = [(licence, duty) for licence, duty in asked if not begins(name, duty.text)]
    if broken:
        licence, duty = max(broken, key=lambda owed: len(owed[1].text))
        raise Refused(
            f"a model called {name!r} cannot be released: "
            f"{licence.title} {duty.clause}: its name begins with “{duty.text}”",
            hint=f'rename it in souq.toml: name = "{duty.text.replace(" ", "-")}-{name}"',
        )
