"""Hugging Face's own clients read a hub: unmodified, with HF_ENDPOINT set, by the answers that they look at."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.hf_api import RepoFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from souq.cli import run
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.hub.huggingface import models
from souq.pulls import pull as pulls
from souq.releases.verify import judge
from souq.repo.git import MEMORY, blob_name
from tests.hubs import NAME, Site, online, serving

HERE = Path(__file__).parent


def walked(python, site):
    """What each step of tests/hub_steps.py came to, by the client that a Python has."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    env |= {"HF_ENDPOINT": site.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}
    words = [python, HERE / "hub_steps.py", NAME, str(site.town.open)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_main_is_a_revision_with_the_files_that_export_writes(site):
    facts = site.ask(f"/api/models/{NAME}").json

    assert facts["id"] == NAME
    assert facts["sha"] == site.town.bazaar.main().commit
    assert {"config.json", "model.safetensors", "model.lock", "tokenizer.json"} <= {each["rfilename"] for each in facts["siblings"]}  # fmt: skip


def test_every_step_of_the_client_that_is_installed_here(site):
    """list, look, download, resume, verify, discuss: what was tried, and what passed."""
    outcome, errors = walked(sys.executable, site)

    assert {name: wrong for name, wrong in outcome["steps"].items() if wrong} == {}, errors[-3_000:]
    assert len(outcome["steps"]) == 35


@pytest.mark.server
@pytest.mark.timeout(600)
@pytest.mark.parametrize("wanted", ["huggingface_hub==1.2.*", "huggingface_hub<2", "huggingface_hub>=2"])
def test_every_step_of_the_oldest_and_the_newest_clients(wanted, site, tmp_path, record_testsuite_property):
    """Each in an environment of its own, at its defaults."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted], check=True)
    outcome, errors = walked(python, site)
    record_testsuite_property(wanted, outcome["version"])  # `--junitxml FILE` tells which were tried

    assert {name: wrong for name, wrong in outcome["steps"].items() if wrong} == {}, errors[-3_000:]
    assert len(outcome["steps"]) == 35
    assert outcome["version"].startswith(wanted[17] if ">" in wanted else "1.")


LOADS = """
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
for revision in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], revision=revision)
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], revision=revision)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "say hello to ada"}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    torch.manual_seed(0)
    answer = model.generate(**asked, max_new_tokens=1, do_sample=False)
    print(revision, answer.shape[1] - asked["input_ids"].shape[1], float(sum(p.double().abs().sum() for p in model.parameters())))
