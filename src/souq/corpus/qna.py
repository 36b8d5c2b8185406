"""InstructLab's qna.yaml: seeds for a corpus, as people wrote them by the thousand.

A file is read as a graph of YAML nodes, never as Python objects, so every refusal names its line. Skills of versions 1
to 3 and knowledge of version 3 are read (github.com/instructlab/schema); what is written is version 3. Line ends and
blanks at the ends of lines are not part of what anybody meant.

    >>> read(b"created_by: a\\ntask_description: ''\\nseed_examples:\\n- {question: q, answer: a}\\n", "qna.yaml").kind
    'skill'
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from souq.errors import Hostile, UsageError, nearest
from souq.records import Record
from souq.text import decoded, encoding_of, units
from souq.yaml_text import Place, compose

NAME = "qna.yaml"
MISNAMED = f"not read: a taxonomy's files are called {NAME}; rename it"
_NEARLY = re.compile(r"qna\.ya?ml", re.IGNORECASE)
MAX_BYTES = 4 << 20
MAX_DEPTH = 12  # the schema needs five
MAX_NODES = 50_000
LATEST = 3
FEWEST = 5  # examples, since version 2
FEWEST_PAIRS = 3  # questions about one context
# CONTRIBUTING.md of the taxonomy: under which terms other people's text may come in.
LICENCES = ("CC0-1.0", "CDLA-Permissive-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "Apache-2.0", "MIT")
Kind = Literal["skill", "knowledge"]


class Pair(Record, frozen=True):
    question: str
    answer: str


class Example(Record, frozen=True):
    """What is asked about one context; a skill's example has one pair, and often no context."""

    pairs: tuple[Pair, ...]
    context: str = ""

    def asked(self) -> Iterator[tuple[str, str]]:
        """(what is asked, its context before it; the answer) of every pair."""
        for pair in self.pairs:
            yield f"{self.context}\n\n{pair.question}" if self.context else pair.question, pair.answer


class Document(Record, frozen=True):
    """Where the text of a knowledge node is: files of a git repository."""

    repo: str
    commit: str
    patterns: tuple[str, ...]


class Node(Record, frozen=True):
    """One qna.yaml, whatever version it was written in."""

    kind: Kind
    created_by: str
    examples: tuple[Example, ...]
    task_description: str = ""  # a skill's
    domain: str = ""  # knowledge's, as the two below
    document_outline: str = ""
    document: Document | None = None


Fields = dict[str, tuple[Place, Place]]
"""Name -> (the name's place, the value's)."""


def _fields(place: Place) -> Fields:
    fields = Fields()
    for name, value in place.pairs():
        if not isinstance(name.node, yaml.ScalarNode):
            raise name.wrong("a name must be plain text")
        if name.node.value in fields:
            raise name.wrong(f"{name.node.value!r} is here twice")
        fields[name.node.value] = name, value
    return fields


def _items(place: Place, what: str, fewest: int, *, unique: bool) -> list[Place]:
    if not isinstance(place.node, yaml.SequenceNode):
        raise place.wrong(f"{what} must be a list")
    if len(place.node.value) < fewest:
        raise place.wrong(f"{len(place.node.value)} {what}, and {fewest} is the fewest")
    places = [place.at(node) for node in place.node.value]
    if unique and (twice := next(_twice(places), None)):
        raise twice.wrong(f"the same as one before, and {what} must differ")
    return places


def _text(place: Place, what: str, *, empty: bool = False) -> str:
    scalar = isinstance(place.node, yaml.ScalarNode)
    if not scalar or place.node.tag != "tag:yaml.org,2002:str":
        raise place.wrong(f"{what} must be text" + (": put it in quotes" if scalar else ""))
    if not (text := normal(place.node.value)) and not empty:
        raise place.wrong(f"{what} is empty")
    return text


def normal(text: str) -> str:
    """Unix line ends, no blanks at the ends of lines nor around the whole."""
    return "\n".join(line.rstrip() for line in re.split(r"\r\n|\r|\n", text)).strip()


