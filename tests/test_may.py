"""May I? Questions whose answers stand in the licences' texts; each names the clause that must be given."""

from __future__ import annotations

import json

import pytest

from souq.errors import Hostile, UsageError
from souq.licences import lineage
from souq.licences.compat import Input
from souq.licences.questions import Question, ask
from souq.licences.table import licence_of

# what is typed after `souq may`, the answer, and words of the reason: a clause, mostly.
ASKED = [
    # names
    ("name Samira --of llama3.1 --student", "no", "1.b.i, last sentence"),
    ("name Llama-Samira --of llama3.1 --student", "yes", "1.b.i, last sentence"),
    ("name Samira --of llama3.1", "no", "1.b.i, last sentence"),
    ("name Llama-3.1-Samira --of llama3.1", "yes", "1.b.i"),
    ("name Samira-Llama --of llama3.2", "no", "1.b.i"),
    ("name llama-samira --of llama3.3", "no", "1.b.i"),
    ("name Llama-Samira --of llama4", "yes", "1.b.i"),
    ("name Llama-Samira --of llama3", "no", "“Llama 3”"),
    ("name Llama-3-Samira --of llama3", "yes", "“Llama 3”"),
    ("name Llama_3.1-Samira --of llama3.1 --of llama3", "yes", "“Llama 3”"),
    ("name Llama\u00a03-Samira --of llama3", "no", "“Llama 3”"),
    ("name Samira --of llama3 --student", "yes", "asks for no name"),
    ("name Samira --of llama2", "yes", "asks for no name"),
    ("name Llama-2-Samira --of llama2", "needs a lawyer", "5.a"),
    ("name Samira --of gemma", "yes", "asks for no name"),
    ("name Gemma-Samira --of gemma", "needs a lawyer", "4.2"),
    ("name Samira --of qwen", "yes", "asks for no name"),
    ("name Samira --of Apache-2.0", "yes", "asks for no name"),
    ("name Samira --of other", "needs a lawyer", "nobody looked into"),
    ("name Samira --of llama3.1 --of Apache-2.0", "no", "1.b.i"),
    # users
    ("users 700000001 --of llama3.1 --at-release", "no", "2024-07-23"),
    ("users 700000000 --of llama3.1 --at-release", "yes", "2"),
    ("users 700000001 --of llama3.1", "needs a lawyer", "2024-07-23"),
    ("users 700000001 --of llama2 --at-release", "no", "2023-07-18"),
    ("users 700000001 --of llama4 --at-release", "no", "2025-04-05"),
    ("users 100000001 --of qwen", "no", "4"),
    ("users 100000000 --of qwen", "yes", "4"),
    ("users 100000001 --of qwen --noncommercial", "yes", "4"),
    ("users 100000001 --of tongyi-qianwen", "no", "4"),
    ("users 100000001 --of llama3.1", "yes", "2"),
    ("users 9000000000 --of Apache-2.0", "yes", "counts nobody"),
    ("users 9000000000 --of gemma", "yes", "counts nobody"),
    ("users 10 --of made-up-1.0", "needs a lawyer", "nobody looked into"),
    ("revenue 1000000 --of stability-ai-community", "no", "III"),
    ("revenue 999999 --of stability-ai-community", "yes", "III"),
    ("revenue 5 --of falcon-llm-1.0", "needs a lawyer", "not read"),
    # Europe
    ("ship-eu --of llama3.2 --multimodal", "no", "Acceptable Use Policy"),
    ("ship-eu --of llama3.2 --text-only", "yes", "multimodal"),
    ("ship-eu --of llama3.2", "needs a lawyer", "--multimodal"),
    ("ship-eu --of llama3.3 --multimodal", "no", "Acceptable Use Policy"),
    ("ship-eu --of llama4", "no", "Acceptable Use Policy"),
    ("ship-eu --of llama4 --text-only", "no", "Acceptable Use Policy"),
    ("ship-eu --of llama3.1 --multimodal", "yes", "no region"),
    ("ship-eu --of qwen --multimodal", "yes", "no region"),
    # outputs
    ("train-on-output --of llama2 --as Apache-2.0", "no", "1.b.v"),
    ("train-on-output --of llama3 --as llama3.1", "no", "1.b.v"),
    ("train-on-output --of llama3 --as llama3", "yes", ""),
    ("train-on-output --of llama3.1 --as Apache-2.0", "yes", "1.b.i"),
    ("train-on-output --of gemma --as Apache-2.0", "no", "3.1"),
    ("train-on-output --of gemma --as gemma", "yes", "3.1"),
    ("train-on-output --of bigcode-openrail-m --as MIT", "no", "5.1"),
    ("train-on-output --of deepseek --as MIT", "no", "4.e"),
    ("train-on-output --of tongyi-qianwen --as Apache-2.0", "no", "5.b"),
    ("train-on-output --of tongyi-qianwen --as tongyi-qianwen", "yes", ""),
    ("train-on-output --of tongyi-qianwen --as qwen", "no", "5.b"),
    ("train-on-output --of qwen --as Apache-2.0", "yes", "5.b"),
    ("train-on-output --of mrl --as Apache-2.0", "no", "3.2, 4.2"),
    ("train-on-output --of falcon2 --as Apache-2.0", "needs a lawyer", "5.2"),
    ("train-on-output --of stability-ai-community --as MIT", "no", "IV.b"),
    ("train-on-output --of MIT --as CC-BY-NC-4.0", "yes", ""),
    ("train-on-output --of OpenMDW-1.0 --as Apache-2.0", "yes", "para 6"),
    ("train-on-output --of CC-BY-NC-4.0 --as Apache-2.0", "needs a lawyer", "2(a)(1)"),
    ("train-on-output --of GPL-3.0-only --as MIT", "yes", ""),
    # selling
    ("sell --of CC-BY-NC-4.0", "no", "2(a)(1)"),
    ("sell --of CC-BY-NC-SA-4.0", "no", "2(a)(1)"),
    ("sell --of mrl", "no", "research"),
    ("sell --of llama3.1", "yes", "700 million"),
    ("sell --of gemma", "yes", "not forbidden"),
    ("sell --of GPL-3.0-only", "yes", "not forbidden"),
    ("sell --of CC-BY-NC-4.0 --of Apache-2.0", "no", "2(a)(1)"),
    ("sell --of stability-ai-community", "needs a lawyer", "1,000,000"),
    # data, merges, releases
    ("train-on --of CC-BY-SA-4.0 --as Apache-2.0", "needs a lawyer", "3(b)(1)"),
    ("train-on --of CC-BY-4.0 --as Apache-2.0", "yes", "3(a)(1)"),
    ("train-on --of CC-BY-NC-4.0 --as Apache-2.0", "no", "2(a)(1)"),
    ("train-on --of CC-BY-ND-4.0 --as Apache-2.0", "no", "2(a)(1)(B)"),
    ("train-on --of ODC-By-1.0 --as MIT", "yes", "4.2"),
    ("train-on --of GPL-3.0-only --as Apache-2.0", "needs a lawyer", "5(c)"),
    ("merge --of CC-BY-SA-4.0 --as Apache-2.0", "no", "3(b)(1)"),
    ("merge --of llama3.1 --as Apache-2.0", "no", "1.b.iv"),
    ("merge --of llama3 --as gemma", "no", "1.b.v"),
    ("merge --of llama3.1 --of gemma --as gemma", "needs a lawyer", "AND"),
    ("merge --of Apache-2.0 --of MIT --as Apache-2.0", "yes", "4(a)"),
    ("finetune --of gemma --as CC-BY-SA-4.0", "no", "3(b)"),
    ("release --of Apache-2.0 --as GPL-2.0-only", "no", "GPL-2.0 6"),
    ("release --of CC-BY-SA-4.0 --as GPL-3.0-only", "yes", "one way"),
    ("release --of GPL-3.0-only --as AGPL-3.0-only", "yes", "13"),
    ("release --of other --as Apache-2.0", "needs a lawyer", "nobody looked into"),
]


