"""The Model Openness Framework (White et al., arXiv 2403.13784): seventeen components, three classes.

A component counts when it is there and under an open licence fit for its type. What is there is kept apart from what is
licensed: `absent`, `unlicensed` and `not open` are three different things to mend. A component's licence is its own,
else its type's, else the distribution's, else there is none.

    >>> judge("A", {"Model card": Component(True, "MIT")}).best
    0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from souq.audit.index import Line, lines_of, one_of
from souq.errors import Hostile, nearest
from souq.records import Record

RUBRIC = "model-openness-framework 1.0"
Kind = Literal["code", "data", "document"]
State = Literal["open", "not open", "unlicensed", "absent"]
CLASSES = {3: "III open model", 2: "II open tooling", 1: "I open science", 0: "none"}


class Part(NamedTuple):
    """One of the seventeen: the class it belongs to, and whether that class asks for it."""

    kind: Kind
    of: int
    required: bool


PARTS: dict[str, Part] = {
    "Model architecture": Part("code", 3, True),
    "Model parameters (Final)": Part("data", 3, True),
    "Technical report": Part("document", 3, True),
    "Evaluation results": Part("document", 3, True),
    "Model card": Part("document", 3, True),
    "Data card": Part("document", 3, True),
    "Sample model outputs": Part("document", 3, False),
    "Training code": Part("code", 2, True),
    "Inference code": Part("code", 2, True),
    "Evaluation code": Part("code", 2, True),
    "Evaluation data": Part("data", 2, True),
    "Supporting libraries and tools": Part("code", 2, False),
    "Datasets": Part("data", 1, True),
    "Data preprocessing code": Part("code", 1, True),
    "Model parameters (Intermediate)": Part("data", 1, True),
    "Research paper": Part("document", 1, True),
    "Model metadata": Part("data", 1, False),
}
# A paper says what a report would.
STANDS_IN = {"Technical report": "Research paper"}
# SPDX names with the OSI's approval, as SPDX's list marks them (spdx.org/licenses, isOsiApproved).
_OSI = """
    0BSD AAL AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later APL-1.0 APSL-2.0 Apache-1.1 Apache-2.0 Artistic-1.0
    Artistic-2.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-LBNL BSL-1.0 BlueOak-1.0.0
    CAL-1.0 CATOSL-1.1 CDDL-1.0 CECILL-2.1 CERN-OHL-P-2.0 CERN-OHL-S-2.0 CERN-OHL-W-2.0 CNRI-Python CPAL-1.0 CPL-1.0
    CUA-OPL-1.0 ECL-1.0 ECL-2.0 EFL-1.0 EFL-2.0 EPL-1.0 EPL-2.0 EUDatagrid EUPL-1.1 EUPL-1.2 Entessa Fair
    Frameworx-1.0 GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later HPND ICU IPA IPL-1.0
    ISC Intel JAM LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only
    LGPL-3.0-or-later LPL-1.0 LPL-1.02 LPPL-1.3c MIT MIT-0 MPL-1.0 MPL-1.1 MPL-2.0 MS-PL MS-RL MirOS Motosoto
    MulanPSL-2.0 Multics NASA-1.3 NCSA NGPL NPOSL-3.0 NTP Naumen Nokia OCLC-2.0 OFL-1.1 OGTSL OLDAP-2.8 OLFL-1.3
    OSET-PL-2.1 OSL-1.0 OSL-2.1 OSL-3.0 PHP-3.0 PHP-3.01 PostgreSQL Python-2.0 QPL-1.0 RPL-1.1 RPL-1.5 RPSL-1.0
    RSCPL SISSL SPL-1.0 SimPL-2.0 Sleepycat UCL-1.0 UPL-1.0 Unicode-3.0 Unicode-DFS-2016 Unlicense VSL-1.0 W3C
    Watcom-1.0 Xnet ZPL-2.0 ZPL-2.1 Zlib
"""
_DATA = """
    CC0-1.0 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0
    ODC-By-1.0 ODbL-1.0 PDDL-1.0
"""
_DOCUMENTS = "CC0-1.0 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 GFDL-1.3-only GFDL-1.3-or-later"
OSI, DATA, DOCUMENTS = (frozenset(names.split()) for names in (_OSI, _DATA, _DOCUMENTS))
# OpenMDW covers every type at once; an OSI licence on data or documents is open too, if an odd fit.
FIT: dict[Kind, frozenset[str]] = {
    "code": OSI | {"OpenMDW-1.0", "OpenMDW-1.1"},
    "data": OSI | DATA | {"OpenMDW-1.0", "OpenMDW-1.1"},
    "document": OSI | DOCUMENTS | {"OpenMDW-1.0", "OpenMDW-1.1"},
}
_ABSENT = ("absent", "missing", "no", "false", "not included")
_THERE = ("included", "present", "yes", "true", "")


class Component(NamedTuple):
    """Whether it is there, and under which licence; "" is none."""

    there: bool
    licence: str = ""


class Mof(Record, frozen=True):
    """A model's class by what is open: 1, 2, 3, or 0 for none. Shares in `progress` are of what each class adds."""

    model: str
    best: int
    states: dict[str, State]
    progress: dict[int, float]
    next: int  # the class above; 0 where there is none
    missing: tuple[str, ...]  # what that asks for beside
    rubric: str = RUBRIC


