"""Days on which who decides is what it is about: amendments, elections, reversals, releases, witnesses, forks."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from souq.governance import read_policy
from souq.governance.policy import Emergency, Needs, Policy, Role, Scope, Who, format_policy
from souq.pulls import pull as pulls
from souq.weights.lockfile import lock_digest
from tests.bazaar import MAINTAINERS, PEOPLE


def latest(bazaar, who="amira"):
    return max(pull.number for pull in pulls.listed(bazaar.repo(who)))


def verified(bazaar, who="adil"):
    """Exit code and findings of a verification in somebody's clone."""
    assert bazaar(who, "fetch") == 0
    code, out, _ = bazaar.says(who, "verify --json")
    return code, json.loads(out)["findings"]


def rules(bazaar, **changes):
    """A quick policy: two organisations for everything, no windows."""
    people = tuple(
        Who(name=n, org=PEOPLE[n], keys=(pulls.signing.public_key(bazaar.actors[n].key),)) for n in MAINTAINERS
    )
    two = (Needs(role="maintainer", n=2),)
    told = {
        "person": people,
        "role": (Role(name="maintainer", members=MAINTAINERS), Role(name="security", members=MAINTAINERS)),
        "scope": (
            Scope(name="work", match=("contributions/**", "model.*", "evals/**", "releases/**"), requires=two, max_per_org=1),
            Scope(name="policy", match=("GOVERNANCE.toml",), requires=two, max_per_org=1),
        ),
        "emergency": Emergency(requires=(Needs(role="security", n=2),)),
    }  # fmt: skip
    return Policy(**told | changes)


@pytest.fixture
def town(bazaar):
    """A bazaar under the quick policy: written into its root, which is then everybody's."""
    text = format_policy(rules(bazaar))
    hub = bazaar.folder / "hub.git"
    repo, amira = bazaar.repo("amira"), bazaar.actors["amira"]
    main = bazaar.main()
    names = [path for path in main.paths("") if not path.startswith("contributions/")]
    files = {path: repo.read(main.commit, path) for path in names} | {"GOVERNANCE.toml": text.encode()}
    with bazaar.stage.as_actor(amira, amira.clone):
        root = repo.write_commit([], files, "smol: begin\n")
    for ref in repo.refs("refs/souq/"):
        subprocess.run(["git", "push", "-q", "origin", f":{ref}"], cwd=amira.clone, check=True)
    subprocess.run(["git", "push", "-q", "--force", "origin", f"{root}:refs/heads/main"], cwd=amira.clone, check=True)
    for name in PEOPLE:
        clone = bazaar.actors[name].clone
        shutil.rmtree(clone)
        assert bazaar(name, ["clone", hub, "smol"], at=bazaar.folder / name) == 0
    return bazaar


def land_weights(town, skill="greet"):
    """A contribution on main; its slug."""
    number = town.offer("mallory", town.delta(skill), skill.title(), fixes=skill)
    town.land(number)
    return pulls.get(town.repo("amira"), number).offer.slug


def approve(town, number, *who):
    for name in who:
        assert town(name, f"pr review {number} --approve --reason yes") == 0


def test_an_amendment_is_voted_on_and_then_holds(town):
    """Dina is enrolled by two organisations under the old rules; from then on her vote counts."""
    old = read_policy(town.main().policy_text)
    key = pulls.signing.public_key(town.actors["mallory"].key)
    people = (*old.person, Who(name="mallory", org="Press", keys=(key,)))
    path = town.folder / "NEW.toml"
    path.write_text(format_policy(rules(town, person=people, role=(Role(name="maintainer", members=(*MAINTAINERS, "mallory")), Role(name="security", members=MAINTAINERS)))))  # fmt: skip

    assert town("amira", ["governance", "amend", path, "--reason", "Mallory maintains too"]) == 0
    number = latest(town)
    approve(town, number, "bruno")
    assert town("bruno", f"pr merge {number}") == 3
    approve(town, number, "chen")
    assert town("bruno", f"pr merge {number}") == 0

    assert read_policy(town.main().policy_text).person_of(key).name == "mallory"
    number = town.offer("chen", town.delta("greet"))
    approve(town, number, "amira", "mallory")
    assert town("bruno", f"pr merge {number}") == 0
    assert verified(town) == (0, [])


