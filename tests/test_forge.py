"""A forge, played by a bare repository and a small web server: docs/forges.md and the workflow's own steps, word for word."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
import yaml

from souq import signing
from souq.cli.forge import KINDS, workflow
from souq.errors import NotFound, Refused, UsageError
from souq.pulls import forge
from souq.pulls import pull as pulls
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from tests.tiny import write_model

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "forges.md").read_text()
NUMBER = 12
BOT = "github-actions[bot]"


def block(name):
    """A marked block of docs/forges.md."""
    return re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", DOCS, re.S).group(1)


def git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def souq_script(path):
    return script(path, f'#!/bin/sh\nexec "{sys.executable}" -m souq "$@"\n')


class Api:
    """What a forge's API keeps of one pull request: its comments, a page at a time."""

    def __init__(self, token="t0k", page=100):
        self.comments, self.calls, self.token, self.page = [], [], token, page
        handler = type("Handler", (http.server.BaseHTTPRequestHandler,), {"api": self, **HANDLERS})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/api/v1"

    def say(self, login, body):
        self.comments.append({"id": 1000 + len(self.comments), "user": {"login": login}, "body": body})

    def by(self, login):
        return [one["body"] for one in self.comments if one["user"]["login"] == login]


def _answer(handler, method):
    api, url = handler.api, urlparse(handler.path)
    told = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length") or 0)) or b"null")
    api.calls.append(method)
    status, reply = 404, {"message": "no"}
    if handler.headers["Authorization"] != f"Bearer {api.token}":
        status = 401
    elif method == "GET" and url.path.endswith(f"/issues/{NUMBER}/comments"):
        at = (int(parse_qs(url.query)["page"][0]) - 1) * api.page
        status, reply = 200, api.comments[at : at + api.page]
    elif method == "POST" and url.path.endswith(f"/issues/{NUMBER}/comments"):
        api.say(BOT, told["body"])
        status, reply = 201, api.comments[-1]
    elif method == "PATCH" and (found := re.search(r"/issues/comments/(\d+)$", url.path)):
        one = next(one for one in api.comments if one["id"] == int(found[1]))
        one["body"] = told["body"]
        status, reply = 200, one
    handler.send_response(status)
    handler.end_headers()
    handler.wfile.write(json.dumps(reply).encode())


HANDLERS = {f"do_{method}": lambda self, method=method: _answer(self, method) for method in ("GET", "POST", "PATCH")}
HANDLERS["log_message"] = lambda self, *told: None


class Runner:
    """Runs a workflow's steps as a forge's runner does: bash, contexts filled in, GITHUB_ENV and GITHUB_PATH between steps."""

    def __init__(self, folder, town, api, secrets):
        self.folder, self.secrets = folder, secrets
        folder.mkdir()
        stubs = script(folder / "stubs" / "python3", VENV.format(python=sys.executable)).parent
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        self.env = kept | {
            "PATH": f"{stubs}:{os.environ['PATH']}", "HOME": str(folder / "home"), "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), kept.get("PYTHONPATH", "")])),
            "RUNNER_TEMP": str(folder / "temp"), "GITHUB_API_URL": api.url, "GITHUB_SERVER_URL": f"file://{town.parent}",
            "GITHUB_REPOSITORY": f"{town.name}/hub.git",
            # the tensors: what main's souq.toml would say if this town had begun on a forge
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "souq.store", "GIT_CONFIG_VALUE_0": f"file://{town}/hub.git/souq",
        }  # fmt: skip
        for name in ("home", "temp"):
            (folder / name).mkdir()

    def run(self, text, head):
        """Each step's exit code, by its name, up to the first that fails."""
        told = yaml.safe_load(text)
        facts = {"github.event.pull_request.number": str(NUMBER), "github.event.pull_request.head.sha": head}
        facts |= {f"secrets.{name}": value for name, value in self.secrets.items()}
        codes, env = {}, dict(self.env)
        (job,) = told["jobs"].values()
        for step in job["steps"]:
            files = {name: self.folder / name for name in ("GITHUB_ENV", "GITHUB_PATH")}
            for path in files.values():
                path.write_text("")
            mine = {key: re.sub(r"\$\{\{ (.+?) \}\}", lambda m: self.value(m[1], facts), str(value)) for key, value in step.get("env", {}).items()}  # fmt: skip
            words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            given = env | mine | {name: str(path) for name, path in files.items()}
            done = subprocess.run(
                words, cwd=self.folder / "temp", env=given, capture_output=True, text=True, check=False
            )
            self.said = done.stdout + done.stderr
            codes[step["name"]] = done.returncode
            if done.returncode:
                break
            env |= dict(line.split("=", 1) for line in files["GITHUB_ENV"].read_text().splitlines())
            env["PATH"] = ":".join([*files["GITHUB_PATH"].read_text().split(), env["PATH"]])
        return codes

    def value(self, expression, facts):
        for word in expression.split(" || "):
            if word.startswith("'"):
                return word.strip("'")
            if facts.get(word) or word in facts:
                return facts[word]
            assert word.startswith(("vars.", "secrets.")), f"nobody here knows {word}"
        return ""

    def again(self):
        shutil.rmtree(self.folder / "temp")
        (self.folder / "temp").mkdir()


