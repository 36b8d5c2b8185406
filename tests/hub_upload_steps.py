"""What a user of `huggingface_hub` writes to a hub, step by step: run by the Python whose client is tried.

    HF_ENDPOINT=http://127.0.0.1:8000 HF_TOKEN=… python tests/hub_upload_steps.py amira bruno's-token

It prints one JSON object, each step with "" or what went wrong; it needs nothing of souq's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.utils import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

warnings.filterwarnings("ignore")
OWNER, OTHER = sys.argv[1], sys.argv[2]
MARK = huggingface_hub.__version__.replace(".", "-")
NAME, DATA = f"{OWNER}/steps-{MARK}", f"{OWNER}/rows-{MARK}"
FOLDER = Path(tempfile.mkdtemp())
api, other, steps = HfApi(), HfApi(token=OTHER), []


def step(function):
    steps.append(function)
    return function


def raises(words, function, *more, **options):
    try:
        function(*more, **options)
    except (HfHubHTTPError, ValueError) as error:
        message = str(error)
    else:
        raise AssertionError("nothing was raised")
    assert words in message, message


def files(**more):
    return {path for path in api.list_repo_files(NAME, **more) if path != ".gitattributes"}


def read(path, **more):
    return Path(api.hf_hub_download(NAME, path, cache_dir=FOLDER / "cache", **more)).read_bytes()


def put(path, data=b"x", **more):
    return api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=NAME, **more)


@step
def whoami():
    assert api.whoami()["name"] == OWNER


@step
def create_repo():
    assert api.create_repo(NAME).repo_id == NAME
    assert api.create_repo(NAME, exist_ok=True).repo_id == NAME


@step
def create_repo_that_is_there():
    raises("already", api.create_repo, NAME)


@step
def create_repo_of_somebody_else():
    raises("neither", api.create_repo, "somebody-else/x")


@step
def create_dataset():
    assert api.create_repo(DATA, repo_type="dataset").repo_type == "dataset"


@step
def upload_file():
    info = put("config.json", b"{}")
    assert info.oid == api.model_info(NAME).sha
    assert read("config.json") == b"{}"


@step
def upload_file_from_a_path():
    (FOLDER / "a.txt").write_text("a")
    put("folder/a.txt", FOLDER / "a.txt")
    assert read("folder/a.txt") == b"a"


@step
def upload_file_that_is_open():
    with (FOLDER / "a.txt").open("rb") as file:
        put("open.txt", file)
    assert read("open.txt") == b"a"


@step
def upload_weights():
    data = os.urandom(2 << 20)
    put("model.safetensors", data)
    assert read("model.safetensors") == data
    assert api.get_paths_info(NAME, ["model.safetensors"])[0].lfs.size == len(data)


@step
def upload_again():
    before = api.model_info(NAME).sha
    put("config.json", b"{}")
    assert api.model_info(NAME).sha == before


@step
def upload_folder():
    for path in ("x/one.txt", "x/two.bin", "three.md"):
        (FOLDER / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / "in" / path).write_bytes(path.encode())
    api.upload_folder(repo_id=NAME, folder_path=FOLDER / "in", path_in_repo="many")
    assert {"many/x/one.txt", "many/x/two.bin", "many/three.md"} <= files()


@step
def upload_folder_with_patterns():
    api.upload_folder(
        repo_id=NAME, folder_path=FOLDER / "in", allow_patterns="*.md", delete_patterns="*.bin", path_in_repo="many"
    )
    assert "many/x/two.bin" not in files()


@step
def upload_dataset():
    api.upload_folder(repo_id=DATA, folder_path=FOLDER / "in", repo_type="dataset")
    assert "three.md" in api.list_repo_files(DATA, repo_type="dataset")


@step
def create_commit():
    api.create_commit(
        NAME,
        [CommitOperationAdd("b", b"b"), CommitOperationDelete("open.txt")],
        commit_message="Two",
        commit_description="at once",
    )
    assert "open.txt" not in files()
    assert api.list_repo_commits(NAME)[0].title == "Two"


@step
def copy_a_large_file():
    api.create_commit(NAME, [CommitOperationCopy("model.safetensors", "copy.safetensors")], commit_message="Copy")
    assert read("copy.safetensors") == read("model.safetensors")


@step
def delete_file():
    api.delete_file("b", NAME)
    assert "b" not in files()


@step
def delete_folder():
    api.delete_folder("many", NAME)
    assert not [path for path in files() if path.startswith("many/")]


@step
def delete_what_is_not_there():
    raises("doesn't exist", api.delete_file, "nothing", NAME)


@step
def a_stale_parent():
    first = api.list_repo_commits(NAME)[-1].commit_id
    raises(
        "look at what changed",
        api.create_commit,
        NAME,
        [CommitOperationAdd("z", b"z")],
        commit_message="z",
        parent_commit=first,
    )


@step
def two_that_are_one_on_some_disks():
    both = [CommitOperationAdd("Q", b"z"), CommitOperationAdd("q", b"z")]
    raises("one file on some disks", api.create_commit, NAME, both, commit_message="z")


@step
def a_card():
    put(
        "README.md", str(ModelCard("---\nlicense: mit\n---\n# Boats")).encode()
    )  # 1.x asks huggingface.co in push_to_hub
    assert ModelCard.load(NAME).data.license == "mit"
    assert "license:mit" in api.model_info(NAME).tags


@step
def a_card_that_is_broken():
    raises("", put, "README.md", b"---\nlicense: [\n---\n")


@step
def branches():
    api.create_branch(NAME, branch="try")
    put("tried", revision="try")
    assert "tried" in files(revision="try") - files()
    api.delete_branch(NAME, branch="try")
    assert [ref.name for ref in api.list_repo_refs(NAME).branches] == ["main"]


@step
def tags():
    api.create_tag(NAME, tag="v1", tag_message="One")
    assert api.model_info(NAME, revision="v1").sha == api.model_info(NAME).sha
    api.delete_tag(NAME, tag="v1")
    assert not api.revision_exists(NAME, "v1")


@step
def a_branch_that_is_not_there():
    try:
        put("x", revision="nowhere")
    except RevisionNotFoundError:
        return
    raise AssertionError("nothing was raised")


@step
def a_pull_request_by_another():
    found = other.upload_file(
        path_or_fileobj=b"p", path_in_repo="p.txt", repo_id=NAME, create_pr=True, commit_message="A p"
    )
    assert found.pr_num
    assert read("p.txt", revision=f"refs/pr/{found.pr_num}") == b"p"
    api.merge_pull_request(NAME, found.pr_num)
    assert "p.txt" in files()


@step
def a_folder_as_a_pull_request():
    found = other.upload_folder(repo_id=NAME, folder_path=FOLDER / "in", create_pr=True)
    assert "three.md" in files(revision=f"refs/pr/{found.pr_num}")
    api.change_discussion_status(NAME, found.pr_num, "closed")


@step
def a_pull_request_in_several_commits():
    number = other.create_pull_request(NAME, "Several").num
    for path in ("q1", "q2"):
        other.upload_file(path_or_fileobj=b"q", path_in_repo=path, repo_id=NAME, revision=f"refs/pr/{number}")
    other.change_discussion_status(NAME, number, "open")
    api.merge_pull_request(NAME, number)
    assert {"q1", "q2"} <= files()


@step
def a_discussion():
    number = other.create_discussion(NAME, "A question", description="Why?").num
    said = api.comment_discussion(NAME, number, "Because")
    api.edit_discussion_comment(NAME, number, said.id, "Therefore")
    api.rename_discussion(NAME, number, "An answer")
    api.change_discussion_status(NAME, number, "closed")
    shown = api.get_discussion_details(NAME, number)
    assert (shown.title, shown.status) == ("An answer", "closed")
    api.hide_discussion_comment(NAME, number, said.id)
    assert number in {each.num for each in api.get_repo_discussions(NAME)}


@step
def what_is_not_theirs():
    raises("create_pr", other.upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id=NAME)
    raises("", other.delete_repo, NAME)


@step
def a_token_that_is_wrong():
    raises("", HfApi(token="hf_wrong").upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id=NAME)


@step
def hf_upload():
    tool = shutil.which("hf", path=str(Path(sys.executable).parent)) or shutil.which(
        "huggingface-cli", path=str(Path(sys.executable).parent)
    )
    done = subprocess.run([tool, "upload", NAME, str(FOLDER / "in"), "by-hf"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "by-hf/three.md" in files()


@step
def auth_check():
    api.auth_check(NAME)


@step
def move_repo():
    api.move_repo(DATA, f"{DATA}-moved", repo_type="dataset")
    assert api.repo_exists(f"{DATA}-moved", repo_type="dataset")


@step
def delete_repo():
    api.delete_repo(f"{DATA}-moved", repo_type="dataset")
    api.delete_repo(NAME)
    try:
        api.model_info(NAME)
    except RepositoryNotFoundError:
        return
    raise AssertionError("it is there")


def main():
    found = {}
    for each in steps:
        try:
            each()
            found[each.__name__] = ""
        except Exception as error:
            found[each.__name__] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    shutil.rmtree(FOLDER, ignore_errors=True)
    sys.stdout.write(json.dumps({"version": huggingface_hub.__version__, "steps": found}) + "\n")


main()