def test_there_are_enough_questions():
    assert len({line for line, _, _ in ASKED}) == len(ASKED) >= 60
    assert {said for _, said, _ in ASKED} == {"yes", "no", "needs a lawyer"}


@pytest.mark.parametrize(("line", "said", "because"), ASKED, ids=[line for line, _, _ in ASKED])
def test_a_question_with_a_known_answer(line, said, because, capfd):
    """The answer, the exit code and the clause are what the text of the licence says."""
    from souq.cli import run

    code = run(["may", *line.split(" "), "--json"])
    found = json.loads(capfd.readouterr().out)

    assert (found["answer"], code) == (said, 0 if said == "yes" else 3), found
    assert any(because in f"{r['clause']} {r['because']}" for r in found["reasons"] if r["answer"] == said), found
    assert "not legal advice" in found["advice"]


def test_what_is_owed_is_said():
    """A student of Llama 3.1 owes the name and the display; a fine-tune the agreement, the notice and the policy too."""
    student = ask(Question("train-on-output"), [Input("teacher", "x", "llama3.1")], "Apache-2.0").duties
    tuned = ask(Question("finetune"), [Input("base", "x", "llama3.1")], "llama3.1").duties

    assert [line.split(" ", 1)[1].split(":")[0] for line in student] == ["1.b.i(B)", "1.b.i, last sentence"]
    assert any("Built with Llama" in line for line in student)
    assert set(student) < set(tuned)
    assert any("Acceptable Use Policy" in line for line in tuned)


@pytest.mark.parametrize("line", ["name --of MIT", "users many --of MIT", "users -1 --of MIT", "sell 3 --of MIT", "sell", "fly --of MIT", "users ٣ --of MIT"])  # fmt: skip
def test_a_question_that_cannot_be_asked(line):
    """Usage is 2, never a yes."""
    from souq.cli import run

    assert run(["may", *line.split()]) == 2


