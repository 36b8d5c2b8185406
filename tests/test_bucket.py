"""What the store at a URL promises: the same as a folder's, through S3 itself; and no URL that does more than carry tensors."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import ssl
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.errors import Corrupt, Hostile, NotFound, UsageError
from souq.repo.remote import Repo
from souq.weights import bucket as buckets
from souq.weights.bucket import Bucket, open_remote
from souq.weights.by_parts import keep
from souq.weights.codec import MAGIC
from souq.weights.place import check_url
from souq.weights.store import Store
from tests.servers import free_ports
from tests.tiny import write_model

pytest.importorskip("fsspec")


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.server)])
def there(request, tmp_path):
    """An empty bucket: in this process's memory, and at a real S3 endpoint."""
    base = "memory://souq" if request.param == "memory" else request.getfixturevalue("s3")
    return Bucket(f"{base}/{tmp_path.name}-{os.urandom(4).hex()}")


def bits(array):
    return array.tobytes(), array.dtype, array.shape


def damage(there, name, change=lambda data: data[:-1] + bytes([data[-1] ^ 1])):
    path = there.path(name)
    there.files.pipe_file(path, change(bytes(there.files.cat_file(path))))


def test_up_and_down(there, tmp_path):
    """What is missing goes up, bases first, and comes down bit for bit; the second time nothing travels."""
    here, other = Store(tmp_path / "here"), Store(tmp_path / "other")
    base = np.random.default_rng(0).standard_normal(50_000).astype("f4")
    first = here.put(base)
    second = here.put(base * np.float32(1.0001), base=first)
    lone = here.put(np.float64(3))
    assert here.header(second).base == first

    assert here.copy(there, [second, lone]) == 3
    assert here.copy(there, [second, first, lone]) == 0
    assert there.copy(other, [second, lone]) == 2  # and the base, without being asked for
    assert there.copy(other, [second, first, lone]) == 0

    assert [bits(other.get(n)) for n in (first, second, lone)] == [bits(here.get(n)) for n in (first, second, lone)]
    assert other.fsck() == []
    assert second in there
    assert "b3:" + "0" * 64 not in there


def test_what_is_not_there(there, tmp_path):
    absent = "b3:" + "7" * 64

    with pytest.raises(NotFound, match=absent):
        there.copy(Store(tmp_path / "a"), [absent])
    assert there.copy(Store(tmp_path / "a"), [absent], strict=False) == 0
    with pytest.raises(Hostile):
        there.path("b3:../../../etc/passwd")


