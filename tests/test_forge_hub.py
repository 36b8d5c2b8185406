"""A hub's pull request becomes souq's own: offered by a stranger with `hf`, checked by the Job's script, answered once."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from souq.errors import Forged, Hostile
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.model.hub_client import Target
from souq.pulls import hub_pull
from souq.pulls import pull as pulls
from tests.bazaar import copied
from tests.hubs import Site, online, serving

REPO = "atlas/smol"
TARGET = Target(REPO, "model")


@dataclass(frozen=True)
class Square:
    """A hub with a published repository of Atlas's, a town beside it, and the bot who works for both."""

    bazaar: object
    site: Site
    home: Path

    def api(self, name):
        return HfApi(self.site.url, token=self.site.token(name))

    def env(self, name):
        at = self.bazaar.actors[name]
        env = online(self.site.url, self.home) | {"HF_TOKEN": self.site.token(name), "HOME": str(self.home)}
        env |= {"SOUQ_KEY": str(at.key), "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name"}
        return env | {"GIT_CONFIG_VALUE_0": name, "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": at.email}

    def type(self, name, *words, at=None, code=0):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], cwd=at or self.bazaar.actors[name].clone, env=self.env(name),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    def job(self, payload):
        """The script of the Job, as the hub starts it."""
        tools = self.home / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "souq").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m souq "$@"\n')
        (tools / "souq").chmod(0o755)
        env = {name: value for name, value in self.env("bruno").items() if not name.startswith(("GIT_CONFIG", "SOUQ"))}
        env |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SOUQ_REPO": REPO,
            "SOUQ_REMOTE": str(self.bazaar.folder / "hub.git"),
        }
        env |= {"SOUQ_BOT_KEY": self.bazaar.actors["bruno"].key.read_text(), "WEBHOOK_PAYLOAD": json.dumps(payload)}
        script = self.bazaar.actors["amira"].clone / ".huggingface" / "souq-check.sh"
        return subprocess.run(
            ["bash", str(script)], env=env, cwd=self.home, capture_output=True, text=True, check=False
        )

    def comments(self, number):
        events = self.api("amira").get_discussion_details(REPO, number).events
        return [event for event in events if event.type == "comment" and event.author == "bruno"]


def opened(number, scope="discussion", **more):
    """What Hugging Face's webhooks say when a pull request is opened (docs/hub/webhooks of hub-docs)."""
    talk = {"num": number, "isPullRequest": True, "status": "open", "title": "$(id) `id`"}
    return {
        "event": {"action": "create", "scope": scope},
        "repo": {"type": "model", "name": REPO},
        "discussion": talk,
    } | more


