"""A hub that runs for years: several processes, health and figures, lines of JSON, an end in peace, and a backup."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from prometheus_client.parser import text_string_to_metric_families

from souq.cli import run
from souq.errors import Corrupt, Hostile, UsageError
from souq.hub.accounts.store import Accounts
from souq.hub.accounts.trail import OPERATOR
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.hub.database import Database, url_in
from souq.hub.jobs.store import Jobs
from souq.hub.running import backup as backups
from souq.hub.running.doctor import looked_at
from souq.hub.running.observed import kind_of
from souq.hub.running.unit import Machine, container, unit
from tests.hubs import NAME, Site, eventually, serving


@contextmanager
def started(*words, **env):
    """`souq hub` in a process of its own: its address, the process, and what it writes to stderr."""
    line = [sys.executable, "-m", "souq", "hub", "--port", "0", "--json", *map(str, words)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env)
    text = ""
    while not text.rstrip().endswith("}"):
        part = process.stdout.readline()
        assert part, process.stderr.read()
        text += part
    try:
        yield json.loads(text)["url"], process
    finally:
        process.kill()
        process.wait()


def ask(url, **headers):
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers.items()), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers.items()), error.read()
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.05)  # it listens, and does not answer yet
    raise AssertionError(url)


@pytest.fixture(scope="module")
def place(hub_town, tmp_path_factory):
    """A hub's folders with a governed repository, a plain one and an account."""
    folder = tmp_path_factory.mktemp("running")
    (folder / "models" / "atlas").mkdir(parents=True)
    shutil.copytree(hub_town.shelf / "atlas" / "smol.git", folder / "models" / "atlas" / "smol.git")
    app = application(Catalog(folder / "models"), folder / "data")
    with serving(app) as url:
        api = HfApi(url, token=Site(url, app, None).token("amira"))
        api.create_repo("amira/notes")
        api.upload_file(path_or_fileobj=os.urandom(24 << 20), path_in_repo="large.bin", repo_id="amira/notes")
    return folder


def words(place):
    return "--repos", place / "models", "--data", place / "data"


def test_several_processes_answer_as_one(place):
    """Two processes share an address and their figures; one that is killed is replaced; all end when they are told to."""
    with started(*words(place), "--processes", 2, "--logs") as (url, process):
        for _ in range(20):
            assert ask(f"{url}/health")[0] == 200
        assert json.loads(ask(f"{url}/health")[2]) == {"ok": True, "database": True, "repositories": True}
        figures = ask(f"{url}/metrics")[2].decode()
        counted = {family.name: family for family in text_string_to_metric_families(figures)}
        samples = counted["souq_hub_requests"].samples
        assert sum(sample.value for sample in samples if sample.labels["kind"] == "health") >= 21
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.stderr.read().splitlines() if line.startswith("{")]
        assert process.wait(20) == 0
        assert len(children) >= 2
        assert len({line["pid"] for line in lines if line["what"] == "request"}) >= 1
        assert not (place / "data" / "figures").exists()


def test_a_line_for_each_request(place):
    """JSON with the id that the proxy gave; a path that would begin another line or steer a terminal does not."""
    with started(*words(place), "--logs") as (url, process):
        status, headers, _ = ask(f"{url}/{NAME}", X_Request_Id="from-proxy-1")
        assert (status, headers["x-request-id"]) == (200, "from-proxy-1")
        assert len(ask(f"{url}/%1b%5b2J%0a%E2%80%AE", X_Request_Id="a b\tc" * 20)[1]["x-request-id"]) == 16
        process.send_signal(signal.SIGTERM)
        text = process.stderr.read()
    rows = [row for row in map(json.loads, text.splitlines()) if row["what"] == "request"]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert next((row["request"], row["method"], row["path"], row["status"]) for row in rows) == (
        "from-proxy-1",
        "GET",
        f"/{NAME}",
        200,
    )
    assert rows[0]["bytes"] > 1_000
    assert rows[0]["ms"] > 0
    assert rows[0]["from"] == "127.0.0.1"


