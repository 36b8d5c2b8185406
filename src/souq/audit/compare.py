"""Models side by side on somebody's own cases: is what one says as good as the other, and what ties a project to it?

Any of a Hugging Face folder, a GGUF file and a server is asked the same questions through one interface (lab/chat.py),
greedily; differences are paired, case by case. What cannot be seen of a model (a server's weights, an unknown licence)
is "".

    found = [measured(name, writer_of(name), suite) for name in names]
    beside(found[0], found[1]).gain
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from souq.errors import Hostile, NotFound, UsageError
from souq.evals.eval import Eval, passes
from souq.evals.score import Score
from souq.lab.chat import ChatRequest, Message, Sampling, TextGenerator, dollars
from souq.licences.compat import Input, judge
from souq.licences.questions import duties_in_words
from souq.licences.table import spelled
from souq.model.card import licence_in, read_card
from souq.model.chat_template import approve
from souq.model.config import MODEL_FILES
from souq.model.gguf.reader import GGUF
from souq.model.gguf.tokenizer import essence
from souq.model.source import weights_of
from souq.progress import Progress, quiet
from souq.records import Digest, Record, digest, digest_of

WARM = 2  # questions before the clock runs


class Ties(Record, frozen=True):
    """What a project that calls this model leans on, beside its answers."""

    template: str = ""  # digest of the chat template
    tokenizer: str = ""
    context: int = 0  # tokens; 0: not known
    tools: bool = False  # the template has a place for tools
    system: str = ""  # what the template says where nobody gives a system message
    licence: str = ""


class Measured(Record, frozen=True):
    """One model on one eval. Parameters and bytes are 0 where nobody can count them."""

    model: str
    engine: str
    cases: dict[str, float]
    said: dict[str, str]
    seconds: float
    asked_tokens: int
    tokens: int
    parameters: int = 0
    bytes: int = 0
    ties: Ties = Ties()

    def score(self, suite: Eval) -> Score:
        return Score.of(suite.name, suite.spec.kind, self.cases, suite.clusters)


def measured(name: str, writer: TextGenerator, suite: Eval, progress: Progress = quiet) -> Measured:
    """Ask every case, greedily.

    Raises:
        UsageError: the eval is not judged by answers.
    """
    if suite.spec.kind not in ("exact", "answer"):
        raise UsageError(
            f"`{suite.name}` is of kind `{suite.spec.kind}`; models are compared by what they answer",
            hint="exact or answer",
        )
    asks = [ChatRequest(messages=msgspec.convert(case.turns, tuple[Message, ...])) for case in suite.cases]
    room = suite.spec.max_tokens
    if suite.spec.kind == "exact":
        room = max(len(case.expected.encode()) for case in suite.cases) + 1
    list(writer.generate(asks[:WARM], Sampling(max_tokens=1)))
    parameters, size, ties = seen(name)
    begun = time.perf_counter()
    completions = {
        i: texts for part in writer.generate(asks, Sampling(max_tokens=min(room, 512)), progress) for i, texts in part
    }
    took = time.perf_counter() - begun
    texts = {case.id: completions[i].text for i, case in enumerate(suite.cases)}
    scores = {}
    for i, case in enumerate(suite.cases):
        whole = completions[i].finish == "stop" or suite.spec.kind == "answer"
        scores[case.id] = float(whole and passes(suite.spec, case, texts[case.id]))
    return Measured(
        model=name, engine=writer.name, cases=scores, said=texts, seconds=took, parameters=parameters, bytes=size,
        ties=ties, asked_tokens=sum(each.prompt_tokens for each in completions.values()),
        tokens=sum(each.completion_tokens for each in completions.values()),
    )  # fmt: skip


def seen(name: str) -> tuple[int, int, Ties]:
    """Parameters, bytes and ties of a folder or a GGUF file; nothing of a server."""
    if name.startswith(("http://", "https://", "openai:")):
        return 0, 0, Ties()
    path = Path(name.removeprefix("llama.cpp:")).expanduser()
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_folder(path: Path) -> tuple[int, int, Ties]:
    files = {name: (path / name).read_bytes() for name in MODEL_FILES if (path / name).is_file()}
    weights = weights_of(path)
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return sum(weights[name].size for name in weights), size, _ties(files, licence_in(read_card(path)))


def _of_file(path: Path) -> tuple[int, int, Ties]:
    """llama.cpp runs more kinds of models and tokenizers than souq reads: of those only what souq reads is seen."""
    if not path.is_file():
        raise NotFound(f"no model at {path}", hint="a Hugging Face folder, a .gguf file, or openai:URL#MODEL")
    size = path.stat().st_size
    try:
        model = GGUF(path)
    except Hostile:
        return 0, size, Ties()
    try:
        files = model.files()
    except Hostile:
        files = {}
    return model.parameters, size, _ties(files, model.licence or "")


def _ties(files: Mapping[str, bytes], licence: str) -> Ties:
    config = json.loads(files.get("config.json", b"{}"))
    settings = json.loads(files.get("tokenizer_config.json", b"{}"))
    template = files.get("chat_template.jinja", b"") or str(settings.get("chat_template") or "").encode()
    return Ties(
        template=digest(template) if template else "",
        tokenizer=_cuts(files["tokenizer.json"]) if "tokenizer.json" in files else "",
        context=int(config.get("max_position_embeddings") or 0),
        tools=b"tools" in template,
        system=_adds(template.decode()),
        licence=spelled(licence),
    )


def _cuts(tokenizer: bytes) -> Digest:
    """What decides where text is cut into tokens, however it is written: a GGUF's is written anew by its reader."""
    tables = json.loads(tokenizer)
    if (model := tables["model"]).get("type") != "BPE":
        return digest(tokenizer)
    tokens = model["vocab"] | {token["content"]: token["id"] for token in tables.get("added_tokens", [])}
    named = sorted(
        (number, token) for token, number in tokens.items() if token != f"[PAD{number}]"
    )  # llama.cpp's filling
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return digest_of([named, merges, essence(tables.get("pre_tokenizer")), tables.get("normalizer")])


