"""`souq evaluate`: lend a machine to a project: run the checks that are waited for, sign them, and check each other.

souq evaluate --serve --until-idle
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from souq.cli.console import answer, done, json_option, key_option, out, person
from souq.cli.here import here
from souq.cli.table import table
from souq.governance import Policy, read_policy
from souq.governance.limits import NO_LIMITS
from souq.governance.policy import refuse_stranger
from souq.pulls.evaluating import Job, jobs, standings
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person, now

PATIENCE = 600.0  # seconds until what is another evaluator's first is anybody's
ENDED = {0: "nothing refuses it", 3: "refused"}


@click.command()
@click.option("--serve", is_flag=True, help="Do what there is to do, and keep looking for more.")
@click.option("--until-idle", is_flag=True, help="With --serve: end when there is nothing more, others' work done too.")
@click.option("--again", type=click.IntRange(0, 100), help="Of a hundred that others checked, run so many again.")
@click.option(
    "--every", default=30, show_default=True, type=click.IntRange(1, 3_600), help="Seconds between two looks."
)
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(1), help="The most that one takes.")
@click.option("--gib", default=16, show_default=True, type=click.IntRange(1), help="The most memory, likewise.")
@key_option
@json_option
def evaluate(
    serve: bool, until_idle: bool, again: int | None, every: int, minutes: int, gib: int, key: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Say what waits for evaluators, and whom others' machines contradict; with --serve, check and sign for them."""
    repo = here()
    evaluator = person(repo, key)
    if not serve:
        repo.refresh()
        _show(repo, _todo(repo, evaluator, again), as_json)
        return
    repo.fetch()
    refuse_stranger(_policy(repo), evaluator, now(), hint="evaluators are enrolled: `souq governance amend`")
    _serve(repo, evaluator, again, (every, until_idle), ("--key", str(evaluator.key)), (minutes * 60, gib << 30))


def _policy(repo: Repo) -> Policy:
    return read_policy(Snapshot(repo, repo.tip()).policy_text)


def _todo(repo: Repo, evaluator: Person, again: int | None) -> list[Job]:
    main = Snapshot(repo, repo.tip())
    limits = read_policy(main.policy_text).limits or NO_LIMITS
    return jobs(repo, main, evaluator, again=(limits.spot_checks if again is None else again) / 100)


def _show(repo: Repo, todo: list[Job], as_json: bool) -> None:
    rows = standings(repo, Snapshot(repo, repo.tip()))

    def show() -> None:
        columns = ["evaluator", "ran", "run again by others", "contradicted", "stands alone on"]
        lines = [[r.name, r.ran, r.again, r.contradicted, ", ".join(f"#{n}" for n in r.alone)] for r in rows]
        table(columns, lines, right=columns[1:4]) if rows else done("nobody's machine has run a check")
        for job in todo:
            out.print(
                f"#{job.number} waits{' to be run again' if job.again else ''}{'' if job.mine else ', another first'}"
            )
        done("next: `souq evaluate --serve`" if todo else "nothing waits for you")

    answer({"evaluators": rows, "jobs": todo}, as_json, show)


def _serve(
    repo: Repo, evaluator: Person, again: int | None, looks: tuple[int, bool], words: tuple[str, str],
    bounds: tuple[int, int],
) -> None:  # fmt: skip
    """One after the other, in a process of its own each; what fails here is left to others."""
    every, until_idle = looks
    seen, tried = dict[tuple[int, str], float](), set[tuple[int, str]]()
    while True:
        repo.fetch()
        todo = [job for job in _todo(repo, evaluator, again) if (job.number, repo.tip()) not in tried]
        for job in todo:
            seen.setdefault((job.number, repo.tip()), time.monotonic())
        waited = {job.number: time.monotonic() - seen[job.number, repo.tip()] for job in todo}
        ready = [job for job in todo if job.mine or until_idle or waited[job.number] >= PATIENCE]
        if ready:
            tried.add((ready[0].number, repo.tip()))
            _do(repo, ready[0], words, bounds)
        elif until_idle:
            done("nothing more waits for you")
            return
        else:
            time.sleep(every)


def _do(repo: Repo, job: Job, words: tuple[str, str], bounds: tuple[int, int]) -> None:
    limits = ("souq.hub.jobs.limited", str(os.getpid()), str(bounds[0] + 1), str(bounds[1]))
    verb = ("pr", "checks", str(job.number), *words, "--json", *(("--out-of-turn",) if job.again else ()))
    line = (sys.executable, "-m", *limits, sys.executable, "-m", "souq", *verb)
    try:
        ended = subprocess.run(
            line, cwd=repo.root or repo.git_dir, stdin=subprocess.DEVNULL, capture_output=True, timeout=bounds[0],
            check=False,
        )  # fmt: skip
        lines = ended.stderr.decode("utf-8", "replace").splitlines()
        why = next((each for each in lines if each.startswith("Error")), f"it ended with {ended.returncode}")
        outcome = ENDED.get(ended.returncode, why)
    except subprocess.TimeoutExpired:
        outcome = f"it took more than {bounds[0]} s"
    out.print(f"#{job.number}{' again' if job.again else ''}: {outcome}")
