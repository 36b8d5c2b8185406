"""A corpus made to be built on: rows that lie about themselves, files that are none, licences that write the card."""

import json

import pytest
from tests.kitchen import RECIPE, Parrot, cook, forge

from souq.corpus.dump import read_rows
from souq.corpus.recipe import Seeds
from souq.corpus.row import row_id
from souq.corpus.seeds import published
from souq.errors import Hostile, UsageError
from souq.lab.chat import Message
from souq.records import canonical

LIES = {
    "no ancestry": {"depth": -1},
    "a machine's words as people's": {"origin": "synthetic", "depth": 0},
    "more than a row can hold": {"tokens": -(1 << 31)},
    "no share": {"real_fraction": float("nan")},
    "refused by its filter": {"filters": [{"name": "x", "version": "", "kept": False, "score": None, "because": ""}]},
    "no turns": {"messages": [], "id": row_id(())},
    "no answer": {"messages": [{"role": "user", "content": "q"}], "id": row_id((Message(role="user", content="q"),))},
    "no licence": {"licence": ""},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_row_of_another_corpus_that_lies_about_itself_is_refused(kitchen, lie):
    """Its manifest is its maker's too: a row whose id is not its words', or without ancestry that can be, comes in nowhere."""
    cook(kitchen, Parrot())
    forge(kitchen / "corpus", lambda rows: [row | lie for row in rows])

    with pytest.raises(Hostile, match="row 1: its id, its depth"):
        published(Seeds(kind="corpus", path="corpus"), kitchen)


def test_what_another_corpus_says_of_itself_writes_no_card(kitchen):
    """Its sources' licences are its maker's text: no markup; one that is no licence is refused before anything is asked."""
    cook(kitchen, Parrot())
    forge(kitchen / "corpus", lambda rows: [row | {"source_licence": "MIT |\n\n<script>alert(1)</script>"} for row in rows])  # fmt: skip
    (kitchen / "recipe.toml").write_text(RECIPE.replace("[[prompts]]", '[[seeds]]\nkind = "corpus"\npath = "corpus"\n\n[[prompts]]'))  # fmt: skip
    cook(kitchen, Parrot(), "other")
    assert "<script" not in (kitchen / "other" / "README.md").read_text()

    forge(kitchen / "corpus", lambda rows: [row | {"licence": "MIT AND ("} for row in rows])
    writer = Parrot()
    with pytest.raises(UsageError, match="is no licence"):
        cook(kitchen, writer, "more")
    assert writer.asked == 0


@pytest.mark.parametrize("data", [b"", b"PAR1 nonsense PAR1"], ids=["empty", "nonsense"])
def test_a_corpus_of_files_that_are_no_parquet_is_refused(kitchen, data):
    """Under a digest that is right, too: in a line, not a traceback."""
    cook(kitchen, Parrot())
    forge(kitchen / "corpus", data)

    with pytest.raises(Hostile, match="no Parquet"):
        read_rows(kitchen / "corpus")


@pytest.mark.parametrize(
    "change", [{"latest": []}, {"dumps": {"2026-48": 7}}, {"dumps": {"2026-48": {}}}, {"latest": "2026-47"}], ids=str
)
def test_a_manifest_that_somebody_edited_is_neither_relied_on_nor_written_over(kitchen, change):
    """Its editions are known from it alone: the file stays as it is, for whoever can mend it."""
    cook(kitchen, Parrot())
    path = kitchen / "corpus" / "manifest.json"
    path.write_bytes(canonical(json.loads(path.read_bytes()) | change))
    edited = path.read_bytes()

    for act in (lambda: read_rows(kitchen / "corpus"), lambda: cook(kitchen, Parrot())):
        with pytest.raises(Hostile, match=r"manifest\.json"):
            act()
    assert path.read_bytes() == edited
