"""The verbs: the only place that prints. A verb's module is imported when it is typed, so `souq --help` is instant.

stdout is for the next program, stderr for the person, `--json` for both. Exit codes: 0 yes, 1 broken, 2 usage, 3 no.
"""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from souq.budget import Budget, Spent
from souq.cli.lines import fit, terminal_width
from souq.errors import SouqError, nearest
from souq.optional import missing_part
from souq.records import spelled_out

GROUPS = {
    "Begin": {
        "demo": ("demo", "Play the whole story on a real model"),
        "init": ("start", "Start a model repository from a Hugging Face folder, a GGUF file or a hub id"),
        "clone": ("start", "Copy a model repository, history and tensors"),
    },
    "Every day, change the model and offer the change": {
        "status": ("look", "Say where things stand, and the next command to type"),
        "fetch": ("start", "Bring history and missing tensors from the shared remote"),
        "train": ("model", "Train a LoRA adapter on main's model"),
        "delta": ("delta", "Make, show or apply a change of weights"),
        "pr": ("pr", "Offer, check, review and merge changes to the model"),
        "vote": ("pr", "Sign a yes or no to exactly what is offered: `pr review` by its other name"),
        "push": ("start", "Send history and missing tensors to the shared remote"),
        "pull": ("start", "The same as fetch, by git's other name"),
    },
    "Look at the model and its history": {
        "log": ("look", "What landed on main, newest first"),
        "show": ("look", "A tensor by name, a contribution by slug, or a commit"),
        "diff": ("look", "Which tensors moved between two commits, or all that is new since the last release"),
        "chat": ("talk", "Talk with main's model, or with a release's, a pull request's or a folder's"),
        "report": ("report", "Write the repository as a static site: pull requests, votes, scores, heat maps"),
        "eval": ("model", "Score main's model, or any folder, on main's evals"),
    },
    "Judge what is offered, and govern": {
        "bug": ("bug", "File a case that fails, and list which are open and which a pull request fixes"),
        "queue": ("queue", "Who waits to be merged; test them together and land what passes"),
        "forge": ("forge", "Check pull requests of GitHub, Forgejo, Gitea or a hub, and say what was found"),
        "evaluate": ("evaluate", "Lend a machine: run the checks that are waited for, sign them, check each other's"),
        "vouch": ("vouch", "Sign for a newcomer: what they offer is looked at as yours; see who vouches for whom"),
        "hidden": ("hidden", "Seal a hold-out, reveal it, and see whose tries are charged"),
        "governance": ("governance", "The policy in words (`check`), amend it, or lay down a role"),
        "election": ("governance", "Fill a role by signed ballots"),
        "witness": ("governance", "Sign that you have seen main as it is now"),
    },
    "Rebuild, and trust nobody": {
        "build": ("model", "Fold the accepted contributions into a model"),
        "verify": ("verify", "Judge the history again, rebuild, and compare every digest"),
        "rebuild": ("source", "Train a contribution again from its own source, and say how near it came"),
        "fsck": ("look", "Read every stored tensor and find damage"),
        "gc": ("look", "Remove tensors nothing points at, and cached builds"),
    },
    "Release it, and let it teach": {
        "release": ("release", "Create, list, view or yank releases"),
        "export": ("model", "Write a folder that transformers, vLLM and others load"),
        "publish": ("publish", "Put a release, its evals and its corpora on a Hugging Face hub, theirs or your own"),
        "hub": ("hub", "Serve model repositories to browsers and to Hugging Face's clients"),
        "corpus": ("corpus", "Let a release write training data, with the provenance of every row"),
        "distill": ("distill", "Train a smaller student on a corpus, or from a recipe's seeds on"),
    },
    "Ask about any model, with or without a repository": {
        "merge": ("merge", "Merge checkpoints by a mergekit configuration"),
        "compare": ("compare", "Ask models the same cases, side by side: folders, GGUF files and servers"),
        "may": ("may", "Whether licences let you merge, sell, name, train on or ship something"),
        "cost": ("cost", "What a model cost to train, merge and serve, and from which volume on it beats an API"),
        "audit": ("audit", "How open a model is, by evidence: index, framework, definition, and who decides"),
        "lineage": ("lineage", "Which known model a checkpoint descends from, and how; a hint, by its weights"),
        "stats": ("stats", "How a hub's downloads are shared, and which models are one under several badges"),
    },
    "Find out about these verbs, and set what is yours": {
        "config": ("config", "All settings with what they mean; set one of your own"),
        "help": ("help", "What a verb does and which words it takes"),
        "completion": ("help", "A script by which bash, zsh or fish completes verbs"),
    },
}
"""Each verb stands in the group where `souq --help` shows it: name -> (the module that holds it, one line)."""
NOBODY_READS = 128 + 13  # SIGPIPE's, as shells count
QUICK, LONG = Budget(600, 8_192), Budget(4 * 3_600, 32_768)
_LONG = ("verify", "audit", "lineage", "stats", "release verify", "fsck", "corpus tail")
_QUICK = (
    "status", "log", "show", "diff", "pr list", "pr view", "pr diff", "bug list", "queue", "hidden list",
    "governance check", "release list", "release view", "may", "cost", "delta show",
)  # fmt: skip
FREE = Budget(0, 0)
BUDGETS = dict.fromkeys(_QUICK, QUICK) | dict.fromkeys(_LONG, LONG)
BUDGETS |= dict.fromkeys(("queue run", "queue add", "queue remove"), FREE)
"""What a verb that reads may cost, whatever it is given to read; a longer name goes before a shorter."""
COMPLETE = "_SOUQ_COMPLETE"
DEBUG = "SOUQ_DEBUG"  # set, a fault of souq's own is shown whole
VERBS = {name: verb for verbs in GROUPS.values() for name, verb in verbs.items()}


