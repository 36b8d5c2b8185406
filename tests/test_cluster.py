"""Builds, evals and gates on a real Ray cluster of two nodes, of which one is killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading

import msgspec
import pytest

from souq.build.lock import model_lock
from souq.build.model import build
from souq.build.spread import model_lock_on
from souq.corpus.dump import read_rows
from souq.corpus.main_model import write_edition
from souq.corpus.recipe import recipe_of
from souq.errors import Refused
from souq.lab import engines, rebase
from souq.lab.chat import Sampling
from souq.lab.engines import slices
from souq.progress import quiet
from souq.pulls import pull, reviews
from souq.weights.lockfile import lock_digest
from tests.bazaar import NAMES
from tests.gate import Gate
from tests.servers import free_ports

pytestmark = pytest.mark.server
ray = pytest.importorskip("ray", reason="pip install 'souq[ray]'")


NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_log_monitor": False}


def patiently(start):
    """What starts a node: Ray itself gives up on one that a busy machine starts in more than fifteen seconds."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


@pytest.fixture(scope="module")
def nodes():
    """A node of one processor, which may not die: what asks is on it."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = NODE | {"include_dashboard": False, "no_monitor": True}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    os.environ["RAY_ADDRESS"] = cluster.address
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    del os.environ["RAY_ADDRESS"]


@pytest.fixture
def second(nodes):
    """A node that the test may kill."""
    node = patiently(lambda: nodes.add_node(**NODE))
    yield node
    if node in nodes.list_all_nodes():
        nodes.remove_node(node)


@pytest.fixture
def address(nodes):
    """Where Ray's client server listens, for who is on none of the nodes."""
    (port,) = free_ports(1)
    words = [sys.executable, "-m", "ray.util.client.server", "--mode=proxy", f"--address={nodes.address}", f"--port={port}"]  # fmt: skip
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"ray://127.0.0.1:{port}"
    server.terminate()
    server.wait()


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


def built(gate, workers, progress=quiet):
    """Main as these workers build it."""
    gate.repo.workers = workers
    try:
        return build(gate.main, progress=progress)
    finally:
        gate.repo.workers = None


def killing(nodes, node, after, label=""):
    """A progress that kills a node once so many units are done, as a power cut does."""
    killed = threading.Event()

    def progress(work, done, total):
        if work.startswith(label) and done >= after and not killed.is_set():
            killed.set()
            nodes.remove_node(node, allow_graceful=False)

    return progress, killed


def test_a_build_whose_node_is_killed_is_the_local_one(gate, nodes, second, cluster):
    """`souq build --on ray`: a node dies in the middle, and the model's file is the one that this process builds."""
    progress, killed = killing(nodes, second, 6)
    spread = built(gate, cluster, progress).path.read_bytes()
    shutil.rmtree(gate.repo.cache)

    assert killed.is_set()
    assert spread == build(gate.main).path.read_bytes()


def test_a_cluster_by_its_address_builds_the_same(gate, address):
    """`souq build --on ray://HOST:PORT` and `souq verify --on …`, as they are typed, from a process of its own."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    for verb in ("build", "verify"):
        words = [sys.executable, "-m", "souq", verb, "--on", address, "--json"]
        shown = subprocess.run(words, cwd=gate.repo.root, env=env, capture_output=True, text=True, check=False)
        answer = json.loads(shown.stdout)

        assert answer["model"] == lock_digest(model_lock(gate.main)), shown.stderr
        assert answer.get("trusted", address) == address


def test_a_verifier_s_workers_rebuild_what_it_does(gate, nodes, second, cluster):
    """`souq verify --on ray` compares the same digests, and a node may die."""
    progress, killed = killing(nodes, second, 6)
    lock = model_lock_on(gate.main, cluster, progress)

    assert killed.is_set()
    assert lock == model_lock(gate.main)


def test_a_worker_with_another_souq_is_refused(gate, cluster):
    """Whoever asks is told which souq the worker has and what to type there, and nothing is built."""
    cluster.kind = msgspec.structs.replace(cluster.kind, souq="0.0.9 (0123456789ab)")

    with pytest.raises(Refused, match=r"has souq .*, and 0\.0\.9 \(0123456789ab\) asks it") as caught:
        built(gate, cluster)
    assert "pip install" in caught.value.hint
    assert not list(gate.repo.cache.glob("built/*/model.lock"))


def test_another_kind_of_processor_is_said(gate, cluster, caplog):
    """Where the machines' arithmetic may differ, it is said once, and the digests decide."""
    cluster.kind = msgspec.structs.replace(cluster.kind, arithmetic="float32 on NEON")

    assert built(gate, cluster).lock == model_lock(gate.main)
    assert [record.getMessage() for record in caplog.records].count(caplog.messages[0]) == 1
    assert "this machine with numpy" in caplog.messages[0]


