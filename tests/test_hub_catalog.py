"""The repositories that a hub shows: by strict names, each opened when asked, a broken one beside the others."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from souq.cli import run
from souq.errors import NotFound
from souq.hub.catalog import Catalog, is_name
from souq.hub.headers import HEADERS
from souq.repo.remote import Repo


@pytest.fixture(scope="session")
def shelf(built_bazaar, tmp_path_factory):
    """A folder of a bare repository, of one of an organisation's, of one that is broken, and of what is none."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "atlas").mkdir()
    (folder / "atlas" / "smol.git").symlink_to(built_bazaar / "hub.git")
    (folder / "smol").symlink_to(built_bazaar / "amira" / "smol")
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", folder / "empty.git"], check=True)
    (folder / "notes").mkdir()
    (folder / "--bad").symlink_to(built_bazaar / "hub.git")
    return folder


def test_a_broken_repository_is_listed_with_its_reason_beside_the_others(shelf):
    entries = {entry.name: entry.problem for entry in Catalog(shelf).entries()}

    assert set(entries) == {"--bad", "atlas/smol", "empty", "smol"}
    assert [name for name, problem in entries.items() if not problem] == ["atlas/smol", "smol"]
    assert "has no main" in entries["empty"]
    assert "no name" in entries["--bad"]


def test_each_repository_is_opened_by_its_name(shelf):
    catalog = Catalog(shelf)

    assert catalog.open("atlas/smol").git_dir == Repo.find(shelf / "atlas" / "smol.git").git_dir
    assert catalog.open("smol") is catalog.open("smol")


@pytest.mark.parametrize("name", ["--bad", "./smol", "atlas/../smol", "atlas/./smol", "../{shelf}/smol", "{root}/smol", "smol/.git", "", ".", "..", "a/../b", "smol/", "/smol", "a/b/c", "smol.git", "a--b", "-a", "a-", ".a", "a.", "a\0", "a\n", "é", "a b", "a" * 97, "api", "atlas/tree", "a\\b", "%2e%2e"])  # fmt: skip
def test_a_name_that_clients_do_not_take_is_refused_before_a_folder_is_looked_for(shelf, name):
    """The first ones lead to a repository, all the same."""
    name = name.replace("{shelf}", shelf.name).replace("{root}", str(shelf))
    assert not is_name(name)
    with pytest.raises(NotFound):
        Catalog(shelf).open(name)


def test_a_name_that_two_folders_have_is_none_of_both(tmp_path, built_bazaar):
    for folder in ("smol", "smol.git"):
        (tmp_path / folder).symlink_to(built_bazaar / "hub.git")
    catalog = Catalog(tmp_path)

    assert "two folders" in catalog.entries()[0].problem
    with pytest.raises(NotFound):
        catalog.open("smol")


def test_a_hub_that_cannot_be_says_why(shelf, tmp_path, capsys):
    """No folder, a port that is taken, an address that is not of this machine, and a key that is none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["hub", "--repos", str(tmp_path / "nothing")]) == 1
        assert run(["hub", "--repos", str(shelf), "--data", str(tmp_path), "--port", port]) == 2
        assert run(["hub", "--repos", str(shelf), "--data", str(tmp_path), "--host", "192.0.2.1", "--port", "0"]) == 2
    shown = capsys.readouterr().err
    assert "no folder" in shown
    assert f"cannot listen at 127.0.0.1, port {port}" in shown
    assert "--port 0 takes any free port" in shown


def test_a_hub_without_its_part_says_what_to_install(shelf, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    assert run(["hub", "--repos", str(shelf)]) == 1
    assert "souq[hub]" in capsys.readouterr().err


def test_a_hub_says_where_it_is_and_answers_with_strict_headers(shelf):
    """`souq hub --port 0 --json` prints one object, and then serves."""
    words = [sys.executable, "-m", "souq", "hub", "--repos", shelf, "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            lines = [server.stdout.readline() for _ in range(7)]
            started = json.loads(b"".join(lines))
            with urllib.request.urlopen(f"{started['url']}/") as page:
                text, headers = page.read().decode(), page.headers
            with pytest.raises(urllib.error.HTTPError) as lost:
                urllib.request.urlopen(f"{started['url']}/nobody/knows")
        finally:
            server.terminate()

    assert started["repositories"] == ["atlas/smol", "smol"]
    assert 'href="/atlas/smol"' in text
    assert "cannot be read" in text
    assert lost.value.code == 404
    for of in (headers, lost.value.headers):
        assert of["content-security-policy"].startswith("default-src 'none';")  # a page may be stricter
        assert all(of[name] == value for name, value in HEADERS.items() if name != "content-security-policy")
