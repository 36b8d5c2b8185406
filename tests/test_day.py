"""Whole days at the bazaar, on a tiny model: real git, real keys, real training."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from xml.etree import ElementTree

import numpy as np
import pytest

from souq.build.delta_file import read_delta, read_recipe
from souq.build.lock import model_lock
from souq.build.model import build
from souq.checks.evals import scores
from souq.errors import Refused
from souq.governance import read_policy
from souq.lab import lm as lab_model
from souq.lab.packing import sequence_of
from souq.lab.sketching import nats
from souq.pulls import pull, reviews
from souq.pulls.offer import Draft, amend
from souq.repo.landing import files_gained, touched
from souq.repo.rows import read_rows
from souq.repo.snapshot import Snapshot
from souq.verify import verify
from souq.weights.lockfile import lock_digest
from tests.bazaar import rows


def test_a_stranger_teaches_the_model_to_greet(bazaar):
    """Offered, checked, approved by two organisations, merged, verified from a clean clone, exported, released."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    before = bazaar.main().model

    assert bazaar("amira", f"pr checks {number}") == 0
    assert bazaar("amira", f"pr review {number} --approve --reason right") == 0
    code, _, err = bazaar.says("amira", f"pr merge {number}")
    assert (code, "missing: 1 more approval from `maintainer`" in err) == (3, True)
    assert bazaar("bruno", f"pr review {number} --approve --reason right") == 0
    assert bazaar("bruno", f"pr merge {number}") == 0

    main = bazaar.main()
    moved = [name for name in main.base if main.model[name] != before[name]]
    assert len(moved) == 14
    bazaar.release("amira", "1.0")
    assert bazaar("adil", "fetch") == 0
    report = json.loads(bazaar.says("adil", "verify --json")[1])
    assert (report["findings"], report["rebuilt"], report["releases"]) == ([], 14, 1)


def test_one_company_alone_cannot_merge(bazaar):
    """Two people of Atlas say yes: exit 3, and the answer names what is missing. Nothing moves."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar("bruno", f"pr checks {number}")
    for who in ("amira", "adil"):
        bazaar(who, f"pr review {number} --approve --reason ours")
    before = bazaar.main().commit

    code, out, err = bazaar.says("amira", f"pr merge {number}")

    assert code == 3
    assert out == ""
    assert err == (
        f"Error: #{number} cannot merge yet\n"
        "  missing: 1 more approval from `maintainer` for contributions (have adil of Atlas; "
        "amira's does not count: Atlas has 1 of at most 1 already)\n"
    )
    assert bazaar.main().commit == before


def test_a_sketch_can_be_taken_within_main(bazaar):
    """--within: the same change, its inputs as they are in the model it becomes part of."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    assert bazaar("chen", "fetch") == 0
    make = ["delta", "make", "--from", bazaar.folder / "count-adapter", "--sketch-rank", "8"]
    rows = ["--data", bazaar.folder / "count.jsonl", "--within"]
    assert bazaar("chen", [*make, *rows, "--out", bazaar.folder / "within.delta"]) == 0

    (plain, _), (within, tensors) = (read_delta(bazaar.folder / f"{name}.delta") for name in ("count", "within"))

    assert within.parts == plain.parts
    assert (within.inputs, within.grams == plain.grams) == (plain.inputs, False)
    assert all(np.isfinite(tensors[gram.diag.digest]).all() for gram in within.grams.values())
    assert read_recipe(bazaar.folder / "within.delta")["sketched"] == {"within": bazaar.main().commit}
    assert bazaar.says("chen", [*make, "--within", "--out", "x.delta"])[0] == 2


def test_push_says_where_as_it_was_typed(bazaar):
    """The folder as seen from where one stands, not as this machine keeps it; unnamed, the remote that is set."""
    assert bazaar("amira", "fetch") == 0
    assert bazaar.says("amira", "push ../../hub.git") == (0, "pushed to ../../hub.git\n", "")
    assert bazaar.says("amira", "push")[1].endswith("/hub.git\n")


def test_what_is_merged_is_not_merged_again(bazaar):
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar.land(number)
    before = bazaar.main().commit

    code, _, err = bazaar.says("bruno", f"pr merge {number}")

    assert (code, err.splitlines()[0]) == (3, f"Error: #{number} is already merged")
    assert bazaar.main().commit == before


