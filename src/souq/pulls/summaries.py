"""What the heads of pull requests offer, in a few words: each read once in a clone's life, many of them by a few gits.

A head never changes. What was read of one, or why nobody can, is noted in the clone's cache; the next heads of those
that were listed with it are read along. Nothing is merged by these words: who merges reads the offer itself.

    summaries = Summaries(repo, heads)
    summaries.of(head).title
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from souq.build import reproducible
from souq.errors import Hostile, SouqError
from souq.optional import installed_version
from souq.progress import Progress, quiet
from souq.records import Author, Digest, Kind, Record
from souq.repo.contribution import RECORDS, Offer, is_slug, number_of
from souq.repo.git import MEMORY, Moved
from souq.repo.notes import Notes
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

AHEAD = 512  # heads that are read at a time
FEW, SMALL = 50, 1 << 20  # files and bytes of an offer that is read along
BATCH = 64  # offers whose files are held at once
NOTE_BYTES = 600  # what a summary takes in memory, about
NO_FOLDER = "adds no contribution folder; it must add one"


class Summary(Record, frozen=True):
    """What is offered, in a few words."""

    slug: str
    digest: Digest
    kind: Kind
    title: str
    author: Author
    licence: str
    fixes: tuple[str, ...]
    source: str  # whether who has its rows could train it again, in a word

    @classmethod
    def of(cls, offer: Offer) -> Summary:
        c = offer.contribution
        return cls(
            slug=offer.slug, digest=offer.digest, kind=c.kind, title=c.title, author=c.author, licence=c.licence,
            fixes=c.fixes, source=reproducible.word(offer),
        )  # fmt: skip


class Note(Record, frozen=True):
    """What was read of a head: what it offers, or why that cannot be read."""

    offers: Summary | None = None
    wrong: str = ""


class Summaries:
    """Of the heads of one repository that were listed together."""

    def __init__(self, repo: Repo, heads: Iterable[str]) -> None:
        self._repo, self._heads = repo, tuple(heads)
        self._tried = set[str]()

    @cached_property
    def _notes(self) -> Notes[Note]:
        # what one souq cannot read the next one may
        return Notes(self._repo.cache / f"offers-{installed_version('souq')}.jsonl", Note)

    @cached_property
    def _order(self) -> dict[str, int]:
        return {head: place for place, head in enumerate(self._heads)}

    def of(self, head: str) -> Summary:
        """What a head offers.

        Raises:
            Hostile: it is not a commit that adds one contribution folder, or that cannot be read.
        """
        if (note := self._known(head)) is None:
            self._read(self._with_next(head))
            note = self._known(head) or self._alone(head)
        if note.offers is None:
            raise Hostile(note.wrong)
        return note.offers

    def adds(self, head: str) -> bool:
        """Whether a head may add a contribution, as far as anybody has looked."""
        note = self._known(head)
        return note is None or note.wrong != NO_FOLDER

    def read_ahead(self, progress: Progress = quiet) -> None:
        """Know all of them, by a few gits however many."""
        unknown = [head for head in self._heads if self._known(head) is None]
        for start in range(0, len(unknown), AHEAD):
            progress("read pull requests", start, len(unknown))
            self._read(unknown[start : start + AHEAD])
        if len(unknown) > AHEAD:
            progress("read pull requests", len(unknown), len(unknown))

    def _known(self, head: str) -> Note | None:
        key = (self._repo.git_dir, "offers", head)
        if (known := MEMORY.get(key)) is None and (known := self._notes.get(head)) is not None:
            MEMORY.put(key, known, NOTE_BYTES)
        note: Note | None = known
        return note

    def _with_next(self, head: str) -> list[str]:
        """A head, and those after it of which nothing is known."""
        after = self._heads[self._order.get(head, len(self._heads)) + 1 :]
        return [head, *[each for each in after[:AHEAD] if each not in self._tried and self._known(each) is None]]

    def _read(self, heads: Sequence[str]) -> None:
        """Note what some heads offer; what is large or odd in any way is left to who asks for it."""
        self._tried.update(heads)
        learned = dict[str, Note]()
        adding = dict[str, tuple[Moved, ...]]()
        parents = self._repo.oids((f"{head}^^{{commit}}" for head in heads), "commit")
        whole = [head for head in heads if parents[f"{head}^^{{commit}}"]]
        for head, moved in self._repo.changed_below(whole, "contributions", FEW):
            if moved:
                adding[head] = moved
            else:
                learned[head] = Note(wrong=NO_FOLDER)
        learned |= {head: Note(offers=summary) for head, summary in _summed_up(self._repo, adding)}
        self._notes.add(learned)

    def _alone(self, head: str) -> Note:
        """One head, read by itself; why it cannot be is noted where that hangs on nothing but the head."""
        try:
            note = Note(offers=Summary.of(offered(self._repo, head)))
        except Hostile as error:
            note = Note(wrong=str(error))
        self._notes.add({head: note})
        return note


def offered(repo: Repo, head: str) -> Offer:
    """The one folder that a commit adds.

    Raises:
        Hostile: it is not a commit that adds exactly one contribution folder.
    """
    added = repo.new_folders([head], "contributions").get(head, [])
    if len(added) != 1:
        raise Hostile(f"adds {len(added)} contribution folders; it must add one" if added else NO_FOLDER)
    return Snapshot(repo, head).offer(added[0])


def _summed_up(repo: Repo, adding: dict[str, tuple[Moved, ...]]) -> Iterator[tuple[str, Summary]]:
    files = {head: adding[head] for head in _plain(repo, adding)}
    sizes = repo.sizes(each.new for moved in files.values() for each in moved)
    small = [head for head, moved in files.items() if sum(sizes.get(each.new, SMALL) for each in moved) < SMALL]
    for start in range(0, len(small), BATCH):
        heads = small[start : start + BATCH]
        oids = [each.new for head in heads for each in files[head]]
        contents = dict(zip(oids, repo.contents(oids), strict=True))
        for head in heads:
            slug = files[head][0].path.partition("/")[0]
            inside = {each.path.removeprefix(f"{slug}/"): contents[each.new] for each in files[head]}
            offer = Offer(slug, {path: data for path, data in inside.items() if not path.startswith(RECORDS)})
            with suppress(SouqError):
                yield head, Summary.of(offer)


def _plain(repo: Repo, adding: dict[str, tuple[Moved, ...]]) -> list[str]:
    """The heads that add one folder of plain files, which was not there before, and nothing else."""
    slugs = {}
    for head, moved in adding.items():
        names = {each.path.partition("/")[0] for each in moved}
        plain = all(
            each.mode == "100644" and not each.old and "/" in each.path and each.path.isascii() for each in moved
        )
        if plain and len(names) == 1 and is_slug(slug := names.pop()):
            slugs[head] = f"{head}^:contributions/{slug}"
    before = repo.oids(slugs.values(), "tree")
    return [head for head, name in slugs.items() if not before[name]]


def landed(main: Snapshot, most: int) -> list[Summary]:
    """What has landed on main, the newest first, at most so many; a folder never changes, so each is read once."""
    trees = main.repo.trees(main.commit, "contributions")
    newest, summaries = sorted(trees, key=number_of, reverse=True)[:most], list[Summary]()
    for slug in newest:
        with suppress(SouqError):  # one that nobody can read must not hide the others
            summaries.append(_of_folder(main, slug, trees[slug]))
    return summaries


def _of_folder(main: Snapshot, slug: str, oid: str) -> Summary:
    key = (main.repo.git_dir, "summary", oid)
    if (known := MEMORY.get(key)) is None:
        MEMORY.put(key, known := Summary.of(main.offer(slug)), NOTE_BYTES)
    summary: Summary = known
    return summary
