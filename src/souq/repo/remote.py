"""A model repository and what others have of it: the shared remote, the store that carries its tensors, and clones.

What is local to a clone, and how git is run, is git.py; verifying loads none of this.

    repo = Repo.find(Path.cwd())
    repo.fetch()
    repo.read(repo.tip(), "souq.toml")
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from souq.errors import Hostile, NotFound, Refused, SouqError, UsageError
from souq.progress import Progress, quiet
from souq.records import Digest, read_toml
from souq.repo.credentials import Credentials
from souq.repo.git import (
    ENTRY_BYTES,
    MAIN,
    MAX_FILES,
    MEMORY,
    NO_TREE,
    TRACKED,
    TREE,
    GitError,
    Locked,
    Moved,
    disk_error,
    endless_in,
    git_dir_of,
    refuse_broken,
    refuse_endless,
    refuse_odd,
    shared_dir,
)
from souq.repo.local import LocalRepo
from souq.weights.bucket import Bucket, open_remote
from souq.weights.hub import Hub, hub_at
from souq.weights.leases import writing
from souq.weights.place import check_url
from souq.weights.store import Store

# What a repository may say of itself and start nothing by it: a fetch for who only looks goes by no other settings.
_PLAIN = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|worktree)"
    r"|extensions\.(objectformat|partialclone)|remote\..*\.(url|pushurl|fetch|promisor|partialclonefilter|tagopt|prune)"
    r"|(branch|user|souq|http|url|alias|advice|color|pull|push|submodule)\..*|credential\.(.*\.)?username|gc\.auto|",
    re.DOTALL,
)
TRIES = 5
# The refs that souq makes; lower case and short, so that no disk takes two for one. What has an id is named by content.
SOUQ = re.compile(
    r"refs/souq/(pr/[1-9]\d{0,8}/(head|signoff)|nightly/nightly-\d{8}-[0-9a-f]{8}"
    r"|(pr/[1-9]\d{0,8}/[a-z]{1,24}(/[1-9]\d{0,17})?|(witness|vouch)/[0-9a-f]{16})/(?P<id>[0-9a-f]{16}))"
)
MOVES = re.compile(rf"{TRACKED}|refs/souq/pr/\d+/(head|signoff)")
_PUSH = ("push", "--quiet", "--porcelain", "--no-verify", "--recurse-submodules=no")
# What git says where a ref was not as it was thought to be; all else that a remote says is a no.
_RACE = re.compile(
    r"\[rejected\]|\[remote rejected\] \(((atomic transaction )?failed|cannot lock|incorrect old|reference )"
)
# And where it could not be written; why, is in the lines that come with it.
_UNWRITTEN = re.compile(r"unpacker error|transaction failed|failed to update ref")
# What git says where a ref here moved meanwhile; that a ref cannot be at all is no race.
_MOVED = re.compile(rb"but expected|reference already exists")
_PROTOCOLS = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}


class Raced(SouqError):
    """Somebody else moved a ref first; fetch and try again."""


class Held(Raced):
    """A git holds what must move: a quicker one, or one that was killed, and then trying again changes nothing."""


class Declined(Refused):
    """The remote does not take it from us: a hook, a protected branch, a right that is lacking."""


class Repo(LocalRepo):
    """A model repository on this disk, and its shared remote: the one that git has for it, or one to be."""

    def __init__(self, git_dir: Path, root: Path | None, remote: str = "") -> None:
        super().__init__(git_dir, root)
        self._remote = remote

    @property
    def remote(self) -> str | None:
        """The remote that was named, or else the one that git has for it."""
        return self._remote or super().remote

    def remote_store(self) -> Store | Bucket | None:
        """Where the tensors travel: a store with a URL, or else the one beside the remote, in a folder or at a hub.

        Raises:
            NotFound: the remote is no folder, and nothing says where its tensors are.
        """
        folder = self.remote_folder()
        if url := self._store_url(local=folder is not None):
            return open_remote(url)
        if self.remote is None:
            return None
        if folder is None and (hub := self._hub_store) is not None:
            return hub
        if folder is None:
            raise NotFound(
                f"{self.remote} carries history and no tensors, and main's souq.toml names no [store]",
                hint="ask its people where the tensors are, and run `git config souq.store URL`",
            )
        if (git_dir := git_dir_of(folder)) is None:
            raise NotFound(f"the remote {self.remote} is no git repository", hint="see `git remote -v`")
        return Store(shared_dir(git_dir) / "souq")

    @cached_property
    def _hub_store(self) -> Hub | None:
        """The store beside a remote that is a souq hub; each command asks once whether it is one."""
        if not (self.remote or "").startswith(("http://", "https://")):
            return None
        words = ("ls-remote", "--get-url", "--", self._remote or "origin")  # as git rewrites it: `url.….insteadOf`
        known = Credentials.of(self.git_dir, self._own(*words).stdout.decode("utf-8", "replace").strip())
        return hub_at(known.url, known) if known is not None else None

    def _store_url(self, *, local: bool) -> str:
        """This person's own `souq.store`, else what main says; a head's souq.toml is asked by nobody."""
        if mine := self.config("souq.store"):
            return check_url(mine, local=True)
        settings: dict[str, Any] = {}
        with suppress(NotFound, Hostile, UsageError, UnicodeDecodeError):  # whoever reads main says what is wrong
            settings = read_toml(self.read(self.tip(), "souq.toml").decode(), where="souq.toml")
        url = settings.get("store", {}).get("url", "") if isinstance(settings.get("store", {}), dict) else ""
        return check_url(str(url), local=local) if url else ""

    def remote_folder(self) -> Path | None:
        """The remote as a folder of this machine; None where there is no remote, or it is a URL.

        Raises:
            NotFound: it ought to be a folder, and is not there.
        """
        if self.remote is None or is_url(self.remote):
            return None
        folder = Path(self.remote)
        folder = folder if folder.is_absolute() or self.root is None else self.root / folder
        if not folder.is_dir():
            raise NotFound(f"the remote {self.remote} is not a folder that can be reached", hint="see `git remote -v`")
        return folder

    @contextmanager
    def _sending(self, names: Iterable[Digest], progress: Progress) -> Iterator[None]:
        """Tensors to where they travel, before any ref that needs them; nobody sweeps there until these have moved."""
        self.remote_folder()
        wanted = list(names)
        remote = self.remote_store() if wanted else None
        with writing(remote, self.beginning) if isinstance(remote, Bucket) else nullcontext():
            if remote is not None:
                self.store.copy(remote, wanted, progress)
            yield

    @property
    def beginning(self) -> str:
        """The first commit of main, which tells this repository from others."""
        return self.history(self.tip())[0]

    def publish(
        self, updates: Mapping[str, tuple[str | None, str]], needed: Iterable[Digest], progress: Progress = quiet
    ) -> None:
        """Move refs from what they were to what they are, at the remote and here, all or none; tensors go first.

        Raises:
            Raced: a ref was not what we thought it was.
            Held: a lock stands in the way.
            Declined: the remote does not take it from us.
            UsageError: main cannot move here, because files of the working tree were changed by hand.
        """
        if self.remote is not None:
            leases = [f"--force-with-lease={name}:{old or ''}" for name, (old, _) in updates.items()]
            specs = [f"{new}:{name}" for name, (_, new) in updates.items()]
            with self._sending(needed, progress):
                _refuse_rejected(self._own(*_PUSH, "--atomic", *leases, "origin", *specs, check=False), self.remote)
        others = {name: moved for name, moved in updates.items() if name != MAIN}
        lines = "".join(f"update {name} {new} {old or '0' * 40}\n" for name, (old, new) in others.items())
        self._move(lines)
        if MAIN in updates:
            self._advance(*updates[MAIN])

    def _move(self, lines: str) -> None:
        """Move refs here, all or none.

        Raises:
            Raced: one was not what we thought it was.
            Held: a lock stands in the way.
        """
        moved = self._own("update-ref", "--stdin", stdin=lines.encode(), check=False)
        if moved.returncode:
            error = _refuse_failed("update-ref", moved)
            raise Raced(str(error), hint="run the command again") if _MOVED.search(moved.stderr) else error

    def _advance(self, old: str | None, new: str) -> None:
        if self.remote:
            self._own("update-ref", TRACKED, new)
        if not self.forward(new) or self.remote:
            return
        if self.ref(MAIN) != old:
            raise Raced("main moved meanwhile", hint="run the command again")
        raise UsageError(
            "main cannot move: files here were changed by hand", hint="commit or `git stash` them and run it again"
        )

    def forward(self, commit: str) -> str:
        """Bring this clone's main and its files to `commit`; why they stay as they are, or "" where they came along.

        Raises:
            Locked: a lock stands in the way.
        """
        if self.ref(MAIN) == commit:
            return ""
        where = self._worktrees_on_main()
        if self.root is not None and git_dir_of(self.root) in where:
            moved = self._own("merge", "--quiet", "--ff-only", commit, check=False)
            if moved.returncode:
                refuse_broken("merge", moved)
                return "main here has changes of its own; `git status` shows them"
            return ""
        if where:  # its files would stay behind, and look as if somebody had undone what landed
            return f"main is checked out elsewhere, by {where[0]}: run `souq fetch` there"
        old = self.ref(MAIN) or "0" * 40
        if self.contains(commit, old):
            moved = self._own("update-ref", MAIN, commit, old, check=False)
            if moved.returncode == 0:
                return ""
            refuse_broken("update-ref", moved)
        return "main here has commits of its own: `git log origin/main..main` shows them"

    def _worktrees_on_main(self) -> list[Path]:
        """The git directories of the worktrees whose files are main's."""
        own = [] if self.config("core.bare") == "true" else [self.git_dir]
        places, on_main = [*own, *sorted((self.git_dir / "worktrees").glob("*"))], f"ref: {MAIN}".encode()
        return [at for at in places if (at / "HEAD").is_file() and (at / "HEAD").read_bytes().strip() == on_main]

    def fetch(self, env: Mapping[str, str] = {}) -> None:
        """Bring main and what is said about pull requests: refs of a form that is known, and no other.

        A head that moved is followed: votes and checks name a digest, so they stay behind with what they were for. A
        record never moves: what the remote lost, or put in its place, is said, and ours stays here.

        Raises:
            NotFound: the remote has no main.
            Raced: it moves faster than it can be asked.
            Held: a lock stands in the way.
        """
        if self.remote:
            self.remote_folder()
            raced = Raced("")
            for tried in range(TRIES):
                time.sleep(tried / 10)  # others fetch into this clone, too
                theirs, ours = self._theirs(env), self._ours()
                moved = {ref: oid for ref, oid in theirs.items() if ours.get(ref) != oid}
                wanted = {ref: oid for ref, oid in moved.items() if _holds(ref, oid, ours.get(ref))}
                try:
                    if wanted:
                        self._bring(wanted, ours, env)
                except Raced as error:
                    raced = error
                else:
                    self._say_kept(sorted({*ours} - {*theirs}), sorted({*ours} & {*moved} - {*wanted}))
                    return
            raise give_up(raced, "the remote moves faster than it can be asked")

    def _theirs(self, env: Mapping[str, str]) -> dict[str, str]:
        """What the remote has now, by its name here: main, and refs that are named as souq names them."""
        listed = self._own("ls-remote", "--quiet", "--refs", "origin", env=env).stdout
        rows = [line.decode("ascii", "replace").split("\t") for line in listed.splitlines()]
        held = {row[1]: row[0] for row in rows if len(row) == 2}
        if MAIN not in held:
            raise NotFound(f"{self.remote} has no main", hint="is it the right remote? `git remote -v` tells")
        return {TRACKED: held[MAIN]} | {ref: oid for ref, oid in held.items() if SOUQ.fullmatch(ref)}

    def _ours(self) -> dict[str, str]:
        main, refs = self.ref(TRACKED), self.refs("refs/souq/")
        return {ref: oid for ref, oid in refs.items() if SOUQ.fullmatch(ref)} | ({TRACKED: main} if main else {})

    def _bring(self, wanted: Mapping[str, str], ours: Mapping[str, str], env: Mapping[str, str]) -> None:
        """Take what some refs of the remote name.

        Objects first, and by their names: then each ref is what was looked at, whatever the remote says by then.

        Raises:
            Raced: they moved meanwhile.
            Held: a lock stands in the way.
        """
        names = "".join(f"{oid}\n" for oid in {*wanted.values()}).encode()
        words = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--stdin", "origin")
        fetched = self._own("fetch", "--quiet", *words, stdin=names, env=env, check=False)
        if fetched.returncode:
            error = _refuse_failed("fetch", fetched)
            raise Raced(str(error)) if b"not our ref" in fetched.stderr else error
        self._make_room(wanted)
        self._move("".join(f"update {ref} {oid} {ours.get(ref, '0' * 40)}\n" for ref, oid in wanted.items()))

    def _make_room(self, wanted: Iterable[str]) -> None:
        """Refs of no known form, which an older souq brought, may stand where a folder must be, or the other way."""
        names, folders = {*wanted}, {above for ref in wanted for above in _above(ref)}
        odd = [ref for ref in self.refs("refs/souq/") if ref in folders or names.intersection(_above(ref))]
        self._own("update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in odd).encode(), check=False)

    def _say_kept(self, lost: Sequence[str], other: Sequence[str]) -> None:
        if lost:
            refs = f"{len(lost)} refs that stay here, {min(lost)}"
            self.notice(f"the remote has lost {refs}: `souq push` sends them again")
        if other:
            refs = f"{len(other)} records, and ours stay here"
            self.notice(f"the remote has something else under {refs}: `git push --force origin {min(other)}` mends it")

    def notice(self, line: str) -> None:
        """Tell whoever types, once."""
        if line not in self.notices:
            self.notices.append(line)
            self.tell(line)

    def oids(self, names: Iterable[str], kind: str) -> dict[str, str]:
        """The object of a kind (commit, tree, blob) that each of some names is to git, such as `<commit>:<path>`.

        "" where there is none, or it is of another kind; one git is asked, however many they are.
        """
        asked = [*dict.fromkeys(names)]
        lines = "".join(f"{name}\n" for name in asked).encode()
        shape = "--batch-check=%(objecttype) %(objectname)"
        answers = self._git("cat-file", shape, stdin=lines).stdout.decode("utf-8", "replace").splitlines()
        oids = (answer.removeprefix(f"{kind} ") for answer in answers)
        return {name: oid if re.fullmatch(r"[0-9a-f]{40}", oid) else "" for name, oid in zip(asked, oids, strict=True)}

    def adding(self, commits: Iterable[str], folder: str) -> set[str]:
        """Those of some commits whose `folder` is another than in the commit before, by one git however many."""
        names = {*commits}
        commits = self.oids((f"{name}^^{{commit}}" for name in sorted(names)), "commit")
        trees = self.oids((f"{name}{of}:{folder}" for name in sorted(names) for of in ("", "^")), "tree")
        return {
            name for name in names
            if commits[f"{name}^^{{commit}}"] and trees[f"{name}:{folder}"] not in ("", trees[f"{name}^:{folder}"])
        }  # fmt: skip

    def new_folders(self, commits: Iterable[str], folder: str) -> dict[str, list[str]]:
        """For each of some commits, the folders directly inside `folder` that are none in the commit before.

        By two gits however many; one that has none before it is left out.

        Raises:
            Hostile: more than `MAX_FILES` entries differ in one.
        """
        known = {commit: MEMORY.get((self.git_dir, "new folders", commit, folder)) for commit in sorted({*commits})}
        if asked := [commit for commit, names in known.items() if names is None]:
            before = self.oids((f"{commit}^^{{commit}}" for commit in asked), "commit")
            trees = self.oids((f"{commit}{of}:{folder}" for commit in asked for of in ("^", "")), "tree")
            with self._differences() as differences:
                for commit in (each for each in asked if before[f"{each}^^{{commit}}"]):
                    old, new = (trees[f"{commit}{of}:{folder}"] or NO_TREE for of in ("^", ""))
                    entries = [*islice(differences.level(old, new), MAX_FILES + 1)] if old != new else []
                    if len(entries) > MAX_FILES:
                        raise Hostile(f"{commit[:12]} changes more than {MAX_FILES:,} files and folders")
                    known[commit] = names = sorted(name for was, now, *_, name in entries if now == TREE != was)
                    MEMORY.put((self.git_dir, "new folders", commit, folder), names, ENTRY_BYTES * (len(names) + 1))
        return {commit: list(names) for commit, names in known.items() if names is not None}

    def changed_below(self, commits: Iterable[str], folder: str, most: int) -> Iterator[tuple[str, tuple[Moved, ...]]]:
        """What each of some commits changes in a folder against the commit before, by a few gits however many.

        One that changes more than `most` files there is left out.
        """
        names = sorted({*commits})
        trees = self.oids((f"{name}{of}:{folder}" for name in names for of in ("^", "")), "tree")
        with self._differences() as differences:
            for name in names:
                old, new = (trees[f"{name}{of}:{folder}"] or NO_TREE for of in ("^", ""))
                with suppress(Hostile):
                    yield name, differences.between(old, new, most)

    def refresh(self) -> None:
        """Fetch, for a verb that only looks.

        A folder that somebody sent may name in its settings what git is to start; then nothing is asked for, and that
        is said. Who types `souq fetch` says that the settings are their own.
        """
        if odd := sorted(key for key in self._own_settings() if not _PLAIN.fullmatch(key)):
            keys = ", ".join(odd)[:120]
            self.notice(f"not fetched: settings of this clone may start something ({keys}); `souq fetch` heeds them")
        elif self.remote and not os.access(self.git_dir, os.W_OK):
            self.notice("not fetched: nothing can be written into this clone; this is what it has")
        else:
            if folder := self.remote_folder():
                refuse_endless_remote(folder)
            self.fetch({} if "GIT_ALLOW_PROTOCOL" in os.environ else _PROTOCOLS)

    def push_all(self, to: str, needed: Iterable[Digest], progress: Progress = quiet) -> None:
        """Send main and every souq ref this clone has, with the tensors they point at; only what is missing.

        `to` is the shared remote from then on, and not before all is there.

        Raises:
            NotFound: nothing answers there.
            Raced: somebody else moved it first; no ref was moved.
            Declined: the remote does not take it from us.
        """
        named = to == self.remote
        at = "origin" if named else to
        if self._own("ls-remote", "--quiet", "--", at, MAIN, check=False).returncode:
            hint = f"check the name and your access; the shared remote is {self.remote or 'not named yet'}"
            raise NotFound(f"no git repository answers at {at}", hint=hint)
        words = (*_PUSH, "--atomic", "--", at, MAIN, "refs/souq/*:refs/souq/*")
        with Repo(self.git_dir, self.root, to)._sending(needed, progress):
            _refuse_rejected(self._own(*words, check=False), to)
        if not named:
            self._own("config", "--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
            self._own("config", "--replace-all", "remote.origin.url", to)
        self._own("update-ref", TRACKED, self.commit(MAIN))


def _holds(ref: str, oid: str, ours: str | None) -> bool:
    """Whether a ref of the remote is taken: where it may move; or is new, or mends ours, and names what it holds."""
    digits = (match := SOUQ.fullmatch(ref)) and match["id"]
    right = not digits or oid.startswith(digits)
    return right and (ours is None or bool(MOVES.fullmatch(ref)) or bool(digits and not ours.startswith(digits)))


def _above(ref: str) -> set[str]:
    return {ref[:at] for at, sign in enumerate(ref) if sign == "/"}


def refuse_endless_remote(folder: Path) -> None:
    """Refuse a folder to be read as a remote where git would wait for a file of it, or read one without an end.

    Raises:
        NotFound: it is no repository.
        Hostile: there is such a file.
    """
    if (git_dir := git_dir_of(folder)) is None:
        raise NotFound(f"{folder} is no git repository", hint="name the folder of a model repository or of its remote")
    for place in dict.fromkeys([git_dir, shared_dir(git_dir)]):
        refuse_odd(endless_in(place, below=False) or endless_in(place / "refs"))
        refuse_endless(place / "objects")


def is_url(remote: str) -> bool:
    """Whether git would take this for a URL or for `host:path`, and not for a folder."""
    return re.match(r"[a-z][a-z0-9+]*://|[A-Za-z0-9_.\-]+(@[A-Za-z0-9_.\-]+)?:(?!//)[^\\]", remote) is not None


def give_up(raced: Raced, words: str, hint: str | None = "run the command again") -> Raced:
    """What to say who was too slow each time: a lock that is still there by its name, and all else in these words."""
    return raced if isinstance(raced, Held) else Raced(words, hint=hint)


def _refuse_failed(verb: str, done: subprocess.CompletedProcess[bytes], remote: str = "") -> GitError:
    """What git said, where it is neither a disk nor the lock of somebody who is quicker, or was killed."""
    try:
        return refuse_broken(verb, done, remote)
    except Locked as error:
        raise Held(str(error), hint=error.hint) from error


def _refuse_full(to: str, remarks: Iterable[str]) -> None:
    """A disk that failed says nothing about who may; a remote that is a folder is on one of ours."""
    if number := next(filter(None, map(disk_error, remarks)), None):
        if is_url(to):
            hint = f"ask whoever keeps {to}; nothing was sent"
            raise GitError(f"the remote's disk does not take it: {os.strerror(number)}", hint=hint)
        raise OSError(number, os.strerror(number), to)


def _refuse_rejected(pushed: subprocess.CompletedProcess[bytes], to: str) -> None:
    """Tell who was too slow, and may try again, from who may not: by git's answer for each ref, as programs read it."""
    if pushed.returncode == 0:
        return
    rows = [row.split("\t", 2) for row in pushed.stdout.decode("utf-8", "replace").splitlines() if row[:2] == "!\t"]
    # Of refs that go together, those behind the first say no more than that.
    answers = {row[1].rpartition(":")[2]: row[2] for row in rows if "atomic push fail" not in row[2]}
    lines = [line for line in pushed.stderr.decode("utf-8", "replace").splitlines() if line[:8] == "remote: "]
    remarks = [line[8:].strip() for line in lines]
    for ref, answer in answers.items():
        if _UNWRITTEN.search(answer):
            _refuse_full(to, remarks)
        if not _RACE.match(answer):
            words = " ".join([f"the remote declines {ref}: {answer}", *remarks[:3]])
            raise Declined(words, hint="ask whoever keeps it; nothing was sent, and trying again changes nothing")
    error = _refuse_failed("push", pushed, to if is_url(to) else "")
    if answers:
        hint = "run the command again"
        if not any(answer.startswith("[rejected]") for answer in answers.values()):  # it does not say why
            hint += "; if it stays so, a git that was killed there has left a lock: ask whoever keeps the remote"
        raise Raced("somebody else moved the remote first; nothing was sent", hint=hint)
    raise error
