"""Files come to a hub by Hugging Face's own clients, are there whole or not at all, and come back as they were."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import _http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.huggingface import lfs, uploads
from souq.hub.limits import Bucket
from tests.hubs import Site, serving


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with desk_in(tmp_path_factory.mktemp("uploads")) as desk:
        yield desk


@contextmanager
def desk_in(folder, database=""):
    """A hub with no model, and what amira and bruno type."""
    (folder / "shelf").mkdir()
    app = application(Catalog(folder / "shelf"), folder / "data", ways=Ways(database))
    app.state.limits.changes = Bucket(10**6, 10**6)  # a test changes more in a minute than a person
    with serving(app) as url:
        yield Desk(Site(url, app, None), folder / "data")


class Desk:
    def __init__(self, site, data):
        self.site, self.data = site, data
        self.amira, self.bruno = (HfApi(site.url, token=site.token(name)) for name in ("amira", "bruno"))
        self.count = 0

    def new(self, **more):
        """A repository of amira's that nobody has written to."""
        self.count += 1
        self.amira.create_repo(name := f"amira/notes-{self.count}", **more)
        return name


def write(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def files_of(api, name, **more):
    return {path for path in api.list_repo_files(name, **more) if path != ".gitattributes"}


def test_a_folder_comes_back_as_it_was(desk, tmp_path):
    """Small and large, weights and words, in folders with odd names."""
    files = {"config.json": b"{}", "a b/ß (1).txt": b"x" * 10, "model.safetensors": os.urandom(5_000),
             "big.dat": os.urandom(3 << 20), "empty": b"", "deep/er/[x]*!#.bin": b"\0\n\xff"}  # fmt: skip
    name = desk.new()
    done = desk.amira.upload_folder(repo_id=name, folder_path=write(tmp_path / "in", files), commit_message="All of it")
    out = Path(desk.amira.snapshot_download(name, local_dir=tmp_path / "out"))

    assert files_of(desk.amira, name) == files.keys()
    assert {path: (out / path).read_bytes() for path in files} == files
    assert desk.amira.model_info(name).sha == done.oid
    assert not desk.amira.verify_repo_checksums(name, local_dir=out).mismatches
    rows = {row.path: row for row in desk.amira.list_repo_tree(name, recursive=True)}
    assert rows["big.dat"].lfs.sha256 == hashlib.sha256(files["big.dat"]).hexdigest()
    assert rows["config.json"].lfs is None


def test_who_uploads_the_same_again_makes_no_commit(desk, tmp_path):
    """The client sends nothing it sees there; and what is sent all the same is answered with the commit that is there."""
    name = desk.new()
    write(tmp_path, {"a.txt": b"a", "big.dat": b"b" * (2 << 20)})
    first = desk.amira.upload_folder(repo_id=name, folder_path=tmp_path)
    again = desk.amira.upload_folder(repo_id=name, folder_path=tmp_path)

    assert first.oid == again.oid
    assert len(desk.amira.list_repo_commits(name)) == 2


def test_a_history_of_changes(desk, tmp_path):
    """Files written, replaced and removed, folders too, each by a commit that its author is named by."""
    name = desk.new()
    desk.amira.upload_file(
        path_or_fileobj=b"one", path_in_repo="a/x.txt", repo_id=name, commit_message="One", commit_description="why\nso"
    )
    desk.amira.create_commit(
        name, [CommitOperationAdd("a/y.txt", b"y"), CommitOperationAdd("b.txt", b"b")], commit_message="Two"
    )
    desk.amira.create_commit(
        name, [CommitOperationDelete("a/"), CommitOperationAdd("b.txt", b"c")], commit_message="Three"
    )
    second, first = [commit.commit_id for commit in desk.amira.list_repo_commits(name)][1:3]

    assert files_of(desk.amira, name) == {"b.txt"}
    assert files_of(desk.amira, name, revision=first) == {"a/x.txt"}
    assert files_of(desk.amira, name, revision=second) == {"a/x.txt", "a/y.txt", "b.txt"}
    assert (
        Path(hf_hub_download(name, "b.txt", revision=second, endpoint=desk.site.url, cache_dir=tmp_path)).read_bytes()
        == b"b"
    )
    desk.amira.delete_file("b.txt", name)
    assert files_of(desk.amira, name) == set()
    assert {author for commit in desk.amira.list_repo_commits(name) for author in commit.authors} == {"amira"}
    assert "Three" in {commit.title for commit in desk.amira.list_repo_commits(name)}


def test_repositories_are_made_once_listed_renamed_and_removed(desk):
    """`exist_ok` is heeded; names that something has already are not taken."""
    name = desk.new(repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="409"):
        desk.amira.create_repo(name, repo_type="dataset")
    assert desk.amira.create_repo(name, repo_type="dataset", exist_ok=True).repo_id == name
    with pytest.raises(HfHubHTTPError, match="409"):
        desk.amira.create_repo(name.upper().replace("AMIRA", "amira"), repo_type="dataset")
    assert name in {each.id for each in desk.amira.list_datasets(author="amira")}
    assert name not in {each.id for each in desk.amira.list_models(author="amira")}
    desk.amira.move_repo(name, "amira/renamed", repo_type="dataset")
    assert not desk.amira.repo_exists(name, repo_type="dataset")
    desk.amira.delete_repo("amira/renamed", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        desk.amira.dataset_info("amira/renamed")
    desk.amira.delete_repo("amira/renamed", repo_type="dataset", missing_ok=True)


def test_branches_and_tags(desk):
    name = desk.new()
    begin = desk.amira.model_info(name).sha
    desk.amira.create_branch(name, branch="try")
    desk.amira.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=name, revision="try")
    desk.amira.create_tag(name, tag="v1", revision="try", tag_message="The first")
    desk.amira.create_tag(name, tag="v0")
    refs = desk.amira.list_repo_refs(name)

    assert {ref.name: ref.target_commit for ref in refs.branches}.keys() == {"main", "try"}
    assert {ref.name for ref in refs.tags} == {"v0", "v1"}
    assert files_of(desk.amira, name, revision="v1") == {"x"}
    assert desk.amira.model_info(name, revision="v0").sha == begin == desk.amira.model_info(name).sha
    with pytest.raises(HfHubHTTPError, match="409"):
        desk.amira.create_branch(name, branch="try")
    desk.amira.create_branch(name, branch="try", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        desk.amira.create_tag(name, tag="v1")
    desk.amira.delete_tag(name, tag="v1")
    desk.amira.delete_branch(name, branch="try")
    with pytest.raises(HfHubHTTPError, match="main"):
        desk.amira.delete_branch(name, branch="main")
    assert [ref.name for ref in desk.amira.list_repo_refs(name).branches] == ["main"]


def test_what_is_not_theirs_is_not_written_to(desk):
    """Neither by another, nor without a token, nor with one that only reads."""
    name = desk.new()
    reader, nobody = HfApi(desk.site.url, token=desk.site.token("amira", "read")), HfApi(desk.site.url, token=False)
    for api, why in (
        (desk.bruno, "403"),
        (reader, "403"),
        (nobody, "401"),
        (HfApi(desk.site.url, token="hf_wrong"), "401"),
    ):
        for step in (
            lambda api=api: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=name), lambda api=api: api.delete_repo(name),
            lambda api=api: api.create_branch(name, branch="x"), lambda api=api: api.create_tag(name, tag="x"),
            lambda api=api: api.create_repo("amira/other"), lambda api=api: api.move_repo(name, "bruno/mine"),
        ):  # fmt: skip
            with pytest.raises(HfHubHTTPError, match=why):
                step()
    assert len(desk.amira.list_repo_commits(name)) == 1


def lines(*values):
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


HEADER = {"key": "header", "value": {"summary": "x"}}


def file(path, data=b"x"):
    return {"key": "file", "value": {"content": base64.b64encode(data).decode(), "path": path, "encoding": "base64"}}


def send(desk, name, body, **more):
    return desk.site.ask(
        f"/api/models/{name}/commit/main", "POST", body, Authorization=f"Bearer {desk.site.token('amira')}", **more
    )


def test_a_commit_on_what_main_is_no_longer_is_stale(desk):
    """The client that looked before sees what changed; the one that repeats what it just sent is told it is done."""
    name = desk.new()
    begin = desk.amira.model_info(name).sha
    body = lines({"key": "header", "value": {"summary": "x", "parentCommit": begin}}, file("a"))
    first, again = send(desk, name, body), send(desk, name, body)

    assert first.status == 200
    assert first.json == again.json
    stale = send(desk, name, lines({"key": "header", "value": {"summary": "y", "parentCommit": begin}}, file("b")))
    assert stale.status == 412
    assert len(desk.amira.list_repo_commits(name)) == 2


def test_all_that_is_wrong_is_said_at_once(desk):
    """And nothing is written."""
    name = desk.new()
    answer = send(
        desk, name, lines(HEADER, *map(file, ["../x", "/x", ".git/config", "a", "a", "A", "a/b", "x\u202ey"]))
    )

    assert answer.status == 400
    for path in ("../x", "/x", ".git/config", "'a' stands twice", "U+202E"):
        assert path in answer.json["error"], answer.json
    assert len(desk.amira.list_repo_commits(name)) == 1
    assert send(desk, name, lines(HEADER, file("a"), file("A"), file("a/b"))).status == 400


def test_a_card_that_nobody_can_read_is_refused_before_anything_is_sent(desk):
    name = desk.new()
    with pytest.raises(ValueError, match="README"):
        desk.amira.upload_file(path_or_fileobj=b"---\nlicense: [\n---\n# x", path_in_repo="README.md", repo_id=name)
    desk.amira.upload_file(
        path_or_fileobj=b"---\nlicense: mit\ntags: [boats]\n---\n# x", path_in_repo="README.md", repo_id=name
    )
    assert {"license:mit", "boats"} <= {*desk.amira.model_info(name).tags}
    assert name in {each.id for each in desk.amira.list_models(filter="boats")}


@pytest.fixture
def small_limits(monkeypatch):
    """What is large, and comes in parts, is small enough for a test; a client goes by LFS."""
    monkeypatch.setattr(uploads, "MOST_FILE", 10_000)
    monkeypatch.setattr(lfs, "IN_PARTS", 300_000)
    monkeypatch.setattr(lfs, "PART", 100_000)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def test_what_is_too_large_for_a_commit_comes_by_lfs(desk, small_limits, tmp_path):
    """In one piece and in parts; what is here already is not sent again."""
    files = {"one.bin": os.urandom(50_000), "parts.bin": os.urandom(350_001), "small.txt": b"x"}
    name, other = desk.new(), desk.new()
    desk.amira.upload_folder(repo_id=name, folder_path=write(tmp_path / "in", files))
    out = Path(desk.amira.snapshot_download(name, local_dir=tmp_path / "out"))

    assert {path: (out / path).read_bytes() for path in files} == files
    before = desk.amira.list_repo_commits(name)[0].commit_id
    assert desk.amira.upload_folder(repo_id=name, folder_path=tmp_path / "in").oid == before
    desk.amira.upload_folder(repo_id=other, folder_path=tmp_path / "in")
    assert {row.path: row.size for row in desk.amira.list_repo_tree(other)}["parts.bin"] == 350_001
    assert not [path for path in (desk.data / "incoming").rglob("*") if path.is_file()]


def test_a_client_that_goes_by_xet_is_told_how_not_to(desk, small_limits, monkeypatch, caplog):
    """It fails, as it would against any hub without Xet, and has said before what to type."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(_http, "_WARNED_TOPICS", set())
    _http.logger.addHandler(caplog.handler)
    name = desk.new()
    with pytest.raises(ConnectionError, match="xet-write-token"):
        desk.amira.upload_file(path_or_fileobj=os.urandom(20_000), path_in_repo="x.bin", repo_id=name)
    answer = desk.site.ask(f"/api/models/{name}/xet-write-token/main")
    assert answer.status == 501
    assert "HF_HUB_DISABLE_XET=1" in answer.headers["x-error-message"]
    assert "HF_HUB_DISABLE_XET=1" in caplog.text


def batch(desk, name, data, size=None, **more):
    body = {
        "operation": "upload",
        "objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": size or len(data)}],
        **more,
    }
    answer = desk.site.ask(
        f"/{name}.git/info/lfs/objects/batch",
        "POST",
        json.dumps(body).encode(),
        Authorization=f"Bearer {desk.site.token('amira')}",
    )
    return answer.json["objects"][0]


def test_an_address_takes_the_file_it_was_given_for_once(desk):
    """Neither other bytes of the same size, nor fewer, nor more, nor anything after that."""
    name, data = desk.new(), os.urandom(5_000)
    path = batch(desk, name, data)["actions"]["upload"]["href"].removeprefix(desk.site.url)

    for wrong in (os.urandom(5_000), data[:-1], data + b"x", b""):
        assert desk.site.ask(path, "PUT", wrong).status in (413, 422)
    assert desk.site.ask(path + "x", "PUT", data).status == 404
    assert desk.site.ask(path, "PUT", data).status == 200
    assert desk.site.ask(path, "PUT", data).status == 404
    assert "actions" not in batch(desk, name, data)
    large = {
        "key": "lfsFile",
        "value": {"path": "x.bin", "algo": "sha256", "oid": hashlib.sha256(data).hexdigest(), "size": 5_000},
    }
    assert send(desk, name, lines(HEADER, large)).status == 200
    assert desk.site.ask(f"/{name}/resolve/main/x.bin").body == data
    other = {"key": "lfsFile", "value": {"path": "y.bin", "algo": "sha256", "oid": "0" * 64, "size": 5}}
    assert send(desk, name, lines(HEADER, other)).status == 400


def walked(desk, python, home):
    """What each step of tests/hub_upload_steps.py came to, by the client that a Python has."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    env |= {
        "HF_ENDPOINT": desk.site.url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": desk.site.token("amira"),
        "HF_HOME": str(home),
    }
    words = [python, Path(__file__).parent / "hub_upload_steps.py", "amira", desk.site.token("bruno")]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_every_step_of_who_writes_with_the_client_that_is_installed_here(desk, tmp_path):
    """Made, uploaded, changed, offered, talked about and removed."""
    outcome, errors = walked(desk, sys.executable, tmp_path)

    assert {name: wrong for name, wrong in outcome["steps"].items() if wrong} == {}, errors[-3_000:]
    assert len(outcome["steps"]) == 35