# What the runner's python3 does when asked for a virtual environment: one with the souq under test, and a pip that writes down what it was asked.
VENV = """#!/bin/sh
test "$1 $2" = "-m venv" || exit 9
mkdir -p "$3/bin"
printf '#!/bin/sh\\nexec "{python}" -m souq "$@"\\n' > "$3/bin/souq"
printf '#!/bin/sh\\necho "$@" > "$0.asked"\\n' > "$3/bin/pip"
chmod 755 "$3/bin/souq" "$3/bin/pip"
"""


class Town:
    """The bazaar with a forge: a fork of mallory's, pull request 12, the bot's runner."""

    def __init__(self, bazaar, tmp_path):
        self.bazaar, self.folder = bazaar, bazaar.folder
        self.hub, self.fork, self.clone = (
            self.folder / "hub.git",
            self.folder / "fork.git",
            self.folder / "mallory" / "smol",
        )
        git(self.folder, "clone", "-q", "--bare", str(self.hub), str(self.fork))
        git(self.clone, "remote", "add", "fork", str(self.fork))
        git(self.clone, "remote", "set-url", "origin", f"file://{self.hub}")
        git(self.clone, "config", "souq.store", f"file://{self.hub}/souq")
        shutil.copy(bazaar.delta("greet"), self.clone.parent / "greet.delta")
        self.bin = souq_script(tmp_path / "bin" / "souq").parent

    def types(self, who, lines, at=None):
        """Lines of a shell, as one of the people."""
        actor = self.bazaar.actors[who]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_AUTHOR", "GIT_COMMITTER", "SOUQ_"))}
        env |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "SOUQ_KEY": str(actor.key)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
        env |= {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in (("NAME", who), ("EMAIL", actor.email))}  # fmt: skip
        words = ["bash", "-euo", "pipefail", "-c", lines]
        return subprocess.run(words, cwd=at or actor.clone, env=env, capture_output=True, text=True, check=False)

    def offers(self, line=None):
        """The outsider's block of the docs; then the forge knows the branch as pull request 12."""
        done = self.types("mallory", line or block("outsider"))
        assert done.returncode == 0, done.stderr
        return self.opens()

    def opens(self, ref="greet"):
        git(self.hub, "fetch", "-q", str(self.fork), f"+{ref}:refs/pull/{NUMBER}/head")
        return git(self.hub, "rev-parse", f"refs/pull/{NUMBER}/head")

    def adopt(self, who="amira", head=f"refs/pull/{NUMBER}/head"):
        return forge.adopt(self.bazaar.repo(who), NUMBER, head, self.bazaar.person(who))


@pytest.fixture
def town(bazaar, tmp_path, monkeypatch):
    for role in ("AUTHOR", "COMMITTER"):
        for part in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{role}_{part}", "tests@souq.example" if part == "EMAIL" else "tests")
    return Town(bazaar, tmp_path)


AGAIN = """\
souq pr create ../greet.delta --title "Greetings <img src=x> @everyone" --licence Apache-2.0 --signoff --fixes greet --branch greet
git push -q --force fork greet
"""


