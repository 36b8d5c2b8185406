"""What a user of `huggingface_hub` does with a hub, step by step: run by the Python whose client is tried.

    HF_ENDPOINT=http://127.0.0.1:8000 python tests/hub_steps.py atlas/smol 4

It prints one JSON object, each step with "" or what went wrong; it needs nothing of souq's.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi, HfFileSystem, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

NAME, PULL = sys.argv[1], int(sys.argv[2])
CACHE = Path(tempfile.mkdtemp())
FILES = {"config.json", "model.safetensors", "model.lock", "README.md", "tokenizer.json"}
api, steps = HfApi(), []


def step(function):
    steps.append(function)
    return function


def raises(kind, function, *words, **more):
    try:
        function(*words, **more)
    except kind as error:
        return error
    raise AssertionError(f"nothing was raised, not {kind.__name__}")


def load(path="config.json", **more):
    return Path(hf_hub_download(NAME, path, cache_dir=CACHE, **more))


@step
def model_info():
    info = api.model_info(NAME)
    assert len(info.sha) == 40
    assert {each.rfilename for each in info.siblings} >= FILES
    assert info.private is False
    assert info.last_modified.year >= 2024
    assert info.pipeline_tag == "text-generation"
    assert info.safetensors.total > 1_000


@step
def model_info_of_a_release():
    info = api.model_info(NAME, revision="v1.0", files_metadata=True)
    sizes = {each.rfilename: each for each in info.siblings}
    assert "release.json" in sizes
    assert sizes["model.safetensors"].lfs.sha256
    assert sizes["config.json"].size > 10


@step
def model_info_of_some_fields():
    info = api.model_info(NAME, expand=["lastModified", "tags"])
    assert "souq" in info.tags
    assert info.siblings is None


@step
def list_models():
    assert [each.id for each in api.list_models(search="smol")] == [NAME]
    assert [each.id for each in api.list_models(search="no such")] == []


@step
def list_models_of_an_author():
    author = NAME.partition("/")[0]
    assert [each.id for each in api.list_models(author=author, sort="last_modified", limit=5)] == [NAME]
    assert [each.id for each in api.list_models(filter="license:apache-2.0")] == [NAME]


@step
def list_repo_files():
    assert set(api.list_repo_files(NAME)) >= FILES


@step
def list_repo_tree():
    rows = {row.path: row for row in api.list_repo_tree(NAME, recursive=True, revision="1.0")}
    assert rows["model.safetensors"].lfs.size == rows["model.safetensors"].size
    assert rows["records"].tree_id
    assert any(path.startswith("records/") for path in rows)


@step
def list_repo_tree_of_a_folder():
    rows = list(api.list_repo_tree(NAME, "records", revision="1.0", expand=True))
    assert rows
    assert rows[0].last_commit.date.year >= 2024
    raises(EntryNotFoundError, lambda: list(api.list_repo_tree(NAME, "additional_chat_templates")))


@step
def get_paths_info():
    rows = api.get_paths_info(NAME, ["config.json", "records", "nothing.at.all"], revision="1.0", expand=True)
    assert [row.path for row in rows] == ["config.json", "records"]


@step
def list_repo_refs():
    refs = api.list_repo_refs(NAME, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main"]
    assert [ref.ref for ref in refs.tags] == ["refs/tags/1.0"]
    assert f"refs/pr/{PULL}" in {ref.ref for ref in refs.pull_requests}


@step
def list_repo_commits():
    commits = api.list_repo_commits(NAME)
    assert commits[0].commit_id == api.model_info(NAME).sha
    assert len(commits) >= 4
    assert api.list_repo_commits(NAME, revision=f"refs/pr/{PULL}")[0].title.startswith(f"Pull request {PULL}: ")


@step
def exists():
    assert api.repo_exists(NAME)
    assert not api.repo_exists(f"{NAME}-of-another-name")
    assert api.revision_exists(NAME, "1.0")
    assert api.revision_exists(NAME, f"refs/pr/{PULL}")
    assert not api.revision_exists(NAME, "9.9")
    assert api.file_exists(NAME, "config.json")
    assert not api.file_exists(NAME, "pytorch_model.bin")


@step
def download_from_main():
    assert json.loads(load().read_text())["model_type"] == "llama"


@step
def download_from_a_release():
    assert load("release.json", revision="1.0").read_bytes() == load("release.json", revision="v1.0").read_bytes()


@step
def download_from_a_pull_request():
    ours, main = load("model.safetensors", revision=f"refs/pr/{PULL}"), load("model.safetensors")
    assert ours.read_bytes() != main.read_bytes()


@step
def download_from_a_commit():
    sha = api.model_info(NAME, revision=f"refs/pr/{PULL}").sha
    path = load("model.lock", revision=sha)
    assert path.read_bytes() == load("model.lock", revision=f"refs/pr/{PULL}").read_bytes()
    assert sha in path.parts


@step
def download_of_a_file_in_a_folder():
    path = next(row.path for row in api.list_repo_tree(NAME, "records", revision="1.0"))
    assert load(path, revision="1.0").read_bytes()


@step
def snapshot():
    folder = Path(snapshot_download(NAME, cache_dir=CACHE))
    assert {path.name for path in folder.iterdir()} >= FILES
    assert folder.name == api.model_info(NAME).sha


@step
def snapshot_again():
    assert snapshot_download(NAME, cache_dir=CACHE) == snapshot_download(NAME, cache_dir=CACHE, local_files_only=True)


@step
def snapshot_of_some_files():
    folder = Path(snapshot_download(NAME, cache_dir=CACHE / "some", allow_patterns=["*.json"]))
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json"}


@step
def snapshot_into_a_folder():
    folder = Path(snapshot_download(NAME, revision="1.0", local_dir=CACHE / "folder"))
    assert (folder / "records").is_dir()
    assert (folder / "GOVERNANCE.toml").is_file()


@step
def a_missing_file():
    error = raises(EntryNotFoundError, load, "tokenizer.model")
    assert error.response.headers["X-Repo-Commit"]
    assert list(CACHE.glob("models--*/.no_exist/*/tokenizer.model"))


@step
def a_missing_repository():
    raises(RepositoryNotFoundError, api.model_info, "nobody/nothing")
    raises(RepositoryNotFoundError, hf_hub_download, "nobody/nothing", "config.json", cache_dir=CACHE)


@step
def a_missing_revision():
    raises(RevisionNotFoundError, api.model_info, NAME, revision="9.9")
    raises(RevisionNotFoundError, load, revision="refs/pr/999999")


@step
def file_metadata():
    url = huggingface_hub.hf_hub_url(NAME, "model.safetensors", revision="main")
    facts = huggingface_hub.get_hf_file_metadata(url)
    assert len(facts.etag) == 64
    assert facts.commit_hash == api.model_info(NAME).sha
    assert facts.size == load("model.safetensors").stat().st_size


@step
def safetensors_metadata():
    facts = api.get_safetensors_metadata(NAME)
    assert facts.sharded is False
    assert sum(facts.parameter_count.values()) == api.model_info(NAME).safetensors.total


@step
def a_download_goes_on_where_it_was_cut():
    whole = load("model.safetensors").resolve()
    half = CACHE / "cut" / whole.parents[1].name / "blobs" / f"{whole.name}.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(whole.read_bytes()[:1_000])
    again = hf_hub_download(NAME, "model.safetensors", cache_dir=CACHE / "cut")
    assert Path(again).read_bytes() == whole.read_bytes()


@step
def what_was_damaged_is_noticed():
    folder = CACHE / "damaged"
    snapshot_download(NAME, local_dir=folder)
    if not hasattr(api, "verify_repo_checksums"):
        return  # this client has no such step
    assert not api.verify_repo_checksums(NAME, local_dir=folder).mismatches
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    found = api.verify_repo_checksums(NAME, local_dir=folder).mismatches
    assert [each["path"] if isinstance(each, dict) else each.path for each in found] == ["model.safetensors"]


@step
def auth_check():
    api.auth_check(NAME)
    raises(RepositoryNotFoundError, api.auth_check, "nobody/nothing")


@step
def whoami():
    raises(HfHubHTTPError, api.whoami, token="hf_nobody")


@step
def discussions():
    rows = {each.num: each for each in api.get_repo_discussions(NAME)}
    assert rows[PULL].is_pull_request
    assert rows[PULL].status == "open"
    assert {each.status for each in rows.values()} >= {"open", "merged"}
    opened = api.get_repo_discussions(NAME, discussion_status="open", discussion_type="pull_request")
    assert PULL in {each.num for each in opened}


@step
def one_discussion():
    found = api.get_discussion_details(NAME, PULL)
    assert found.git_reference == f"refs/pr/{PULL}"
    assert found.target_branch == "refs/heads/main"
    assert found.events
    assert "contribution.toml" in found.diff
    raises(HfHubHTTPError, api.get_discussion_details, NAME, 999_999)


@step
def a_comment_is_refused_with_the_reason():
    error = raises(HfHubHTTPError, api.comment_discussion, NAME, PULL, "hello", token="hf_nobody")
    assert "token" in str(error)


@step
def file_system():
    files = HfFileSystem()
    assert f"{NAME}/config.json" in files.ls(NAME, detail=False)
    assert json.loads(files.read_text(f"{NAME}@1.0/config.json"))["model_type"] == "llama"
    assert files.exists(f"{NAME}/README.md")


@step
def model_card():
    assert ModelCard.load(NAME).data.license == "apache-2.0"


def main():
    found = {}
    for each in steps:
        try:
            each()
            found[each.__name__] = ""
        except Exception as error:
            found[each.__name__] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    shutil.rmtree(CACHE, ignore_errors=True)
    sys.stdout.write(json.dumps({"version": huggingface_hub.__version__, "steps": found}) + "\n")


main()
