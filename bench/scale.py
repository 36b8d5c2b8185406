"""A checkpoint with the shapes of an 8B Llama, built straight from an S3 server under a limit that the system enforces.

The weights are random bf16 (`large.py`), so they pack as real ones do; two contributions of low rank change matrices of
four layers. The server is SeaweedFS, on loopback and the same cores. One run: the repository is made and pushed, its own
tensors are thrown away, a clone without tensors builds under a memory cgroup, and before and after it curl fetches the
very same objects to nowhere: the server's plain rate. What the model must be was computed before, from the local store.

    python bench/scale.py FOLDER [LAYERS [GB]]      # 32 layers are the 8B: 27 GB of disk at the most; 2 GB of memory
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from large import CONFIG, shapes  # noqa: E402
from machine import describe  # noqa: E402
from souq import governance  # noqa: E402
from souq.build.lock import model_lock  # noqa: E402
from souq.model.source import Source  # noqa: E402
from souq.records import Author, Contribution, format_toml  # noqa: E402
from souq.repo.contribution import Offer  # noqa: E402
from souq.repo.git import MAIN  # noqa: E402
from souq.repo.init import Beginning, init  # noqa: E402
from souq.repo.landing import files_gained  # noqa: E402
from souq.repo.remote import Repo  # noqa: E402
from souq.repo.snapshot import Snapshot, needed  # noqa: E402
from souq.repo.travel import clone, push  # noqa: E402
from souq.weights.bucket import Bucket  # noqa: E402
from souq.weights.delta import Array, Delta, Lora, TensorRef  # noqa: E402
from souq.weights.lockfile import format_delta, format_lock, lock_digest  # noqa: E402

CGROUP = Path("/sys/fs/cgroup/memory/souq-bench")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"
PORT = 22_700
SOUQ = Path(sys.executable).with_name("souq")
GOAL = 0.4


class Drawn(Mapping[str, Array]):
    """The checkpoint, each tensor cut anew out of a pool of drawn numbers when it is asked for."""

    def __init__(self, layers: int) -> None:
        self._shapes = dict(sorted(shapes(layers)))
        chance = np.random.default_rng(0)
        pool = (chance.standard_normal(1 << 25, np.float32) * 0.02).astype(ml_dtypes.bfloat16)
        self._pool = np.concatenate([pool, pool])

    def __getitem__(self, name: str) -> Array:
        shape, half = self._shapes[name], len(self._pool) // 2
        begin = list(self._shapes).index(name) * 104_729 % half
        return np.resize(self._pool[begin : begin + half], int(np.prod(shape))).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """SeaweedFS with one bucket."""
    folder.mkdir()
    words = [Path(sys.executable).with_name("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-master.port={PORT}"]  # fmt: skip
    words += [f"-volume.port={PORT + 1}", f"-filer.port={PORT + 2}", f"-s3.port={PORT + 3}", "-volume.max=60"]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=1024"]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT + 3}", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
    try:
        _make_bucket()
        yield
    finally:
        process.kill()
        process.wait()


def _make_bucket() -> None:
    files = Bucket("s3://models/x").files
    for _ in range(120):
        try:
            files.mkdir("models")
            files.pipe_file("models/probe", b"x")
            return
        except Exception:
            time.sleep(0.5)
    raise SystemExit("no S3 server answers")


def repository(folder: Path, layers: int, url: str) -> Repo:
    """The 8B with two contributions on main, and what it builds to in model.lock."""
    config = CONFIG | {"num_hidden_layers": layers}
    source = Source(Drawn(layers), {"config.json": str(config).replace("'", '"').replace("False", "false").encode()}, "drawn", "apache-2.0", "bench")  # fmt: skip
    repo = init(folder, source, Beginning("large", "Apache-2.0", governance.solo("bench", "bench", KEY), {}, store=url))
    main, files = Snapshot(repo, "main"), {}
    for number in (1, 2):
        author = Author(name="bench", email="bench@localhost", key="")
        about = Contribution(title=f"N {number}", kind="weights", author=author, licence="CC0-1.0", signoff="bench <bench@localhost>")  # fmt: skip
        offered = {"contribution.toml": format_toml(about).encode(), "delta.lock": format_delta(_delta(main, number)).encode()}  # fmt: skip
        files |= files_gained(Offer(f"{number:04}-change", offered))
    _land(repo, files)
    _land(repo, {"model.lock": format_lock(model_lock(Snapshot(repo, "main"))).encode()})
    return repo


def _land(repo: Repo, files: dict[str, Any]) -> None:
    tip = repo.tip()
    repo.publish({MAIN: (tip, repo.write_commit([tip], files, "land", tree_of=tip))}, [])


def _delta(main: Snapshot, seed: int) -> Delta:
    chance, parts = np.random.default_rng(seed), {}

    def put(array: Array) -> TensorRef:
        main.repo.store.put(array)
        return TensorRef.of(array)

    layers = sorted({name.split(".")[2] for name in main.base if ".layers." in name}, key=int)[-4:]
    for name, ref in main.base.items():
        if name.endswith(("q_proj.weight", "up_proj.weight")) and name.split(".")[2] in layers:
            m, n = ref.shape
            a, b = chance.standard_normal((8, n), np.float32), chance.standard_normal((m, 8), np.float32) * 0.01
            parts[name] = Lora(a=put(a), b=put(b), scale=2.0)
    return Delta(lock_digest(main.base), parts)


def plain(names: list[str], bucket: Bucket) -> tuple[float, int]:
    """Seconds in which curl fetches all objects to nowhere, on one connection, and their bytes."""
    end = os.environ["AWS_ENDPOINT_URL"]
    lines = "".join(f'url = "{end}/{bucket.path(name)[5:]}"\noutput = "/dev/null"\n' for name in names)
    begun = time.perf_counter()
    words = [
        "curl",
        "-sS",
        "--fail",
        "--aws-sigv4",
        "aws:amz:us-east-1:s3",
        "-u",
        "any:any",
        "-w",
        "%{size_download}\n",
        "-K",
        "-",
    ]
    done = subprocess.run(words, input=lines.encode(), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"curl: {done.stderr.decode()[:300]}")
    return time.perf_counter() - begun, sum(map(int, done.stdout.split()))


def bounded(words: list[str | Path], at: Path, most: int) -> tuple[float, int, bytes]:
    """Seconds of a command in a cgroup of so much memory, its own peak, and what it said."""
    CGROUP.mkdir(exist_ok=True)
    (CGROUP / "memory.limit_in_bytes").write_text(str(most))

    def enter() -> None:
        (CGROUP / "cgroup.procs").write_text(str(os.getpid()))

    begun = time.perf_counter()
    process = subprocess.Popen(words, cwd=at, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=enter)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _high(process.pid))
        time.sleep(0.2)
    out, err = process.communicate()
    took = time.perf_counter() - begun
    CGROUP.rmdir()
    if process.returncode:
        raise SystemExit(f"build ended with {process.returncode}: {err.decode()[-2000:]}")
    return took, peak, out


def _high(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return max((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), default=0)
    except OSError:
        return 0


def main() -> None:
    folder, layers = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 32
    most = int(float(sys.argv[3]) * 1e9) if len(sys.argv) > 3 else 2 * 10**9
    url = "s3://models/large"
    folder.mkdir(parents=True)
    print(describe())
    try:
        with server(folder / "weed"):
            begun = time.perf_counter()
            repo = repository(folder / "mine", layers, url)
            base, point = sum(ref.nbytes for ref in Snapshot(repo, "main").base.values()), dict[str, float]()
            point |= {"bytes": base, "init": time.perf_counter() - begun}
            print(f"{base / 2e9:.2f} billion numbers, {base / 1e9:.1f} GB, made in {point['init']:.0f} s", flush=True)
            begun = time.perf_counter()
            subprocess.run([SOUQ, "build", "--json"], cwd=folder / "mine", stdout=subprocess.DEVNULL, check=True)
            point["build"] = time.perf_counter() - begun
            print(f"built from this disk in {point['build']:.0f} s", flush=True)
            shutil.rmtree(repo.cache)
            begun, names = time.perf_counter(), needed(repo, {"main": repo.tip()})
            push(repo, names, to=str(folder / "forge.git"))
            sent = sum(map(repo.store.size, names))
            point |= {"push": (took := time.perf_counter() - begun), "sent": sent}
            print(f"pushed {sent / 1e9:.2f} GB in {took:.0f} s, {sent / 1e6 / took:.0f} MB/s", flush=True)
            shutil.rmtree(folder / "mine")
            clone(f"file://{folder}/forge.git", folder / "thin", tensors=False)
            point |= measured(folder, url, most, names)
            print(f"POINT {json.dumps(point)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(folder: Path, url: str, most: int, names: list[str]) -> dict[str, float]:
    """What is planned, and the build between two plain downloads."""
    limit = f"{most // 10**6 - 200}MB"  # for what the system counts besides: stacks, the page cache's own
    shown = subprocess.run(
        [SOUQ, "build", "--plan", "--memory", limit], cwd=folder / "thin", capture_output=True, check=True
    )
    print(shown.stdout.decode().rstrip(), flush=True)
    bucket = Bucket(url)
    before, size = plain(names, bucket)
    took, peak, _ = bounded([SOUQ, "build", "--memory", limit, "--json"], folder / "thin", most)
    after, _ = plain(names, bucket)
    fetch = (before + after) / 2
    print(
        f"plain download of {size / 1e9:.2f} GB: {before:.0f} s before and {after:.0f} s after, {size / 1e6 / fetch:.0f} MB/s"
    )
    print(
        f"build from S3, the bytes that model.lock says: {took:.0f} s, {size / 1e6 / took:.0f} MB/s of the same objects, peak "
        f"{peak / 1e6:.0f} MB of {most / 1e6:.0f} MB; ratio of rates {fetch / took:.2f} (goal {GOAL})",
        flush=True,
    )
    return {"plain": fetch, "build from S3": took, "peak": peak}


if __name__ == "__main__":
    main()