def state(name: str, component: Component | None) -> State:
    """What stands in the way of one component, if anything."""
    if component is None or not component.there:
        return "absent"
    if component.licence.lower() in ("", "unlicensed"):
        return "unlicensed"
    return "open" if component.licence in FIT[PARTS[name].kind] else "not open"


def judge(model: str, components: Mapping[str, Component]) -> Mof:
    """The class of a model with these components; whatever is not named is absent."""
    states = {name: state(name, components.get(name)) for name in PARTS}
    lacking = {level: _lacking(level, states) for level in (3, 2, 1)}
    best = next((level for level in (1, 2, 3) if not any(lacking[n] for n in range(level, 4))), 0)
    ahead = {0: 3, 3: 2, 2: 1, 1: 0}[best]
    progress = dict.fromkeys((3, 2, 1), 0.0)
    for level in progress:
        progress[level] = 1 - len(lacking[level]) / len(_asked(level))
        if lacking[level]:
            break
    return Mof(
        model=model, best=best, states=states, progress=progress, next=ahead,
        missing=tuple(f"{name}: {states[name]}" for name in lacking.get(ahead, ())),
    )  # fmt: skip


def _asked(level: int) -> list[str]:
    return [name for name, part in PARTS.items() if part.of == level and part.required]


def _lacking(level: int, states: Mapping[str, State]) -> list[str]:
    return [
        name
        for name in _asked(level)
        if states[name] != "open" and (name not in STANDS_IN or states[STANDS_IN[name]] != "open")
    ]


def read_components(data: bytes, where: str) -> list[Mof]:
    """Every model of a table of components: model, component, licence; with status, type_licence and
    distribution_licence where it has them. In the table's order; two producers may share a model's name.

    Raises:
        Hostile: no such table, no such component, one twice; the line is named.
    """
    bundles: dict[tuple[str, str], list[dict[str, Component]]] = {}
    for line in lines_of(data, where):
        try:
            name = _component_of(line)
            whose = (one_of(line.cells, ("model", "name")), one_of(line.cells, ("producer", "org")))
            if not whose[0] or len(whose[0]) > 200:
                raise Hostile("a model's name has 1 to 200 characters")
            listings = bundles.setdefault(whose, [{}])
            if name in listings[-1] and len(listings[-1]) < len(PARTS):
                raise Hostile(f"{name} of {whose[0]} stands twice")
            if name in listings[-1]:  # a whole listing has ended: the tool's own tables list some models twice
                listings.append({})
            listings[-1][name] = Component(_there(line), _licence(line))
        except Hostile as error:
            raise Hostile(f"{where}, line {line.number}: {error}") from error
    return [judge(model, components) for (model, _), listings in bundles.items() for components in listings]


def _component_of(line: Line) -> str:
    text = one_of(line.cells, ("component",))
    known = {name.lower(): name for name in PARTS}
    if text.lower() not in known:
        raise Hostile(f"{text[:60]!r} is no component of {RUBRIC}{nearest(text, PARTS)}")
    return known[text.lower()]


def _there(line: Line) -> bool:
    status = one_of(line.cells, ("status",)).lower()
    if status not in _ABSENT + _THERE:
        raise Hostile(f"{status[:40]!r} is no status{nearest(status, ('included', 'absent'))}")
    return status not in _ABSENT if "status" in line.cells and status else bool(_licence(line))


def _licence(line: Line) -> str:
    columns = ("licence", "license", "type_licence", "distribution_licence")
    return next((licence for name in columns if (licence := line.cells.get(name, "").strip())), "")


def expected(judged: Iterable[Mof], data: bytes, where: str) -> list[str]:
    """Each model whose class is not the one that a table gives (model, recomputed_class or class), in any order.

    Raises:
        Hostile: a class that is none; the line is named.
    """
    given: dict[str, list[str]] = {}
    for line in lines_of(data, where):
        level = one_of(line.cells, ("recomputed_class", "class"))
        if level not in ("0", "1", "2", "3"):
            raise Hostile(
                f"{where}, line {line.number}: {level[:20]!r} is no class", hint="write 1, 2, 3, or 0 for none"
            )
        given.setdefault(one_of(line.cells, ("model", "name")), []).append(level)
    ours: dict[str, list[str]] = {}
    for model in judged:
        ours.setdefault(model.model, []).append(str(model.best))
    return [
        f"{name}: class {', '.join(ours.get(name, ['not in the table']))}, "
        f"expected {', '.join(given.get(name, ['none given']))}"
        for name in {**given, **ours}
        if sorted(ours.get(name, [])) != sorted(given.get(name, []))
    ]
