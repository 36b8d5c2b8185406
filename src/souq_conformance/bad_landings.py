"""Bad histories: landings that bring more, less or something else than was offered, and releases that lie."""

from __future__ import annotations

from datetime import timedelta

from souq.governance.policy import format_policy
from souq.records import Recipe, canonical
from souq_conformance.cases import bad
from souq_conformance.git import File
from souq_conformance.good import MORE, exam, sealed, settings, taken_back
from souq_conformance.town import CASES, ROWS, Town, spell

# -- without a pull request --------------------------------------------------------------------------------------------


@bad("no-pull-request")
def an_eval_changed_by_hand(town: Town) -> None:
    """The exam is another one, and nobody was asked."""
    town.begin()
    town.commit({"evals/sums/cases.jsonl": CASES.replace(b'"2"', b'"3"')})


@bad("no-pull-request")
def a_file_removed_by_hand(town: Town) -> None:
    """The exam is gone."""
    town.begin()
    town.commit({"evals/sums/cases.jsonl": None, "evals/sums/eval.toml": None})


@bad("no-pull-request")
def a_readme_changed_by_hand(town: Town) -> None:
    """Not even that."""
    town.begin()
    town.commit({"README.md": b"# mine now\n"})


@bad("no-pull-request")
def the_tokenizer_changed_by_hand(town: Town) -> None:
    """What config.json says decides what the numbers mean."""
    town.begin()
    town.commit({"model/config.json": b'{"model_type": "llama", "auto_map": {}}'})


@bad("no-pull-request")
def an_empty_commit(town: Town) -> None:
    """It changes nothing, and nobody asked for it."""
    town.begin()
    town.commit({})


@bad("no-pull-request")
def a_contribution_removed_by_hand(town: Town) -> None:
    """Taken out without a revert."""
    offer = town.land(town.data().agreed("amira", "bruno"))
    town.commit({path: None for path in town.files if path.startswith(offer.home)})


@bad("no-pull-request")
def a_record_added_later(town: Town) -> None:
    """A vote among the records of what landed long ago."""
    offer = town.land(town.data().agreed("amira", "bruno"))
    town.commit({f"{offer.home}records/vote-9999.json": offer.vote("chen")})


@bad("no-pull-request")
def two_at_once(town: Town) -> None:
    """Two contributions in one commit: which was judged on which?"""
    first = town.data("first").agreed("amira", "bruno")
    second = town.data("second", rows=ROWS * 2).agreed("amira", "bruno")
    own = {f"{second.home}{path}": data for path, data in second.files.items()}
    town.land(first, also=own | {f"{second.home}records/{name}": data for name, data in second.records.items()})


@bad("no-pull-request")
def landed_a_second_time(town: Town) -> None:
    """Taken back, and landed again under its own name instead of being restored."""
    first = town.land(town.data().agreed("amira", "bruno"))
    town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(first.checks("amira"))


# -- without consent ---------------------------------------------------------------------------------------------------


@bad("unmerged")
def nobody_merged_it(town: Town) -> None:
    """Offered and agreed to; no merge record."""
    town.land(town.data().agreed("amira", "bruno"), merged=False)


@bad("unmerged")
def only_its_files(town: Town) -> None:
    """No merge record, no votes, no verdicts."""
    town.land(town.data(), merged=False)


@bad("unsigned-offer")
def nobody_signed_it_off(town: Town) -> None:
    """The author's own signature is missing."""
    town.land(town.data(signed=False).agreed("amira", "bruno"))


@bad("unsigned-offer")
def signed_off_by_somebody_else(town: Town) -> None:
    """Mallory offers in Chen's name, with her own key."""
    offer = town.data(by="chen", signed=False)
    offer.record("signoff", "mallory", {"certificate": "DCO-1.1"})
    town.land(offer.agreed("amira", "bruno"))


@bad("stale-merge")
def merged_on_another_main(town: Town) -> None:
    """The merge record names another main than the one it landed on."""
    first = town.main
    town.land(town.data("first").agreed("amira", "bruno"))
    town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"), base=first)


@bad("stale-merge", "stale-check", "unchecked", "other-main", "threshold", "unsigned-offer")
def a_history_put_in_another_order(town: Town) -> None:
    """Two landings, rebased by somebody who may push: each was merged on another main."""
    town.begin()
    first = town.land(town.data("first").agreed("amira", "bruno"))
    second = town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"))
    town.commits = town.commits[:1]
    own = (first.home, second.home)
    kept = dict(town.files)
    town.files = {path: file for path, file in kept.items() if not path.startswith(own)}
    for home in reversed(own):
        town.commit({path: file for path, file in kept.items() if path.startswith(home)})


