"""Objects by which a stranger would write where nobody asked, fill a hub, or have a reader take what is not there."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.bazaar import copied
from tests.hubs import ALL_KILLS, NAME, raw
from tests.test_hub_store import PLACE, Access, address, chance, held, hosted, part, put, remote, waits  # noqa: F401

from attacks.attack_hub_uploads import Served
from souq.errors import SouqError
from souq.hub.tensors.waiting import Uploads
from souq.pulls import pull as pulls
from souq.repo.remote import Repo
from souq.weights import hub as hubs
from souq.weights.by_parts import keep
from souq.weights.codec import MAGIC, Header, object_bytes
from souq.weights.hub import hub_at
from souq.weights.store import Store

ZERO = "0" * 62
ADDRESSES = [
    f"00/{ZERO[:-1]}", f"00/{ZERO}0", f"000/{ZERO[1:]}", f"0/0{ZERO}", f"AB/{'C' * 62}", f"..%2f/{ZERO}", f"../{ZERO}", f"00/..%2f..%2f{ZERO[:52]}", f"%2e%2e/{'0' * 62}",
    "00/../../../../refs/heads/main", f"00/{ZERO[:-3]}%00ab", f"00/{ZERO[:-3]}%0aab", f"%EF%BC%90%EF%BC%90/{ZERO}", f"0%30/{ZERO}x", f"00/{ZERO}.part", "00/%2fetc%2fpasswd",
    f"b3:/{ZERO}", f"00/{'g' * 62}", f"00/{ZERO}%20", f"%2000/{ZERO[2:]}", "a" * 3_000 + f"/{ZERO}", f"00//{ZERO}", f"00/{ZERO}/x", f"./00/{ZERO}",
]  # fmt: skip


@pytest.mark.parametrize("other", ADDRESSES, ids=range(len(ADDRESSES)))
def test_no_address_is_anything_but_an_object_s(site, other):
    """Neither to read nor to write, and nothing is made on the way."""
    before = waits(site)
    for method in ("GET", "PUT"):
        head = f"{method} {PLACE}/{other} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {site.token('mallory')}\r\nContent-Length: 3\r\n\r\nabc"
        assert int(raw(site.url, head.encode())[9:12]) in (400, 404, 405, 414), (method, other[:90])
    assert waits(site) == before


def test_only_a_model_has_a_store(site):
    """Neither what is not there, nor a plain repository, nor a name that leads elsewhere."""
    token = site.token("mallory")
    made = site.ask("/api/repos/create", "POST", b'{"name": "odd"}', Authorization=f"Bearer {token}")
    assert made.status in (200, 409)
    for name in ("mallory/odd", "mallory/none", "..%2fsmol", "atlas", "datasets/atlas", "atlas/smol.git.git"):
        for method in ("GET", "PUT"):
            answer = site.ask(f"/{name}/souq/store/objects/00/{ZERO}", method, b"x" if method == "PUT" else None, Authorization=f"Bearer {token}")  # fmt: skip
            assert answer.status == 404, (name, method, answer)


SPANS = ["bytes 0-1/1", "bytes 5-2/9", "bytes 0-0/0", "bytes */0", "bytes -1-3/9", "bytes 0-/9", "bytes 0-3/*", "bytes */*", "items 0-3/9", "bytes 0-3", "0-3/9", "bytes 0-3/99999999999999999999",
         "bytes 0-3/9,4-5/9", "bytes \u0663-\u0665/9", "bytes 0-3/1e9", f"bytes 0-3/{1 << 40}", "bytes 9-12/9", "bytes */-1", "bytes 0x0-0x3/9", "bytes " + "9" * 5_000 + "-1/2"]  # fmt: skip


@pytest.mark.parametrize("span", SPANS, ids=range(len(SPANS)))
def test_what_is_no_range_is_a_no(site, span):
    before = waits(site)
    head = f"PUT {PLACE}/00/{ZERO} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {site.token('mallory')}\r\nContent-Length: 4\r\nContent-Range: {span}\r\n\r\nabcd"
    assert int(raw(site.url, head.encode("utf-8"))[9:12]) in (400, 413, 416), span[:80]
    assert waits(site) == before


def test_a_body_is_no_longer_than_it_says(site):
    """In chunks without an end, or without a length at all."""
    head = f"PUT {PLACE}/00/{ZERO} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {site.token('mallory')}\r\nTransfer-Encoding: chunked\r\n"
    chunks = b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    assert raw(site.url, head.encode() + b"\r\n" + chunks)[9:12] == b"400"
    assert raw(site.url, head.encode() + b"Content-Range: bytes 0-7/9\r\n\r\n" + chunks)[9:12] == b"413"


def crafted(**more):
    """An object with a header of ours over little payload."""
    fields = {"codec": "planes", "dtype": "F32", "shape": (4,), "blocks": ((1,), (1,), (1,), (1,)), "check": "0" * 64}
    return object_bytes(Header(**(fields | more)), [b"abcd"])


BOMBS = {
    "nothing": b"x", "a magic alone": MAGIC, "a header without an end": MAGIC + (1 << 62).to_bytes(8, "little"), "a header that is short": MAGIC + (1 << 20).to_bytes(8, "little") + b"{}",
    "a petabyte": crafted(shape=(1 << 36,)), "many dimensions": crafted(shape=(1,) * 60), "negative": crafted(shape=(-4,)), "blocks that lie": crafted(blocks=((1 << 35,), (1,), (1,), (1,))),
    "a hundred thousand blocks": crafted(blocks=((0,) * 100_000,) * 4), "another codec": crafted(codec="pickle"), "a dtype that is none": crafted(dtype="O"), "its own base": crafted(codec="sub", base="b3:00" + ZERO),
    "a base that is a path": crafted(codec="sub", base="../../x"), "raw and short": crafted(codec="raw", blocks=((4,),)), "no check": crafted(check=""), "nesting": MAGIC + (40_000).to_bytes(8, "little") + b"[" * 40_000,
}  # fmt: skip


@pytest.mark.parametrize("what", BOMBS)
def test_an_object_that_is_none_is_a_no(site, what):
    """At once, in words, and nothing of it is kept."""
    before, began = waits(site), time.monotonic()
    answer = put(site, "b3:00" + ZERO, BOMBS[what], site.token("mallory"))
    assert answer.status == 422, answer
    assert time.monotonic() - began < 3
    assert waits(site) == before


def test_a_chain_of_differences_is_not_kept(site, tmp_path):
    """One step is all there may be, at a hub too."""
    names, token = [], site.token("mallory")
    for number in range(3):
        store = Store(tmp_path / str(number))
        array = np.arange(40_000, dtype="u2") + np.uint16(number)
        base = store.put(array - np.uint16(1)) if number else None
        names.append(name := store.put(array, base=base))
        answer = put(site, name, store.path(name).read_bytes(), token)
        assert answer.status == (422 if number == 2 else 201), answer


def test_the_same_object_from_ten_at_once_is_one(site, tmp_path):
    """Sent by one account in pieces that cross: whatever is kept is the object, and it comes in the end."""
    store = Store(tmp_path)
    name = store.put(chance(200_000))
    data, token = store.parcel(name), site.token("mallory")

    def send(number):
        start = number * 1_000 % len(data)
        bad = data if number % 2 else os.urandom(len(data))
        return put(site, name, bad[start:], token, **part(start, len(data), len(data))).status

    with ThreadPoolExecutor(10) as hands:
        assert {*hands.map(send, range(40))} <= {200, 201, 409, 413, 422, 503}
    assert store.copy(hub_at(f"{site.url}/{NAME}", Access(token)), [name]) == 1
    kept = [path for path in waits(site) if path.name == name[5:] and "mallory" in path.parts]
    assert [path.read_bytes() for path in kept] == [data]


def test_a_sender_who_hangs_up_shows_nothing(site, tmp_path):
    """What came is there to go on from, for them alone."""
    store = Store(tmp_path)
    name = store.put(chance(2_000_000))
    data, host, port = store.parcel(name), *site.url.removeprefix("http://").split(":")
    head = f"PUT {address(name)} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {site.token('mallory')}\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + data[: 4 << 20])
    for _ in range(100):
        answer = put(site, name, b"", site.token("mallory"), Content_Range=f"bytes */{len(data)}")
        if answer.status == 202:
            break
        time.sleep(0.05)
    offset = int(answer.headers["upload-offset"])
    assert 0 < offset <= 4 << 20
    assert site.ask(address(name)).status == 404
    rest = put(site, name, data[offset:], site.token("mallory"), **part(offset, len(data), len(data)))
    assert rest.status == 201


def test_who_announces_takes_no_room_from_others(site):
    """Terabytes that never come are counted against their sender."""
    token, biggest = site.token("mallory"), f"bytes */{8 << 30}"
    answers = [put(site, f"b3:{number:02x}{ZERO}", b"", token, Content_Range=biggest).status for number in range(12)]
    assert answers[-1] == 413
    assert put(site, "b3:77" + ZERO, b"", site.token("bruno"), Content_Range="bytes */900").status == 202
    assert put(site, "b3:77" + ZERO, b"", site.token("bruno"), Content_Range=f"bytes */{1 << 45}").status == 413
    for path in waits(site):
        if not path.stat().st_size:
            path.unlink()
    site.app.state.uploads._count()


def test_a_push_takes_what_its_sender_brought_and_no_more(bazaar, hosted, tmp_path):  # noqa: F811
    """What waits for another account stays theirs, and what no ref needs stays where it is."""
    store, hub_git = Store(tmp_path), bazaar.folder / "hub.git"
    mallory = hub_at(remote(hosted), Access(hosted.token("mallory")))
    junk = store.put(chance())
    assert store.copy(mallory, [junk]) == 1
    repo = bazaar.repo("chen")
    repo._own("config", "remote.origin.url", remote(hosted, "chen"))
    number = bazaar.offer("chen", bazaar.delta("greet"))
    names = [ref.digest for ref in pulls.get(Repo.find(hub_git), number).offer.refs()]
    there = Store(hub_git / "souq")
    assert set(names) <= set(there.digests())
    assert junk not in there

    for name in names:
        there.path(name).unlink()
    chen = Store(bazaar.actors["chen"].clone / ".git" / "souq")
    uploads = Uploads(tmp_path / "data" / "incoming")
    waiting = uploads.waiting("mallory", NAME, Repo.find(hub_git))
    assert junk in waiting
    assert chen.copy(mallory, names) >= len(names)  # a ref points at them: whoever brings them
    assert set(names) <= set(there.digests())
    assert junk not in there


# -- a hub that lies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def liar():
    """A hub that answers what it is told to; (method, path below the store) -> (status, headers, body)."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked.append((self.command, self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            default = (200, {}, json.dumps({"store": hubs.FORM}).encode())
            status, headers, body = answers.get(self.command, default)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body if self.command != "HEAD" else b"")

        do_GET = do_HEAD = do_PUT = answer

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    store = hub_at(f"http://127.0.0.1:{server.server_port}/x/y", Access("secret"))
    yield store, answers, asked
    server.shutdown()


