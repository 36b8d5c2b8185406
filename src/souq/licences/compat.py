"""May this become part of that? A verdict on every thing a model is made of, the deciding clause, and what is owed.

What comes of a lineage is its worst cell; what is owed is the union. What nobody looked into is for a lawyer to see
(`review`), never a yes. It reads no files: lineage.py does.

    rows = Input("data", "rows", "CC-BY-SA-4.0")
    judge([Input("base", "SmolLM2", "Apache-2.0"), rows], "Apache-2.0").verdict    # "review": it may reach the model
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from souq.licences.table import Duty, Licence, Limit, alternatives, find
from souq.records import Record

Verdict = Literal["ok", "oblige", "review", "block"]
Relation = Literal["base", "merge", "teacher", "data"]
RANK: dict[Verdict, int] = {"ok": 0, "oblige": 1, "review": 2, "block": 3}

# Whose changed copies may be under another licence, and where it says so.
ONWARD = {
    ("CC-BY-SA-4.0", "GPL-3.0-only"): "3(b)(1) with CC's list of compatible licences, one way",
    ("CC-BY-SA-4.0", "GPL-3.0-or-later"): "3(b)(1) with CC's list of compatible licences, one way",
    ("CC-BY-SA-3.0", "CC-BY-SA-4.0"): "4(b): a later version",
    ("GPL-2.0-or-later", "GPL-2.0-only"): "9", ("GPL-2.0-or-later", "GPL-3.0-only"): "9: a later version",
    ("GPL-2.0-or-later", "GPL-3.0-or-later"): "9: a later version", ("GPL-3.0-or-later", "GPL-3.0-only"): "14",
    ("GPL-3.0-only", "AGPL-3.0-only"): "13", ("GPL-3.0-or-later", "AGPL-3.0-only"): "13",
    ("GPL-3.0-or-later", "AGPL-3.0-or-later"): "13", ("AGPL-3.0-or-later", "AGPL-3.0-only"): "14",
    ("MPL-2.0", "GPL-3.0-only"): "3.3", ("MPL-2.0", "GPL-3.0-or-later"): "3.3", ("MPL-2.0", "AGPL-3.0-only"): "3.3",
}  # fmt: skip
CLOSED = ("share-alike", "copyleft")  # they let nobody add a limit
LIMITING = ("use-limits", "research", "noncommercial")


class Input(Record, frozen=True):
    """Something a model is made of, what it was used as, and the licence expression it is under."""

    relation: Relation
    name: str
    licence: str


class Cell(Record, frozen=True):
    """The verdict on taking something under one licence into a model under another, and the clause it rests on."""

    verdict: Verdict
    clause: str
    because: str


class Assessment(Record, frozen=True):
    """What a lineage comes to: its worst cell decides."""

    verdict: Verdict
    cells: tuple[tuple[Input, Cell], ...]
    duties: tuple[tuple[Licence, Duty], ...] = ()
    limits: tuple[tuple[Licence, Limit], ...] = ()


def judge(inputs: Sequence[Input], outbound: str) -> Assessment:
    """Whether a model made of `inputs` may be released under `outbound`, and what is then owed."""
    cells = tuple((item, into(item, outbound)) for item in inputs)
    own = [(Input("base", "the release itself", outbound), at_odds(way)) for way in alternatives(outbound)]
    cells += tuple((item, cell) for item, cell in own if cell is not None)
    worst = max((cell for _, cell in cells), key=_rank, default=Cell("ok", "", "of nothing"))
    named = [(item.relation, name) for item in inputs for way in alternatives(item.licence) for name in way]
    known = [(relation, licence) for relation, name in named if (licence := find(name))]
    duties = dict.fromkeys((licence, duty) for relation, licence in known for duty in owed(licence, relation))
    limits = dict.fromkeys((row, limit) for relation, row in known if relation != "teacher" for limit in row.limits)
    return Assessment(worst.verdict, cells, tuple(duties), tuple(limits))


def owed(licence: Licence, relation: str) -> tuple[Duty, ...]:
    """What a licence asks of whoever releases a model made under it; of a student only what follows outputs."""
    if relation == "teacher" and licence.outputs != "derivative":
        return tuple(duty for duty in licence.duties if duty.of == "both")
    return licence.duties


def into(item: Input, outbound: str) -> Cell:
    """An input that offers a choice is taken by its best way; a release that offers one must hold in every way."""
    return max((_best_way(item, out) for out in alternatives(outbound)), key=_rank)


def _best_way(item: Input, outbound: Sequence[str]) -> Cell:
    """The best of an input's ways, each as good as the worst of its licences."""
    ways = [[_named_into(name, outbound, item.relation) for name in way] for way in alternatives(item.licence)]
    return min((max(cells, key=_rank) for cells in ways), key=_rank)


def _rank(cell: Cell) -> int:
    return RANK[cell.verdict]


def _named_into(name: str, outbound: Sequence[str], relation: Relation) -> Cell:
    licence, outs = find(name), [find(out) for out in outbound]
    if licence is None:
        return Cell("review", "", f"nobody looked into {name!r}")
    if unknown := next((out for out, known in zip(outbound, outs, strict=True) if known is None), None):
        return Cell("review", "", f"nobody looked into {unknown!r}")
    return cell(licence, [out for out in outs if out], relation)


def cell(inbound: Licence, outs: Sequence[Licence], relation: Relation) -> Cell:
    """Whether something under a known licence may enter a model under known ones that all hold."""
    rule = {"teacher": _from_outputs, "data": _from_rows}.get(relation)
    verdict = rule(inbound, outs) if rule else _weights(inbound, outs, merged=relation == "merge")
    if any(licence.read == "report" for licence in (inbound, *outs)) and _rank(verdict) < RANK["review"]:
        return Cell("review", verdict.clause, "its text was not read here, only what others say of it")
    return verdict


