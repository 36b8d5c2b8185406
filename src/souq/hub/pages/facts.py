"""What the pages of one repository show, each from the functions that the verbs print from; all of it bounded.

A repository is looked at as it is at one moment. Nothing here has heard of the web: templates and links are render.py.

    shown = Shown(Repo.find(folder))
    shown.front()["name"], shown.pull(7)["missing"]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from shlex import quote
from threading import RLock
from typing import Any, Protocol, TypeVar

from souq import signing
from souq.audit.evidence import Audit, audit
from souq.audit.mof import CLASSES
from souq.audit.page import badge_svg
from souq.chart import Span, span_chart
from souq.errors import NotFound, SouqError
from souq.evals.eval import IN_NATS
from souq.governance import Policy, read_policy
from souq.governance.explain import explain
from souq.governance.rehearsal import rehearsed
from souq.licences.lineage import judge_main
from souq.licences.questions import duties_in_words
from souq.notebook.pictures import change_map
from souq.notebook.pull_request import PullRequest
from souq.pulls import bugs, queue
from souq.pulls import pull as pulls
from souq.pulls.overview import (
    Overview,
    Trial,
    adapter_lines,
    gathered,
    making,
    overview,
    rebuilt_lines,
    spoken,
    trials,
    vote_commands,
)
from souq.pulls.summaries import Summary, landed
from souq.records import Verdict
from souq.releases.card import check_commands
from souq.releases.scores import charts, scored
from souq.repo.contribution import number_of
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.lockfile import lock_digest

T = TypeVar("T")
Facts = dict[str, Any]
Row = dict[str, Any]

PER_PAGE = 50  # pull requests in one list
FEW = 5  # of a thing on the front page
MOST = 500  # contributions, the newest, that are counted by who brought them
MOST_WORDS = 200  # votes, comments, lines of what is missing; the newest
MOST_MET = 50  # other open pull requests that one is compared with
MAX_DRAWN = 4 << 30  # bytes of a base whose change is drawn: its matrices are read for that
TITLE, TEXT = 200, 4_000  # characters of a title in a list, and of any other text
STATES = ("open", "merged", "closed", "all")


def short(text: str, most: int = TEXT) -> str:
    """As much of a stranger's text as is shown."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


class Reporting(Protocol):
    """What somebody reported on a hub."""

    @property
    def id(self) -> int: ...
    @property
    def by(self) -> str: ...
    @property
    def case(self) -> bugs.Reported: ...


class Known:
    """What several pages of a repository show, read once for all of them as long as none of its refs moves."""

    def __init__(self) -> None:
        self._facts, self._lock = dict[str, Any](), RLock()

    def once(self, name: str, read: Callable[[], T]) -> T:
        """What is read, or was; two threads that ask at once wait for one reading."""
        with self._lock:
            if name not in self._facts:
                self._facts[name] = read()
            facts: T = self._facts[name]
            return facts


