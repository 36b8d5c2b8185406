"""A hub's pages over a repository of a thousand pull requests: the first look, every page again, and 200 clients at once;
and a large file, beside nginx with the same one.

    python bench/hub_pages.py FOLDER [SECONDS]     # FOLDER: a town made once, below it; 60 s unless told

The town is the tests' tiny model with one contribution landed and released; the pull requests are real commits with real
signatures, a third of them closed and a third voted on. The hub runs in a process of its own, as `souq hub` starts it. Of
200 clients every second one reads pages, the others ranges of 64 KiB of a file of 1 GiB. Where nginx is installed, curl
then takes the whole file from each in turn, nine times; the medians are compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402
from tests.bazaar import Bazaar, build_town, copied  # noqa: E402

from machine import describe  # noqa: E402
from souq import signing  # noqa: E402
from souq.hub.plain.repository import Added, Plain  # noqa: E402
from souq.pulls.pull import signed_record  # noqa: E402
from souq.records import Author, Contribution, Vote, format_toml  # noqa: E402
from souq.repo.contribution import Offer  # noqa: E402
from souq.repo.remote import Repo  # noqa: E402
from souq.repo.snapshot import Snapshot  # noqa: E402

PULLS, READERS, LOOKS = 1_000, 200, 6
GIB, RANGE = 1 << 30, 64 << 10
LARGE, ROUNDS = "/ada/large/resolve/main/model.safetensors", 9
PAGES = (
    "/", "/hub", "/hub/pulls", "/hub/pulls?state=all&page=7", "/hub/pulls?state=closed", "/hub/pulls/2", "/hub/pulls/500", "/hub/pulls/997", "/hub/queue", "/hub/releases",
    "/hub/releases/1.0", "/hub/bugs", "/hub/governance", "/hub/contributors", "/hub/openness",
)  # fmt: skip


def town(folder: Path) -> Path:
    """The folder that a hub serves."""
    if not (folder / "town").exists():
        (folder / "base").mkdir(parents=True)
        build_town(folder / "base")
        made = copied(folder / "base", folder / "town")
        made.land(made.offer("chen", made.delta("greet")))
        made.release("amira", "1.0", scores=True)
        _many(made)
    return folder / "town"


def _many(made: Bazaar) -> None:
    repo = Repo.find(made.folder / "hub.git")
    main, people = Snapshot(repo, repo.tip()), [made.person(name) for name in ("mallory", "chen", "bruno")]
    for number in range(4, PULLS + 1):
        who = people[number % 3]
        author = Author(name=who.name, email=who.email, key=who.public_key)
        about = Contribution(title=f"Rows number {number}", kind="data", author=author, licence="CC0-1.0", signoff=f"{who.name} <{who.email}>")  # fmt: skip
        rows = b'{"text": "row %d"}\n' % number
        offer = Offer(f"{number:04d}-rows", {"contribution.toml": format_toml(about).encode(), "data/rows.jsonl": rows})
        files = {offer.home + path: data for path, data in offer.files.items()}
        refs = {"head": repo.write_commit([main.commit], files, f"{about.title}\n", tree_of=main.commit)}
        seen = {"at": signing.now(), "main": main.commit}
        records = {"signoff": (offer.slug, {"certificate": "DCO-1.1"} | seen, who)}
        if number % 3 == 0:
            records["closed"] = (f"pr-{number}", {"reason": "withdrawn", "by": who.name} | seen, who)
        if number % 3 == 1:
            vote = Vote(subject=offer.digest, choice="approve", reason="fine", by="amira", at=signing.now())
            records["vote"] = (offer.slug, msgspec.to_builtins(vote) | seen, made.person("amira"))
        for kind, (slug, predicate, signer) in records.items():
            oid = repo.write_blob(signed_record(kind, slug, offer.digest, predicate, signer))
            refs[f"{kind}/{oid[:16]}"] = oid
        for name, oid in refs.items():
            ref = repo.git_dir / f"refs/souq/pr/{number}/{name}"
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(f"{oid}\n")


def large_file(data: Path) -> Path:
    """A file of 1 GiB in a plain repository of the hub's, made once; where its bytes are."""
    place = data / "repositories" / "models" / "ada" / "large.git"
    if not place.exists():
        place.parent.mkdir(parents=True)
        chance, hasher, spooled = random.Random(1), hashlib.sha256(), data / "spooled"
        with spooled.open("wb") as file:
            for _ in range(GIB >> 24):
                hasher.update(block := chance.randbytes(1 << 24))
                file.write(block)
        repository = Plain.create(place, "ada")
        added = Added("model.safetensors", hasher.hexdigest(), GIB, spooled)
        repository.commit_to("refs/heads/main", [added], "A large file\n", "ada")
    repository = Plain(place)
    return repository.place(repository.listing(repository.commit("refs/heads/main"))["model.safetensors"])


