"""Before anything is signed: whether this machine's clock can be right."""

from __future__ import annotations

import os

import pytest

from souq.errors import Refused
from souq.governance.decide import LAST_SECOND, spelled
from souq.repo.clock import CONFIRMED, QUIET, refuse_wrong_clock

NOW = 1_780_000_000.0


class Main:
    commit = "main"


class Repo:
    """What the clock is asked of: when commits were made, and a shared folder."""

    def __init__(self, folder=None, **made):
        self.folder, self.made = folder, {"main": NOW, **made}

    def remote_folder(self):
        return self.folder

    def summary(self, commit):
        made = self.made[commit]
        return commit, spelled(made).replace("Z", "+00:00") if isinstance(made, float) else made, "x", "y"


@pytest.fixture(autouse=True)
def fixed(monkeypatch):
    monkeypatch.delenv(CONFIRMED, raising=False)
    set_to(monkeypatch, NOW)


def set_to(monkeypatch, now):
    monkeypatch.setattr("souq.signing.now", lambda: spelled(now))


def refusal(repo, *heads):
    with pytest.raises(Refused) as caught:
        refuse_wrong_clock(repo, Main, *heads)
    assert caught.value.hint == f"set your clock; if it is right, say so: {CONFIRMED}=1 souq …"
    return str(caught.value)


def test_thirty_days_without_a_commit_are_asked_about(monkeypatch):
    """To the second; the newest of all counts, and what is no date counts for nothing."""
    refuse_wrong_clock(Repo(main=NOW - QUIET), Main)
    old = NOW - QUIET - 1
    line = f"your clock says {spelled(NOW)}, and the newest commit here is of {spelled(old)}"
    assert refusal(Repo(main=old)) == line
    assert refusal(Repo(main=old, head=old - 5), "head") == line
    refuse_wrong_clock(Repo(main=old, head=NOW), Main, "head")
    assert "of 1970-01-01T00:00:00Z" in refusal(Repo(main="no date"))
    refuse_wrong_clock(Repo(main=NOW + 10 * QUIET), Main)
    monkeypatch.setenv(CONFIRMED, "1")
    refuse_wrong_clock(Repo(main=old), Main)


def test_the_shared_folder_has_a_clock_of_its_own(tmp_path, monkeypatch):
    """Ten minutes of skew, either way; and nothing is left there."""
    at = 1_779_999_000.0

    def fstat(handle):
        return os.stat_result((0,) * 8 + (at, 0))

    monkeypatch.setattr("souq.repo.clock.os.fstat", fstat)
    for skew in (-600, 0, 600):
        set_to(monkeypatch, at + skew)
        refuse_wrong_clock(Repo(tmp_path), Main)
    for skew in (-601, 601, 70 * 365 * 86_400):
        set_to(monkeypatch, at + skew)
        told = refusal(Repo(tmp_path, main=at + skew))
        assert told.endswith(f"and the clock of the shared folder says {spelled(at)}")
    assert list(tmp_path.iterdir()) == []
    set_to(monkeypatch, NOW + QUIET + 1)
    both = refusal(Repo(tmp_path))
    assert "shared folder" in both
    assert "newest commit" in both


def test_where_nothing_can_be_written_nothing_is_asked(tmp_path):
    refuse_wrong_clock(Repo(tmp_path / "absent"), Main)
    refuse_wrong_clock(Repo(None), Main)


def test_a_time_beyond_the_calendar_is_shown_as_its_last_second():
    assert spelled(1e18) == spelled(LAST_SECOND) == "9999-12-31T23:59:59Z"
    assert spelled(0.0) == spelled(-1.0) == "1970-01-01T00:00:00Z"