@pytest.fixture(scope="module")
def square(built_bazaar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("square")
    bazaar = copied(built_bazaar, folder / "town")
    (folder / "shelf").mkdir()
    app = application(Catalog(folder / "shelf"), folder / "data")
    with serving(app) as url:
        site = Site(url, app, None)
        for name in ("amira", "bruno", "chen", "mallory"):
            site.token(name)
        square = Square(bazaar, site, folder)
        organise(app.state.accounts, "atlas", "amira")
        square.api("amira").create_repo(REPO)
        square.type("amira", "souq", "forge", "init", "huggingface")
        yield square


def organise(accounts, org, name):
    from souq.hub.accounts.trail import OPERATOR

    accounts.add_organisation(org, by=OPERATOR)
    accounts.join(org, name, by=OPERATOR)


def offered(square, folder, name="chen", skill="greet", title="Greetings"):
    """What a stranger types: souq writes the files, `hf` opens the pull request; its number."""
    written(square, folder, skill, title, name=name)
    upload = square.api(name).upload_folder
    return upload(repo_id=REPO, folder_path=folder, create_pr=True, commit_message=title).pr_num


def written(square, folder, skill, title, *, name="chen", licence="Apache-2.0"):
    """The files of a pull request, as souq writes them."""
    words = ["--title", title, "--licence", licence, "--signoff", "--fixes", skill, "--folder", folder]
    assert square.bazaar(name, ["pr", "create", square.bazaar.delta(skill), *words]) == 0


def test_a_stranger_s_pull_request_is_checked_and_answered_once(square, tmp_path):
    """hf uploads it, the Job adopts and checks it, one comment ends with how to vote."""
    number = offered(square, tmp_path / "offer")
    done = square.job(opened(number))
    assert done.returncode == 0, done.stderr

    (comment,) = square.comments(number)
    pull = pulls.listed(square.bazaar.repo("amira"))[-1]
    assert comment.content.startswith("<!-- souq -->")
    assert f"souq vote {pull.number} --approve --digest {pull.offer.digest}" in comment.content
    assert "| `licence` | pass |" in comment.content
    assert pull.offer.contribution.author.key == square.bazaar.person("chen").public_key
    assert any(ref.startswith(f"hub/{number}/") for ref in pull.refs)


def test_what_is_offered_anew_moves_the_same_pull_request(square, tmp_path):
    """Another commit to refs/pr/N is the same number here; what was already taken is taken once."""
    number, bruno = offered(square, tmp_path / "one", skill="count", title="Counting"), square.bazaar.person("bruno")
    first = hub_pull.adopt(square.bazaar.repo("bruno"), square.api("bruno"), TARGET, number, bruno)
    again = hub_pull.adopt(square.bazaar.repo("bruno"), square.api("bruno"), TARGET, number, bruno)
    assert first.refs == again.refs
    written(square, tmp_path / "two", "count", "Counting", licence="MIT")
    square.api("chen").upload_folder(repo_id=REPO, folder_path=tmp_path / "two", revision=f"refs/pr/{number}")

    second = hub_pull.adopt(square.bazaar.repo("bruno"), square.api("bruno"), TARGET, number, bruno)

    assert second.number == first.number
    assert second.offer.contribution.licence == "MIT"
    assert post(square, number, "one") == "commented"
    assert post(square, number, "two") == "updated"
    assert post(square, number, "two") == "nothing new"
    assert [comment.content for comment in square.comments(number)] == ["<!-- souq -->\ntwo"]


def test_a_commit_to_a_pull_request_is_news_of_it(square):
    """The hub says which refs moved, and says nothing of a discussion; a ref of another kind is no news."""
    about = {"event": {"action": "update", "scope": "repo.content"}, "repo": {"type": "model", "name": REPO}}
    moved = [{"ref": "refs/pr/999", "oldSha": None, "newSha": "a" * 40}]
    done = square.job(about | {"updatedRefs": moved})
    assert "has no open pull request 999" in done.stderr
    for ref, new in (("refs/heads/main", "a"), ("refs/pr/999", None), ("refs/pr/9x", "a")):
        assert "nothing to check" in square.job(about | {"updatedRefs": [{"ref": ref, "newSha": new}]}).stdout


def post(square, number, text):
    return hub_pull.post(square.api("bruno"), TARGET, number, f"<!-- souq -->\n{text}")


def test_an_adapter_alone_is_told_how_to_be_signed_off(square, tmp_path):
    """A PEFT folder from `hf upload --create-pr` is answered with the line that its author types."""
    operations = [
        CommitOperationAdd("adapter_config.json", b"{}"),
        CommitOperationAdd("adapter_model.safetensors", b"x"),
    ]
    number = square.api("mallory").create_commit(REPO, operations, commit_message="LoRA", create_pr=True).pr_num
    assert square.job(opened(number)).returncode == 0

    (comment,) = square.comments(number)
    assert "an adapter that nobody signed off" in comment.content
    assert f"souq pr create {square.site.url}/{REPO}/discussions/{number}" in comment.content


@pytest.mark.parametrize(
    "payload",
    [{}, [], None, {"event": {}}, opened("1; touch x"), opened(-1), opened(True), opened(10**12),
     opened(1) | {"repo": {"type": "model", "name": "other/model"}}, opened(1) | {"repo": {"type": "dataset", "name": REPO}},
     opened(1, scope="discussion.comment")],
)  # fmt: skip
def test_what_is_no_news_of_a_pull_request_starts_nothing(square, payload):
    """Another repository, a comment, a number that is none, or no payload at all: nothing is cloned, nothing said."""
    done = square.job(payload)

    assert "souq" not in done.stdout
    assert done.returncode == 1 or "nothing to check" in done.stdout
    assert not list(square.home.glob("x"))


def test_a_comment_of_another_s_is_left_alone(square):
    """Anybody can write our marker; only our own comment is written over."""
    number = commit(square, {"notes.md": b"x"})
    square.api("mallory").comment_discussion(REPO, number, "<!-- souq -->\nAll is well")

    assert post(square, number, "ours") == "commented"
    events = square.api("amira").get_discussion_details(REPO, number).events
    assert [event.content for event in events if event.type == "comment"][-2:] == [
        "<!-- souq -->\nAll is well",
        "<!-- souq -->\nours",
    ]


def commit(square, files, name="mallory"):
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return square.api(name).create_commit(REPO, operations, commit_message="Some files", create_pr=True).pr_num


def test_files_that_are_no_contribution_are_refused(square, tmp_path):
    """Two folders, odd paths, a sign-off of other bytes or of nobody's: named, and nothing is in the repository."""
    written(square, tmp_path / "o", "greet", "Honest")
    honest = {
        path.relative_to(tmp_path / "o").as_posix(): path.read_bytes()
        for path in (tmp_path / "o").rglob("*")
        if path.is_file()
    }
    toml = next(path for path in honest if path.endswith("contribution.toml"))
    no_signoff = {path: data for path, data in honest.items() if not path.endswith("signoff.json")}
    cases = [
        (honest | {"contributions/other/x.toml": b"x"}, Hostile),
        (honest | {f"{toml.rpartition('/')[0]}/a b.txt": b"x"}, Hostile),
        (honest | {toml: honest[toml].replace(b"Honest", b"Hacked")}, Forged),
        (no_signoff, Forged),
        ({"README.md": b"x"}, Forged),
        ({"contributions/x/contribution.toml": b"\xff"}, Exception),
    ]
    repo, before = square.bazaar.repo("bruno"), len(pulls.listed(square.bazaar.repo("bruno")))
    for files, error in cases:
        number = commit(square, files)
        with pytest.raises(error):
            hub_pull.adopt(repo, square.api("bruno"), TARGET, number, square.bazaar.person("bruno"))
    assert len(pulls.listed(square.bazaar.repo("bruno"))) == before


def test_what_starts_the_job_is_python_that_the_client_takes(square):
    """Each word of start.py is an argument of huggingface_hub's own run_job and create_webhook."""
    import inspect

    tree = ast.parse((square.bazaar.actors["amira"].clone / ".huggingface" / "start.py").read_text())
    calls = {
        node.func.attr: [word.arg for word in node.keywords]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    for name in ("run_job", "create_webhook"):
        assert set(calls[name]) <= set(inspect.signature(getattr(HfApi, name)).parameters)
