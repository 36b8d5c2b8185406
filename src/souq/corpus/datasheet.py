"""The datasheet of a corpus (Gebru et al., arXiv 1803.09010, as far as a machine knows the answers), with pictures.

Its head is what Hugging Face reads: licence, and one configuration an edition, so `load_dataset(FOLDER, "kept")` works.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from souq.corpus.row import Row
from souq.text import words

SHOWN = 12  # bars


def datasheet(made: Mapping[str, Any], rows: Sequence[Row], dumps: Sequence[str]) -> dict[str, bytes]:
    """README.md and its pictures, by path."""
    lengths = Counter(1 << (len(words(row.messages[-1].content)) - 1).bit_length() for row in rows)
    pictures = {
        "answers": _bars("rows, by the answer (the commonest)", Counter(row.messages[-1].content[:40] for row in rows)),
        "lengths": _bars("rows, by words of the answer at most", {str(k): n for k, n in sorted(lengths.items())}, sort=False),
        "sources": _bars("rows, by source", Counter(row.source or "no source" for row in rows)),
    }  # fmt: skip
    text = "\n".join([*_head(made, dumps), *_body(made, rows), *(f"![{name}](datasheet/{name}.svg)" for name in pictures)])  # fmt: skip
    return {"README.md": (text + "\n").encode()} | {f"datasheet/{name}.svg": data for name, data in pictures.items()}


def _head(made: Mapping[str, Any], dumps: Sequence[str]) -> list[str]:
    one = made["licence"].lower() if " " not in made["licence"] else "other"
    globs = [f"      - 'dump={dump}/subset=kept/*.parquet'" for dump in dumps]
    rejected = [f"      - 'dump={dump}/subset=rejected/*.parquet'" for dump in dumps]
    return [
        "---", f"license: {one or 'other'}", "configs:", "- config_name: kept", "  default: true", "  data_files:",
        "  - split: train", "    path:", *globs, "- config_name: rejected", "  data_files:", "  - split: train", "    path:", *rejected, "---",
    ]  # fmt: skip


def _body(made: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    kept, lost = made["rows"]["kept"], made["rows"]["rejected"]
    sources = Counter((row.source, row.source_licence) for row in rows)
    deep = Counter(row.depth for row in rows)
    return [
        f"# {safe(made['title'] or made['name'])}", "",
        f"{kept:,} rows kept, {lost:,} rejected; {made['tokens']:,} tokens of answers. Licence: {made['licence'] or 'none'}, "
        "computed from the teacher's and every source's.", "",
        f"Written by the model that builds to `{made['teacher']}` ({made['teacher_licence']}), through {safe(made['engine'])}; recipe `{made['recipe']}`.", "",
        "| where seeds come from | licence | rows |", "|---|---|---|",
        *(f"| {safe(source)} | {safe(licence)} | {count:,} |" for (source, licence), count in sources.most_common(SHOWN)), "",
        "| ancestry depth (0: people wrote it) | rows |", "|---|---|", *(f"| {depth} | {count:,} |" for depth, count in sorted(deep.items())), "",
        "| rejected because | rows |", "|---|---|", *(f"| {safe(why)} | {count:,} |" for why, count in made["rejected"].items()), "",
        f"Since edition {made['before']}: {made['new']:,} new, {made['dropped']:,} dropped." if made["before"] else "The first edition.", "",
        *(f"{safe(line)}." for line in made["judges"].values()), "",
        "What a machine cannot know is not said here: whom the texts are about, and what they should not be used for.", "",
    ]  # fmt: skip


def safe(text: str) -> str:
    """Text in a table of Markdown: somebody else's, so nothing in it is markup."""
    plain = " ".join(text.split())[:200].translate({ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"})
    return "".join(f"\\{letter}" if letter in "|[]()*_`#\\!" else letter for letter in plain)


def _bars(title: str, counts: Mapping[str, int], *, sort: bool = True) -> bytes:
    import pygal

    told = (
        sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:SHOWN] if sort else list(counts.items())[:SHOWN]
    )
    chart = pygal.HorizontalBar(title=title, js=(), show_legend=False, no_prefix=True, disable_xml_declaration=True, pretty_print=True, height=40 + 28 * max(len(told), 3))  # fmt: skip
    # What a model says may be no text for XML.
    chart.x_labels = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name) or "(nothing)" for name, _ in reversed(told)]  # fmt: skip
    chart.add("rows", [count for _, count in reversed(told)])
    return drawn(chart)


def drawn(chart: Any) -> bytes:
    """A chart as SVG for a page: no script, no declaration."""
    text: str = chart.render()  # titles are escaped in it, so the only script is pygal's own
    return re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL).encode()