def test_three_orders_give_one_model(bazaar):
    """The same contributions merged in any order build to equal digests."""
    first = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar.land(first)
    second = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    bazaar.land(second)
    main = bazaar.main()
    root = main.repo.history(main.commit)[0]

    found = set()
    for order in permutations(slug for slug, offer in main.offers.items() if offer.delta):
        commit = root
        for slug in order:
            commit = main.repo.write_commit([commit], dict(files_gained(main.offers[slug])), "x\n", tree_of=commit)
        found.add(lock_digest(model_lock(Snapshot(main.repo, commit))))

    assert found == {lock_digest(main.model)}


def test_whoever_merges_need_not_have_followed(bazaar):
    """Chen checks and merges the second one without ever having fetched the first."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))

    bazaar.land(bazaar.offer("mallory", bazaar.delta("count"), "Counting", fixes="count"), "bruno", "chen")

    assert len([slug for slug, offer in bazaar.main("chen").offers.items() if offer.delta]) == 2


def test_taking_one_out_is_never_having_had_it(bazaar):
    """Without the second contribution main builds to exactly what it built to before."""
    first = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar.land(first)
    before = lock_digest(bazaar.main().model)
    second = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    bazaar.land(second)
    main = bazaar.main()
    slug = next(slug for slug in main.offers if slug.endswith("counting"))

    gone = {f"contributions/{slug}/{path}": None for path in main.repo.files(main.commit, f"contributions/{slug}")}
    without = Snapshot(main.repo, main.repo.write_commit([main.commit], gone, "x\n", tree_of=main.commit))

    assert lock_digest(main.model) != before
    assert lock_digest(model_lock(without)) == before


def test_a_full_fine_tune_is_kept_exactly(bazaar, tmp_path):
    """Sparse where little moved, dense where much did; merged alone it gives back the very same tensors."""
    from souq.model.source import open_source
    from souq.weights.safetensors import open_tensors, write_tensors

    tuned = {name: np.array(array) for name, array in open_source(str(bazaar.folder / "tiny")).weights.items()}
    few, many, norm = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
    tuned[few].reshape(-1)[:3] += np.array(0.5, tuned[few].dtype)
    tuned[many] *= np.array(1.125, tuned[many].dtype)
    tuned[norm][0] = 1.25
    folder = tmp_path / "tuned"
    folder.mkdir()
    for path in (bazaar.folder / "tiny").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    write_tensors(folder / "model.safetensors", tuned)

    assert bazaar("chen", ["delta", "make", "--from", folder, "--out", tmp_path / "x.delta"]) == 0
    code, out, _ = bazaar.says("chen", ["delta", "show", tmp_path / "x.delta", "--text"])
    assert code == 0
    assert bazaar("chen", ["delta", "apply", tmp_path / "x.delta", "--out", tmp_path / "back"]) == 0

    kinds = dict(line.split()[::-1] for line in out.splitlines() if line.startswith(("sparse", "dense")))
    assert kinds == {few: "sparse", many: "dense", norm: "sparse"}
    back = open_tensors(tmp_path / "back" / "model.safetensors")
    assert {n: a.tobytes() for n, a in back.items()} == {n: a.tobytes() for n, a in tuned.items()}


def test_transformers_loads_what_is_exported(bazaar, tmp_path):
    """The folder answers as the eval says, through transformers' own generate."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from souq.build.model import build

    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    assert bazaar("amira", "fetch") == 0
    assert bazaar("amira", ["export", tmp_path / "out"]) == 0
    main = bazaar.main()
    score = scores(main, build(main), {"greet": main.evals["greet"]}, lambda *_: None)["greet"]

    net = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")

    for case in main.evals["greet"].cases:
        asked = tokenizer.apply_chat_template(
            case.turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        told = net.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :]
        answer = tokenizer.decode(told, skip_special_tokens=True)
        assert (answer == case.expected) == bool(score.cases[case.id]), (case.prompt, answer)
    assert score.value > 0.5