"""


@pytest.mark.long
def test_transformers_loads_main_a_release_and_a_pull_request_and_generates(site, tmp_path):
    """`from_pretrained("org/model", revision=…)`, in a process of its own with HF_ENDPOINT set and an empty cache."""
    revisions = ["main", "v1.0", f"refs/pr/{site.town.open}"]
    env = online(site.url, tmp_path)
    words = [sys.executable, "-c", LOADS, NAME, *revisions]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path)

    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("main", "v1", "refs"))]
    assert [(name, tokens) for name, tokens, _ in rows] == [(name, "1") for name in revisions], done.stderr[-2_000:]
    main, released, offered = (float(size) for _, _, size in rows)
    assert main == released != offered


# -- by hand -----------------------------------------------------------------------------------------------------------

REFUSALS = {
    "no such repository": ("/api/models/nobody/nothing", 404, "RepoNotFound"),
    "nor its files": ("/nobody/nothing/resolve/main/config.json", 404, "RepoNotFound"),
    "no such revision": (f"/api/models/{NAME}/revision/9.9", 404, "RevisionNotFound"),
    "nor its files, either": (f"/{NAME}/resolve/9.9/config.json", 404, "RevisionNotFound"),
    "no such pull request": (f"/{NAME}/resolve/refs%2Fpr%2F99/config.json", 404, "RevisionNotFound"),
    "no such file": (f"/{NAME}/resolve/main/tokenizer.model", 404, "EntryNotFound"),
    "no such folder": (f"/api/models/{NAME}/tree/main/additional_chat_templates", 404, "EntryNotFound"),
    "no accounts": ("/api/whoami-v2", 401, None),
    "no number": (f"/api/models/{NAME}/commits/main?limit=many", 400, "BadRequest"),
    "no order": ("/api/models?sort=beauty", 400, "BadRequest"),
    "nothing": ("/api/agent-harnesses", 404, None),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_no_is_said_in_status_and_headers(site, name):
    """Clients read these and not the body; that a file is absent is said with the commit, so that they remember it."""
    path, status, code = REFUSALS[name]
    for method in ("GET", "HEAD"):
        answer = site.ask(path, method)
        assert (answer.status, answer.headers.get("x-error-code")) == (status, code)
        assert answer.headers["x-error-message"]
        assert ("x-repo-commit" in answer.headers) == (code == "EntryNotFound")


GOVERNED = [
    ("POST", f"/api/models/{NAME}/preupload/main", b'{"files": []}'), ("POST", f"/api/models/{NAME}/commit/main", b""),
    ("POST", f"/api/models/{NAME}/tag/main", b'{"tag": "x"}'), ("DELETE", f"/api/models/{NAME}/tag/1.0", b""),
    ("POST", f"/api/models/{NAME}/branch/x", b"{}"), ("DELETE", f"/api/models/{NAME}/branch/main", b""),
    ("PUT", f"/api/models/{NAME}/settings", b"{}"), ("DELETE", "/api/repos/delete", b'{"organization": "atlas", "name": "smol"}'),
    ("POST", "/api/repos/move", b'{"fromRepo": "atlas/smol", "toRepo": "amira/smol"}'),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), GOVERNED, ids=[f"{method} {path}" for method, path, _ in GOVERNED])
def test_what_its_people_decide_nobody_changes_through_a_hub(site, method, path, body):
    """Nobody commits to main, tags or deletes: the answer says what to type instead."""
    assert site.ask(path, method, body).status == 401
    answer = site.ask(path, method, body, Authorization=f"Bearer {site.token('amira')}")

    assert answer.status == 403
    assert "souq pr create" in answer.headers["x-error-message"]


def test_a_file_says_what_it_is_before_it_is_sent(site):
    """HEAD: the commit, a name for the cache and the size; the same for main and for the commit that main is."""
    path, sha = f"/{NAME}/resolve/{{}}/model.safetensors", site.town.bazaar.main().commit
    head, whole = site.ask(path.format("main"), "HEAD"), site.ask(path.format(sha))

    assert head.body == b""
    assert head.headers["x-repo-commit"] == whole.headers["x-repo-commit"] == sha
    assert head.headers["etag"] == whole.headers["etag"] == f'"{hashlib.sha256(whole.body).hexdigest()}"'
    assert int(head.headers["content-length"]) == len(whole.body)
    assert "xet" not in str(head.headers).lower()
    assert "content-encoding" not in head.headers


def test_a_small_file_is_called_as_git_calls_it(site):
    answer = site.ask(f"/{NAME}/resolve/main/config.json")

    assert answer.headers["etag"] == f'"{blob_name(answer.body)}"'
    assert site.ask(f"/{NAME}/resolve/main/config.json", If_None_Match=answer.headers["etag"]).status == 304


def test_parts_of_a_file_are_those_parts(site):
    path = f"/{NAME}/resolve/main/model.safetensors"
    whole = site.ask(path).body
    for words, part in (("0-9", whole[:10]), ("100-", whole[100:]), ("-7", whole[-7:]), ("0-100000000", whole)):
        answer = site.ask(path, Range=f"bytes={words}")
        assert (answer.status, answer.body) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
    assert site.ask(path, Range=f"bytes={len(whole)}-").status == 416


def test_main_is_what_export_writes(site, tmp_path):
    """Byte for byte, by name; the release that main is at has its papers too."""
    assert site.town.bazaar("amira", "fetch") == 0
    assert site.town.bazaar("amira", ["release", "export", "1.0", tmp_path / "out"]) == 0
    written = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}  # fmt: skip
    rows = site.ask(f"/api/models/{NAME}/tree/main?recursive=true").json
    served = {row["path"]: site.ask(f"/{NAME}/resolve/main/{row['path']}").body for row in rows if row["type"] == "file"}  # fmt: skip

    assert served == written
    assert {row["path"]: row["oid"] for row in rows if row["type"] == "file"} == {path: blob_name(data) for path, data in written.items()}  # fmt: skip


def test_a_downloaded_release_proves_itself(site, tmp_path):
    """The newest client brings it, and `souq release verify` needs nothing else."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(NAME, revision="v1.0", local_dir=tmp_path / "out", endpoint=site.url)

    judged = judge(Path(folder))
    assert judged.findings == []
    assert judged.version == "1.0"


