"""The pages of the site: `python docs/pages.py FOLDER` puts what mkdocs builds where links find it.

Pages lie as they lie in the repository, so that a link means the same there and here. What they link to and is no page,
such as a script, comes along as it is; a folder is linked by its README, or not at all.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "decisions")
_LINK = re.compile(r"(?<=\]\()[^)\s#:]+(?=[)#])")


def pages() -> Iterator[Path]:
    """Every page, by its path in the repository."""
    yield from (path.relative_to(ROOT) for path in ROOT.glob("*.md"))
    yield from (path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))


def lay_out(folder: Path) -> None:
    """The pages and what they link to."""
    shutil.rmtree(folder, ignore_errors=True)
    for page in pages():
        text = (ROOT / page).read_text()
        for link in _LINK.findall(text):
            target = (ROOT / page.parent / link).resolve()
            if target.is_dir():
                readme = f"[\\1]({link.rstrip('/')}/README.md)" if (target / "README.md").is_file() else r"\1"
                text = re.sub(rf"\[([^\]]*)\]\({re.escape(link)}\)", readme, text)
            elif target.is_file() and target.suffix != ".md":
                _copy(target, folder / target.relative_to(ROOT))
        place = folder / page
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
