"""May this become part of that? A verdict for every thing a model is made of, the clause that decides, and what is owed.

What comes of a lineage is its worst cell; what is owed is the union. What nobody looked into is for a lawyer to see
(`review`), never a yes. It reads no files: lineage.py does.

    found = judge([Input("base", "SmolLM2", "Apache-2.0"), Input("data", "rows", "CC-BY-SA-4.0")], "Apache-2.0")
    found.verdict    # "review": share-alike may reach the model
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
    """Something a model is made of, how, and the expression it is under."""

    relation: Relation
    name: str
    licence: str


class Cell(Record, frozen=True):
    """One licence into another, by one relation."""

    verdict: Verdict
    clause: str
    because: str


class Found(Record, frozen=True):
    """What a lineage comes to: its worst cell decides."""

    verdict: Verdict
    cells: tuple[tuple[Input, Cell], ...]
    duties: tuple[tuple[Licence, Duty], ...] = ()
    limits: tuple[tuple[Licence, Limit], ...] = ()


def judge(inputs: Sequence[Input], outbound: str) -> Found:
    """All of `inputs` released under `outbound`."""
    cells = tuple((one, into(one, outbound)) for one in inputs)
    own = [(Input("base", "the release itself", outbound), at_odds(way)) for way in alternatives(outbound)]
    cells += tuple((one, cell) for one, cell in own if cell is not None)
    worst = max((cell for _, cell in cells), key=_rank, default=Cell("ok", "", "of nothing"))
    known = [(relation, one) for relation, name in _named(inputs) if (one := find(name))]
    duties = dict.fromkeys((one, duty) for relation, one in known for duty in owed(one, relation))
    limits = dict.fromkeys((one, limit) for relation, one in known if relation != "teacher" for limit in one.limits)
    return Found(worst.verdict, cells, tuple(duties), tuple(limits))


def _named(inputs: Sequence[Input]) -> list[tuple[str, str]]:
    return [(one.relation, name) for one in inputs for way in alternatives(one.licence) for name in way]


def owed(one: Licence, relation: str) -> tuple[Duty, ...]:
    """What it asks of whoever releases a model made of it; of a student only what follows outputs."""
    if relation == "teacher" and one.outputs != "derivative":
        return tuple(duty for duty in one.duties if duty.of == "both")
    return one.duties


def into(one: Input, outbound: str) -> Cell:
    """An input that offers a choice is taken by its best way; a release that offers one must hold in every way."""
    found = [min((_all(way, out, one.relation) for way in alternatives(one.licence)), key=_rank) for out in alternatives(outbound)]  # fmt: skip
    return max(found, key=_rank)


def _rank(cell: Cell) -> int:
    return RANK[cell.verdict]


def _all(names: Sequence[str], outbound: Sequence[str], relation: Relation) -> Cell:
    return max((_one(name, outbound, relation) for name in names), key=_rank)


def _one(name: str, outbound: Sequence[str], relation: Relation) -> Cell:
    one, outs = find(name), [find(out) for out in outbound]
    if one is None:
        return Cell("review", "", f"nobody looked into {name!r}")
    if unknown := next((out for out, known in zip(outbound, outs, strict=True) if known is None), None):
        return Cell("review", "", f"nobody looked into {unknown!r}")
    return cell(one, [out for out in outs if out], relation)


def cell(one: Licence, outs: Sequence[Licence], relation: Relation) -> Cell:
    """A known licence into known ones that all hold."""
    rule = {"teacher": _taught, "data": _data}.get(relation)
    found = rule(one, outs) if rule else _weights(one, outs, merged=relation == "merge")
    if any(licence.read == "report" for licence in (one, *outs)) and _rank(found) < RANK["review"]:
        return Cell("review", found.clause, "its text was not read here, only what others say of it")
    return found


def at_odds(outbound: Sequence[str]) -> Cell | None:
    """Terms of one release that cannot hold together."""
    known = [one for name in outbound if (one := find(name))]
    closed = next((one for one in known if one.kind in CLOSED), None)
    limiting = next((one for one in known if one.kind in LIMITING), None)
    if closed is None or limiting is None:
        return None
    return Cell("block", closed.onward, f"{closed.id} lets nobody add limits, and {limiting.id} has some")


def _asks(one: Licence, relation: Relation = "base", clause: str = "") -> Cell:
    duties = owed(one, relation)
    if not duties:
        return Cell("ok", clause or one.outputs_clause if relation == "teacher" else clause or one.onward, "nothing is asked")  # fmt: skip
    return Cell("oblige", clause or ", ".join(dict.fromkeys(duty.clause for duty in duties)), f"{one.id}: notices and duties go along")  # fmt: skip


def _weights(one: Licence, outs: Sequence[Licence], *, merged: bool = False) -> Cell:
    held = {out.id for out in outs}
    other = next((out for out in outs if out != one and out.kind in LIMITING), None)
    if one.kind == "no-derivatives":
        return Cell("block", one.onward, "no changed copy may be shared")
    if merged and one.outputs == "family" and (one.id not in held or other is not None):
        return Cell("block", one.outputs_clause, f"{one.title}: its weights may not improve another family's model")
    if one.id in held:
        return _asks(one)
    if one.kind in ("free", "permissive", "attribution"):
        return _open(one, outs)
    if clause := next((ONWARD[one.id, out.id] for out in outs if (one.id, out.id) in ONWARD), None):
        return _asks(one, clause=clause)
    return _kept(one, outs)


def _open(one: Licence, outs: Sequence[Licence]) -> Cell:
    for out in outs:
        if one.id == "Apache-2.0" and out.id == "GPL-2.0-only":
            return Cell("block", "3; GPL-2.0 6", "its patent terms are limits that GPL-2.0 forbids to add")
        if one.id == "OpenMDW-1.0" and out.kind == "copyleft":
            return Cell("review", "para 5; GPL-3.0 7, 10", "whether its end on a patent suit is a further restriction nobody has said")  # fmt: skip
    return _asks(one)


def _kept(one: Licence, outs: Sequence[Licence]) -> Cell:
    """A licence whose terms must go along, where the release does not name it."""
    closed = next((out for out in outs if out.kind in CLOSED), None)
    if one.kind in CLOSED or one.same:
        return Cell("block", one.onward, f"a changed copy stays under {one.id}")
    if closed is not None:
        return Cell("block", closed.onward, f"{closed.id} lets nobody add limits, and {one.id} has some")
    limits = [out for out in outs if out.kind in LIMITING]
    if one.kind == "noncommercial" and any(out.kind == "noncommercial" for out in limits):
        return _asks(one)
    nobody_sells = any(out.kind in ("noncommercial", "research") for out in limits)
    if limits and (one.kind == "use-limits" or nobody_sells):
        return Cell(
            "review", one.onward, f"both sets of terms hold; say `{one.id} AND {limits[0].id}`, and have it read"
        )
    because = "its limits" if one.kind == "use-limits" else "its bar to commercial use"
    return Cell("block", one.onward, f"{one.id}: {because} must go along, and {outs[0].id} alone drops that")


def _taught(one: Licence, outs: Sequence[Licence]) -> Cell:
    """A student of its outputs."""
    if one.outputs == "derivative":
        return _weights(one, outs)
    if any(out.id == one.id for out in outs) and one.kind != "no-derivatives":
        other = next((out for out in outs if out.id != one.id and out.kind in LIMITING), None)
        if one.outputs != "family" or other is None:
            return _asks(one, "teacher")
    if one.outputs == "family":
        return Cell("block", one.outputs_clause, f"{one.title}: outputs may not improve another family's model")
    if one.outputs == "research":
        sold = not any(out.kind in ("noncommercial", "research") for out in outs)
        return Cell("block" if sold else "review", one.outputs_clause, "outputs are for research only")
    if one.outputs == "policy":
        return Cell("review", one.outputs_clause, "outputs may be used for what its policy allows, and the policy may change")  # fmt: skip
    if one.outputs == "unsaid" and one.kind not in ("free", "permissive", "attribution"):
        return Cell("review", one.outputs_clause, "nothing is said of outputs, and they may be adapted material")
    return _asks(one, "teacher")


def _data(one: Licence, outs: Sequence[Licence]) -> Cell:
    """Rows it is trained on. Whether terms of data reach weights is unsettled: where they would forbid, people look."""
    if one.kind in ("free", "permissive", "attribution", "noncommercial", "no-derivatives"):
        return _weights(one, outs)
    if one.kind in ("use-limits", "research"):
        told = _taught(one, outs)
        if _rank(told) >= RANK["review"]:
            return told
        return Cell("review", one.outputs_clause, f"rows under {one.id}: say whether the model wrote them")
    found = _weights(one, outs)
    if found.verdict != "block":
        return found
    if any(out.kind in (*CLOSED, "noncommercial", "research") for out in outs):
        return found
    return Cell("review", one.onward, f"{one.id}: changed copies stay under it, which may reach the model")
