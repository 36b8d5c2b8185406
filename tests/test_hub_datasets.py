"""A corpus beside the repositories is a data set: `datasets.load_dataset` reads it from a hub by its name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from souq.corpus.dump import read_rows
from souq.hub.huggingface.corpora import card
from tests.hubs import online

NAME = "atlas/cities"


LOADS = """
import json, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], sys.argv[2], split="train")
print(json.dumps([row["id"] for row in rows]))
"""


def test_load_dataset_reads_every_row_of_a_corpus(library, tmp_path):
    """By the configuration that the datasheet names, in a process of its own with HF_ENDPOINT set."""
    pytest.importorskip("datasets", reason="pip install datasets")
    site, corpus = library
    env = online(site.url, tmp_path)
    done = subprocess.run([sys.executable, "-c", LOADS, NAME, "kept"], capture_output=True, text=True, env=env)

    assert done.returncode == 0, done.stderr[-3_000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [row["id"] for row in read_rows(corpus)]


def test_a_corpus_is_listed_and_described(library):
    site, _ = library
    row, facts = site.ask("/api/datasets").json[0], site.ask(f"/api/datasets/{NAME}").json

    assert (row["id"], row["sha"]) == (facts["id"], facts["sha"]) == (NAME, facts["sha"])
    assert "synthetic" in row["tags"]
    assert [each["config_name"] for each in facts["cardData"]["configs"]] == ["kept", "rejected"]
    assert {"README.md", "manifest.json"} <= {each["rfilename"] for each in facts["siblings"]}
    assert site.ask("/api/models").json == []
    assert site.ask(f"/api/models/{NAME}").headers["x-error-code"] == "RepoNotFound"
    assert site.ask("/api/datasets/notes").headers["x-error-code"] == "RepoNotFound"
    assert site.ask(f"/api/datasets/{NAME}/commits/main").json[0]["id"] == facts["sha"]
    assert site.ask(f"/api/datasets/{NAME}/refs").json["branches"][0]["targetCommit"] == facts["sha"]


def test_a_corpus_that_is_made_anew_has_other_digits_and_what_was_stays(library):
    """A client that began with the digits of before ends with them."""
    site, corpus = library
    before = site.ask(f"/api/datasets/{NAME}").json["sha"]
    (corpus / "README.md").write_text("---\nlicense: other\n---\n# Another")
    after = site.ask(f"/api/datasets/{NAME}").json["sha"]

    assert before != after
    assert "Another" not in site.ask(f"/datasets/{NAME}/resolve/{before}/README.md").body.decode()
    assert "Another" in site.ask(f"/datasets/{NAME}/resolve/main/README.md").body.decode()
    assert site.ask(f"/api/datasets/{NAME}/revision/{'0' * 40}").headers["x-error-code"] == "RevisionNotFound"


def test_a_shard_that_is_not_what_the_manifest_says_is_not_served(library):
    site, corpus = library
    shard = next((corpus / "dump=2026-48" / "subset=kept").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")

    answer = site.ask(f"/datasets/{NAME}/resolve/main/{shard.relative_to(corpus)}")
    assert answer.status == 403
    assert "not what manifest.json says" in answer.headers["x-error-message"]


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "a/../../secret"])
def test_a_manifest_leads_out_of_its_corpus_to_nothing(library, path):
    site, corpus = library
    (corpus.parent / "secret").write_text("secret")
    (corpus / "link").symlink_to("../secret")
    listed = json.loads((corpus / "manifest.json").read_text())
    listed["dumps"]["2026-48"]["files"][path] = {"digest": "b3:" + "0" * 64, "rows": 1}
    (corpus / "manifest.json").write_text(json.dumps(listed))

    answer = site.ask(f"/datasets/{NAME}/resolve/main/README.md")
    assert answer.status in (403, 404)
    assert "names" in answer.headers["x-error-message"]


@pytest.mark.parametrize("head", ["a: &x [*x]", "a: .nan", "a: 2026-01-01", "a: !!python/object:os.system x", "? {a: b}\n: c", "a: !!set {b}", "[1]", "a: [" * 60, "\x00", "a: !!binary aGk="])  # fmt: skip
def test_a_head_that_json_cannot_say_says_nothing(head):
    assert card(f"---\n{head}\n---\n".encode()) in ({}, {"a": None})