@pytest.mark.long
def test_a_stranger_s_fork_to_main(town, bazaar, tmp_path):
    """Offered by a branch of a fork, checked by the workflow, told in one comment, voted on by two organisations, merged."""
    before = git(town.hub, "for-each-ref"), sorted((town.hub / "souq").rglob("*"))
    head = town.offers()
    assert git(town.hub, "for-each-ref", "refs/souq", "refs/heads") in before[0]
    assert sorted((town.hub / "souq").rglob("*")) == before[1], "the stranger wrote nothing but to their fork"
    shown = git(town.hub, "diff", "--name-only", f"main...refs/pull/{NUMBER}/head").splitlines()
    assert all(path.startswith("contributions/greetings/") for path in shown), "which is all the forge shows"

    api = Api(page=2)
    api.say("mallory", "<!-- souq -->\nall good, merge it")
    api.say("amira", "looks nice")
    api.say("adil", "indeed")
    runner = Runner(tmp_path / "runner", town.folder, api, {"GITHUB_TOKEN": api.token, "SOUQ_BOT_KEY": bazaar.actors["chen"].key.read_text().rstrip("\n")})  # fmt: skip
    text = workflow("github")

    assert runner.run(text, head) == dict.fromkeys(["Install souq", "Be the bot", "Clone main", "Check the head, which is only data", "Comment"], 0), runner.said  # fmt: skip
    asked = (runner.folder / "temp" / "souq" / "bin" / "pip.asked").read_text().split()
    assert asked[0] == "install"
    assert asked[-1].startswith("souq[lab,remote]==")
    assert (runner.folder / "temp" / "souq.key").stat().st_mode & 0o777 == 0o600
    (first,) = api.by(BOT)
    assert re.search(r"\| `evals` \| pass \| `fixes .greet.: \+", first.replace("\u02cb", ".")), first
    assert "- missing: `2 approvals" in first or "- missing: `2 more approvals" in first, first
    assert api.by("mallory") == ["<!-- souq -->\nall good, merge it"], (
        "another's comment is not ours, whatever it begins with"
    )

    # the same head again: nothing new; another title: another digest, the same number and the same comment
    runner.again()
    assert set(runner.run(text, head).values()) == {0}, runner.said
    assert api.calls.count("POST") == 1
    head = town.offers(AGAIN)
    runner.again()
    assert set(runner.run(text, head).values()) == {0}, runner.said
    (second,) = api.by(BOT)
    assert second != first
    assert "<img" not in re.sub(r"`[^`\n]*`", "", second)
    assert (api.calls.count("POST"), len(pulls.listed(bazaar.repo("amira")))) == (1, 2)

    # who read the first comment does not vote on the second offer
    vote = re.compile(r"^souq vote .*$", re.M)
    late = town.types("amira", vote.search(first)[0].replace("…", "greets"))
    assert (late.returncode, "not what you read" in late.stderr) == (3, True), late.stderr
    lines = re.search(r"```sh\n(.*?)```", second, re.S)[1].replace("…", "greets well")
    for who in ("amira", "bruno"):
        said = town.types(who, lines)
        assert said.returncode == 0, said.stderr
        assert "approve #2" in said.stdout
    merged = town.types("bruno", "souq pr merge 2")
    assert merged.returncode == 0, merged.stderr
    main = bazaar.main()
    assert git(town.hub, "rev-parse", "main") == main.commit
    landed = main.repo.files(main.commit, "contributions/0002-greetings/records")
    (adopted,) = (signing.peek(data) for path, data in landed.items() if path.startswith("forge-"))
    assert adopted["forge"] == NUMBER, "who adopted what landed, and not what was offered before it"
    assert git(town.hub, "log", "--format=%H", "main", "--", "souq-luggage") == "", "tensors never enter main's history"
    report = json.loads(town.types("adil", "souq fetch >&2 && souq verify --json").stdout)
    assert report["findings"] == []

    # and what comes afterwards is told so
    runner.again()
    codes = runner.run(text, head)
    assert codes["Comment"] == 3
    assert "already merged" in api.by(BOT)[0]


def test_a_refused_one_makes_the_workflow_red(town, bazaar, tmp_path):
    """A branch that is no contribution: a comment that says why, and a failed job; nothing of it is in souq."""
    git(town.clone, "checkout", "-q", "-b", "greet", "origin/main")
    (town.clone / "souq.toml").write_text((town.clone / "souq.toml").read_text() + '\n[store]\nurl = "s3://evil/x"\n')
    git(town.clone, "commit", "-q", "-am", "tensors from here, please")
    git(town.clone, "push", "-q", "fork", "greet")
    head, api = town.opens(), Api()
    runner = Runner(tmp_path / "runner", town.folder, api, {"GITHUB_TOKEN": api.token, "SOUQ_BOT_KEY": bazaar.actors["chen"].key.read_text()})  # fmt: skip

    codes = runner.run(workflow("forgejo").replace("forgejo-actions", BOT), head)

    assert codes["Comment"] == 3, runner.said
    (told,) = api.by(BOT)
    assert "cannot take this pull request" in told
    assert "changes 'souq.toml'" in told
    assert [pull.number for pull in pulls.listed(bazaar.repo("amira"))] == [1]


