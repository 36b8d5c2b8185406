"""A landed contribution's sketches are taken anew: it lands as any change, and goes as if it had never been."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from souq.build.incremental import sums_of
from souq.build.lock import model_lock
from souq.build.model import build
from souq.checks import Case
from souq.checks.tensors import fits_base, tensors
from souq.lab import lm as lab_model
from souq.lab import sketching
from souq.lab.packing import sequence_of
from souq.pulls import pull as pulls
from souq.records import format_toml
from souq.repo.contribution import Offer, number_of
from souq.repo.landing import conflicts_with, malformed
from souq.repo.rows import rows_of
from souq.repo.snapshot import Snapshot, needed
from souq.weights.delta import Delta, Dense, Gram, TensorRef
from souq.weights.lockfile import format_delta, parse_delta
from tests.bazaar import SKILLS, copied

NORM = "model.norm.weight"
EYES = ("amira", "bruno", "chen")  # on a model this small every change moves much, so people are asked to look


@pytest.fixture(scope="module")
def built_two(built_bazaar, tmp_path_factory):
    """Both skills have landed, each with its rows."""
    bazaar = copied(built_bazaar, folder := tmp_path_factory.mktemp("two") / "town")
    for number, skill in enumerate(SKILLS, start=2):
        bazaar.offer("chen", bazaar.delta(skill), fixes=skill, more=["--data", bazaar.folder / f"{skill}.jsonl"])
        bazaar.land(number)
    return folder


@pytest.fixture
def two(built_two, tmp_path, capfd):
    return copied(built_two, tmp_path / "town", capfd)


def newest(bazaar):
    return max(pull.number for pull in pulls.listed(bazaar.repo("amira")))


def resketched(bazaar, who="mallory", words=""):
    """Offered and landed; its slug."""
    assert bazaar(who, f"pr resketch --sketch-rank 8 {words}") == 0
    number = newest(bazaar)
    bazaar.land(number, *EYES)
    return pulls.get(bazaar.repo("amira"), number).offer.slug


def test_they_land_as_any_change_and_whoever_doubts_builds_the_same(two):
    before = two.main()

    slug = resketched(two)

    main = two.main()
    assert main.landed[slug].sketches.keys() == {"0002-greetings", "0003-greetings"}
    assert set(main.members().values()) == set(before.members().values())
    assert not main.members().keys() & before.members().keys()
    assert main.model != before.model
    assert model_lock(main) == main.model
    assert two("mallory", "fetch") == 0
    assert two("mallory", "verify") == 0
    assert two("mallory", "fsck") == 0
    for line in (f"show {slug}", "pr view 2", "pr view 4", "pr diff 4", "pr list", "log", "status", "build --explain"):
        code, _out, err = two.says("mallory", line)
        assert (code, "no forecast" in err) == (0, False), (line, err)
    assert "0003-greetings" in two.says("mallory", "build --explain")[1]


def test_the_change_stays_and_its_sketch_is_of_main(two):
    """Not of the author's own model: the same rows say something else in the merged one, but for the first layer."""
    before = two.main()

    slug = resketched(two)

    main = two.main()
    was, now = (dict(zip(s.members().values(), s.deltas().values(), strict=True)) for s in (before, main))
    model = build(before)
    lm = lab_model.load(model.files, model.weights)
    for each, delta in now.items():
        assert delta.parts == was[each].parts
        assert delta.inputs == was[each].inputs
        assert delta.grams == main.offers[slug].sketches[each].grams != was[each].grams
        rows = rows_of(main.offers[each].data)
        again = sketching.sketch(lm, [sequence_of(lm, row) for row in rows], rank=8, only=list(delta.parts))
        for group, (factor, diag, tokens) in again.groups.items():
            gram, load = delta.grams[group], main.repo.store.get
            assert gram.tokens == tokens
            got, want = ((f.astype(float).T @ f + np.diag(d)) for f, d in ((load(gram.factor.digest), load(gram.diag.digest)), (factor, diag)))  # fmt: skip
            assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


def test_taken_back_main_is_as_if_it_had_never_been(two):
    before = two.main()
    slug = resketched(two)
    after = two.main()

    assert two("mallory", ["pr", "revert", slug, "--reason", "worse"]) == 0
    two.land(newest(two), *EYES)
    taken = two.main()
    assert taken.model == before.model
    assert taken.recipe() == before.recipe()

    assert two("mallory", ["pr", "restore", next(s for s in taken.landed if taken.landed[s].kind == "revert")]) == 0
    two.land(newest(two), *EYES)
    assert two.main().model == after.model
    assert two("amira", "verify") == 0


def test_who_is_taken_back_takes_its_new_sketches_along(two):
    """And main is what it would be had only the other been there, sketched as it is now."""
    resketched(two)

    assert two("mallory", ["pr", "revert", "0002-greetings", "--reason", "worse"]) == 0
    two.land(newest(two), *EYES)

    main = two.main()
    assert set(main.members().values()) == {"0003-greetings"}
    assert main.model == model_lock(main)
    assert two("amira", "verify") == 0


