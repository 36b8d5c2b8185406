"""Builds, evals and gates on a real Ray cluster of two nodes, of which one is killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from souq.build.lock import model_lock
from souq.build.model import build
from souq.build.spread import model_lock_on
from souq.weights.lockfile import lock_digest
from tests.gate import Gate
from tests.servers import free_ports

pytestmark = pytest.mark.server
ray = pytest.importorskip("ray", reason="pip install 'souq[ray]'")


@pytest.fixture(scope="module")
def nodes():
    """Two nodes of one processor each, and this process beside them; the first may not die."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    size = {"object_store_memory": 100 << 20}
    head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": free_ports(1)[0], **size}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.client = f"ray://127.0.0.1:{head['ray_client_server_port']}"
    os.environ["RAY_ADDRESS"] = cluster.address
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    del os.environ["RAY_ADDRESS"]


@pytest.fixture
def second(nodes):
    """A node that the test may kill."""
    node = nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield node
    if node in nodes.list_all_nodes():
        nodes.remove_node(node)


@pytest.fixture
def cluster(nodes):
    from souq.lab.cluster import connect

    return connect("ray")


@pytest.fixture
def gate(tmp_path):
    """A main that ten contributions made."""
    gate = Gate(tmp_path)
    gate.land(*(gate.lora(seed, decay=0.4) for seed in range(10)))
    return gate


def killing(nodes, node, after):
    """A progress that kills a node once so many units are done, as a power cut does."""
    from souq.progress import quiet

    killed = threading.Event()

    def progress(label, done, total):
        quiet(label, done, total)
        if done >= after and not killed.is_set():
            killed.set()
            nodes.remove_node(node, allow_graceful=False)

    return progress, killed


def test_a_build_whose_node_is_killed_is_the_local_one(gate, nodes, second, cluster):
    """`souq build --on ray`: a node dies in the middle, and the model's file is the one that this process builds."""
    progress, killed = killing(nodes, second, 6)
    spread = build(gate.main, progress=progress, workers=cluster).path.read_bytes()
    shutil.rmtree(gate.repo.cache)

    assert killed.is_set()
    assert spread == build(gate.main).path.read_bytes()


def test_a_cluster_by_its_address_builds_the_same(gate, nodes, second):
    """`souq build --on ray://HOST:PORT` and `souq verify --on …`, as they are typed, from a process of its own."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    for verb in ("build", "verify"):
        words = [sys.executable, "-m", "souq", verb, "--on", nodes.client, "--json"]
        shown = subprocess.run(words, cwd=gate.repo.root, env=env, capture_output=True, text=True, check=False)
        answer = json.loads(shown.stdout)

        assert answer["model"] == lock_digest(model_lock(gate.main)), shown.stderr


def test_a_verifier_s_workers_rebuild_what_it_does(gate, nodes, second, cluster):
    """`souq verify --on ray` compares the same digests, and a node may die."""
    progress, killed = killing(nodes, second, 6)
    lock = model_lock_on(gate.main, cluster, progress)

    assert killed.is_set()
    assert lock == model_lock(gate.main)


def test_a_worker_with_another_souq_is_refused(gate, cluster):
    """Whoever asks is told which souq the worker has and what to type there, and nothing is built."""
    import msgspec

    from souq.errors import Refused

    cluster.kind = msgspec.structs.replace(cluster.kind, souq="0.0.9 (0123456789ab)")

    with pytest.raises(Refused, match=r"has souq .*, and 0\.0\.9 \(0123456789ab\) asks it") as caught:
        build(gate.main, workers=cluster)
    assert "pip install" in caught.value.hint
    assert not list(gate.repo.cache.glob("built/*/model.lock"))


def test_another_kind_of_processor_is_said(gate, cluster, caplog):
    """Where the machines' arithmetic may differ, it is said once, and the digests decide."""
    import msgspec

    cluster.kind = msgspec.structs.replace(cluster.kind, arithmetic="float32 on NEON")

    assert build(gate.main, workers=cluster).lock == model_lock(gate.main)
    assert [record.getMessage() for record in caplog.records].count(caplog.messages[0]) == 1
    assert "this machine with numpy" in caplog.messages[0]


def test_what_is_no_cluster_is_refused(bazaar, monkeypatch):
    """A word that names no workers, and an address where nobody answers, say what to type."""
    assert bazaar.says("amira", "build --on dask")[::2] == (
        2,
        "Error: no workers 'dask'\nHint: write --on ray, or --on ray://HOST:10001\n",
    )