def test_without_the_bot_s_key_it_says_so(town, tmp_path):
    api = Api()
    runner = Runner(tmp_path / "runner", town.folder, api, {"GITHUB_TOKEN": api.token, "SOUQ_BOT_KEY": ""})

    assert runner.run(workflow("github"), "0" * 40)["Be the bot"] == 1
    assert "SOUQ_BOT_KEY" in runner.said
    assert api.calls == []


@pytest.mark.long
def test_by_hand(town, bazaar):
    """The maintainer's block: the numbers are those of the docs, and the bytes are the author's."""
    offered = town.offers()
    done = town.types("amira", block("maintainer"))

    assert done.returncode == 0, done.stderr
    repo = bazaar.repo("adil")
    pull = forge.adopted(repo, f"forge/{NUMBER}")
    assert (pull.number, pull.offer.slug) == (2, "0002-greetings")
    assert pull.offer.contribution.author.name == "mallory"
    assert not repo.contains(pull.head, offered) if repo.ref(offered) else True
    assert town.adopt("bruno").head == pull.head, "adopted twice is adopted once"


def test_the_head_has_to_be_in_the_pull_request(town, bazaar):
    town.offers()
    stray = git(town.clone, "commit-tree", "-m", "x", "HEAD^{tree}")

    with pytest.raises(NotFound, match="does not have commit"):
        town.adopt(head=stray)
    with pytest.raises(NotFound, match="has no refs/pull/99/head"):
        town.adopt(head="refs/pull/99/head")
    with pytest.raises(UsageError, match="not a ref"):
        town.adopt(head="--upload-pack=touch /tmp/x")


def test_a_rebased_branch_is_still_signed(town, bazaar):
    """Main moved, the author rebased by git or the forge merged main in: the same offer, and the same sign-off."""
    town.offers()
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    bazaar.land(number)
    git(town.clone, "fetch", "-q", "origin")
    git(town.clone, "checkout", "-q", "greet")
    git(town.clone, "rebase", "-q", "origin/main")
    git(town.clone, "push", "-q", "--force", "fork", "greet")
    town.opens()
    first = town.adopt()

    git(town.clone, "reset", "-q", "--hard", "greet~2")
    git(town.clone, "reset", "-q", "--hard", "fork/greet@{1}")
    git(town.clone, "merge", "-q", "-m", "Merge main", "origin/main")
    git(town.clone, "push", "-q", "--force", "fork", "greet")
    town.opens()

    assert town.adopt().head == first.head
    assert bazaar.refusal(first.number) is None


def test_the_branch_is_the_author_s_own(town, bazaar):
    """A branch with other work is not written over; main and what is checked out are no branches for it."""
    git(town.clone, "branch", "mine", "HEAD")
    create = "souq pr create ../greet.delta --title G --licence Apache-2.0 --signoff --fixes greet --branch "
    for name, because in (
        ("mine", "holds something else"),
        ("main", "holds something else"),
        ("..", "cannot be the branch"),
    ):
        done = town.types("mallory", create + name)
        assert (done.returncode, because in done.stderr) == (2, True), (name, done.stderr)
    assert town.types("mallory", create + "greet").returncode == 0
    assert town.types("mallory", create + "greet").returncode == 0


def test_too_large_for_git_goes_to_the_store(town, bazaar, monkeypatch):
    """Tensors that no forge takes in a push travel by the store, where its author may write; adopting finds them there."""
    from souq.cli.pr import forge as module

    monkeypatch.setattr(module, "MAX_LUGGAGE", 10)
    with bazaar.stage.as_actor(bazaar.actors["mallory"], town.clone):
        from souq.cli import run

        words = ["pr", "create", "../greet.delta", "--title", "G", "--licence", "Apache-2.0", "--signoff", "--fixes", "greet", "--branch", "greet"]  # fmt: skip
        assert run(words) == 0
    git(town.clone, "push", "-q", "fork", "greet")
    town.opens()

    pull = town.adopt()

    assert bazaar.refusal(pull.number) is None


