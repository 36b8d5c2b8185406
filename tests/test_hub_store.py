"""Tensors through a hub: a clone needs no other store, what is cut goes on, and what is damaged is refused by name."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import os
import subprocess
import threading
import urllib.error
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from souq.errors import Corrupt, NotFound, Refused
from souq.hub.accounts.trail import OPERATOR
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.hub.tensors import waiting as waitings
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, needed
from souq.weights import hub as hubs
from souq.weights.hub import hub_at
from souq.weights.store import Store
from tests.hubs import NAME, Site, serving

PLACE = f"/{NAME}/souq/store/objects"


@dataclass
class Access:
    """Somebody who brings a token, or nobody."""

    token: str = ""
    rejected: int = 0

    def authorization(self):
        return f"Bearer {self.token}" if self.token else ""

    def reject(self):
        self.rejected += 1


@pytest.fixture
def hosted(bazaar, tmp_path):
    """A town whose remote is a hub; nobody has set where tensors travel."""
    (tmp_path / "shelf" / "atlas").mkdir(parents=True)
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data", bazaar.person("amira"))
    with serving(app) as address:
        yield Site(address, app, None)


def remote(site, name="", repository=NAME):
    return f"{site.url.replace('://', f'://{name}:{site.token(name)}@') if name else site.url}/{repository}"


def objects_of(hub_git):
    return set(Store(hub_git / "souq").digests())


def waits(site):
    """Every file that is on its way into a hub."""
    folder = site.app.state.huggingface.incoming / "tensors"
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_day_with_nothing_but_the_hub_s_address(bazaar, hosted, tmp_path):
    """Cloned into an empty folder, verified and built there; offered from there, checked by the hub, landed, fetched."""
    hub_git = bazaar.folder / "hub.git"
    for name in ("chen", "bruno"):
        assert bazaar(name, ["clone", remote(hosted, name), f"of-{name}"], at=tmp_path) == 0
    mine, theirs = tmp_path / "of-chen", tmp_path / "of-bruno"
    assert Repo.find(mine).store.fsck() == []
    assert bazaar("chen", "verify", at=mine) == 0
    assert bazaar("chen", "build", at=mine) == 0

    before = objects_of(hub_git)
    offer = ["pr", "create", bazaar.delta("greet"), "--title", "Greetings", "--licence", "Apache-2.0", "--signoff"]
    assert bazaar("chen", [*offer, "--unchecked", "--fixes", "greet"], at=mine) == 0
    number = max(pull.number for pull in pulls.listed(Repo.find(hub_git)))
    page = hosted.ask(f"/{NAME}/pulls/{number}")
    assert page.status == 200
    assert b"Greetings" in page.body
    assert objects_of(hub_git) > before
    assert waits(hosted) == []
    verdicts = {each.check: each.outcome for each in reviews.look(Repo.find(hub_git), number).verdicts}
    assert verdicts["signoff"] == "pass"
    assert "refuse" not in verdicts.values()

    assert bazaar("bruno", "fetch", at=theirs) == 0
    assert bazaar("bruno", f"pr checks {number}", at=theirs) == 0
    for name, place in (("bruno", theirs), ("amira", bazaar.actors["amira"].clone)):
        assert bazaar(name, f"pr review {number} --approve --reason fine", at=place) == 0
    assert bazaar("bruno", f"pr merge {number}", at=theirs) == 0
    assert bazaar("chen", "fetch", at=mine) == 0
    main = Snapshot(repo := Repo.find(mine), repo.tip())
    assert {ref.digest for ref in main.tensors()} <= set(repo.store.digests())
    assert bazaar("chen", "push", at=mine) == 0


def test_what_main_lacks_at_the_hub_comes_by_a_push(bazaar, hosted, tmp_path):
    """Where the hub's disk lost tensors no ref has to move; by git's own credential helper, and nobody else's."""
    hub_git, store = bazaar.folder / "hub.git", Store(bazaar.folder / "hub.git" / "souq")
    assert bazaar("chen", ["clone", remote(hosted), "mine"], at=tmp_path) == 0
    lost = sorted(store.digests())[:3]
    for name in lost:
        store.path(name).unlink()
    assert bazaar("chen", ["clone", remote(hosted), "half"], at=tmp_path) == 1

    bazaar.capfd.readouterr()
    assert bazaar("chen", "push", at=tmp_path / "mine") == 3
    assert "token that may write" in bazaar.capfd.readouterr().err
    (tmp_path / "known").write_text(remote(hosted, "chen").replace(f"/{NAME}", "") + "\n")
    subprocess.run(["git", "config", "credential.helper", f"store --file={tmp_path}/known"], cwd=tmp_path / "mine", check=True)  # fmt: skip
    assert bazaar("chen", "push", at=tmp_path / "mine") == 0
    assert set(lost) <= objects_of(hub_git)
    assert bazaar("amira", "fetch") == 0  # and from a clone that had another remote
    store.path(lost[0]).unlink()
    assert bazaar("amira", ["push", remote(hosted, "amira"), "--set-remote"]) == 0
    assert store.fsck() == []
    assert waits(hosted) == []


