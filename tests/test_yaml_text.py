"""What reading a stranger's YAML promises: bounded before anything is built, and every refusal with its line."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import Hostile, SouqError, UsageError
from souq.model.card import front_matter
from souq.yaml_text import compose, compose_all

HOSTILE = {
    "a: 1\nb: &x 2\n": "f, line 2: anchors",
    "a: 1\nb: *x\n": "f, line 2: anchors",
    "a: 1\nb: !!str 2\n": "f, line 2: tags",
    "a: 1\nb: !mallory 2\n": "f, line 2: tags",
    "a: [[[[1]]]]\n": "f, line 1: deeper or longer",
    "".join(f"a{i}: 1\n" for i in range(60)): "deeper or longer",
    "[" * 9000: "f, line 1: deeper or longer",
}
WRONG = {
    "a: [1\nb": "f, line 2: ",
    "a: 1\n--- \nb: 1\n": "f, line 2: but found another document",
    "": "f, line 1: the file is empty",
    '"\\UFFFFFFFF"': "f, line 1: ",
    "\x00": "f, line 1: unacceptable character #x0000",
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_what_could_grow_or_run_is_hostile(text, message):
    """No alias, no tag, no depth, no length beyond the bounds is followed, built or recursed into."""
    with pytest.raises(Hostile) as error:
        compose(text, "f", depth=4, nodes=100)
    assert message in str(error.value)


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_no_document_is_told_with_its_line(text, message):
    """Whoever wrote it knows where to look, and nothing of the text itself is shown."""
    with pytest.raises(UsageError) as error:
        compose(text, "f", depth=4, nodes=100)
    assert str(error.value).startswith(message)


def test_a_value_knows_where_it_stands():
    """Names, values and what they hold have their lines; a path only where one was begun."""
    root = compose("a:\n  - 1\n  - b: 2\n", "f", depth=4, nodes=100)
    [(name, value)] = root.pairs()
    [(_, inner)] = value.at(value.node.value[1], "[1]").pairs()

    assert (root.value, name.line, value.line, inner.line) == ({"a": [1, {"b": 2}]}, 1, 2, 3)
    assert str(inner.wrong("too small")) == "f, line 3: too small"
    with pytest.raises(UsageError, match="f, line 2: here must be names and values"):
        value.pairs()


def test_what_only_looks_like_a_date_is_refused_where_it_stands():
    """PyYAML's own error has neither file nor line."""
    with pytest.raises(UsageError, match="f, line 1: month must be in"):
        _ = compose("a: 2024-99-99\n", "f", depth=4, nodes=100).value


def test_text_with_a_star_in_quotes_is_no_alias():
    """A card may say `"2 *3"`; an alias in its head is refused, and a head of comments says nothing."""
    assert front_matter('---\nlicense: mit\ntitle: "2 *3 &b"\n---\n') == {"license": "mit", "title": "2 *3 &b"}
    assert front_matter("---\n# nothing\n\n---\n") == {}
    with pytest.raises(Hostile, match=r"README.md, line 2: anchors"):
        front_matter("---\na: 1\nlicense: &x mit\n---\n")


@given(st.text(alphabet="{}[]:,&*!<->|'\"\n a1.", max_size=80))
def test_no_text_breaks_a_reader(text):
    """Whatever is written is read or refused in our own words."""
    for read in (lambda: compose(text, "f", depth=9, nodes=99).value, lambda: compose_all(text, nodes=99)):
        with suppress(SouqError):
            read()
