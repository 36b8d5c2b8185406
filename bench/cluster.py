"""`souq build --on ray` beside the local build: what Ray costs with one worker, and what a second one brings.

The base is the real 135M model, and every matrix of its LAYERS (thirty) is merged by covariance: six contributions of
rank 8 with sketches, random numbers in real shapes. Nothing is kept from build to build. Each round builds here with
one thread, on a cluster of one worker with one core, and on one of two, in turn; all of them have this machine's two
cores, of which this process needs some for spot checks, digests and the file. The ratio is of each round's own.

    nice -n 5 python bench/cluster.py [ROUNDS [LAYERS]]
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from incremental import begun, land, offers  # noqa: E402
from machine import describe  # noqa: E402
from souq.build.model import build  # noqa: E402
from souq.repo.remote import Repo  # noqa: E402
from souq.repo.snapshot import Snapshot  # noqa: E402

PEOPLE = 6
NODE = {"num_cpus": 1, "object_store_memory": 512 << 20, "include_log_monitor": False}


def processor() -> float:
    """Seconds of a processor that this process and Ray's workers have had: a crowd beside them counts for little."""
    ticks, seconds = os.sysconf("SC_CLK_TCK"), time.process_time()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith((b"ray::IDLE", b"ray::_do")):
                seconds += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13])) / ticks
        except OSError:
            continue
    return seconds


def timed(repo: Repo, workers: Any) -> tuple[float, float, str]:
    """Seconds of a build from nothing, by the clock and of processors, and what came out."""
    shutil.rmtree(repo.cache, ignore_errors=True)
    repo.workers = workers
    begun_at, had = time.perf_counter(), processor()
    made = build(Snapshot(repo, "main"), settled=False)
    return time.perf_counter() - begun_at, processor() - had, made.digest


def main() -> None:
    import ray
    from ray.cluster_utils import Cluster
    from tests.test_cluster import patiently

    from souq.lab import cluster
    from souq.lab.cluster import connect

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    layers = range(30 - (int(sys.argv[2]) if len(sys.argv) > 2 else 30), 30)
    print(describe(), flush=True)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as folder:
        repo = begun(Path(folder) / "smol", sketch=None)
        land(repo, offers(Snapshot(repo, "main"), range(1, PEOPLE + 1), layers), None)
        started = time.perf_counter()
        head = NODE | {"include_dashboard": False, "no_monitor": True, "resources": {"first": 1}}
        nodes = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        patiently(lambda: nodes.add_node(**NODE))
        os.environ["RAY_ADDRESS"] = nodes.address
        workers = connect("ray")
        print(f"Ray started in {time.perf_counter() - started:.0f} s", flush=True)
        cores, os.cpu_count = os.cpu_count, lambda: 1  # threads of the local build
        timed(repo, workers)  # the workers' processes are started, and have read their libraries
        overhead, faster = [], []
        for _ in range(rounds):
            here, cost, mine = timed(repo, None)
            both_nodes, cluster._room = cluster._room, lambda cores: ({"num_cpus": 1, "resources": {"first": 0.001}}, 1)
            one, spread, theirs = timed(repo, workers)
            cluster._room = both_nodes
            two, _, both = timed(repo, workers)
            assert mine == theirs == both
            overhead.append(one / here - 1)
            faster.append(one / two)
            shown = (
                f"here {here:.1f} s, one worker {one:.1f} s ({one / here - 1:+.0%}), two {two:.1f} s ({one / two:.2f}x)"
            )
            shown += f"; of processors {cost:.1f} s here, {spread:.1f} s on one worker ({spread / cost - 1:+.0%})"
            print(shown, f"load {os.getloadavg()[0]:.1f}", flush=True)
        os.cpu_count = cores
        ray.shutdown()  # it is connected to the first node, which else may not go
        nodes.shutdown()
    result = {"overhead": statistics.median(overhead), "faster": statistics.median(faster)}
    print(
        f"one worker costs {result['overhead']:+.0%} (goal: under +25%), two are {result['faster']:.2f}x one (goal: 1.6x)"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