def ask(url: str) -> int:
    """The status of an answer, read to its end."""
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def first_looks(url: str) -> None:
    """How long each page takes that nobody has asked for yet."""
    for path in PAGES:
        begun, tries = time.perf_counter(), 1
        while ask(url + path) == 503:
            tries += 1
            time.sleep(0.5)
        print(f"first   {path:32} {time.perf_counter() - begun:7.2f} s, asked {tries} times", flush=True)


async def _reader(host: str, port: int, until: float, start: int, times: list[float], wrong: list[str]) -> None:
    """One who reads page after page over one connection, or range after range."""
    chance = random.Random(start)
    into, out = await asyncio.open_connection(host, port)
    number = start
    while time.monotonic() < until:
        path, number, more, right = PAGES[number % len(PAGES)], number + 1, "", " 200 "
        if start % 2:
            at = chance.randrange(GIB - RANGE)
            path, more, right = LARGE, f"Range: bytes={at}-{at + RANGE - 1}\r\n", " 206 "
        begun = time.perf_counter()
        out.write(f"GET {path} HTTP/1.1\r\nHost: hub\r\n{more}\r\n".encode())
        head = (await into.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        await into.readexactly(length)
        times.append(time.perf_counter() - begun)
        if right not in head.split("\r\n")[0]:
            wrong.append(f"{path}: {head.splitlines()[0]}")
    out.close()


async def crowd(url: str, seconds: float, readers: int, pid: int) -> tuple[list[float], list[str], list[float]]:
    """What so many readers see at once: seconds of each answer, and what was no page; and what the server holds, in MB."""
    host, port = url.removeprefix("http://").split(":")
    times, wrong, until = list[float](), list[str](), time.monotonic() + seconds
    held = asyncio.create_task(_watched(pid, seconds))
    await asyncio.gather(*(_reader(host, int(port), until, i, times, wrong) for i in range(readers)))
    return times, wrong, await held


async def _watched(pid: int, seconds: float) -> list[float]:
    """What a process holds, at the beginning and after each sixth of a time."""
    held = [memory(pid)]
    for _ in range(LOOKS):
        await asyncio.sleep(seconds / LOOKS)
        held.append(memory(pid))
    return held


def memory(pid: int) -> float:
    """Megabytes that a process holds."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1e3


def beside_nginx(url: str, file: Path, folder: Path) -> None:
    """What curl gets of the large file from the hub and from nginx, in turn."""
    if (nginx := shutil.which("nginx") or shutil.which("/usr/sbin/nginx")) is None:
        print("no nginx here (apt-get install nginx-light), so no large file is taken from it")
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes auto; user root;\n"
        f"events {{}}\nhttp {{ access_log off; sendfile on; client_body_temp_path {folder}/nginx-body;"
        f" server {{ listen 127.0.0.1:{port}; location /large {{ alias {file}; }} }} }}\n"
    )
    with subprocess.Popen([nginx, "-c", str(conf.resolve()), "-p", str(folder)], stderr=subprocess.DEVNULL) as other:
        try:
            time.sleep(1)
            speeds = dict[str, list[float]](hub=[], nginx=[])
            for _ in range(ROUNDS):
                for name, address in (("hub", url + LARGE), ("nginx", f"http://127.0.0.1:{port}/large")):
                    words = ["curl", "-s", "--fail", "-o", os.devnull, "-w", "%{speed_download}", address]
                    done = subprocess.run(words, capture_output=True, text=True, check=True)
                    speeds[name].append(float(done.stdout) / 1e6)
            hub, peer = (statistics.median(speeds[name]) for name in ("hub", "nginx"))
            ratios = sorted(ours / theirs for ours, theirs in zip(speeds["hub"], speeds["nginx"], strict=True))
            print(f"1 GiB: hub {hub:.0f} MB/s, nginx {peer:.0f} MB/s: {hub / peer:.2f}, rounds {ratios[0]:.2f} to {ratios[-1]:.2f}")  # fmt: skip
        finally:
            other.terminate()


def main() -> None:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    print(describe())
    file = large_file(folder / "data")
    words = [sys.executable, "-m", "souq", "hub", "--repos", str(town(folder)), "--port", "0", "--json", "--data", str(folder / "data")]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            lines = b""
            while not lines.rstrip().endswith(b"}"):
                lines += server.stdout.readline()
            url = json.loads(lines)["url"]
            first_looks(url)
            beside_nginx(url, file, folder)
            for readers in (1, READERS):
                times, wrong, held = asyncio.run(crowd(url, seconds, readers, server.pid))
                ordered = sorted(1e3 * each for each in times)
                tail = ", ".join(f"p{share} {ordered[int(len(ordered) * share / 100)]:.1f}" for share in (95, 99))
                print(f"{readers:3} clients, {seconds:.0f} s: {len(times):,} answers, median {statistics.median(ordered):.1f} ms, {tail}, max {ordered[-1]:.0f};"
                      f" not 200 or 206: {len(wrong)} {wrong[:3]}; memory {', '.join(f'{each:.0f}' for each in held)} MB", flush=True)  # fmt: skip
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
