"""Uploads by which a stranger would write what nobody asked for, half of something, or more than a hub can bear."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.hubs import ALL_KILLS, Site
from tests.test_hub_uploads import HEADER, batch, desk, file, files_of, lines, send  # noqa: F401  # a fixture

from souq.hub.accounts.trail import OPERATOR

PATHS = [
    "../x", "..", ".", "", "/", "/etc/passwd", "//x", "a//b", "a/../b", "a/./b", "a/", "./a", "a/..", "..\\x", "C:\\x", "a\\b",
    ".git/config", ".GIT/hooks/post-update", "a/.git/HEAD", ".git", "git~1/config", "GIT~1", ".git /config", ".git./x", ".git::$INDEX_ALLOCATION/x",
    ".g\u200cit/config", "\u202e.txt", "a\x00b", "a\nb", "a\tb", "a\x7f", "\ufeffa", "e\u0301", "\u2028", "\ue000", "\ud7ff\u0378", "x" * 256, "a/" * 64 + "a",
    "y" * 1_100, "\uff0egit/config", ".\u0261it\u200d/x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_no_path_leads_anywhere_else(desk, shared, path):  # noqa: F811
    """Nor is any written, whichever way it comes; what is refused says why."""
    for value in (
        file(path),
        {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": "0" * 64, "size": 1}},
    ):
        answer = send(desk, shared, lines(HEADER, file("fine"), value))
        assert answer.status == 400, answer
        assert answer.headers["x-error-message"]
    for key in ("deletedFile", "deletedFolder"):
        assert send(desk, shared, lines(HEADER, {"key": key, "value": {"path": path}})).status in (400, 404)
    assert files_of(desk.amira, shared) == set()


@pytest.fixture(scope="module")
def shared(desk):  # noqa: F811
    """A repository that stays as it was."""
    return desk.new()


def row(content, **more):
    return json.dumps(
        {"key": "file", "value": {"path": "x", "content": content, "encoding": "base64", **more}}
    ).encode()


BODIES = {
    "nothing": b"", "a line feed": b"\n\n", "no header": lines(file("x")), "two headers": lines(HEADER, HEADER, file("x")), "no JSON": b"{", "a list": b"[]\n",
    "no base64": lines(HEADER) + row("%%%%"), "base64 that goes on": lines(HEADER) + row("QQ==QQ=="), "base64 that is cut": lines(HEADER) + row("QQQ"),
    "long and none": lines(HEADER) + row("A" * 50_001), "long that goes on": lines(HEADER) + row("A" * 40_000 + "==" + "A" * 400), "long with an escape": lines(HEADER) + row("A" * 40_000 + "\n"),
    "another encoding": lines(HEADER) + row("A" * 40_000, encoding="utf-7"), "an unknown key": lines(HEADER, {"key": "execute", "value": {"path": "x"}}),
    "two files in a line": lines(HEADER) + b'{"key":"file","value":{"path":"x","content":"' + b"A" * 40_000 + b'","content":"' + b"B" * 40_000 + b'"}}',
    "a file in another place": lines(HEADER) + b'{"key":"file","other":{"content":"' + b"A" * 40_000 + b'"},"value":{"path":"x","content":"QQ==","encoding":"base64"}}',
    "a long path": lines(HEADER, file("x" * 300_000)), "a long title": lines({"key": "header", "value": {"summary": "x" * 600}}, file("x")), "an empty title": lines({"key": "header", "value": {"summary": " \n "}}, file("x")),
    "a long description": lines({"key": "header", "value": {"summary": "x", "description": "y" * 200_000}}, file("x")), "nesting": lines(HEADER) + b'{"key":' * 20_000, "half a character": lines(HEADER) + b'{"key":"deletedFile","value":{"path":"\\ud800"}}',
    "ended in a text": lines(HEADER) + b'{"key":"file","value":{"content":"QUJD', "no UTF-8": lines(HEADER) + b'{"key":"deletedFile","value":{"path":"\xff"}}', "a parent that is none": lines({"key": "header", "value": {"summary": "x", "parentCommit": "HEAD~1"}}, file("x")),
    "a parent that is an option": lines({"key": "header", "value": {"summary": "x", "parentCommit": "--all"}}, file("x")), "another digest": lines(HEADER, {"key": "lfsFile", "value": {"path": "x", "algo": "md5", "oid": "0" * 32}}),
    "a digest that is a path": lines(HEADER, {"key": "lfsFile", "value": {"path": "x", "algo": "sha256", "oid": "../../../../etc/passwd"}}),
}  # fmt: skip


@pytest.mark.parametrize("what", BODIES)
def test_what_is_no_commit_is_a_no(desk, shared, what):  # noqa: F811
    """In words, and nothing is written, not even what was whole before it."""
    answer = send(desk, shared, BODIES[what])

    assert answer.status in (400, 404, 412, 413), answer
    assert files_of(desk.amira, shared) == set()
    assert not leftovers(desk)


def leftovers(desk):  # noqa: F811
    return [path for path in (desk.data / "incoming").rglob("*") if path.is_file() and "hooks" not in path.parts]


PIECES = st.sampled_from([b'{"key":"', b"file", b"header", b'","value":{', b'"path":"x"', b'"content":"', b"QUJD", b'"', b"}}", b"\n", b"\\", b",", b"=", b"A" * 20_000, b'{"key":"header","value":{"summary":"x"}}\n']) | st.binary(max_size=6)  # fmt: skip


@given(st.lists(PIECES, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_is_a_fault(desk, shared, pieces):  # noqa: F811
    assert send(desk, shared, b"".join(pieces)).status < 500


def test_an_upload_that_is_cut_leaves_nothing(desk, shared):  # noqa: F811
    """Where its sender hangs up: neither a commit, nor a file in the way of the next."""
    body = lines(HEADER, file("a", os.urandom(200_000)), file("b", os.urandom(200_000)))
    host, _, port = desk.site.url.removeprefix("http://").partition(":")
    head = f"POST /api/models/{shared}/commit/main HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {desk.site.token('amira')}\r\nContent-Length: {len(body)}\r\n\r\n"
    for share in (0.0, 0.3, 0.9, 0.999):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body[: int(share * len(body))])
    for _ in range(100):
        if not leftovers(desk):
            break
        time.sleep(0.05)

    assert not leftovers(desk)
    assert files_of(desk.amira, shared) == set()


def test_nothing_is_unpacked_that_was_packed(desk, shared):  # noqa: F811
    """A commit comes as it is: a bomb in gzip is refused before it is read."""
    bomb = gzip.compress(b"\0" * (64 << 20))
    assert send(desk, shared, bomb, Content_Encoding="gzip").status == 415


@pytest.mark.parametrize("card", ["&a [" * 100, "a: &a [x,x,x]\n" + "".join(f"b{i}: &b{i} [*a,*a,*a,*a,*a,*a,*a]\n" for i in range(9)), "!!python/object/apply:os.system ['id']", "{" * 5_000, "a: " + "9" * 5_000, "? - - - - : x", "x: 2001-99-99", "\ttab: x", "license: " + "[" * 60, "x: !!binary ///"])  # fmt: skip
def test_a_card_that_would_take_for_ever_takes_a_moment(desk, card):  # noqa: F811
    """Asked about, uploaded all the same and listed: no answer is a fault, and the list goes on."""
    began, name, text = time.monotonic(), desk.new(), f"---\n{card}\n---\n# x\n"
    answer = desk.site.ask("/api/validate-yaml", "POST", json.dumps({"content": text, "repoType": "model"}).encode())
    assert answer.status in (200, 400)
    assert send(desk, name, lines(HEADER, file("README.md", text.encode()))).status == 200
    assert desk.site.ask(f"/api/models/{name}").status == 200
    assert name in {each.id for each in desk.amira.list_models(author="amira")}
    assert time.monotonic() - began < 10


def test_the_same_commit_from_twenty_at_once_is_one(desk):  # noqa: F811
    """And twenty different ones are twenty: nobody's work is lost, and nobody's is done twice."""
    name = desk.new()
    with ThreadPoolExecutor(10) as hands:
        same = [*hands.map(lambda _: send(desk, name, lines(HEADER, file("same"))), range(20))]
        others = [
            *hands.map(lambda n: send(desk, name, lines(HEADER, file(f"f{n}", str(n).encode()))).status, range(20))
        ]

    assert {answer.status for answer in same} == {200}
    assert len({answer.json["commitOid"] for answer in same}) == 1
    assert set(others) <= {200, 412}
    assert files_of(desk.amira, name) == {"same", *(f"f{n}" for n, status in enumerate(others) if status == 200)}
    assert others.count(200) >= 10


def test_a_token_that_was_revoked_opens_nothing(desk):  # noqa: F811
    """Neither a commit nor an address for a file; what it announced before is in nobody's repository."""
    name, accounts = desk.new(), desk.site.app.state.accounts
    token, kept = accounts.mint("amira", by=OPERATOR, scope="write")
    auth = {"Authorization": f"Bearer {token}"}
    assert desk.site.ask(f"/api/models/{name}/commit/main", "POST", lines(HEADER, file("a")), **auth).status == 200
    accounts.revoke(kept.id, by=OPERATOR)
    assert desk.site.ask(f"/api/models/{name}/commit/main", "POST", lines(HEADER, file("b")), **auth).status == 401
    assert (
        desk.site.ask(
            f"/{name}.git/info/lfs/objects/batch", "POST", b'{"operation":"upload","objects":[]}', **auth
        ).status
        == 401
    )
    assert files_of(desk.amira, name) == {"a"}


