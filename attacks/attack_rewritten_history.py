"""A maintainer with push rights writes main by hand; whoever verifies is told."""

import json
import subprocess

import pytest

from souq.pulls import pull
from souq.repo.landing import files_gained


def push_main(bazaar, files):
    repo, actor = bazaar.repo("amira"), bazaar.actors["amira"]
    with bazaar.stage.as_actor(actor, actor.clone):
        commit = repo.write_commit([repo.tip()], files, "Merge #9: nothing to see\n", tree_of=repo.tip())
        subprocess.run(["git", "push", "-q", "origin", f"{commit}:refs/heads/main"], cwd=actor.clone, check=True)


def findings(bazaar):
    assert bazaar("adil", "fetch") == 0
    code, out, _ = bazaar.says("adil", "verify --json")
    assert code == 3
    return json.loads(out)["findings"]


@pytest.mark.lands
@pytest.mark.parametrize("path", ["GOVERNANCE.toml", "evals/greet/cases.jsonl", "souq.toml", "model/config.json"])
def test_a_file_changed_without_a_pull_request(bazaar, path):
    text = bazaar.main().text(path)
    push_main(bazaar, {path: (text + "\n").encode()})

    assert any("without a pull request" in line for line in findings(bazaar))


@pytest.mark.lands
def test_another_model_lock(bazaar):
    """model.lock says another model than the contributions build to."""
    main = bazaar.main()
    text = main.text("model.lock")
    name = next(iter(main.model))
    swapped = text.replace(main.model[name].digest, "b3:" + "0" * 64)
    push_main(bazaar, {"model.lock": swapped.encode()})

    assert any(f"{name} is not what model.lock says" in line for line in findings(bazaar))


@pytest.mark.lands
def test_a_contribution_nobody_voted_on(bazaar):
    number = bazaar.offer("amira", bazaar.delta("greet"))
    offer = pull.get(bazaar.repo("amira"), number).offer
    push_main(bazaar, dict(files_gained(offer)))

    assert any("no signed merge record" in line for line in findings(bazaar))


def test_another_beginning(bazaar):
    """A history that does not begin where its reader pinned it."""
    assert bazaar("adil", "fetch") == 0
    assert bazaar("adil", f"verify --root {bazaar.main().commit}") == 3
