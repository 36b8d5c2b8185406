"""What the house held before its rooms were rebuilt still opens: a repository, a release, a corpus and a student of
commit 3183114 (`fixtures/old_main/make.py` made them), asked by today's code what that commit's code was asked.

Answers are compared to the byte. The machine's place is written PLACE in them, and `verify` is told the time, since both
are the machine's. Lengths and angles that a BLAS sums (`alike`) may differ after the ninth digit, as they do between two
processors; a test says what else is left out.
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

import msgspec
import pytest

from souq.cli import run
from souq.corpus.card import student_card
from souq.lab.student_config import StudentReport
from souq.model.gguf.writer import write_gguf

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
    assert names, first
    return pytest.mark.parametrize("name", names)


def same(place, name):
    """Today's answer is the old one, to the byte."""
    before = ANSWERS[name]
    assert asked(place, before["words"]) == (before["exit"], before["out"])


def alike(place, name, *, apart=()):
    """Today's answer is the old one, but for the last digits of what was measured, and for what is left apart."""
    before = ANSWERS[name]
    code, out = asked(place, before["words"])
    if "--json" not in before["words"]:
        assert (code, out) == (before["exit"], before["out"])
        return
    (words, measured), (old_words, old_measured) = (taken_apart(text, apart) for text in (out, before["out"]))
    assert (code, words) == (before["exit"], old_words)
    assert measured == pytest.approx(old_measured, rel=1e-9, abs=1e-12)


def taken_apart(out, apart=()):
    """An answer with its decimal fractions apart: no whole number, digest or name is among them."""
    measured = []

    def taken(digits):
        measured.append(float(digits))
        return "measured"

    answer = json.loads(out, parse_float=taken)
    return json.dumps({key: answer[key] for key in answer if key not in apart} if apart else answer), measured


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


@pytest.mark.parametrize("name", ["log", "fsck", "pr list", "bug list"])
def test_what_is_said_of_it_is_the_same(place, name):
    """Who landed what, whether every tensor is sound, what is offered and which bugs are open."""
    same(place, name)


def test_who_decides_is_the_same_and_whom_it_locks_out_is_told(place):
    """Its foundation was written before anybody played it."""
    before = json.loads(ANSWERS["governance check"]["out"])

    code, out = asked(place, ["governance", "check", "--json"])

    today = json.loads(out)
    assert (code, today[: len(before)]) == (0, before)
    assert today[len(before)].startswith("locked out: bruno and chen: what they offer to contributions, evals and ")


@group("status")
def test_where_it_stands_is_the_same(place, name):
    """Model, base, releases, what is open and whose source is there; what waits, and is next, depends on who asks."""
    alike(place, name, apart=("next", "you", "waiting_for_you", "waiting_for_others"))


@group("show")
def test_its_contributions_tensors_and_commits_are_shown_alike(place, name):
    """Each contribution with its source, each commit, and who changed a tensor."""
    same(place, name)


def test_a_tensor_that_came_or_went_is_shown(place):
    """An expert's landing renames its layer's feed-forward: the old name has no model, the new no base. It was a crash."""
    gone, new = "model.layers.0.mlp.up_proj.weight", "model.layers.0.block_sparse_moe.experts.0.w3.weight"
    shown = {name: json.loads(asked(place, ["show", name])[1]) for name in (gone, new)}

    assert {name: (bool(answer["base"]), bool(answer["model"])) for name, answer in shown.items()} == {
        gone: (True, False),
        new: (False, True),
    }
    assert "0002-greetings" in shown[gone]["changed_by"]


@group("pr view")
def test_its_pull_requests_are_shown_alike(place, name):
    """What was offered, checked, voted and foreseen, landed or not."""
    alike(place, name, apart=("words", "eyes", "comments"))


# -- releases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["release list", "release view 1.0", "release verify 1.0", "release verify 1.1"])
def test_its_releases_stand(place, name):
    """The same list, yanked ones and nights too; each is rebuilt from its recipe to what was signed."""
    same(place, name)


def test_the_exported_release_is_verified_by_itself(place):
    """A folder that the old code wrote proves today what it proved then, and no more; its files are sorted since."""
    same(place, "release verify, in words")
    before = ANSWERS["release verify"]
    code, out = asked(place, before["words"])
    now = json.loads(out)

    assert (code, now["claims"], now["strangers"]) == (before["exit"], [], [])
    assert {name: now[name] for name in now if name not in ("stated", "claims", "strangers")} == json.loads(
        before["out"]
    )


# -- deltas ------------------------------------------------------------------------------------------------------------


@group("delta show")
def test_its_delta_files_are_read(place, name):
    """LoRAs with sketches, a full fine-tune, tokens, a layer and an expert: the same parts, norms and digests."""
    alike(place, name)


# -- the corpus and the student ----------------------------------------------------------------------------------------


@group("corpus query")
def test_its_corpus_answers_alike(place, name):
    """Every row with its provenance, how many were rejected and why, and the index of pages."""
    same(place, name)


@group("corpus tail")
def test_its_corpus_has_the_same_tail(place, name):
    """What is left of the rare, counted and measured."""
    alike(place, name)


def test_its_student_has_the_same_card(place):
    """From the report that was kept, which says the same written again: who taught it, on what, and what it scores."""
    student = place / "student"
    manifest = json.loads((place / "corpus" / "manifest.json").read_bytes())
    kept = (student / "report.json").read_bytes()
    report = msgspec.json.decode(kept, type=StudentReport)

    made = student_card("student", "Apache-2.0", manifest["dumps"][manifest["latest"]], report)

    assert json.loads(msgspec.json.encode(report)) == json.loads(kept)
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
    for ref in ("refs/heads/main", "refs/remotes/origin/main"):
        subprocess.run(["git", "update-ref", ref, TOLD["first release"]], cwd=folder / "smol", check=True)
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
