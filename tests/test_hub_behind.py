"""A hub behind nginx as docs/hub.md sets it up: several processes, and everything that git, souq and hf send through it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from souq.hub.accounts.store import Accounts
from souq.hub.accounts.trail import OPERATOR
from souq.hub.database import Database, url_in
from souq.pulls import pull as pulls
from souq.repo.remote import Repo
from souq.weights.store import Store
from tests.bazaar import copied
from tests.hubs import NAME
from tests.test_hub_running import ask, started

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
PAGE = Path(__file__).parent.parent / "docs" / "hub.md"
pytestmark = [
    pytest.mark.server, pytest.mark.nginx,
    pytest.mark.skipif(NGINX is None, reason="no nginx here: `apt-get install nginx-light`"),
]  # fmt: skip


def free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def nginx(folder, port, hub):
    """The server of the documentation, but for where it listens and what it stands before."""
    server = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.S)[1]
    assert "http://127.0.0.1:8000" in server
    server = server.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("http://127.0.0.1:8000", hub)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off;\n{places}{server}}}\n"
    )
    process = subprocess.Popen([NGINX, "-c", conf, "-p", folder], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def hub(built_bazaar, tmp_path_factory):
    """A town, the address that nginx answers at, the hub's own, and a token of chen's."""
    tmp_path = tmp_path_factory.mktemp("behind")
    bazaar = copied(built_bazaar, tmp_path / "town")
    (tmp_path / "shelf" / "atlas").mkdir(parents=True)
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    data, port = tmp_path / "data", free()
    accounts = Accounts(Database(url_in(data)))
    accounts.add("chen", by=OPERATOR)
    token = accounts.mint("chen", by=OPERATOR, scope="write")[0]
    accounts.database.close()
    words = ("--repos", tmp_path / "shelf", "--data", data, "--processes", 2, "--url", f"http://127.0.0.1:{port}")
    (tmp_path / "nginx").mkdir()
    with started(*words) as (own, _), nginx(tmp_path / "nginx", port, own):
        assert ask(f"http://127.0.0.1:{port}/health")[0] == 200
        yield bazaar, f"http://127.0.0.1:{port}", own, token


def test_a_day_behind_nginx(hub, tmp_path):
    """Cloned with its tensors, offered from there, pushed; a file of many megabytes by hf, and back."""
    bazaar, url, _, token = hub
    remote, mine = f"{url.replace('://', f'://chen:{token}@')}/{NAME}", tmp_path / "mine"
    hub_git = bazaar.folder / "hub.git"
    assert bazaar("chen", ["clone", remote, "mine"], at=tmp_path) == 0
    assert Repo.find(mine).store.fsck() == []
    before = set(Store(hub_git / "souq").digests())
    offer = ["pr", "create", bazaar.delta("greet"), "--title", "Greetings", "--licence", "Apache-2.0", "--signoff"]
    assert bazaar("chen", [*offer, "--unchecked", "--fixes", "greet"], at=mine) == 0
    number = max(pull.number for pull in pulls.listed(Repo.find(hub_git)))
    assert b"Greetings" in ask(f"{url}/{NAME}/pulls/{number}")[2]
    new = set(Store(hub_git / "souq").digests()) - before
    assert new
    Store(hub_git / "souq").path(lost := sorted(new)[0]).unlink()
    assert bazaar("chen", "push", at=mine) == 0
    assert Store(hub_git / "souq").fsck() == []
    assert lost in set(Store(hub_git / "souq").digests())

    api, large = HfApi(url, token=token), os.urandom(70_000_000)
    api.create_repo("chen/notes")
    api.upload_file(path_or_fileobj=large, path_in_repo="large.bin", repo_id="chen/notes")
    got = Path(hf_hub_download("chen/notes", "large.bin", endpoint=url, cache_dir=tmp_path / "cache"))
    assert got.read_bytes() == large
    assert ask(f"{url}/chen/notes/resolve/main/large.bin", Range="bytes=69999990-")[2] == large[-10:]


def test_a_push_of_git_that_is_one_large_body_comes_through(hub, tmp_path):
    """More than nginx takes unless it is told, in pieces of unknown length as git sends it."""
    _, url, _, token = hub
    HfApi(url, token=token).create_repo("chen/noise")
    git = ["git", "-C", str(tmp_path / "notes"), "-c", "http.postBuffer=65536"]
    remote = f"{url.replace('://', f'://chen:{token}@')}/chen/noise"
    subprocess.run(["git", "clone", "-q", remote, tmp_path / "notes"], check=True)
    (tmp_path / "notes" / "noise.txt").write_text(os.urandom(1_500_000).hex())
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "noise"], check=True)
    subprocess.run([*git, "push", "-q", "origin", "HEAD:main"], check=True)

    assert ask(f"{url}/chen/noise/resolve/main/noise.txt")[0] == 200


def test_figures_are_not_for_who_comes_through_it(hub):
    """The machine itself reads them; the request keeps the id that nginx gave it."""
    _, url, own, _ = hub
    assert ask(f"{own}/metrics")[0] == 200
    assert ask(f"{url}/metrics")[0] in (403, 404)
    assert re.fullmatch("[0-9a-f]{32}", ask(f"{url}/")[1]["x-request-id"])
