"""What every verb shares: the repository it stands in, who is typing, how answers and progress are shown."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from souq.cli.lines import fit
from souq.errors import UsageError
from souq.optional import needs
from souq.repo.git import GitRepo
from souq.repo.local import LocalRepo, hold
from souq.signing import Person, private_of

F = TypeVar("F", bound=Callable[..., Any])


class Lines(Console):
    """A console whose sentences fit the terminal; an unfinished line, and what is no text, stay as they are."""

    def print(self, *objects: Any, end: str = "\n", **how: Any) -> None:
        if self.is_terminal and end == "\n" and not how.get("no_wrap"):  # a table was fitted when it was made
            objects = tuple(self._fitted(each) for each in objects)
        super().print(*objects, end=end, **how)

    def _fitted(self, shown: Any) -> Any:
        if isinstance(shown, Text) and not shown.spans:
            return Text(fit(shown.plain, self.width), style=shown.style)
        return fit(shown, self.width) if isinstance(shown, str) else shown


# No markup: what is shown are other people's words, and `[/b]` is one of them.
out = Lines(highlight=False, markup=False, soft_wrap=True)
err = Lines(stderr=True, highlight=False, markup=False, soft_wrap=True)

_HELD: dict[Path, int] = {}  # git directory -> the lock on it that this process shares

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
key_option = click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar="SOUQ_KEY",
    help="Your ssh key (or SOUQ_KEY, or git's user.signingkey).",
)

on_option = click.option(
    "--on", metavar="ray[://HOST:PORT]", help="Compute on a Ray cluster: RAY_ADDRESS, this machine's, or by address."
)


def enter(repo: GitRepo) -> None:
    """Be at work in a clone until the verb ends: gc waits for everybody who is, so nothing is removed under anybody."""
    if repo.git_dir in _HELD:
        return
    _HELD[repo.git_dir] = hold(repo.git_dir)
    if (context := click.get_current_context(silent=True)) is not None:
        context.find_root().call_on_close(lambda: leave(repo))


def leave(repo: GitRepo) -> None:
    """Be at work there no more: what only watches keeps nobody waiting."""
    if (lock := _HELD.pop(repo.git_dir, None)) is not None:
        os.close(lock)


def alone(repo: GitRepo, wait: Callable[[], object]) -> None:
    """Wait until nobody else is at work there; `wait` is called where somebody is."""
    if (lock := _HELD.get(repo.git_dir)) is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        wait()
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return


def person(repo: LocalRepo, key: Path | None) -> Person:
    """Who is typing: git's name and e-mail, and the ssh key that signs for them."""
    name, email = repo.identity()
    org = os.fsencode(repo.config("souq.org")).decode("utf-8", "replace")  # what is signed is text, whatever is a path
    return Person(name=name, email=email, key=_key(repo, key), org=org)


def _key(repo: GitRepo, key: Path | None) -> Path:
    if key is not None:
        if not (named := key.expanduser()).is_file():
            raise UsageError(f"no key {key}", hint="name your private ssh key with --key")
        return private_of(named)
    if (configured := _configured(repo)) is not None:
        return private_of(configured)
    usual = [Path.home() / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa")]
    if there := next((path for path in usual if path.is_file()), None):
        return there
    raise UsageError("no ssh key to sign with", hint="make one with `ssh-keygen -t ed25519`, or name yours with --key")


def _configured(repo: GitRepo) -> Path | None:
    """The key that git signs with: a file, either half of it, or a public key written out; None of another kind."""
    configured = repo.config("user.signingkey")
    if (plain := configured.removeprefix("key::")).startswith(("ssh-", "ecdsa-", "sk-")):
        pairs = sorted((Path.home() / ".ssh").glob("*.pub"))
        key = next((path for path in pairs if path.read_text(errors="replace").split()[:2] == plain.split()[:2]), None)
    else:
        key = path if configured and (path := Path(configured).expanduser()).is_file() else None
    if key is None and configured and repo.config("gpg.format") == "ssh":
        hint = "correct it with `git config --global user.signingkey`, or name your key with --key"
        raise UsageError(f"git's user.signingkey is {configured[:80]}, and no such key is here", hint=hint)
    return key


def answer(value: Any, as_json: bool, show: Callable[[], None]) -> None:
    """The answer on stdout: JSON for programs, or what `show` prints."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    else:
        show()


def done(message: str) -> None:
    """One line on stderr that something was done."""
    err.print(Text(message))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s" if speed < 100 else f"{speed:,.0f}/s", style="dim")


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback: bars with a rate and the time left, or a line for each long task where nobody watches."""
    if not err.is_terminal or os.environ.get("SOUQ_QUIET"):
        yield _Lines()
        return
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(), TimeRemainingColumn(compact=True),
    )  # fmt: skip
    # a stdout that goes to a file must still get its lines
    shown = Progress(*columns, console=err, transient=True, redirect_stdout=sys.stdout.isatty())
    tasks: dict[str, tuple[TaskID, int]] = {}  # label -> its bar, and how far it was

    def show(label: str, done: int, total: int) -> None:
        work = label.partition(",")[0]
        bar, before = tasks.get(work, (None, 0))
        if bar is None or done < before:  # the same work begins anew, with a rate of its own
            if bar is not None:
                shown.remove_task(bar)
            bar = shown.add_task(label, total=total)
        tasks[work] = bar, done
        shown.update(bar, description=label, completed=done, total=total)

    with shown:
        yield show


@contextmanager
def starting_lab(progress: Callable[[str, int, int], None], label: str = "start torch") -> Iterator[None]:
    """Around the import of what needs torch: seconds in which nothing else would be shown."""
    progress(label, 0, 1)
    try:
        yield
    finally:
        progress(label, 1, 1)


def workers(on: str | None, progress: Callable[[str, int, int], None], store: str = "") -> Any:
    """Who computes, by --on; None where it is this process."""
    if on is None:
        return None
    with starting_lab(progress, "start Ray"), needs("ray", "ray"):
        from souq.lab import cluster

        return cluster.connect(on, store)


class _Lines:
    """For a log: what was done, how much of it and how fast, once it is done and if it took long."""

    LONG = 2.0  # seconds

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        label = label.partition(",")[0]
        begun = self.begun.setdefault(label, time.monotonic())
        if done < total:
            return
        took = time.monotonic() - self.begun.pop(label, begun)
        if took >= self.LONG and not os.environ.get("SOUQ_QUIET"):
            err.print(Text(f"  {label}: {total:,} in {took:.0f} s, {total / took:,.1f}/s", style="dim"))