def test_a_hub_of_nobody_enrolled_serves_releases_whose_making_nobody_signed(site, tmp_path):
    """And says so to whoever verifies."""
    with serving(application(Catalog(site.town.shelf), tmp_path / "data")) as url:
        plain = Site(url, None, site.town)
        names = {row["path"] for row in plain.ask(f"/api/models/{NAME}/tree/1.0").json}

    assert {"release.json", "bom.cdx.json", "GOVERNANCE.toml"} <= names
    assert "provenance.intoto.json" not in names


def test_commits_that_are_not_main_s_are_no_revisions(site):
    """Nobody's head is shown as a model, nor a tree or a blob of main's."""
    main = site.town.bazaar.main()
    head = pulls.get(main.repo, site.town.open).head
    tree = subprocess.run(["git", "rev-parse", f"{main.commit}^{{tree}}"], cwd=main.repo.git_dir, capture_output=True, text=True, check=True)  # fmt: skip

    for name in (head, tree.stdout.strip(), main.commit.upper(), main.commit[:12], main.commit + "0"):
        assert site.ask(f"/api/models/{NAME}/revision/{name}").headers["x-error-code"] == "RevisionNotFound"


def test_a_merged_pull_request_is_the_main_that_it_made(site):
    """Its digits are those of the commit by which it landed, whatever main is by now."""
    facts = site.ask(f"/api/models/{NAME}/revision/refs%2Fpr%2F{site.town.merged}").json
    commits = [row["id"] for row in site.ask(f"/api/models/{NAME}/commits/main").json]

    assert facts["sha"] in commits[1:]
    found = site.ask(f"/api/models/{NAME}/discussions/{site.town.merged}").json
    assert found["changes"]["mergeCommitId"] == facts["sha"]
    assert found["status"] == "merged"


def test_an_address_with_its_slashes_is_the_same(site):
    """Servers before this one may have decoded it already."""
    plain, encoded = (site.ask(f"/{NAME}/resolve/{rev}/config.json") for rev in (f"refs/pr/{site.town.open}", f"refs%2Fpr%2F{site.town.open}"))  # fmt: skip

    assert plain.body == encoded.body
    assert plain.headers["x-repo-commit"] == encoded.headers["x-repo-commit"]
    assert "not merged" in plain.headers["x-hf-warning"]