def test_a_remote_that_is_no_hub_carries_no_tensors(bazaar, hosted, tmp_path):
    """And the words say what to set; a redirect is not followed, and no token leaves for it."""
    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", f"{hosted.url}/{NAME}/souq/store")
            else:
                self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    repo = bazaar.repo("chen")
    for name in ("moved/x", "x/y"):
        repo._own("config", "remote.origin.url", f"http://chen:secret@127.0.0.1:{server.server_port}/{name}")
        with pytest.raises(NotFound, match="carries history and no tensors"):
            Repo.find(repo.root).remote_store()
    server.shutdown()
    assert [headers for _, headers in asked] == [None, None]


# -- one object --------------------------------------------------------------------------------------------------------


@pytest.fixture
def there(site, monkeypatch):
    """The hub's store to who may write, and tensors that nobody has there; pieces are small."""
    monkeypatch.setattr(hubs, "PIECE", 20_000)
    monkeypatch.setattr(hubs, "SMALL", 1_000)
    return hub_at(f"{site.url}/{NAME}", Access(site.token("chen")))


def chance(count=30_000):
    return np.random.default_rng(int.from_bytes(os.urandom(4), "big")).standard_normal(count, "f4")


def address(name):
    return f"{PLACE}/{name[3:5]}/{name[5:]}"


def put(site, name, data, token=None, **headers):
    headers |= {"Authorization": f"Bearer {token or site.token('chen')}"}
    return site.ask(address(name), "PUT", data, **headers)


def part(start, stop, total):
    return {"Content_Range": f"bytes {start}-{stop - 1}/{total}"}


def held(site):
    """A tensor of main's, and its object."""
    store = Store(site.town.bazaar.folder / "hub.git" / "souq")
    name = max(store.digests(), key=store.size)
    return name, store.path(name).read_bytes()


def test_an_object_is_read_in_ranges_by_anybody(site):
    name, data = held(site)
    whole = site.ask(address(name))
    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["etag"] == f'"{name}-{len(data)}"'
    assert "immutable" in whole.headers["cache-control"]
    assert "sandbox" in whole.headers["content-security-policy"]
    some = site.ask(address(name), Range="bytes=100-199")
    assert (some.status, some.body) == (206, data[100:200])
    assert site.ask(address(name), "HEAD").headers["content-length"] == str(len(data))
    assert site.ask(address(name), If_None_Match=whole.headers["etag"]).status == 304
    assert site.ask(address(name).replace(NAME, f"{NAME}.git")).body == data
    assert site.ask(address("b3:" + "0" * 64)).status == 404
    assert site.ask(f"/{NAME}/souq/store").json == {"store": "souq objects 1"}


def test_what_came_waits_unseen(site, there, tmp_path):
    """Until a ref points at it nobody reads it, its sender neither; sent again, it is not read again."""
    store = Store(tmp_path)
    name, other = store.put(chance()), store.put(chance())
    assert store.copy(there, [name, other]) == 2
    data = store.parcel(name)

    assert site.ask(address(name)).status == 404
    assert name not in there
    assert put(site, name, data).status == 200
    assert put(site, name, data, site.token("bruno")).status == 201  # what another brought is another's


def test_differences_come_behind_what_they_are_from(site, there, tmp_path):
    store = Store(tmp_path)
    base = store.put(first := chance())
    second = store.put(first + np.float32(1e-6), base=base)
    assert store.header(second).base == base
    alone = put(site, second, store.parcel(second))
    assert alone.status == 422
    assert base in alone.json["error"]

    assert store.copy(there, [second]) == 2
    assert put(site, second, store.parcel(second)).status == 200


