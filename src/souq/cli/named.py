"""What somebody means by `4`, `#4`, or a part of a name that no other has: a pull request, or what landed.

@click.argument("number", type=PULL)
landed_slug(main, "iso")     # "0003-iso-dates"
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from souq.errors import NotFound, SouqError, UsageError, nearest
from souq.pulls import pull as pulls
from souq.repo.contribution import number_of
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot


class PullNumber(click.ParamType[int]):
    """A pull request, as `4`, `#4`, or any part of its name that no other has; a number from then on."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises NotFound where there is none of that name, UsageError where there are several."""
        text = str(value).removeprefix("#")
        if text.isascii() and text.isdigit():
            return int(text)
        repo, numbers = Repo.find(Path.cwd()), dict[str, str]()
        for pull in pulls.listed(repo):
            with suppress(SouqError):  # one hostile pull request must not stop the others
                numbers[pull.offer.slug] = str(pull.number)
        return int(one_of(numbers, text, "pull request"))


PULL = PullNumber()


def one_of(names: Mapping[str, str], word: str, what: str) -> str:
    """What the one name stands for that a word is, or is a part of.

    Raises:
        NotFound: no name has it.
        UsageError: several do.
    """
    matching = [name for name in names if name == word] or [name for name in names if word and word in name]
    if not matching:
        raise NotFound(f"no {what} has {word!r} in its name{nearest(word, names)}", hint="see `souq pr list`")
    if len(matching) > 1:
        shown = ", ".join(f"#{number_of(name)[0]} {name}" for name in sorted(matching)[:8])
        raise UsageError(f"{len(matching)} have {word!r} in their names: {shown}", hint="name one by its number")
    return names[matching[0]]


def landed_slug(main: Snapshot, word: str) -> str:
    """The slug of what landed, by that, its number as `4` or `#4` or `0004`, or any part of it that no other has.

    Raises:
        NotFound: there is none, or it was taken back.
        UsageError: there are several.
    """
    if revert := reverted_by(main, word):
        about, number = main.landed[revert].about, number_of(revert)[0]
        raise NotFound(f"{about} was taken back by #{number}", hint=f"`souq pr restore {number}` brings it back")
    text = word.removeprefix("#")
    if text.isascii() and text.isdigit():
        numbered = [slug for slug in main.landed if number_of(slug)[0] == int(text)]
        if not numbered:
            raise NotFound(f"nothing numbered {text} has landed", hint="see `souq pr list --all`")
        return numbered[0]
    return one_of({slug: slug for slug in main.landed}, text, "contribution")


def reverted_by(main: Snapshot, word: str) -> str:
    """The revert on main that took what is called so, by its name or its number; "" where it is not taken back."""
    text = word.removeprefix("#")
    number = int(text) if text.isascii() and text.isdigit() else None
    taken = {landing.about: slug for slug, landing in main.landed.items() if landing.kind == "revert"}
    gone = [about for about in taken if about not in main.landed and (about == text or number_of(about)[0] == number)]
    return taken[gone[0]] if gone else ""
