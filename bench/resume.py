"""A push of 5 GB to a real S3 server that is killed twice on its way: how many bytes are sent until all is there.

The server is SeaweedFS; before it stands a server that counts what it is sent. The pushing process is killed with
SIGKILL when a third and when two thirds have come; the one after that goes on to the end.

    python bench/resume.py FOLDER [GB]
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.proxies import before  # noqa: E402

from machine import describe  # noqa: E402
from scale import Drawn, server  # noqa: E402
from souq.weights.bucket import Bucket  # noqa: E402
from souq.weights.store import Store  # noqa: E402

URL, GOAL = "s3://models/resumed", 1.1


def push(folder: Path) -> None:
    """Send all that a store has; in a process of its own, which is killed."""
    store = Store(folder)
    store.copy(Bucket(URL), [*store.digests()])


def main() -> None:
    folder, most = Path(sys.argv[1]), int(float(sys.argv[2]) * 1e9) if len(sys.argv) > 2 else 5 * 10**9
    folder.mkdir(parents=True)
    print(describe(), flush=True)
    try:
        drawn, store, names = Drawn(32), Store(folder / "store"), list[str]()
        for name in drawn:  # the two largest, of a gigabyte each, come among the first
            if sum(map(store.size, names)) < most:
                names.append(store.put(drawn[name]))
        total = sum(map(store.size, names))
        with server(folder / "weed"), before(os.environ["AWS_ENDPOINT_URL"]) as counted:
            os.environ["AWS_ENDPOINT_URL"] = counted.address
            for share in (1 / 3, 2 / 3, None):
                words = [sys.executable, __file__, "push", folder / "store"]
                process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
                while process.poll() is None and (share is None or counted.sent < share * total):
                    time.sleep(0.05)
                if share is not None:
                    process.send_signal(signal.SIGKILL)
                code = process.wait()
                print(f"{counted.sent / 1e9:.2f} GB of {total / 1e9:.2f} sent, ended with {code}", flush=True)
            there = Bucket(URL).sizes(names)
        print(
            f"{len(there)} of {len(names)} objects there; sent {counted.sent / total:.3f} of their bytes (goal {GOAL})"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    push(Path(sys.argv[2])) if sys.argv[1] == "push" else main()
