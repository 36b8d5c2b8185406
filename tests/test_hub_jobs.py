"""Jobs of a hub: asked for, done by workers that may be killed at any time, finished once; on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from souq.cli import run
from souq.errors import NotFound, Refused, UsageError
from souq.hub.accounts.trail import OPERATOR, By, changes
from souq.hub.catalog import Catalog
from souq.hub.database import Database
from souq.hub.huggingface.contents import Contents
from souq.hub.jobs.store import MOST_EACH, MOST_TRIES, Jobs
from souq.hub.jobs.worker import Bounds, Command, Keys, Worker, commands
from tests.browsing import PASSWORD, Browser, opened
from tests.hubs import ALL_KILLS, NAME, eventually

QUICK = Bounds(seconds=30, lease=60, beat=0.1)


@pytest.fixture
def jobs(database_url):
    store = Jobs(Database(database_url))
    yield store
    store.database.close()


def does(code, tmp_path):
    """Every job is this code."""
    return lambda job: Command((sys.executable, "-c", code, str(job.id)), tmp_path)


def worked(jobs, command, bounds=QUICK):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        Worker(jobs, command, bounds).run(until_idle=True)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def asked(jobs, count, kind="look"):
    return [jobs.ask(kind, "atlas/smol", number + 1, by=By(f"ada{number}")) for number in range(count)]


def test_cheap_jobs_go_first_and_the_same_job_waits_once(jobs):
    """A costly check never holds up a quick look; asking twice is asking once."""
    slow = jobs.ask("checks", "atlas/smol", 1, by=OPERATOR)
    quick = jobs.ask("look", "atlas/smol", 1, by=OPERATOR)

    assert jobs.ask("checks", "atlas/smol", 1, by=By("ada")).id == slow.id
    assert [jobs.take(30).id, jobs.take(30).id, jobs.take(30)] == [quick.id, slow.id, None]
    assert [each.what for each in changes(jobs.database, 10)] == ["job asked for"] * 2


def test_a_job_is_finished_by_who_holds_it_and_once(jobs):
    """A worker that was silent too long says what it likes: the job is another's, and has one result."""
    asked(jobs, 1)
    slow = jobs.take(-5)
    other = jobs.take(30)

    assert (other.id, other.tries) == (slow.id, 2)
    assert not jobs.hold(slow, 30, "late")
    assert not jobs.finish(slow, "done", "late", result="late")
    assert jobs.finish(other, "done", "log", result="{}")
    assert not jobs.finish(other, "failed", "again")
    assert jobs.said_by(other.id) == ("log", "{}")
    assert jobs.take(30) is None


def test_a_job_that_outlives_its_workers_is_given_up(jobs):
    """What kills every worker does not do so for ever."""
    asked(jobs, 1)
    for _ in range(MOST_TRIES):
        assert jobs.take(-5) is not None

    assert jobs.take(-5) is None
    (job,) = jobs.listed()
    assert (job.state, job.because) == ("failed", f"{MOST_TRIES} workers fell silent over it")


def test_a_job_that_kills_its_worker_holds_up_no_other(jobs):
    """It waits behind those that nobody has tried."""
    first, second = asked(jobs, 2)
    assert jobs.take(-5).id == first.id

    assert [jobs.take(30).id, jobs.take(30).id] == [second.id, first.id]


def test_what_is_refused_asks_for_nothing(jobs):
    for kind, name, number in (("rm", NAME, 1), ("look", "../x", 1), ("look", NAME, 0), ("look", "a'; DROP", 1)):
        with pytest.raises(UsageError):
            jobs.ask(kind, name, number, by=OPERATOR)
    for number in range(MOST_EACH):
        jobs.ask("look", NAME, number + 1, by=By("ada"))
    with pytest.raises(Refused, match="wait already"):
        jobs.ask("look", NAME, 99, by=By("ada"))
    with pytest.raises(NotFound):
        jobs.cancel(2**40, by=OPERATOR)
    assert len(jobs.listed(100)) == MOST_EACH