def test_an_upload_goes_on_where_it_was_cut(site, there, tmp_path, monkeypatch):
    """By hand, and by the client after its line broke: what is there is not sent again, and strangers' parts are apart."""
    store = Store(tmp_path)
    name, other = store.put(chance()), store.put(chance())
    data = store.parcel(name)
    total = len(data)
    assert put(site, name, data[:50_000], **part(0, 50_000, total)).headers["upload-offset"] == "50000"
    for start in (0, 40_000, 60_000):
        answer = put(site, name, data[start:70_000], **part(start, 70_000, total))
        assert (answer.status, answer.headers["upload-offset"]) == (409, "50000")
    elsewhere = put(site, name, b"", site.token("bruno"), Content_Range=f"bytes */{total}")
    assert (elsewhere.status, elsewhere.headers["upload-offset"]) == (202, "0")
    with cut(hubs, after=3) as sent:
        assert store.copy(there, [name, other]) == 2
    assert sum(map(len, sent)) < 2 * total
    assert put(site, name, b"", Content_Range=f"bytes */{total}").status == 200
    assert waits(site) == [path for path in waits(site) if "parts" not in path.parts or path.stat().st_size == 0]


@contextmanager
def cut(module, after):
    """Every line breaks once, after so many questions."""
    opener, sent, count = module._OPENER, [], [0]

    class Breaking:
        def open(self, request, timeout):
            count[0] += 1
            if count[0] % after == 0:
                raise urllib.error.URLError(ConnectionResetError("cut"))
            sent.append(bytes(request.data or b""))
            return opener.open(request, timeout=timeout)

    module._OPENER = Breaking()
    try:
        yield sent
    finally:
        module._OPENER = opener


def test_what_lay_there_of_another_day_is_sent_again(site, there, tmp_path):
    """A part that was of other bytes is noticed when it is whole, and the object comes from its beginning."""
    store = Store(tmp_path)
    name = store.put(chance())
    data = store.parcel(name)
    put(site, name, os.urandom(30_000), **part(0, 30_000, len(data)))

    assert store.copy(there, [name]) == 1
    assert put(site, name, data).status == 200