def test_an_amendment_that_its_own_rules_would_not_pass_is_refused(town):
    """The new policy asks three organisations for an amendment; two said yes."""
    path = town.folder / "NEW.toml"
    three = Scope(name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", n=3),), max_per_org=1)
    path.write_text(format_policy(rules(town, scope=(rules(town).scope[0], three))))
    assert town("mallory", ["governance", "amend", path, "--reason", "stricter"]) == 0
    number = latest(town)
    approve(town, number, "amira", "bruno")

    code, _, err = town.says("bruno", f"pr merge {number}")

    assert (code, "by the new policy too: 1 more approval" in err) == (3, True)
    approve(town, number, "chen")
    assert town("bruno", f"pr merge {number}") == 0


def test_a_policy_that_nobody_could_satisfy_is_refused_at_once(town):
    path = town.folder / "NEW.toml"
    nine = Scope(name="work", match=("**",), requires=(Needs(role="maintainer", n=9),))
    path.write_text(format_policy(rules(town, scope=(nine,))))

    code, _, err = town.says("amira", ["governance", "amend", path, "--reason", "stricter"])

    assert (code, "at most 4 can ever vote" in err) == (2, True)
    assert pulls.listed(town.repo("amira")) == []


def test_somebody_resigns(town):
    """Nobody's leave is needed, and from then on their vote counts for nothing."""
    assert town("chen", "governance resign") == 0

    assert "chen" not in read_policy(town.main().policy_text).members("maintainer")
    number = town.offer("mallory", town.delta("greet"))
    approve(town, number, "amira", "chen")
    assert town("bruno", f"pr merge {number}") == 3
    assert verified(town) == (0, [])


def test_taking_back_is_as_if_it_had_never_been(town):
    """Reverted by two organisations: the model's digest is the base's again; restored: it is what it was."""
    before = lock_digest(town.main().model)
    slug = land_weights(town)
    merged = lock_digest(town.main().model)
    assert merged != before

    assert town("adil", ["pr", "revert", slug, "--reason", "it greets too much"]) == 0
    number = latest(town)
    approve(town, number, "bruno", "chen")
    assert town("bruno", f"pr merge {number}") == 0

    assert lock_digest(town.main().model) == before
    assert verified(town) == (0, [])
    old = next(pull for pull in pulls.listed(town.repo("amira")) if pull.offer.slug == slug)
    assert old.state(town.main()) == "taken back"
    assert town("bruno", f"pr merge {old.number}") == 3
    taken = pulls.get(town.repo("amira"), number).offer.slug
    assert town("adil", ["pr", "restore", taken]) == 0
    number = latest(town)
    approve(town, number, "bruno", "chen")
    assert town("bruno", f"pr merge {number}") == 0
    assert lock_digest(town.main().model) == merged
    assert verified(town) == (0, [])


def late(monkeypatch, at):
    """Everybody's clock says so, and they say that it is right."""
    monkeypatch.setattr("souq.signing.now", lambda: at)
    monkeypatch.setenv("SOUQ_MY_CLOCK_IS_RIGHT", "1")


def test_an_emergency_freezes_main_until_it_is_ratified_or_undone(town, monkeypatch):
    """Two of security take back at once; a week later nothing lands but its undoing, which needs nobody's leave."""
    policy = rules(town, scope=(rules(town).scope[0], Scope(name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", n=2),), max_per_org=1)))  # fmt: skip
    slow = Scope(name="work", match=policy.scope[0].match, requires=(Needs(role="maintainer", n=3),), max_per_org=1)
    path = town.folder / "NEW.toml"
    path.write_text(format_policy(rules(town, scope=(slow, policy.scope[1]))))
    slug = land_weights(town)
    assert town("mallory", ["governance", "amend", path, "--reason", "slower"]) == 0
    number = latest(town)
    approve(town, number, "amira", "bruno")
    assert town("bruno", f"pr merge {number}") == 0

    assert town("mallory", ["pr", "revert", slug, "--reason", "it leaks"]) == 0
    number = latest(town)
    approve(town, number, "amira", "bruno")
    assert town("bruno", f"pr merge {number}") == 0
    assert verified(town) == (0, [])
    urgent = pulls.get(town.repo("amira"), number).offer.slug

    late(monkeypatch, "2099-01-01T00:00:00Z")
    other = town.offer("mallory", town.delta("count"), fixes="count")
    approve(town, other, "amira", "bruno", "chen")
    code, _, err = town.says("bruno", f"pr merge {other}")
    assert (code, f"{urgent} has lapsed" in err) == (3, True)
    assert town("adil", ["pr", "restore", urgent]) == 0
    number = latest(town)
    assert town("bruno", f"pr merge {number}") in (0, 3)  # it may have landed by itself, since nobody's leave is needed
    assert slug in town.main().offers


def test_a_release_is_voted_on_and_a_yank_stays_to_be_seen(town):
    land_weights(town)
    assert town("amira", "release create 1.0 --no-scores") == 0
    number = latest(town)
    assert town.main().releases == []
    approve(town, number, "bruno", "chen")
    assert town("bruno", f"pr merge {number}") == 0
    assert town.main().releases == ["1.0"]

    assert town("amira", ["release", "yank", "1.0", "--reason", "the licence of greet was wrong"]) == 0
    number = latest(town)
    approve(town, number, "bruno", "chen")
    assert town("bruno", f"pr merge {number}") == 0

    (told,) = json.loads(town.says("amira", "release list --json")[1])
    assert told["yanked"].startswith("Yank 1.0: the licence")
    assert verified(town) == (0, [])


def test_a_nightly_is_one_person_s_and_beside_main(town):
    before = town.main().commit
    assert town("amira", "release nightly --no-scores") == 0
    assert town("amira", "release nightly --no-scores") == 3
    assert town("mallory", "release nightly --no-scores") == 3

    assert town.main().commit == before
    (told,) = json.loads(town.says("bruno", "release list --json")[1])
    assert told["channel"] == "nightly"
    assert verified(town) == (0, [])


def test_a_council_is_elected(town, monkeypatch):
    """Ballots of more than half of the electors, of two organisations; the outcome is everybody's arithmetic."""
    path = town.folder / "NEW.toml"
    council = Role(name="council", members=("amira",), elected_by="maintainer", seats=2, max_per_org=1)
    path.write_text(format_policy(rules(town, role=(*rules(town).role, council))))
    assert town("mallory", ["governance", "amend", path, "--reason", "a council"]) == 0
    number = latest(town)
    approve(town, number, "amira", "bruno")
    assert town("bruno", f"pr merge {number}") == 0

    soon = "2098-01-01T00:00:00Z"
    words = ["election", "open", "council", "--closes", soon]
    assert town("chen", [*words, *(w for name in ("amira", "adil", "bruno") for w in ("--candidate", name))]) == 0
    number = latest(town)
    for who, choices in {"amira": "amira adil", "bruno": "adil bruno", "chen": "adil bruno"}.items():
        assert town(who, f"election ballot {number} {choices}") == 0
    assert town("amira", f"election ballot {number} dina") == 2
    assert town("amira", f"election count {number}") == 3

    late(monkeypatch, "2098-01-01T00:00:01Z")
    code, out, _ = town.says("amira", f"election count {number} --json")
    assert (code, json.loads(out)["winners"]) == (0, ["adil", "bruno"])
    assert town("bruno", f"pr merge {number}") == 0

    assert read_policy(town.main().policy_text).members("council") == ("adil", "bruno")
    assert verified(town) == (0, [])


def test_a_witness_notices_a_history_that_was_rewritten(town):
    """Bruno signed what he saw; a server that takes it away is found out by whoever has his note."""
    land_weights(town)
    assert town("bruno", "witness") == 0
    assert verified(town) == (0, [])
    amira = town.actors["amira"]
    repo = town.repo("amira")
    root = repo.history(repo.tip())[0]
    subprocess.run(["git", "push", "-q", "--force", "origin", f"{root}:refs/heads/main"], cwd=amira.clone, check=True)
    fresh = town.folder / "fresh"
    fresh.mkdir()
    assert town("mallory", ["clone", town.folder / "hub.git", "smol"], at=fresh) == 0

    code, out, _ = town.says("mallory", ["verify", fresh / "smol", "--no-rebuild", "--json"])

    assert code == 3
    assert "bruno saw main 2 steps long" in json.loads(out)["findings"][0]


def test_a_wrong_clock_is_noticed_before_it_is_history(town, monkeypatch):
    """Who would sign or land something by a clock that the shared folder contradicts is told so, and nothing moves."""
    land_weights(town)
    number = town.offer("mallory", town.delta("count"), fixes="count")
    approve(town, number, "amira", "bruno")
    before = town.main().commit
    for at in ("2026-01-01T00:00:00Z", "2096-01-01T00:00:00Z", later(town, seconds=700)):
        monkeypatch.setattr("souq.signing.now", lambda at=at: at)
        for who, line in {"amira": f"pr review {number} --approve --reason again", "chen": f"pr checks {number}", "bruno": f"pr merge {number}", "adil": "queue run"}.items():  # fmt: skip
            code, _, err = town.says(who, line)
            assert (code, f"your clock says {at}, and the clock of the shared folder says 20" in err) == (3, True), line

    assert town.main().commit == before
    monkeypatch.undo()
    assert town("bruno", f"pr merge {number}") == 0


def later(town, **how):
    return (datetime.now(UTC) + timedelta(**how)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_landing_from_2096_freezes_nothing(town, monkeypatch):
    """Bruno's clock is seventy years fast and he says that it is right; the next landing, by others, says it is not."""
    first = town.offer("mallory", town.delta("greet"), fixes="greet")
    approve(town, first, "amira", "bruno")
    with monkeypatch.context() as fast:
        late(fast, "2096-11-30T07:00:00Z")
        assert town("bruno", f"pr merge {first}") == 0
    code, findings = verified(town)
    assert (code, "dated 2096-11-30T07:00:00Z" in findings[0]) == (3, True)

    second = town.offer("mallory", town.delta("count"), fixes="count")
    approve(town, second, "bruno")
    assert town("bruno", f"pr review {second} --approve") == 0
    assert town("amira", f"pr review {second} --approve") == 0
    code, _, err = town.says("bruno", "queue run")
    assert (code, "nobody apart from who merged" in err) == (3, True)
    assert town("amira", f"pr merge {second}") == 0

    assert verified(town) == (0, [])


def test_a_shallow_clone_is_not_believed(town):
    """Its beginning is not there, so nothing can be judged."""
    folder = town.folder / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{town.folder}/hub.git", folder], check=True)

    code, out, _ = town.says("amira", ["verify", folder, "--no-rebuild"])

    assert (code, "git fetch --unshallow" in out) == (3, True)