def test_only_the_highest_number_counts(two):
    """What was offered before does not land after: nobody would see that it does nothing."""
    assert two("mallory", "pr resketch --sketch-rank 4") == 0
    assert two("mallory", "pr resketch --sketch-rank 8 0002-greetings") == 0
    early, late = sorted(pull.number for pull in pulls.listed(two.repo("amira")))[-2:]
    two.land(late, *EYES)

    code, out, _ = two.says("amira", f"pr checks {early}")
    assert code == 3
    assert "has renewed the sketches of 0002-greetings since" in out.replace("\n", " ")
    assert two.main().sketched() == {"0002-greetings": pulls.get(two.repo("amira"), late).offer.slug}


def test_a_build_reads_who_was_sketched_anew_and_no_other(two):
    before = two.main()
    build(before)
    slug = resketched(two, words="0003-greetings")

    main = two.main()
    assert [s for n, s in main.members().items() if n not in before.members()] == ["0003-greetings"]
    info = build(main).info
    assert info.kept == 1, info
    assert build(main).lock == model_lock(main)
    assert sums_of(main, None) == sums_of(before, None)
    assert {ref.digest for ref in main.offers[slug].refs()} <= set(needed(main.repo, {"main": main.commit}))


def test_private_rows_are_named_and_never_sent(two, tmp_path):
    rows = (two.folder / "count.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "mine.jsonl").write_text("".join(rows[::-1]))

    slug = resketched(two, words=f"--data 0003-greetings={tmp_path / 'mine.jsonl'}")

    offer = two.main().offers[slug]
    assert set(offer.files) == {"contribution.toml", "sketches/0003-greetings.lock"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("0009-none", "no contribution has '0009-none' in its name"),
        ("0001-evals", "0001-evals: no contribution of weights on main"),
        ("--data 0002-greetings=nowhere.jsonl", "no file nowhere.jsonl"),
    ],
)
def test_what_cannot_be_sketched_is_said(two, words, line):
    code, _, err = two.says("chen", f"pr resketch {words}")

    assert code in (1, 2)
    assert line in err


def test_who_sketches_another_s_work_is_looked_at(two):
    assert two("bruno", "pr resketch --sketch-rank 8") == 0
    code, out, _ = two.says("amira", f"pr checks {newest(two)} --json")

    verdict = next(v for v in json.loads(out)["verdicts"] if v["check"] == "fits-base")
    assert code == 0
    assert verdict["outcome"] == "needs-eyes"
    assert "0002-greetings is chen's" in verdict["because"]


# -- what cannot land --------------------------------------------------------------------------------------------------


@pytest.fixture
def one(bazaar):
    bazaar.offer("chen", bazaar.delta("greet"))
    bazaar.land(2)
    return bazaar.main()


SLUG = "0002-greetings"


def offered(main: Snapshot, change=lambda delta: delta, *, slug="0007-x", of=SLUG, more=None) -> Offer:
    """Sketches as `change` makes them of the landed contribution's own."""
    theirs = main.offers[SLUG]
    new = change(replace(theirs.delta, parts={}, new={}))
    told = msgspec.structs.replace(theirs.contribution, kind="sketches", fixes=())
    return Offer(
        slug,
        {"contribution.toml": format_toml(told).encode(), f"sketches/{of}.lock": format_delta(new).encode()}
        | (more or {}),
    )


def fed(**inputs):
    return lambda delta: replace(delta, inputs={**delta.inputs, **inputs})


def some(delta: Delta) -> Delta:
    name, gram = next(iter(delta.grams.items()))
    return Delta(delta.base, {}, {name: gram}, {t: g for t, g in delta.inputs.items() if g == name})


def test_its_own_sketches_again_could_land(one):
    assert malformed(offered(one)) == conflicts_with(one, offered(one)) == ""


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda d: replace(d, grams={}, inputs={}), "sketches/0002-greetings.lock holds no sketch"),
        (
            lambda d: replace(d, parts={NORM: Dense(value=next(iter(d.grams.values())).diag)}),
            "sketches/0002-greetings.lock changes weights",
        ),
    ],
)
def test_sketches_change_nothing_and_are_some(one, change, line):
    assert malformed(offered(one, change)) == line


@pytest.mark.parametrize("path", ["x", "0002-greetings", "../0002-greetings.lock", "a/b.lock", "A.lock", ".lock"])
def test_they_are_named_after_whose_they_are(one, path):
    lock = next(data for name, data in offered(one).files.items() if name.startswith("sketches/"))

    assert "is not named after a contribution" in malformed(offered(one, more={f"sketches/{path}": lock}))


@pytest.mark.parametrize(
    ("change", "of", "line"),
    [
        (lambda d: d, "0001-evals", "0001-evals is no contribution of weights here, so it has no sketches to renew"),
        (lambda d: d, "0003-none", "0003-none is no contribution of weights here, so it has no sketches to renew"),
        (lambda d: replace(d, base="b3:" + "0" * 64), SLUG, "the new sketches of 0002-greetings are of another base"),
        (lambda d: fed(**{NORM: next(iter(d.grams))})(d), SLUG, f"a new sketch of 0002-greetings is of what flows into {NORM}, which it does not change"),
        (some, SLUG, "0002-greetings has a sketch of what flows into"),
    ],
)  # fmt: skip
def test_they_are_of_what_landed_and_leave_nothing_bare(one, change, of, line):
    assert conflicts_with(one, offered(one, change, of=of)).startswith(line)


