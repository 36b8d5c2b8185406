"""The tutorials and README's ten lines in a pseudo-terminal: how long each verb takes, is silent, and how wide it writes.

    python bench/silence.py FOLDER            the four tutorials, each of the four people in a home below FOLDER
    python bench/silence.py FOLDER ten        README's ten lines

A line for each verb, in the order in which they are typed; `silent` is the longest time in which nothing reached the
terminal, from the moment the verb was typed until it had ended, and `wide` counts lines of more than 80 columns.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.test_readme import TEN  # noqa: E402
from tests.test_tutorials import homes, pages  # noqa: E402

from souq.signing import make_key  # noqa: E402

COLUMNS, LINES = 80, 24
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TYPED = """#!/bin/bash
echo "begun $(date +%s.%N) $*" >> {marks}
{python} -m souq "$@"
code=$?
echo "ended $(date +%s.%N) $code" >> {marks}
exit $code
"""


@dataclass
class Terminal:
    """What reached the screen, and when."""

    home: Path
    marks: Path
    seen: list[tuple[float, str]] = field(default_factory=list)

    def type(self, script: str, cwd: Path) -> None:
        """Run a block of shell as somebody at home there would.

        Raises:
            SystemExit: a command failed.
        """
        child, screen = pty.fork()
        if child == 0:
            os.chdir(cwd)
            env = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SOUQ_", "COLUMNS", "LINES"))}
            path = f"{self.marks.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
            words = ["bash", "-euo", "pipefail", "-c", script]
            os.execvpe("bash", words, env | {"HOME": str(cwd), "PATH": path, "TERM": "xterm"})
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        while True:
            select.select([screen], [], [])
            try:
                part = os.read(screen, 65_536)
            except OSError:  # Linux says so when the other side is closed
                break
            self.seen.append((time.time(), part.decode("utf-8", "replace")))
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            print("".join(text for _, text in self.seen)[-3_000:])
            raise SystemExit(f"exit {code}: {script}")

    def verbs(self) -> Iterator[str]:
        """A line for each verb that was typed since the last one was asked for."""
        lines = self.marks.read_text().splitlines()
        self.marks.write_text("")
        for begun, ended in zip(lines[::2], lines[1::2], strict=True):
            start, typed = float(begun.split(" ", 2)[1]), begun.split(" ", 2)[2]
            end, code = float(ended.split()[1]), ended.split()[2]
            shown = [(at, text) for at, text in self.seen if start <= at <= end]
            times = [start, *(at for at, _ in shown), end]
            silent, since = max((after - before, before - start) for before, after in pairwise(times))
            wide = sum(len(line) > COLUMNS for line in _lines("".join(text for _, text in shown)))
            yield f"{end - start:7.1f} {silent:7.1f} {since:7.1f} {wide:5} {code:>5}  {typed[:48]}"


def _lines(text: str) -> list[str]:
    """As they stood at last: what a bar wrote before it was drawn again is gone."""
    plain = _ESCAPE.sub("", text).replace("\r\n", "\n")
    return [line.rsplit("\r", 1)[-1] for line in plain.split("\n")]


def main(folder: Path, what: str) -> None:
    """Type all of it, and print a line for each verb as it ends."""
    folder.mkdir(parents=True)
    typed = folder / "souq"
    typed.write_text(_TYPED.format(marks=folder / "marks", python=sys.executable))
    typed.chmod(0o755)
    terminal = Terminal(folder, folder / "marks")
    terminal.marks.touch()
    print(f"{'seconds':>7} {'silent':>7} {'since':>7} {'wide':>5} {'exit':>5}  souq", flush=True)
    for home, script in _ten(folder) if what == "ten" else _four(folder):
        terminal.type(script, home)
        for line in terminal.verbs():
            print(line, flush=True)
    (folder / "screen.txt").write_text("".join(text for _, text in terminal.seen))


def _four(folder: Path) -> Iterator[tuple[Path, str]]:
    homes(folder)
    for name, script in pages():
        yield folder / name, script


def _ten(folder: Path) -> Iterator[tuple[Path, str]]:
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    make_key(home / ".ssh" / "id_ed25519", "you@example.org")
    (home / ".gitconfig").write_text("[user]\nname = You\nemail = you@example.org\n")
    yield home, TEN


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2] if len(sys.argv) > 2 else "tutorials")