def test_a_hub_s_word_is_not_believed(liar, tmp_path, monkeypatch):
    """Sizes without an end, other ranges, more than was asked for, other bytes: refused, and nothing is kept."""
    there, answers, asked = liar
    monkeypatch.setattr(hubs, "TRIES", 1)
    name = Store(tmp_path / "mine").put(chance())
    for head, get in (
        ({"Content-Length": str(1 << 50)}, (200, {}, b"x")),
        ({"Content-Length": "100"}, (206, {"Content-Range": "bytes 50-99/100"}, b"x" * 50)),
        ({"Content-Length": "100"}, (206, {"Content-Range": "bytes 0-99/100", "Content-Length": "9999"}, b"x" * 9_999)),
        ({"Content-Length": "100"}, (200, {}, b"x" * 9_999)),
        ({"Content-Length": "100"}, (200, {}, b"")),
        ({"Content-Length": "-5"}, (200, {}, b"")),
        ({"Content-Length": "100"}, (302, {"Location": "http://127.0.0.1:9/x"}, b"")),
        ({"Content-Length": "100"}, (500, {"X-Error-Message": "\x1b[2J<b>"}, b"")),
    ):
        answers |= {"HEAD": (200, head, b""), "GET": get}
        with pytest.raises(SouqError) as raised:
            there.copy(store := Store(tmp_path / "x"), [name])
        assert "\x1b" not in str(raised.value)
        assert [*store.digests()] == []
    assert {token for _, _, token in asked} == {None}