def judged(main: Snapshot, offer: Offer, check):
    return check(Case(main, main.commit, offer))


def with_gram(main: Snapshot, change):
    """Of one of its groups another factor and diagonal, which are in the store."""

    def made(delta: Delta) -> Delta:
        name, gram = next(iter(delta.grams.items()))
        arrays = change(*(main.repo.store.get(ref.digest) for ref in (gram.factor, gram.diag)))
        for array in arrays:
            main.repo.store.put(array)
        factor, diag = map(TensorRef.of, arrays)
        return replace(delta, grams={**delta.grams, name: Gram(factor=factor, diag=diag, tokens=gram.tokens)})

    return made


@pytest.mark.parametrize(
    ("change", "check", "line"),
    [
        (lambda f, d: (f[:, :-1].copy(), d[:-1].copy()), fits_base, "does not have its width"),
        (lambda f, d: (np.zeros((100_000, f.shape[1]), f.dtype), d), fits_base, "is of rank 100,000"),
        (lambda f, d: (f, -d), tensors, "a sketch has a diagonal with numbers below zero"),
        (lambda f, d: (f, d * np.float32("nan")), tensors, "numbers are not finite"),
    ],
)
def test_a_sketch_that_no_merge_could_use_is_refused(one, change, check, line):
    verdict = judged(one, offered(one, with_gram(one, change)), check)

    assert verdict[0] == "refuse"
    assert line in verdict[1]


def test_the_same_is_asked_of_sketches_that_come_with_weights(one):
    """A diagonal below zero, which a merge would have divided by."""
    offer = one.offers[SLUG]
    delta = with_gram(one, lambda f, d: (f, -d))(offer.delta)
    verdict = judged(one, Offer("0007-x", {**offer.files, "delta.lock": format_delta(delta).encode()}), tensors)

    assert verdict[0] == "refuse"
    assert "below zero" in verdict[1]


def test_numbers_order_contributions_and_not_letters():
    assert sorted(["10000-b", "0009-a", "x", "9999-z"], key=number_of) == ["x", "0009-a", "9999-z", "10000-b"]


def test_what_is_written_is_read(one):
    for text in offered(one).files.items():
        if text[0].endswith(".lock"):
            assert format_delta(parse_delta(text[1].decode())).encode() == text[1]


# -- what main keeps of each -------------------------------------------------------------------------------------------


def is_first_choice(lm, tokens, start):
    """Whether every token of an answer is what the network would have said there."""
    with torch.inference_mode():
        said = lm.net(torch.tensor([tokens])).logits[0].argmax(-1).tolist()
    return said[start - 1 : -1] == tokens[start:]


def test_what_main_keeps_of_each_is_measured_on_its_own_rows(two):
    """By the same models as anybody loads them: the base, each laid over it alone, and main."""
    code, out, _ = two.says("chen", "pr kept --json")
    measured = {each["slug"]: each for each in json.loads(out)}

    main = two.main()
    lm = lab_model.load(build(main).files, build(main).weights)
    for slug, each in measured.items():
        rows = [sequence_of(lm, row) for row in rows_of(main.offers[slug].data)]
        assert each["main"]["nats"] == pytest.approx(sketching.nats(lm, rows), rel=0.02)  # main's file is rounded
        assert each["rows"] == len(rows)
        before, alone, now = (each[where]["right"] for where in ("base", "alone", "main"))
        assert each["alone"]["nats"] < each["base"]["nats"]
        assert each["share"] == pytest.approx((now - before) / (alone - before))
        assert now == pytest.approx(np.mean([is_first_choice(lm, row.tokens, row.start) for row in rows]), abs=0.08)
    assert (code, [*measured]) == (0, ["0002-greetings", "0003-greetings"])
    assert json.loads(two.says("chen", "pr kept --json")[1]) == json.loads(out)  # from memory


def test_who_is_alone_is_kept_whole(bazaar):
    bazaar.offer("chen", bazaar.delta("greet"), more=["--data", bazaar.folder / "greet.jsonl"])
    assert bazaar("amira", "pr checks 2") == 0
    for who in ("amira", "bruno"):
        assert bazaar(who, "pr review 2 --approve") == 0

    code, out, _ = bazaar.says("bruno", "pr merge 2 --kept --json")

    (each,) = json.loads(out)["kept"]
    assert code == 0
    assert 0.5 < each["share"] <= 1.01


def test_without_rows_nothing_is_measured(bazaar):
    bazaar.offer("chen", bazaar.delta("greet"))
    bazaar.land(2)

    code, _, err = bazaar.says("chen", "pr kept")
    assert code == 2
    assert "nobody brought rows to main" in err
    assert "--data SLUG=FILE.jsonl" in err
    assert bazaar("chen", ["pr", "kept", "--data", f"0002-greetings={bazaar.folder / 'greet.jsonl'}"]) == 0
