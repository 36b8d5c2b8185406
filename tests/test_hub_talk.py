"""What people say and offer through a hub: pull requests of plain repositories, and drafts of a model that is governed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from souq.build import delta_file
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.pulls import pull as pulls
from tests.databases import POSTGRES
from tests.hubs import NAME, Site, serving
from tests.test_hub_uploads import desk_in, files_of, write


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=POSTGRES)])
def desk(request, tmp_path_factory):
    """A hub with no model, on a database of each kind in turn."""
    database = request.getfixturevalue("postgres").fresh() if request.param == "postgresql" else ""
    with desk_in(tmp_path_factory.mktemp("talk"), database) as desk:
        yield desk


def test_a_stranger_s_change_is_a_pull_request_that_the_owner_merges(desk):
    """Its files are its revision, its words its description; what is merged is main's."""
    name = desk.new()
    done = desk.bruno.upload_file(
        path_or_fileobj=b"x",
        path_in_repo="x.txt",
        repo_id=name,
        create_pr=True,
        commit_message="An x",
        commit_description="It is missing",
    )
    number = done.pr_num

    assert files_of(desk.amira, name) == set()
    assert files_of(desk.amira, name, revision=f"refs/pr/{number}") == {"x.txt"}
    shown = desk.amira.get_discussion_details(name, number)
    assert (shown.title, shown.author, shown.status, shown.is_pull_request) == ("An x", "bruno", "open", True)
    assert "+x" in shown.diff
    assert [event.type for event in shown.events] == ["comment", "commit"]
    with pytest.raises(HfHubHTTPError, match="403"):
        desk.bruno.merge_pull_request(name, number)
    desk.amira.merge_pull_request(name, number, comment="Thank you")
    assert files_of(desk.amira, name) == {"x.txt"}
    merged = desk.amira.get_discussion_details(name, number)
    assert merged.status == "merged"
    assert merged.merge_commit_oid == desk.amira.model_info(name).sha
    with pytest.raises(HfHubHTTPError, match="nothing to merge"):
        desk.amira.merge_pull_request(name, number)


def test_a_pull_request_may_be_begun_before_its_files(desk):
    """As the newest client does; several commits may come, by its author and by the owner, and by nobody else."""
    name = desk.new()
    number = desk.bruno.create_pull_request(name, "Some files", description="Soon").num
    revision = f"refs/pr/{number}"
    desk.bruno.upload_file(path_or_fileobj=b"1", path_in_repo="one", repo_id=name, revision=revision)
    desk.amira.upload_file(path_or_fileobj=b"2", path_in_repo="two", repo_id=name, revision=revision)
    carla = HfApi(desk.site.url, token=desk.site.token("carla"))
    with pytest.raises(HfHubHTTPError, match="403"):
        carla.upload_file(path_or_fileobj=b"3", path_in_repo="three", repo_id=name, revision=revision)
    assert desk.amira.get_discussion_details(name, number).status == "draft"
    desk.bruno.change_discussion_status(name, number, "open")
    desk.amira.upload_file(path_or_fileobj=b"m", path_in_repo="mine", repo_id=name)
    desk.amira.merge_pull_request(name, number)
    assert files_of(desk.amira, name) == {"one", "two", "mine"}


def test_what_does_not_fit_main_any_more_is_not_merged(desk):
    name = desk.new()
    desk.amira.upload_file(path_or_fileobj=b"a\n", path_in_repo="x", repo_id=name)
    number = desk.bruno.upload_file(path_or_fileobj=b"b\n", path_in_repo="x", repo_id=name, create_pr=True).pr_num
    desk.amira.upload_file(path_or_fileobj=b"c\n", path_in_repo="x", repo_id=name)

    with pytest.raises(HfHubHTTPError, match="changed the same"):
        desk.amira.merge_pull_request(name, number)
    assert desk.amira.get_discussion_details(name, number).status == "open"


def test_a_repeated_offer_is_one_pull_request(desk):
    """The newest client sends a commit again whose answer it did not see."""
    name = desk.new()
    numbers = {
        desk.bruno.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=name, create_pr=True).pr_num
        for _ in range(3)
    }

    assert len(numbers) == 1
    assert (
        desk.bruno.upload_file(path_or_fileobj=b"y", path_in_repo="x", repo_id=name, create_pr=True).pr_num
        not in numbers
    )