def test_another_author_does_not_take_it_over(town, bazaar):
    town.offers()
    town.adopt()
    done = town.types("adil", f"souq fetch; souq pr create {bazaar.delta('count')} --title Mine --licence Apache-2.0 --signoff --fixes count --branch greet; git push -q --force {town.fork} greet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    town.opens()

    with pytest.raises(Refused, match="mallory's"):
        town.adopt()


# -- the workflow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_workflow_is_one(kind, tmp_path):
    """YAML with the keys a forge knows; no stranger's word in a `run:`; no action; the token only where it is used."""
    text = workflow(kind)
    told = yaml.safe_load(text)
    (job,) = told["jobs"].values()

    assert not re.search(r"@[A-Z]+@", text)
    assert told.keys() == {"name", True, "permissions", "concurrency", "jobs"}  # `on` is YAML's word for true
    assert told[True] == {"pull_request_target": {"types": ["opened", "synchronize", "reopened"]}}
    assert job.keys() <= {"runs-on", "container", "timeout-minutes", "defaults", "steps"}
    for step in job["steps"]:
        assert step.keys() <= {"name", "env", "run"}
        assert "${{" not in step["run"]
        assert ("GITHUB_TOKEN" in step.get("env", {})) == step["name"].startswith(("Clone", "Check", "Comment"))
        subprocess.run(["bash", "-n", "-c", step["run"]], check=True)
    used = set(re.findall(r"\$\{\{ (.+?) \}\}", "".join(line for line in text.splitlines() if "#" not in line)))
    assert {word for word in used if word.startswith("github.")} == {"github.event.pull_request.number", "github.event.pull_request.head.sha"}  # fmt: skip
    assert "checkout" not in "".join(line.split("#")[0] for line in text.splitlines())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_workflow_fits_github_s_own_schema(kind, tmp_path):
    """The schema comes inside the package that checks it: nothing is fetched."""
    check = shutil.which("check-jsonschema", path=Path(sys.executable).parent)
    if check is None:
        pytest.skip("no schema at hand: pip install check-jsonschema")
    (tmp_path / "souq.yml").write_text(workflow(kind))

    words = [check, "--builtin-schema", "vendor.github-workflows", str(tmp_path / "souq.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_beginning(town, bazaar, tmp_path):
    """docs/forges.md, "Once": the store is in souq.toml and the workflow in main's root, so that main verifies."""
    write_model(tmp_path / "place" / "model")
    shutil.copy(town.folder / "GOVERNANCE.toml", tmp_path / "place")
    git(tmp_path, "init", "-q", "--bare", "--initial-branch=main", "forge.git")
    (tmp_path / "models").mkdir()
    lines = block("begin").replace("https://forge.example/atlas/smol.git", str(tmp_path / "forge.git"))
    lines = lines.replace("s3://models/smol", f"file://{tmp_path}/models/smol").replace(
        "--store", "--no-suite --licence MIT --store"
    )

    done = town.types("amira", lines, at=tmp_path / "place")

    assert done.returncode == 0, done.stderr
    repo = Repo.find(tmp_path / "place" / "smol")
    main = Snapshot(repo, "main")
    assert main.config.store.url == f"file://{tmp_path}/models/smol"
    assert len(repo.history(main.commit)) == 1
    assert repo.read(main.commit, ".github/workflows/souq.yml").decode() == workflow("github")
    assert list((tmp_path / "models" / "smol" / "objects").iterdir())
    assert not (tmp_path / "forge.git" / "souq").exists()
    assert town.types("amira", "souq verify", at=repo.root).returncode == 0


def test_a_workflow_for_a_main_that_has_moved(town, bazaar):
    """It is written and not committed: main moves by pull requests."""
    before = bazaar.main().commit
    done = town.types("amira", "souq forge init forgejo")

    assert (done.returncode, done.stdout) == (0, ".forgejo/workflows/souq.yml\n")
    assert "not committed" in done.stderr
    assert (bazaar.actors["amira"].clone / done.stdout.strip()).read_text() == workflow("forgejo")
    assert bazaar.main().commit == before


def test_the_docs_blocks_are_verbs_that_exist():
    """Every souq line of docs/forges.md, the one nobody runs included, names verbs and options there are."""
    import click

    from souq.cli import souq

    for line in re.findall(r"^souq [^#\n]+", DOCS, re.M):
        words, command = shlex.split(line)[1:], souq
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_a_vote_by_either_name(town, bazaar):
    """`souq vote` is `souq pr review`: the same records, and the digest is asked of both."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    offer = pulls.get(bazaar.repo("amira"), number).offer

    for verb in ("vote", "pr review"):
        wrong = f"{verb} {number} --approve --reason ok --digest b3:{'0' * 64}"
        assert bazaar("amira", wrong) == 3
        assert bazaar("amira", f"{verb} {number} --approve --reason ok --digest {offer.digest}") == 0
    assert bazaar("amira", f"vote {number}") == 2
    pull = pulls.get(bazaar.repo("amira"), number)
    assert {name for name in pull.refs if name.startswith("vote/")}
