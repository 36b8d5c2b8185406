"""What peers' own code keeps of a set of contributions that bench/retention.py measured: same cases, same columns.

Each peer runs in a Python of its own (bench/peers_merge.py) on float32 folders of the base and of what each contributor
tuned, on their PEFT folders, or with the very rows that souq's sketches were made of. What it merges to is scored here.
Several settings are shown at the one that keeps most of these cases, which is generous. `make bench-peers` prepares it.

    python bench/peers.py FOLDER --set held-all MERGEKIT_PYTHON FUSION_BENCH_PYTHON [METHOD … or --all] [--svg FILE]

Above them stand souq's own and the LoRA trained on all rows, as far as bench/retention.py has measured them in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bazaar import Bazaar, Found, open_bazaar
from retention import heading, line, tag_of
from sets import SETS
from souq.chart import Curve, line_chart
from souq.lab.packing import sequence_of
from souq.lab.sketching import some_rows
from souq.records import Record
from souq.repo.snapshot import base_files
from souq.weights.delta import Array
from souq.weights.safetensors import open_tensors, write_tensors
from souq.weights.store import Stored


class Peer(NamedTuple):
    """A method of somebody's: the tool that has it, what it asks of contributors, and the settings tried.

    `scale` among them is by how much of the merged change moves the base: the factor that those tools multiply with.
    """

    tool: str
    needs: str
    settings: Sequence[dict[str, Any]]


PEERS = {
    "RegMean, FusionBench": Peer(
        "regmean", "everybody's rows", [{"reduce_non_diagonal_ratio": ratio} for ratio in (1.0, 0.9)]
    ),
    "RegMean++, FusionBench": Peer(
        "regmean++", "everybody's rows", [{"reduce_non_diagonal_ratio": ratio} for ratio in (1.0, 0.9)]
    ),
    "TSV-M, FusionBench": Peer(
        "fusion-bench", "nothing", [{"algorithm": "tsvm", "alpha": 1.0, "scale": scale} for scale in (0.7, 1.0)]
    ),
    "Iso-C, FusionBench": Peer(
        "fusion-bench", "nothing", [{"algorithm": "iso-c", "scaling_factor": 1.0, "scale": s} for s in (1.0, 1.5)]
    ),
    "Iso-CTS, FusionBench": Peer(
        "fusion-bench", "nothing", [{"algorithm": "iso-cts", "scaling_factor": 1.0, "common_space_fraction": 0.8}]
    ),
    "OPCM, FusionBench": Peer("fusion-bench", "nothing", [{"algorithm": "opcm", "alpha": 0.5, "shuffle_order": False}]),
    # Its 300 steps would be hours of one core: every step multiplies matrices of 1,536 x 1,536.
    "WUDI, FusionBench, 10 steps": Peer("fusion-bench", "nothing", [{"algorithm": "wudi", "iter_num": 10}]),
    "task arithmetic, mergekit": Peer(
        "mergekit", "nothing", [{"method": "task_arithmetic", "weight": w, "normalize": False} for w in (0.3, 0.5)]
    ),
    "TIES, mergekit": Peer(
        "mergekit", "nothing",
        [{"method": "ties", "weight": 1.0, "density": d, "normalize": True, "lambda": 1.0} for d in (0.2, 0.5)],
    ),
    "SCE, mergekit": Peer("mergekit", "nothing", [{"method": "sce", "select_topk": 1.0}]),
    "linear, mergekit": Peer("mergekit", "nothing", [{"method": "linear", "weight": 1.0}]),
    "DARE-TIES, mergekit": Peer(
        "mergekit", "nothing",
        [{"method": "dare_ties", "weight": 1.0, "density": 0.9, "normalize": True, "lambda": 1.0}],
    ),
    "DELLA, mergekit": Peer(
        "mergekit", "nothing",
        [{"method": "della", "weight": 1.0, "density": 0.9, "epsilon": 0.05, "normalize": True, "lambda": 1.0}],
    ),
    "breadcrumbs with TIES, mergekit": Peer(
        "mergekit", "nothing",
        [{"method": "breadcrumbs_ties", "weight": 1.0, "density": 0.9, "gamma": 0.01, "normalize": True, "lambda": 1.0}],
    ),
    "Karcher mean, mergekit": Peer("mergekit", "nothing", [{"method": "karcher"}]),
    "cat, PEFT": Peer("peft", "nothing", [{"combination_type": "cat", "weight": weight} for weight in (0.3, 0.5)]),
    "linear, PEFT": Peer("peft", "nothing", [{"combination_type": "linear", "weight": 0.4}]),
    "TIES, PEFT": Peer("peft", "nothing", [{"combination_type": "ties", "weight": 1.0, "density": 0.5}]),
    "magnitude prune, PEFT": Peer(
        "peft", "nothing", [{"combination_type": "magnitude_prune", "weight": 0.4, "density": 0.5}]
    ),
}  # fmt: skip


OURS = {
    "souq, sketched once more within the merge": ("within", "sketches"),
    "souq, the default": ("covariance", "sketches"),
    "souq, sketches guessed": ("guess", "nothing"),
    "one LoRA trained on all rows": ("joint", "everybody's rows"),
    "the mean": ("mean", "nothing"),
}  # of what bench/retention.py measured: the score's tag, and what it asks of contributors
BEAM = 0.001  # half of how wide a beam of the picture is, in nats


class Took(Record, frozen=True):
    """The processor's seconds of a merge, and its process's largest memory in bytes."""

    seconds: float
    memory: int


def lay_out(bazaar: Bazaar) -> None:
    """What the peers read: the base, what each contributor tuned, in float32; the rows of the sketches as tokens."""
    models = bazaar.folder / "models"
    base = Stored(bazaar.main.base, bazaar.repo.store)
    wide = {name: base[name].astype(np.float32) for name in base}
    for name in ("base", *bazaar.deltas):
        if (models / name / "model.safetensors").is_file():
            continue
        (models / name).mkdir(parents=True, exist_ok=True)
        for file, data in base_files(bazaar.main).items():
            (models / name / file).write_bytes(for_older(data) if file == "config.json" else data)
        changed = (
            {} if name == "base" else {part: wide[part] + change(bazaar, name, part) for part in parts(bazaar, name)}
        )
        write_tensors(models / name / "model.safetensors", wide | changed, {"format": "pt"})
    rows = {
        skill.name: [list(sequence_of(bazaar.lm, row).tokens) for row in some_rows(skill.rows)]
        for skill in bazaar.skills
    }
    (models / "tokens.json").write_text(json.dumps(rows))


def for_older(config: bytes) -> bytes:
    """The turning of positions where transformers 4 looks for it, which FusionBench 0.2.33 needs."""
    read = json.loads(config)
    return json.dumps(read | {"rope_theta": read["rope_parameters"]["rope_theta"]}).encode()


def parts(bazaar: Bazaar, name: str) -> list[str]:
    return list(bazaar.deltas[name].parts)


def change(bazaar: Bazaar, name: str, part: str) -> Array:
    """One contributor's change of one matrix, float32."""
    low = bazaar.deltas[name].parts[part]
    left, right = (bazaar.repo.store.get(ref.digest).astype(np.float32) for ref in (low.b, low.a))
    return (left @ right) * np.float32(low.scale)