def test_a_flipped_byte_on_its_way_in_is_refused(site, tmp_path):
    """Whichever it is; nothing of it is kept, and the object can be sent again."""
    store = Store(tmp_path)
    name = store.put(chance())
    data = store.parcel(name)
    for at in (0, 15, 40, len(data) // 2, len(data) - 1):
        bad = bytearray(data)
        bad[at] ^= 1
        answer = put(site, name, bytes(bad))
        assert answer.status == 422, (at, answer)
        assert name in answer.json["error"]
    assert put(site, name, store.parcel(store.put(chance()))).status == 422
    assert put(site, name, data).status == 201


def test_a_flipped_byte_on_its_way_out_is_refused(site, there, tmp_path, monkeypatch):
    """It is named, and kept neither under its name nor to go on from."""
    name, data = held(site)
    opener = hubs._OPENER

    class Flipping:
        def open(self, request, timeout):
            reply = opener.open(request, timeout=timeout)
            read = reply.read

            def damaged(most):
                piece = read(most)
                return piece[:-1] + bytes([piece[-1] ^ 1]) if piece else piece

            if request.method == "GET":
                reply.read = damaged
            return reply

    monkeypatch.setattr(hubs, "_OPENER", Flipping())
    with pytest.raises(Corrupt, match=name):
        there.copy(store := Store(tmp_path), [name])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.setattr(hubs, "_OPENER", opener)
    assert there.copy(store, [name]) == 1
    assert store.parcel(name) == data


def test_a_download_goes_on_where_it_was_cut(site, there, tmp_path):
    """What was brought before is not asked for again, unless it was damaged; what others are differences from comes too."""
    name, data = held(site)
    store = Store(tmp_path)
    (store.arriving).mkdir(parents=True)
    (store.arriving / name[3:]).write_bytes(data[: len(data) // 2])
    with asked_ranges() as ranges:
        assert there.copy(store, [name]) == 1
    assert ranges == [f"bytes={len(data) // 2}-"]
    damaged = Store(tmp_path / "damaged")
    damaged.arriving.mkdir(parents=True)
    (damaged.arriving / name[3:]).write_bytes(b"x" + data[1 : len(data) // 2])
    assert there.copy(damaged, [name]) == 1
    assert [*store.arriving.iterdir(), *damaged.arriving.iterdir()] == []
    assert store.fsck() == damaged.fsck() == []


@contextmanager
def asked_ranges():
    opener, ranges = hubs._OPENER, []

    class Listening:
        def open(self, request, timeout):
            ranges.extend(filter(None, [request.get_header("Range")]))
            return opener.open(request, timeout=timeout)

    hubs._OPENER = Listening()
    try:
        yield ranges
    finally:
        hubs._OPENER = opener


def test_who_may_not_brings_nothing(site, tmp_path):
    """Nobody without a token, nor with one that reads, was revoked or is for another repository."""
    store = Store(tmp_path)
    name = store.put(chance())
    before = waits(site)
    accounts = site.app.state.accounts
    narrow, _ = accounts.mint("chen", by=OPERATOR, scope="write", repository="atlas/other")
    assert site.ask(address(name), "PUT", store.parcel(name)).status == 401
    for token, status in ((site.token("chen", "read"), 403), ("hf_wrong", 401), (narrow, 403)):
        assert put(site, name, store.parcel(name), token).status == status
    access = Access("hf_wrong")
    with pytest.raises(Refused, match="wrong, expired or revoked"):
        store.copy(hub_at(f"{site.url}/{NAME}", access), [name])
    assert access.rejected == 1
    assert waits(site) == before


def test_how_much_may_wait_is_bounded(site, tmp_path, monkeypatch):
    """In bytes, in objects, by the disk; what is forgotten for a week is gone."""
    monkeypatch.setattr(waitings, "MOST_WAITING", 200_000)
    store, uploads = Store(tmp_path), site.app.state.uploads
    names = [store.put(chance(20_000)) for _ in range(4)]
    token = site.token("adil")
    answers = [put(site, name, store.parcel(name), token) for name in names]
    assert [answer.status for answer in answers] == [201, 201, 413, 413]
    assert "push one, or wait a week" in answers[-1].json["error"]
    monkeypatch.setattr(waitings, "WEEK", -1)
    uploads._count()
    assert [path for path in waits(site) if "adil" in path.parts] == []
    monkeypatch.setattr(waitings, "ROOM", 1 << 60)
    assert put(site, names[0], store.parcel(names[0]), token).status == 413


def test_what_came_whole_to_a_hub_that_was_killed_then_is_kept_when_it_is_sent_again(site, tmp_path):
    """Killed between the last byte and the name: whoever sends it anew is not told that all is there, and left alone."""
    store, token = Store(tmp_path), site.token("adil")
    name = store.put(chance(20_000))
    parcel = store.parcel(name)
    repo = Repo.find(site.town.bazaar.folder / "hub.git")
    parts = site.app.state.uploads.waiting("adil", NAME, repo).root / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    (left := parts / f"{name[3:]}.{len(parcel)}").write_bytes(parcel)
    left.chmod(0o444)
    assert store.copy(hub_at(f"{site.url}/{NAME}", Access(token)), [name]) == 1
    assert [path.name for path in waits(site) if name[5:] in path.name] == [name[5:]]


def test_what_a_killed_hub_left_of_an_object_that_is_whole_goes_when_it_is_sent_again(site, tmp_path):
    """Killed between giving an object its name and removing what had come of it; what another request brings stays."""
    store, token = Store(tmp_path), site.token("adil")
    name = store.put(chance(20_000))
    parcel = store.parcel(name)
    assert put(site, name, parcel, token).status == 201
    [came] = [path for path in waits(site) if path.name == name[5:]]
    parts = came.parents[2] / "parts"
    left, held = (parts / f"{name[3:]}.{size}" for size in (len(parcel), len(parcel) + 1))
    left.hardlink_to(came)
    held.touch()
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert put(site, name, parcel, token).status == 200
    assert came.is_file()
    assert list(parts.iterdir()) == [held]
    held.unlink()


def test_a_hub_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(NotFound, match="cannot be reached"):
        hub_at("http://127.0.0.1:9/atlas/smol", Access())


def test_needed_is_what_is_brought(site, there, tmp_path):
    """All of main's tensors, each as it lies there."""
    repo = Repo.find(site.town.bazaar.folder / "hub.git")
    names = needed(repo, {"main": repo.tip()})
    store = Store(tmp_path)
    assert there.copy(store, names) >= len(set(names))
    assert store.fsck() == []
    sums = [hashlib.sha256(each.path(name).read_bytes()).digest() for name in names for each in (store, repo.store)]
    assert sums[::2] == sums[1::2]