def test_people_talk(desk):
    """Begun, answered, changed, hidden, renamed, closed and opened; each by who may."""
    name = desk.new()
    number = desk.bruno.create_discussion(name, "A question", description="Why?").num
    answer = desk.amira.comment_discussion(name, number, "Because\n\n**of** <b>it</b>")
    desk.amira.edit_discussion_comment(name, number, answer.id, "Therefore")
    for step in (
        lambda: desk.bruno.edit_discussion_comment(name, number, answer.id, "No"), lambda: desk.bruno.hide_discussion_comment(name, number, answer.id),
        lambda: desk.bruno.edit_discussion_comment(name, number, "c99999", "No"), lambda: desk.bruno.comment_discussion(name, 77, "No"),
    ):  # fmt: skip
        with pytest.raises(HfHubHTTPError, match="404"):
            step()
    desk.bruno.rename_discussion(name, number, "Another question")
    desk.amira.change_discussion_status(name, number, "closed", comment="Done")
    shown = desk.amira.get_discussion_details(name, number)

    assert (shown.title, shown.status) == ("Another question", "closed")
    assert [event.type for event in shown.events] == ["comment", "comment", "title-change", "comment", "status-change"]
    assert shown.events[1].content == "Therefore"
    assert shown.events[1].edited
    desk.amira.hide_discussion_comment(name, number, shown.events[1].id)
    hidden = desk.amira.get_discussion_details(name, number).events[1]
    assert hidden.hidden
    assert "Therefore" not in str(hidden.__dict__)
    desk.amira.change_discussion_status(name, number, "open")
    assert [
        each.num
        for each in desk.amira.get_repo_discussions(name, discussion_status="open", discussion_type="discussion")
    ] == [number]
    assert list(desk.amira.get_repo_discussions(name, author="amira")) == []
    with pytest.raises(HfHubHTTPError, match="a title has"):
        desk.bruno.create_discussion(name, "ab")
    desk.amira.delete_repo(name)
    desk.amira.create_repo(name)
    assert list(desk.amira.get_repo_discussions(name)) == []


# -- a model that is governed ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(hub_town, tmp_path_factory):
    """A hub of its own, in which people talk as they like."""
    app = application(Catalog(hub_town.shelf), tmp_path_factory.mktemp("talk"))
    with serving(app) as url:
        yield Site(url, app, hub_town)


@pytest.fixture
def mallory(site):
    return HfApi(site.url, token=site.token("mallory"))


@pytest.fixture
def amira(site):
    return HfApi(site.url, token=site.token("amira"))


def adapter_of(site):
    """The folder in which an adapter of this model was trained."""
    return site.town.bazaar.folder / "greet-adapter"


def judged(api, number):
    """What the hub says of a draft, as soon as it does."""
    for _ in range(200):
        events = api.get_discussion_details(NAME, number).events
        if said := [event.content for event in events if event.author == "(hub)"]:
            return said[-1]
        time.sleep(0.2)
    raise AssertionError("the hub says nothing")


def test_files_for_a_governed_model_are_a_draft(site, mallory, amira, tmp_path):
    """Read by the hub, seen by their author and nobody else, and neither main, nor a vote, nor a number of git's."""
    before = amira.model_info(NAME).sha
    done = mallory.upload_folder(repo_id=NAME, folder_path=adapter_of(site), create_pr=True, commit_message="Greetings")
    number = done.pr_num

    assert number >= 1_000_001
    assert amira.model_info(NAME).sha == before
    assert judged(mallory, number).partition(": ")[2].startswith("can be taken: LoRA of rank")
    shown = amira.get_discussion_details(NAME, number)
    assert (shown.status, shown.author, shown.title) == ("draft", "mallory", "Greetings")
    assert number in {each.num for each in amira.get_repo_discussions(NAME)}
    raw = site.ask(f"/api/models/{NAME}/discussions/{number}").json
    assert raw["souq"]["command"].startswith(f"souq pr create {site.url}/{NAME}/discussions/{number} ")
    out = mallory.snapshot_download(NAME, revision=f"refs/pr/{number}", local_dir=tmp_path / "out")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in Path(out).iterdir()}
    for other in (amira, HfApi(site.url, token=False)):
        for revision in (f"refs/pr/{number}", done.oid):
            with pytest.raises(RevisionNotFoundError):
                other.model_info(NAME, revision=revision)
    with pytest.raises(HfHubHTTPError, match="souq pr create"):
        amira.merge_pull_request(NAME, number)
    mallory.change_discussion_status(NAME, number, "closed")
    with pytest.raises(RevisionNotFoundError):
        mallory.model_info(NAME, revision=f"refs/pr/{number}")


def test_a_draft_becomes_souq_s_own_by_the_command_that_it_says(bazaar, tmp_path, monkeypatch):
    """Its author types what the hub says; what is offered is what the folder would be, and names no hub."""
    (tmp_path / "shelf" / "atlas").mkdir(parents=True)
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data")
    with serving(app) as url:
        own = Site(url, app, None)
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", own.token("chen"))
        api = HfApi(url, token=own.token("chen"))
        done = api.upload_folder(repo_id=NAME, folder_path=bazaar.folder / "greet-adapter", create_pr=True)
        words = [
            "pr",
            "create",
            done.pr_url,
            "--title",
            "Greetings",
            "--licence",
            "apache-2.0",
            "--signoff",
            "--fixes",
            "greet",
        ]
        assert bazaar("chen", words) == 0
        pull = pulls.listed(bazaar.repo("chen"))[-1]
        made, _ = delta_file.read_delta(bazaar.delta("greet"))
        assert pull.offer.delta.parts.keys() == made.parts.keys()
        assert url not in str(pull.offer.files)
        monkeypatch.setenv("HF_TOKEN", own.token("mallory"))
        assert bazaar("mallory", words) == 1


