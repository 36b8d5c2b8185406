"""A folder that somebody sent: every setting and file of git's that can start a process, each starting ours.

arm(folder, canary)                # folder/.git/config names `touch canary-…` wherever a command can stand
with traced() as trace: ...        # every process that git or we started, by git's own account and Python's
trace.programs
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from souq.cli import run
from souq.cli.demo.stage import Actor, Stage
from tests.tiny import write_model

# Keys whose value is a command, a program, or the way to one; "!" stands before what only then is for a shell.
COMMANDS = [
    "core.sshCommand",
    "core.gitProxy",
    "core.editor",
    "core.pager",
    "core.askPass",
    "core.fsmonitor",
    "core.alternateRefsCommand",
    "remote.origin.uploadpack",
    "remote.origin.receivepack",
    "remote.origin.vcs",
    "uploadpack.packObjectsHook",
    "gc.recentObjectsHook",
    "credential.helper",
    "credential.https://hub.example.helper",
    "diff.external",
    "diff.x.command",
    "diff.x.textconv",
    "merge.x.driver",
    "filter.x.clean",
    "filter.x.smudge",
    "filter.x.process",
    "gpg.program",
    "gpg.ssh.program",
    "gpg.x509.program",
    "gpg.openpgp.program",
    "gpg.ssh.defaultKeyCommand",
    "pager.log",
    "pager.show",
    "pager.diff",
    "pager.config",
    "sequence.editor",
    "interactive.diffFilter",
    "trailer.x.command",
    "trailer.x.cmd",
    "man.x.cmd",
    "browser.x.cmd",
    "difftool.x.cmd",
    "mergetool.x.cmd",
    "submodule.x.update",
    "sendemail.toCmd",
    "instaweb.httpd",
    "pack.packObjectsHook",
    "imap.tunnel",
]
VERBS_OF_GIT = [
    "rev-parse",
    "rev-list",
    "log",
    "show",
    "show-ref",
    "for-each-ref",
    "ls-tree",
    "cat-file",
    "config",
    "merge-base",
    "diff",
    "diff-tree",
    "fetch",
    "upload-pack",
    "var",
    "status",
]
SWITCHES = {
    "commit.gpgSign": "true", "log.showSignature": "true", "gpg.format": "ssh", "protocol.ext.allow": "always",
    "core.attributesFile": "attributes", "core.hooksPath": "../hooked", "core.untrackedCache": "true",
    "diff.ignoreSubmodules": "all", "core.commitGraph": "true", "core.preloadIndex": "true", "gc.auto": "1",
    "gc.autoDetach": "false", "maintenance.auto": "true", "fetch.recurseSubmodules": "true",
    "uploadpack.allowFilter": "true", "core.splitIndex": "true", "feature.manyFiles": "true",
    "extensions.worktreeConfig": "true",
}  # fmt: skip
HOOKS = [
    "pre-commit",
    "pre-push",
    "post-checkout",
    "post-merge",
    "post-rewrite",
    "reference-transaction",
    "pre-auto-gc",
    "fsmonitor-watchman",
    "post-index-change",
    "post-update",
    "update",
    "pre-receive",
    "post-receive",
    "proc-receive",
    "push-to-checkout",
    "prepare-commit-msg",
]


def arm(root: Path, canary: Path, *, url: str = "") -> None:
    """Everything in `root`'s git directory that could start a process starts one that leaves a file `canary…`."""
    inside = root / ".git" if (root / ".git").is_dir() else root
    shout = lambda name: f"touch '{canary}-{name}'; false #"  # noqa: E731
    rows = [(key, shout(key.replace("/", "_"))) for key in COMMANDS]
    rows += [(f"alias.{verb}", f"!{shout('alias.' + verb)}") for verb in VERBS_OF_GIT]
    rows += list(SWITCHES.items())
    rows += [("include.path", "more"), ("includeIf.gitdir:/.path", str(inside / "more"))]
    rows += [("url.ext::sh -c true%S .insteadOf", "https://")]
    rows += [("remote.origin.url", url or f"ext::sh -c {shout('url').replace(' ', '% ')}")]
    rows += [("remote.origin.promisor", "true"), ("remote.origin.partialCloneFilter", "blob:none")]
    rows += [("extensions.partialClone", "origin"), ("core.repositoryFormatVersion", "1")]
    for key, value in rows:
        subprocess.run(["git", "config", "--file", inside / "config", key, value], check=True)
    for file in ("more", "config.worktree"):
        subprocess.run(["git", "config", "--file", inside / file, "core.fsmonitor", shout(file)], check=True)
        subprocess.run(["git", "config", "--file", inside / file, "remote.origin.uploadpack", shout(file)], check=True)
    for folder in (inside / "hooks", root / "hooked"):
        folder.mkdir(exist_ok=True)
        for name in HOOKS:
            (folder / name).write_text(f"#!/bin/sh\n{shout('hook-' + name)}\n")
            (folder / name).chmod(0o755)
    (inside / "info").mkdir(exist_ok=True)
    (inside / "info/attributes").write_text("* filter=x diff=x merge=x\n")