@pytest.mark.server
@pytest.mark.timeout(600)
@pytest.mark.parametrize("wanted", ["huggingface_hub==1.2.*", "huggingface_hub<2", "huggingface_hub>=2"])
def test_every_step_of_who_writes_with_the_oldest_and_the_newest_clients(
    wanted, desk, tmp_path, record_testsuite_property
):
    """Each in an environment of its own, at its defaults."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    # 1.33's `hf` imports click, which it does not ask for and typer no longer brings
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted, "click"], check=True
    )
    outcome, errors = walked(desk, python, tmp_path / "home")
    record_testsuite_property(f"writes {wanted}", outcome["version"])

    assert {name: wrong for name, wrong in outcome["steps"].items() if wrong} == {}, errors[-3_000:]
    assert len(outcome["steps"]) == 35


SEGMENTS = st.sampled_from(["api", "models", "datasets", "amira", "notes-1", "notes-1.git", "main", "refs", "pr", "1", "1000001", "heads", "commit", "preupload", "discussions", "comment", "c1", "edit", "hide", "title", "status", "merge", "tag", "branch", "settings", "repos", "create", "delete", "move", "validate-yaml", "lfs", "info", "objects", "batch", "verify", "git-upload-pack", "git-receive-pack", "resolve", "tree", "revision", "xet-write-token", "auth-check", "write", "..", "%2F", "%00", ""]) | st.text(max_size=6).map(lambda text: quote(text, safe=""))  # fmt: skip
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["amira", "model", "main", "open", "upload", "0" * 64]), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "organization", "type", "title", "description", "pullRequest", "comment", "status", "tag", "files", "objects", "oid", "size", "operation", "parts", "fromRepo", "toRepo", "content", "path", "startingPoint"]), inner, max_size=4), max_leaves=6)  # fmt: skip
BODIES = VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


@given(st.lists(SEGMENTS, max_size=9), st.sampled_from(["", "?create_pr=1", "?service=git-upload-pack", "?service=git-receive-pack", "?diff=1&p=9&type=x&status=draft"]), st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]), BODIES)  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_somebody_signed_in_asks_is_a_fault(desk, segments, query, method, body):
    """Whatever the address and the body: no answer is a 5xx but the one that says what a hub does not do."""
    sent = body if method in ("POST", "PUT", "DELETE") else None
    answer = desk.site.ask(
        f"/{'/'.join(segments)}{query}", method, sent, Authorization=f"Bearer {desk.site.token('amira')}"
    )

    assert answer.status < 500 or (answer.status, answer.headers.get("x-error-code")) == (501, "NotImplemented"), answer


ROUTES = ["/api/repos/create", "/api/repos/delete", "/api/repos/move", "/api/validate-yaml", "/api/models/amira/fuzzed/preupload/main", "/api/models/amira/fuzzed/commit/main", "/api/models/amira/fuzzed/discussions", "/api/models/amira/fuzzed/discussions/1/comment", "/api/models/amira/fuzzed/discussions/1/comment/c1/edit", "/api/models/amira/fuzzed/discussions/1/title", "/api/models/amira/fuzzed/discussions/1/status", "/api/models/amira/fuzzed/discussions/1/merge", "/api/models/amira/fuzzed/tag/main", "/api/models/amira/fuzzed/branch/x", "/api/models/amira/fuzzed/settings", "/amira/fuzzed.git/info/lfs/objects/batch", "/amira/fuzzed/git-upload-pack", "/amira/fuzzed/git-receive-pack"]  # fmt: skip


@given(st.sampled_from(ROUTES), st.sampled_from(["POST", "PUT", "DELETE"]), BODIES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_at_a_route_that_is_there_is_a_fault(desk, route, method, body):
    desk.amira.create_repo("amira/fuzzed", exist_ok=True)
    answer = desk.site.ask(route, method, body, Authorization=f"Bearer {desk.site.token('amira')}")

    assert answer.status < 500 or (answer.status, answer.headers.get("x-error-code")) == (501, "NotImplemented"), answer