@bad("backwards")
def dated_before_the_last_one(town: Town) -> None:
    """Eleven minutes before the landing it follows."""
    town.land(town.data("first").agreed("amira", "bruno"))
    last = town.clock
    offer = town.data("second", rows=ROWS * 2)
    offer.checks(at=town.at(hours=-1))
    for name in ("amira", "bruno"):
        offer.vote(name, at=town.at(hours=-1))
    town.land(offer, at=spell(last - timedelta(minutes=13)))


@bad("from-the-future")
def dated_after_its_reader(town: Town) -> None:
    """The last landing is of tomorrow, by its reader's clock."""
    town.now = town.at()
    town.wait(days=1)
    town.land(town.data().agreed("amira", "bruno"))


@bad("no-scope")
def what_no_scope_covers(town: Town) -> None:
    """Nothing is allowed by default: this policy says nothing of evals."""
    rules = town.rules()
    town.begin(town.policy(scope=(town.work(), *rules[1:])))
    town.land(town.exam().agreed("amira", "bruno", "chen"))


# -- more, less, something else ----------------------------------------------------------------------------------------


@bad("not-offered")
def an_eval_smuggled_in(town: Town) -> None:
    """A contribution of data that also changes the exam."""
    town.land(town.data().agreed("amira", "bruno"), also={"evals/sums/cases.jsonl": CASES.replace(b'"2"', b'"3"')})


@bad("not-offered", "model-lock")
def a_model_lock_smuggled_in(town: Town) -> None:
    """Data moves no weights."""
    lock = town.snapshot().text("model.lock").replace("model.norm", "model.morn").encode()
    town.land(town.data().agreed("amira", "bruno"), also={"model.lock": lock})


@bad("not-offered")
def another_contribution_removed(town: Town) -> None:
    """It lands, and something else is gone."""
    first = town.land(town.data("first").agreed("amira", "bruno"))
    gone = dict.fromkeys(path for path in town.files if path.startswith(first.home))
    town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"), also=gone)


@bad("not-offered")
def a_record_of_another_changed(town: Town) -> None:
    """A vote of something that landed before is dropped on the way."""
    first = town.land(town.data("first").agreed("amira", "bruno"))
    vote = next(path for path in town.files if path.startswith(f"{first.home}records/vote"))
    town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"), also={vote: None})


@bad("altered-landing")
def the_exam_is_not_what_was_voted_on(town: Town) -> None:
    """In the contribution's folder it is, in evals/ it is another."""
    offer = town.exam().agreed("amira", "bruno", "chen")
    town.land(offer, also={"evals/sums/cases.jsonl": CASES.replace(b'"2"', b'"4"')})


@bad("altered-landing")
def the_policy_is_not_what_was_voted_on(town: Town) -> None:
    """In the contribution's folder it is, at the top it is another."""
    offer = town.amend(town.policy(emergency=None))
    offer.votes("amira", "bruno", "chen")
    town.wait(days=15)
    offer.checks()
    other = format_policy(town.policy(scope=town.scopes(max_per_org=0))).encode()
    town.land(offer, also={"GOVERNANCE.toml": other})


@bad("not-landed")
def an_eval_that_did_not_land(town: Town) -> None:
    """Voted on, in its folder, and not in evals/."""
    harder = CASES.replace(b"1 + 1", b"2 + 0")
    offer = town.exam(cases=harder).agreed("amira", "bruno", "chen")
    town.land(offer, also={"evals/sums/cases.jsonl": town.files["evals/sums/cases.jsonl"]})


@bad("not-taken", "odd-offer")
def a_revert_that_leaves_a_file(town: Town) -> None:
    """It says what it takes back, and leaves some of it."""
    first = town.land(town.data().agreed("amira", "bruno"))
    path = f"{first.home}data/rows.jsonl"
    town.land(town.revert(first).agreed("chen", "bruno"), also={path: town.files[path]})


@bad("not-taken")
def an_exam_left_behind(town: Town) -> None:
    """The contribution is taken back, and its eval stays in main's exam."""
    first = exam(town)
    taken_back(town, first, also={path: town.files[path] for path in first.exam})


@bad("not-offered")
def a_revert_that_takes_another_exam(town: Town) -> None:
    """With the eval that is taken back goes the one that main began with."""
    first = exam(town)
    taken_back(town, first, also={"evals/sums/eval.toml": None, "evals/sums/cases.jsonl": None})


@bad("altered-landing")
def an_exam_shorter_than_it_was(town: Town) -> None:
    """What made an eval longer is taken back, and a case of before goes with it."""
    longer = exam(town, "sums", CASES + MORE)
    taken_back(town, longer, also={"evals/sums/cases.jsonl": MORE})


