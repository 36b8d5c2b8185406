"""Honest contributions of every kind, made by a script: what no check may refuse.

for offered in made(main, rows): verdicts = judged(main, offered)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

from souq.build.delta_file import keep
from souq.checks import Case, run
from souq.evals.eval import EvalSpec, write_cases
from souq.pulls.offer import Draft
from souq.records import Author, Contribution, format_toml
from souq.repo.contribution import Offer, slug
from souq.weights.delta import Delta, Dense, Expert, Layer, Lora, Router, Rows, Sparse, TensorRef

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr"
LICENCES = ("Apache-2.0", "MIT", "CC0-1.0", "BSD-3-Clause", "CC-BY-4.0", "Apache-2.0 OR MIT")
TITLES = (
    "ISO dates", "تواريخ بالعربية", "اردو کی گنتی", "日本語の挨拶", "Größere Straßen", "Ελληνικά ρήματα", "हिन्दी संख्याएँ",
    "עברית: מילות יחס", "نیم‌فاصله در فارسی", "Tiếng Việt có dấu", "👩‍👩‍👧 families of emoji", "Ünïcödé & <tags>: `code`, | pipes", "e\u0301 in two signs",
)  # fmt: skip
SENTENCES = (
    "المكتبة مفتوحة من التاسعة صباحا", "図書館は九時に開きます。", "Die Bücherei öffnet um neun Uhr.", "Η βιβλιοθήκη ανοίγει στις εννέα.",
    "पुस्तकालय नौ बजे खुलता है।", "הספרייה נפתחת בתשע", "کتابخانه ساعت نه باز می‌شود", "Thư viện mở cửa lúc chín giờ.", "The library 📚 opens at 09:00, doesn't it?",
    'x = {"a": [1, 2]}  # code\n\tindented, "quoted", back\\slash', "∀x ∈ ℝ: x² ≥ 0", "line one\nline two\r\nline three",
)  # fmt: skip


@dataclass
class Offered:
    """One contribution, and the tensors its delta points at."""

    draft: Draft
    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.draft.contribution.title


class _Making:
    def __init__(self, main, seed=0):
        self.main, self.chance, self.count = main, np.random.default_rng(seed), 0

    def said(self, kind, title="", licence="", fixes=()):
        self.count += 1
        who = Author(name=TITLES[self.count % len(TITLES)][:20], email="a@x.example", key=KEY, org="Atlas")
        title = f"{title} {TITLES[self.count % len(TITLES)]}".strip()
        licence = licence or LICENCES[self.count % len(LICENCES)]
        return Contribution(title=title, kind=kind, author=who, licence=licence, signoff="A <a@x.example>", fixes=fixes)

    def weights(self, title, parts, *, new=None, data=None, licence=""):
        """parts, new: from a function that keeps an array to a delta's stanzas."""
        tensors = {}

        def ref(array):
            found = TensorRef.of(array)
            tensors[found.digest] = array
            return found

        delta = Delta(self.main.base_digest, parts(ref), new=new(ref) if new else {})
        fixes = tuple(sorted(self.main.evals))[:1]
        return Offered(Draft(self.said("weights", title, licence, fixes), delta, data=data), tensors)

    def base(self, name):
        return self.main.repo.store.get(self.main.base[name].digest)

    def half(self, m, n, dtype="<f4"):
        return (self.chance.standard_normal((m, n)) * 0.02).astype(dtype)

    def lora(self, names, rank, alpha, dtype="<f4"):
        def parts(ref):
            found = {}
            for name in names:
                m, n = self.main.base[name].shape
                size = 0.05 * float(np.linalg.norm(self.base(name).astype("<f4")))
                a, b = self.half(rank, n, dtype), self.half(m, rank, dtype)
                grown = float(np.linalg.norm(b.astype("<f4") @ a.astype("<f4"))) * alpha / rank
                b = (b.astype("<f4") * (size / max(grown, 1e-9))).astype(dtype)
                found[name] = Lora(a=ref(a), b=ref(b), scale=alpha / rank)
            return found

        return parts

    def moved(self, name, share):
        """The base with `share` of its numbers a little different."""
        new = self.base(name).copy().reshape(-1)
        where = np.sort(self.chance.choice(new.size, max(1, int(share * new.size)), replace=False))
        new[where] = (new[where].astype("<f4") * 1.02 + 1e-3).astype(new.dtype)
        return new, where.astype("<u4")

    def dense(self, names):
        return lambda ref: {name: Dense(value=ref(self.moved(name, 1.0)[0].reshape(self.main.base[name].shape))) for name in names}  # fmt: skip

    def sparse(self, names, share):
        def parts(ref):
            found = {}
            for name in names:
                new, where = self.moved(name, share)
                found[name] = Sparse(index=ref(where), value=ref(new[where]))
            return found

        return parts


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=bool(i % 2)) + "\n" for i, row in enumerate(rows)).encode()