def _adds(template: str) -> str:
    """What it says itself where nobody gives a system message; nothing is known of one that souq would not run."""
    try:
        return approve(template, owners=True, accepted=True).adds if template else ""
    except Hostile:
        return ""


def untied(before: Ties, after: Ties) -> list[str]:
    """What changes for a project that swaps one for the other; nothing where nothing can be seen."""
    changed: list[str] = []
    for name, consequence in (
        ("template", "another chat template: prompts that were built by hand must be built anew"),
        ("tokenizer", "another tokenizer: counts of tokens, and what is cut at a limit, change"),
        ("system", "another system message where you give none"),
    ):  # fmt: skip
        old, new = getattr(before, name), getattr(after, name)
        seen = before.template and after.template if name == "system" else old and new
        if seen and old != new:
            changed.append(consequence)
    if before.context and after.context and after.context < before.context:
        changed.append(f"a shorter context: {after.context:,} tokens, where there were {before.context:,}")
    if before.tools and not after.tools:
        changed.append("the template has no place for tools")
    if before.licence.lower() != after.licence.lower():
        changed.append(
            f"another licence: {after.licence or 'none is said'}, where it was {before.licence or 'not said'}"
        )
    return changed


def price(model: Measured, per_million: tuple[float, float]) -> float:
    """Dollars a thousand cases like these, at (in, out) dollars a million tokens."""
    return dollars(model.asked_tokens, model.tokens, per_million) / max(len(model.cases), 1) * 1000


def duties(licence: str) -> list[str]:
    """What a licence asks of whoever ships the model as it is, clause by clause (licences/)."""
    return duties_in_words(judge([Input("base", "it", licence)], licence)) if licence else []