def test_what_runs_is_finished(place):
    """SIGTERM in the middle of a slow download: it comes whole, new connections are refused, and the process ends."""
    with started(*words(place), "--grace", 20) as (url, process):
        ask(f"{url}/health")
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as reader:
            reader.sendall(b"GET /amira/notes/resolve/main/large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = len(reader.recv(1 << 16))
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            with pytest.raises(OSError, match=r"."):
                socket.create_connection((host, int(port)), timeout=1).close()
            while part := reader.recv(1 << 20):
                received += len(part)
        assert received > 24 << 20
        assert process.wait(20) == 0


def test_who_does_not_finish_is_left(place):
    """Grace has an end: a reader who does not read holds nobody up."""
    with started(*words(place), "--grace", 1) as (url, process):
        ask(f"{url}/health")
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as reader:
            reader.sendall(b"GET /amira/notes/resolve/main/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            reader.recv(1 << 10)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            process.wait(15)
        assert time.monotonic() - began < 10


def test_an_address_of_its_own(place):
    """With --url, clients are told that address, whatever Host they asked by."""
    with started(*words(place), "--url", "https://hub.example") as (url, _):
        link = ask(f"{url}/api/models?limit=1", Host="evil.example")[1].get("link", "")
        assert link.startswith("<https://hub.example/api/models?")
    assert run(["hub", "--repos", str(place / "models"), "--url", "hub.example/x"]) == 2


def test_figures_are_for_the_machine_itself(place):
    """Who comes through a proxy is told where to ask, and gets none."""
    with started(*words(place)) as (url, _):
        assert ask(f"{url}/metrics")[0] == 200
        for name in ("X_Forwarded_For", "Forwarded", "Via", "X_Real_IP"):
            assert ask(f"{url}/metrics", **{name: "203.0.113.9"})[0] == 403


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "page"), ("/api/models", "api"), ("/a/b/resolve/main/x", "files"), ("/datasets/a/b/resolve/m/x", "files"),
     ("/a/b.git/info/refs", "git"), ("/static/page.css", "static"), ("/" + "x/" * 500, "page")],
)  # fmt: skip
def test_strangers_make_no_figures(path, kind):
    """Whatever is asked for, it is one of a few kinds."""
    assert kind_of(path) == kind


# -- the doctor --------------------------------------------------------------------------------------------------------


def findings(place, **more):
    return {finding.what: finding for finding in looked_at(place / "models", place / "data", "", **more)}


def test_a_hub_that_is_well(place, capfd):
    """Each thing that was looked at is said; nothing is changed."""
    before = sorted(path for path in place.rglob("*") if "hub.sqlite" not in path.name)
    assert run(["hub", "doctor", *map(str, words(place)), "--deep"]) == 0

    shown = capfd.readouterr().out
    assert shown.endswith("all is well\n")
    assert {"git", "database", "disk", "clock", "models", "objects"} <= findings(place, deep=True).keys()
    assert sorted(path for path in place.rglob("*") if "hub.sqlite" not in path.name) == before


