"""What licences ask of a release is in its folder: NOTICE, the card's lines, and a name that begins as it must."""

from __future__ import annotations

import json

import pytest

from souq.errors import Refused
from souq.licences import lineage
from souq.licences.compat import Input, judge
from souq.releases import release
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from tests.stall import offer, stall


def main_of(folder, *, name="smol", licence="llama3", base_licence="", landed=()):
    """A main under these terms."""
    before = stall(folder, landed=landed)
    text = f'name = "{name}"\nlicence = "{licence}"\nbase_licence = "{base_licence}"\nbase = "tiny"\n'
    return Snapshot(
        before.repo,
        before.repo.write_commit([before.commit], {"souq.toml": text.encode()}, "terms\n", tree_of=before.commit),
    )


def test_the_sentences_licences_ask_for():
    """Each sentence in its own words and once, as Tülu 3's notice.txt stacks Llama 3.1, Gemma and Qwen."""
    inputs = [Input("base", "a", "llama3.1"), Input("teacher", "b", "gemma"), Input("merge", "c", "qwen"), Input("merge", "d", "qwen")]  # fmt: skip
    text = lineage.notice("Llama-smol", judge(inputs, "llama3.1 AND gemma AND qwen"))

    for sentence in (
        "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        "Qwen is licensed under the Qwen LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights Reserved.",
        "Built with Llama",
        "Built with Qwen",
    ):
        assert text.splitlines().count(sentence) == 1, text
    assert "the Llama 3.1 Acceptable Use Policy" in text
    assert "d (merge): qwen" in text


def test_nothing_owed_is_no_paper(tmp_path):
    """CC0 asks for nothing: no NOTICE and no lines on the card."""
    main = main_of(tmp_path, licence="CC0-1.0")

    assert lineage.papers(main) == {}
    assert lineage.card_lines(main) == ()


def test_the_whole_lineage_counts(tmp_path):
    """The base's own licence, a contribution's, its rows' and its teacher's each reach the verdict and NOTICE."""
    rows = [{"prompt": "a", "completion": "b", "licence": "CC-BY-SA-4.0"}, {"prompt": "c", "completion": "d", "licence": "qwen", "teacher": "b3:00"}]  # fmt: skip
    main = main_of(tmp_path, licence="Apache-2.0", base_licence="MIT", landed=[offer(rows, licence="CC-BY-4.0")])

    inputs = lineage.of_main(main)
    text = lineage.papers(main)["NOTICE"].decode()

    assert (inputs[0].relation, inputs[0].licence) == ("base", "MIT")
    assert {("data", "CC-BY-SA-4.0"), ("teacher", "qwen")} < {(one.relation, one.licence) for one in inputs}
    assert judge(inputs, "Apache-2.0").verdict == "review"
    assert all(words in text for words in ("CC-BY-SA-4.0", "Built with Qwen", "(base): MIT"))
    assert lineage.card_lines(main) == ("Built with Qwen",)


def test_the_same_bytes_again(tmp_path):
    """NOTICE depends on the commit alone."""
    main = main_of(tmp_path)
    again = Snapshot(Repo(main.repo.git_dir, main.repo.root), main.commit)

    assert lineage.papers(main) == lineage.papers(again) != {}


@pytest.mark.parametrize(("name", "licence", "start"), [("smol", "llama3", "Llama 3"), ("smol", "llama3.1", "Llama"), ("Llama-smol", "llama3 AND llama3.1", "Llama 3")])  # fmt: skip
def test_a_name_that_may_not_be(name, licence, start, tmp_path):
    """The answer says what to rename it to, and under that name it may be released."""
    with pytest.raises(Refused, match=f"begins with “{start}”") as refused:
        lineage.refuse_name(main_of(tmp_path / "a", name=name, licence=licence))

    better = refused.value.hint.split('"')[1]
    lineage.refuse_name(main_of(tmp_path / "b", name=better, licence=licence))


def retitled(bazaar, old, new):
    """Main with other words in souq.toml; commits of that kind are the maintainers' own."""
    repo = bazaar.repo("amira")
    main = Snapshot(repo, repo.tip())
    text = repo.read(main.commit, "souq.toml").decode()
    assert old in text
    commit = repo.write_commit(
        [main.commit], {"souq.toml": text.replace(old, new).encode()}, "terms\n", tree_of=main.commit
    )
    repo.publish({MAIN: (main.commit, commit)}, [])
    return repo


def test_a_release_under_the_wrong_name_is_refused(bazaar):
    """`souq release` does not sign a Llama that is not called one."""
    repo = retitled(bazaar, 'licence = "Apache-2.0"', 'licence = "llama3.1"')

    with pytest.raises(Refused, match="begins with “Llama”"):
        release.propose(repo, "1.0", {}, bazaar.person("amira"))


def test_an_export_has_its_papers(bazaar, tmp_path):
    """The folder holds NOTICE, the card shows what must be shown; `souq may` answers for the repository."""
    retitled(bazaar, 'licence = "Apache-2.0"', 'licence = "llama3.1"')
    assert bazaar("amira", "fetch") == 0

    assert bazaar("amira", f"export {tmp_path}/out") == 0
    code, told, _ = bazaar.says("amira", "may name smol --of . --json")

    assert "Llama 3.1 is licensed under" in (tmp_path / "out" / "NOTICE").read_text()
    assert "**Built with Llama**" in (tmp_path / "out" / "README.md").read_text()
    assert (code, json.loads(told)["answer"]) == (3, "no")
