"""What every attack leaves behind: nothing on main, in the store, in a working tree, or at home.

An attacker's own refs on the hub are theirs to write, and tensors that are what their names say may travel. A test in
which something honest lands besides says so: `@pytest.mark.lands`.
"""

import subprocess
from pathlib import Path

import pytest

from souq.weights.store import Store

KEPT = ("refs/heads/", "refs/tags/")


def pytest_configure(config):
    config.addinivalue_line("markers", "lands: something honest lands, or a maintainer writes main by hand")


def _git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True).stdout


def _refs(hub):
    rows = [line.split(b" ") for line in _git(hub, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()]
    return {name: oid for name, oid in rows if name.decode("utf-8", "replace").startswith(KEPT)}


@pytest.fixture(autouse=True)
def nothing_written(request, tmp_path_factory, monkeypatch):
    """Compared before and after, by reading the disk and asking nobody."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    if "bazaar" not in request.fixturenames:
        yield
        assert not _files(home), "something was written at home"
        return
    bazaar = request.getfixturevalue("bazaar")
    hub, clone = bazaar.folder / "hub.git", bazaar.actors["amira"].clone
    before = _refs(hub)
    yield
    assert not _files(home), "something was written at home"
    assert not _git(clone, "status", "--porcelain"), "a maintainer's working tree was changed"
    assert not [line for place in (hub, clone / ".git") for line in Store(place / "souq").fsck()], "a store holds a lie"
    if request.node.get_closest_marker("lands") is None:
        assert _refs(hub) == before, "main, a branch or a tag of the hub moved"


def _files(folder: Path):
    """What libraries cache is theirs."""
    return [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