def merged(
    bazaar: Bazaar, pythons: dict[str, str], name: str, settings: dict[str, Any]
) -> tuple[dict[str, Array], Took]:
    """The tensors that a peer's merge changes, made once, and what that took."""
    peer = PEERS[name]
    own = {key: value for key, value in settings.items() if key != "scale"}
    out = bazaar.folder / "peers" / f"{tag_of(name, own)}.safetensors"
    note = out.with_suffix(".json")
    if not note.is_file():
        out.parent.mkdir(exist_ok=True)
        words = [pythons[peer.tool], Path(__file__).with_name("peers_merge.py"), peer.tool, bazaar.folder, out]
        ran = subprocess.run([*map(str, words), json.dumps(own)], stdout=subprocess.PIPE, text=True, check=True)
        note.write_text(ran.stdout.strip().splitlines()[-1])
    tensors, base = open_tensors(out), Stored(bazaar.main.base, bazaar.repo.store)
    scale = np.float32(settings.get("scale", 1.0))
    wide = {key: base[key].astype(np.float32) for key in tensors}
    found = {key: wide[key] + scale * (tensors[key] - wide[key]) for key in tensors}
    return found, msgspec.json.decode(note.read_bytes(), type=Took)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/peers.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("mergekit", help="a Python with mergekit and PEFT")
    parser.add_argument("fusion", help="a Python with FusionBench")
    parser.add_argument("methods", nargs="*", choices=[[], *PEERS], metavar="METHOD")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--set", default="home", choices=["home", *SETS])
    parser.add_argument("--svg", type=Path)
    asked = parser.parse_intermixed_args()
    bazaar = open_bazaar(asked.folder.resolve(), asked.set)
    print(f"{heading(bazaar)} {'CPU s':>6} {'GB':>4} asks contributors for", flush=True)
    methods = list(PEERS) if asked.all else asked.methods
    if methods:
        lay_out(bazaar)
    kept_there = dict.fromkeys(("mergekit", "peft"), asked.mergekit)
    pythons = {peer.tool: kept_there.get(peer.tool, asked.fusion) for peer in PEERS.values()}
    measured = {}
    for name, (tag, needs) in OURS.items():
        if (bazaar.folder / "scores" / f"{tag}.json").is_file():
            measured[name] = bazaar.score(tag, {}, ())
            print(f"{line(bazaar, name, measured[name])} {'':11} {needs}", flush=True)
    for name in methods:
        settings, took, measured[name] = best_of(bazaar, pythons, name)
        shown = ", ".join(f"{key} {value}" for key, value in settings.items() if key not in ("method", "algorithm"))
        cost = f"{took.seconds:6.0f} {took.memory / 1e9:4.1f}"
        print(f"{line(bazaar, name, measured[name])} {cost} {PEERS[name].needs}; {shown}", flush=True)
    if asked.svg:
        asked.svg.write_text(picture(bazaar, measured))