def test_damage_there_is_named_and_not_taken(there, tmp_path):
    """A flipped bit, a cut object, another's bytes: refused on arrival, by name, and nothing is kept under it."""
    here = Store(tmp_path / "here")
    chance = np.random.default_rng(1)
    good, cut, flipped, other = (here.put(chance.standard_normal(3000)) for _ in range(4))
    here.copy(there, [good, cut, flipped, other])
    damage(there, flipped)
    damage(there, cut, lambda data: data[: len(data) // 2])
    damage(there, other, lambda _: here.parcel(good))

    for number, name in enumerate((flipped, cut, other)):
        mine = Store(tmp_path / str(number))
        with pytest.raises(Corrupt, match=name) as raised:
            there.copy(mine, [name])
        assert there.url in str(raised.value)
        assert "souq push" in raised.value.hint
        assert list(mine.digests()) == []
    assert there.copy(Store(tmp_path / "well"), [good]) == 1


def test_a_damaged_base_there_is_the_one_named(there, tmp_path):
    here, mine = Store(tmp_path / "here"), Store(tmp_path / "mine")
    base = np.arange(4000, dtype="f4")
    first = here.put(base)
    second = here.put(base + 1, base=first)
    here.copy(there, [second])
    damage(there, first)

    with pytest.raises(Corrupt, match=first):
        there.copy(mine, [second])
    assert list(mine.digests()) == []


def test_what_is_a_difference_there_is_no_base_for_another(there, tmp_path):
    """Two repositories share a bucket: what one keeps dense the other keeps as a difference. No chain comes of it."""
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    a = np.arange(6000, dtype="f4")
    first = one.put(a)
    second = one.put(a + 1, base=first)
    one.copy(there, [second])
    assert two.put(a + 1) == second
    third = two.put(a + 2, base=second)
    assert two.header(third).base == second

    two.copy(there, [third])
    back = Store(tmp_path / "back")
    there.copy(back, [third])

    assert bits(back.get(third)) == bits(a + 2)


def test_a_chain_there_ends(there, tmp_path):
    """Differences from differences, put there by hand, are followed two steps and no further."""
    names = [np.arange(100, dtype="u1") + i for i in range(5)]
    made = []
    for number, array in enumerate(names):
        store = Store(tmp_path / str(number))
        base = store.put(names[number - 1]) if number else None
        made.append(store.put(array, base=base))
        assert bool(store.header(made[-1]).base) == bool(number)
        there.files.pipe_file(there.path(made[-1]), store.parcel(made[-1]))

    short, long = Store(tmp_path / "short"), Store(tmp_path / "long")
    assert there.copy(short, [made[2]]) == 1
    assert bits(short.get(made[2])) == bits(names[2])
    with pytest.raises(Corrupt, match="difference from a difference"):
        there.copy(long, [made[4]])


def test_too_large_is_not_even_asked_for(there, tmp_path, monkeypatch):
    here, mine = Store(tmp_path / "here"), Store(tmp_path / "mine")
    name = here.put(np.random.default_rng(0).standard_normal(3000))
    here.copy(there, [name])
    monkeypatch.setattr(buckets, "MAX_OBJECT", 1000)

    with pytest.raises(Corrupt, match="the most is 1,000"):
        there.copy(mine, [name])


def test_many_small_and_some_large(there, tmp_path, monkeypatch):
    """Eight at a time or one by one, everything arrives, and the progress ends where it said it would."""
    monkeypatch.setattr(buckets, "SMALL", 2000)
    here, other, seen = Store(tmp_path / "here"), Store(tmp_path / "other"), []
    names = [here.put(np.random.default_rng(i).standard_normal(100 if i % 5 else 1000)) for i in range(60)]

    assert here.copy(there, names, lambda *told: seen.append(told)) == 60
    assert there.copy(other, names) == 60
    assert other.fsck() == []
    assert seen[-1][1] == seen[-1][2] == sum(map(here.size, names))


UPLOADER = """
import sys
from pathlib import Path
import numpy as np
from souq.weights.bucket import Bucket
from souq.weights.store import Store
store, there = Store(Path(sys.argv[1])), Bucket(sys.argv[2])
names = list(store.digests())
print(len(names), flush=True)
store.copy(there, names)
"""


def test_an_upload_that_is_killed(s3, tmp_path):
    """Whatever it had named is whole; the same push later sends the rest, and only the rest."""
    store, there = Store(tmp_path / "here"), Bucket(f"{s3}/killed-{os.urandom(4).hex()}")
    names = sorted(store.put(np.random.default_rng(i).standard_normal(300_000)) for i in range(40))
    loader = subprocess.Popen([sys.executable, "-c", UPLOADER, str(store.root), there.url], stdout=subprocess.PIPE)
    loader.stdout.readline()
    until = time.monotonic() + 60
    while not any(name in there for name in names[:8]) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(loader.pid, signal.SIGKILL)
    loader.wait()
    before = [name for name in names if name in there]

    sent = store.copy(there, names)

    assert 0 < len(before) < len(names)
    assert 0 < sent <= len(names) - len(before)  # the server may finish what was under way when its client died
    back = Store(tmp_path / "back")
    assert there.copy(back, names) == len(names)
    assert back.fsck() == []


def test_no_answer_is_said_in_words(tmp_path, monkeypatch):
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()

    with pytest.raises(NotFound, match="cannot be reached") as raised:
        Bucket("s3://models/x").copy(Store(tmp_path), ["b3:" + "0" * 64])
    assert "AWS_ACCESS_KEY_ID" in raised.value.hint
    s3fs.S3FileSystem.clear_instance_cache()


READER = """
import sys
from pathlib import Path
from souq.weights.bucket import Bucket
from souq.errors import UsageError
from souq.weights.store import Store
mine, there = Store(Path(sys.argv[1])), Bucket(sys.argv[2])
print(there.copy(mine, [sys.argv[3]]))
print(there.copy(mine, ["b3:" + "0" * 64], strict=False))
try:
    mine.copy(there, sys.argv[3:])
except UsageError as error:
    print("can only be read" if "can only be read, and it lacks 1 of these tensors" in str(error) else error)
"""


def test_https_is_read_and_never_written(tmp_path):
    """A folder of objects behind any web server is a store to fetch from."""
    pytest.importorskip("aiohttp")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run(words, check=True, capture_output=True)
    here, mine = Store(tmp_path / "web"), Store(tmp_path / "mine")
    name = here.put(np.arange(500, dtype="f4"))
    lone = mine.put(np.arange(3, dtype="f4"))

    def handler(*told):
        return http.server.SimpleHTTPRequestHandler(*told, directory=tmp_path / "web")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"https://127.0.0.1:{server.server_port}"
    words = [sys.executable, "-c", READER, str(mine.root), there, name, lone]
    try:
        done = subprocess.run(words, env=os.environ | {"SSL_CERT_FILE": str(cert)}, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.stdout.splitlines() == ["1", "0", "can only be read"], done.stderr
        assert bits(mine.get(name)) == bits(np.arange(500, dtype="f4"))
        with pytest.raises(
            NotFound, match="cannot be reached"
        ):  # a certificate nobody here trusts is not an empty store
            Bucket(there).copy(Store(tmp_path / "x"), [name], strict=False)
    finally:
        server.shutdown()


# -- URLs --------------------------------------------------------------------------------------------------------------

WRONG = {
    "ftp://models/x": "begins with none of",
    "http://models/x": "begins with none of",
    "github://org:repo@main/x": "begins with none of",
    "simplecache::s3://models/x": "begins with none of",
    "s3://models/x::file:///etc": "chains",
    "s3://key:secret@models/x": "names a user",
    "https://you@models.example/x": "names a user",
    "s3://models/../other": "climbs out",
    "s3://models/x?versionId=1": "holds more than",
    "s3://models/[x]": "holds more than",
    "s3://models/x y": "holds more than",
    "s3://-models": "holds more than",
    "s3://": "begins with none of",
    "file://server/share": "names no folder",
    "file:///a/../b": "climbs out",
    "reference://x": "begins with none of",
    "": "begins with none of",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_is_refused_says_why(url):
    """Nothing but a bucket and a folder; and the URL, which may hold a password, is not repeated."""
    with pytest.raises(UsageError, match=WRONG[url]) as raised:
        check_url(url, local=True)
    assert "secret" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    "url", ["s3://models", "s3://models/a-b_c.d/", "gs://m/x", "az://box/x", "https://h.example:8443/x"]
)
def test_a_url_that_is_taken(url):
    assert check_url(url, local=False) == url.rstrip("/")


def test_a_folder_of_this_machine_only_where_somebody_here_said_so():
    for url in ("file:///srv/models", "memory://x"):
        assert check_url(url, local=True) == url
        with pytest.raises(UsageError, match="your own `git config"):
            check_url(url, local=False)
    assert isinstance(open_remote("file:///srv/models"), Store)


# -- repositories ------------------------------------------------------------------------------------------------------


def git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_repository_whose_remote_is_no_folder(s3, bazaar, tmp_path, monkeypatch):
    """History on a git URL, tensors in a bucket that main's souq.toml names: init, push, clone, offer, check, fetch."""
    write_model(tmp_path / "tiny", seed=5)
    url = f"{s3}/smol-{os.urandom(4).hex()}"
    git(tmp_path, "init", "-q", "--bare", "--initial-branch=main", "forge.git")
    forge = f"file://{tmp_path}/forge.git"
    init = ["init", "smol", "--from", tmp_path / "tiny", "--store", url, "--no-suite", "--governance", "solo"]
    assert bazaar("amira", [*init, "--licence", "Apache-2.0"], at=tmp_path) == 0
    assert bazaar("amira", ["push", forge], at=tmp_path / "smol") == 0
    assert not (tmp_path / "forge.git" / "souq").exists()

    assert bazaar("bruno", ["clone", forge, "his"], at=tmp_path) == 0
    his = Repo.find(tmp_path / "his")
    assert his.store.fsck() == []
    assert len(list(his.store.digests())) == len(list(Repo.find(tmp_path / "smol").store.digests()))

    # a clone of text alone builds from the bucket, keeps nothing of it, and what nothing points at is swept there
    assert bazaar("chen", ["clone", forge, "text", "--no-tensors"], at=tmp_path) == 0
    assert bazaar("chen", ["build"], at=tmp_path / "text") == 0
    assert list(Repo.find(tmp_path / "text").store.digests()) == []
    there, junk = Bucket(url), Store(tmp_path / "junk")
    lone = junk.put(np.arange(99, dtype="f4"))
    junk.copy(there, [lone])
    assert bazaar("amira", ["gc", "--remote", "--grace", "-1"], at=tmp_path / "smol") == 0
    assert lone not in there
    assert there.copy(Store(tmp_path / "all"), list(his.store.digests())) == len(list(his.store.digests()))

    # another's clone of another place: an own setting wins, and it need not be there yet
    assert bazaar("chen", ["clone", forge, "thin", "--no-tensors"], at=tmp_path) == 0
    git(tmp_path / "thin", "config", "souq.store", f"file://{tmp_path}/empty")
    code = bazaar("chen", ["fetch"], at=tmp_path / "thin")
    assert code == 1
    git(tmp_path / "thin", "config", "--unset", "souq.store")
    assert bazaar("chen", ["fetch"], at=tmp_path / "thin") == 0


def test_a_remote_without_a_store_says_what_to_do(bazaar, tmp_path):
    """History can be read and voted on; tensors are asked for with the setting that names them."""
    forge = f"file://{bazaar.folder}/hub.git"
    assert bazaar("bruno", ["clone", forge, "thin", "--no-tensors"], at=tmp_path) == 0
    assert bazaar("bruno", ["status"], at=tmp_path / "thin") == 0

    bazaar.capfd.readouterr()
    assert bazaar("bruno", ["fetch"], at=tmp_path / "thin") == 1
    assert "git config souq.store URL" in bazaar.capfd.readouterr().err


def test_souq_toml_of_a_clone_or_a_head_is_not_asked(bazaar, tmp_path):
    """What stands in the working tree, or in another branch, names no store: main's own souq.toml does."""
    repo = bazaar.repo("adil")
    (repo.root / "souq.toml").write_text('name = "x"\nlicence = "MIT"\nbase = "y"\n[store]\nurl = "s3://evil/x"\n')

    assert isinstance(repo.remote_store(), Store)
    assert repo.remote_store().root == bazaar.folder / "hub.git" / "souq"


def test_what_is_taken_from_elsewhere_is_checked(tmp_path):
    """`Store.take`: another's bytes under a name, or a difference whose base is not here, are refused."""
    here, other = Store(tmp_path / "here"), Store(tmp_path / "other")
    base = np.arange(4000, dtype="f4")
    first = here.put(base)
    second = here.put(base + 1, base=first)

    with pytest.raises(NotFound, match=first):
        other.take(second, here.parcel(second))
    with pytest.raises(Corrupt, match="another digest"):
        other.take(second, here.parcel(first))
    for data in (b"", MAGIC, here.parcel(first)[:-1], here.parcel(first) + b"x"):
        with pytest.raises(Corrupt, match=first):
            other.take(first, data)
    assert list(other.digests()) == []
    other.take(first, here.parcel(first))
    other.take(second, here.parcel(second))
    assert other.header(second).base == first
    assert bits(other.get(second)) == bits(base + 1)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_both_ways_to_take_take_the_same(tmp_path_factory, data):
    """Whole or part by part, bytes that were tampered with are an object to both readers or to neither."""
    folder = tmp_path_factory.mktemp("two")
    here = Store(folder / "here")
    base = np.arange(300, dtype="f4")
    first = here.put(base)
    name = here.put(base + 1, base=first if data.draw(st.booleans()) else None)
    parcel = bytearray(here.parcel(name))
    for _ in range(data.draw(st.integers(0, 3))):
        parcel[data.draw(st.integers(0, len(parcel) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(parcel[: len(parcel) - data.draw(st.sampled_from([0, 0, 0, 1, 50]))])
    taken = []
    for way in ("take", "keep"):
        other = Store(folder / way)
        other.take(first, here.parcel(first))
        (file := folder / "file").write_bytes(cut)
        with contextlib.suppress(Corrupt, NotFound):
            other.take(name, cut) if way == "take" else keep(other, name, file)
        taken.append(sorted(other.digests()))
    assert taken[0] == taken[1]


def test_the_library_is_asked_for_by_name(tmp_path, monkeypatch):
    from souq.errors import Missing

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(Missing, match="s3fs is not installed") as raised:
        Bucket("s3://models/x").size("b3:" + "0" * 64)
    assert raised.value.hint == "run `pip install 'souq[remote]'`"


def test_a_corpus_is_asked_where_it_lies(s3, tmp_path):
    """SQL over a corpus in a bucket gives the folder's answer."""
    import fsspec

    from souq.corpus.dump import publish
    from souq.corpus.query import query
    from souq.corpus.recipe import CorpusRecipe
    from souq.corpus.row import Row, row_id
    from souq.lab.chat import Message

    chance = np.random.default_rng(0)
    rows = []
    for i in range(4_000):
        said = (Message(role="user", content=f"q{i}"), Message(role="assistant", content=chance.bytes(150).hex()))
        rows.append(Row(id=row_id(said), messages=said, licence="MIT", origin="synthetic", depth=1, real_fraction=0.0, domain=f"d{i % 3}"))  # fmt: skip
    publish(rows, tmp_path / "corpus", CorpusRecipe(name="x"), teacher="b3:t", engine="e", licence="MIT")
    files = fsspec.filesystem("s3", use_listings_cache=False)
    with contextlib.suppress(FileExistsError):
        files.mkdir(s3)
    files.put(f"{tmp_path}/corpus/", f"{s3}/{tmp_path.name}-corpus/", recursive=True)
    sql = "SELECT domain, count(*) FROM kept GROUP BY ALL ORDER BY ALL"
    found = query(f"{s3}/{tmp_path.name}-corpus", sql)

    assert found == query(str(tmp_path / "corpus"), sql)
    assert [count for _, count in found[1]] == [1334, 1333, 1333]
