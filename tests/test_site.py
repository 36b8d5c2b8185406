"""The docs build as a site in which no link is dead and nothing is fetched from elsewhere."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess

import pytest
import yaml

from tests.wheels import ROOT, Environment


def test_every_page_of_the_docs_has_its_place():
    """mkdocs.yml lists each page of docs/, and no page that is not there."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/.\-]+\.md", str(settings["nav"])))
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}

    assert pages <= listed
    assert {page for page in listed if not (ROOT / page).is_file()} == set()


def test_every_link_leads_somewhere():
    """From page to page, to scripts and to folders: what a page names is in the repository."""
    site = runpy.run_path(str(ROOT / "docs" / "pages.py"))
    lost = {
        f"{page}: {link}"
        for page in site["pages"]()
        for link in site["_LINK"].findall(re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(), flags=re.S))
        if not link.startswith(("http:", "https:", "mailto:")) and not (ROOT / page.parent / link).exists()
    }

    assert lost == set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_builds_and_fetches_nothing(tmp_path):
    """A strict build; no script, style, font or picture comes from another host."""
    made = Environment(tmp_path / "mkdocs", "mkdocs-material>=9.5,<10")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    runpy.run_path(str(ROOT / "docs" / "pages.py"))["lay_out"](tmp_path / "build" / "pages")
    words = [made.bin / "mkdocs", "build", "--strict", "--quiet"]

    done = subprocess.run(
        words, cwd=tmp_path, env=made.variables(tmp_path), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    site = tmp_path / "build" / "site"
    texts = [path.read_text() for path in site.rglob("*.html")]
    assert len(texts) > 40
    fetched = re.compile(
        r"<(?:script|img|iframe|source)[^>]* src=\"https?:|<link[^>]*stylesheet[^>]*https?:|url\(https?:"
    )
    assert [match[0] for text in texts for match in fetched.finditer(text)] == []
    assert (site / "README.html").is_file() or (site / "index.html").is_file()
