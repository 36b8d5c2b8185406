"""A recipe becomes a crawl: seeds of every kind, answers filtered, editions published, asked in SQL, read by others."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.cli import run
from souq.corpus.dump import manifest, read_rows
from souq.corpus.filters import MEASURES
from souq.corpus.make import Teacher, make
from souq.corpus.query import query
from souq.corpus.recipe import FILTERS, CorpusRecipe, Seeds, read_recipe
from souq.corpus.seeds import pieces, read_seeds
from souq.errors import Hostile, NotFound, UsageError
from souq.evals.eval import read_eval
from souq.lab.chat import Completion
from souq.records import format_toml
from tests.bazaar import NAMES
from tests.kitchen import RECIPE, Parrot, cook, forge


def test_every_row_says_where_it_comes_from(kitchen):
    """Teacher, prompt, seed, sampling, licence of both, ancestry; the same id for the same words."""
    made = cook(kitchen, Parrot())
    rows = read_rows(kitchen / "corpus")
    people = [row for row in rows if row["origin"] == "real"]
    written = [row for row in rows if row["origin"] == "synthetic"]

    assert [(row["depth"], row["licence"], row["teacher"]) for row in people] == [(0, "CC0-1.0", "")]
    assert {(row["depth"], row["licence"], row["prompt"], row["max_tokens"]) for row in written} == {(1, "Apache-2.0 AND CC-BY-4.0", "continent", 8)}  # fmt: skip
    assert {row["teacher"] for row in written} == {Parrot.model}
    assert made.licence == "Apache-2.0 AND CC-BY-4.0 AND CC0-1.0"
    assert len({row["id"] for row in rows}) == len(rows) == made.rows["kept"]


def test_each_answer_has_a_chance_of_its_own(kitchen):
    """Two samples of a question differ in seed; another edition draws anew; another order of seeds changes nothing."""
    cook(kitchen, Parrot())
    first = {(row["document"], row["sample"]): row["seed"] for row in _both(kitchen / "corpus")}
    lines = (kitchen / "cities.jsonl").read_text().splitlines(keepends=True)
    (kitchen / "cities.jsonl").write_text("".join(reversed(lines)))
    cook(kitchen, Parrot(), "again")

    assert len(set(first.values())) == len(first)
    for path in ("dump=2026-48/subset=kept/part-00000.parquet", "dump=2026-48/subset=rejected/part-00000.parquet"):
        assert (kitchen / "again" / path).read_bytes() == (kitchen / "corpus" / path).read_bytes()


def _both(folder):
    _, rows = query(str(folder), "SELECT document, sample, seed FROM rows WHERE origin = 'synthetic' ORDER BY ALL")
    return [{"document": d, "sample": s, "seed": seed} for d, s, seed in rows]


def test_a_killed_run_ends_with_the_same_bytes(kitchen):
    """Whatever part of the journal is left, even half a line."""
    cook(kitchen, Parrot())
    whole = (kitchen / "corpus" / "manifest.json").read_bytes()
    journal = kitchen / "corpus" / "journal.jsonl"
    told = journal.read_bytes()
    for left in (0, 1, len(told) // 3, len(told) // 2, len(told) - 1):
        journal.write_bytes(told[:left])
        writer = Parrot()
        cook(kitchen, writer)
        assert (kitchen / "corpus" / "manifest.json").read_bytes() == whole
        assert journal.read_bytes() == told
        assert writer.asked == 10 - 2 * told[:left].count(b"\n")


def test_nothing_is_asked_twice_and_nothing_stale_is_used(kitchen):
    """The same again asks nothing; a new city asks for it alone; another temperature asks for all."""
    cook(kitchen, Parrot())
    writer = Parrot()
    cook(kitchen, writer)
    assert writer.asked == 0

    with (kitchen / "cities.jsonl").open("a") as file:
        file.write('{"city": "Xian"}\n')
    cook(kitchen, writer)
    assert writer.asked == 2

    (kitchen / "recipe.toml").write_text(RECIPE.replace("temperature = 0.7", "temperature = 0.8"))
    cook(kitchen, writer)
    assert writer.asked == 2 + 12


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"5", b"", b"%s[7]}", b'%s["Asia", "stop", 1, -5]}', b'%s["Asia", "perhaps", 1, 5]}', b'%s["\\ud800", "stop", 1, 5]}', b'%s["\xff", "stop", 1, 5]}'],
    ids=str,
)  # fmt: skip
def test_a_journal_that_somebody_edited_names_the_line(kitchen, line):
    """Nothing is asked, nothing lost, and it says what to do: without the line the run goes on."""
    cook(kitchen, Parrot())
    journal = kitchen / "corpus" / "journal.jsonl"
    first, *more = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + line.replace(b"%s", first.split(b"[")[0]) + b"\n" + b"".join(more))
    edited, writer = journal.read_bytes(), Parrot()

    with pytest.raises(Hostile, match="line 2") as told:
        cook(kitchen, writer)
    assert "take the line out" in told.value.hint
    assert journal.read_bytes() == edited
    journal.write_bytes(first + b"".join(more))
    cook(kitchen, writer)
    assert writer.asked == 0


def test_two_runs_in_one_folder_are_one_after_the_other(kitchen):
    """The second is told to wait: it would pay for every answer again, and publish without what the first made."""

    class Nosy(Parrot):
        def generate(self, asks, sampling, progress=None):
            with pytest.raises(UsageError, match="another run is writing"):
                cook(kitchen, Parrot())
            yield from super().generate(asks, sampling, progress)

    cook(kitchen, Nosy())
    writer = Parrot()
    cook(kitchen, writer)
    assert writer.asked == 0


def test_why_a_row_is_not_kept_is_said(kitchen):
    """Empty, cut off, wrong, said before, an exam's case: each under its name, in the manifest and in the row."""
    answers = {"Cairo": "", "Lima": "Asia and", "Oslo": "Europe", "Quito": "Asia"}
    (kitchen / "recipe.toml").write_text(RECIPE.replace("^(Africa|Asia)$", "^(Africa|Asia)").replace("Where is {city}?", "Where is the city of {city}?"))  # fmt: skip

    class Guide(Parrot):
        def told(self, ask):
            said = ask.messages[-1].content
            return super().told(type(ask)(messages=(type(ask.messages[0])(role="user", content=said.replace("the city of ", "")),), seed=2 * (ask.seed // 2) + 1))  # fmt: skip

    held = read_eval("held", {p.name: p.read_bytes() for p in (kitchen / "held").iterdir()})
    made = cook(kitchen, Guide(answers), evals={"held": held})

    assert made.rejected == {
        "empty": 2, "finished 0, not from 1 to inf": 2, "wrong by checker regex": 2, "duplicate": 2, "holds a case of eval held": 1,
    }  # fmt: skip
    assert {row["messages"][-1]["content"] for row in read_rows(kitchen / "corpus")} == {"Europe", "Asia"}


def test_nothing_left_says_why(kitchen):
    """Zero rows are an error that names the filters, not an empty corpus in silence."""
    (kitchen / "recipe.toml").write_text(RECIPE.split("[[seeds]]\nkind = \"answers\"")[0] + "[[prompts]]" + RECIPE.split("[[prompts]]")[1])  # fmt: skip
    made = cook(kitchen, Parrot(dict.fromkeys(("Cairo", "Lima", "Oslo", "Pune", "Quito"), "")))

    with pytest.raises(UsageError, match="no row is left: 10 empty"):
        made.refuse_empty()


def test_editions_accumulate(kitchen):
    """A second edition stands beside the first and says what is new and what is gone."""
    cook(kitchen, Parrot())
    (kitchen / "recipe.toml").write_text(RECIPE.replace("2026-48", "2026-49").replace("samples = 2", "samples = 1"))
    (kitchen / "cities.jsonl").write_text('{"city": "Cairo"}\n{"city": "Xian"}\n')
    before = {row["id"] for row in read_rows(kitchen / "corpus")}
    made = cook(kitchen, Parrot())
    after = {row["id"] for row in read_rows(kitchen / "corpus")}

    assert (made.before, made.new, made.dropped) == ("2026-48", len(after - before), len(before - after))
    assert {row["id"] for row in read_rows(kitchen / "corpus", "2026-48")} == before
    assert list(manifest(kitchen / "corpus")["dumps"]) == ["2026-48", "2026-49"]


def test_edition_10_comes_after_9(kitchen):
    for name in ("9", "10", "2026-52", "2026-48"):
        (kitchen / "recipe.toml").write_text(RECIPE.replace("2026-48", name))
        cook(kitchen, Parrot())

    told = manifest(kitchen / "corpus")["dumps"]
    assert {name: told[name]["before"] for name in told} == {"9": "", "10": "9", "2026-52": "10", "2026-48": "10"}


def test_sql_over_rows_and_index(kitchen):
    """Counted by subset from the index; a row is found where the index says it is."""
    made = cook(kitchen, Parrot())
    _, counted = query(str(kitchen / "corpus"), "SELECT subset, count(*) FROM index GROUP BY ALL ORDER BY ALL")
    _, ((file, group, row, name),) = query(str(kitchen / "corpus"), "SELECT file, row_group, row, id FROM index WHERE origin = 'real'")  # fmt: skip

    import pyarrow.parquet as parquet

    assert dict(counted) == {subset: count for subset, count in made.rows.items() if count}
    assert parquet.ParquetFile(kitchen / "corpus" / file).read_row_group(group).to_pylist()[row]["id"] == name
    with pytest.raises(UsageError, match="more than 5 rows"):
        query(str(kitchen / "corpus"), "SELECT * FROM range(10)", most=5)
    with pytest.raises(UsageError, match="nonsense"):
        query(str(kitchen / "corpus"), "SELECT nonsense FROM kept")
    with pytest.raises(UsageError, match="no SQL"):
        query(str(kitchen / "corpus"), "-- nothing")
    with pytest.raises(UsageError, match="nothing here opens nosuch://"):
        query("nosuch://bucket/corpus", "SELECT 1")
    with pytest.raises(NotFound):
        query(str(kitchen / "nothing"), "SELECT 1")
    (kitchen / "corpus").rename(kitchen / "corpus [1]")
    assert query(str(kitchen / "corpus [1]"), "SELECT count(*) FROM kept")[1] == [(made.rows["kept"],)]


def test_what_a_model_wrote_steers_no_terminal(kitchen, capfd):
    """SQL's answer is shown with control characters spelled out; as JSON it is what stands there."""
    cook(kitchen, Parrot({"Cairo": "\x1b[2JAsia\u202e"}), recipe=read_recipe(kitchen / "recipe.toml"))
    words = ["corpus", "query", "SELECT messages[-1].content AS said FROM rows", str(kitchen / "corpus")]

    assert run(words) == 0
    shown = capfd.readouterr().out
    assert "\x1b" not in shown
    assert "\\u001b[2JAsia\\u202e" in shown
    assert run([*words, "--json"]) == 0
    assert {"said": "\x1b[2JAsia\u202e"} in json.loads(capfd.readouterr().out)


@pytest.mark.server
def test_hugging_face_reads_it(kitchen, monkeypatch):
    """`load_dataset(FOLDER, "kept")`, as the card promises; the card says the licence."""
    made = cook(kitchen, Parrot())
    monkeypatch.setenv("HF_DATASETS_CACHE", str(kitchen / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="pip install datasets")

    found = datasets.load_dataset(str(kitchen / "corpus"), "kept", split="train", cache_dir=str(kitchen / "cache"))

    assert sorted(found["id"]) == sorted(row["id"] for row in read_rows(kitchen / "corpus"))
    card = (kitchen / "corpus" / "README.md").read_text()
    assert made.licence in card
    assert "| people | CC0-1.0 | 1 |" in card


def test_a_changed_file_is_refused(kitchen):
    """A student is never taught on what the manifest does not say."""
    cook(kitchen, Parrot())
    path = kitchen / "corpus" / "dump=2026-48/subset=kept/part-00000.parquet"
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(Hostile, match="not what manifest"):
        read_rows(kitchen / "corpus")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("{city}", "{town}"), "asks for {town}"),
        (('name = "finished"', 'name = "finnished"'), 'no filter \'finnished\'.*finished'),
        (('checker = "regex"', 'checker = "rejex"'), "no checker 'rejex'"),
        (("samples = 2", "samples = 0"), "samples = 0"),
        (("2026-48", "../out"), "dump = '../out'"),
        (('licence = "CC-BY-4.0"', ""), "under which licence"),
        (("cities.jsonl", "towns.jsonl"), "no seeds at"),
        (("max_tokens = 8", "max_tokens = 8\ntemperatur = 1"), "temperatur"),
        (("max_tokens = 8", "max_tokens = 5_000_000_000"), "max_tokens is from 1"),
        (("temperature = 0.7", "temperature = nan"), "temperature is a number"),
        (("temperature = 0.7", "temperature = 0.7\ntop_p = 2.0"), "top_p is from 0 to 1, not 2.0"),
        (("samples = 2", "samples = 2\ndedup = -1"), "dedup is a Jaccard index"),
        (("least = 1", "least = nan"), "keeps nothing from nan"),
        (("least = 1", "least = 1\n[guard]\nsize = 10\nfloor = nan"), "floor is a share"),
        (("least = 1", "least = 1\n[guard]\nsize = 10\nrarity = 1e308"), "rarity is from 0"),
        (('licence = "CC-BY-4.0"', 'licence = "CC-BY-4.0"\nwords = 0'), "words is a whole number"),
        (('name = "continent"', 'name = "continent"\ndomain = "{country}"'), "asks for {country}"),
        (('licence = "CC-BY-4.0"', 'licence = "MIT AND"'), "'MIT AND' is no licence"),
        (('licence = "CC-BY-4.0"', 'licence = "MIT) OR (CC0-1.0"'), "is no licence"),
        (("2026-48", "4" * 300), "dump = "),
        (("samples = 2", 'samples = 2\ngguf = "q8"'), "gguf = 'q8' .did you mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else (value[1] or "no licence")[:40],
)  # fmt: skip
def test_a_recipe_that_cannot_be_carried_out_says_what_is_wrong(kitchen, change, match):
    """Nothing is asked before everything is known to be there."""
    (kitchen / "recipe.toml").write_text(RECIPE.replace(*change))
    writer = Parrot()

    with pytest.raises((UsageError, NotFound), match=match):
        cook(kitchen, writer)
    assert writer.asked == 0


def test_what_every_stage_leaves_is_logged(kitchen, caplog):
    """Whoever turns the log on sees where the rows went, stage by stage, down to what is published."""
    with caplog.at_level("INFO", "souq.corpus.make"):
        edition = cook(kitchen, Parrot())

    stages = [record.getMessage() for record in caplog.records]
    assert [stage.split(":")[0] for stage in stages] == ["checked and filtered", "copies", "near copies"]
    assert stages[-1].startswith(f"near copies: {edition.rows['kept']} of {sum(edition.rows.values())} rows left")


def test_every_filter_that_a_recipe_may_name_is_there():
    """What a recipe is vetted against is what can be carried out, no more and no less."""
    assert tuple(MEASURES) == FILTERS


def test_seeds_of_every_kind(kitchen):
    """Documents in pieces with their file's digest, a qna tree's answers as people's."""
    (kitchen / "docs").mkdir()
    (kitchen / "docs" / "a.md").write_text("one two three.\n\nfour five\n\nsix")
    (kitchen / "docs" / "b.bin").write_bytes(b"\xff")
    (kitchen / "tree").mkdir()
    (kitchen / "tree" / "qna.yaml").write_text("created_by: a\ntask_description: d\nseed_examples:\n- {question: q, answer: a}\n")  # fmt: skip
    recipe = CorpusRecipe(name="x")
    documents, tree = (
        type(read_recipe(kitchen / "recipe.toml").seeds[0])(kind=kind, path=path, licence="MIT", words=4)
        for kind, path in (("documents", "docs"), ("qna", "tree"))
    )

    found = read_seeds(documents, kitchen)
    assert [seed.fields["document"] for seed in found] == ["one two three.", "four five six"]
    assert {seed.source for seed in found} == {"a.md"}
    (pair,) = read_seeds(tree, kitchen)
    assert (pair.fields["prompt"], pair.answer, pair.licence) == ("q", "a", "MIT")
    assert recipe.digest != CorpusRecipe(name="y").digest


def test_a_taxonomy_is_asked_about_its_leaves(kitchen):
    """What has topics below it is spoken of through them; a row's domain is the topic's root; no topic is refused by its line."""
    (kitchen / "topics.txt").write_text(
        "# by hand\nScience\nScience > Physics\nScience > Physics > Optics\nArts > Music\n"
    )
    recipe = RECIPE.replace('kind = "fields"\npath = "cities.jsonl"', 'kind = "taxonomy"\npath = "topics.txt"')
    recipe = recipe.replace('template = "Where is {city}?"', 'template = "Where is {topic}?"\ndomain = "{root}"')
    (kitchen / "recipe.toml").write_text(recipe)
    cook(kitchen, Parrot())
    found = {row["domain"]: row["messages"][0]["content"] for row in read_rows(kitchen / "corpus") if row["depth"]}
    (optics,) = (
        s for s in read_seeds(read_recipe(kitchen / "recipe.toml").seeds[0], kitchen) if s.fields["topic"] == "Optics"
    )

    assert found == {"Science": "Where is Optics?", "Arts": "Where is Music?"}
    assert (optics.fields["path"], optics.fields["parent"]) == ("Science > Physics > Optics", "Physics")
    (kitchen / "topics.txt").write_text("Science\nScience > > Optics\n")
    with pytest.raises(UsageError, match=r"line 2.*no topic"):
        read_seeds(read_recipe(kitchen / "recipe.toml").seeds[0], kitchen)


def test_a_taxonomy_is_read_in_bounds(kitchen, monkeypatch):
    """A mark at its start is no topic's name; too many topics are refused while they are read, not once they are all there."""
    found = Seeds(kind="taxonomy", path="topics.txt", licence="MIT")
    (kitchen / "topics.txt").write_text("\ufeffScience\nScience > Optics\n", encoding="utf-8")
    assert [seed.fields["path"] for seed in read_seeds(found, kitchen)] == ["Science > Optics"]

    monkeypatch.setattr("souq.corpus.seeds.MOST", 9)
    (kitchen / "topics.txt").write_text("".join(f"t{i}\n" for i in range(10)) + "no > > topic\n")
    with pytest.raises(UsageError, match="more than 9 topics"):
        read_seeds(found, kitchen)


def test_seeds_are_files_that_end(kitchen):
    """A pipe is not waited for, and a file too large is not read to find that out."""
    os.mkfifo(kitchen / "pipe.md")
    with (kitchen / "large.md").open("wb") as file:
        file.truncate((512 << 20) + 1)
    (kitchen / "tree").mkdir()
    with (kitchen / "tree" / "qna.yaml").open("wb") as file:
        file.truncate(1 << 40)

    for kind, path in (("documents", "pipe.md"), ("documents", "large.md"), ("qna", "tree")):
        with pytest.raises(UsageError, match="is no file of at most"):
            read_seeds(Seeds(kind=kind, path=path, licence="MIT"), kitchen)


def test_a_line_of_fields_that_is_none_is_named(kitchen):
    with (kitchen / "cities.jsonl").open("a") as file:
        file.write('{"city": "Rome", "city": "Bonn"}\n')

    with pytest.raises(Hostile, match=r"cities\.jsonl, line 6: a key stands twice"):
        read_seeds(Seeds(kind="fields", path="cities.jsonl", licence="MIT"), kitchen)


def test_an_edition_builds_on_those_before(kitchen):
    """Accumulate, never replace: another corpus's rows come as they are, people's own depth 0, and depth is counted on."""
    cook(kitchen, Parrot())
    before = {row["id"]: row for row in read_rows(kitchen / "corpus")}
    (kitchen / "cities.jsonl").write_text('{"city": "Xian"}\n')
    more = '[[seeds]]\nkind = "corpus"\npath = "corpus"\ndump = "2026-48"\n\n[[prompts]]'
    (kitchen / "recipe.toml").write_text(RECIPE.replace("2026-48", "2026-52").replace("[[prompts]]", more).replace("samples = 2", "samples = 2\nancestry = 1"))  # fmt: skip
    cook(kitchen, Parrot())
    rows = {row["id"]: row for row in read_rows(kitchen / "corpus")}

    assert {name: rows[name] for name in before} == before
    assert {row["depth"] for name, row in rows.items() if name not in before} == {2}
    assert sum(row["origin"] == "real" for row in rows.values()) == 1

    guarded = (kitchen / "recipe.toml").read_text() + f"\n[guard]\n{format_toml({'size': 1000, 'floor': 0.001})}"
    (kitchen / "recipe.toml").write_text(guarded)
    cook(kitchen, Parrot())
    assert {row["depth"] for row in read_rows(kitchen / "corpus")} == {0, 1}


def test_an_edition_is_not_its_own_seeds(kitchen):
    """Made again it would keep every row it ever had, whatever the recipe says now."""
    more = '[[seeds]]\nkind = "corpus"\npath = "corpus"\n\n[[prompts]]'
    cook(kitchen, Parrot())
    for dump in ("", 'dump = "2026-48"\n'):
        (kitchen / "recipe.toml").write_text(RECIPE.replace("[[prompts]]", more.replace("\n\n", f"\n{dump}\n")))
        with pytest.raises(UsageError, match="its own seeds"):
            cook(kitchen, Parrot())


def test_what_stands_in_an_edition_before_keeps_its_provenance(kitchen):
    """The same words said again by the teacher of today change nothing of the row: not its seed, its sample nor its judge."""
    cook(kitchen, Parrot())
    forge(kitchen / "corpus", lambda rows: [row | {"sample": 1, "seed": "9" if row["depth"] else ""} for row in rows])
    before = {row["id"]: row for row in read_rows(kitchen / "corpus")}
    more = '[[seeds]]\nkind = "corpus"\npath = "corpus"\ndump = "2026-48"\n\n[[prompts]]'
    (kitchen / "recipe.toml").write_text(RECIPE.replace("2026-48", "2026-52").replace("[[prompts]]", more))
    cook(kitchen, Parrot())
    after = {row["id"]: row for row in read_rows(kitchen / "corpus")}

    assert {name: after[name] for name in before if before[name]["depth"]} == {name: row for name, row in before.items() if row["depth"]}  # fmt: skip


def test_an_edition_made_again_and_shorter_leaves_nothing_behind(kitchen, monkeypatch):
    """SQL and Hugging Face read shards by name: one of the longer edition would be read with the shorter one."""
    monkeypatch.setattr("souq.corpus.shards.SHARD", 3)
    cook(kitchen, Parrot())
    (kitchen / "cities.jsonl").write_text('{"city": "Cairo"}\n')
    made = cook(kitchen, Parrot())

    for view in ("rows", "index"):
        _, counted = query(str(kitchen / "corpus"), f"SELECT subset, count(*) FROM {view} GROUP BY ALL")
        assert dict(counted) == {subset: count for subset, count in made.rows.items() if count}


def test_cents_are_told_as_they_are_spent(kitchen):
    """Half a dollar a million tokens asked, two answered: ten answers of 5 and 1 tokens; the same again costs nothing more."""
    seen: list[tuple[str, int, int]] = []
    for _ in range(2):
        made = make(read_recipe(kitchen / "recipe.toml"), kitchen, Teacher(Parrot(), "MIT"), kitchen / "corpus", price=(5e5, 2e6), progress=lambda *told: seen.append(told))  # fmt: skip
        assert made.spent == {"asked": 50, "answered": 10}
        assert seen[-2] == ("corpus cents", 4500, 4500)
        assert seen[-1] == ("corpus rows", 10, 10)


def test_a_document_of_ten_megabytes_on_one_line_is_cut():
    """No piece is longer than was asked, in words, nor than 20,000 characters."""
    found = list(pieces("word " * 2_000_000, 300))
    one = list(pieces("x" * 10_000_000, 300))

    assert {len(piece.split()) for piece in found} == {300, 2_000_000 % 300}
    assert max(map(len, one)) == 20_000


@given(st.lists(st.text("ab \n", max_size=30), max_size=8), st.integers(1, 9))
def test_pieces_lose_no_word(paragraphs, size):
    """Cut and put together again, the words are the same."""
    text = "\n\n".join(paragraphs)

    assert " ".join(pieces(text, size)).split() == text.split()
    assert all(len(piece.split()) <= size for piece in pieces(text, size))


def test_the_guard_chooses_what_is_published(kitchen):
    """With a guard, at least its floor of the words is people's, and the rest is told why."""
    found = read_recipe(kitchen / "recipe.toml")
    text = format_toml({"size": 12, "floor": 0.3})
    (kitchen / "recipe.toml").write_text(RECIPE + f"\n[guard]\n{text}")
    made = cook(kitchen, Parrot())

    assert found.guard is None
    assert made.rejected["not chosen by the guard"] > 0
    assert made.origins["real"] == 1


def test_the_guard_chooses_the_same_whatever_the_order_of_the_seeds(kitchen):
    """Files depend on rows alone."""
    lines = [json.dumps({"prompt": f"Where is {c}?", "expected": f"Europe {c} {c}{c}"}) + "\n" for c in "abcdefgh"]
    (kitchen / "recipe.toml").write_text(RECIPE + f"\n[guard]\n{format_toml({'size': 20, 'floor': 0.6})}")
    for name, told in (("one", lines), ("other", lines[::-1])):
        (kitchen / "known.jsonl").write_text("".join(told))
        cook(kitchen, Parrot(), name)

    assert read_rows(kitchen / "one") == read_rows(kitchen / "other")


JUDGE = 'name = "shouts"\nprompt = "JUDGE {answer}"\nverdicts = ["yes", "no"]\nkeep = "yes"\ngold = "gold.jsonl"\n'


@dataclass
class Umpire(Parrot):
    """It says yes to what is written in capitals, or always yes."""

    honest: bool = True

    def told(self, ask):
        said = ask.messages[-1].content
        if not said.startswith("JUDGE "):
            return Completion(
                text="AFRICA" if ask.seed % 2 else "asia", finish="stop", completion_tokens=1, prompt_tokens=5
            )
        return Completion(text="no" if self.honest and not said.removeprefix("JUDGE ").isupper() else "yes", finish="stop", completion_tokens=1, prompt_tokens=5)  # fmt: skip


def test_a_judge_decides_what_no_checker_does_and_its_error_stands_on_the_card(kitchen):
    """Measured on gold first; one that is no better than always saying the same is refused, and no row is published."""
    (kitchen / "recipe.toml").write_text("judges = [\"judge.toml\"]\n" + RECIPE.replace('checker = "regex"', "").replace('expected = "^(Africa|Asia)$"', ""))  # fmt: skip
    (kitchen / "judge.toml").write_text(JUDGE)
    gold = [{"question": "q", "answer": f"LOUD {i}" if i % 2 else f"quiet {i}", "verdict": "yes" if i % 2 else "no"} for i in range(24)]  # fmt: skip
    (kitchen / "gold.jsonl").write_text("".join(json.dumps(line) + "\n" for line in gold))

    with pytest.raises(UsageError, match="no better than"):
        cook(kitchen, Umpire(honest=False), "deaf")
    assert not (kitchen / "deaf" / "manifest.json").exists()
    made = cook(kitchen, Umpire())
    rows = [row for row in read_rows(kitchen / "corpus") if row["depth"]]

    assert {row["messages"][-1]["content"] for row in rows} == {"AFRICA"}
    assert made.rejected["judge shouts"] > 0
    assert {row["filters"][-1]["name"] for row in rows} == {"shouts"}
    assert "wrong on 0 of 24" in made.judges["shouts"]
    assert "wrong on 0 of 24" in (kitchen / "corpus" / "README.md").read_text()


@pytest.mark.parametrize("names", [("regex",), ("shouts", "shouts")], ids=str)
def test_a_judge_has_a_name_of_its_own(kitchen, names):
    """Called as a checker is, its rows would count as checked; called as another judge is, one error would stand for both."""
    gold = [{"question": "q", "answer": answer, "verdict": verdict} for answer, verdict in (("A", "yes"), ("b", "no"))]
    (kitchen / "gold.jsonl").write_text("".join(json.dumps(line) + "\n" for line in gold))
    for i, name in enumerate(names):
        (kitchen / f"{i}.toml").write_text(JUDGE.replace("shouts", name))
    (kitchen / "recipe.toml").write_text(f"judges = {json.dumps([f'{i}.toml' for i in range(len(names))])}\n" + RECIPE)
    writer = Umpire()

    with pytest.raises(UsageError, match="a judge is called"):
        cook(kitchen, writer)
    assert writer.asked == 0


def test_what_a_judge_said_is_not_asked_again(kitchen):
    """Killed while judging, the same command asks for what is left, and ends with the same bytes."""
    (kitchen / "recipe.toml").write_text("judges = [\"judge.toml\"]\n" + RECIPE.replace('checker = "regex"', "").replace('expected = "^(Africa|Asia)$"', ""))  # fmt: skip
    (kitchen / "judge.toml").write_text(JUDGE)
    gold = [{"question": "q", "answer": f"LOUD {i}" if i % 2 else f"quiet {i}", "verdict": "yes" if i % 2 else "no"} for i in range(24)]  # fmt: skip
    (kitchen / "gold.jsonl").write_text("".join(json.dumps(line) + "\n" for line in gold))
    first = Umpire()
    cook(kitchen, first)
    whole, journal = (kitchen / "corpus" / "manifest.json").read_bytes(), kitchen / "corpus" / "judged.jsonl"
    told = journal.read_bytes()

    assert first.asked == 10 + 24 + told.count(b"\n") * 2 - 24  # answers, gold, and rows that differ, two a line
    for left in (0, len(told) // 2, len(told)):
        journal.write_bytes(told[:left])
        writer = Umpire()
        cook(kitchen, writer)
        assert (kitchen / "corpus" / "manifest.json").read_bytes() == whole
        assert journal.read_bytes() == told
        assert writer.asked == 2 * (told.count(b"\n") - told[:left].count(b"\n"))


def test_a_full_disk_loses_nothing_that_was_finished(bazaar, tmp_path):
    """The run ends with one line and what to type; with room again it goes on, and ends with the bytes of a run with room."""
    seeds = [{"prompt": f"say hello to {name}", "source": "t", "licence": "CC0-1.0"} for name in NAMES] * 6
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(s | {"prompt": f"{s['prompt']} {i}"}) + "\n" for i, s in enumerate(seeds)))  # fmt: skip

    def words(name):
        return ["corpus", "make", tmp_path / "seeds.jsonl", "--out", tmp_path / name, "--max-tokens", "6"]

    assert bazaar("amira", words("whole")) == 0
    size = (tmp_path / "whole" / "journal.jsonl").stat().st_size
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size * 2 // 3, most))
    try:
        code, _, err = bazaar.says("amira", words("cut"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, before)

    assert code == 1
    assert "make room, and type the same again" in err
    assert (tmp_path / "cut" / "journal.jsonl").read_bytes().count(b"\n") >= 1
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert bazaar("amira", words("cut")) == 0
    for name in ("manifest.json", "journal.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
