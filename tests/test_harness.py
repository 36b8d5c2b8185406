"""What the harness promises: lm-evaluation-harness itself, on our models, says of each case what we say."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from souq.errors import NotFound, UsageError
from souq.evals.eval import read_eval, write_cases
from souq.lab import engines
from souq.lab.engines import Transformers
from souq.lab.harness import Task, score
from souq.records import digest, format_toml
from souq.repo.remote import Repo
from tests.test_docs import script, typed
from tests.tiny import write_model

pytest.importorskip("lm_eval", reason="pip install 'souq[harness]'")
pytestmark = pytest.mark.server

WORDS = ["the user", "the assistant", "the model", "talk", "about", "and the"]
END = "<|im_end|>"
YAML = """
task: sayings
dataset_path: json
dataset_kwargs: {data_files: {test: cases.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
target_delimiter: ""
metric_list: [{metric: acc}]
"""


def cases(count=60):
    """Questions with options of several lengths; which is right is drawn, so that some are wrong."""
    chance = random.Random(5)
    for i in range(count):
        choices = [" ".join(chance.sample(WORDS, chance.randint(1, 3))) for _ in range(3)]
        choices = [f"{c} {n}" for n, c in enumerate(choices)]
        yield {"id": f"c{i:02}", "prompt": f"tell me {chance.choice(WORDS)} {i}", "choices": choices, "expected": chance.choice(choices)}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A repository, a tiny model, an eval of ours and the same cases as a task."""
    folder = tmp_path_factory.mktemp("harness")
    made = list(cases())
    spec = {"title": "Sayings", "kind": "choice", "source": "tests", "licence": "CC0-1.0"}
    suite = read_eval("sayings", {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases(made)})
    (folder / "tasks").mkdir()
    (folder / "tasks" / "sayings.yaml").write_text(YAML)
    # we read the end of the turn with each option; the harness reads it where the option says it
    told = [c | {"choices": [o + END for o in c["choices"]], "gold": c["choices"].index(c["expected"])} for c in made]
    (folder / "tasks" / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in told))
    engine = Transformers(digest(b"tiny"), write_model(folder / "tiny"))
    return Repo.create(folder / "repo"), suite, Task("sayings", folder / "tasks"), engine


def test_the_harness_and_we_agree_on_every_case(place):
    """Its `acc` and our `choice` on one model: the same cases right, the same wrong, and both kinds are there."""
    repo, suite, task, engine = place

    ours = engines.scores(repo, {"sayings": suite}, engine)["sayings"]
    theirs = score(repo, task, engine)

    assert theirs.cases == ours.cases
    assert (theirs.kind, theirs.n) == ("choice", 60)
    assert 0.1 < ours.value < 0.9


def test_a_task_is_asked_once(place):
    """What the harness found is kept; a changed task, another limit or another model is asked."""
    repo, _, task, engine = place
    whole = score(repo, task, engine)
    deaf = replace(engine, files=task.include)  # a folder with no model: it fails if it is loaded

    assert score(repo, task, deaf) == whole
    with pytest.raises(NotFound):
        score(repo, task, deaf, again=True)
    with pytest.raises(NotFound):
        score(repo, replace(task, limit=5), deaf)
    few = score(repo, replace(task, limit=5), engine)
    assert few.cases.items() <= whole.cases.items()
    assert few.n == 5


def test_a_wrong_task_is_answered_with_the_right_one(place, tmp_path):
    repo, _, task, engine = place
    with pytest.raises(NotFound, match="did you mean 'sayings'"):
        score(repo, replace(task, name="saying"), engine)
    with pytest.raises(NotFound, match="no folder"):
        score(repo, replace(task, include=tmp_path / "nowhere"), engine)
    (tmp_path / "odd.yaml").write_text(YAML.replace("metric: acc}", "metric: acc_norm}"))
    (tmp_path / "cases.jsonl").write_bytes((task.include / "cases.jsonl").read_bytes())
    with pytest.raises(UsageError, match="none of the metrics"):
        score(repo, Task("sayings", tmp_path, 3), engine)


def test_the_docs_task_runs(bazaar):
    """docs/evals.md's task of lm-evaluation-harness, word for word."""
    told = typed(bazaar, "chen", script("evals.md", "--include"))

    assert json.loads(told[told.index("{") :])["greetings"]["cases"].keys() == {"ada"}
    code, _, err = bazaar.says("chen", "eval greet --task x --include tasks")
    assert (code, "a task stands alone" in err) == (2, True)
    code, _, err = bazaar.says("chen", "eval --limit 3")
    assert (code, "belong to --task" in err) == (2, True)


def test_a_group_is_all_cases_of_its_tasks(place, tmp_path):
    """As MMLU is asked for: by the group's name, every case counting alike; tasks of two measures do not make one."""
    repo, suite, task, engine = place
    ours = engines.scores(repo, {"sayings": suite}, engine)["sayings"]
    lines = (task.include / "cases.jsonl").read_text().splitlines(keepends=True)
    for name, part in (("few", lines[:9]), ("most", lines[9:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
        (tmp_path / f"{name}.yaml").write_text(
            YAML.replace("task: sayings", f"task: {name}").replace("cases.jsonl", f"{name}.jsonl")
        )
    (tmp_path / "all.yaml").write_text("group: whole\ntask: [few, most]\n")
    whole = score(repo, Task("whole", tmp_path), engine)

    assert {name.partition("/")[2]: value for name, value in whole.cases.items()} == ours.cases
    assert {name.partition("/")[0] for name in whole.cases} == {"few", "most"}
    with pytest.raises(NotFound, match="did you mean 'whole'"):
        score(repo, Task("wholes", tmp_path), engine)
    (tmp_path / "most.yaml").write_text((tmp_path / "most.yaml").read_text().replace("metric: acc", "metric: acc_norm"))
    with pytest.raises(UsageError, match="most has none of the metrics"):
        score(repo, Task("whole", tmp_path), engine)