@pytest.mark.parametrize("what", ["object", "database", "rights", "folder", "future", "repository"])
def test_what_is_wrong_is_named_with_what_to_do(place, tmp_path, what):
    """Damage, a database of another version, rights, a folder that is gone, a clock, a repository that cannot be read."""
    ill = Path(shutil.copytree(place, tmp_path / "ill"))
    if what == "object":
        for pack in (ill / "data" / "repositories").rglob("objects/??/*"):
            pack.unlink()
        assert "restore it from a backup" in " ".join(f.because for f in findings(ill, deep=True).values() if not f.ok)
    elif what == "database":
        for name in ("hub.sqlite-wal", "hub.sqlite-shm"):
            (ill / "data" / name).unlink(missing_ok=True)
        (ill / "data" / "hub.sqlite").write_bytes(b"no database at all" * 100)
        assert not findings(ill)["database"].ok
    elif what == "rights":
        (ill / "data").chmod(0o777)
        assert "chmod o-w" in findings(ill)["rights"].because
    elif what == "folder":
        shutil.rmtree(ill / "models")
        assert not findings(ill)["repositories"].ok
    elif what == "repository":
        (ill / "models" / "bad.git" / "refs").mkdir(parents=True)
        (ill / "models" / "bad.git" / "objects").mkdir()
        (ill / "models" / "bad.git" / "HEAD").write_text("ref: refs/heads/main\n")
        assert not findings(ill)["bad"].ok
    else:
        git = ["git", "-C", str(ill / "models" / "atlas" / "smol.git")]
        env = os.environ | {"GIT_COMMITTER_DATE": "2090-01-01T00:00:00Z", "GIT_AUTHOR_DATE": "2090-01-01T00:00:00Z"}
        env |= {f"GIT_{who}_{part}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        line = [*git, "commit-tree", "main^{tree}", "-p", "main", "-m", "x"]
        commit = subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run([*git, "update-ref", "refs/heads/main", commit], check=True)
        assert "set the clock" in findings(ill)["clock"].because


# -- backup ------------------------------------------------------------------------------------------------------------


def test_a_backup_restored_elsewhere_is_the_hub(place, tmp_path, capfd):
    """Pages and clients answer, the history verifies, accounts and tokens hold, and the doctor finds nothing."""
    tar, there = tmp_path / "hub.tar", tmp_path / "there"
    token = Accounts(Database(url_in(place / "data"))).mint("amira", by=OPERATOR, scope="write")[0]
    assert run(["hub", "backup", str(tar), *map(str, words(place))]) == 0
    assert run(["hub", "restore", str(tar), "--repos", str(there)]) == 0
    assert run(["hub", "doctor", "--repos", str(there), "--deep"]) == 0

    app = application(Catalog(there), there / ".souq-hub")
    with serving(app) as url:
        api = HfApi(url, token=token)
        assert api.whoami()["name"] == "amira"
        assert (
            Path(snapshot_download("amira/notes", endpoint=url, cache_dir=tmp_path / "a"))
            .joinpath("large.bin")
            .stat()
            .st_size
            == 24 << 20
        )
        assert ask(f"{url}/{NAME}/releases/1.0")[0] == 200
        assert (Path(snapshot_download(NAME, endpoint=url, cache_dir=tmp_path / "b")) / "model.safetensors").is_file()
    assert subprocess.run([sys.executable, "-m", "souq", "verify"], cwd=there / "atlas" / "smol.git", check=False, capture_output=True).returncode == 0  # fmt: skip


def test_a_backup_goes_nowhere_it_may_not(place, tmp_path):
    """Not over a file, not into what it keeps; and a restore not over a folder or a database that holds something."""
    database = Database(url_in(place / "data"))
    backups.backup(place / "models", place / "data", database, tmp_path / "a.tar")
    for out in (tmp_path / "a.tar", place / "models" / "b.tar", place / "data" / "b.tar"):
        with pytest.raises(UsageError):
            backups.backup(place / "models", place / "data", database, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(UsageError):
        backups.restore(tmp_path / "a.tar", tmp_path / "full", tmp_path / "full" / "d", "")
    with pytest.raises(UsageError, match="accounts already"):
        backups.restore(tmp_path / "a.tar", tmp_path / "new", tmp_path / "new" / "d", url_in(place / "data"))
    assert not (tmp_path / "new").exists()


def test_a_backup_while_people_upload(place, tmp_path):
    """Commits that come while it is taken: what was restored is whole, whichever of them are in it."""
    ours = Path(shutil.copytree(place, tmp_path / "ours"))
    app = application(Catalog(ours / "models"), ours / "data")
    with serving(app) as url:
        api = HfApi(url, token=Site(url, app, None).token("amira"))
        from threading import Thread

        def upload():
            for number in range(12):
                api.upload_file(
                    path_or_fileobj=str(number).encode(), path_in_repo=f"{number}.txt", repo_id="amira/notes"
                )

        (thread := Thread(target=upload)).start()
        backups.backup(ours / "models", ours / "data", Database(url_in(ours / "data")), tmp_path / "hub.tar")
        thread.join()
    kept = backups.restore(tmp_path / "hub.tar", tmp_path / "there", tmp_path / "there" / "d", "")
    assert kept.files > 20
    assert all(finding.ok for finding in looked_at(tmp_path / "there", tmp_path / "there" / "d", "", deep=True))


@pytest.mark.parametrize("how", ["cut", "byte", "not a tar", "no list"])
def test_a_damaged_backup_is_refused_whole(place, tmp_path, how):
    """One byte, or half of it: nothing is restored."""
    tar = tmp_path / "hub.tar"
    backups.backup(place / "models", place / "data", Database(url_in(place / "data")), tar)
    data = bytearray(tar.read_bytes())
    if how == "byte":
        data[data.index(b"ref: refs/heads/main") + 5] ^= 1
    elif how == "no list":
        with tarfile.open(tar, "w") as empty:
            empty.addfile(tarfile.TarInfo("repos"))
        data = tar.read_bytes()
    tar.write_bytes(b"nothing" if how == "not a tar" else data[: len(data) // 2] if how == "cut" else data)

    with pytest.raises((Hostile, Corrupt)):
        backups.restore(tar, tmp_path / "there", tmp_path / "there" / "d", "")
    assert not (tmp_path / "there").exists()


# -- on PostgreSQL -----------------------------------------------------------------------------------------------------


def jobs_in(url):
    jobs = Jobs(database := Database(url))
    try:
        return jobs.listed(100)
    finally:
        database.close()


@pytest.mark.postgres
def test_a_hub_on_postgresql_moves_by_its_backup_and_people_go_on(place, postgres, tmp_path, capfd):
    """Two processes and a worker on one PostgreSQL; its backup fills another and a file, and in both people go on."""
    ours, first, second = Path(shutil.copytree(place, tmp_path / "ours")), postgres.fresh(), postgres.fresh()
    accounts = Accounts(Database(first))
    accounts.add("ada", by=OPERATOR)
    token = accounts.mint("ada", by=OPERATOR, scope="write")[0]
    with started(*words(ours), "--database", first, "--processes", 2) as (url, _):
        api = HfApi(url, token=token)
        api.create_repo("ada/notes")
        api.upload_file(path_or_fileobj=b"one", path_in_repo="1.txt", repo_id="ada/notes")
        api.create_discussion("ada/notes", "Are these all?")
        assert {api.whoami()["name"] for _ in range(10)} == {"ada"}
        Jobs(accounts.database).ask("look", NAME, 2, by=OPERATOR)
        eventually(lambda: not any(job.is_going for job in jobs_in(first)))
        taken = ["hub", "backup", str(tmp_path / "hub.tar"), *map(str, words(ours)), "--database", first, "--json"]
        assert run(taken) == 0
        rows = json.loads(capfd.readouterr().out)["rows"]
    accounts.database.close()
    for there, database in ((tmp_path / "a", second), (tmp_path / "b", "")):
        option = ["--database", database] if database else []
        capfd.readouterr()
        assert run(["hub", "restore", str(tmp_path / "hub.tar"), "--repos", str(there), "--json", *option]) == 0
        assert json.loads(capfd.readouterr().out)["rows"] == rows
        assert run(["hub", "doctor", "--repos", str(there), "--deep", *option]) == 0
        with started("--repos", there, *option, "--processes", 1 if database else 2) as (url, _):
            api = HfApi(url, token=token)
            api.upload_file(path_or_fileobj=b"two", path_in_repo="2.txt", repo_id="ada/notes")
            api.create_discussion("ada/notes", "And these?")
            assert len(list(api.get_repo_discussions("ada/notes"))) == 2
            kept = database or url_in(there / ".souq-hub")
            jobs = Jobs(Database(kept))
            assert jobs.ask("look", NAME, 3, by=OPERATOR).id == 2
            eventually(lambda jobs=jobs: {job.state for job in jobs.listed()} == {"done"})
            jobs.database.close()


# -- units -------------------------------------------------------------------------------------------------------------


def test_the_unit_is_one_that_systemd_reads(tmp_path):
    """systemd's own checker finds nothing in it, where it is installed; ours is what `souq hub` takes."""
    assert run(["hub", "init", str(tmp_path), "--url", "https://hub.example"]) == 0
    text = (tmp_path / "souq-hub.service").read_text()
    assert "--url https://hub.example" in text
    assert unit(Machine(url="https://hub.example")).splitlines()[8:] == text.splitlines()[8:]
    if shutil.which("systemd-analyze"):
        (tmp_path / "souq-hub.service").write_text(text.replace("/opt/souq/bin/souq", sys.executable))
        done = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / "souq-hub.service")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "souq-hub.service" not in done.stderr, done.stderr


def test_the_container_starts_what_the_verb_takes():
    """Every word of its entry point is an option of `souq hub`."""
    from souq.cli.hub import hub

    line = next(
        line for line in container(Machine(url="https://x.example")).splitlines() if line.startswith("ENTRYPOINT")
    )
    typed = {word for word in json.loads(line.removeprefix("ENTRYPOINT ")) if word.startswith("--")}
    assert typed <= {option for each in hub.params for option in each.opts}


def test_who_runs_the_container_is_told_to_give_it_its_folders():
    """They belong to who starts it, and the hub in it is another: without, it could keep nothing."""
    first, *others = container(Machine()).splitlines()

    assert "chown -R 990 models data && docker run" in first
    assert "RUN useradd --system --uid 990 souq && mkdir -p /models /data && chown souq /models /data" in others
    assert "USER souq" in others