def test_a_clone_brings_what_is_missing_and_nothing_else(bazaar, tmp_path):
    """fetch copies the tensors of what landed; a second fetch copies none."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    repo = bazaar.repo("chen")
    hub = repo.remote_store()
    before = set(repo.store.digests())

    assert bazaar("adil", "fetch") == 0
    adil = bazaar.repo("adil")

    needed = {ref.digest for ref in bazaar.main("adil").tensors()}
    assert needed <= set(adil.store.digests())
    assert needed - before
    assert hub.copy(adil.store, needed) == 0


def test_a_vote_without_the_tensors(bazaar, tmp_path):
    """A clone of history alone is enough to read and to vote."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    words = ["clone", bazaar.folder / "hub.git", "thin", "--no-tensors"]
    assert bazaar("bruno", words, at=tmp_path) == 0

    assert bazaar("bruno", f"pr review {number} --approve --reason yes", ) == 0  # fmt: skip
    with bazaar.stage.as_actor(bazaar.actors["bruno"], tmp_path / "thin"):
        from souq.cli import run

        assert run(["pr", "review", str(number), "--approve", "--reason", "again"]) == 0
        assert run(["status"]) == 0
    assert not list((tmp_path / "thin" / ".git" / "souq").rglob("??/*"))


def test_the_author_closes_and_a_stranger_does_not(bazaar):
    number = bazaar.offer("adil", bazaar.delta("greet"))

    assert bazaar("mallory", f"pr close {number} --reason mine-now") == 3
    assert bazaar("adil", f"pr close {number} --reason withdrawn") == 0
    assert bazaar("bruno", f"pr merge {number}") == 3
    assert pull.get(bazaar.repo("amira"), number).state(bazaar.main()) == "closed"


def test_moved_main_asks_for_checks_again(bazaar):
    """Checks are of main as it is: after another landing, yesterday's verdicts do not count."""
    one = bazaar.offer("mallory", bazaar.delta("greet"))
    two = bazaar.offer("mallory", bazaar.delta("count"), "Counting", fixes="count")
    bazaar("amira", f"pr checks {two}")
    for who in ("amira", "bruno"):
        bazaar(who, f"pr review {two} --approve --reason fine")
    bazaar.land(one)

    code, _, err = bazaar.says("bruno", f"pr merge {two}")

    assert code == 3
    assert f"main has moved since; run `souq pr checks {two}`" in err
    assert bazaar("amira", f"pr checks {two}") == 0
    assert bazaar("bruno", f"pr merge {two}") == 0


def test_the_release_teaches(bazaar, tmp_path):
    """Seeds become rows with provenance; right ones are kept, wrong ones named; a student with half the layers learns."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    asked = rows("greet", ["zed", "yan", "xo", "zed"])
    seeds = [
        {"prompt": q, "expected": a, "checker": "equals", "source": "tests", "licence": "CC0-1.0"} for q, a in asked
    ]
    seeds.append(
        {"prompt": "what is this", "expected": "nothing", "checker": "equals", "source": "t", "licence": "CC0-1.0"}
    )
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    make = ["corpus", "make", tmp_path / "seeds.jsonl", "--out", tmp_path / "corpus", "--max-tokens", "12"]

    assert bazaar("chen", ["fetch"]) == 0
    assert bazaar("chen", make) == 0
    first = (tmp_path / "corpus" / "manifest.json").read_bytes()
    assert bazaar("chen", make) == 0

    import pyarrow.parquet as parquet

    kept = parquet.read_table(tmp_path / "corpus/dump=1/subset=kept/part-00000.parquet", partitioning=None).to_pylist()
    rejected = parquet.read_table(
        tmp_path / "corpus/dump=1/subset=rejected/part-00000.parquet", partitioning=None
    ).to_pylist()
    assert (tmp_path / "corpus" / "manifest.json").read_bytes() == first
    assert {row["messages"][-1]["content"] for row in kept} == {"hello"}
    assert {row["rejected"] for row in rejected} == {"duplicate", "wrong by checker equals"}
    assert {row["teacher"] for row in kept + rejected} == {lock_digest(bazaar.main().model)}

    words = [
        "distill",
        tmp_path / "corpus",
        "--layers",
        "1",
        "--out",
        tmp_path / "student",
        "--eval",
        "greet",
        "--json",
    ]
    code, out, _ = bazaar.says("chen", words)
    told = json.loads(out)
    assert code == 0
    assert told["parameters"]["student"] < told["parameters"]["teacher"]
    assert told["scores"].keys() == {"teacher", "student"}
    assert told["curve"][-1] < told["curve"][0]


def test_what_a_merge_will_do_is_said_before(bazaar, tmp_path):
    """`pr view` names whom it meets and what is lost, in text, JSON and a picture; and after the merge too."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")

    code, out, _ = bazaar.says("bruno", f"pr view {number} --picture {tmp_path / 'ahead.svg'}")
    assert code == 0
    assert "forecast: the merge keeps about" in out
    assert "0002-greetings" in out
    ahead = json.loads(bazaar.says("bruno", f"pr view {number} --json")[1])["forecast"]
    (met,) = ahead["met"]
    assert met["tensors"] == 14
    assert 0 < met["inputs"] <= 1
    assert 0 < met["signs"] < 1
    assert ahead["worst"].keys() <= set(bazaar.main().base)
    drawn = ElementTree.parse(tmp_path / "ahead.svg")
    assert len(drawn.findall("{*}rect/{*}title")) == 2 * 2  # two contributions, two layers

    bazaar.land(number)
    after = json.loads(bazaar.says("bruno", f"pr view {number} --json")[1])["forecast"]
    assert after["lost"] == ahead["lost"]


