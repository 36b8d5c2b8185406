"""What a model is made of, read from a repository or a folder, and the papers that its licences ask for.

inputs = of_main(Snapshot(repo, repo.tip()))
notice("Llama-3-souq", judge(inputs, "llama3"))    # the text of NOTICE
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from souq.credits import plain
from souq.errors import Hostile, NotFound, Refused, UsageError
from souq.licences.compat import Found, Input, Relation, judge
from souq.licences.questions import duties_in_words
from souq.licences.table import begins, find, table
from souq.records import read_json
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot

NOTICE = "NOTICE"
MAX_CARD, MAX_PARENTS = 1 << 20, 50
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


def of_main(main: Snapshot) -> tuple[Input, ...]:
    """The base, every contribution of weights or data, and what rows say of themselves or of who wrote them."""
    config = main.config
    base = Input("base", config.base, config.base_licence or config.licence)
    return tuple(dict.fromkeys((base, *(one for offer in main.offers.values() for one in _of_offer(offer)))))


def _of_offer(offer: Offer) -> Iterator[Input]:
    said = offer.contribution
    if said.kind in ("weights", "data"):
        yield Input("merge" if said.kind == "weights" else "data", offer.slug, said.licence)
    if teacher := said.recipe.get("teacher_licence"):
        yield Input("teacher", f"{offer.slug}: its teacher", str(teacher)[:200])
    for content in offer.data.values():
        for line in content.splitlines():
            row = read_json(line) if line.strip() else None
            if isinstance(row, dict) and (licence := row.get("licence") or row.get("license")):
                relation: Relation = "teacher" if row.get("teacher") else "data"
                yield Input(relation, f"{offer.slug}: rows", str(licence)[:200])


# -- a folder ----------------------------------------------------------------------------------------------------------


def of_folder(folder: Path) -> tuple[tuple[Input, ...], str]:
    """What a model's folder says of itself and of the models beside it that it names; and its own licence.

    Raises:
        NotFound: no card, or a model beside it that is not there.
        Hostile: models that are made of each other, or a card too large or leading elsewhere.
        UsageError: its card and its licence file say different things.
    """
    return _read(folder.resolve(), folder.resolve().parent, ())


def _read(folder: Path, home: Path, above: tuple[Path, ...]) -> tuple[tuple[Input, ...], str]:
    if folder in above:
        circle = " from ".join(path.name for path in (*above[above.index(folder) :], folder))
        raise Hostile(f"a circle: {circle}", hint="correct base_model in one of their cards")
    if len(above) >= MAX_PARENTS:
        raise Hostile(f"more than {MAX_PARENTS} models, each made of the next")
    told = head(folder)
    licence, found = _licence(folder, told), list[Input]()
    bases = told.get("base_model") or []
    for base in bases if isinstance(bases, list) else [bases]:
        if not str(base).startswith(("./", "../")):
            found.append(Input("base", str(base)[:200], ""))  # a hub's name: its terms are not here
            continue
        where = (folder / str(base)).resolve()
        if not where.is_relative_to(home):
            raise Hostile(f"{folder.name}: base_model leads out of {home}")
        inner, its = _read(where, home, (*above, folder))
        found += [*inner, Input("base", where.name, its)]
    return tuple(dict.fromkeys((*found, Input("base", folder.name, licence)))), licence


def head(folder: Path) -> dict[str, Any]:
    """What a model card says between its first --- lines, read safely."""
    import yaml

    card = folder / "README.md"
    if not card.is_file():
        raise NotFound(f"no model card {card}", hint="name a licence, a souq repository, or a folder with a README.md")
    if card.stat().st_size > MAX_CARD:
        raise Hostile(f"{card} is larger than {MAX_CARD:,} bytes")
    text = card.read_text("utf-8", errors="replace")
    match = re.match(r"---\r?\n(.{0,65536}?)\r?\n---\s", text, re.DOTALL)
    if match and re.search(r"(^|[\s\[{,:-])[&*][\w-]", match.group(1)):
        raise Hostile(f"{card}: its head has YAML anchors, which can grow without end")
    try:
        told = yaml.safe_load(match.group(1)) if match else {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{card}: its head is not YAML", hint="correct it between the --- lines") from error
    return told if isinstance(told, dict) else {}


def card_licence(folder: Path) -> str:
    """As the card's head says it; "" where there is no card, or it does not."""
    return _said(head(folder)) if (folder / "README.md").is_file() else ""