class Shown:
    """One repository as it is now; `known` is what is known of it as it is."""

    def __init__(self, repo: Repo, known: Known | None = None) -> None:
        self.repo, self.main, self._known = repo, Snapshot(repo, repo.tip()), known or Known()

    @cached_property
    def policy(self) -> Policy:
        return read_policy(self.main.policy_text)

    @cached_property
    def listed(self) -> list[PullRequest]:
        """Every pull request, the oldest first."""
        return [PullRequest(self.repo, self.main, pull) for pull in pulls.listed(self.repo)]

    @property
    def rows(self) -> list[Row]:
        """The same as a table, the newest first; those that cannot be read are in it."""
        return self._known.once("rows", self._rows)

    def _rows(self) -> list[Row]:
        # In their own order: git is asked for the records of those that follow at once.
        return [self._row(pull) for pull in self.listed][::-1]

    def _row(self, pull: PullRequest) -> Row:
        row = pull.row()
        return row | {"title": short(str(row["title"]), TITLE), "author": short(str(row["author"]), 80)}

    @property
    def bugs(self) -> list[Row]:
        """Every bug; the open ones come first."""
        return self._known.once("bugs", self._bugs)

    def _bugs(self) -> list[Row]:
        listed = sorted(bugs.listed(self.repo, self.main), key=lambda bug: (bug.state == "fixed", -bug.number))
        return [
            {
                "name": bug.name, "number": bug.number, "state": bug.state, "title": short(bug.title, TITLE),
                "prompt": short(bug.prompt), "expected": short(bug.expected, TITLE), "by": short(bug.by, 80),
                "fix": bug.fix, "claimed": bug.claimed, "fixed": number_of(bug.fixed)[0] if bug.fixed else 0,
            }
            for bug in listed
        ]  # fmt: skip

    @property
    def releases(self) -> list[Row]:
        """The releases whose signatures hold, the newest first."""
        read = lambda: [row | {"yanked": short(row["yanked"], TITLE)} for row in scored(self.main)][::-1]  # noqa: E731
        return self._known.once("releases", read)

    @property
    def counts(self) -> Mapping[str, int]:
        """Pull requests by state."""
        return Counter(row["state"] for row in self.rows)

    # -- one function a page

    def card(self) -> Facts:
        """The repository in a list of others."""
        config, newest = self.main.config, next(iter(self.releases), None)
        return {
            "title": short(config.name, TITLE), "base": short(config.base, TITLE), "licence": short(config.licence, 80),
            "open": self.counts["open"], "merged": self.counts["merged"],
            "bugs": sum(bug["state"] != "fixed" for bug in self.bugs),
            "release": newest, "releases": len(self.releases), "badge": badge_svg(self._audit()),
            "moved": self.repo.summary(self.main.commit)[1][:10], "people": len(self._people()),
        }  # fmt: skip

    def front(self) -> Facts:
        """What it is, its newest release, scores, bugs, who brings what, what its licences ask."""
        config, main = self.main.config, self.main
        signed = self.releases
        open_ = [bug for bug in self.bugs if bug["state"] != "fixed"]
        return {
            "config": config, "commit": main.commit, "model": lock_digest(main.model),
            "counts": {"tensors": len(main.model), "contributions": len(main.offers), "evals": len(main.exam)},
            "pulls": self.counts, "newest": next(iter(signed), None), "charts": charts(main, signed[::-1]),
            "scores": _scores(signed), "bugs": open_[:FEW], "bug_count": len(open_), "people": self._people()[:FEW],
            "badge": badge_svg(self._audit()), "waiting": [row for row in self.rows if row["state"] == "open"][:FEW],
            "root": self.root, "licences": self._licences(),
            "revision": quote(f"v{signed[0]['version']}") if signed else "",
        }  # fmt: skip

    def pulls(self, state: str, page: int) -> Facts:
        """Pull requests in one state, the newest first, fifty to a page.

        Raises:
            NotFound: no such state, or no such page.
        """
        wanted = [row for row in self.rows if state == "all" or _bucket(row["state"]) == state]
        pages = max(1, -(-len(wanted) // PER_PAGE))
        if state not in STATES or not 1 <= page <= pages:
            raise NotFound("no such page of pull requests")
        rows = wanted[(page - 1) * PER_PAGE : page * PER_PAGE]
        return self.every_pull(0) | {"rows": rows, "state": state, "page": page, "pages": pages}

    def every_pull(self, most: int) -> Facts:
        """The newest pull requests in whatever state, on one page."""
        counts = Counter(_bucket(row["state"]) for row in self.rows) | Counter({"all": len(self.rows)})
        states = [(name, counts[name]) for name in STATES]
        return {"rows": self.rows[:most], "state": "all", "page": 1, "pages": 1, "states": states}

    def pull(self, number: int) -> Facts:
        """One pull request; what nobody can read is said there.

        Raises:
            NotFound: there is none of that number.
        """
        pull = self.pull_request(number)
        facts: Facts = {"row": self._row(pull), "about": None, "problem": "", "to_type": (), "missing": []}
        try:
            facts |= self._about(overview(pull.pull, self.main), pull)
        except SouqError as error:
            facts["problem"] = short(str(error))
        return facts

    def pull_request(self, number: int) -> PullRequest:
        """One pull request by its number.

        Raises:
            NotFound: there is none.
        """
        return PullRequest(self.repo, self.main, pulls.get(self.repo, number))

    def _about(self, about: Overview, pull: PullRequest) -> Facts:
        c, last = about.contribution, about.checked[-1:]
        verdicts = [verdict for checked in last for verdict in checked.verdicts][:MOST_WORDS]
        tried = trials(verdicts)
        return {
            "about": c, "row": self._row(pull) | {"state": about.state}, "provenance": short(c.provenance),
            "making": [*adapter_lines(c.recipe), *making(c.recipe), *rebuilt_lines(about.rebuilt[:MOST_WORDS])],
            "source": about.source, "checked": last[0] if last else None, "verdicts": [_verdict(v) for v in verdicts],
            "trials": tried, "units": self._units, "claims": {*c.fixes}, "intervals": _intervals(tried, self._units),
            "answers": [each for verdict in verdicts if verdict.check == "evals" for each in spoken(verdict.evidence)],
            "words": [
                {"by": word.by, "choice": word.choice, "reason": short(word.reason), "uncounted": word.uncounted}
                for word in about.words[:MOST_WORDS]
            ],
            "turned_away": about.turned_away.text(short).splitlines() if about.turned_away else [],
            "eyes": about.eyes, "missing": gathered(about.missing, about.number)[:MOST_WORDS],
            "comments": about.comments[-MOST_WORDS:], "met": self._met(pull) if about.state == "open" else [],
            "to_type": _commands(about), "drawn": c.kind == "weights" and self._is_small(),
        }  # fmt: skip

    def picture(self, number: int) -> str:
        """What one moves, layers down and modules across, as an SVG; "" where there is nothing to draw.

        Raises:
            NotFound: there is none of that number, or its tensors are not here.
        """
        return change_map(self.pull_request(number).diff()) if self._is_small() else ""

    def queue(self) -> Facts:
        """Who waits to be merged, and who was set aside."""
        rows = queue.rows(self.repo, self.main, queue.now(self.repo))
        return {
            "queue": [
                {
                    "number": row["#"], "title": short(row["title"], TITLE), "author": short(row["author"], 80),
                    "since": row["since"], "state": short(row["state"], TITLE),
                }
                for row in rows
            ]
        }  # fmt: skip

    def release_list(self) -> Facts:
        """Every release, and how to check one."""
        signed = self.releases
        commands = check_commands(signed[0]["version"], self.root) if signed else ()
        return {"releases": signed, "charts": charts(self.main, signed[::-1]), "to_type": commands}

    def release(self, version: str) -> Facts:
        """One release.

        Raises:
            NotFound: there is none, or its signature does not hold.
        """
        rows = self.releases
        place = next((i for i, row in enumerate(rows) if row["version"] == version), None)
        if place is None:
            raise NotFound("no such release, or its signature does not hold")
        before = rows[place + 1]["scores"] if place + 1 < len(rows) else {}
        return {
            "release": rows[place], "to_type": check_commands(version, self.root), "before": before,
            "units": self._units,
        }  # fmt: skip

    def bug_list(self, reported: Iterable[Reporting] = ()) -> Facts:
        """Bugs that are open or filed, then those that are fixed; and what was reported and nobody has filed."""
        filed = {(row["prompt"], row["expected"]) for row in self.bugs}
        rows = [
            {
                "number": each.id, "title": short(each.case.title or each.case.prompt, TITLE), "by": short(each.by, 80),
                "prompt": short(each.case.prompt), "expected": short(each.case.expected, TITLE),
            }
            for each in reported
        ]  # fmt: skip
        return {"bugs": self.bugs, "reported": [row for row in rows if (row["prompt"], row["expected"]) not in filed]}

    def governance(self) -> Facts:
        """The policy in words, and who may do what."""
        lines = [*explain(self.policy), *rehearsed(self.policy, signing.now())]
        return {
            "warnings": [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")],
            "lines": [line for line in lines if not line.startswith("warning: ")],
            "who": [
                {"name": person.name, "org": person.org, **self._may(person.name)}
                for person in self.policy.person
            ],
        }  # fmt: skip

    def _may(self, name: str) -> Row:
        """Somebody's roles, the scopes in which their yes is asked for, and those in which their no stands alone."""
        roles = [role.name for role in self.policy.role if name in role.members]
        approves = [scope.name for scope in self.policy.scope if name in self.policy.asked(scope)]
        vetoing = [s.name for s in self.policy.scope if s.veto and name in self.policy.members(s.veto.role)]
        return {"roles": roles, "approves": approves, "vetoes": vetoing}

    def contributors(self) -> Facts:
        """Who brought what."""
        return {"people": self._people(), "most": MOST}

    def openness(self) -> Facts:
        """The audit of the repository, cell by cell."""
        judged = self._audit()
        groups = [
            ("The European index's fourteen dimensions", judged.cells),
            ("The Model Openness Framework's seventeen components", judged.components),
        ]
        return {"audit": judged, "groups": groups, "classes": CLASSES}

    # -- what they are made of

    @cached_property
    def root(self) -> str:
        return self.repo.history(self.main.commit)[0]

    @cached_property
    def _units(self) -> dict[str, str]:
        return {name: "nats" if suite.spec.kind in IN_NATS else "" for name, suite in self.main.evals.items()}

    def _audit(self) -> Audit:
        place = self.repo.root or self.repo.git_dir
        return self._known.once("audit", lambda: audit(place, today=signing.now()[:10]))

    def _is_small(self) -> bool:
        return sum(ref.nbytes for ref in self.main.base.values()) <= MAX_DRAWN

    def _people(self) -> list[Row]:
        """Who brought what to main, who brought most first; names are the policy's where it knows the key."""
        return self._known.once("people", self._read_people)

    def _read_people(self) -> list[Row]:
        brought: dict[str, list[Summary]] = {}
        for offered in landed(self.main, MOST):
            brought.setdefault(self._whose(offered)[0], []).append(offered)
        rows = [
            {
                "name": short(self._whose(mine[0])[1], 80), "org": short(self._whose(mine[0])[2], 80),
                "enrolled": self._whose(mine[0])[3], "count": len(mine),
                "kinds": Counter(each.kind for each in mine).most_common(),
                "fixes": sorted({name for each in mine for name in each.fixes})[:FEW],
            }
            for mine in brought.values()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row["count"], row["name"]))

    def _whose(self, offered: Summary) -> tuple[str, str, str, bool]:
        """Whose a contribution is: one word for all their keys, their name, their organisation, whether enrolled."""
        author = offered.author
        with suppress(SouqError):  # what they gave as a key may be none
            if (person := self.policy.person_of(author.key)) is not None:
                return f"person {person.name}", person.name, person.org, True
        return f"key {author.key}", author.name, author.org, False

    def _met(self, pull: PullRequest) -> list[Row]:
        """Other open pull requests that change the same tensors: which, and how many."""
        if (delta := pull.pull.offer.delta) is None:
            return []
        others = [row for row in self.rows if (row["state"], row["kind"]) == ("open", "weights")]
        rows = []
        for row in [each for each in others if each["number"] != pull.number][:MOST_MET]:
            with suppress(SouqError):
                theirs = self.pull_request(row["number"]).pull.offer.delta
                if theirs is not None and (both := delta.parts.keys() & theirs.parts.keys()):
                    rows.append(row | {"tensors": len(both), "of": len(delta.parts)})
        return rows

    def _licences(self) -> Facts:
        assessment = judge_main(self.main)
        return {
            "verdict": assessment.verdict, "duties": duties_in_words(assessment)[:MOST_WORDS],
            "made_of": [
                {"relation": item.relation, "name": short(item.name, TITLE), "licence": short(item.licence, 80),
                 "verdict": cell.verdict, "because": short(cell.because, TITLE)}
                for item, cell in assessment.cells[:MOST_WORDS]
            ],
        }  # fmt: skip


def _bucket(state: str) -> str:
    """A pull request that was taken back did land, and is no longer on main."""
    return "closed" if state == "taken back" else state


def _scores(signed: list[Row]) -> list[tuple[str, float, float | None]]:
    """Each eval of the newest release: its score, and what the release before scored."""
    if not signed:
        return []
    earlier = signed[1]["scores"] if len(signed) > 1 else {}
    return [(name, value, earlier.get(name)) for name, value in sorted(signed[0]["scores"].items())][:MOST_WORDS]


def _verdict(verdict: Verdict) -> Row:
    return {"check": short(verdict.check, 80), "outcome": verdict.outcome, "because": short(verdict.because)}


def _intervals(tried: Iterable[Trial], units: Mapping[str, str]) -> list[tuple[str, str]]:
    """(title, SVG) of the gains with their intervals: points of right answers, and nats, each on a scale of its own."""
    titles = {"": "Gain in right answers, as a share", "nats": "Gain in nats a token"}
    spans: dict[str, list[Span]] = {unit: [] for unit in titles}
    for trial in tried:
        spans[units.get(trial.eval, "")].append(Span(name=trial.eval, low=trial.low, at=trial.gain, high=trial.high))
    return [(title, span_chart(spans[unit], title)) for unit, title in titles.items() if spans[unit]]


def _commands(about: Overview) -> tuple[str, ...]:
    """What whoever may decide types; nothing where nobody is asked any more."""
    if about.state != "open":
        return ()
    approve = vote_commands(about.number, about.digest)
    return (
        (*approve[:-1], f"souq election ballot {about.number} NAME")
        if about.contribution.kind == "election"
        else approve
    )
