"""A pickle where a delta should be, pushed with plain git past every client of ours."""

import pickle
import subprocess

from souq.pulls import pull as pulls
from souq.pulls import reviews


def push(bazaar, files, *, who="mallory", title="Fast weights", kind="weights", remove=()):
    """A pull request made by hand: any files at any paths."""
    repo, actor = bazaar.repo(who), bazaar.actors[who]
    number = max(pull.number for pull in pulls.listed(repo)) + 1
    home = f"contributions/{number:04d}-fast-weights"
    text = (
        f'title = "{title}"\nkind = "{kind}"\nlicence = "Apache-2.0"\nsignoff = "{who} <{actor.email}>"\nfixes = ["greet"]\n'
        f'[author]\nname = "{who}"\nemail = "{actor.email}"\nkey = "{actor.who().keys[0]}"\n'
    )
    named = {f"{home}/contribution.toml": text.encode()} | {
        path.replace("HOME", home): data for path, data in files.items()
    }
    with bazaar.stage.as_actor(actor, actor.clone):
        head = repo.write_commit([repo.tip()], named | dict.fromkeys(remove), "x\n", tree_of=repo.tip())
        words = ["git", "push", "-q", "origin", f"{head}:refs/souq/pr/{number}/head"]
        subprocess.run(words, cwd=actor.clone, check=True)
    return number


def test_a_pickle_is_refused(bazaar):
    number = push(bazaar, {"HOME/pytorch_model.bin": pickle.dumps({"w": [1.0]})})

    found = reviews.check(bazaar.repo("amira"), number, bazaar.person("amira"))

    refused = {v.check: v.because for v in found.verdicts if not v}
    assert "a pickle, which runs code when it is opened" in refused["files"]
    assert "has not signed it off" in refused["signoff"]
    assert "evals" not in {v.check for v in found.verdicts}, "the model is never run on what was refused"
