"""What souq does with each kind of base: tiny models of random weights, the whole road, beside PEFT and transformers.

    python -m bench.models               # docs/models.md; six minutes. What build/models holds is not tried again
    python -m bench.models gpt2 mamba    # these, anew, and only shown

Each kind is begun as a repository, gets a LoRA beside all its linear maps, merges, verifies and exports it; is scored,
and trained. `export` is the largest difference between a logit of the exported folder and one of PEFT's own
`merge_and_unload`, over the logits' spread; `eval` the difference between souq's loss and transformers', in nats.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tests.kinds import ENCODING, KINDS, SEEING, make

from souq.cli import run
from souq.lab.train import targets_of
from souq.records import Record
from souq.signing import make_key, public_key

COLUMNS = ("init", "LoRA", "merge", "verify", "export", "eval", "train")
ROAD = COLUMNS[:5]
NEAR = 1e-5  # of the logits' spread
NATS = 1e-3
MOVED = 1e-3  # of the spread: what the LoRA does to the logits at least
ROOT = Path(__file__).parent.parent
KEPT, PAGE = ROOT / "build" / "models", ROOT / "docs" / "models.md"
POLICY = """\
[[person]]
name = "wanda"
org = "wanda"
keys = ["{key}"]

[[role]]
name = "maintainer"
members = ["wanda"]

[[scope]]
name = "contributions"
match = ["contributions/**", "evals/**", "souq.toml", "*"]
requires = [{{ role = "maintainer", n = 1 }}]
checks = ["signoff", "files", "licence", "fits-base", "tensors", "norms"]
author_may_vote = true

[[scope]]
name = "policy"
match = ["GOVERNANCE.toml"]
requires = [{{ role = "maintainer", n = 1 }}]
author_may_vote = true
"""  # `solo` without the checks that ask a model, which no random one would pass
TEXTS = [f"the {i}. of May is the day on which {name} left" for i in range(1, 9) for name in ("ada", "bo", "cy")]


class Row(Record, frozen=True):
    """One kind: in each column what was measured, or the refusal; a column that was not reached is absent."""

    kind: str
    cells: dict[str, str]
    refused: dict[str, str]

    @property
    def right(self) -> bool:
        """Whether the whole road to an exported folder was right."""
        return all(column in self.cells for column in ROAD)


class Stopped(Exception):
    """A step that was refused: its words, and the way out."""


def tried(kind: str, place: Path) -> Row:
    """One kind through every column."""
    row = Row(kind=kind, cells={}, refused={})
    base = make(kind, place / "base")
    repo = place / "repo"
    steps = {
        "init": lambda: _init(base, repo, place),
        "LoRA": lambda: _lora(kind, base, repo, place),
        "merge": lambda: _merge(repo, place),
        "verify": lambda: _souq(repo, "verify") and "yes",
        "export": lambda: _export(kind, repo, place),
    }
    for column, step in steps.items():
        if not _step(row, column, step):
            break
    if "init" in row.cells:
        _step(row, "eval", lambda: _eval(base, repo))
        _step(row, "train", lambda: _train(repo, place))
    return row


def _step(row: Row, column: str, step: Any) -> bool:
    try:
        row.cells[column] = step()
    except Stopped as stopped:
        row.refused[column] = str(stopped)
    except Exception as error:  # what nobody foresaw is the thing to show
        row.refused[column] = f"TRACEBACK {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return column in row.cells


def _souq(at: Path, *words: str | Path) -> str:
    """What a verb prints; stopped where it answers no."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    where = Path.cwd()
    os.chdir(at)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(word) for word in words])
    finally:
        os.chdir(where)
    printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if code:
        lines = [line.strip() for line in (err.getvalue() + printed).splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("Error", "Hint")) or "REFUSED" in line] or lines[-2:]
        raise Stopped(" ".join(said).replace(str(at), "REPOSITORY")[:420])
    return printed or " "