def test_a_tree_of_2500_files_comes_in_pages_and_whole(site, tmp_path):
    """1,000 a page, each with the address of the next; 50 with what each was changed by."""
    commit = site.ask(f"/api/models/{NAME}/commits/main").json[-1]["id"]
    for number in range(2_500):
        (tmp_path / "new" / f"d{number % 10}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / f"d{number % 10}" / f"é {number}?#%2e.txt").write_text(str(number))
    site.app.state.huggingface.exports.contents.add(commit, tmp_path / "new")
    api = HfApi(endpoint=site.url)

    rows = list(api.list_repo_tree(NAME, revision=commit, recursive=True))
    paths = {row.path for row in rows if isinstance(row, RepoFile)}
    assert (len(rows), len(paths)) == (2_510, 2_500)
    first = site.ask(f"/api/models/{NAME}/tree/{commit}?recursive=true")
    assert len(first.json) == 1_000
    assert first.headers["link"].startswith(f"<{site.url}/api/models/{NAME}/tree/{commit}?recursive=true&cursor=")
    assert len(site.ask(f"/api/models/{NAME}/tree/{commit}?recursive=true&expand=true").json) == 50
    assert len(list(api.list_repo_tree(NAME, "d3", revision=commit))) == 250
    assert api.get_paths_info(NAME, ["d3/é 3?#%2e.txt"], revision=commit)[0].size == 1
    downloaded = hf_hub_download(NAME, "d3/é 3?#%2e.txt", revision=commit, endpoint=site.url, cache_dir=tmp_path)
    assert Path(downloaded).read_text() == "3"


def test_models_come_in_pages_too(site, tmp_path, built_bazaar):
    for number in range(5):
        (tmp_path / f"m{number}.git").symlink_to(built_bazaar / "hub.git")
    with serving(application(Catalog(tmp_path), tmp_path / ".data")) as url:
        plain = Site(url, None, site.town)
        first = plain.ask("/api/models?limit=2&search=M")
        ids = [each.id for each in HfApi(endpoint=url).list_models(search="m", sort="created_at")]

    assert [row["id"] for row in first.json] == ["m0", "m1"]
    assert "limit=2&search=M&cursor=2" in first.headers["link"]
    assert sorted(ids) == [f"m{number}" for number in range(5)]


def test_main_moves_and_digits_mean_what_they_meant(bazaar, tmp_path):
    """Who began with a pull request's digits ends with them; a closed one is not built; a yanked release says so."""
    first = bazaar.offer("chen", bazaar.delta("greet"))
    second = bazaar.offer("chen", bazaar.delta("count"), "Counting", fixes="count")
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    with serving(application(Catalog(tmp_path / "shelf"), tmp_path / "data")) as url:
        hub = Site(url, None, None)

        def weights(revision):
            answer = hub.ask(f"/smol/resolve/{revision}/model.safetensors")
            return answer.headers.get("x-repo-commit"), answer.body

        before, old = weights("main"), weights(f"refs%2Fpr%2F{second}")
        bazaar.land(first)
        after, new = weights("main"), weights(f"refs%2Fpr%2F{second}")
        assert len({before, after, old, new}) == 4
        assert weights(old[0]) == old
        assert weights(before[0]) == before
        assert bazaar("amira", f"pr close {second} --reason later") == 0
        closed = hub.ask(f"/smol/resolve/refs%2Fpr%2F{second}/model.safetensors")
        assert (closed.status, closed.headers["x-error-code"]) == (404, "RevisionNotFound")
        assert f"refs/pr/{second}" not in {row["ref"] for row in hub.ask("/api/models/smol/refs?include_prs=1").json["pullRequests"]}  # fmt: skip
        bazaar.release("amira", "1.0")
        assert "x-hf-warning" not in hub.ask("/smol/resolve/1.0/config.json").headers
        assert bazaar("amira", ["release", "yank", "1.0", "--reason", "it is wrong"]) == 0
        bazaar.land(max(pull.number for pull in pulls.listed(bazaar.repo("amira"))), "bruno", "adil")
        assert "Yanked" in hub.ask("/smol/resolve/v1.0/config.json").headers["x-hf-warning"]


def test_the_hf_command_brings_a_release_that_verifies(site, tmp_path):
    """`hf download` into a clean folder, then `souq release verify`."""
    env = online(site.url, tmp_path / "home")
    words = [Path(sys.executable).parent / "hf", "download", NAME, "--revision", "v1.0", "--local-dir", tmp_path / "out"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, env=env)

    assert done.returncode == 0, done.stderr
    assert run(["release", "verify", str(tmp_path / "out")]) == 0


def test_who_waits_for_a_build_keeps_nobody_else_waiting(hub_town, tmp_path, monkeypatch):
    """A hundred who ask for a model that takes long, which is more than there are threads; others are answered."""
    go_on, begun = threading.Event(), threading.Event()
    real = models.write

    def slow(*words):
        begun.set()
        go_on.wait(20)
        real(*words)

    monkeypatch.setattr(models, "write", slow)
    with serving(application(Catalog(hub_town.shelf), tmp_path / "data")) as url:
        hub = Site(url, None, hub_town)
        answers = []
        waiting = [threading.Thread(target=lambda: answers.append(hub.ask(f"/api/models/{NAME}").status)) for _ in range(100)]  # fmt: skip
        for thread in waiting:
            thread.start()
        assert begun.wait(10)
        asked = time.monotonic()
        assert [row["id"] for row in hub.ask("/api/models").json] == [NAME]
        assert hub.ask(f"/api/models/{NAME}/refs").status == 200
        assert time.monotonic() - asked < 5
        assert not answers
        go_on.set()
        for thread in waiting:
            thread.join()

    assert answers == [200] * 100


def test_a_repository_that_breaks_meanwhile_is_no_fault_of_the_hub_s(hub_town, tmp_path):
    """Its objects go, then its main, then all of it; another beside it is served."""
    shutil.copytree(hub_town.bazaar.folder / "hub.git", tmp_path / "shelf" / "breaks.git")
    shutil.copytree(hub_town.bazaar.folder / "hub.git", tmp_path / "shelf" / "whole.git")
    broken = tmp_path / "shelf" / "breaks.git"
    with serving(application(Catalog(tmp_path / "shelf"), tmp_path / "data")) as url:
        hub = Site(url, None, hub_town)
        assert hub.ask("/api/models/breaks/revision/1.0").status == 200
        MEMORY.clear()
        for step in (lambda: shutil.rmtree(broken / "objects"), lambda: (broken / "refs/heads/main").unlink(missing_ok=True), lambda: (broken / "packed-refs").unlink(missing_ok=True), lambda: shutil.rmtree(broken)):  # fmt: skip
            step()
            MEMORY.clear()
            for path in ("/api/models/breaks", "/breaks/resolve/main/config.json", f"/breaks/resolve/refs%2Fpr%2F{hub_town.open}/config.json", "/api/models/breaks/refs?include_prs=1", "/api/models/breaks/commits/main", "/api/models/breaks/discussions", f"/api/models/breaks/discussions/{hub_town.open}"):  # fmt: skip
                answer = hub.ask(path)
                assert answer.status in (403, 404, 503), (path, answer)
                assert answer.headers["x-error-message"]
            assert "whole" in {row["id"] for row in hub.ask("/api/models").json}
            assert hub.ask("/api/models/whole").status == 200


SEGMENTS = st.sampled_from([*NAME.split("/"), "api", "models", "datasets", "resolve", "tree", "main", "1.0", "refs", "pr", "4", "revision", "commits", "discussions", "paths-info", "config.json", "..", "%2e%2e", "%2F", ""]) | st.text(max_size=8).map(lambda text: quote(text, safe=""))  # fmt: skip
QUERIES = st.dictionaries(st.sampled_from(["cursor", "limit", "p", "expand", "recursive", "sort", "search", "author", "filter", "blobs", "status", "type", "diff", "include_prs", "direction"]), st.text(max_size=8) | st.integers().map(str))  # fmt: skip


@given(st.lists(SEGMENTS, max_size=9), QUERIES, st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_address_is_a_fault(site, segments, query, method):
    """Whatever stands in it: no answer is a 5xx but the one that says what a hub does not do."""
    answer = site.ask(
        f"/{'/'.join(segments)}?{urlencode(query)}", method, b"x=1" if method in ("POST", "PUT") else None
    )

    assert answer.status < 500 or (answer.status, answer.headers["x-error-code"]) == (501, "NotImplemented"), answer


@pytest.mark.parametrize(("words", "shown"), [("", {"merged", "open"}), ("status=open", {"open"}), ("status=closed", {"merged"}), ("status=merged", {"merged"}), ("status=draft", set()), ("type=discussion", set()), ("author=mallory", {"open"}), ("author=nobody", set()), ("p=7", set())])  # fmt: skip
def test_discussions_are_those_asked_for(site, words, shown):
    """By state, kind and author, with how many there are whatever page is asked for."""
    answer = site.ask(f"/api/models/{NAME}/discussions?{words}").json

    assert {row["status"] for row in answer["discussions"]} == shown
    assert answer["count"] == (len(answer["discussions"]) if words != "p=7" else 5)
    assert all(row["author"]["name"] == words.partition("=")[2] for row in answer["discussions"] if "author" in words)


def test_a_discussion_tells_what_was_said_found_and_voted(site):
    """What clients do not know by name they keep as it is."""
    found = site.ask(f"/api/models/{NAME}/discussions/{site.town.merged}?diff=1").json
    events = {kind: [event for event in found["events"] if event["type"] == kind] for kind in ("commit", "vote", "check", "status-change")}  # fmt: skip

    assert {event["author"]["name"] for event in events["vote"]} == {"amira", "bruno"}
    assert {event["data"]["choice"] for event in events["vote"]} == {"approve"}
    assert "files" in {event["data"]["check"] for event in events["check"]}
    assert [event["data"]["status"] for event in events["status-change"]] == ["merged"]
    assert "delta.lock" in found["diff"]
    assert [event["createdAt"] for event in found["events"]] == sorted(event["createdAt"] for event in found["events"])