def test_a_pickle_is_a_download_and_nothing_else(desk):  # noqa: F811
    name = desk.new()
    assert (
        send(
            desk,
            name,
            lines(HEADER, file("x.pkl", b"\x80\x04cos\nsystem\n."), file("x.html", b"<script>alert(1)</script>")),
        ).status
        == 200
    )
    for path in ("x.pkl", "x.html"):
        headers = desk.site.ask(f"/{name}/resolve/main/{path}").headers
        assert headers["content-disposition"].startswith("attachment")
        assert not headers["content-type"].startswith("text/html")
        assert "sandbox" in headers["content-security-policy"]


def test_a_thousand_folders_of_files_come_in_pages(desk):  # noqa: F811
    """Five thousand files by one commit, each listed once; one more than a commit may hold is too many."""
    name = desk.new()
    paths = [f"d{n % 1_000}/f{n}" for n in range(5_000)]
    assert send(desk, name, lines(HEADER, *(file(path, b"") for path in paths))).status == 200

    assert files_of(desk.amira, name) == {*paths}
    assert len(desk.site.ask(f"/api/models/{name}/tree/main?recursive=true").json) == 1_000


def test_what_is_announced_is_bounded(desk, monkeypatch):  # noqa: F811
    """In bytes, and in files; negative and absurd sizes are none."""
    from souq.hub.plain import arrivals

    monkeypatch.setattr(arrivals, "MOST_WAITING", 10_000)
    name = desk.new()
    assert "actions" in batch(desk, name, b"x" * 6_000)
    assert batch(desk, name, b"y" * 6_000)["error"]["code"] == 413
    for size in (-1, 1 << 62):
        assert batch(desk, name, b"z", size)["error"]["code"] == 422