def _init(base: Path, repo: Path, place: Path) -> str:
    exam = place / "iso"
    exam.mkdir()
    (exam / "eval.toml").write_text('title = "d"\nkind = "loss"\nsource = "mine"\nlicence = "CC0-1.0"\nmargin = 0.1\n')
    cases = [{"id": f"d{i}", "expected": text} for i, text in enumerate(TEXTS)]
    (exam / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    policy = place / "policy.toml"
    policy.write_text(POLICY.format(key=public_key(place / "key")))
    words = ["--from", base, "--licence", "Apache-2.0", "--governance", policy, "--evals", exam, "--no-suite"]
    _souq(place, "init", repo, *words)
    return "yes"


def _network(kind: str, folder: Path) -> Any:
    auto = "AutoModelForImageTextToText" if kind in SEEING else "AutoModelForCausalLM"
    auto = ENCODING[kind][0] if kind in ENCODING else auto
    return getattr(transformers, auto).from_pretrained(folder, dtype=torch.float32).eval()


def _lora(kind: str, base: Path, repo: Path, place: Path) -> str:
    net = _network(kind, base)
    before = _logits(net)
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": True}
    try:
        adapted = get_peft_model(net, LoraConfig(target_modules="all-linear", **settings))
    except ValueError:  # PEFT stands beside no `out_proj` of a Mamba
        net = _network(kind, base)
        adapted = get_peft_model(net, LoraConfig(target_modules=list(targets_of(net)), **settings))
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, factor in adapted.named_parameters():
            if "lora_B" in name:
                factor.add_(torch.randn(factor.shape, generator=chance) * 0.02)
    adapted.save_pretrained(place / "adapter")
    after = _logits(adapted.merge_and_unload())
    torch.save(after, place / "logits.pt")
    if float((after - before).abs().max() / before.std()) < MOVED:
        raise Stopped("WRONG: the LoRA of this test moves nothing")
    _souq(repo, "delta", "make", "--from", place / "adapter", "--out", place / "x.delta")
    return "yes"


def _merge(repo: Path, place: Path) -> str:
    offer = ["pr", "create", place / "x.delta", "--title", "x", "--licence", "Apache-2.0", "--signoff"]
    review = ["pr", "review", "1", "--approve", "--reason", "ok"]
    for words in (offer, ["pr", "checks", "1"], review, ["pr", "merge", "1"]):
        _souq(repo, *words)
    return "yes"


def _export(kind: str, repo: Path, place: Path) -> str:
    _souq(repo, "export", place / "out")
    expected = torch.load(place / "logits.pt", weights_only=True)
    off = float((_logits(_network(kind, place / "out")) - expected).abs().max() / expected.std())
    if not off <= NEAR:
        raise Stopped(f"WRONG: logits {off:.1e} of their spread from PEFT's merge")
    return f"{off:.0e}"


@torch.no_grad()
def _logits(net: Any) -> Any:
    tokens = (torch.arange(48)[None] * 7) % 250
    config = net.config
    if config.model_type == "whisper":
        sound = torch.linspace(-1, 1, config.num_mel_bins * 2 * config.max_source_positions)
        return net(input_features=sound.view(1, config.num_mel_bins, -1), decoder_input_ids=tokens[:, :20]).logits
    if getattr(config, "is_encoder_decoder", False):
        return net(input_ids=tokens, decoder_input_ids=tokens[:, :20]).logits
    return net(input_ids=tokens).logits


def _eval(base: Path, repo: Path) -> str:
    ours = json.loads(_souq(repo, "eval", "iso", "--json", "--model", base))["iso"]["value"]
    auto = transformers.AutoModelForImageTextToText if base_is_seeing(base) else transformers.AutoModelForCausalLM
    net = auto.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    losses = []
    for text in TEXTS:
        tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            odds = torch.log_softmax(net(input_ids=tokens).logits[0, :-1].float(), -1)
        losses.append(float(-odds.gather(1, tokens[0, 1:, None]).mean()))
    off = abs(ours - sum(losses) / len(losses))
    if off > NATS:
        raise Stopped(f"WRONG: {off:.4f} nats from transformers' own loss")
    return f"{off:.0e}"


def base_is_seeing(base: Path) -> bool:
    """Whether a folder's model has eyes."""
    return json.loads((base / "config.json").read_text())["model_type"] in SEEING


def _train(repo: Path, place: Path) -> str:
    turns = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in range(8)]
    (place / "rows.jsonl").write_text("".join(json.dumps({"messages": turn}) + "\n" for turn in turns))
    _souq(repo, "train", place / "rows.jsonl", "--out", place / "trained", "--epochs", "1", "--rank", "2")
    _souq(repo, "delta", "make", "--from", place / "trained", "--out", place / "trained.delta")
    return "yes"