def test_what_a_job_writes_and_finds_is_kept_and_harmless(jobs, tmp_path):
    """A stranger's words in a log steer no terminal; what the hub's own environment holds, no job sees."""
    os.environ["SOUQ_HUB_DATABASE"] = "secret"
    code = "import os,sys; sys.stderr.write('one\\n\\x1b[2Jtwo\\n'); print('SOUQ_HUB_DATABASE' in os.environ)"
    (job,) = asked(jobs, 1)
    try:
        worked(jobs, does(code, tmp_path))
    finally:
        del os.environ["SOUQ_HUB_DATABASE"]

    assert jobs.get(job.id).state == "done"
    assert jobs.said_by(job.id) == ("one\n\\u001b[2Jtwo", "False\n")


@pytest.mark.parametrize(
    ("code", "because"),
    [
        ("import time; time.sleep(60)", "more than 0 s"),
        ("x = bytearray(1 << 30)", "ended with 1"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("print('x' * 2_000_000)", "found more than"),
        ("import sys; sys.exit('Error: no such thing')", "no such thing"),
    ],
)
def test_a_job_that_goes_wrong_fails_and_says_why(tmp_path, code, because):
    """Too long, too large, killed, or its own error: each ends, and the next job is done."""
    jobs = Jobs(Database(f"sqlite:///{tmp_path}/hub.sqlite"))
    (job,) = asked(jobs, 1)
    worked(jobs, does(code, tmp_path), Bounds(seconds=0.4 if "sleep" in code else 20, memory=512 << 20, beat=0.1))

    assert (jobs.get(job.id).state, because in jobs.get(job.id).because) == ("failed", True), jobs.get(job.id)


def test_a_cancelled_job_ends_at_once(tmp_path):
    """Its process is gone, and nothing that it found is kept."""
    url, mark = f"sqlite:///{tmp_path}/hub.sqlite", tmp_path / "pid"
    jobs = Jobs(Database(url))
    (job,) = asked(jobs, 1)
    code = f"import os,time; open({str(mark)!r},'w').write(str(os.getpid())); time.sleep(60); print('found')"
    worker = started(url, code, tmp_path)
    pid = int(eventually(lambda: mark.is_file() and mark.read_text()))
    jobs.cancel(job.id, by=OPERATOR)

    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert (jobs.get(job.id).state, jobs.said_by(job.id)[1]) == ("cancelled", "")
    with pytest.raises(Refused):
        jobs.cancel(job.id, by=OPERATOR)
    worker.terminate()
    assert worker.wait(10) == 0


def test_a_worker_that_is_told_to_end_gives_its_job_back(tmp_path):
    url, mark = f"sqlite:///{tmp_path}/hub.sqlite", tmp_path / "pid"
    jobs = Jobs(Database(url))
    (job,) = asked(jobs, 1)
    worker = started(url, f"import time; open({str(mark)!r},'w'); time.sleep(60)", tmp_path)
    eventually(mark.is_file)
    worker.terminate()

    assert worker.wait(10) == 0
    assert (jobs.get(job.id).state, jobs.get(job.id).tries) == ("waiting", 0)


# -- kill -9 -----------------------------------------------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
from souq.hub.database import Database
from souq.hub.huggingface.contents import Contents
from souq.hub.jobs.store import Jobs
from souq.hub.jobs.worker import Bounds, Command, Keys, Worker
url, code, folder = sys.argv[1:]
command = lambda job: Command((sys.executable, "-S", "-c", code, str(job.id)), Path(folder))
Worker(Jobs(Database(url)), command, Bounds(seconds=30, lease=1, beat=0.2)).run()
"""


def started(url, code, folder):
    return subprocess.Popen([sys.executable, "-c", WORKER, url, code, str(folder)])


def killed(jobs, url, folder, *, kills, count):
    """So many workers killed in the middle of so many jobs: every job is finished once."""
    chance = random.Random(7)
    asked_for = asked(jobs, count)
    code = "import sys,time; time.sleep(.15); open('ran','a').write(sys.argv[1]+'\\n'); time.sleep(.15); print(sys.argv[1])"
    over = set()
    holders = lambda: {job.holder for job in jobs.listed(100, going=True)} - {""}  # noqa: E731
    middle = 0
    for _ in range(kills):
        before = holders()
        worker = started(url, code, folder)
        try:
            eventually(lambda before=before: holders() - before)  # it holds one itself, beside those of who was killed
            time.sleep(chance.uniform(0, 0.3))
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        middle += bool(holders() - before)
        over |= {job for job in jobs.listed(100) if job.state == "done"}
    worker = started(url, code, folder)
    eventually(lambda: not jobs.listed(100, going=True))
    worker.terminate()
    worker.wait()
    ended = jobs.listed(100)
    assert Counter(job.state for job in ended) == {"done": count}
    assert over <= {*ended}  # what was done once stayed as it was
    for job in asked_for:
        assert jobs.said_by(job.id)[1].strip() == str(job.id)
    return middle, sum(job.tries for job in ended)


def test_killed_workers_lose_no_job(jobs, database_url, tmp_path):
    """Workers killed in the middle, 30 of them by `make hub-kills`: every job is done once, with its whole result."""
    kills = 30 if ALL_KILLS else 4
    middle, tries = killed(jobs, database_url, tmp_path, kills=kills, count=kills + 4)

    assert middle >= (20 if ALL_KILLS else 1)
    assert tries == kills + 4 + middle


# -- of a real pull request --------------------------------------------------------------------------------------------


def test_a_worker_checks_a_pull_request_and_signs_nothing(hub_town, tmp_path, capfd):
    """What it finds says of what, on which main; the repository is as it was."""
    jobs = Jobs(Database(f"sqlite:///{tmp_path}/hub.sqlite"))
    repository = hub_town.shelf / "atlas" / "smol.git"
    before = subprocess.check_output(["git", "-C", repository, "for-each-ref"])
    good = jobs.ask("look", NAME, hub_town.open, by=OPERATOR)
    bad = jobs.ask("look", NAME, hub_town.hostile, by=OPERATOR)
    gone = jobs.ask("look", NAME, 999, by=OPERATOR)
    nowhere = jobs.ask("look", "atlas/none", 1, by=OPERATOR)
    worked(jobs, commands(Catalog(hub_town.shelf), tmp_path), Bounds(lease=60))

    states = [jobs.get(job.id).state for job in (good, bad, gone, nowhere)]
    assert states == ["done", "done", "failed", "failed"], [jobs.said_by(job.id) for job in (good, bad, gone)]
    looked = json.loads(jobs.said_by(good.id)[1])
    assert looked["subject"].startswith("b3:")
    assert {verdict["outcome"] for verdict in looked["verdicts"]} <= {"pass", "needs-eyes"}
    assert "refuse" in {verdict["outcome"] for verdict in json.loads(jobs.said_by(bad.id)[1])["verdicts"]}
    assert subprocess.check_output(["git", "-C", repository, "for-each-ref"]) == before


def test_what_a_job_builds_is_what_clients_are_given(site, hub_town, tmp_path):
    """Main, and a pull request in it, byte for byte; what a check refuses, and what is not there, is not built."""
    jobs = Jobs(Database(f"sqlite:///{tmp_path}/hub.sqlite"))
    main, good, bad, gone = (jobs.ask("build", NAME, number, by=OPERATOR) for number in (0, hub_town.open, hub_town.hostile, 999))  # fmt: skip
    how = commands(Catalog(hub_town.shelf), tmp_path, Keys(papers=hub_town.bazaar.actors["amira"].key))
    worked(jobs, how, Bounds(lease=60))

    states = [(jobs.get(job.id).state, jobs.get(job.id).because[:30]) for job in (main, good, bad, gone)]
    assert [state for state, _ in states] == ["done", "done", "failed", "failed"], states
    assert states[2][1].startswith(f"Error: pull request {hub_town.hostile}")
    for job, rev in ((main, "main"), (good, f"refs%2Fpr%2F{hub_town.open}")):
        made = json.loads(jobs.said_by(job.id)[1])
        listing = Contents(tmp_path / "contents", 1 << 30).get(made["revision"])
        facts = site.ask(f"/api/models/{NAME}/revision/{rev}").json
        assert facts["sha"] == made["revision"]
        assert len(facts["siblings"]) == made["files"] == len(listing)
        for path, file in listing.items():
            given = site.ask(f"/{NAME}/resolve/{rev}/{path}").body
            assert hashlib.sha256(given).hexdigest() == file.sha256, path


@pytest.mark.slow
def test_a_hub_has_its_job_done_and_its_worker_ends_with_it(hub_town, tmp_path):
    """By the verb as it is typed; killed or told to end, it leaves no worker behind."""
    words = [sys.executable, "-m", "souq", "hub"]
    serve = [*words, "--repos", hub_town.shelf, "--data", tmp_path / "data", "--port", "0", "--json"]
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        hub = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        hub.stdout.readline()
        add = [*words, "job", "add", "look", NAME, str(hub_town.open), "--data", tmp_path / "data", "--json"]
        job = json.loads(subprocess.check_output(add))["id"]
        jobs = Jobs(Database(f"sqlite:///{tmp_path}/data/hub.sqlite"))
        eventually(lambda jobs=jobs, job=job: jobs.get(job).state == "done")
        (worker,) = Path(f"/proc/{hub.pid}/task/{hub.pid}/children").read_text().split()
        hub.send_signal(how)

        assert hub.wait(30) == code
        eventually(lambda worker=worker: not Path(f"/proc/{worker}/exe").exists(), 10)
        jobs.database.close()


def test_an_operator_asks_for_jobs_by_verbs(tmp_path, capsys):
    """Each verb answers a program, too."""

    def souq(*words):
        code = run(["hub", *words, "--data", str(tmp_path), "--json"])
        return json.loads(shown) if (shown := capsys.readouterr().out) and code == 0 else code

    made = souq("job", "add", "look", NAME, "7")
    assert [each["id"] for each in souq("job", "list")] == [made["id"]]
    assert souq("job", "show", str(made["id"]))["job"]["state"] == "waiting"
    assert souq("job", "cancel", str(made["id"])) == {"job": made["id"]}
    assert souq("job", "list") == []
    assert souq("job", "cancel", str(made["id"])) != 0
    assert souq("job", "add", "look", NAME) != 0
    assert souq("job", "add", "build", NAME)["number"] == 0


# -- its pages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ada(site):
    if "ada" not in {each.name for each in site.app.state.accounts.every()}:
        opened(site.app.state.accounts, "ada", "mallory")
    browser = Browser(site.url)
    assert browser.sign_in("ada", PASSWORD).status == 200
    return browser


def test_who_has_an_account_has_a_pull_request_looked_at_and_follows_it(site, ada, hub_town, tmp_path):
    """The page comes by itself while it waits, then says what was found, of what, and that nobody signed it."""
    page = f"/{NAME}/pulls/{hub_town.open}/jobs"
    assert page.encode() in site.ask(page.removesuffix("/jobs")).body
    assert b"Sign in" in site.ask(page).body
    waiting = ada.send(page, page, kind="look")

    number = re.search(rb"<h1>Job (\d+)", waiting.body)[1].decode()
    assert b"<b>waiting</b>" in waiting.body
    assert waiting.headers["refresh"] == "2"
    worked(site.app.state.jobs, commands(Catalog(hub_town.shelf), tmp_path), Bounds(lease=60))
    done = site.ask(f"/jobs/{number}")
    assert b"<b>done</b>" in done.body
    assert b"signed by nobody" in done.body
    assert b'<th scope="row"><bdi class="said">signoff</bdi>' in done.body
    assert "refresh" not in {name.lower() for name in done.headers}
    assert f"/jobs/{number}".encode() in site.ask("/jobs").body
    assert b"<script" not in done.body


def test_a_job_is_cancelled_by_who_asked_and_by_no_other(site, ada, hub_town):
    """Neither by who is not signed in, nor by another account, nor by another site's page."""
    jobs = site.app.state.jobs
    job = jobs.ask("checks", NAME, hub_town.open, by=By("ada"))
    address = f"/jobs/{job.id}/cancel"
    other = Browser(site.url)
    other.sign_in("mallory", PASSWORD)
    seal = other.hidden("/account", "/logout")

    assert b"Cancel it" not in other.ask(f"/jobs/{job.id}").body
    assert other.post(address, seal).status == 403
    fields = ada.hidden(f"/jobs/{job.id}", address)
    assert ada.post(address, fields, Origin="http://elsewhere.example").status == 403
    assert ada.post(address, {"seal": "x"}).status == 403
    assert jobs.get(job.id).state == "waiting"
    assert b"<b>cancelled</b>" in ada.post(address, fields).body


def test_all_checks_are_for_who_may_write_there(site, ada, hub_town):
    page = f"/{NAME}/pulls/{hub_town.open}/jobs"
    fields = ada.hidden(page, page)

    assert ada.post(page, fields | {"kind": "checks"}).status == 403
    assert ada.post(page, fields | {"kind": "rm -rf"}).status in (400, 403)
    assert ada.post(page.replace("smol", "none"), fields | {"kind": "look"}).status == 404
    assert site.ask("/jobs/999999").status == 404
    assert site.app.state.jobs.listed(100, going=True) == []


def test_a_build_is_for_who_may_write_there(site, ada, hub_town):
    """Of main or of a pull request; they have it from the page of the job, as the digits of a revision."""
    accounts, of_main, of_pull = site.app.state.accounts, f"/{NAME}/jobs", f"/{NAME}/pulls/{hub_town.open}/jobs"
    fields = ada.hidden(of_pull, of_pull)
    for page in (of_main, of_pull):
        assert ada.post(page, fields | {"kind": "build"}).status == 403
        assert b"<option>build" not in ada.ask(page).body
    accounts.add_organisation("atlas", by=OPERATOR)
    accounts.join("atlas", "ada", by=OPERATOR)
    try:
        assert ada.post(of_main, fields | {"kind": "checks"}).status == 403
        jobs = [re.search(rb"<h1>Job (\d+)", ada.send(page, page, kind="build").body)[1].decode() for page in (of_main, of_pull)]  # fmt: skip
        data = site.app.state.huggingface.incoming.parent
        worked(site.app.state.jobs, commands(Catalog(hub_town.shelf), data), Bounds(lease=60))
        for number in jobs:
            body = ada.ask(f"/jobs/{number}").body.decode()
            assert "What it built" in body
            revision = re.search(r"--revision ([0-9a-f]{40})", body)[1]
            assert site.ask(f"/api/models/{NAME}/revision/{revision}").json["sha"] == revision
    finally:
        accounts.leave("atlas", "ada", by=OPERATOR)


def test_nothing_that_a_job_writes_or_finds_is_markup(site, hub_town):
    """A stranger's files say what they like in a log, and in what is said of them."""
    jobs, evil = site.app.state.jobs, "<script>alert(1)</script>\u202e<img src=x onerror=alert(1)>"
    verdict = {"check": evil, "outcome": "refuse", "because": evil}
    for result in (
        json.dumps({"subject": evil, "base": evil, "verdicts": [verdict] * 500, "by": evil}),
        evil,
        "[" * 100_000,
        json.dumps({"verdicts": 7}),
        json.dumps({"revision": evil, "model": evil, "files": 1 << 60, "bytes": -1}),
    ):
        job = jobs.ask("look", NAME, hub_town.open, by=By(evil))
        assert jobs.finish(jobs.take(30), "done", evil * 50, result=result, because=evil)
        answer = site.ask(f"/jobs/{job.id}")
        assert answer.status == 200
        assert b"<script" not in answer.body
        assert b"<img" not in answer.body
        assert "\u202e" not in answer.body.decode()
        assert len(answer.body) < 400_000