TALK = ["<script>alert(1)</script>", "javascript:alert(1)", "\u202egnp.exe", "a\x1b[2J", "{{7*7}}", "x" * 70_000, "\x00\x01\x02", "\ud83d\ude00 fine", "]]>", "' or 1=1 --"]  # fmt: skip


def test_what_people_say_is_words(desk):  # noqa: F811
    """It steers no terminal, is HTML nowhere, and too much of it is refused."""
    name = desk.new()
    number = desk.bruno.create_discussion(name, "A question").num
    for text in TALK:
        body = json.dumps({"comment": text}).encode()
        answer = desk.site.ask(
            f"/api/models/{name}/discussions/{number}/comment",
            "POST",
            body,
            Authorization=f"Bearer {desk.site.token('bruno')}",
        )
        assert answer.status == (400 if len(text) > 65_536 else 200)
        if answer.status == 200:
            shown = answer.json["newMessage"]["data"]["latest"]
            assert "<" not in shown["html"]
            assert not {"\x1b", "\u202e", "\x00"} & {*shown["raw"]}


# -- stopped in the middle ---------------------------------------------------------------------------------------------

SERVE = """
import sys, uvicorn
from pathlib import Path
from souq.hub.accounts.trail import OPERATOR
from souq.hub.app import application
from souq.hub.catalog import Catalog
app = application(Catalog(Path(sys.argv[1])), Path(sys.argv[2]))
accounts = app.state.accounts
if not accounts.every():
    accounts.add("amira", by=OPERATOR)
    print(accounts.mint("amira", by=OPERATOR, scope="write")[0], flush=True)
import socket
listener = socket.create_server(("127.0.0.1", int(sys.argv[3])))
print("ready", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off")).run(sockets=[listener])
"""