def test_a_token_goes_nowhere_else(liar, tmp_path, monkeypatch):
    """A hub that points elsewhere, or never has enough, gets no more of it than it had."""
    there, answers, asked = liar
    monkeypatch.setattr(hubs, "TRIES", 1)
    store = Store(tmp_path)
    name = store.put(chance())
    others = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            others.append(self.headers)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for status in (301, 302, 303, 307, 308):
        answers |= {
            "HEAD": (404, {}, b""),
            "PUT": (status, {"Location": f"http://127.0.0.1:{server.server_port}/"}, b""),
        }
        with pytest.raises(SouqError, match=f"answered {status}"):
            store.copy(there, [name])
    assert others == []
    for offset in ("0", "-1", "x", "9" * 400):
        answers["PUT"] = (409, {"Upload-Offset": offset}, b"")
        with pytest.raises(SouqError):
            store.copy(there, [name])
    assert len(asked) < 150
    server.shutdown()


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 100_000, b'{"store": "other"}', b'{"store": 1}', b"<html>", b"\xff", b'{"store": "' + b"x" * 5_000_000], ids=range(8))  # fmt: skip
def test_what_is_no_hub_is_none(liar, body):
    there, answers, _ = liar
    answers["GET"] = (200, {}, body)
    assert hub_at(there.url.removesuffix("/souq/store"), Access()) is None


