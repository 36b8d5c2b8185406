"""A recipe, its seeds and a corpus that are meant for whoever runs them: templates that reach out, names that climb, bombs."""

import json

import pytest

from souq.corpus.dump import publish, read_rows
from souq.corpus.recipe import MAX_RECIPE, CorpusRecipe, Seeds, read_recipe
from souq.corpus.row import Row, row_id
from souq.corpus.seeds import MAX_PIECE, filled, pieces, read_seeds
from souq.errors import SouqError
from souq.records import canonical, digest

HEAD = 'name = "x"\n[[seeds]]\nkind = "fields"\npath = "f.jsonl"\nlicence = "MIT"\n'


@pytest.mark.parametrize("template", ["{a.__class__}", "{a[0]}", "{a!r}", "{0}", "{a:>1000000000}", "%(a)s", "{{a}}"])
def test_a_template_puts_texts_in_places_and_does_nothing_else(template, tmp_path):
    """No attribute, no index, no format: what is not a plain field stays as it stands, or is no field of the seed."""
    (tmp_path / "f.jsonl").write_text('{"a": "{b}", "b": "secret"}\n')
    (seed,) = read_seeds(Seeds(kind="fields", path="f.jsonl", licence="MIT"), tmp_path)
    try:
        told = filled(template, seed, "p")
    except SouqError:
        return
    assert told == template.replace("{a}", "{b}")
    assert len(told) < 100


@pytest.mark.parametrize("dump", ["../../etc", "a/b", "", "a\\b", "/tmp/x", "\u0000"])
def test_an_edition_s_name_stays_inside(dump, tmp_path):
    (tmp_path / "r.toml").write_text(f"dump = {json.dumps(dump)}\n{HEAD}")
    with pytest.raises(SouqError):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize(
    "bomb",
    ["x" * (MAX_RECIPE + 1), "a = " + "[" * 100_000, HEAD + "samples = 99999999999999999999999\n", HEAD + 'engine = "openai:file:///etc/passwd"\ntitle = 3\n', "\xff"],
    ids=["huge", "deep", "countless", "wrong kind", "no text"],
)  # fmt: skip
def test_a_recipe_that_is_a_bomb_is_refused(bomb, tmp_path):
    (tmp_path / "r.toml").write_bytes(bomb.encode("latin-1"))
    with pytest.raises(SouqError):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": {"b": 1}}', "7", '{"a": 1}', '{"a": "x"', '"' + "x" * 1000 + '"', '{"a": "\\ud800"}'])  # fmt: skip
def test_a_seed_that_is_no_seed(line, tmp_path):
    (tmp_path / "f.jsonl").write_text(line + "\n")
    with pytest.raises(SouqError):
        read_seeds(Seeds(kind="fields", path="f.jsonl", licence="MIT"), tmp_path)


def test_one_word_as_long_as_a_file_is_cut():
    assert max(len(piece) for piece in pieces("x" * (40 << 20), 300)) == MAX_PIECE


def row(text, source="s"):
    from souq.lab.chat import Message

    messages = (Message(role="user", content="q"), Message(role="assistant", content=text))
    return Row(id=row_id(messages), messages=messages, licence="MIT", origin="synthetic", depth=1, real_fraction=0.0, source=source, source_licence="MIT")  # fmt: skip


def test_a_card_is_not_written_by_what_stands_in_it(tmp_path):
    """A source's name and an answer are text: no table, no link, no script, no second head."""
    evil = "---\nlicense: mit\n---\n# Mine | [x](javascript:alert(1)) <script>alert(1)</script>"
    publish(
        [row(evil, evil)], tmp_path, CorpusRecipe(name=evil, title=evil), teacher="b3:t", engine=evil, licence="MIT"
    )

    card = (tmp_path / "README.md").read_text()
    assert card.count("\n---\n") == 1
    assert "<script" not in card
    assert "](javascript" not in card.replace("\\](javascript", "")
    assert "<script" not in (tmp_path / "datasheet" / "answers.svg").read_text()


def test_an_answer_that_is_no_text_for_xml(tmp_path):
    """Control characters, halves of characters and invisible ones: the corpus keeps them, the pictures are pictures."""
    from xml.etree import ElementTree

    for said in ("\x00\x01\x1b[31m", "\ufffe\uffff", "\u202eevil", "\x7f"):
        publish([row(said, said)], tmp_path, CorpusRecipe(name="x"), teacher="b3:t", engine="e", licence="MIT")
        assert read_rows(tmp_path)[0]["messages"][-1]["content"] == said
        for name in ("answers", "sources", "lengths"):
            ElementTree.parse(tmp_path / "datasheet" / f"{name}.svg")


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "dump=1/subset=kept/../../../../etc/passwd"])
def test_a_manifest_does_not_point_out_of_its_folder(path, tmp_path):
    """Whoever made the corpus also made its manifest: a path that climbs is refused, whatever its digest."""
    publish([row("a")], tmp_path, CorpusRecipe(name="x"), teacher="b3:t", engine="e", licence="MIT")
    told = json.loads((tmp_path / "manifest.json").read_bytes())
    named = f"dump=1/subset=kept/{path}"
    told["dumps"]["1"]["files"] = {named: {"rows": 1, "digest": digest(b"")}}
    (tmp_path / "manifest.json").write_bytes(canonical(told))
    with pytest.raises(SouqError):
        read_rows(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"dumps": 3}', '{"dumps": {}, "latest": "1"}', "[" * 100_000, ""])
def test_a_manifest_that_is_none(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(SouqError):
        read_rows(tmp_path)
