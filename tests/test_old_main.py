"""What the house held before its rooms were rebuilt still opens: a repository, a release, a corpus and a student of
commit 3183114 (`fixtures/old_main/make.py` made them), asked by today's code what that commit's code was asked.

Answers are compared to the byte. The machine's place is written PLACE in them, and `verify` is told the time, since both
are the machine's; nothing else is left out but what a test says.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from souq.cli import run
from souq.corpus.card import student_card
from souq.model.gguf_writer import write_gguf

OLD = Path(__file__).parent / "fixtures" / "old_main"
TOLD = json.loads((OLD / "answers.json").read_text())
ANSWERS = TOLD["answers"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What was kept, and a fresh clone of the old hub by today's code."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD / "town.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    assert asked(folder, ["clone", "hub.git", "smol"], at=folder)[0] == 0
    return folder


def asked(place, words, *, at=None):
    """Exit code and stdout of a verb typed in the clone."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.chdir(at or place / "smol"), contextlib.redirect_stdout(stream):
        code = run([str(word) for word in words])
    return code, stream.buffer.getvalue().decode().replace(str(place.resolve()), "PLACE")


def group(first):
    """The questions whose name begins so."""
    names = [name for name in ANSWERS if name.split()[: len(first.split())] == first.split()]
    return pytest.mark.parametrize("name", names)


def same(place, name):
    """Today's answer is the old one, to the byte."""
    before = ANSWERS[name]
    assert asked(place, before["words"]) == (before["exit"], before["out"])


# -- the repository ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["verify", "verify, in words", "verify, pinned"])
def test_its_history_is_judged_as_it_was(place, name):
    """Every landing, ballot, release and night stands; the model is rebuilt to its digest; a wrong root is a finding."""
    same(place, name)


def test_it_was_verified():
    """What the tests above hold today's answer to is a yes, with every landing, release and tensor counted."""
    report = json.loads(ANSWERS["verify"]["out"])

    assert ANSWERS["verify, in words"]["out"].endswith("\nverified\n")
    assert (report["findings"], report["unbuilt"]) == ([], [])
    assert (report["landings"], report["releases"], report["witnesses"], report["tensors"]) == (16, 2, 1, 41)


@group("build")
def test_it_builds_to_the_same_model(place, name):
    """The same digest by the same recipe, in the same place."""
    same(place, name)


@pytest.mark.parametrize("name", ["status", "log", "fsck", "pr list", "bug list", "governance check"])
def test_what_is_said_of_it_is_the_same(place, name):
    """Where things stand, who landed what, which bugs are open and who decides."""
    same(place, name)


@group("show")
def test_its_contributions_tensors_and_commits_are_shown_alike(place, name):
    """Each contribution with its source, each commit, and who changed a tensor."""
    same(place, name)


@group("pr view")
def test_its_pull_requests_are_shown_alike(place, name):
    """What was offered, checked, voted and foreseen, landed or not."""
    same(place, name)


# -- releases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["release list", "release view 1.0", "release verify 1.0", "release verify 1.1"])
def test_its_releases_stand(place, name):
    """The same list, yanked ones and nights too; each is rebuilt from its recipe to what was signed."""
    same(place, name)


@pytest.mark.parametrize("name", ["release verify", "release verify, in words"])
def test_the_exported_release_is_verified_by_itself(place, name):
    """A folder that the old code wrote proves today what it proved then, and no more."""
    same(place, name)


# -- deltas ------------------------------------------------------------------------------------------------------------


@group("delta show")
def test_its_delta_files_are_read(place, name):
    """LoRAs with sketches, a full fine-tune, tokens, a layer and an expert: the same parts, norms and digests."""
    same(place, name)


# -- the corpus and the student ----------------------------------------------------------------------------------------


@group("corpus")
def test_its_corpus_answers_alike(place, name):
    """Every row with its provenance, those that were rejected, the index of pages, and what is left of the rare."""
    same(place, name)


def test_its_student_has_the_same_card(place):
    """From the figures that were kept: who taught it, on what, what it scores, and its curve as it was drawn."""
    student = place / "student"
    manifest = json.loads((place / "corpus" / "manifest.json").read_bytes())
    figures = json.loads((student / "report.json").read_bytes())

    made = student_card("student", "Apache-2.0", manifest["dumps"][manifest["latest"]], figures)

    assert made["README.md"].decode() == (student / "README.md").read_text()
    assert made.keys() == {"README.md", "curve.svg"}


def test_its_student_is_written_as_the_same_gguf(place, tmp_path):
    """Quantised again from its folder: every byte."""
    write_gguf(
        place / "student", tmp_path / "student.q8_0.gguf", "q8_0", name="student", licence="Apache-2.0 AND CC0-1.0"
    )

    old = place / "student" / "student.q8_0.gguf"
    assert (tmp_path / "student.q8_0.gguf").read_bytes() == old.read_bytes()


# -- what is written today ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(place, tmp_path_factory):
    """Another clone, whose main stands at the first release."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(place / "smol", folder / "smol", symlinks=True)
    subprocess.run(["git", "update-ref", "refs/heads/main", TOLD["first release"]], cwd=folder / "smol", check=True)
    return folder


def sums(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_model_of_loras_is_exported_to_the_same_files(first):
    """Weights, tokenizer, notices, lock and card, at the first release: every byte of every file."""
    before = TOLD["exports"]["first"]

    assert asked(first, ["export", "../out"])[0] == 0

    assert (first / "out" / "README.md").read_text() == before["README.md"]
    assert sums(first / "out") == before["files"]


def test_a_model_with_all_kinds_is_exported_to_the_same_files(place):
    """With a fine-tune, tokens, a layer and an expert: every byte but of the card's shares of what moved, since the old
    code credited whoever copied a layer with all of it, as if nobody had written it before."""
    before = TOLD["exports"]["whole"]

    assert asked(place, ["export", "../out"])[0] == 0

    after = sums(place / "out")
    assert after.keys() == before["files"].keys()
    assert {name for name, digest in after.items() if digest != before["files"][name]} <= {"README.md"}
    assert but_shares((place / "out" / "README.md").read_text()) == but_shares(before["README.md"])


def but_shares(card):
    return re.sub(r"\d+(\.\d+)?%", "…%", card)


def test_its_corpus_goes_on(first, place):
    """The journal is read: each answer is there, none is asked for again, and the edition is written with the same rows."""
    for name in ("recipe.toml", "names.jsonl"):
        shutil.copy(place / name, first / name)
    shutil.copytree(place / "corpus", first / "corpus")
    journal = (first / "corpus" / "journal.jsonl").read_bytes()

    assert asked(first, ["corpus", "make", "../recipe.toml", "--out", "../corpus"])[0] == 0

    assert (first / "corpus" / "journal.jsonl").read_bytes() == journal
    for name in (name for name in ANSWERS if name.startswith("corpus query")):
        same(first, name)
