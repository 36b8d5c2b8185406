"""A bug is a case that fails: who filed it, whether it is still open, which pull requests say they fix it.

A bug is an eval of its own on main, `evals/bug-<n>/`, named after the pull request that filed it. While no landed
contribution fixes it, it is open; once one does, it is guarded like whatever else was fixed, and should that one be
taken back, it is open again. So nothing about a bug is written down but the case.

    for bug in listed(repo, main):
        bug.name, bug.state, bug.claimed
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from souq.errors import Hostile, SouqError, UsageError
from souq.evals.eval import Eval, EvalCase, EvalSpec, read_eval, write_cases
from souq.governance import read_policy
from souq.pulls import pull as pulls
from souq.pulls.offer import Draft
from souq.pulls.pull import PullRequest
from souq.records import Author, Contribution, Digest, Record, digest_of, format_toml, refuse_control
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.text import visible

NAME = re.compile(r"bug-([1-9]\d{0,8})")
State = Literal["filed", "open", "fixed"]


class Bug(Record, frozen=True):
    """One bug: `filed` until it has landed, `open` until something that fixes it has."""

    name: str
    title: str
    state: State
    prompt: str  # of its first case
    expected: str
    cases: int
    by: str = ""
    number: int = 0  # the pull request that filed it
    fixed: str = ""  # the contribution on main that fixes it
    claimed: tuple[int, ...] = ()  # open pull requests that say they fix it
    checked: tuple[int, ...] = ()  # those of them whose claim a machine has found to hold

    @property
    def fix(self) -> str:
        """What fixes it, or says so, in words."""
        if self.fixed:
            return f"fixed by {self.fixed}"
        claims = [f"#{n} {'fixes it' if n in self.checked else 'says it fixes it'}" for n in self.claimed]
        return ", ".join(claims)


MAX_REPORTED = {"prompt": 4_000, "expected": 1_000, "checker": 40, "title": 120, "source": 300}  # characters


class Reported(Record, frozen=True, forbid_unknown_fields=True):
    """A case that somebody says is wrong, and has not signed."""

    prompt: str
    expected: str
    checker: str = ""  # "" for exactly
    title: str = ""
    source: str = ""

    @property
    def values(self) -> dict[str, str]:
        """Every field."""
        return msgspec.structs.asdict(self)

    @property
    def digest(self) -> Digest:
        """What whoever files it has read."""
        return digest_of(self.values)

    @property
    def unseen(self) -> int:
        """How many of its characters nobody sees: joiners, which some writings need, and tags."""
        return sum(len(text) - len(visible(text)) for text in self.values.values())

    def refuse_odd(self) -> None:
        """Say no to what could not be filed, or would be shown as something else than it is.

        Raises:
            UsageError: it is empty or too long, or nobody could ever fix it.
            Hostile: a character in it steers a terminal, or turns writing around.
        """
        for name, most in MAX_REPORTED.items():
            if len(text := getattr(self, name)) > most:
                raise UsageError(f"`{name}` has {len(text):,} characters; at most {most:,} are taken")
        if not self.prompt.strip() or not self.expected.strip():
            raise UsageError("say what was asked, and what should have come")
        refuse_control(self.values, where="the report")
        if any("\ud800" <= letter <= "\udfff" for text in self.values.values() for letter in text):
            raise Hostile("the report: half a character, which no file could hold")
        if any("\n" in text for text in (self.title, self.source)):
            raise UsageError("a title and a source have one line")
        author = Author(name="nobody", email="", key="")
        drafted(1, self.prompt, self.expected, author, title=self.title, checker=self.checker, licence="CC0-1.0")


def drafted(
    number: int,
    prompt: str,
    expected: str,
    author: Author,
    *,
    title: str = "",
    checker: str = "",
    source: str = "",
    licence: str,
) -> Draft:
    """What files one case as bug `number`: an eval nobody may make worse by even one case once it is fixed."""
    spec = EvalSpec(
        title=title or prompt[:60], kind="answer" if checker else "exact", source=source or f"filed by {author.name}",
        licence=licence, margin=0.0, checker=checker,
    )  # fmt: skip
    name, origin = f"bug-{number}", source or author.name
    case = {"id": name, "prompt": prompt, "expected": expected, "source": origin, "licence": licence}
    files = {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases([case])}
    read_eval(name, files)  # what nobody could ever fix is said now
    contribution = Contribution(
        title=f"Bug: {spec.title}", kind="evals", author=author, licence=licence,
        signoff=f"{author.name} <{author.email}>",
    )  # fmt: skip
    return Draft(contribution, evals={f"{name}/{path}": data for path, data in files.items()})


def listed(repo: Repo, main: Snapshot) -> list[Bug]:
    """Every bug of main and every one that waits to land, by number."""
    open_ = [pull for pull in pulls.listed(repo) if pull.state(main) == "open"]
    fixing = {name: offer.slug for offer in main.offers.values() for name in offer.contribution.fixes}
    filers = {eval_.name: offer.contribution.author.name for offer in main.offers.values() for eval_ in offer.evals}
    bugs = []
    for name, eval_ in main.evals.items():
        if NAME.fullmatch(name):
            claiming = [pull for pull in open_ if name in _fixes(pull)]
            bugs.append(_landed(eval_, claiming, main, by=filers.get(name, ""), fixed=fixing.get(name, "")))
    bugs += [bug for pull in open_ if (bug := _filed(pull, main)) is not None]
    return sorted(bugs, key=lambda bug: bug.number)


def _landed(eval_: Eval, claiming: Sequence[PullRequest], main: Snapshot, *, by: str, fixed: str) -> Bug:
    claimed = tuple(pull.number for pull in claiming)
    checked = tuple(pull.number for pull in claiming if _holds(pull, main))
    bug = _bug(eval_, "fixed" if fixed else "open", by)
    return msgspec.structs.replace(bug, fixed=fixed, claimed=claimed, checked=checked)


def _filed(pull: PullRequest, main: Snapshot) -> Bug | None:
    with suppress(SouqError):
        for eval_ in pull.offer.evals if pull.summary.kind == "evals" else ():
            if NAME.fullmatch(eval_.name) and eval_.name not in main.evals:
                return _bug(eval_, "filed", pull.offer.contribution.author.name)
    return None


def _bug(eval_: Eval, state: State, by: str) -> Bug:
    number = NAME.fullmatch(eval_.name)
    case: EvalCase = eval_.cases[0]
    return Bug(
        name=eval_.name,
        title=eval_.spec.title,
        state=state,
        prompt=case.text,
        expected=case.expected,
        cases=len(eval_.cases),
        by=by,
        number=int(number[1]) if number else 0,
    )


def _fixes(pull: PullRequest) -> tuple[str, ...]:
    with suppress(SouqError):  # one nobody can read claims nothing
        return pull.summary.fixes
    return ()


def _holds(pull: PullRequest, main: Snapshot) -> bool:
    """Whether somebody enrolled has run the evals on it and they passed, on main as it is or was."""
    records = pulls.read_checked(pull, read_policy(main.policy_text))
    last = max((record.checked for record in records), key=lambda checked: checked.at, default=None)
    return last is not None and any(v.check == "evals" and v.outcome == "pass" for v in last.verdicts)
