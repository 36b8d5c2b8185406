"""A model begins from a hub's: pinned by its commit, told apart from what was damaged on the way, named in its papers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib

import pytest

from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.model.origin import Origin, without_secrets
from tests.hubs import NAME, online, serving


@pytest.fixture(scope="module")
def souq(site, tmp_path_factory):
    """`souq …` in a process of its own, whose hub is ours unless another is named."""
    home = tmp_path_factory.mktemp("home")
    bazaar, amira = site.town.bazaar, site.town.bazaar.person("amira")

    def run(*words, url=site.url, home=home, at=bazaar.folder):
        env = online(url, home) | {"SOUQ_KEY": str(amira.key), "HOME": str(home)}
        env |= {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "amira"}
        env |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "amira@example.org"}
        line = [sys.executable, "-m", "souq", *map(str, words)]
        return subprocess.run(line, cwd=at, env=env, capture_output=True, text=True, check=False)

    return run


def begun(souq, place, *words, **more):
    done = souq("init", place, "--from", NAME, "--no-suite", "--json", *words, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), tomllib.loads((place / "souq.toml").read_text())


def test_what_moves_is_resolved_once_and_said(site, souq, tmp_path):
    """Without --revision, main is what it is now; its 40 digits stand in souq.toml, and a line says so."""
    tip = site.ask(f"/api/models/{NAME}").json["sha"]

    value, config = begun(souq, tmp_path / "mine")

    assert config["origin"] == value["origin"] == f"hub {NAME}@{tip} of {site.url}"
    assert config["base"] == "smol"
    assert f"main of {NAME} is {tip} now, and that is the base: pinned" in value["notes"]


@pytest.mark.parametrize("kind", ["tag", "digits"])
def test_a_revision_is_pinned_by_its_digits(site, souq, tmp_path, kind):
    """A tag is resolved and said, digits are taken as they are; an unknown revision is refused and nothing is left."""
    commit = site.ask(f"/api/models/{NAME}/revision/v1.0").json["sha"]

    value, config = begun(souq, tmp_path / "mine", "--revision", "v1.0" if kind == "tag" else commit)

    assert Origin.of(config["origin"]) == Origin(NAME, commit, site.url)
    assert any("pinned" in note for note in value["notes"]) == (kind == "tag")
    if kind == "tag":
        no = souq("init", tmp_path / "no", "--from", NAME, "--revision", "v9")
        assert (no.returncode, (tmp_path / "no").exists()) == (1, False)


def test_the_papers_name_the_base_by_its_commit(site, souq, tmp_path):
    """The bill of materials and the provenance have the base's package URL; the card its name and what was done."""
    begun(souq, tmp_path / "mine", "--revision", "v1.0")
    out = tmp_path / "out"
    for words in (["create", "0.1", "--no-scores"], ["export", "0.1", out]):
        done = souq("release", *words, at=tmp_path / "mine")
        assert done.returncode == 0, done.stderr
    commit = site.ask(f"/api/models/{NAME}/revision/v1.0").json["sha"]
    purl = Origin(NAME, commit, site.url).purl

    bill = json.loads((out / "bom.cdx.json").read_text())

    assert purl.startswith(f"pkg:huggingface/{NAME}@{commit}?repository_url=http%3A%2F%2F127")
    assert [each["purl"] for each in bill["components"] if each["bom-ref"] == "base"] == [purl]
    assert bill["metadata"]["component"]["pedigree"]["ancestors"][0]["purl"] == purl
    assert f"base_model: {NAME}\n" in (out / "README.md").read_text()
    assert souq("release", "verify", out).returncode == 0


def test_what_was_damaged_on_the_way_is_named(site, souq, tmp_path):
    """Bytes of the right number that are not the hub's: the file is named, and no repository is there."""
    data = tmp_path / "data"
    app = application(Catalog(site.town.shelf), data)
    with serving(app) as url:
        facts = site.ask(f"/api/models/{NAME}?blobs=true").json
        digest = next(each["lfs"]["sha256"] for each in facts["siblings"] if each["rfilename"] == "model.safetensors")
        shutil.copytree(
            site.app.state.huggingface.exports.contents._files.parent, data / "contents", dirs_exist_ok=True
        )
        stored = data / "contents" / "files" / digest
        whole = bytearray(stored.read_bytes())
        whole[-5] ^= 4
        stored.write_bytes(whole)

        done = souq("init", tmp_path / "mine", "--from", NAME, "--no-suite", url=url, home=tmp_path / "home")

    assert done.returncode == 1
    assert f"not the files that the hub lists for {NAME}: model.safetensors" in done.stderr
    assert "--force-download" in done.stderr
    assert not (tmp_path / "mine").exists()


def test_a_revision_of_what_has_none(souq, tmp_path):
    """A folder has no revisions: a word of the command is off."""
    done = souq("init", tmp_path / "mine", "--from", tmp_path, "--revision", "v1.0")

    assert done.returncode == 2
    assert "has no revisions" in done.stderr


@pytest.mark.parametrize(
    ("line", "purl"),
    [
        ("hub org/Smol", "pkg:huggingface/org/Smol"),
        (f"hub org/Smol@{40 * 'a'}", f"pkg:huggingface/org/Smol@{40 * 'a'}"),
        (f"hub o/s@{40 * '0'} of https://hub.example:8/x", f"pkg:huggingface/o/s@{40 * '0'}?repository_url=https%3A%2F%2Fhub.example%3A8%2Fx"),
    ],
)  # fmt: skip
def test_a_line_says_where_a_base_came_from(line, purl):
    """The line of souq.toml, its parts and the package URL say one thing."""
    origin = Origin.of(line)

    assert origin is not None
    assert str(origin) == line
    assert origin.purl == purl


@pytest.mark.parametrize(
    "line",
    ["folder smol", "hub ../x", "hub a/b@12", f"hub a/b@{40 * 'A'}", f"hub a/b@{40 * 'a'} of file:///x", "hub a/b\n"],
)
def test_what_is_no_origin_of_a_hub(line):
    """What is not exactly such a line is nobody's address."""
    assert Origin.of(line) is None


def test_no_password_is_written_down():
    assert without_secrets("https://me:secret@hub.example/api?x=1") == "https://hub.example/api"
