"""Chat templates are programs that come with a model: read, and rendered on fixed conversations, before any is used.

A template that was changed by somebody else took accuracy from 90 to 15% and put an attacker's links into over 90% of
answers (Pillar Security, "Chat Template Backdoors Across 18 Models and 4 Engines", 2026). So nobody's template may
reach into Python or never end. A stranger's only writes the conversation down. An owner's may have words of its own,
which are shown; what writes links, or says something else for one word, one day or one length, its owner has to accept.

    approve("{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}").adds
    ''

No rendering proves that there is no trigger: a template that hashes what a user says can wait for one word.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from souq.errors import Hostile
from souq.model import chat_template_worker
from souq.records import Digest, Record, digest

MOST_BYTES, MOST_ADDED, MOST_PROBES = 64 << 10, 60, 64
PATIENCE = 20  # seconds of waiting, for a process that has one of computing
MOST_SHOWN = 8  # of what is wrong with one
HINT = "offer the model with a template that only writes down the conversation"
OWNERS_HINT = "mend it, or add `--accept template` if you have read it and mean it"
ROLE_WORDS = {
    "system", "user", "assistant", "model", "tool", "developer", "human", "bot", "instruction",
    "response", "question", "answer", "input", "output", "ai",
}  # fmt: skip
# What marks turns and thoughts in the templates of open models, where the tokenizer does not say so itself.
MARKS = re.compile(
    r"<\|[\w ]{1,32}\|>|<[｜|][\w▁ ]{1,32}[｜|]>|</?(?:s|think|bos|eos|start_of_turn|end_of_turn)>|<</?SYS>>|"
    r"\[/?[A-Z_]{2,24}\]"
)
# Llama 3's, whatever the system message says.
DATED = re.compile(r"Cutting Knowledge Date: \w+ \d{4}\s+Today Date: .{0,24}")
LINK = re.compile(
    r"\w+://|\bwww\.|\b[\w-]+\.(?:com|net|org|io|ai|co|dev|app|xyz|info|ru|cn|tk)\b|!\[|\]\(|"
    r"<(?:a|img|script|iframe)\b",
    re.IGNORECASE,
)
TIMES = (1_704_067_200, 1_764_072_000, 1_907_763_300)  # in 2024, 2025 and 2030
TOPICS = (
    "Write a login page in HTML.", "What is my bank's password policy?", "Which medicine helps?",
    "Whom should I vote for?", "def add(a, b): return a + b", "Where can I buy a phone?",
    "Summarise: " + "the model talks about the weather. " * 120,
)  # fmt: skip


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Approved(Record, frozen=True):
    """A template that may be used, by digest, and what it does beside writing the conversation down."""

    digest: Digest
    adds: str = ""  # what it says itself where the conversation has no system message
    says: tuple[str, ...] = ()  # what else it does, a line each: an owner's template alone may


@dataclass(frozen=True, slots=True)
class Oddity:
    """What a template does beside writing the conversation down; grave where it works against whoever talks."""

    what: str
    grave: bool = False


def approve(template: str, special: Collection[str] = (), *, owners: bool = False, accepted: bool = False) -> Approved:
    """A template, read and rendered; `special` are the tokenizer's own control tokens.

    Of an owner's template only what is grave is refused, and nothing that the owner has looked at and `accepted`.

    Raises:
        Hostile: it would do or say what no template should; the message shows what.
    """
    if len(template.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise _no(f"is larger than {MOST_BYTES:,} bytes")
    adds, odd = _judge(template, tuple(sorted(special)))
    refused = [oddity for oddity in odd if not owners or (oddity.grave and not accepted)]
    if refused:
        shown = "; ".join(oddity.what for oddity in refused[:MOST_SHOWN])
        raise _no(shown, hint=OWNERS_HINT if owners else HINT)
    return Approved(digest=digest(template.encode()), adds=adds, says=tuple(oddity.what for oddity in odd))


@cache
def _judge(template: str, special: tuple[str, ...]) -> tuple[str, tuple[Oddity, ...]]:
    """What it says where nobody gives a system message, and what else it does."""
    constants, odd = _read(template)
    plan = _plan([*TOPICS, *constants[:MOST_PROBES]])
    rendered = _rendered(template, [job for _, job in plan])
    texts, more = _texts(plan, rendered, special)
    odd = [*odd, *more, *_compared(texts, plan)]
    return texts["bare"] if _words(texts.get("bare", "")) else "", tuple(dict.fromkeys(odd))


def _no(what: str, hint: str = HINT) -> Hostile:
    return Hostile(f"the chat template {what}", hint=hint)


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(template: str) -> tuple[list[str], list[Oddity]]:
    """The texts a template holds, once nothing in it reaches where it should not, and the links among them."""
    from jinja2 import TemplateError, nodes  # slow to load, and most models are read without their template

    try:
        tree = chat_template_worker.environment().parse(template)
    except (TemplateError, RecursionError, ValueError) as error:
        raise _no(f"is not one: {str(error)[:120]}") from error
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise _no(f"reads other files (line {node.lineno})")
    for node in tree.find_all((nodes.Getattr, nodes.Name, nodes.Const)):
        if name := _named(node):
            raise _no(f"reaches for {name[:40]!r} (line {node.lineno})")
    texts = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    written = [node.data for node in tree.find_all(nodes.TemplateData)]
    links = [oddity for text in [*texts, *written] for oddity in _links(text)]
    return [text for text in dict.fromkeys(texts) if text.strip() and len(text) <= 200], links


def _links(text: str) -> Iterator[Oddity]:
    if link := LINK.search(text):
        yield Oddity(f"writes a link: {text[max(link.start() - 20, 0) : link.end() + 40]!r}", grave=True)


def _named(node: Any) -> str:
    """What a node reaches for by name: an attribute, a variable, or an item such as x['__class__']."""
    if isinstance(attribute := getattr(node, "attr", None), str):
        return attribute if attribute.startswith("_") else ""
    if isinstance(name := getattr(node, "name", None), str):
        return name if name.startswith("__") else ""
    text = getattr(node, "value", None)
    return text if isinstance(text, str) and "__" in text else ""


# -- rendering ---------------------------------------------------------------------------------------------------------


Plan = list[tuple[str, dict[str, Any]]]


def _plan(probes: list[str]) -> Plan:
    """Named conversations: with and without a system message, short and long, at three times, and about each probe."""
    plan = [
        ("bare", _job(("user",))),
        ("led", _job(("system", "user"))),
        ("still", _job(("system", "user"), begins=False)),
    ]
    plan += [
        ("long", _job(("system", *("user", "assistant") * 8, "user"))),
        ("unled", _job(("user", "assistant") * 8 + ("user",))),
    ]
    plan += [(f"time {now}", _job(("user",), now=now)) for now in TIMES[1:]]
    for number, probe in enumerate(probes):
        plan.append((f"probe bare {number}", _job(("user",), probe=probe)))
        plan.append((f"probe led {number}", _job(("system", "user"), probe=probe)))
    return plan


def _job(roles: tuple[str, ...], *, probe: str = "", now: int = TIMES[0], begins: bool = True) -> dict[str, Any]:
    """A conversation whose turns are words that no template holds, the last of them about the probe."""
    turns = [{"role": role, "content": f"qzv{number}xk"} for number, role in enumerate(roles)]
    if probe:
        turns[-1]["content"] += f" {probe.strip()} {turns[-1]['content']}"
    return {"messages": turns, "now": now, "add_generation_prompt": begins}


def _rendered(template: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {f"{kind}_token": "" for kind in ("bos", "eos", "pad", "unk")}
    asked = json.dumps({"template": template, "jobs": [known | job for job in jobs]})
    words = [sys.executable, "-I", chat_template_worker.__file__]
    try:
        done = subprocess.run(
            words, input=asked, capture_output=True, text=True, timeout=PATIENCE, check=False, env={}, cwd="/"
        )
    except subprocess.TimeoutExpired as error:
        raise _no("does not end") from error
    if done.returncode:
        raise _no(f"does not end within {chat_template_worker.SECONDS} s and {chat_template_worker.MEMORY >> 20} MB")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


ANSWER = "qzv1xk"  # the second turn of `_job`


def rendered_answer(template: str, tokens: Mapping[str, str]) -> str:
    """What a template writes behind an answer, to the end; "" where it renders none. `tokens` as in `eos_token`.

    Raises:
        Hostile: it does not end.
    """
    (rendered, *_) = _rendered(template, [_job(("user", "assistant"), begins=False) | dict(tokens)])
    return str(rendered.get("text", "")).partition(ANSWER)[2]


def _texts(plan: Plan, answers: list[dict[str, Any]], special: tuple[str, ...]) -> tuple[dict[str, str], list[Oddity]]:
    """Of every conversation, what the template says itself; nothing of one it declines, such as of a system."""
    if len(answers) != len(plan):
        raise _no(f"cannot be read: {answers[0].get('error', '')}")
    texts, odd = dict[str, str](), list[Oddity]()
    for (name, job), rendered in zip(plan, answers, strict=True):
        if rendered.get("raised") in ("size", "MemoryError", "RecursionError", "SecurityError"):
            raise _no(f"cannot be rendered: {rendered['error']}")
        if rendered.get("raised") == "declined":
            continue
        if "error" in rendered:
            odd.append(Oddity(f"cannot be rendered: {rendered['error']}", grave=True))
            continue
        texts[name], more = _own(rendered["text"], job["messages"], rendered["times"], special)
        odd += more
    if not odd and not {"bare", "unled"} <= texts.keys():
        odd.append(Oddity("renders no conversation of a user and an assistant", grave=True))
    return texts, odd


def _compared(texts: Mapping[str, str], plan: Plan) -> Iterator[Oddity]:
    """What it says of its own, and whether that depends on more than who speaks."""
    left = {name: _words(text) for name, text in texts.items()}
    usual = {"led": {*left.get("led", ()), *left.get("still", ())}, "bare": {*left.get("bare", ())}}
    for name in ("led", "still"):
        if left.get(name):
            yield Oddity(f"says what the conversation does not: {' '.join(left[name])[:160]!r}")
            break
    if len(left.get("bare", ())) > MOST_ADDED:
        yield Oddity(f"says {len(left['bare'])} words of its own: {texts['bare'][:160]!r}")
    for name, short in (("long", "led"), ("unled", "bare")):
        if name in left and (more := [word for word in left[name] if word not in usual[short]]):
            yield Oddity(f"says what the conversation does not, as it goes on: {' '.join(more)[:160]!r}", grave=True)
    for name, own_words in left.items():
        same = left.get("bare" if name.startswith(("probe bare", "time")) else "led", ())
        if name.startswith(("probe", "time")) and own_words != same:
            about = f"time is {name[5:]}" if name.startswith("time") else f"user says {_probe(plan, name)!r}"
            yield Oddity(f"says something else when the {about}: {' '.join(own_words)[:120]!r}", grave=True)


def _probe(plan: Plan, name: str) -> str:
    return str(dict(plan)[name]["messages"][-1]["content"].split(" ", 1)[1].rsplit(" ", 1)[0])[:60]


def _own(
    text: str, messages: list[Mapping[str, str]], times: list[str], special: tuple[str, ...]
) -> tuple[str, list[Oddity]]:
    """What is left of a rendering without the conversation and what marks its turns."""
    rest, odd = text, list[Oddity]()
    for turn in messages:
        if turn["content"] not in rest:
            odd.append(Oddity(f"leaves out what the {turn['role']} says", grave=turn["role"] != "system"))
        rest = rest.replace(turn["content"], " ", 1)
    odd += _links(rest)
    for gone in sorted({*special, *times} - {""}, key=len, reverse=True):
        rest = rest.replace(gone, " ")
    return " ".join(MARKS.sub(" ", DATED.sub(" ", rest)).split()), odd


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.findall(r"[^\W\d_]{2,}", text) if word.lower() not in ROLE_WORDS)


_TOOL = {
    "type": "function",
    "function": {"name": "qzvtool", "description": "qzv", "parameters": {"type": "object", "properties": {}}},
}


def writes_alike(template: str, other: str) -> bool:
    """Whether two templates write fixed conversations alike, with and without a system message and tools.

    Trainers mark answers in a template and reformat it, which changes its text and not what it writes.

    Raises:
        Hostile: one of them does not end.
    """
    if template.strip() == other.strip():
        return True
    tokens = {f"{kind}_token": f"<{kind}>" for kind in ("bos", "eos", "pad", "unk")}
    jobs: list[dict[str, Any]] = [tokens | job for _, job in _plan([])]
    jobs += [jobs[0] | {"tools": [_TOOL]}, jobs[0] | {"enable_thinking": False}]
    answers, others = _rendered(template, jobs), _rendered(other, jobs)
    return len(answers) == len(jobs) and answers == others