def at_odds(outbound: Sequence[str]) -> Cell | None:
    """The refusal of a release whose own licences cannot hold together; None where they can."""
    known = [licence for name in outbound if (licence := find(name))]
    closed = next((licence for licence in known if licence.kind in CLOSED), None)
    limiting = next((licence for licence in known if licence.kind in LIMITING), None)
    if closed is None or limiting is None:
        return None
    return Cell("block", closed.onward, f"{closed.id} lets nobody add limits, and {limiting.id} has some")


def _obliges(licence: Licence, relation: Relation = "base", clause: str = "") -> Cell:
    if duties := owed(licence, relation):
        clauses = ", ".join(dict.fromkeys(duty.clause for duty in duties))
        return Cell("oblige", clause or clauses, f"{licence.id}: notices and duties go along")
    allowing = licence.outputs_clause if relation == "teacher" else licence.onward
    return Cell("ok", clause or allowing, "nothing is asked")


def _weights(licence: Licence, outs: Sequence[Licence], *, merged: bool = False) -> Cell:
    held = {out.id for out in outs}
    other = next((out for out in outs if out != licence and out.kind in LIMITING), None)
    if licence.kind == "no-derivatives":
        return Cell("block", licence.onward, "no changed copy may be shared")
    if merged and licence.outputs == "family" and (licence.id not in held or other is not None):
        return Cell(
            "block", licence.outputs_clause, f"{licence.title}: its weights may not improve another family's model"
        )
    if licence.id in held:
        return _obliges(licence)
    if licence.kind in ("free", "permissive", "attribution"):
        return _open(licence, outs)
    if clause := next((ONWARD[licence.id, out.id] for out in outs if (licence.id, out.id) in ONWARD), None):
        return _obliges(licence, clause=clause)
    return _carried_along(licence, outs)


def _open(licence: Licence, outs: Sequence[Licence]) -> Cell:
    for out in outs:
        if licence.id == "Apache-2.0" and out.id == "GPL-2.0-only":
            return Cell("block", "3; GPL-2.0 6", "its patent terms are limits that GPL-2.0 forbids to add")
        if licence.id == "OpenMDW-1.0" and out.kind == "copyleft":
            because = "whether its end on a patent suit is a further restriction nobody has said"
            return Cell("review", "para 5; GPL-3.0 7, 10", because)
    return _obliges(licence)


def _carried_along(licence: Licence, outs: Sequence[Licence]) -> Cell:
    """A licence whose terms must go along, where the release does not name it."""
    closed = next((out for out in outs if out.kind in CLOSED), None)
    if licence.kind in CLOSED or licence.same:
        return Cell("block", licence.onward, f"a changed copy stays under {licence.id}")
    if closed is not None:
        return Cell("block", closed.onward, f"{closed.id} lets nobody add limits, and {licence.id} has some")
    limits = [out for out in outs if out.kind in LIMITING]
    if licence.kind == "noncommercial" and any(out.kind == "noncommercial" for out in limits):
        return _obliges(licence)
    nobody_sells = any(out.kind in ("noncommercial", "research") for out in limits)
    if limits and (licence.kind == "use-limits" or nobody_sells):
        because = f"both sets of terms hold; say `{licence.id} AND {limits[0].id}`, and have it read"
        return Cell("review", licence.onward, because)
    because = "its limits" if licence.kind == "use-limits" else "its bar to commercial use"
    return Cell("block", licence.onward, f"{licence.id}: {because} must go along, and {outs[0].id} alone drops that")


def _from_outputs(licence: Licence, outs: Sequence[Licence]) -> Cell:
    """A model trained on outputs of one under this licence."""
    if licence.outputs == "derivative":
        return _weights(licence, outs)
    if any(out.id == licence.id for out in outs) and licence.kind != "no-derivatives":
        other = next((out for out in outs if out.id != licence.id and out.kind in LIMITING), None)
        if licence.outputs != "family" or other is None:
            return _obliges(licence, "teacher")
    if licence.outputs == "family":
        return Cell("block", licence.outputs_clause, f"{licence.title}: outputs may not improve another family's model")
    if licence.outputs == "research":
        sold = not any(out.kind in ("noncommercial", "research") for out in outs)
        return Cell("block" if sold else "review", licence.outputs_clause, "outputs are for research only")
    if licence.outputs == "policy":
        because = "outputs may be used for what its policy allows, and the policy may change"
        return Cell("review", licence.outputs_clause, because)
    if licence.outputs == "unsaid" and licence.kind not in ("free", "permissive", "attribution"):
        return Cell("review", licence.outputs_clause, "nothing is said of outputs, and they may be adapted material")
    return _obliges(licence, "teacher")


def _from_rows(licence: Licence, outs: Sequence[Licence]) -> Cell:
    """Rows it is trained on. Whether terms of data reach weights is unsettled: where they would forbid, people look."""
    if licence.kind in ("free", "permissive", "attribution", "noncommercial", "no-derivatives"):
        return _weights(licence, outs)
    if licence.kind in ("use-limits", "research"):
        as_outputs = _from_outputs(licence, outs)
        if _rank(as_outputs) >= RANK["review"]:
            return as_outputs
        return Cell("review", licence.outputs_clause, f"rows under {licence.id}: say whether the model wrote them")
    as_weights = _weights(licence, outs)
    if as_weights.verdict != "block":
        return as_weights
    if any(out.kind in (*CLOSED, "noncommercial", "research") for out in outs):
        return as_weights
    return Cell("review", licence.onward, f"{licence.id}: changed copies stay under it, which may reach the model")