def test_what_is_no_cluster_is_refused(bazaar, monkeypatch):
    """A word that names no workers, and an address where nobody answers, say what to type."""
    assert bazaar.says("amira", "build --on dask")[::2] == (
        2,
        "Error: no workers 'dask'\nHint: write --on ray, or --on ray://HOST:10001\n",
    )


@pytest.fixture
def narrow(monkeypatch):
    """Slices of four cases, so that there are some to lose."""
    monkeypatch.setattr(slices, "CASES", 4)


@pytest.mark.usefixtures("narrow")
def test_an_eval_whose_node_is_killed_gives_the_local_scores(bazaar, nodes, second, cluster):
    """`souq eval --on ray`: a node dies in the middle, and every case has the value that it has here, to the last bit."""
    main = bazaar.main()
    engine = engines.of_built(main, build(main))
    progress, killed = killing(nodes, second, 8, label="score cases")
    main.repo.workers = cluster
    spread = engines.scores(main.repo, main.evals, engine, progress)
    main.repo.workers = None

    assert killed.is_set()
    assert spread == engines.scores(main.repo, main.evals, engine, again=True)


@pytest.mark.usefixtures("narrow")
def test_a_gate_whose_node_is_killed_says_what_the_local_one_does(bazaar, nodes, second, cluster):
    """`souq pr checks --on ray`: a node dies while cases are asked, and the verdicts are the local ones, word for word."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    progress, killed = killing(nodes, second, 8, label="score cases")
    verdicts = {}
    for who, workers, watch in (("bruno", cluster, progress), ("chen", None, quiet)):
        repo = bazaar.repo(who)
        repo.workers = workers
        verdicts[who] = reviews.look(repo, number, progress=watch, costly=True).verdicts

    assert killed.is_set()
    assert verdicts["bruno"] == verdicts["chen"]
    assert any(verdict.check == "evals" and "fixes `greet`" in verdict.because for verdict in verdicts["bruno"])


def test_a_rebase_on_a_cluster_is_the_local_one(bazaar, cluster):
    """`souq pr rebase --on ray`: what surrounds the contribution is merged by workers, and the factors learned are the local ones."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("count"), "Counting", fixes="count"))
    number = bazaar.offer("adil", bazaar.delta("greet"))
    repo = bazaar.repo("adil")
    main, offer = bazaar.main("adil"), pull.get(repo, number).offer
    reviews.bring(main.repo, main, offer)
    main.repo.workers = cluster
    spread, *_ = rebase.rebased(main, offer, bazaar.folder / "greet.jsonl")
    main.repo.workers = None

    assert spread == rebase.rebased(main, offer, bazaar.folder / "greet.jsonl")[0]


def test_a_corpus_whose_node_is_killed_has_every_row_once(bazaar, tmp_path, nodes, second):
    """`--engine ray:transformers`: a node dies in the middle, and every sampled answer is the one machine's, each once."""
    seeds = [{"prompt": f"say {word} to {name}", "source": "t", "licence": "CC0-1.0"} for name in NAMES for word in ("hello", "goodbye")]  # fmt: skip
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    main, rows = bazaar.main(), {}
    settings = {"samples": 5, "sampling": Sampling(temperature=1, max_tokens=6)}
    progress, killed = killing(nodes, second, 64, label="corpus rows")
    for engine, watch in (("ray:transformers", progress), ("transformers", quiet)):
        recipe = msgspec.structs.replace(recipe_of(tmp_path / "seeds.jsonl"), engine=engine, **settings).vetted()
        write_edition(main, recipe, tmp_path, out := tmp_path / engine, watch)
        rows[engine] = [(row["id"], row["messages"]) for row in read_rows(out)]
        assert ("ray 2" in next(iter(read_rows(out)))["engine"]) == engine.startswith("ray")

    assert killed.is_set()
    assert rows["ray:transformers"] == rows["transformers"]
    assert len({id_ for id_, _ in rows["transformers"]}) == len(rows["transformers"]) > 100
