"""Every kind of adapter that PEFT makes, on tiny random models, beside what souq makes of it: the table of docs/adapters.md.

python -m tests.adapter_kinds docs/adapters.md
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers

from souq.build.folder import export_model
from souq.build.model import applied
from souq.cli.adapter import How, make_adapter
from souq.errors import SouqError
from souq.governance import solo
from souq.model.adapter.config import NO_WEIGHTS
from souq.model.source import open_source
from souq.repo.init import Beginning, init
from souq.repo.snapshot import Snapshot
from tests.tiny import VOCAB, tokenizer_files

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32)).decode()
TWO = ["q_proj", "up_proj"]
SQUARE = ["q_proj", "o_proj"]
SIZE = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "initializer_range": 0.1,
}  # fmt: skip
BASES = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "bf16": ("llama", {"dtype": "bfloat16"}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "gpt_oss": ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
}


@dataclass(frozen=True)
class Kind:
    """One row: how PEFT makes it, and on which base."""

    name: str
    tuner: str
    make: Callable[[], Any]
    base: str = "llama"
    std: float = 0.05  # how far each trained number is from where it began
    net: Callable[[Any], Any] | None = None  # what trainers do to the model beforehand


def lora(**more: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TWO, "task_type": "CAUSAL_LM", **more})


def other(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: getattr(peft, name)(**{"target_modules": TWO, "task_type": "CAUSAL_LM", **more})


def prompt(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: getattr(peft, name)(**{"task_type": "CAUSAL_LM", "num_virtual_tokens": 4, **more})


LORA = [
    Kind("LoRA", "LORA", lora),
    Kind("LoRA on a base in bf16", "LORA", lora, "bf16"),
    Kind("rsLoRA", "LORA", lambda: lora(use_rslora=True)),
    Kind("rank and alpha patterns", "LORA", lambda: lora(rank_pattern={r"layers\.0\..*q_proj": 2}, alpha_pattern={"up_proj": 3, r"^model\.layers\.1\.self_attn\..*": 5})),
    Kind("bias of all modules", "LORA", lambda: lora(bias="all"), "qwen2"),
    Kind("bias of the adapted modules", "LORA", lambda: lora(bias="lora_only"), "qwen2"),
    Kind("bias beside B (lora_bias)", "LORA", lambda: lora(lora_bias=True, target_modules=["q_proj", "v_proj"]), "qwen2"),
    Kind("modules_to_save", "LORA", lambda: lora(modules_to_save=["lm_head", "embed_tokens"])),
    Kind("modules_to_save, a norm", "LORA", lambda: lora(modules_to_save=["norm"])),
    Kind("on the embedding", "LORA", lambda: lora(target_modules=["q_proj", "embed_tokens"])),
    Kind("on the head", "LORA", lambda: lora(target_modules=["q_proj", "lm_head"])),
    Kind("on a tied embedding, with ensure_weight_tying", "LORA", lambda: lora(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True), "tied"),
    Kind("on a tied embedding alone", "LORA", lambda: lora(target_modules=["q_proj", "embed_tokens"]), "tied"),
    Kind("trainable_token_indices", "LORA", lambda: lora(trainable_token_indices=[1, 5])),
    Kind("trainable_token_indices, tied", "LORA", lambda: lora(trainable_token_indices=[1, 5]), "tied"),
    Kind("DoRA", "LORA", lambda: lora(use_dora=True)),
    Kind("DoRA on the embedding", "LORA", lambda: lora(use_dora=True, target_modules=["q_proj", "embed_tokens"])),
    Kind("DoRA on Conv1D", "LORA", lambda: lora(use_dora=True, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True), "gpt2"),
    Kind("Conv1D (GPT-2)", "LORA", lambda: lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True), "gpt2"),
    Kind("Conv1D, fan_in_fan_out left out", "LORA", lambda: lora(target_modules=["c_attn", "c_proj"]), "gpt2"),
    Kind("target_parameters, experts kept one by one (Mixtral)", "LORA", lambda: lora(target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), "mixtral"),
    Kind("target_parameters, experts kept in one tensor (gpt-oss)", "LORA", lambda: lora(target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), "gpt_oss"),
    Kind("all-linear on a Mixtral", "LORA", lambda: lora(target_modules="all-linear"), "mixtral"),
    Kind("layer_replication", "LORA", lambda: lora(layer_replication=[[0, 2], [1, 2]])),
    Kind("aLoRA", "LORA", lambda: lora(alora_invocation_tokens=[5, 6])),
    Kind("BD-LoRA", "LORA", lambda: lora(use_bdlora=peft.tuners.lora.config.BdLoraConfig(target_modules_bd_b=TWO, nblocks=2))),
    Kind("KaSA", "LORA", lambda: lora(kasa_config=peft.tuners.lora.config.KasaConfig())),
    Kind("VeLoRA", "LORA", lambda: lora(velora_config=peft.tuners.lora.config.VeloraConfig(num_groups=4))),
    Kind("PiSSA, not converted", "LORA", lambda: lora(init_lora_weights="pissa")),
    Kind("OLoRA, not converted", "LORA", lambda: lora(init_lora_weights="olora")),
    Kind("MiCA", "LORA", lambda: lora(init_lora_weights="mica")),
    Kind("orthogonal", "LORA", lambda: lora(init_lora_weights="orthogonal")),
]  # fmt: skip
OTHERS = [
    Kind("AdaLoRA", "ADALORA", other("AdaLoraConfig", init_r=4, target_r=2, total_step=100, tinit=1, tfinal=1)),
    Kind("AdaMSS", "ADAMSS", other("AdamssConfig", r=4, num_subspaces=2, subspace_rank=1)),
    Kind("BEFT", "BEFT", other("BeftConfig", target_modules=["v_proj"]), "qwen2"),
    Kind("BOFT", "BOFT", other("BOFTConfig", boft_block_size=4)),
    Kind("C3A", "C3A", other("C3AConfig", block_size=8)),
    Kind("DeLoRA", "DELORA", other("DeloraConfig", r=4)),
    Kind("DEFT", "DEFT", other("DeftConfig", r=4)),
    Kind("FourierFT", "FOURIERFT", other("FourierFTConfig", n_frequency=20), std=5.0),
    Kind("FRoD", "FROD", other("FrodConfig", progressbar=False, target_modules=SQUARE)),
    Kind("GLoRA", "GLORA", other("GloraConfig", r=4)),
    Kind("GraLoRA", "GRALORA", other("GraloraConfig", r=4, gralora_k=2)),
    Kind("HiRA", "HIRA", other("HiraConfig", r=4)),
    Kind("HRA", "HRA", other("HRAConfig", r=4)),
    Kind("IA3", "IA3", other("IA3Config", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    Kind("Lily", "LILY", other("LilyConfig", r=4)),
    Kind("LayerNorm tuning", "LN_TUNING", other("LNTuningConfig", target_modules=["input_layernorm", "norm"])),
    Kind("LoHa", "LOHA", other("LoHaConfig", r=4, alpha=4)),
    Kind("LoKr", "LOKR", other("LoKrConfig", r=4, alpha=4)),
    Kind("MiSS (Bone)", "MISS", other("MissConfig", r=4)),
    Kind("OFT", "OFT", other("OFTConfig", r=0, oft_block_size=8)),
    Kind("OSF", "OSF", other("OSFConfig", effective_rank=4)),
    Kind("PEANuT", "PEANUT", other("PeanutConfig", r=4)),
    Kind("PSOFT", "PSOFT", other("PsoftConfig", r=4)),
    Kind("PVeRA", "PVERA", other("PveraConfig", r=4, target_modules=SQUARE)),
    Kind("RandLoRA", "RANDLORA", other("RandLoraConfig", r=4, target_modules=SQUARE)),
    Kind("RoAd", "ROAD", other("RoadConfig", group_size=8)),
    Kind("SHiRA", "SHIRA", other("ShiraConfig", r=4)),
    Kind("Supertuning", "SUPERTUNING", other("SupertuningConfig")),
    Kind("TinyLoRA", "TINYLORA", other("TinyLoraConfig", r=2, u=4)),
    Kind("trainable tokens", "TRAINABLE_TOKENS", other("TrainableTokensConfig", target_modules=["embed_tokens"], token_indices=[1, 2])),
    Kind("Uni-LoRA", "UNILORA", other("UniLoraConfig", r=4, theta_d_length=64)),
    Kind("VB-LoRA", "VBLORA", other("VBLoRAConfig", r=2, num_vectors=8, vector_length=16, topk=2)),
    Kind("VeRA", "VERA", other("VeraConfig", r=4, target_modules=SQUARE)),
    Kind("WaveFT", "WAVEFT", other("WaveFTConfig", n_frequency=20), std=1.0),
    Kind("prompt tuning", "PROMPT_TUNING", prompt("PromptTuningConfig")),
    Kind("multitask prompt tuning", "MULTITASK_PROMPT_TUNING", prompt("MultitaskPromptTuningConfig", num_tasks=2)),
    Kind("p-tuning", "P_TUNING", prompt("PromptEncoderConfig")),
    Kind("prefix tuning", "PREFIX_TUNING", prompt("PrefixTuningConfig")),
    Kind("CPT", "CPT", lambda: peft.CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 1])),
    Kind("Cartridge", "CARTRIDGE", prompt("CartridgeConfig")),
    Kind("adaption prompt", "ADAPTION_PROMPT", lambda: peft.AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=2, adapter_layers=1)),
    Kind("Poly", "POLY", other("PolyConfig", r=4)),
    Kind("X-LoRA", "XLORA", lambda: None),
    Kind("Shadow", "SHADOW", other("ShadowConfig", r=4)),
]  # fmt: skip


def make_base(name: str, folder: Path) -> Path:
    """A tiny random model of a kind, with a tokenizer, as a Hugging Face folder."""
    kind, more = BASES[name]
    more = dict(more)
    dtype = more.pop("dtype", "float32")
    torch.manual_seed(0)
    net = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **{**SIZE, **more}))
    net.to(getattr(torch, dtype)).save_pretrained(folder)
    for file, text in tokenizer_files().items():
        (folder / file).write_text(text)
    return folder


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(net: Any) -> Any:
    with torch.no_grad():
        return net.eval()(input_ids=(torch.arange(48).reshape(2, 24) * 7) % VOCAB).logits.float()


def apart(one: Any, two: Any) -> float:
    return float((one - two).abs().max() / one.std())


def make_repo(base: Path, folder: Path) -> Snapshot:
    """A repository of a base, without evals."""
    beginning = Beginning("tiny", "Apache-2.0", solo("ada", "Atlas", KEY), {})
    return Snapshot(init(folder, open_source(str(base)), beginning), "main")


def train(kind: Kind, base: Path, folder: Path) -> Any:
    """Save an adapter whose every trained number was moved; its logits, asked of the network that was trained."""
    torch.manual_seed(1)
    net = load(base)
    model = peft.get_peft_model(net, kind.make())
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(kind.std * torch.randn(parameter.shape, generator=chance).to(parameter.dtype))
    wanted = logits(model) if kind.tuner not in NO_WEIGHTS else None
    model.save_pretrained(folder)
    return wanted


@dataclass(frozen=True)
class Row:
    """What became of one kind: how its delta is kept, and how far its logits are; or the words of a refusal."""

    kind: Kind
    kept: str = ""
    error: float = 0.0
    moved: float = 0.0
    by: str = ""  # who put its numbers together
    refusal: str = ""


class Bench:
    """Bases and repositories, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bases, self.repos = folder, dict[str, Path](), dict[str, Snapshot]()

    def base(self, name: str) -> Path:
        if name not in self.bases:
            self.bases[name] = make_base(name, self.folder / name)
            self.repos[name] = make_repo(self.bases[name], self.folder / f"{name}-repo")
        return self.bases[name]

    def row(self, kind: Kind, **more: Any) -> Row:
        base, place = self.base(kind.base), Path(tempfile.mkdtemp(dir=self.folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind.tuner == "XLORA":  # needs trained adapters to choose among
                (place / "adapter").mkdir()
                (place / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "XLORA"}))
                wanted = None
            else:
                wanted = train(kind, base, place / "adapter")
            return self.taken(kind, place, wanted, **more)

    def taken(self, kind: Kind, place: Path, wanted: Any, **more: Any) -> Row:
        """What souq makes of an adapter, beside the logits that are wanted."""
        main = self.repos[kind.base]
        try:
            made = make_adapter(place / "adapter", main, How(**more))
        except SouqError as error:
            if not error.hint:
                raise AssertionError(f"{kind.name} is refused without a way out") from error
            return Row(kind, refusal=f"{error}. {error.hint}")
        held = dict(made.tensors)
        export_model(applied(main, made.delta, held.__getitem__), place / "out")
        kinds = sorted({part.kind for part in (*made.delta.parts.values(), *made.delta.new.values())})
        error, moved = (apart(wanted, logits(load(folder))) for folder in (place / "out", self.bases[kind.base]))
        by = "PEFT" if "error" in made.recipe["adapter"] else "souq"
        return Row(kind, ", ".join(kinds), error, moved, by)