def _said(told: dict[str, Any]) -> str:
    """What the hub calls other has a name of its own."""
    said = str(told.get("license") or "")[:200]
    return str(told.get("license_name") or "")[:200] if said.lower() == "other" else said


def _licence(folder: Path, told: dict[str, Any]) -> str:
    said = _said(told)
    written = _written(folder)
    if written and said and find(said) is not find(written):
        raise UsageError(
            f"{folder.name}: the card says {said}, the licence file is {written}",
            hint="a lawyer or its author must say which holds: correct one of them",
        )
    return said or written


def _written(folder: Path) -> str:
    """The licence of the table whose title the licence file opens with; "" where it is none of them."""
    for path in (folder / name for name in FILES if (folder / name).is_file()):
        with path.open("rb") as file:
            opening = _words(file.read(2000).decode("utf-8", errors="replace"))
        found = [one for one in table() if _words(one.title) in opening]
        if found:
            return max(found, key=lambda one: len(one.title)).id
    return ""


def _words(text: str) -> str:
    words = re.sub(r"\b(version|license|licence|agreement|the|meta)\b", " ", re.sub(r"[^a-z0-9.]+", " ", text.lower()))
    return " ".join(words.split())


# -- papers ------------------------------------------------------------------------------------------------------------


def found_of(main: Snapshot) -> Found:
    return judge(of_main(main), main.config.licence)


def notice(name: str, found: Found) -> str:
    """NOTICE, of all that is in it: the sentences licences ask for in their own words, then every duty by its clause."""
    told = [duty.text for _, duty in found.duties if duty.do in ("notice", "badge") and duty.text]
    policies = [f"Use of this model is subject to {duty.text} ({one.title}, {duty.clause})." for one, duty in found.duties if duty.do == "policy" and duty.text]  # fmt: skip
    files = "The base model's weights were changed by the contributions that model.lock and the card name."
    parts = [
        [plain(name)], [text.replace("{name}", plain(name)) for text in dict.fromkeys(told)],
        list(dict.fromkeys(policies)), [files] if any(duty.do == "changes" for _, duty in found.duties) else [],
        ["Made of:", *(f"  {plain(one.name)} ({one.relation}): {plain(one.licence)}" for one, _ in found.cells)],
        ["Duties, by clause:", *(f"  {line.replace('{name}', plain(name))}" for line in duties_in_words(found))],
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def papers(main: Snapshot) -> dict[str, bytes]:
    """NOTICE, where anything is owed."""
    found = found_of(main)
    return {NOTICE: notice(main.config.name, found).encode()} if found.duties else {}


def card_lines(main: Snapshot) -> tuple[str, ...]:
    """What a card must show prominently."""
    name = plain(main.config.name)
    badges = (duty.text.replace("{name}", name) for _, duty in found_of(main).duties if duty.do == "badge")
    return tuple(dict.fromkeys(badges))


def refuse_name(main: Snapshot) -> None:
    """Of two beginnings the longer is named: `Llama 3` satisfies `Llama` too.

    Raises:
        Refused: a licence of what it is made of asks for another beginning of its name.
    """
    name = main.config.name
    wrong = [(one, duty) for one, duty in found_of(main).duties if duty.do == "name" and not begins(name, duty.text)]
    if wrong:
        one, duty = max(wrong, key=lambda owed: len(owed[1].text))
        raise Refused(
            f"a model called {name!r} cannot be released: {one.title} {duty.clause}: its name begins with “{duty.text}”",
            hint=f'rename it in souq.toml: name = "{duty.text.replace(" ", "-")}-{name}"',
        )