# -- the page ----------------------------------------------------------------------------------------------------------


def page(rows: Sequence[Row]) -> str:
    """docs/models.md."""
    right = sum(row.right for row in rows)
    head = HEAD.format(
        kinds=len(rows), right=right, asked=sum("eval" in row.cells for row in rows), transformers=_version(),
    )  # fmt: skip
    notes: dict[str, int] = {}
    lines = [f"| kind | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    lines += [f"| {row.kind} | {' | '.join(_cell(row, column, notes) for column in COLUMNS)} |" for row in rows]
    said = [f"{number}. {_prose(text)}" for text, number in notes.items()]
    return "\n".join([head, *lines, "", *(["Refused, with these words:", "", *said, ""] if said else [])])


def _cell(row: Row, column: str, notes: dict[str, int]) -> str:
    if column in row.cells:
        return row.cells[column]
    if column in row.refused:
        return f"no [{notes.setdefault(row.refused[column].replace('|', '/'), len(notes) + 1)}]"
    return ""


def _prose(text: str) -> str:
    return text.removeprefix("Error: ").replace(" Hint: ", ". The way out: ")


def _version() -> str:
    import peft

    return f"transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__.split('+')[0]}"


HEAD = """\
# What souq does with each kind of model

Made by `make models` ([bench/models.py](../bench/models.py)): tiny models of random weights, one of each kind, through the
whole road. Of {kinds} kinds {right} are right from `souq init` to `souq export`, and the lab scores {asked}.

A kind is no entry in a list of souq's: tensors are tensors, and the lab runs what transformers builds. What a model can
do follows from how it is built; a kind that is not here most likely works, and `souq init` says what it does.

- **init, LoRA, merge, verify**: a repository from the folder, a LoRA of PEFT's beside all linear maps, landed and verified.
- **export**: the largest difference between a logit of the exported folder and one of PEFT's own `merge_and_unload`, over
  the logits' spread.
- **eval**: the difference between souq's loss and that of transformers' own forward, in nats a token. A model that does not
  answer token by token is not asked: `souq export` it, and score it with its own tools.
- **train**: `souq train` and `souq delta make`, on all linear maps of the blocks.

Of a model that also sees the language half is scored and trained; its eyes are carried as they are and exported with it.
Experts that transformers keeps as one tensor a layer are merged and exported like any tensor; `souq train` trains what
stands around them. New layers and experts of one's own need layers named `model.layers.0`, 1, 2 and so on.

{transformers}, float32 on a processor.

"""


@contextlib.contextmanager
def _at_home(place: Path) -> Iterator[None]:
    """Wanda's home: her key, and git's name of her."""
    make_key(place / "key", "wanda@wild.example")
    os.environ |= {
        "HOME": str(place), "SOUQ_KEY": str(place / "key"), "NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1",
        **{f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
           for part, value in (("NAME", "wanda"), ("EMAIL", "w@wild.example"))},
    }  # fmt: skip
    yield


def main(chosen: Sequence[str]) -> None:
    """Try kinds and show them; all of them make the page."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in chosen or KINDS:
        note = KEPT / f"{kind}.json"
        if chosen or not note.is_file():
            with tempfile.TemporaryDirectory() as folder, _at_home(Path(folder)):
                row = tried(kind, Path(folder))
            note.write_bytes(msgspec.json.encode(row))
            print(f"{row.kind:18} {row.cells} {row.refused or ''}", flush=True)
        rows.append(msgspec.json.decode(note.read_bytes(), type=Row))
    if not chosen:
        PAGE.write_text(page(rows))
        shutil.rmtree(KEPT)
        print(f"{PAGE}: {sum(row.right for row in rows)} of {len(rows)} kinds right")


if __name__ == "__main__":
    main(sys.argv[1:])
