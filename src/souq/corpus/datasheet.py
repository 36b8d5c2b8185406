"""The datasheet of a corpus (Gebru et al., arXiv 1803.09010, as far as a machine knows the answers), with pictures.

Its head is what Hugging Face reads: licence, and one configuration an edition, so `load_dataset(FOLDER, "kept")` works.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from souq.corpus.edition import EditionInfo
from souq.corpus.row import Row
from souq.text import escape_markdown, words

SHOWN = 12  # bars
CHART = {"js": (), "show_legend": False, "no_prefix": True, "disable_xml_declaration": True, "pretty_print": True}


def datasheet(edition: EditionInfo, rows: Sequence[Row], dumps: Sequence[str]) -> dict[str, bytes]:
    """README.md and its pictures, by path. `rows` are the kept ones, `dumps` the names of all editions."""
    lengths = Counter(1 << (len(words(row.messages[-1].content)) - 1).bit_length() for row in rows)
    answers = Counter(row.messages[-1].content[:40] for row in rows)
    pictures = {
        "answers": _bars("rows, by the answer (the commonest)", _commonest(answers)),
        "lengths": _bars("rows, by words of the answer at most", {str(k): n for k, n in sorted(lengths.items())}),
        "sources": _bars("rows, by source", _commonest(Counter(row.source or "no source" for row in rows))),
    }
    shown = [f"![{name}](datasheet/{name}.svg)" for name in pictures]
    text = "\n".join([*_head(edition, dumps), *_body(edition, rows), *shown])
    return {"README.md": (text + "\n").encode()} | {f"datasheet/{name}.svg": data for name, data in pictures.items()}


def _head(edition: EditionInfo, dumps: Sequence[str]) -> list[str]:
    licence = edition.licence.lower() if " " not in edition.licence else "other"
    configurations = []
    for subset, default in (("kept", ["  default: true"]), ("rejected", [])):
        globs = [f"      - 'dump={dump}/subset={subset}/*.parquet'" for dump in dumps]
        configurations += [
            f"- config_name: {subset}",
            *default,
            "  data_files:",
            "  - split: train",
            "    path:",
            *globs,
        ]
    return ["---", f"license: {licence or 'other'}", "configs:", *configurations, "---"]


def _body(edition: EditionInfo, rows: Sequence[Row]) -> list[str]:
    sources = Counter((row.source, row.source_licence) for row in rows).most_common(SHOWN)
    depths = sorted(Counter(row.depth for row in rows).items())
    changed = f"Since edition {edition.before}: {edition.new:,} new, {edition.dropped:,} dropped."
    return [
        f"# {safe(edition.title or edition.name)}", "",
        f"{edition.rows['kept']:,} rows kept, {edition.rows['rejected']:,} rejected; {edition.tokens:,} tokens of "
        f"answers. Licence: {edition.licence or 'none'}, computed from the teacher's and every source's.", "",
        f"Written by the model that builds to `{edition.teacher}` ({edition.teacher_licence}), "
        f"through {safe(edition.engine)}; recipe `{edition.recipe}`.", "",
        "| where seeds come from | licence | rows |", "|---|---|---|",
        *(f"| {safe(source)} | {safe(licence)} | {count:,} |" for (source, licence), count in sources), "",
        "| ancestry depth (0: people wrote it) | rows |", "|---|---|",
        *(f"| {depth} | {count:,} |" for depth, count in depths), "",
        "| rejected because | rows |", "|---|---|",
        *(f"| {safe(why)} | {count:,} |" for why, count in edition.rejected.items()), "",
        changed if edition.before else "The first edition.", "",
        *(f"{safe(line)}." for line in edition.judges.values()), "",
        "What a machine cannot know is not said here: whom the texts are about, and what they should not be used for.",
        "",
    ]  # fmt: skip


def safe(text: str) -> str:
    """Somebody else's text in a table of Markdown: no markup, no tag for any reader, and not endless."""
    return escape_markdown(html.escape(" ".join(text.split())[:200], quote=False))


def _commonest(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _bars(title: str, counts: Mapping[str, int]) -> bytes:
    """The first counts as a bar chart, the first on top."""
    import pygal

    bars = list(counts.items())[:SHOWN][::-1]
    chart = pygal.HorizontalBar(title=title, height=40 + 28 * max(len(bars), 3), **CHART)
    chart.x_labels = [_printable(name) or "(nothing)" for name, _ in bars]
    chart.add("rows", [count for _, count in bars])
    return drawn(chart)


def _printable(name: str) -> str:
    """What a model says may be no text for XML."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def drawn(chart: Any) -> bytes:
    """A chart as SVG for a page: no script, no declaration."""
    text: str = chart.render()  # titles are escaped in it, so the only script is pygal's own
    return re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL).encode()