def _rows(kind, count):
    texts = [f"{SENTENCES[i % len(SENTENCES)]} ({i})" for i in range(count)]
    shapes = {
        "text": lambda t: {"text": t},
        "pair": lambda t: {"prompt": t, "completion": t[::-1], "id": 7},
        "turns": lambda t: {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": t}, {"role": "assistant", "content": t}]},
    }  # fmt: skip
    return jsonl(shapes[kind](text) for text in texts)


def made(main, *, grows=True) -> Iterator[Offered]:
    """At least thirty on a Llama-shaped base."""
    make = _Making(main)
    names = [name for name, ref in main.base.items() if len(ref.shape) == 2 and "layers" in name]
    attention = [name for name in names if "self_attn" in name]
    norms = [name for name, ref in main.base.items() if len(ref.shape) == 1]
    for rank, alpha, dtype in ((1, 1, "<f4"), (2, 64, "<f4"), (4, 4, "<f2"), (8, 16, ml_dtypes.bfloat16), (16, 32, "<f4"), (64, 128, "<f4")):  # fmt: skip
        yield make.weights(f"rank {rank}", make.lora(attention[: 1 + rank], rank, alpha, dtype))
    for count in (1, 3, len(names)):
        yield make.weights(
            f"{count} matrices", make.lora(names[-count:], 8, 8), data={"rows.jsonl": _rows("turns", 12)}
        )
    yield make.weights("a full fine-tune", make.dense([*names[:6], *norms]))
    yield make.weights("norms alone", make.dense(norms))
    for share in (1e-3, 0.01, 0.2):
        yield make.weights(f"{share:g} of the numbers", make.sparse(names[:3], share))
    yield make.weights("mixed", lambda ref: make.lora(names[:1], 4, 8)(ref) | make.sparse(names[1:2], 0.01)(ref) | make.dense(norms[:1])(ref))  # fmt: skip
    yield from _larger(make) if grows else ()
    for kind, count in (("text", 1), ("text", 3_000), ("pair", 40), ("turns", 200)):
        yield Offered(Draft(make.said("data", f"{count} rows"), data={"rows.jsonl": _rows(kind, count)}))
    for licence in LICENCES:
        yield Offered(Draft(make.said("data", licence, licence), data={"a.jsonl": _rows("text", 5), "B_2.jsonl": _rows("pair", 5)}))  # fmt: skip
    for kind in ("exact", "choice", "loss"):
        yield Offered(Draft(make.said("evals", kind), evals=_eval(f"honest-{kind}", kind)))
    yield Offered(Draft(make.said("evals", "a bug"), evals=_eval("wrong-capital", "exact", count=1)))
    yield Offered(
        Draft(make.said("evals", "two at once"), evals=_eval("one", "exact") | _eval("two", "loss", protected=True))
    )


def _larger(make) -> Iterator[Offered]:
    embed = "model.embed_tokens.weight"
    width = make.main.base[embed].shape[1]
    row = make.base(embed)[:3]
    yield make.weights("tokens", lambda ref: {}, new=lambda ref: {f"rows {embed}": Rows(tokens=("<souq>", "نعم", "🫖"), special=("<souq>",), value=ref(row.copy()))})  # fmt: skip
    inside = {
        name.removeprefix("model.layers.0."): name for name in make.main.base if name.startswith("model.layers.0.")
    }
    yield make.weights("a layer", lambda ref: {}, new=lambda ref: {f"layer 1.0.{short}": Layer(value=ref(make.base(name))) for short, name in inside.items()})  # fmt: skip
    feed = {short.removeprefix("mlp."): name for short, name in inside.items() if short.startswith("mlp.")}

    def expert(ref):
        found = {f"expert 0.0.{short}": Expert(value=ref(make.base(name))) for short, name in feed.items()}
        return found | {"router 0.0": Router(value=ref(np.full(width, 0.01, ml_dtypes.bfloat16)))}

    yield make.weights("an expert", lambda ref: {}, new=expert)


def _eval(name, kind, *, count=8, protected=False):
    spec = EvalSpec(title=f"{name} — {SENTENCES[0]}", kind=kind, source="tests", licence="CC0-1.0", protected=protected)
    cases = [
        {"id": f"c{i}", "prompt": f"What does {SENTENCES[i % len(SENTENCES)]!r} say?", "expected": f"answer {i}"}
        | ({"choices": [f"answer {i}", "کچھ نہیں"]} if kind == "choice" else {})
        for i in range(count)
    ]
    return {f"{name}/eval.toml": format_toml(spec).encode(), f"{name}/cases.jsonl": write_cases(cases)}


def judged(main, offered, number=900):
    """Every check's verdict but the costly ones and the sign-off, as `pr checks` asks them."""
    draft = offered.draft
    if draft.delta is not None:
        keep(draft.delta, offered.tensors, main)
    offer = Offer(f"{number:04d}-{slug(offered.title)}", draft.files())
    own = {f"contributions/{offer.slug}/{path}": data for path, data in offer.files.items()}
    head = main.repo.write_commit([main.commit], own, "x\n", tree_of=main.commit)
    return run(Case(main, head, offer), costly=False)