# -- stopped in the middle ---------------------------------------------------------------------------------------------

KILLS = 15 if ALL_KILLS else 4


@pytest.fixture
def served(built_bazaar, tmp_path):
    """A hub in a process of its own over a town, and the store of the town's model."""
    town, hub = copied(built_bazaar, tmp_path / "town"), Served(tmp_path)
    (tmp_path / "shelf" / "atlas").mkdir()
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(town.folder / "hub.git")
    hub.start()
    yield hub, Store(town.folder / "hub.git" / "souq")
    hub.kill()


@pytest.mark.server
def test_a_large_object_is_never_in_a_hub_s_memory(served, tmp_path, capsys):
    """Neither on its way in, while its digest is computed, nor on its way out."""
    hub, there = served
    mine = Store(tmp_path / "mine")
    base = mine.put(first := chance(75_000_000))
    second = mine.put(first * np.float32(1.0001), base=base)
    size = mine.size(base) + mine.size(second)
    hub.ask(f"/{NAME}/souq/store")
    before, began = hub.peak(), time.monotonic()
    assert mine.copy(hub_at(f"{hub.site.url}/{NAME}", Access(hub.token)), [second]) == 2
    up, grown = time.monotonic() - began, hub.peak() - before
    for name in (base, second):
        [path] = [each for each in (tmp_path / "data").rglob(name[5:]) if each.is_file()]
        there.adopt(name, path)
    began = time.monotonic()
    assert hub_at(f"{hub.site.url}/{NAME}", Access()).copy(Store(tmp_path / "back"), [second]) == 1
    down = time.monotonic() - began
    with capsys.disabled():
        sys.stdout.write(
            f"\n{size / 1e6:.0f} MB up in {up:.1f} s, down in {down:.1f} s; the hub grew by {grown:.0f} MiB\n"
        )
    assert hub.peak() - before < 60


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_hub_that_is_killed_shows_whole_objects_or_none(served, tmp_path):
    """At any moment of many uploads; in the end all came, each is sound, and nothing is left lying."""
    (hub, there), mine = served, Store(tmp_path / "mine")
    lost = sorted(there.digests())
    for name in lost:
        keep(mine, name, there.path(name)) if not there.header(name).base else None
    names = [name for name in lost if name in mine] + [mine.put(chance(1_500_000)) for _ in range(3)]
    generator, cut = random.Random(7), []

    def send():
        try:
            mine.copy(hub_at(f"{hub.site.url}/{NAME}", Access(hub.token)), names)
        except SouqError as error:
            cut.append(error)

    for _ in range(KILLS):
        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(generator.uniform(0.05, 0.8))
        hub.kill()
        thread.join()
        assert there.fsck() == []
        hub.start()
    mine.copy(hub_at(f"{hub.site.url}/{NAME}", Access(hub.token)), names)
    assert there.fsck() == []
    assert cut
    assert {name for name in lost if name in mine} <= set(there.digests())
    folder = tmp_path / "data" / "incoming" / "tensors"
    assert [str(path) for path in folder.rglob("*") if path.is_file() and path.parent.parent.name != "objects"] == []
    assert not [path for path in (folder, there.root) for path in path.rglob("*.part") if any(path.iterdir())]