TAKEN = {
    "lora": "as it was trained",
    "dense": "as the tensors it makes",
    "dense, lora": "factors as trained, the rest as the tensors they make",
    "lora, sparse": "factors as trained, rows of tokens as they are",
    "layer, lora": "factors as trained, repeated layers as new ones",
}


def line(row: Row, as_lora: str) -> str:
    """A row of the table in docs/adapters.md."""
    kind = f"| {row.kind.name} | `{row.kind.tuner}` |"
    if row.refusal:
        return f"{kind} refused | {row.refusal.partition('. ')[0]} | |"
    bound = next(f"1e-{power}" for power in (4, 3, 2, 1) if row.error < 10**-power)
    how = TAKEN[row.kept] if row.by == "souq" else "the difference of the merged model"
    return f"{kind} {'exact' if row.by == 'souq' else 'by PEFT'} | {how} | < {bound} | {as_lora} |"


def write_table(page: Path) -> None:
    """Put the table into the page, between its marks."""
    head, _, rest = page.read_text().partition("<!-- table -->")
    columns = "| Kind | PEFT's name | Taken | How, or why not | Error | `--rank` |\n|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        bench, lines = Bench(Path(folder)), list[str]()
        for kind in LORA + OTHERS:
            row = bench.row(kind)
            tried = bench.row(kind, rank=8) if row.by == "PEFT" else None
            lines.append(line(row, "" if tried is None else "no" if tried.refusal else "yes"))
    page.write_text(
        "\n".join([head + "<!-- table -->", columns, *lines, "<!-- end -->"]) + rest.partition("<!-- end -->")[2]
    )


if __name__ == "__main__":
    write_table(Path(sys.argv[1]))