class Verbs(click.Group):
    """A group whose commands are imported when they are typed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = import_module(f"souq.cli.{VERBS[name][0]}")
        command = getattr(module, {"eval": "eval_", "help": "help_"}.get(name, name))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, VERBS))  # one column for all groups
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), line) for name, (_, line) in verbs.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that was typed, and the nearest one where there is none of that name.

        Raises:
            click.UsageError: no such verb.
        """
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise click.UsageError(f"no verb {args[0]!r}{nearest(args[0], VERBS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="souq")
def souq() -> None:
    """Develop a language model the way the bazaar develops software: pull requests to weights, data and evals."""


def main() -> None:
    """What the shell calls."""
    _speak_utf8()
    _open_all()
    if COMPLETE in os.environ:  # a shell asks what could follow; click answers, and ends
        souq(prog_name="souq")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:  # what was answered did not arrive, whatever was done
        code = _gone(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python, which tries once more when it ends
    gc.freeze()  # else Python looks once more at all that torch has loaded, a second long, before it ends
    sys.exit(code)


def _speak_utf8() -> None:
    """Words and names are UTF-8 under any locale: where Python was told otherwise, it begins anew, and is told so."""
    if sys.getfilesystemencoding() != "utf-8":
        again = ["-P", "-X", "utf8", "-c", "from souq.cli import main; main()"]  # -P: no module of the folder it is in
        os.execv(sys.executable, [sys.executable, *again, *sys.argv[1:]])  # noqa: S606


def _open_all() -> None:
    """What the shell has closed leads nowhere, or the next file that is opened would be somebody's stdout.

    A sign that the terminal's language does not have, or half a sign of a file's name, is spelled out.
    """
    for handle, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, open(handle, "w" if handle else "r", closefd=False))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper) and handle:
            stream.reconfigure(errors="backslashreplace")


def run(words: Sequence[str]) -> int:
    """Run a verb and return its exit code; every failure is one line and a hint on stderr.

    Who reads no further than `head -1` is no failure: the code is the one of a program that was stopped by that.
    """
    if not (log := logging.getLogger("souq")).handlers:
        log.addHandler(_OnStderr(logging.WARNING))
    try:
        with _budget(words).raised().held(f"`souq {' '.join(words[:2])}`"):
            code = souq.main(list(words), prog_name="souq", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        say("Error: stopped by you", "nothing is half done; type the same command again to go on")
        return 1
    except SouqError as error:
        say(f"Error: {error}", error.hint)
        return error.exit_code
    except UnicodeEncodeError as error:  # half a sign: bytes that are no text were typed where text is kept
        word = re.split(r"[\s\"]", error.object[: error.end])[-1]
        say(f"Error: not UTF-8: {word[-80:]!r}", "type it as text; files may be called anything")
        return 2
    except SystemExit:  # how click and rich say that nobody reads what is printed
        return NOBODY_READS
    except OSError as error:
        return _gone(error)
    except Spent as error:
        say(f"Error: {error}", error.hint)
        return 1
    except ModuleNotFoundError as error:
        if (part := missing_part(error)) is None:
            return _fault(words, error)
        say(f"Error: {part}", part.hint)
        return part.exit_code
    except Exception as error:  # what nobody thought of: no person is shown a traceback unasked
        return _fault(words, error)


def _gone(error: OSError) -> int:
    """A disk that is full or does not answer, a reader who left, a folder that may not be written."""
    if isinstance(error, BrokenPipeError):
        return NOBODY_READS
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    say(
        f"Error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}",
        "make room, and type the same again: what was finished is kept" if full else None,
    )
    return 1


def _budget(words: Sequence[str]) -> Budget:
    """What the verb that is typed may cost: those that write, and those that look on, have all the time they need."""
    named = [word for word in words[:2] if not word.startswith("-")]
    if "--watch" in words:
        return FREE
    return BUDGETS.get(" ".join(named)) or BUDGETS.get(named[0] if named else "") or FREE


def _fault(words: Sequence[str], error: Exception) -> int:
    """A line about what should have been an error of the house."""
    kinds = {MemoryError: "more memory than there is", RecursionError: "nested deeper than can be read"}
    what = kinds.get(type(error)) or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    hint = f"this is a fault of souq's own: report it with what `{DEBUG}=1` before the same command prints"
    say(f"Error: `souq {spelled_out(' '.join(words[:2]))}` stopped: {spelled_out(what)}", hint)
    return 1


class _OnStderr(logging.Handler):
    """What the library has to say while it works, such as rows it leaves out: a line each on stderr, for the person."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(spelled_out(record.getMessage()), err=True)


def say(message: str, hint: str | None) -> None:
    """A line on stderr, and what to type next."""
    lines = [message, *([f"Hint: {hint}"] if hint else [])]
    width = terminal_width() if sys.stderr.isatty() else sys.maxsize
    for line in lines:
        click.echo(fit(line, width), err=True)