@bad("not-landed", "not-taken")
def an_exam_as_long_as_before(town: Town) -> None:
    """What made an eval longer is taken back, and the eval stays as long."""
    longer = exam(town, "sums", CASES + MORE)
    taken_back(town, longer, also={"evals/sums/cases.jsonl": CASES + MORE})


@bad("nothing-to-undo")
def an_exam_that_others_made_longer(town: Town) -> None:
    """What brought an eval is taken back, and with it what somebody else added to it since."""
    first = exam(town)
    exam(town, cases=CASES + MORE)
    taken_back(town, first)


@bad("nothing-to-undo")
def a_restore_over_another_exam(town: Town) -> None:
    """An eval comes back over one that landed under its name meanwhile."""
    first = exam(town)
    back = taken_back(town, first)
    exam(town, cases=MORE)
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("amira", "bruno", "chen"))


@bad("not-landed")
def a_restore_without_the_exam(town: Town) -> None:
    """The contribution comes back, and not its eval."""
    first = exam(town)
    back = taken_back(town, first)
    offer = town.offer("restore", "bring back", of=back.slug).agreed("amira", "bruno", "chen")
    town.land(offer, also=dict.fromkeys(first.exam))


@bad("not-taken")
def a_seal_beside_what_it_sealed(town: Town) -> None:
    """What opened a seal comes back, and the seal stays."""
    sealed(town)
    seal = dict(town.files)["evals/guard/sealed.toml"]
    back = taken_back(town, exam(town, "guard"))
    offer = town.offer("restore", "bring back", of=back.slug).agreed("amira", "bruno", "chen")
    town.land(offer, also={"evals/guard/sealed.toml": seal})


@bad("threshold")
def an_exam_taken_back_by_two(town: Town) -> None:
    """Evals ask for three, to take one back too."""
    first = exam(town)
    town.land(town.revert(first).agreed("adil", "bruno"))


@bad("altered-landing")
def restored_as_something_else(town: Town) -> None:
    """What comes back is not what was taken."""
    first = town.land(town.data().agreed("amira", "bruno"))
    back = town.land(town.revert(first).agreed("chen", "bruno"))
    offer = town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno")
    town.land(offer, also={f"{first.home}data/rows.jsonl": ROWS * 9})


@bad("nothing-to-undo")
def a_revert_of_nothing(town: Town) -> None:
    """There is no such contribution."""
    town.land(town.offer("revert", "take back", of="0099-nothing").agreed("chen", "bruno"))


@bad("nothing-to-undo")
def a_revert_of_an_amendment(town: Town) -> None:
    """Policies are amended, not taken back."""
    offer = town.amend(town.policy(emergency=None))
    offer.votes("amira", "bruno", "chen")
    town.wait(days=15)
    town.land(offer.checks())
    town.land(town.revert(offer).agreed("chen", "bruno"))


@bad("nothing-to-undo")
def restored_twice(town: Town) -> None:
    """What was taken is there again already."""
    first = town.land(town.data().agreed("amira", "bruno"))
    back = town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno"))
    town.land(town.offer("restore", "once more", of=back.slug).agreed("chen", "bruno"))


@bad("altered-settings")
def another_way_of_merging_than_was_asked(town: Town) -> None:
    """It asks for task arithmetic, and souq.toml says so, with a scale nobody voted on."""
    offer = town.weights(files={"merge.toml": b'method = "task-arithmetic"\n'}).agreed("amira", "bruno")
    town.land(offer, also={"souq.toml": settings(town, {"method": "task-arithmetic", "scale": 2.0})})


@bad("odd-offer", "model-lock")
def a_file_of_another_kind(town: Town) -> None:
    """Data that brings a delta: no scope was asked about those tensors."""
    delta = town.weights().files["delta.lock"]
    files = {"data/rows.jsonl": ROWS, "delta.lock": delta}
    town.land(town.offer("data", "rows", files=files).agreed("amira", "bruno"))


@bad("odd-offer")
def weights_without_weights(town: Town) -> None:
    """A change of weights with no delta.lock."""
    town.land(town.offer("weights", "empty").agreed("amira", "bruno"))


@bad("odd-offer")
def a_contribution_that_cannot_be_read(town: Town) -> None:
    """contribution.toml has a key nobody knows."""
    offer = town.data()
    offer.files["contribution.toml"] = b"extra = true\n" + offer.files["contribution.toml"]
    offer.records.clear()
    offer.record("signoff", "mallory", {"certificate": "DCO-1.1"})
    town.land(offer.agreed("amira", "bruno"))


@bad("odd-offer")
def a_title_that_steers_the_terminal(town: Town) -> None:
    """An escape sequence in a title."""
    town.land(town.data("rows \x1b[2J").agreed("amira", "bruno"))


