"""What files a revision of a model has: those that souq's own exports write.

Main is what `souq export` writes; the commit by which a release landed, what `souq release export` writes; and a pull
request, what main would be with it. What a check of main refuses is not built, whoever asks for it.

    write(line, revision, folder)
"""

from __future__ import annotations

import os
from pathlib import Path

from souq.checks import run
from souq.files import write_files
from souq.hub.huggingface.revisions import Line, Preview, Revision
from souq.hub.problems import Problem
from souq.licences import lineage
from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.releases import export, main_folder
from souq.repo.local import hold
from souq.repo.snapshot import Snapshot
from souq.repo.travel import bring_main
from souq.signing import Person


def write(line: Line, revision: Revision, folder: Path, person: Person | None = None) -> None:
    """Write the files of a revision into a folder that is there and empty; `person` signs the papers of releases.

    Raises:
        Problem: a pull request whose model is not built, and why.
    """
    handle = hold(line.repo.git_dir)  # a gc would take the built model away before it is copied
    try:
        _write(line, revision, folder, person)
    finally:
        os.close(handle)


def _write(line: Line, revision: Revision, folder: Path, person: Person | None) -> None:
    main = Snapshot(line.repo, revision.main)
    if revision.preview is not None:
        _write_preview(line, main, revision.preview, folder)
    elif version := line.released_at(revision.id):
        export.write(main, version, folder, person)
    else:
        bring_main(line.repo, at=revision.main)
        main_folder.export(main, folder, papers=lineage.papers(main), shown=lineage.card_lines(main))


def _write_preview(line: Line, main: Snapshot, preview: Preview, folder: Path) -> None:
    pull = pulls.get(line.repo, preview.number)
    if (state := pull.state(line.main)) not in ("open", "merged"):
        raise Problem(404, "RevisionNotFound", f"pull request {pull.number} is {state}: it is no longer built")
    if pull.head != preview.head:
        raise Problem(404, "RevisionNotFound", f"pull request {pull.number} offers something else by now")
    reviews.bring(line.repo, main, pull.offer)
    for verdict in run(reviews.case_of(pull, main), costly=False):
        if not verdict:
            because = f"{verdict.check} refuses it: {verdict.because}"
            raise Problem(403, "", f"pull request {pull.number} is not built: {because}")
    built = land.built_with(main, pull.offer)
    if built is None:
        main_folder.export(main, folder, papers=lineage.papers(main), shown=lineage.card_lines(main))
        return
    main_folder.write_folder(built, main, folder, shown=lineage.card_lines(main))
    write_files(lineage.papers(main), folder)
