"""Bad histories that are too large to be read: more paths or bytes than a landing may have, in a few kilobytes."""

from __future__ import annotations

from souq_conformance.cases import bad
from souq_conformance.git import FOLDER, File
from souq_conformance.town import Offered, Town, spell


def unfolding(town: Town, leaf: File, deep: int = 10) -> str:
    """A tree of ten names, each a tree of ten names …: a kilobyte that unfolds to ten billion paths."""
    tree = town.git.entries([(str(i), leaf) for i in range(10)])
    for _ in range(deep - 1):
        tree = town.git.entries([(str(i), File(tree, FOLDER)) for i in range(10)])
    return tree


def with_folder(town: Town, name: str, tree: str) -> str:
    """Main's tree with one folder more at its top."""
    return _with(town, town.files, name, tree)


def _with(town: Town, files: dict[str, File], name: str, tree: str) -> str:
    folders = sorted({path.partition("/")[0] for path in files if "/" in path})
    below = {folder: _below(files, folder) for folder in folders}
    entries = {path: file for path, file in files.items() if "/" not in path}
    entries |= {folder: File(town.git.tree(inside), FOLDER) for folder, inside in below.items()}
    entries[name] = File(tree, FOLDER)
    return town.git.entries(sorted(entries.items(), key=lambda entry: entry[0] + "/" * (entry[1].mode == FOLDER)))


def _below(files: dict[str, File], folder: str) -> dict[str, File]:
    return {path.removeprefix(f"{folder}/"): file for path, file in files.items() if path.startswith(f"{folder}/")}


def landed_with(town: Town, offer: Offered, name: str, tree: str) -> None:
    """A landing, as it should be, with one folder more in its own."""
    offer.record("merge", "bruno", {"pr": 1, "base": town.main, "at": spell(town.tick())})
    own = {path: town.git.file(data) for path, data in offer.files.items()}
    own |= {f"records/{record}": town.git.file(data) for record, data in offer.records.items()}
    home = _with(town, own, name, tree)
    contributions = town.git.entries([(offer.slug, File(home, FOLDER))])
    town.commit({}, "land", tree=with_folder(town, "contributions", contributions))


@bad("too-large")
def ten_billion_files(town: Town) -> None:
    """A landing brings a tree that unfolds to ten billion files."""
    offer = town.data().agreed("amira", "bruno")
    landed_with(town, offer, "zzz", unfolding(town, town.git.file(b"x")))


@bad("too-large")
def ten_billion_folders(town: Town) -> None:
    """The same, and not one file is in them."""
    offer = town.data().agreed("amira", "bruno")
    landed_with(town, offer, "zzz", unfolding(town, File(town.git.entries([]), FOLDER)))


@bad("too-large")
def ten_billion_files_taken_away(town: Town) -> None:
    """A commit by hand brings them, and the landing after it takes them away."""
    town.begin()
    town.commit({}, "grow", tree=with_folder(town, "zzz", unfolding(town, town.git.file(b"x"))))
    town.land(town.data().agreed("amira", "bruno"))


@bad("too-large")
def a_beginning_of_ten_billion_files(town: Town) -> None:
    """The root itself holds them."""
    town.begin()
    root = with_folder(town, "docs", unfolding(town, town.git.file(b"x")))
    town.commits.clear()
    town.commit({}, "begin", parents=(), tree=root)
    town.land(town.data().agreed("amira", "bruno"))


@bad("too-large")
def folders_without_end(town: Town) -> None:
    """A file three thousand folders down."""
    offer = town.data().agreed("amira", "bruno")
    tree = town.git.entries([("x", town.git.file(b"x"))])
    for _ in range(3_000):
        tree = town.git.entries([("x", File(tree, FOLDER))])
    landed_with(town, offer, "zzz", tree)


@bad("too-large")
def half_a_gigabyte_of_records_in_a_kilobyte(town: Town) -> None:
    """900 names among the records for one file of 600 kB: each counts."""
    offer = town.data().agreed("amira", "bruno")
    file = town.git.file(bytes(600_000))
    town.land(offer, also={f"{offer.home}records/x{i:04d}.json": file for i in range(900)})