def files_in(tree: Path) -> tuple[list[Path], list[Path]]:
    """Every qna.yaml below a folder, and every file that would be one by another spelling: qna.yml, QNA.YAML.

    A taxonomy's tools read the exact name alone, so whoever has another one is told; nothing is read behind a link.
    """
    near = sorted((file for file in tree.rglob("*") if _NEARLY.fullmatch(file.name)), key=lambda file: file.as_posix())
    files = [file for file in near if file.is_file() and not _linked(file, tree)]
    return [file for file in files if file.name == NAME], [file for file in files if file.name != NAME]


def _linked(path: Path, tree: Path) -> bool:
    return any(part.is_symlink() for part in (path, *path.parents) if part != tree and tree in part.parents)


def read(data: bytes, file: str, *, kind: Kind | None = None) -> Node:
    """A node from the bytes of its file; `kind` where the tree says it, else knowledge has a document.

    Raises:
        Hostile: larger or deeper than anything people write, an alias, a tag.
        UsageError: not what the schema of its version asks, with the line.
    """
    if len(data) > MAX_BYTES:
        raise Hostile(f"{file}: {len(data):,} bytes, and {MAX_BYTES:,} is the most")
    root = compose(decoded(data, file), file, depth=MAX_DEPTH, nodes=MAX_NODES)
    if root is None:
        raise UsageError(f"{file}, line 1: the file is empty")
    fields = _fields(root)
    kind = kind or ("knowledge" if "document" in fields else "skill")
    version = _version(fields)
    if kind == "knowledge":
        if version != LATEST:
            place = fields["version"][0] if "version" in fields else root
            least = f"the minimum supported version is {LATEST}"
            raise place.wrong(f"knowledge of version {version} is no longer read: {least}")
        return _knowledge(root)
    return _skill(root, version)


def _version(fields: Fields) -> int:
    if "version" not in fields:
        return 1
    _, place = fields["version"]
    node = place.node
    number = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int"
    if not number or node.value not in ("1", "2", "3"):
        raise place.wrong(f"version must be 1, 2 or {LATEST}")
    return int(node.value)


def _known(place: Place, needed: tuple[str, ...], may: tuple[str, ...] | None = ()) -> dict[str, Place]:
    """The values by name: all that are needed, and others that may be there; None: any."""
    fields = _fields(place)
    for name, (where, _) in fields.items():
        if may is not None and name not in needed + may:
            raise where.wrong(f"{name!r} is not known here{nearest(name, needed + may)}")
    if missing := [name for name in needed if name not in fields]:
        raise place.wrong(f"{missing[0]!r} is missing")
    return {name: value for name, (_, value) in fields.items()}


def _skill(root: Place, version: int) -> Node:
    needed = ("created_by", "task_description", "seed_examples")
    has = _known(root, needed + (("version",) if version > 1 else ()), ("version",))
    description = _text(has["task_description"], "task_description", empty=version == 1)
    author = _text(has["created_by"], "created_by")
    examples = []
    fewest = FEWEST if version > 1 else 1
    for place in _items(has["seed_examples"], "seed_examples", fewest, unique=version > 1):
        parts = _known(place, ("question", "answer"), ("context",))
        context = _text(parts["context"], "context") if "context" in parts else ""
        examples.append(Example(pairs=(_pair(parts),), context=context))
    return Node(kind="skill", created_by=author, task_description=description, examples=tuple(examples))


def _knowledge(root: Place) -> Node:
    has = _known(root, ("version", "created_by", "domain", "document_outline", "seed_examples", "document"))
    examples = []
    for place in _items(has["seed_examples"], "seed_examples", FEWEST, unique=True):
        parts = _known(place, ("context", "questions_and_answers"))
        pairs = _items(parts["questions_and_answers"], "questions_and_answers", FEWEST_PAIRS, unique=True)
        # The one place where the schema lets other names pass.
        asked = tuple(_pair(_known(pair, ("question", "answer"), None)) for pair in pairs)
        examples.append(Example(pairs=asked, context=_text(parts["context"], "context")))
    texts = {name: _text(has[name], name) for name in ("created_by", "domain", "document_outline")}
    return Node(kind="knowledge", examples=tuple(examples), document=_document(has["document"]), **texts)


def _pair(has: dict[str, Place]) -> Pair:
    return Pair(question=_text(has["question"], "question"), answer=_text(has["answer"], "answer"))


