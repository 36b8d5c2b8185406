"""What a build promises under a limit of memory: the same bytes, no more held than said, and a no before anything is read."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys

import pytest

from souq.build import model as building
from souq.build import plan as plans
from souq.build.plan import Piece, Room, least, steps
from souq.errors import UsageError
from souq.repo.snapshot import Snapshot
from tests.large import TABLE, TALL, WIDE, begin, settle

MB = 1_000_000
LIMIT, SYSTEM = 320 * MB, 480 * MB  # what souq is told, and what the system lets a process have


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    repo = begin(tmp_path_factory.mktemp("large") / "large")
    return repo, settle(repo)


def limited():
    resource.setrlimit(resource.RLIMIT_DATA, (SYSTEM, SYSTEM))


def typed(repo, *words, bound=True):
    line = [sys.executable, "-m", "souq", *words, "--json"]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return subprocess.run(line, cwd=repo.root, capture_output=True, env=env, preexec_fn=limited if bound else None, check=False)  # fmt: skip


def test_under_a_limit_of_the_system_the_bytes_are_the_same(large):
    """A process that may not have the memory of one merge builds the model all the same; without --memory it cannot."""
    repo, lock = large
    repo.drop_cache()
    assert typed(repo, "build").returncode not in (0, 3)

    done = typed(repo, "build", "--memory", f"{LIMIT // MB}MB", "--explain")

    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert json.loads(done.stdout)["differs"] == []
    assert building.build(Snapshot(repo, "main")).lock == lock


def test_what_is_held_is_no_more_than_was_said(large):
    """The peak that the system measures is below the limit, and the plan said how it would be kept."""
    repo, _ = large
    repo.drop_cache()
    ahead = json.loads(typed(repo, "build", "--plan", "--memory", f"{LIMIT // MB}MB", bound=False).stdout)
    code = f"from souq.cli import run; run(['build', '--memory', '{LIMIT // MB}MB']); print(open('/proc/self/status').read())"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=repo.root, capture_output=True, check=True)

    (most,) = re.findall(rb"VmHWM:\s*(\d+) kB", done.stdout)
    assert int(most) * 1024 < LIMIT
    assert ahead["rows"].keys() == {TABLE}
    assert ahead["tensors"]["merged by rows"] == 1
    assert ahead["peak"] <= ahead["limit"] == LIMIT
    assert ahead["scratch"] == 32_000 * 256 * 2
    assert "lacking" not in ahead


@pytest.mark.parametrize("method", ["mean", "task-arithmetic", "covariance"])
def test_rows_at_a_time_are_the_whole(large, tmp_path, monkeypatch, method):
    """Every matrix in strips of a few rows, of every kind of change, with sketches and without: bit for bit."""
    repo = large[0] if method == "covariance" else begin(tmp_path / method, method)
    lock = large[1] if method == "covariance" else settle(repo)
    repo.drop_cache()
    monkeypatch.setattr(plans, "_step", lambda piece, room: plans.Step(piece, 1, 77 if piece.how == "merged" else 0))

    built = building.build(Snapshot(repo, "main"), memory=10**12)

    assert built.lock == lock
    assert {TABLE, WIDE, TALL} <= {*built.info.computed}


def test_what_cannot_fit_is_refused_before_anything_is_read(large):
    """With the tensors gone from the disk, a plan is still a plan, and a limit too small is a no with what to type."""
    repo, _ = large
    repo.drop_cache()
    objects = repo.store.objects
    objects.rename(objects.with_name("aside"))
    try:
        done = typed(repo, "build", "--memory", "150MB", bound=False)
        shown = typed(repo, "build", "--plan", "--memory", "150MB", bound=False)
    finally:
        objects.with_name("aside").rename(objects)

    assert done.returncode == 2
    assert b"this build does not fit" in done.stderr
    assert b"--memory " in done.stderr
    assert shown.returncode == 3
    assert json.loads(shown.stdout)["needs"] > 150 * MB
    assert not list((repo.cache / "built").glob("*/model.safetensors"))


def test_the_least_that_would_do_does(large):
    repo, lock = large
    repo.drop_cache()
    needs = building.planned(Snapshot(repo, "main")).needs

    with pytest.raises(UsageError, match="does not fit"):
        building.build(Snapshot(repo, "main"), memory=needs - MB * 50)
    assert building.build(Snapshot(repo, "main"), memory=needs + MB).lock == lock


def test_built_already_is_nothing_to_do(large):
    repo, _ = large
    building.build(Snapshot(repo, "main"))

    assert building.planned(Snapshot(repo, "main")) is None
    assert json.loads(typed(repo, "build", "--plan", bound=False).stdout) == {"built": True}


def test_a_method_that_is_no_sum_is_held_whole():
    """TIES looks at all of a matrix: it gets no strips, and the least that does is what it takes."""
    piece = Piece("w", "merged", ((10_000, 10_000),), changes=3, sums=False)

    (step,) = steps([piece], 10**9, 10**8)

    assert step.rows == 0
    assert step.need > 10**9
    assert least([piece], 10**8) == step.need + 10**8


def test_an_8b_with_sketches_says_what_its_widest_system_takes():
    """The system of a matrix of 14,336 inputs does not fit in 8 GB, whatever the rows, and that is what is said."""
    piece = Piece("down", "merged", ((4096, 14336),), system=14336, changes=10, ranks=80)

    assert 8.5e9 < least([piece], 0) < 9e9
    assert steps([piece], 8 * 10**9, 10**8)[0].need > 8 * 10**9


def test_a_room_lets_in_what_fits_and_what_never_does_alone():
    room, seen = Room(100), []
    with room.of(60), room.of(40):
        seen.append("both")
    with room.of(500):
        seen.append("alone")

    assert seen == ["both", "alone"]


@pytest.mark.parametrize("text", ["8 apples", "-1GB", "0", "", "1e9", "8GBB", "٨GB"])
def test_a_size_that_is_none_is_refused(text):
    from souq.cli.sizes import bytes_of

    with pytest.raises(UsageError, match="no size"):
        bytes_of(text, "--memory")
