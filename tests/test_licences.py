"""The table of licences, and every cell of a second, independent encoding of it."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.checks.licence import may_enter
from souq.licences.compat import ONWARD, RANK, Input, into, judge
from souq.licences.table import alternatives, find, table

SECOND = Path(__file__).parent / "fixtures" / "licences"  # another encoding of the same texts, by other hands
OURS = {"openrail-m": "bigscience-openrail-m", "falcon-2-11b": "falcon-2-11b", "cc0": "CC0-1.0"}
RELATIONS = {"finetune": "base", "merge": "merge", "output": "teacher"}

LLAMA1, LLAMAS = ("llama2", "llama3"), ("llama3.1", "llama3.2", "llama3.3", "llama4")
DERIVING = ("gemma", "openrail-m", "bigcode-openrail-m", "deepseek-la-1.0")
FAMILY = (*LLAMA1, "tongyi-2023")
LIMITED = (*LLAMA1, *LLAMAS, *DERIVING, "qwen-2024", "tongyi-2023", "falcon-2-11b")
OPEN = ("cc-by-sa-4.0", "gpl-3.0", "apache-2.0", "mit", "openmdw-1.0", "cc0")
ALL = (*LIMITED, "mrl-0.1", "cc-by-nc-4.0", *OPEN)
NONCOMMERCIAL = ("mrl-0.1", "cc-by-nc-4.0")


def others(one, of):
    return [out for out in of if out != one]


# relation, inbound, outbound, ours, theirs, and the clause that decides.
RULES = [
    (("finetune", "merge"), ("apache-2.0", "mit"), ALL, "oblige", "ok", "Apache-2.0 4(a)-(d), MIT para 2: the notices must be kept, and theirs says so too (`keep`) under OK"),
    (("finetune", "merge"), ("openmdw-1.0",), others("gpl-3.0", ALL), "oblige", "ok", "OpenMDW-1.0 para 4: a copy and the notices go along"),
    (("finetune", "merge"), ("openmdw-1.0",), ("gpl-3.0",), "review", "ok", "GPL-3.0 7 and 10 against OpenMDW-1.0 para 5: whether an end on a patent suit is a further restriction is open"),
    (("finetune", "merge"), (*LIMITED, *NONCOMMERCIAL, "cc-by-sa-4.0", "gpl-3.0"), "itself", "oblige", "ok", "the same licence still asks for its copy and notice (Llama 1.b.i and iii, Gemma 3.1, RAIL 4, CC 3(a), GPL 4)"),
    (("finetune", "merge"), ("cc-by-sa-4.0",), ("gpl-3.0",), "oblige", "ok", "CC-BY-SA-4.0 3(a): compatible by 3(b)(1), and attribution stays"),
    (("finetune",), LIMITED, (*LIMITED, *NONCOMMERCIAL), "review", "oblige", "two sets of terms under one name: each asks that its own go along (Llama 1.b.iv, Gemma 3.1, RAIL 4.a, Qwen 3.d); theirs says `human legal review`, which is a review"),
    (("merge",), others("", [one for one in LIMITED if one not in FAMILY]), (*LIMITED, *NONCOMMERCIAL), "review", "oblige", "as for finetune"),
    (("finetune", "merge"), NONCOMMERCIAL, NONCOMMERCIAL, "review", "oblige", "MRL 4.3 binds derivatives to research, CC-BY-NC 2(a)(5)(C) forbids further limits: not the same non-commercial"),
    (("output",), DERIVING, (*LIMITED, *NONCOMMERCIAL), "review", "oblige", "the student is a derivative (Gemma 1.1(e)(iii), RAIL 1(e), BigCode 1.i, DeepSeek 1): as for finetune"),
    (("output",), (*DERIVING, *LLAMAS, "qwen-2024"), "itself", "oblige", "ok", "the student too owes copy and notice (derivative), a name (Llama 1.b.i) or a display (Qwen 5.b)"),
    (("output",), ("falcon-2-11b",), others("falcon-2-11b", ALL), "review", "oblige", "5.2 binds what outputs may make to a policy that 5.3 lets change, and no other licence carries it on"),
    (("output",), ("mrl-0.1",), ("cc-by-nc-4.0",), "review", "ok", "3.2 and 4.2: outputs are for research, which is narrower than non-commercial"),
    (("output",), ("cc-by-sa-4.0",), others("cc-by-sa-4.0", ALL), "review", "ok", "1(a) and 3(b): nothing is said of outputs, and what is based on the material is adapted material"),
]  # fmt: skip


def listed():
    found = {}
    for relations, ins, outs, ours, theirs, clause in RULES:
        for relation, one in product(relations, ins):
            for out in [one] if outs == "itself" else outs:
                if outs == "itself" or one != out or (one in OPEN and outs == ALL) or one == "openmdw-1.0":
                    found[relation, one, out] = (ours, theirs, clause)
    return found


def cells():
    with (SECOND / "compat.csv").open() as file:
        rows = list(csv.DictReader(file))
    outs = list(rows[0])[2:]
    return [(row["relation"], row["input"], out, row[out]) for row in rows for out in outs]


def test_every_cell_of_the_second_encoding():
    """Where two people read the same texts differently, we say so by cell and clause, and nowhere else."""
    told, found = listed(), {}
    for relation, one, out, theirs in cells():
        ours = into(Input(RELATIONS[relation], one, OURS.get(one, one)), OURS.get(out, out)).verdict
        if ours != theirs:
            found[relation, one, out] = (ours, theirs)

    assert len(cells()) == 21 * 21 * 3
    assert {k: v for k, v in found.items() if told.get(k, ())[:2] != v} == {}, "a disagreement that is not listed"
    assert told.keys() - found.keys() == set(), "listed, and there is none"


def test_the_second_encoding_s_duties():
    """Clause by clause, the other table and ours name the same places for copies, notices, names and badges."""
    with (SECOND / "duties.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    for row in rows:
        name = row.pop("licence")
        licence = find(OURS.get(name, name))
        assert licence is not None, name
        duties = {duty.do for duty in licence.duties}
        asked = {duty: duty in duties for duty in ("name", "badge", "policy")}
        asked |= {limit: bool(licence.limited(limit)) for limit in ("users", "region", "sale")}
        assert asked == {column: answer == "yes" for column, answer in row.items()}, name


def test_the_table_is_whole():
    """Every licence has a source, a clause for what it asks, and a hash or a word that its text was not had."""
    assert len(table()) >= 28
    names = [name.lower() for one in table() for name in (one.id, *one.names)]
    assert len(names) == len(set(names))
    for one in table():
        assert one.source, one.id
        assert all(asked.clause for asked in (*one.duties, *one.limits)), one.id
        assert len(one.sha256) == 64 or "not had here" in one.source, one.id
    assert all(find(one) and find(out) for one, out in ONWARD)


@pytest.mark.parametrize("name", ["", "other", "unknown", "LicenseRef-Apache", "Apache-3.0", "MIT AND other", "free for all!", "MIT OR", "(((", "GPL-3.0-only WITH LLVM-exception", "x" * 5000, "ＭＩＴ"])  # fmt: skip
@pytest.mark.parametrize("relation", ["base", "merge", "teacher", "data"])
def test_what_nobody_looked_into_is_for_a_lawyer(name, relation):
    """Unknown, missing, misspelt or invented: never yes, on either side."""
    assert into(Input(relation, "x", name), "Apache-2.0").verdict == "review"
    assert into(Input(relation, "x", "CC0-1.0"), name).verdict == "review"


@given(st.text(max_size=60))
def test_no_words_are_a_yes(text):
    """Whatever is typed as a licence, only names in the table come to more than a review."""
    known = all(find(name) for way in alternatives(text) for name in way)

    assert known or into(Input("base", "x", f"({text}) AND nobody-knows-this"), "MIT").verdict == "review"
    assert alternatives(text)


@given(st.lists(st.sampled_from([one.id for one in table()]), min_size=1, max_size=5), st.sampled_from(table()))
def test_a_lineage_is_its_worst_cell_and_owes_the_union(names, out):
    """More inputs never make a verdict better, nor take a duty away."""
    inputs = [Input("base", name, name) for name in names]
    part, whole = judge(inputs[:-1], out.id), judge(inputs, out.id)

    assert RANK[part.verdict] <= RANK[whole.verdict]
    assert set(part.duties) <= set(whole.duties)
    assert whole.verdict == max((cell.verdict for _, cell in whole.cells), key=RANK.__getitem__)


def test_a_choice():
    """MIT OR GPL is taken as MIT; a release that offers both must hold either way."""
    assert into(Input("base", "x", "GPL-3.0-only OR MIT"), "Apache-2.0").verdict == "oblige"
    assert into(Input("base", "x", "GPL-3.0-only AND MIT"), "Apache-2.0").verdict == "block"
    assert into(Input("base", "x", "GPL-3.0-only"), "GPL-3.0-only OR MIT").verdict == "block"


def test_terms_that_cannot_hold_together():
    """A release under share-alike or GPL together with use limits is refused whatever is in it."""
    assert judge([], "CC-BY-SA-4.0 AND llama3.1").verdict == "block"
    assert judge([], "GPL-3.0-only AND gemma").verdict == "block"


@pytest.mark.parametrize(("name", "ours"), [("ODbL-1.0", "CC-BY-SA-4.0"), ("ODbL-1.0", "GPL-3.0-only"), ("CC-BY-SA-3.0", "GPL-3.0-only"), ("GPL-2.0-only", "GPL-3.0-only"), ("AGPL-3.0-only", "GPL-3.0-only")])  # fmt: skip
def test_the_gate_lets_no_closed_licence_into_another(name, ours):
    """ODbL 4.4, BY-SA-3.0 4(b), GPL-2.0 2(b) and AGPL-3.0 5(c) keep a changed work under the very licence, rows as weights."""
    assert {may_enter(name, ours, relation)[0] for relation in ("merge", "data")} == {"refuse"}
    assert may_enter(ours, ours)[0] == "pass"
