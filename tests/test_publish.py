"""A release goes to a hub and comes back: published, published again, cut short, downloaded, scored by others, verified."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries

from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.releases.claims import FOLDER
from souq.releases.publication import corpus_folder, newest
from souq.releases.verify import judge
from tests.bazaar import copied
from tests.hubs import Site, online, serving
from tests.kitchen import Parrot, cook

REPO = "amira/smol"


@dataclass(frozen=True)
class Port:
    """A hub, and a town whose amira publishes there."""

    bazaar: object
    site: Site
    home: Path

    @property
    def api(self):
        return HfApi(self.site.url, token=self.site.token("amira"))

    @property
    def env(self):
        """Amira's, at her terminal."""
        env = online(self.site.url, self.home) | {"HF_TOKEN": self.site.token("amira"), "HOME": str(self.home)}
        env |= {"SOUQ_KEY": str(self.bazaar.actors["amira"].key), "GIT_CONFIG_COUNT": "2"}
        env |= {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "amira"}
        return env | {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "amira@example.org"}

    def words(self, *words):
        return [sys.executable, "-m", "souq", "publish", *map(str, words)]

    def souq(self, *words, code=0, **more):
        at = self.bazaar.actors["amira"].clone
        done = subprocess.run(
            self.words(*words), cwd=at, env=self.env | more, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    def publish(self, *words):
        return json.loads(self.souq(*words, "--json").stdout)

    def download(self, name, revision, out):
        """By the newest `hf`, into a clean folder."""
        hf = str(Path(sys.executable).with_name("hf"))
        words = [hf, "download", name, "--revision", revision, "--local-dir", str(out)]
        done = subprocess.run(
            words, env=online(self.site.url, out.parent / "home"), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return out


@pytest.fixture(scope="module")
def port(built_bazaar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("port")
    bazaar = copied(built_bazaar, folder / "town")
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet")))
    bazaar.release("amira", "1.0", scores=True)
    bazaar.land(bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count"))
    bazaar.release("amira", "1.1", scores=True)
    (folder / "shelf").mkdir()
    app = application(Catalog(folder / "shelf"), folder / "data")
    with serving(app) as url:
        yield Port(bazaar, Site(url, app, None), folder)


@pytest.fixture
def corpus_made(kitchen):
    """What a model wrote, in a folder called as the data set is to be."""
    cook(kitchen, Parrot())
    return (kitchen / "corpus").rename(kitchen / "cities")


@pytest.fixture(scope="module")
def first(port):
    """1.0, published once."""
    return port.publish(REPO, "--release", "1.0", "--language", "en", "--language", "no", "--dataset", "atlas/rows")


def test_what_was_published_comes_back_and_verifies(port, first, tmp_path):
    """Publish, download with the newest client into a clean folder, somebody's score file on top: verified, and listed."""
    assert [row["repo"] for row in first["repositories"]] == [f"{REPO}-evals", REPO]
    folder = port.download(REPO, "v1.0", tmp_path / "smol")
    (folder / FOLDER / "mmlu.yaml").write_text("- dataset:\n    id: cais/mmlu\n    task_id: all\n  value: 99.9\n")

    judged = judge(folder)

    assert judged.findings == []
    assert judged.version == "1.0"
    assert [stranger.file for stranger in judged.strangers] == [f"{FOLDER}mmlu.yaml"]
    assert [claim.file for claim in judged.claims] == [f"{FOLDER}souq.yaml", f"{FOLDER}souq.intoto.json"]
    assert "as the release says, signed by amira" in judged.claims[0].because


def test_the_card_says_what_is_true(port, first):
    """Hugging Face's own reader of cards finds licence, languages, data sets and tags."""
    card = ModelCard.load(port.api.hf_hub_download(REPO, "README.md"))

    assert card.data.language == ["en", "no"]
    assert card.data.datasets == ["atlas/rows"]
    assert card.data.license == "apache-2.0"
    assert card.data.tags == ["souq"]


def test_scores_are_read_by_hugging_face_s_own_reader(port, first):
    """Every score of the release, of the data set that holds the evals, with their tasks."""
    import yaml

    text = Path(port.api.hf_hub_download(REPO, f"{FOLDER}souq.yaml")).read_text()
    tasks = Path(port.api.hf_hub_download(f"{REPO}-evals", "eval.yaml", repo_type="dataset")).read_text()

    entries = parse_eval_result_entries(yaml.safe_load(text))

    assert {entry.dataset_id for entry in entries} == {f"{REPO}-evals"}
    assert {entry.task_id for entry in entries} == {task["id"] for task in yaml.safe_load(tasks)["tasks"]}
    assert {"greet", "count"} <= {entry.task_id for entry in entries}


def test_again_nothing_is_uploaded(port, first):
    """The same words a second time: no byte, no commit, and it is said."""
    before = port.api.model_info(REPO).sha

    done = port.souq(REPO, "--release", "1.0", "--language", "en", "--language", "no", "--dataset", "atlas/rows")

    assert f"{REPO}: nothing to upload, all " in done.stderr
    assert "is not Hugging Face's hub: files are sent plainly (HF_HUB_DISABLE_XET=1 is set)" in done.stderr
    assert port.api.model_info(REPO).sha == before
    assert len([tag for tag in port.api.list_repo_refs(REPO).tags if tag.name == "v1.0"]) == 1


def test_the_next_release_sends_what_changed(port, first, tmp_path):
    """1.1 after 1.0: a strangers' file stays, votes of 1.0 go, 1.0 is still there by its tag, and 1.0 cannot come back."""
    port.api.upload_file(path_or_fileobj=b"mine\n", path_in_repo="notes.md", repo_id=REPO)
    plan = port.publish(REPO, "--dry-run")
    assert plan["uploaded"] is False
    assert "v1.1" not in {tag.name for tag in port.api.list_repo_refs(REPO).tags}

    value = port.publish(REPO)
    row = value["repositories"][-1]

    assert row["send"] == plan["repositories"][-1]["send"]
    assert "tokenizer.json" not in row["send"]
    assert "model.safetensors" in row["send"]
    assert any(path.startswith("records/") for path in row["remove"])
    assert not judge(port.download(REPO, "v1.0", tmp_path / "old")).findings
    new = judge(port.download(REPO, "main", tmp_path / "new"))
    assert (new.version, new.findings, [each.file for each in new.strangers]) == ("1.1", [], ["notes.md"])
    assert "1.1 is there, and 1.0 is older" in port.souq(REPO, "--release", "1.0", code=3).stderr


def test_an_older_release_s_card_names_the_newer(port, tmp_path):
    """1.0 in one repository and 1.1 in another: the first one's card says new_version, and it still verifies."""
    port.publish("amira/old", "--release", "1.0", "--no-evals")
    value = port.publish("amira/next", "--release", "1.1", "--no-evals")

    folder = port.download("amira/old", "main", tmp_path / "old")

    assert "amira/old" in value["replaced"]
    assert ModelCard.load(folder / "README.md").data.new_version == "amira/next"
    judged = judge(folder)
    assert (judged.findings, [each.file for each in judged.strangers]) == ([], ["README.md"])
    assert "amira/old" not in port.publish("amira/next", "--release", "1.1", "--no-evals")["repositories"][-1]["send"]


def test_killed_at_any_moment_it_goes_on(port, tmp_path):
    """kill -9 while it builds, hashes or sends: what is on the hub is nothing or a whole release; typed again, it is there."""
    for moment, name in enumerate(("amira/k0", "amira/k1")):
        process = subprocess.Popen(
            port.words(name, "--release", "1.0", "--no-evals"), cwd=port.bazaar.actors["amira"].clone, env=port.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(0.8 + 0.6 * moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if port.api.repo_exists(name):
            there = {row.path for row in port.api.list_repo_tree(name, recursive=True)} - {".gitattributes"}
            assert there == set() or "release.json" in there
        port.publish(name, "--release", "1.0", "--no-evals")
        assert not judge(port.download(name, "v1.0", tmp_path / name)).findings


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["smol"], 2, "no name on a hub"),
        (["amira/../x"], 2, "no name on a hub"),
        (["amira/smol", "--language", "English"], 2, "no language"),
        (["amira/smol", "--dataset", "a: b"], 2, "no name on a hub"),
        (["amira/smol", "--release", "7"], 1, "no release 7"),
        (["bruno/smol", "--release", "1.0"], 3, "the hub does not let us"),
    ],
)
def test_what_is_refused_says_what_to_type(port, words, code, why):
    """Nothing is written when a word is off, or the hub says no."""
    assert why in port.souq(*words, code=code).stderr


def test_without_a_token(port):
    """Who has no token is told which variable holds it."""
    assert "HF_TOKEN" in port.souq("amira/smol-2", "--release", "1.0", code=3, HF_TOKEN="").stderr


def test_a_corpus_is_a_synthetic_data_set(port, corpus_made, tmp_path):
    """A corpus is published beside the release, tagged as synthetic, and `load_dataset`'s own files are there."""
    value = port.publish("amira/teacher", "--release", "1.0", "--no-evals", "--corpus", corpus_made)
    row = value["repositories"][0]

    assert (row["repo"], row["kind"]) == ("amira/cities", "dataset")
    assert {"souq", "synthetic"} <= set(port.api.dataset_info("amira/cities").tags)
    assert any(path.endswith(".parquet") for path in row["send"])
    again = port.publish("amira/teacher", "--release", "1.0", "--no-evals", "--corpus", corpus_made)
    assert again["repositories"][0]["send"] == {}


def test_a_corpus_that_was_changed_is_not_published(corpus_made, tmp_path):
    """A shard that is not what the manifest says goes nowhere."""
    broken = shutil.copytree(corpus_made, tmp_path / "broken")
    shard = next(broken.rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")

    with pytest.raises(Exception, match=r"is not what manifest\.json says"):
        corpus_folder(broken, tmp_path / "out")


def test_the_newest_release_is_the_one_that_landed_last(port):
    assert newest(port.bazaar.main()) == "1.1"


def test_what_is_large_goes_by_lfs_and_not_by_xet(port, tmp_path, monkeypatch):
    """Beyond what a hub takes in a commit, the newest client with hf_xet sends plainly, as souq told it to."""
    from souq.hub.huggingface import uploads

    monkeypatch.setattr(uploads, "MOST_FILE", 1_000)
    port.publish("amira/large", "--release", "1.0", "--no-evals")

    assert port.api.get_paths_info("amira/large", "model.safetensors")[0].lfs is not None
    assert not judge(port.download("amira/large", "v1.0", tmp_path / "large")).findings
