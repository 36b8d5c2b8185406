"""A table as a spreadsheet saves it: the letters it is in, what parts its cells, and what its columns are called.

One reader of how a table begins, for those that rate models and for those that count downloads: commas, semicolons
(as half of Europe has them), tabs, Excel's UTF-16, its line `sep=;`, byte order marks. What the cells mean is not known
here.

    >>> sheet_of(b'model;"a;b"\\nx;1\\n', "t.csv")
    Sheet(encoding='utf-8', mark=0, delimiter=';', columns=('model', 'a;b'), above=0)
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from souq.errors import Hostile
from souq.text import encoding_of

DELIMITERS = ",;\t|"
_DECLARED = re.compile(r"\"?sep=(.)\"?[ \t]*\r?\n", re.IGNORECASE)
HINT = "save it as `CSV UTF-8`, the first line naming the columns"


@dataclass(frozen=True)
class Sheet:
    """How a table is written; `mark` is how many bytes of byte order mark there are, `above` lines above the header."""

    encoding: str
    mark: int
    delimiter: str
    columns: tuple[str, ...]
    above: int


def sheet_of(head: bytes, where: str) -> Sheet:
    """What the beginning of a table says; the delimiter is the one that makes most columns of its first line.

    Raises:
        Hostile: not text, or nothing there.
    """
    encoding, mark = encoding_of(head)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head[mark:])
    if "\0" in text[:1000]:
        raise Hostile(f"{where}: not CSV: a zero byte in its first lines", hint=HINT)
    declared = _DECLARED.match(text)
    rest = text[declared.end() :] if declared else text
    read = {delimiter: _first(rest, delimiter, where) for delimiter in ([declared[1]] if declared else DELIMITERS)}
    delimiter = max(read, key=lambda each: len(read[each]))
    if not any(name.strip() for name in read[delimiter]):
        raise Hostile(f"{where}: not CSV: its first line names no column", hint=HINT)
    return Sheet(encoding, mark, delimiter, read[delimiter], above=int(declared is not None))


def _first(text: str, delimiter: str, where: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
    except csv.Error as error:
        raise Hostile(f"{where}: not CSV: line 1: {error}") from error


@contextmanager
def plain(path: Path, above: int = 0) -> Iterator[Path]:
    """A file of the same text in UTF-8, without a byte order mark and the `above` lines over its header.

    It is the file itself where that is so already.

    Raises:
        Hostile: it is not in the letters that its mark says.
    """
    with path.open("rb") as file:
        encoding, mark = encoding_of(file.read(4))
    if not mark and not above:
        yield path
        return
    with TemporaryDirectory(prefix="souq-table-") as folder:
        copy = Path(folder) / path.name
        try:
            with path.open("rb") as source, copy.open("w", encoding="utf-8", newline="") as target:
                source.seek(mark)
                text = io.TextIOWrapper(source, encoding, newline="")
                for _ in range(above):
                    text.readline()
                shutil.copyfileobj(text, target, 1 << 20)
        except UnicodeError as error:
            raise Hostile(f"{path}: not {encoding}, as its first bytes say", hint=HINT) from error
        yield copy
