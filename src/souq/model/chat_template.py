"""Chat templates are programs that come with a model: read, and rendered on fixed conversations, before any is used.

A template that was changed by somebody else took accuracy from 90 to 15% and put an attacker's links into over 90% of
answers (Pillar Security, "Chat Template Backdoors Across 18 Models and 4 Engines", 2026). So a template is refused that
reaches into Python, never ends, writes links, or says what the conversation did not say; what it says where nobody gave
a system message is shown.

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
from functools import cache
from typing import Any

from souq.errors import Hostile
from souq.model import chat_template_worker
from souq.records import Digest, Record, digest

MOST_BYTES, MOST_ADDED, MOST_PROBES = 64 << 10, 60, 64
PATIENCE = 20  # seconds of waiting, for a process that has one of computing
HINT = "offer the model with a template that only writes down the conversation"
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


class Approved(Record, frozen=True):
    """A template that only writes down the conversation, by digest."""

    digest: Digest
    adds: str = ""  # what it says itself where the conversation has no system message


def approve(template: str, special: Collection[str] = ()) -> Approved:
    """A template, read and rendered; `special` are the tokenizer's own control tokens.

    Raises:
        Hostile: it would do or say what no template should; the message shows what.
    """
    return _approve(template, tuple(sorted(special)))


@cache
def _approve(template: str, special: tuple[str, ...]) -> Approved:
    if len(template.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise _no(f"is larger than {MOST_BYTES:,} bytes")
    constants = _read(template)
    plan = _plan([*TOPICS, *constants[:MOST_PROBES]])
    rendered = _rendered(template, [job for _, job in plan])
    return Approved(digest=digest(template.encode()), adds=_judged(rendered, plan, special))


def _no(what: str) -> Hostile:
    return Hostile(f"the chat template {what}", hint=HINT)


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(template: str) -> list[str]:
    """The texts a template holds, once nothing in it reaches where it should not."""
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
    for text in [*texts, *written]:
        if link := LINK.search(text):
            raise _no(f"writes a link: {text[max(link.start() - 20, 0) : link.end() + 40]!r}")
    return [text for text in dict.fromkeys(texts) if text.strip() and len(text) <= 200]


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


def _judged(answers: list[dict[str, Any]], plan: Plan, special: tuple[str, ...]) -> str:
    if len(answers) != len(plan):
        raise _no(f"cannot be read: {answers[0].get('error', '')}")
    texts = dict(_left(plan, answers, special))
    left = {name: _words(text) for name, text in texts.items()}
    if not {"bare", "unled"} <= left.keys():
        raise _no("renders no conversation of a user and an assistant")
    for name in ("led", "still", "long"):
        if own_words := left.get(name):
            raise _no(f"says what the conversation does not: {' '.join(own_words)[:160]!r}")
    if len(left["bare"]) > MOST_ADDED:
        raise _no(f"says {len(left['bare'])} words of its own: {texts['bare'][:160]!r}")
    if more := [word for word in left["unled"] if word not in left["bare"]]:
        raise _no(f"says more as a conversation goes on: {' '.join(more)[:160]!r}")
    for name, own_words in left.items():
        usual = left["bare"] if name.startswith(("probe bare", "time")) else left.get("led", ())
        if name.startswith(("probe", "time")) and own_words != usual:
            about = f"time is {name[5:]}" if name.startswith("time") else f"user says {_probe(plan, name)!r}"
            raise _no(f"says something else when the {about}: {' '.join(own_words)[:120]!r}")
    return texts["bare"] if left["bare"] else ""


def _probe(plan: Plan, name: str) -> str:
    return str(dict(plan)[name]["messages"][-1]["content"].split(" ", 1)[1].rsplit(" ", 1)[0])[:60]


def _left(plan: Plan, answers: list[dict[str, Any]], special: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Of every conversation, what the template says itself; nothing of one it declines, such as of a system."""
    for (name, job), rendered in zip(plan, answers, strict=True):
        if rendered.get("raised") == "declined":
            continue
        if "error" in rendered:
            raise _no(f"cannot be rendered: {rendered['error']}")
        yield name, _own(rendered["text"], job["messages"], rendered["times"], special)


def _own(text: str, messages: list[Mapping[str, str]], times: list[str], special: tuple[str, ...]) -> str:
    rest = text
    for turn in messages:
        if turn["content"] not in rest:
            raise _no(f"leaves out what the {turn['role']} says")
        rest = rest.replace(turn["content"], " ", 1)
    if link := LINK.search(rest):
        raise _no(f"writes a link: {rest[max(link.start() - 20, 0) : link.end() + 40]!r}")
    for gone in sorted({*special, *times} - {""}, key=len, reverse=True):
        rest = rest.replace(gone, " ")
    return " ".join(MARKS.sub(" ", DATED.sub(" ", rest)).split())


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.findall(r"[^\W\d_]{2,}", text) if word.lower() not in ROLE_WORDS)