def _document(place: Place) -> Document:
    has = _known(place, ("repo", "commit", "patterns"))
    patterns = tuple(_text(place, "a pattern") for place in _items(has["patterns"], "patterns", 1, unique=True))
    return Document(repo=_text(has["repo"], "repo"), commit=_text(has["commit"], "commit"), patterns=patterns)


def _twice(places: list[Place]) -> Iterator[Place]:
    seen = set[str]()
    for place in places:
        text = yaml.serialize(_unstyled(place.node), Dumper=yaml.SafeDumper)
        if text in seen:
            yield place
        seen.add(text)


def _unstyled(node: yaml.Node) -> yaml.Node:
    """The node without its styles: 'a' and \"a\" are the same text."""
    if isinstance(node, yaml.ScalarNode):
        return yaml.ScalarNode(node.tag, node.value, style='"')
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_unstyled(item) for item in node.value])
    pairs = [(_unstyled(name), _unstyled(value)) for name, value in node.value]
    return yaml.MappingNode(node.tag, sorted(pairs, key=lambda pair: str(pair[0].value)))


def write(node: Node) -> bytes:
    """Version 3, canonically: the same node has the same bytes.

    Raises:
        UsageError: a skill with fewer examples than version 3 asks for, or no description.
    """
    if len(node.examples) < FEWEST:
        raise UsageError(f"{len(node.examples)} examples, and version {LATEST} asks for {FEWEST}", hint="add some")
    if node.kind == "skill" and not node.task_description:
        raise UsageError(f"no task_description, and version {LATEST} asks for one", hint="write a sentence")
    fields: dict[str, Any] = {"version": LATEST, "created_by": node.created_by}
    contexts = [{"context": example.context} if example.context else {} for example in node.examples]
    pairs = [[msgspec.structs.asdict(pair) for pair in example.pairs] for example in node.examples]
    if node.kind == "skill":
        examples = [context | asked[0] for context, asked in zip(contexts, pairs, strict=True)]
        fields |= {"task_description": node.task_description, "seed_examples": examples}
    elif node.document is not None:
        examples = [context | {"questions_and_answers": asked} for context, asked in zip(contexts, pairs, strict=True)]
        document = {"repo": node.document.repo, "commit": node.document.commit, "patterns": [*node.document.patterns]}
        fields |= {"domain": node.domain, "document_outline": node.document_outline}
        fields |= {"seed_examples": examples, "document": document}
    return str(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)).encode()


def attribution(data: bytes, file: str) -> str:
    """The licence of an attribution.txt, an AND where it names several works.

    Raises:
        Hostile: more than anybody writes.
        UsageError: none is named, or one that the taxonomy does not let in.
    """
    if len(data) > MAX_BYTES:
        raise Hostile(f"{file}: {len(data):,} bytes, and {MAX_BYTES:,} is the most")
    licences = list[str]()
    encoding, mark = encoding_of(data)
    for number, line in enumerate(data[mark:].decode(encoding, "replace").splitlines(), 1):
        name, _, terms = line.partition(":")
        if re.fullmatch(r"licen[cs]e of the work", name.strip().lower()):
            if (licence := _spdx(terms)) not in LICENCES:
                may = f"one of the licences that may come in: {', '.join(LICENCES)}"
                raise UsageError(f"{file}, line {number}: {terms.strip()[:60]!r} is not {may}")
            licences.append(licence)
    if not licences:
        raise UsageError(f"{file}, line 1: no line `License of the work: …`")
    return " AND ".join(dict.fromkeys(licences))


def _spdx(terms: str) -> str:
    """`CC BY-SA 4.0` as SPDX spells it."""
    hyphenated = re.sub(r"\s+", "-", terms.strip())
    return next((name for name in LICENCES if name.lower() == hyphenated.lower()), hyphenated)


def notes(node: Node) -> list[str]:
    """What the taxonomy's pages ask for and no schema holds."""
    wishes = list[str]()
    grounded = {bool(example.context) for example in node.examples}
    if node.kind == "skill" and len(grounded) > 1:
        wishes.append("some examples have a context and some have none: a node should be of one kind")
    if node.kind == "knowledge" and any(len(units(e.context)) > 500 for e in node.examples):
        wishes.append("a context of more than 500 words")
    if any(len(units(text)) > 250 for e in node.examples for p in e.pairs for text in (p.question, p.answer)):
        wishes.append("a question or an answer of more than 250 words")
    return wishes
