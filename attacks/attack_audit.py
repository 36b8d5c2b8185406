"""A card and a table that are meant for whoever audits them: scripts, escapes, bombs, links out of the folder."""

import pytest

from souq.audit.evidence import audit
from souq.audit.index import MAX_BYTES, read_ratings
from souq.audit.page import audit_html, badge_svg
from souq.audit.place import MAX_TEXT
from souq.cli import run
from souq.errors import Hostile

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "evil<img src=x>"
    made.mkdir()
    return made


def test_a_card_cannot_write_the_page(folder):
    """Names, licences and configurations are text on the page, and nothing may run or be fetched there."""
    (folder / "README.md").write_text(f"---\nlicense: '{EVIL}'\n---\n# {EVIL}\n")
    (folder / "config.json").write_text('{"architectures": ["<script>alert(2)</script>"], "model_type": "x"}')

    page = audit_html(found := audit(folder, today="2026-11-25"))

    assert "<script" not in page
    assert "<img" not in page + badge_svg(found)
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("head", ["a: &a [x]\nb: *a", "a: " + "[" * 50_000, "license: !!python/name:os.system x", "a: [", "license: [[mit]]", "license: {a: b}"])  # fmt: skip
def test_a_card_that_is_a_bomb_says_nothing(folder, head):
    (folder / "README.md").write_text(f"---\n{head}\n---\n")

    assert next(c for c in audit(folder, today="2026-11-25").cells if c.name == "license").claimed == "unknown"


def test_a_terminal_is_not_steered(folder, capfd):
    (folder / "README.md").write_text('---\nlicense: "a\\e[2Jb"\n---\n')
    (folder / "paper\x1b[2J.md").write_text("x")

    assert run(["audit", str(folder)]) == 0
    assert "\x1b" not in capfd.readouterr().out


def test_what_a_link_points_at_is_not_read(folder, tmp_path):
    """Nor are files larger than any text read whole."""
    (tmp_path / "secret").write_text("Apache License\nVersion 2.0, January 2004")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    (folder / "README.md").write_bytes(b"a" * (MAX_TEXT + 1))

    cell = next(c for c in audit(folder, today="2026-11-25").cells if c.name == "license")

    assert (cell.claimed, cell.evidence) == ("unknown", ())


def test_terabytes_that_are_nowhere(folder):
    """Four terabytes of holes are a word to make, and took hours and twenty gigabytes to read."""
    with (folder / "model.gguf").open("wb") as file:
        file.truncate(4 << 40)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")

    found = audit(folder, today="2026-11-25")

    assert {each.digest for cell in found.cells for each in cell.evidence if each.path == "model.gguf"} == {""}


def test_a_huge_table(tmp_path):
    with pytest.raises(Hostile, match="the most is"):
        read_ratings(b"a" * (MAX_BYTES + 1), "t.csv")
    (tmp_path / "t.csv").write_bytes(b"model,dimension,rating\n" + b"A,api,open\n" * (MAX_BYTES // 10))
    assert run(["audit", "table", str(tmp_path / "t.csv"), "--svg", str(tmp_path / "o.svg")]) == 1
    assert not (tmp_path / "o.svg").exists()
    with pytest.raises(Hostile, match="line 2"):
        read_ratings(b'model,dimension,rating\n"' + b"a" * 200_000 + b'",api,open\n', "t.csv")
