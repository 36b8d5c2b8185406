"""qna.yaml comes in as it was meant, or is refused with the line and the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.cli import run, souq
from souq.corpus.qna import Document, Example, Node, Pair, attribution, normal, read, write
from souq.corpus.recipe import Seeds
from souq.corpus.seeds import read_seeds
from souq.errors import SouqError, UsageError
from souq.pulls import pull as pulls

CASES = Path(__file__).parent / "fixtures" / "qna"
REAL = Path(__file__).parents[2] / "shared" / "data" / "qna"  # files that people wrote, beside the authors' checkout
REFUSED = {
    "legacy/knowledge_old": "line 1: knowledge of version 1 is no longer read: the minimum supported version is 3",
    "legacy/knowledge_ibm_history_old": "line 1: knowledge of version 1 is no longer read: the minimum supported version is 3",
    "negative/empty_yaml": "line 1: the file is empty",
    "negative/invalid_yaml": "line 3: 'createdby' is not known here (did you mean 'created_by'?)",
    "negative/knowledge_v1_unsupported": "line 4: knowledge of version 2 is no longer read: the minimum supported version is 3",
    "negative/skill_incomplete": "line 6: 1 seed_examples, and 5 is the fewest",
}
FILES = [*sorted(CASES.rglob("qna.yaml")), *sorted(REAL.rglob("*/qna.yaml"))]

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map(normal).filter(bool)
blocks = st.lists(words, min_size=1, max_size=3).map("\n".join).map(normal).filter(bool)
pairs = st.builds(lambda q, a: Pair(question=q, answer=a), blocks, blocks)


def unique(made, fewest):
    return st.lists(made, min_size=fewest, max_size=fewest + 1, unique_by=repr).map(tuple)


skill_nodes = st.builds(
    lambda author, told, examples: Node(kind="skill", created_by=author, task_description=told, examples=examples),
    words, blocks, unique(st.builds(lambda p, c: Example(pairs=(p,), context=c), pairs, st.just("") | blocks), 5),
)  # fmt: skip
knowledge_nodes = st.builds(
    lambda author, domain, outline, examples, patterns: Node(
        kind="knowledge", created_by=author, domain=domain, document_outline=outline, examples=examples,
        document=Document(repo="https://x.example/r", commit="abc", patterns=patterns),
    ),
    words, words, blocks, unique(st.builds(lambda p, c: Example(pairs=p, context=c), unique(pairs, 3), blocks), 5), unique(words, 1),
)  # fmt: skip


@given(skill_nodes | knowledge_nodes)
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_again(node):
    """Export and import are the identity, whatever people write in whichever letters."""
    assert read(write(node), "qna.yaml") == node


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_files_of_every_shape(path):
    """Each file is read and comes back the same, or is refused for the reason that the format's own rules give."""
    name = "/".join(path.parts[-3:-1])
    if name in REFUSED:
        with pytest.raises(UsageError) as refusal:
            read(path.read_bytes(), name)
        assert str(refusal.value) == f"{name}, {REFUSED[name]}"
        return
    node = read(path.read_bytes(), name)
    if len(node.examples) >= 5 and (node.task_description or node.kind == "knowledge"):
        assert read(write(node), name) == node


def test_a_tree_with_one_that_may_not_come_in():
    """The rest is read; a licence that the taxonomy does not let in is named with its line."""
    found = CliRunner().invoke(
        souq, ["corpus", "import-qna", str(CASES / "valid"), "--licence", "Apache-2.0", "--json"]
    )

    tree = json.loads(found.stdout)
    assert found.exit_code == 3
    assert list(tree["refused"]) == ["freeform_rhymes/qna.yaml"]
    assert "line 3: 'CC BY-NC-SA 4.0' is not one of the licences" in tree["refused"]["freeform_rhymes/qna.yaml"]
    assert {node["file"]: node["licence"] for node in tree["nodes"]} == {
        "grounded_spelling/qna.yaml": "CC-BY-SA-4.0", "knowledge_tides/qna.yaml": "CC-BY-SA-4.0",
        "knowledge_unattributed/qna.yaml": "Apache-2.0",
    }  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--licence", "MIT"]], ids=["refused", "taken"])
def test_a_folder_s_name_steers_no_terminal(tmp_path, capfd, more):
    """Whoever made the tree named its folders."""
    leaf = tmp_path / "tree" / "\x1b[2Jhello"
    leaf.mkdir(parents=True)
    (leaf / "qna.yaml").write_text(SKILL)
    run(["corpus", "import-qna", str(tmp_path / "tree"), *more])

    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "\\u001b[2Jhello/qna.yaml" in out