def test_a_draft_that_cannot_be_taken_says_every_reason(site, mallory, tmp_path):
    write(
        tmp_path,
        {
            "adapter_config.json": b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}',
            "adapter_model.bin": b"\x80\x04K\x01.",
            "code.py": b"import os",
        },
    )
    number = mallory.upload_folder(repo_id=NAME, folder_path=tmp_path, create_pr=True).pr_num

    words = judged(mallory, number)
    assert "cannot be taken" in words
    assert "adapter_model.bin" in words
    mallory.change_discussion_status(NAME, number, "closed")


def test_a_web_comment_on_a_signed_pull_request_is_the_hub_s_own(site, mallory, amira):
    """It stands beside what was signed, says so, and changes nothing about what is missing."""
    mallory.comment_discussion(NAME, site.town.open, "I approve!")
    shown = site.ask(f"/api/models/{NAME}/discussions/{site.town.open}").json
    said = [event for event in shown["events"] if event["type"] == "comment" and event["author"]["name"] == "mallory"]

    assert said[-1]["data"]["latest"]["raw"] == "I approve!"
    assert said[-1]["data"]["note"] == "said on this hub, signed by nobody"
    assert not [event for event in shown["events"] if event["type"] == "vote"]
    with pytest.raises(HfHubHTTPError, match="souq pr merge") as refused:
        amira.merge_pull_request(NAME, site.town.open)
    assert "approval" in str(refused.value)
    with pytest.raises(HfHubHTTPError, match="souq pr close"):
        amira.change_discussion_status(NAME, site.town.open, "closed")
    with pytest.raises(HfHubHTTPError, match="404"):
        mallory.comment_discussion(NAME, 999_999, "Nobody there")


def test_a_discussion_about_a_governed_model_has_a_number_of_the_hub_s(site, mallory):
    number = mallory.create_discussion(NAME, "A question", description="Why?").num

    assert number >= 1_000_001
    assert number in {each.num for each in mallory.get_repo_discussions(NAME, discussion_type="discussion")}
    assert site.town.open in {each.num for each in mallory.get_repo_discussions(NAME)}


def test_an_account_has_so_many_drafts_and_no_more(site, monkeypatch):
    from souq.hub.huggingface import offers

    monkeypatch.setattr(offers, "MOST", 1)
    monkeypatch.setattr(offers, "MOST_BYTES", 2_000)
    api = HfApi(site.url, token=site.token("nadia"))
    with pytest.raises(HfHubHTTPError, match="413"):
        api.upload_file(path_or_fileobj=b"x" * 3_000, path_in_repo="adapter_config.json", repo_id=NAME, create_pr=True)
    number = api.upload_file(
        path_or_fileobj=b"{}", path_in_repo="adapter_config.json", repo_id=NAME, create_pr=True
    ).pr_num
    with pytest.raises(HfHubHTTPError, match="already"):
        api.create_commit(NAME, [CommitOperationAdd("adapter_config.json", b"{ }")], commit_message="x", create_pr=True)
    api.change_discussion_status(NAME, number, "closed")


def test_a_plain_repository_and_what_is_said_of_it_have_pages(desk):
    """Files, card, pull requests and discussions, where clients say that they are; a stranger's words are no markup."""
    name, words = desk.new(), "<script>alert(1)</script>"
    desk.amira.upload_file(path_or_fileobj=f"# {words}\n".encode(), path_in_repo="README.md", repo_id=name)
    offered = desk.bruno.upload_file(
        path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=name, create_pr=True, commit_message=f"An x {words}"
    )
    question = desk.bruno.create_discussion(name, f"Why? {words}", description=words)
    front = desk.site.ask(f"/{name}").body.decode()
    talks = [desk.site.ask(url.removeprefix(desk.site.url)).body.decode() for url in (offered.pr_url, question.url)]

    assert "README.md" in front
    assert f"/{name}/discussions/{question.num}" in front
    assert "x.txt" in talks[0]
    assert all("signed by nobody" in text for text in talks)
    assert not any("<script>" in text for text in (front, *talks))
    assert desk.site.ask(f"/{name}/discussions").status == 200
    for nowhere in (f"/{name}/discussions/999", "/nobody/nothing/discussions", "/nobody/nothing/discussions/1"):
        assert desk.site.ask(nowhere).status == 404