class Served:
    """A hub in a process of its own."""

    def __init__(self, folder):
        self.folder, self.token, self.process = folder, "", None
        (folder / "shelf").mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.site = Site(f"http://127.0.0.1:{self.port}", None, None)

    def start(self):
        words = [sys.executable, "-c", SERVE, str(self.folder / "shelf"), str(self.folder / "data"), str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        while (line := self.process.stdout.readline().strip()) != "ready":
            assert line, "the hub did not start"
            self.token = line

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, path, method="GET", body=None):
        return self.site.ask(path, method, body, Authorization=f"Bearer {self.token}")

    def peak(self):
        """The most megabytes that it held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.fixture
def served(tmp_path):
    hub = Served(tmp_path)
    hub.start()
    assert hub.ask("/api/repos/create", "POST", b'{"name": "x"}').status == 200
    yield hub
    hub.kill()


KILLS = 35 if ALL_KILLS else 6


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_hub_that_is_killed_in_an_upload_shows_all_of_it_or_nothing(served):
    """Small files, large ones, large ones by LFS and a pull request, at any moment; what was left lying is swept."""
    generator = random.Random(7)
    for number in range(KILLS):
        files = {
            f"small-{number}": os.urandom(900),
            f"large-{number}.bin": os.urandom(3 << 20),
            f"more-{number}": b"x" * 400_000,
        }
        offers = number % 3 == 2
        body = lines(
            {"key": "header", "value": {"summary": f"Commit {number}"}},
            *(file(path, data) for path, data in files.items()),
        )
        path = f"/api/models/amira/x/commit/main{'?create_pr=1' if offers else ''}"

        def upload(path=path, body=body):
            with suppress(OSError, ValueError, HTTPException):
                served.ask(path, "POST", body)

        thread = threading.Thread(target=upload)
        thread.start()
        time.sleep(generator.uniform(0.0, 0.35))
        served.kill()
        thread.join()
        served.start()
        shown = {
            row["path"]: row
            for row in served.ask("/api/models/amira/x/tree/main?recursive=true").json
            if row["type"] == "file"
        }
        held = {path for path in shown if path.endswith((f"-{number}", f"-{number}.bin"))}
        assert held in (set(), set(files)), held
        assert not (offers and held)
        for name in held:
            assert served.ask(f"/amira/x/resolve/main/{name}").body == files[name]
        listed = served.ask("/api/models/amira/x/discussions").json["discussions"]
        for talk in listed[:3]:
            rev = f"refs%2Fpr%2F{talk['num']}"
            assert len(served.ask(f"/api/models/amira/x/tree/{rev}?recursive=true").json) >= 4
    assert served.ask("/api/models/amira/x/commit/main", "POST", lines(HEADER, file("last"))).status == 200
    left = [path for path in (served.folder / "data" / "incoming" / "commit").parent.rglob("*") if path.is_file()]
    assert not left, left
    repository = served.folder / "data" / "repositories" / "models" / "amira" / "x.git"
    assert subprocess.run(["git", "fsck", "--strict"], cwd=repository, capture_output=True).returncode == 0


@pytest.mark.server
def test_a_file_of_a_hundred_mebibytes_is_never_in_memory(served):
    """It comes as base64 in one line; and the same by LFS."""
    data = os.urandom(1 << 20) * 96
    before = served.peak()
    assert served.ask("/api/models/amira/x/commit/main", "POST", lines(HEADER, file("x.bin", data))).status == 200
    assert served.ask("/amira/x/resolve/main/x.bin").body == data
    assert served.peak() - before < 60
    assert served.ask("/api/models/amira/x/tree/main").json[-1]["lfs"]["oid"] == hashlib.sha256(data).hexdigest()
