"""The docs are true: their policies are read, their commands exist and run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from souq.evals.eval import Kind
from souq.governance import read_policy
from souq.governance.explain import explain
from tests.test_house import FLOOR
from tests.test_readme import missing_words

DOCS = Path(__file__).parent.parent / "docs"


def blocks(kind):
    return [(path.name, text) for path in sorted(DOCS.rglob("*.md")) for text in re.findall(rf"```{kind}\n(.*?)```", path.read_text(), re.S)]  # fmt: skip


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_policy_in_the_docs_can_work(page, text):
    if "[[person]]" in text:
        assert explain(read_policy(text))


def commands():
    return sorted({line.split("#")[0].strip() for _, text in blocks("sh") for line in text.splitlines() if line.startswith("souq ")})  # fmt: skip


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_docs_exists(line):
    assert missing_words(line) == []


def test_no_page_shows_where_somebody_s_files_lie():
    """What a reader types or sees works from any folder: no home, no scratch folder, no virtual environment of ours."""
    root = DOCS.parent
    pages = [root / "README.md", root / "CHANGELOG.md", *(p for f in ("docs", "decisions", "bench", "examples") for p in (root / f).rglob("*"))]  # fmt: skip
    place = re.compile(r"(?<![\w.…])/(?:root|home|Users|work|tmp|opt|mnt)/|\.venv/|site-packages")
    texts = {page: page.read_text() for page in pages if page.suffix in (".md", ".txt", ".py", ".toml", ".svg", ".yml")}
    assert len(texts) > 40
    assert {f"{page.relative_to(root)}: {line}" for page, text in texts.items() for line in text.splitlines() if place.search(line)} == set()  # fmt: skip


def test_every_file_that_a_page_names_is_there():
    """`weights/store.py` below src/souq, `bench/merge.py` from the top; a bare name is that of one of our modules."""
    root = DOCS.parent
    pages = [root / "README.md", *DOCS.glob("*.md"), *(root / "decisions").glob("*.md")]
    named = {(page.name, name) for page in pages for name in re.findall(r"(?<![\w/.])[a-z_]+(?:/[a-z_]+)*\.py\b", page.read_text())}  # fmt: skip
    modules = {path.name for path in (root / "src" / "souq").rglob("*.py")}
    lost = {(page, name) for page, name in named if not any((root / below / name).is_file() for below in ("", "src/souq"))}  # fmt: skip

    assert len(named) > 50
    assert {(page, name) for page, name in lost if "/" in name or name not in modules} == set()


def test_the_map_shows_every_room_on_its_floor():
    """docs/architecture.md's map names each folder and file at the top of src/souq, in the order in which test_house has them."""
    block = re.search(r"## The rooms.*?```text\n(.*?)```", (DOCS / "architecture.md").read_text(), re.S).group(1)
    shown = [room.strip(" ,/") for line in block.splitlines() if line[0] != " " for room in line[:24].split()]

    assert set(shown) == FLOOR.keys() - {"__main__"}
    assert [FLOOR[room] for room in shown] == sorted(FLOOR[room] for room in shown)


def test_a_record_is_verified_by_hand(bazaar, tmp_path):
    """docs/verifying.md's commands for jq, base64 and ssh-keygen, word for word but for the record's name."""
    script = next(text for page, text in blocks("sh") if page == "verifying.md" and "payload.sig" in text)
    clone = bazaar.actors["amira"].clone
    assert bazaar("amira", "fetch") == 0
    record = next((clone / "contributions").glob("*/records/merge.json"))
    script = re.sub(r"record=\S+", f"record={record}", script)

    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=clone, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert 'Good "souq.merge.v1" signature' in done.stdout


def script(page, having):
    return next(text for name, text in blocks("sh") if name == page and having in text)


def typed(bazaar, who, text):
    """A script of the docs in somebody's clone: its files by a real shell, then its souq lines, word for word."""
    files, first, rest = text.partition("\nsouq ") if not text.startswith("souq ") else ("", "", f"\n{text}")
    subprocess.run(["bash", "-euo", "pipefail", "-c", files], cwd=bazaar.actors[who].clone, check=True)
    told = ""
    for line in f"{first}{rest}".strip().splitlines():
        code, out, err = bazaar.says(who, shlex.split(line.removeprefix("souq ")))
        assert code == 0, f"{line}: {err}"
        told += out
    return told


def test_an_eval_is_written_offered_and_scored(bazaar):
    """docs/evals.md's folder passes the checks, lands, and is scored; its commands run word for word."""
    assert "files" in typed(bazaar, "chen", script("evals.md", "cases.jsonl"))
    bazaar.land(2)
    assert bazaar("chen", "fetch") == 0

    told = typed(bazaar, "chen", script("evals.md", "--again"))

    assert told.count("sums") >= 3
    assert set(bazaar.main("chen").evals) == {"guard", "greet", "count", "sums"}


def test_every_checker_and_engine_stands_in_the_docs():
    """docs/evals.md's tables name all there are, and no other."""
    from souq.evals.checkers import CHECKERS
    from souq.lab.engines import KNOWN

    page = (DOCS / "evals.md").read_text()
    tables = {rows[0].strip("| ").split(" |")[0]: {re.match(r"\| `([^`:]+)", row)[1] for row in rows[2:]} for rows in (t.splitlines() for t in re.findall(r"(?:^\|.*\n)+", page, re.M))}  # fmt: skip

    assert tables["`checker`"] == set(CHECKERS)
    assert tables["`--engine`"] == set(KNOWN)
    assert tables["`kind`"] == set(get_args(Kind))


def test_the_corpus_page_names_all_there_is(tmp_path):
    """docs/corpus.md: its recipe is read, and its tables name every kind of seed and every loss."""
    from souq.corpus.recipe import FILTERS, read_recipe
    from souq.corpus.recipe import Kind as Seeds
    from souq.lab.student_config import Loss, Targets

    page = (DOCS / "corpus.md").read_text()
    (tmp_path / "geography.toml").write_text(next(text for name, text in blocks("toml") if name == "corpus.md"))
    recipe = read_recipe(tmp_path / "geography.toml")
    tables = {rows[0].strip("| ").split(" |")[0]: {re.match(r"\| `([^`:]+)", row)[1] for row in rows[2:]} for rows in (t.splitlines() for t in re.findall(r"(?:^\|.*\n)+", page, re.M))}  # fmt: skip

    assert tables["`kind`"] == set(get_args(Seeds))
    assert tables["`loss`"] == set(get_args(Loss))
    assert all(f"`{name}`" in page for name in get_args(Targets))
    assert all(name in page for name in FILTERS)
    assert recipe.student is not None


def test_what_trainers_md_says_of_peft_runs(bazaar, monkeypatch):
    """Its lines, with a loop of one step, leave what `souq delta make` takes."""
    code = next(text for page, text in blocks("python") if page == "trainers.md" and "get_peft_model" in text)
    place, loop = bazaar.actors["chen"].clone.parent, "# ... your loop ..."
    assert loop in code
    assert bazaar("chen", "export --base ../base") == 0
    monkeypatch.chdir(place)
    exec(code.replace(loop, "[each.data.add_(0.01) for each in net.parameters() if each.requires_grad]"), {})

    assert bazaar("chen", "delta make --from ../adapter --out ../peft.delta") == 0