def best_of(bazaar: Bazaar, pythons: dict[str, str], name: str) -> tuple[dict[str, Any], Took, Found]:
    """The setting of a peer's that keeps most of the contributors' own cases, and all its figures."""
    first, *others = PEERS[name].settings
    best = max([first, *others], key=lambda one: tried(bazaar, pythons, name, one)[0]) if others else first
    tensors, took = merged(bazaar, pythons, name, best)
    return best, took, bazaar.score(tag_of(name, best), tensors, tensors)


def tried(bazaar: Bazaar, pythons: dict[str, str], name: str, settings: dict[str, Any]) -> tuple[float, float, float]:
    """One setting's pooled, worst, and what unseen text lost, by half of all cases: those that settings are chosen on."""
    tensors, _ = merged(bazaar, pythons, name, settings)
    found = bazaar.score(f"tried-{tag_of(name, settings)}", tensors, tensors, [*bazaar.deltas, "unseen"])
    pooled, each = bazaar.kept(found)
    return pooled, min(each.values()), found.values["unseen"] - bazaar.base.values["unseen"]


def picture(bazaar: Bazaar, measured: dict[str, Found]) -> str:
    """A beam for each of the five that keep most: from what is kept in all down to the least, at what general text lost."""
    curves, farthest = [], 0.0
    for name, found in sorted(measured.items(), key=lambda one: -bazaar.kept(one[1])[0])[:5]:
        pooled, each = bazaar.kept(found)
        x, least = max(found.values["unseen"] - bazaar.base.values["unseen"], BEAM), min(each.values())
        beam, farthest = (x - BEAM, x + BEAM, x), max(farthest, x + BEAM)
        shown = f"{name}: {pooled:.2f}, the least {least:.2f}"
        curves.append(Curve(name=shown, x=beam + beam[::-1], y=(pooled,) * 3 + (least,) * 3))
    end = math.ceil(farthest / 0.04) * 0.04  # in four even steps
    curves.append(Curve(name="the base", x=(0.0, end), y=(0.0, 0.0)))
    return line_chart(curves, across="what unseen text lost, nats a token", up="kept: pooled above, the least below")


if __name__ == "__main__":
    main()