@bad("not-a-file")
def a_symbolic_link(town: Town) -> None:
    """Training data that is a link to somebody's home."""
    offer = town.data(rows=b"/etc/passwd")
    link = town.git.file(b"/etc/passwd", "120000")
    town.land(offer.agreed("amira", "bruno"), also={f"{offer.home}data/rows.jsonl": link})


@bad("not-a-file")
def an_executable_file(town: Town) -> None:
    """No contribution carries code."""
    offer = town.data()
    town.land(offer.agreed("amira", "bruno"), also={f"{offer.home}data/rows.jsonl": town.git.file(ROWS, "100755")})


@bad("not-a-file", "missing-object", "not-offered")
def a_submodule(town: Town) -> None:
    """A commit of another repository in place of a file."""
    offer = town.data().agreed("amira", "bruno")
    town.land(offer, also={f"{offer.home}data/more": File("1" * 40, "160000")})


@bad("not-a-file", "missing-object", "not-offered")
def a_submodule_nobody_is_shown(town: Town) -> None:
    """The clone's configuration hides submodules from whoever asks git what changed."""
    town.land(town.data().agreed("amira", "bruno"), also={"model/more": File("1" * 40, "160000")})
    town.git.write("config", b"[core]\n\tbare = false\n[diff]\n\tignoreSubmodules = all\n")


@bad("not-offered")
def a_path_that_is_no_text(town: Town) -> None:
    """A file name in Latin-1, and another that would steer a terminal."""
    odd = {"evals/\udce9.jsonl": b"x", "evals/\x1b[2J": b"x"}
    town.land(town.data().agreed("amira", "bruno"), also=odd)


# -- beginnings --------------------------------------------------------------------------------------------------------


@bad("unvoted-root", "odd-offer")
def a_beginning_with_contributions(town: Town) -> None:
    """The root commit holds what nobody voted on."""
    town.begin(
        files={"contributions/0001-gift/contribution.toml": b"", "contributions/0001-gift/data/rows.jsonl": ROWS}
    )


@bad("unvoted-root")
def a_beginning_with_a_release(town: Town) -> None:
    """A release from before the beginning."""
    town.begin(files={"releases/1.0/release.json": canonical({})})


@bad("other-root")
def another_beginning(town: Town) -> None:
    """Judged by itself all is well; its readers pinned another root."""
    town.land(town.data().agreed("amira", "bruno"))
    town.root = "7" * 40


@bad("other-root")
def begun_again_from_a_later_state(town: Town) -> None:
    """The tree of main as a new root, as a shallow copy would have it: its history is gone."""
    town.begin()
    town.root = town.main
    town.commits = []
    town.wait(days=1)
    town.commit({}, "begin")


# -- releases ----------------------------------------------------------------------------------------------------------


@bad("unknown-signer")
def a_release_signed_by_a_stranger(town: Town) -> None:
    """Voted on; its record is signed by nobody who is enrolled."""
    town.land(town.release(by="mallory").agreed("chen", "bruno"))


@bad("release-version")
def a_release_that_calls_itself_otherwise(town: Town) -> None:
    """Offered as 1.0, signed as 2.0."""
    town.land(town.release("2.0", of="1.0").agreed("chen", "bruno"))


@bad("release-commit")
def a_release_of_no_main(town: Town) -> None:
    """It stands on a commit that is not in this history."""
    town.land(town.release(commit="7" * 40).agreed("chen", "bruno"))


@bad("release-recipe")
def a_release_of_another_recipe(town: Town) -> None:
    """It names a merge method main does not have."""
    main = town.snapshot()
    recipe = Recipe(base=main.base_digest, contributions=(), method="ties")
    town.land(town.release(recipe=recipe).agreed("chen", "bruno"))


@bad("release-model")
def a_release_of_another_model(town: Town) -> None:
    """It names a model that model.lock does not."""
    town.land(town.release(model="b3:" + "7" * 64).agreed("chen", "bruno"))


@bad("released-twice")
def one_version_twice(town: Town) -> None:
    """A release is never changed."""
    town.land(town.release().agreed("chen", "bruno"))
    town.wait(days=1)
    town.land(town.release(scores={"sums": 0.5}).agreed("chen", "bruno"))


@bad("not-offered")
def a_release_changed_on_the_way(town: Town) -> None:
    """releases/1.0 holds a file that was not voted on."""
    town.land(town.release().agreed("chen", "bruno"), also={"releases/1.0/install.sh": b"curl | sh\n"})


@bad("nothing-to-undo")
def a_yank_of_nothing(town: Town) -> None:
    """There is no such release."""
    town.land(town.offer("yank", "bad", of="9.9").agreed("chen", "bruno"))