def folder(home, name, head, licence=""):
    (home / name).mkdir()
    (home / name / "README.md").write_text(f"---\n{head}\n---\n# {name}\n")
    if licence:
        (home / name / "LICENSE").write_text(licence)
    return home / name


def test_a_folder_and_what_it_is_made_of(tmp_path):
    """Apache on the card does not wash a Llama base: the answer is no, by Llama's clause."""
    folder(tmp_path, "base", "license: llama3.1")
    inputs, own = lineage.of_folder(folder(tmp_path, "tuned", "license: apache-2.0\nbase_model: ../base"))

    said = ask(Question("release"), inputs, own)

    assert own == "Apache-2.0"
    assert said.answer == "no"
    assert any(reason.clause == "1.b.iv, 5.b" for reason in said.reasons)


def test_a_folder_that_teaches(tmp_path, capfd):
    """Of a folder's outputs the clause on outputs decides, not the one on weights."""
    from souq.cli import run

    teacher = folder(tmp_path, "teacher", "license: other\nlicense_name: tongyi-qianwen")
    code = run(["may", "train-on-output", "--of", str(teacher), "--as", "Apache-2.0", "--json"])

    assert code == 3
    assert [r["clause"] for r in json.loads(capfd.readouterr().out)["reasons"]] == ["5.b"]


@pytest.mark.parametrize("head", ["license: other", "license: made-up-9", "tags: [x]", "license: mit\nbase_model: meta-llama/Llama-3.1-8B", "license: [mit, made-up-9]"])  # fmt: skip
def test_a_card_that_does_not_say(head, tmp_path):
    """No licence, an invented one, or a base whose terms are elsewhere: a lawyer, never yes."""
    inputs, own = lineage.of_folder(folder(tmp_path, "x", head))

    assert ask(Question("sell"), inputs, own).answer == "needs a lawyer"
    assert ask(Question("release"), inputs, own).answer == "needs a lawyer"


def test_card_and_file_disagree(tmp_path):
    """MIT on the card and Llama's agreement beside it: said plainly, and which two."""
    with pytest.raises(UsageError, match=r"the card says MIT, the licence file is LicenseRef-scancode-llama-3\.1"):
        lineage.of_folder(folder(tmp_path, "x", "license: mit", "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date"))  # fmt: skip


@pytest.mark.parametrize(("text", "licence"), [
    ("The MIT License (MIT)\n\nCopyright (c) 2020 Somebody", "MIT"),
    ("Copyright Somebody\n\nPermission is hereby granted, free of charge, to any person obtaining a copy of", "MIT"),
    ("MIT No Attribution\n\nPermission is hereby granted, free of charge, to any person obtaining a copy", "MIT-0"),
    ("Apache License\nVersion 2.0, January 2004", "Apache-2.0"),
    ("Attribution-NonCommercial 4.0 International\n=====\nCreative Commons Corporation", "CC-BY-NC-4.0"),
    ("Creative Commons Legal Code\n\nCC0 1.0 Universal", "CC0-1.0"),
    ("GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "GPL-3.0-only"),
    ("GNU LESSER GENERAL PUBLIC LICENSE\nEveryone is permitted to copy this document; liability is limited", ""),
    ("Our own terms, at MIT\n\nUse is permitted within limits and with an artistic licence", ""),
])  # fmt: skip
def test_a_licence_is_known_by_its_text(text, licence):
    """By its title or its own words, never by letters within others: permitted and limited are not MIT."""
    assert licence_of(text) == licence


def test_a_later_version_is_the_same_text(tmp_path):
    """The card of a GPL-3.0-or-later model beside the one text that the GPL has."""
    text = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007"

    assert lineage.of_folder(folder(tmp_path, "later", "license: GPL-3.0-or-later", text))[1] == "GPL-3.0-or-later"
    with pytest.raises(UsageError, match=r"the licence file is GPL-3\.0-only"):
        lineage.of_folder(folder(tmp_path, "other", "license: AGPL-3.0-or-later", text))


def test_models_made_of_each_other(tmp_path):
    """A circle is named as one, and nothing is answered."""
    folder(tmp_path, "a", "license: mit\nbase_model: ../b")
    b = folder(tmp_path, "b", "license: mit\nbase_model: [../a]")

    with pytest.raises(Hostile, match="a circle: b from a from b"):
        lineage.of_folder(b)


@pytest.mark.parametrize("head", ["base_model: ../../../etc", "a: &a [1]\nb: *a", "license: *x"])
def test_a_hostile_card(head, tmp_path):
    """A path out of the folder's home and YAML that grows are refused before anything is read by them."""
    with pytest.raises(Hostile):
        lineage.of_folder(folder(tmp_path, "x", head))