SKILL = """created_by: amira
version: 3
task_description: Say hello.
seed_examples:
""" + "".join(f"- question: Who is {n}?\n  answer: Hello, {n}.\n" for n in ("a", "b", "c", "d", "e"))
BAD = [
    ("version: 3", "version: 4", "line 2: version must be 1, 2 or 3"),
    ("version: 3", "version: '3'", "line 2: version must be 1, 2 or 3"),
    ("Hello, c.", "42", "line 10: answer must be text: put it in quotes"),
    ("Hello, c.", "''", "line 10: answer is empty"),
    ("Hello, c.", "[a, b]", "line 10: answer must be text"),
    ("Who is b?\n  answer: Hello, b.", "Who is a?\n  answer: 'Hello, a.'", "line 7: the same as one before"),
    ("  answer: Hello, e.\n", "", "line 13: 'answer' is missing"),
    ("task_description: Say hello.", "task_description: Say hello.\ncreated_by: x", "line 4: 'created_by' is here twice"),
    ("  answer: Hello, d.", "\tanswer: Hello, d.", "line 12: found character"),
    ("version: 3", "version: 3\nlicence: MIT", "line 3: 'licence' is not known here"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "because"), BAD, ids=[row[2] for row in BAD])
def test_the_line_and_the_reason(old, new, because):
    """Whoever wrote it can mend it without reading a schema."""
    assert old in SKILL
    with pytest.raises(UsageError) as found:
        read(SKILL.replace(old, new, 1).encode(), "qna.yaml")
    assert str(found.value).startswith(f"qna.yaml, {because}")


def test_blanks_at_the_ends_of_lines_are_nobodys():
    """Windows' line ends and trailing blanks make no other node."""
    assert read(SKILL.replace("\n", " \r\n").encode(), "qna.yaml") == read(SKILL.encode(), "qna.yaml")


@pytest.mark.parametrize(
    ("told", "licence"),
    [("License of the work: CC BY-SA 4.0", "CC-BY-SA-4.0"), ("Licence of the work: mit\nLicense of the work: CC0-1.0", "MIT AND CC0-1.0")],
)  # fmt: skip
def test_terms(told, licence):
    """Several works come under the terms of all of them."""
    assert attribution(told.encode(), "attribution.txt") == licence


@pytest.mark.parametrize("told", ["License of the work: CC-BY-NC-4.0", "Title of work: x", "", "License of the work: "])
def test_no_terms(told):
    """What is not said is not assumed."""
    with pytest.raises(UsageError, match="line 1"):
        attribution(told.encode(), "attribution.txt")


def test_a_tree_becomes_seeds_and_a_pull_request(bazaar, tmp_path):
    """The same tree feeds the corpus maker, and is offered to the model as data."""
    leaf = tmp_path / "tree" / "compositional_skills" / "hello"
    leaf.mkdir(parents=True)
    (leaf / "qna.yaml").write_text(SKILL)
    (leaf / "attribution.txt").write_text("License of the work: Apache-2.0\n")
    words = ["corpus", "import-qna", tmp_path / "tree", "--out"]

    assert bazaar("mallory", [*words, tmp_path / "seeds.jsonl"]) == 0
    assert bazaar("mallory", [*words, tmp_path / "rows.jsonl", "--as", "messages"]) == 0

    assert [seed.fields["prompt"] for seed in read_seeds(Seeds(kind="questions", path="seeds.jsonl"), tmp_path)][
        :2
    ] == ["Who is a?", "Who is b?"]
    offer = ["pr", "create", "--data", tmp_path / "rows.jsonl", "--title", "Hello", "--licence", "Apache-2.0", "--signoff"]  # fmt: skip
    assert bazaar("mallory", offer) == 0
    number = max(pull.number for pull in pulls.listed(bazaar.repo("amira")))
    assert bazaar.refusal(number) is None


def test_any_bytes_are_a_node_or_a_reason():
    """Nothing else comes out of the reader."""
    for data in (
        b"\xff",
        b'a: "\\UFFFFFFFF"',
        b"%YAML 9.9\n---\na: b",
        b"? [a]\n: b",
        b"---\na: b\n---\nc: d",
        b"a: !!binary x",
    ):
        with pytest.raises(SouqError):
            read(data, "qna.yaml")
