"""What is published works where nothing else is: a light core, and every part that is missing is told with its name."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib

import pytest

from souq.errors import Missing
from souq.optional import missing_part
from tests.tiny import write_model
from tests.wheels import ROOT


@pytest.mark.parametrize(
    ("module", "part"), [("torch", "lab"), ("transformers.models", "lab"), ("s3fs", "remote"), ("lm_eval", "harness")]
)
def test_a_missing_library_is_told_with_the_part_that_brings_it(module, part):
    """By what the package itself declares, so no list of ours grows old."""
    missing = missing_part(ModuleNotFoundError("no", name=module))

    assert isinstance(missing, Missing)
    assert missing.hint == f'run `pip install "souq[{part}]"`'
    assert missing_part(ModuleNotFoundError("no", name="nobody_s")) is None


@pytest.mark.parametrize("words", [["chat", "hi"], ["eval"]])
def test_without_torch_a_verb_says_what_to_install(bazaar, words, monkeypatch):
    """No verb ends in a fault of ours, whichever import came first."""
    for name in [*sys.modules]:
        if name.startswith(("souq.lab.generate", "souq.lab.lm", "souq.lab.evals")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)

    code, _, err = bazaar.says("amira", words)

    assert code == 1
    assert "torch is not installed" in err
    assert 'pip install "souq[lab]"' in err


def test_without_torch_init_says_so_before_it_begins(bazaar, tmp_path, monkeypatch):
    """A suite that could not be sketched is told at once, with the way without it."""
    write_model(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "torch", None)

    code, _, err = bazaar.says("amira", ["init", tmp_path / "smol", "--from", tmp_path / "tiny"])

    assert code == 1
    assert "souq[lab]" in err
    assert "--no-suite" in err
    assert not (tmp_path / "smol").exists()


def test_every_part_says_what_it_is_for():
    """docs/install.md has each part that a user may install, and no other."""
    ours = {"test", "dev", "bench", "mutants", "fuzz", "docs"}  # for who works on souq
    parts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - ours
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "install.md").read_text(), re.M)

    assert sorted(rows) == sorted(parts)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_published_holds_everything(wheel):
    """The source distribution has what its tests and docs need; the wheel, souq and its conformance suite alone."""
    source = next(wheel.parent.glob("*.tar.gz"))
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files", "docs", "tests", "src"], cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip

    assert set(tracked.stdout.split()) - names == set()
    assert {"constraints.txt", "README.md", "LICENSE", "conftest.py"} <= names


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_core_is_light_and_complete(light, home):
    """Without torch and numba: begin, look, build and verify; what asks a model says what to install."""
    write_model(home / "tiny")
    said = light.shell(
        """
        souq --help
        souq init smol --from tiny --no-suite
        cd smol
        souq status
        souq build
        souq verify
        souq export ../out
        souq governance check
        """,
        home,
    )
    assert "verified" in said
    assert (home / "out" / "model.safetensors").is_file()
    size = sum(path.stat().st_size for path in light.bin.parent.rglob("*") if path.is_file()) / 1e6
    assert size < 250  # measured: 176, of which numpy 75
    (home / "smol" / "rows.jsonl").write_text('{"text": "a"}\n')
    (home / "ties.yml").write_text("models: [{model: tiny}, {model: out}]\nmerge_method: ties\nbase_model: tiny\n")
    for verb, part in {
        "chat hi": "lab",
        "train rows.jsonl --out a": "lab",
        "merge ../ties.yml ../merged": "merge",
    }.items():
        printed = light.shell(f"cd smol; souq {verb} 2>&1 || true", home)
        assert f'pip install "souq[{part}]"' in printed, printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_conformance_suite_comes_along(light, home):
    """`souq-conformance` is there too, and says what it is."""
    assert "Usage" in light.shell("souq-conformance --help", home)