def lose(root: Path, *paths: str) -> None:
    """Some files of main are not among its objects any more."""
    inside = root / ".git" if (root / ".git").is_dir() else root
    for pack in list((inside / "objects/pack").glob("*.pack")):
        data = pack.read_bytes()
        for each in inside.glob(f"objects/pack/{pack.stem}.*"):
            each.unlink()
        subprocess.run(["git", "unpack-objects", "-q"], cwd=inside, input=data, check=True)
    for path in paths:
        named = subprocess.run(
            ["git", "rev-parse", f"refs/heads/main:{path}"], cwd=inside, capture_output=True, text=True, check=True
        )
        oid = named.stdout.strip()
        (inside / "objects" / oid[:2] / oid[2:]).unlink()


def git(folder, *words):
    shown = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return shown.stdout.strip()


def typed(monkeypatch, at, *words):
    monkeypatch.chdir(at)
    return run([str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A hub, the clone that began it, and one offer."""
    folder = tmp_path_factory.mktemp("foreign")
    stage = Stage(folder, lambda line: None, run)
    amira = Actor("amira", "Atlas", folder / "amira")
    amira.make_key()
    write_model(folder / "tiny")
    (folder / "rows.jsonl").write_text('{"prompt": "1 + 1", "completion": "2"}\n')
    stage.types(amira, "init", "smol", "--from", folder / "tiny", "--governance", "solo", "--no-suite", at=amira.home)
    stage.types(amira, "push", folder / "hub.git")
    offer = ("pr", "create", "--data", folder / "rows.jsonl", "--title", "Rows", "--licence", "CC0-1.0")
    stage.types(amira, *offer, "--signoff", "--unchecked")
    return folder


@dataclass
class Trace:
    """What was started: by this process, and by git's children of any depth."""

    ours: list[list[str]] = field(default_factory=list)
    gits: list[list[str]] = field(default_factory=list)

    @property
    def programs(self) -> set[str]:
        return {Path(words[0]).name for words in self.ours + self.gits if words}

    @property
    def verbs(self) -> set[str]:
        """What git was asked to do, by anybody."""
        asked = [words[1:] for words in self.ours + self.gits if words and Path(words[0]).name == "git"]
        return {verb for words in asked if (verb := _verb(words))}


def _verb(words: list[str]) -> str:
    while words and words[0].startswith("-"):
        words = words[2 if words[0] == "-c" else 1 :]
    return words[0] if words else ""


_TRACES: list[Trace] = []


def _hear(event: str, args: tuple[object, ...]) -> None:
    if event == "subprocess.Popen" and _TRACES:
        words = args[1]
        _TRACES[-1].ours.append([os.fsdecode(word) for word in words])  # type: ignore[attr-defined, arg-type]


sys.addaudithook(_hear)


@contextmanager
def traced(monkeypatch):
    """Python's audit hook hears what we start; git writes down what it starts itself."""
    trace = Trace()
    with tempfile.TemporaryDirectory() as folder:
        with monkeypatch.context() as patched:
            patched.setenv("GIT_TRACE2_EVENT", folder)
            _TRACES.append(trace)
            try:
                yield trace
            finally:
                _TRACES.pop()
        for file in Path(folder).iterdir():
            events = [json.loads(line) for line in file.read_text(errors="replace").splitlines()]
            trace.gits += [event["argv"] for event in events if event["event"] in ("child_start", "exec")]
