"""A release that somebody downloaded from a hub, with what clients left in it and what people put on top: sorted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from souq.cli import run
from souq.records import Release
from souq.releases import claims, export
from souq.releases.beside import harmless
from souq.releases.verify import judge
from tests.hubs import NAME, online

AT = "2031-01-01T00:00:00Z"


@pytest.fixture(scope="session")
def downloaded(site, tmp_path_factory):
    """What the newest `hf download` writes into a folder."""
    place = tmp_path_factory.mktemp("downloaded")
    hf = str(Path(sys.executable).with_name("hf"))
    words = [hf, "download", NAME, "--revision", "v1.0", "--local-dir", str(place / "smol")]
    done = subprocess.run(words, env=online(site.url, place / "home"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "smol"


@pytest.fixture
def folder(downloaded, tmp_path):
    return shutil.copytree(downloaded, tmp_path / "smol")


def release_of(site):
    return export.read(site.town.bazaar.main(), "1.0").release


def put(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def scores(release: Release, **more):
    given = {"greet": 0.75, "count": 0.5}
    return claims.Scores(
        version=release.version, scores=given, dataset="atlas/smol-evals", by="amira", at=AT,
        source="https://hub.example/atlas/smol", **more,
    )  # fmt: skip


def test_a_download_is_stated_whole(folder):
    """Every file is one that the release states; what the client left for itself is not looked at, and that is said."""
    judged = judge(folder)

    assert not judged.findings
    assert {path.name for path in folder.iterdir() if path.is_file()} <= set(judged.stated)
    assert (judged.claims, judged.strangers) == ([], [])
    assert any("no other is there" in line for line in judged.proven)
    assert any("what is in .cache" in line for line in judged.unproven)


def test_somebody_s_score_file_is_listed_and_the_release_verified(folder, capfd):
    """A stranger's scores, a picture and lines added to the card: verified, and each of them named."""
    card = (folder / "README.md").read_text()
    put(folder, {
        ".eval_results/mmlu.yaml": b"- dataset:\n    id: cais/mmlu\n    task_id: all\n  value: 99.9\n",
        "docs/figure.png": b"\x89PNG",
        "README.md": (card + "\n## What I think\n\nVery good.\n").encode(),
    })  # fmt: skip
    capfd.readouterr()

    assert run(["release", "verify", str(folder), "--json"]) == 0
    value = json.loads(capfd.readouterr().out)

    assert [each["file"] for each in value["strangers"]] == [".eval_results/mmlu.yaml", "README.md", "docs/figure.png"]
    assert value["claims"] == []
    assert "config.json" in value["stated"]
    assert run(["release", "verify", str(folder)]) == 0
    shown = capfd.readouterr().out
    assert "stranger: .eval_results/mmlu.yaml: scores that nobody signed who stands in the policy" in shown
    assert shown.endswith("verified\n")


def test_a_later_claim_verifies(site, folder):
    """Scores that Bruno signs when the release is out are his claim, and Hugging Face's own client reads them."""
    release = release_of(site)
    files = claims.claimed(scores(release), release, site.town.bazaar.person("bruno"))
    put(folder, files)

    judged = judge(folder)
    entries = parse_eval_result_entries(yaml.safe_load(files[".eval_results/souq.yaml"]))

    assert not judged.findings
    assert judged.strangers == []
    assert [claim.file for claim in judged.claims] == [".eval_results/souq.yaml", ".eval_results/souq.intoto.json"]
    assert judged.claims[0].because == "2 scores, measured later, signed by bruno of Borealis (2031-01-01T00:00:00Z)"
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        ("atlas/smol-evals", "count", 0.5),
        ("atlas/smol-evals", "greet", 0.75),
    ]


def test_a_hub_may_write_the_head_of_a_card_anew(folder):
    """Keys added by Hugging Face's own client are a stranger's addition; what the release says there stays said."""
    card = ModelCard.load(folder / "README.md")
    card.data.new_version = "atlas/smol-2"
    card.data.language = ["ar"]
    card.save(folder / "README.md")

    judged = judge(folder)

    assert not judged.findings
    assert [stranger.file for stranger in judged.strangers] == ["README.md"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("apache-2.0", "mit"), ("souq release verify", "curl x | sh; souq release verify"), ("# smol 1.0", "# smol 2.0")],
)
def test_a_card_that_says_something_else_is_wrong(folder, old, new):
    """What the release states may not be changed, taken away or cut through, in the card either."""
    card = folder / "README.md"
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new))

    assert {finding.file for finding in judge(folder).findings} == {"README.md"}


def test_a_release_of_before_has_no_such_mark(folder, tmp_path):
    """A card of a release whose bill of materials keeps no mark is as it was, or it is wrong."""
    bill = json.loads((folder / "bom.cdx.json").read_text())
    properties = bill["metadata"]["component"]["properties"]
    properties[:] = [each for each in properties if not each["name"].startswith("souq:card")]
    (folder / "bom.cdx.json").write_text(json.dumps(bill))
    (folder / "README.md").write_text((folder / "README.md").read_text() + "more\n")

    assert "README.md" in {finding.file for finding in judge(folder).findings}


def test_scores_are_signed_for_one_release(site):
    """Nobody writes a claim that could not be read again."""
    release = release_of(site)
    for wrong in ({"version": "9"}, {"scores": {}}, {"scores": {"a": float("nan")}}, {"dataset": "x"}, {"source": "x"}):
        with pytest.raises(Exception, match=r"release|number|data set"):
            claims.claimed(msgspec.structs.replace(scores(release), **wrong), release, site.town.bazaar.person("amira"))


@pytest.mark.parametrize("path", ["docs/figure.png", "NOTES.md", ".eval_results/hle.yaml", "CITATION.cff", "paper.pdf"])
def test_what_people_alone_read(path):
    assert harmless(path)
