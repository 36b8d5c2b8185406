"""The company again, with real keys and bytes: what it pushes is judged from git to decision (test_company.py)."""

from __future__ import annotations

import shutil

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from souq.governance import POLICY, read_policy
from souq.governance.policy import format_policy
from souq.records import Vote
from tests import annals
from tests.test_company import ATLAS, enrolling, leaving
from tests.voters import at

KINDS = ["data", "evals", "governance", "resign", "revert", "again", "release"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(
        st.sampled_from(KINDS), st.sampled_from([*ATLAS, "sock"]), st.sampled_from(["none", "their old votes", "renamed"]),
        st.sampled_from(["", "", "policy", "readme"]), st.integers(0, 1),
    ), min_size=1, max_size=4),
)  # fmt: skip
@example([(kind, "sock", "their old votes", "", 0) for kind in KINDS])
@example([(kind, "amira", "renamed", "", 1) for kind in KINDS])
def test_no_bytes_of_a_company_change_main(tmp_path_factory, acts):
    folder = tmp_path_factory.mktemp("company")
    try:
        town = annals.Annals(folder / "town")
        town.open("data", "mallory", title="honest")
        town.agreed("bruno", "chen")
        assert town.findings() == []
        for kind, author, replayed, smuggled, which in acts:
            commits, files = list(town.commits), dict(town.files)
            _attempt(town, kind, author, replayed, smuggled, which)
            wrong = town.findings()
            if kind == "resign" and author in ATLAS and not smuggled:
                assert wrong == []
                policy = read_policy(town.main.policy_text)
                assert author not in {name for role in policy.role for name in role.members}
            else:
                assert wrong, (kind, author, replayed, smuggled)
                town.commits, town.files = commits, files
    finally:
        shutil.rmtree(folder)


def _attempt(town, kind, author, replayed, smuggled, which) -> None:
    policy = read_policy(town.main.policy_text)
    home = "contributions/0001-x/"
    old = {path.removeprefix(home): data for path, data in town.files.items() if path.startswith(f"{home}records/vote")}
    friend = enrolling(policy, f"friend{len(town.commits)}", "Friends", (annals.public("sock"),))
    brings = {
        "evals": {"evals/e/eval.toml": b"x"}, "governance": {POLICY: format_policy(friend).encode()},
        "resign": {POLICY: format_policy(leaving(policy, author)).encode()},
    }.get(kind)  # fmt: skip
    if kind == "resign" and author not in policy.members("maintainer"):
        brings = {POLICY: format_policy(leaving(policy, "bruno")).encode()}
    if kind == "again":
        town.open("data", "mallory", title="honest", which=0)
    else:
        named = {"revert": "0001-x", "release": "v1"}.get(kind, "")
        files = town.release() if kind == "release" else brings
        town.open("governance" if kind == "resign" else kind, author, files, of=named, which=which)
    mine = [town.vote(name, which=w, hours=-500) for name in ATLAS for w in (0, 1)] + [town.vote("sock")]
    theirs = [old] if replayed == "their old votes" else []
    if replayed == "renamed":  # their names under its own keys
        theirs = [
            town.record(
                "vote", "amira", Vote(subject=town.offered.digest, choice="approve", reason="", by="bruno", at=at(1))
            )
        ]
    more = {"policy": {POLICY: format_policy(friend).encode()}, "readme": {"README.md": b"x"}}.get(smuggled, {})
    hours_ = 10.0 + len(town.commits)
    town.land(
        *mine, *theirs, *(town.checked(name, hours=hours_ - 1) for name in ATLAS), by="adil", hours=hours_, more=more
    )