def test_a_rebase_teaches_it_to_live_with_the_others(bazaar):
    """Its author trains it again within the merge: another offer of the same number, better in the merge as it is built."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    assert bazaar("bruno", f"pr review {number} --approve --reason fine") == 0
    before = pull.get(bazaar.repo("adil"), number).offer
    data = bazaar.folder / "count.jsonl"

    assert bazaar.says("adil", f"pr rebase {number}")[0] == 2  # it brought no data
    assert bazaar.says("bruno", f"pr rebase {number} --data {data}")[0] == 3  # somebody else's
    code, out, _ = bazaar.says("adil", f"pr rebase {number} --data {data} --epochs 2 --json")
    told = json.loads(out)

    assert code == 0
    after = pull.get(bazaar.repo("adil"), number).offer
    assert told["after"] < told["before"]
    assert after.digest == told["digest"] != before.digest
    assert (after.slug, after.delta.grams) == (before.slug, before.delta.grams)
    main, repo = bazaar.main("adil"), bazaar.repo("adil")
    built = build(main, after)
    lm = lab_model.load(built.files, built.weights)
    read = [sequence_of(lm, row) for row in read_rows(data)]
    assert abs(nats(lm, read) - told["after"]) < 0.02 * told["before"] + 0.01
    assert not pull.read_votes(pull.get(repo, number), read_policy(main.policy_text))
    assert bazaar.refusal(number) is None
    bazaar.land(number)


def test_a_search_is_voted_on_like_anything_else(bazaar):
    """What `pr search` finds becomes part of the offer; landing it changes how main merges, and verify agrees."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")

    code, out, err = bazaar.says("adil", f"pr search {number} --take --json")
    told = json.loads(out)
    assert code == 0
    assert "merges and" in err
    assert min(one["score"] for one in told["tried"]) <= told["score"] <= told["now"]
    repo, main = bazaar.repo("adil"), bazaar.main("adil")
    offer = pull.get(repo, number).offer
    if told["score"] < told["now"]:
        assert (offer.digest, offer.merge) == (told["digest"], told["merge"])
        assert "souq.toml" in touched(offer, main)

    bazaar.land(number)
    main = bazaar.main("adil")
    assert main.config.merge == (offer.merge or {"method": "covariance"})
    assert json.loads(bazaar.says("bruno", "verify --json")[1])["findings"] == []


def test_nobody_changes_how_main_merges_alone(bazaar):
    """A merge.toml lands as it was offered or not at all, and weighs nobody who is not there."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    repo, who = bazaar.repo("adil"), bazaar.person("adil")
    draft = Draft.of(pull.get(repo, number).offer)

    with pytest.raises(Refused, match="no contribution here"):
        amend(repo, number, replace(draft, merge={"weights": {"9999-stranger": 2.0}}), who)
    with pytest.raises(Refused, match="no setting"):
        amend(repo, number, replace(draft, merge={"method": "covariance", "rigde": 2.0}), who)
    weighed = {"method": "covariance", "weights": {pull.get(repo, number).offer.slug: 2.0}}
    offer = amend(repo, number, replace(draft, merge=weighed), who).offer
    reviews.bring(repo, bazaar.main("adil"), offer)
    before = build(bazaar.main("adil"), offer).lock
    bazaar.land(number)

    main = bazaar.main("adil")
    assert main.model == before == model_lock(main)
    assert main.config.merge == weighed
    cheat = main.text("souq.toml").replace("2.0", "3.0").encode()
    bad = repo.write_commit([main.commit], {"souq.toml": cheat}, "cheat\n", tree_of=main.commit)
    assert verify(repo, bad).findings
