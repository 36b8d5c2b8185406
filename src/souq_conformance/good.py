"""Histories that must be accepted, the odd but right ones too: a verifier that is only strict is no verifier."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from souq import signing
from souq.governance.policy import Key, Lazy, Needs, Role, Scope, Veto, Who, format_policy, with_members
from souq.records import digest, digest_files, format_toml
from souq.weights.delta import TensorRef
from souq_conformance.cases import good
from souq_conformance.keys import seal
from souq_conformance.town import CASES, EVAL, ROWS, Offered, Town

MORE = b'{"id": "b", "prompt": "2 + 2", "expected": "4"}\n'

# -- votes -------------------------------------------------------------------------------------------------------------


@good
def nothing_yet(town: Town) -> None:
    """A root commit and no landing."""
    town.begin()


@good
def two_organisations_agree(town: Town) -> None:
    """The plainest landing there is."""
    town.land(town.data().agreed("amira", "bruno"))


@good
def votes_in_any_order(town: Town) -> None:
    """The file names of the votes do not follow their times."""
    offer = town.data().checks()
    offer.vote("bruno", name="vote-zz")
    offer.vote("amira", name="vote-aa")
    town.land(offer)


@good
def a_vote_said_twice(town: Town) -> None:
    """The same record under two names."""
    offer = town.data().agreed("amira", "bruno")
    offer.put("vote-again", offer.vote("bruno"))
    town.land(offer)


@good
def a_mind_changed_twice(town: Town) -> None:
    """No, yes, no, yes: the last word counts."""
    offer = town.data().agreed("amira")
    for choice in ("reject", "approve", "reject", "approve"):
        offer.vote("bruno", choice)
    town.land(offer)


@good
def a_no_of_somebody_nobody_asked(town: Town) -> None:
    """Only maintainers are asked; Dora is enrolled and is none."""
    town.begin(town.policy(person=town.people(dora=town.person("dora"))))
    offer = town.data().agreed("amira", "bruno")
    offer.no("dora")
    town.land(offer)


@good
def strangers_vote_too(town: Town) -> None:
    """Records nobody knows the signer of are carried along and count for nothing."""
    offer = town.data().agreed("amira", "bruno")
    offer.no("mallory")
    offer.put("vote-junk", b"{}")
    offer.put("vote-bytes", b"\x80\x04")
    offer.put("praise-0001", b'{"stars": 5}')
    town.land(offer)


@good
def a_replayed_vote_beside_enough(town: Town) -> None:
    """What counts for nothing does no harm."""
    first = town.data("first").agreed("amira", "bruno")
    stray = first.vote("bruno")
    second = town.data("second", rows=ROWS * 2).agreed("amira", "bruno")
    second.put("vote-stray", stray)
    town.land(second)


@good
def more_keys_in_a_record(town: Town) -> None:
    """A field of tomorrow inside a signed vote."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", invented={"in": "2031", "n": [1, 2.5, None]})
    town.land(offer)


@good
def a_second_signature_by_a_stranger(town: Town) -> None:
    """DSSE envelopes may hold several signatures; one by an enrolled key is enough."""
    offer = town.data().agreed("amira")
    stranger = town.keys["mallory"].sign(b"something else", "souq.vote.v1")
    offer.vote("bruno", more=[stranger])
    town.land(offer)


@good
def a_second_signature_by_a_newer_tool(town: Town) -> None:
    """Who moves to SSHSIG version 2 signs twice for a while; what this version cannot read is passed over."""
    offer = town.data().agreed("amira")
    newer = town.keys["bruno"].sign(b"{}", "souq.vote.v1", version=2)
    offer.vote("bruno", first=[newer])
    town.land(offer)


@good
def rsa_and_ecdsa(town: Town) -> None:
    """Not every key is ed25519."""
    bruno = town.person("bruno", town.keys["bruno-rsa"].public)
    chen = town.person("chen", town.keys["chen-ecdsa"].public)
    roles = tuple(Role(name=name, members=("amira", "bruno", "chen")) for name in ("maintainer", "security"))
    town.begin(town.policy(person=(town.person("amira"), bruno, chen), role=roles))
    town.land(town.data().agreed("bruno-rsa", "chen-ecdsa"), by="amira")


@good
def keys_with_comments(town: Town) -> None:
    """The policy holds a key as its .pub file has it, comment and all; and the offer's author too."""
    amira = town.person("amira", f"{town.keys['amira'].public}   amira@laptop of 2024")
    town.begin(town.policy(person=town.people(amira=amira)))
    town.land(town.data(by="chen").agreed("amira", "bruno"))


@good
def a_vote_with_another_key_of_the_same_person(town: Town) -> None:
    """Amira votes with her second key, and it counts once."""
    both = town.person("amira", town.keys["amira"].public, town.keys["amira-2"].public)
    town.begin(town.policy(person=town.people(amira=both)))
    offer = town.data().agreed("amira-2", "bruno")
    offer.vote("amira")
    town.land(offer)


@good
def needs_eyes_and_gets_them(town: Town) -> None:
    """A machine is in doubt, so one more approval is asked for, and given."""
    offer = town.data().checks(outcome="needs-eyes")
    offer.votes("amira", "bruno", "chen")
    town.land(offer)


@good
def a_maintainer_s_own_work(town: Town) -> None:
    """Amira offers, two others agree, and a third runs the checks."""
    town.land(town.data(by="amira").agreed("chen", "bruno"))


# -- time --------------------------------------------------------------------------------------------------------------


@good
def clocks_nine_minutes_apart(town: Town) -> None:
    """A vote from a clock nine minutes ahead of the merger's, and a landing nine minutes before the last one."""
    offer = town.data("first").agreed("amira")
    offer.vote("bruno", at=town.at(minutes=9))
    town.land(offer, at=town.at())
    town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"), at=town.at(minutes=-8))


@good
def a_key_between_its_dates(town: Town) -> None:
    """Bruno's key of this spring, and Amira's until next year, by days and by the second."""
    spring = Key(key=town.keys["bruno"].public, valid_from="2026-03-01", valid_until="2026-06-01")
    amira = town.person("amira", valid_until="2027-01-01T00:00:00Z")
    town.begin(town.policy(person=town.people(bruno=town.person("bruno", spring), amira=amira)))
    town.land(town.data().agreed("amira", "bruno"))


@good
def a_window_that_has_passed(town: Town) -> None:
    """Three days open, counted from when people of two organisations have seen it."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    offer = town.data().agreed("amira", "bruno")
    town.wait(hours=73)
    town.land(offer)


@good
def a_cooloff_that_has_passed(town: Town) -> None:
    """Each approval has stood for a day."""
    town.begin(town.policy(scope=town.scopes(cooloff_h=24)))
    offer = town.data().agreed("amira", "bruno")
    town.wait(hours=25)
    town.land(offer)


def lazy(town: Town, voter: str = "bruno") -> Offered:
    """Amira's work under a policy of three days' silence, checked and approved by one."""
    town.begin(town.policy(scope=town.scopes(lazy=Lazy(after_h=72))))
    return town.data(by="amira").checks("chen").votes(voter)


@good
def lazy_consensus(town: Town) -> None:
    """One approval from outside, three days without a no."""
    offer = lazy(town)
    town.wait(hours=73)
    town.land(offer)


def vetoes(town: Town) -> None:
    """A policy by which security may veto: alone for three days, seconded for thirty."""
    veto = Veto(role="security", seconds=1, alone_h=72, days=30)
    town.begin(town.policy(scope=town.scopes(veto=veto)))


@good
def a_veto_that_lapsed(town: Town) -> None:
    """Nobody seconded it in three days."""
    vetoes(town)
    offer = town.data().agreed("amira", "bruno")
    offer.no("chen")
    town.wait(hours=73)
    town.land(offer)


@good
def a_seconded_veto_that_lapsed(town: Town) -> None:
    """Seconded, and thirty days old."""
    vetoes(town)
    offer = town.data().agreed("adil", "bruno")
    offer.no("chen")
    offer.no("amira")
    town.wait(days=31)
    town.land(offer)


@good
def a_no_that_is_no_veto(town: Town) -> None:
    """Where some may veto, the no of the others is an opinion."""
    vetoes(town)
    offer = town.data().agreed("amira", "bruno")
    offer.no("adil")
    town.land(offer)


# -- the policy --------------------------------------------------------------------------------------------------------


def amended(town: Town, offer: Offered, *people: str, days: float = 15) -> Offered:
    """Agreed to, left open, landed."""
    offer.votes(*(people or ("amira", "bruno", "chen")))
    town.wait(days=days)
    offer.checks("bruno")
    return town.land(offer)


@good
def comments_in_the_policy(town: Town) -> None:
    """People write TOML with comments, blanks and another order."""
    text = "# who decides here, and why\n\n" + format_policy(town.policy()).replace("n = 2", "n   =   2")
    town.begin(text)
    town.land(town.data().agreed("amira", "bruno"))


@good
def names_in_many_scripts(town: Town) -> None:
    """ليلى of Ærø maintains, and 開発 is a title."""
    layla = Who(name="ليلى", org="Ærø", keys=(town.keys["bruno"].public,))
    roles = tuple(Role(name=name, members=("amira", "ليلى", "chen")) for name in ("maintainer", "security"))
    town.begin(town.policy(person=(town.person("amira"), layla, town.person("chen")), role=roles))
    town.land(town.data("日付を ISO で 🌍").agreed("amira", "bruno"))
    town.land(town.data("données", rows='{"prompt": "où", "completion": "là"}\n'.encode()).agreed("chen", "bruno"))


@good
def an_amendment_by_two_thirds(town: Town) -> None:
    """Three organisations, two weeks, and it holds for what lands next."""
    amended(town, town.amend(town.policy(scope=town.scopes(n=1))))
    town.land(town.data().agreed("chen"))


@good
def a_key_rotated(town: Town) -> None:
    """Bruno's old key is amended away: he says yes with the old one, by the old policy, and with the new by the new."""
    town.land(town.data("before").agreed("amira", "bruno"))
    people = town.people(bruno=town.person("bruno", town.keys["bruno-rsa"].public))
    amended(town, town.amend(town.policy(person=people)), "amira", "bruno", "bruno-rsa", "chen")
    town.land(town.data("after", rows=ROWS * 2).agreed("amira", "bruno-rsa"), by="chen")


@good
def somebody_enrolled(town: Town) -> None:
    """Dora becomes a maintainer: by the new policy her own yes counts, and she is the fourth of five it asks for."""
    enrolled = town.policy(person=town.people(dora=town.person("dora")))
    offer = town.amend(with_members(enrolled, "maintainer", ["amira", "adil", "bruno", "chen", "dora"]))
    amended(town, offer, "amira", "bruno", "chen", "dora")
    town.land(town.data().agreed("amira", "dora"))


@good
def a_resignation(town: Town) -> None:
    """Adil leaves his role: nobody's leave is needed for that."""
    without = with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"])
    town.land(town.amend(without, "adil leaves", by="adil"))
    town.land(town.data().agreed("amira", "bruno"))


def council(town: Town) -> None:
    """A council of two seats, elected by the maintainers."""
    roles = (
        *town.policy().role,
        Role(name="council", members=("adil",), elected_by="maintainer", seats=2, max_per_org=1),
    )
    town.begin(town.policy(role=roles))


def elected(town: Town, offer: Offered, *winners: str) -> Offered:
    """Closed and landed with these."""
    seats = Role(name="council", members=winners, elected_by="maintainer", seats=2, max_per_org=1)
    offer.policy = format_policy(town.policy(role=(*town.policy().role, seats)))
    town.wait(days=8)
    return town.land(offer)


@good
def an_election(town: Town) -> None:
    """Three ballots of four; one elector changes theirs; a tie goes by the alphabet; one seat an organisation."""
    council(town)
    offer = town.election(candidates=("amira", "adil", "bruno", "chen"))
    offer.ballot("amira", "amira", "adil", "bruno").ballot("chen", "adil")
    offer.ballot("chen", "chen", "amira", "adil").ballot("bruno", "bruno", "amira", "adil")
    elected(town, offer, "adil", "bruno")


@good
def inactive_members_do_not_count(town: Town) -> None:
    """Two thirds of those who were heard lately: Adil has been silent for a year."""
    roles = (Role(name="maintainer", members=("amira", "adil", "bruno", "chen", "dora"), inactive_days=180),)
    scope = town.work(requires=(Needs(role="maintainer", share="4/5"),), max_per_org=0)
    people = town.people(dora=town.person("dora"))
    town.begin(town.policy(person=people, role=roles, scope=(scope, *town.rules()), emergency=None))
    offer = town.data("first").agreed("amira", "bruno", "chen", "adil")
    town.land(offer)
    town.wait(days=200)
    offer = town.data("second", rows=ROWS * 2).agreed("amira", "bruno", "chen")
    town.land(offer)


# -- taking back -------------------------------------------------------------------------------------------------------


@good
def a_large_contribution_taken_back(town: Town) -> None:
    """Nearly as many files as may be offered, and hundreds of records that hold nothing beside them: all of it goes."""
    files = {f"data/{n:04}.jsonl": ROWS for n in range(1_900)}
    first = town.offer("data", "rows", files=files).agreed("amira", "bruno")
    for n in range(600):
        first.put(f"junk-{n:04}", b"{}")
    town.land(first)
    town.land(town.revert(first).agreed("chen", "bruno"))


@good
def revert_and_restore(town: Town) -> None:
    """Weights taken out and brought back, both by the ordinary rules; the model follows."""
    first = town.land(town.weights().agreed("amira", "bruno"))
    town.land(town.weights("other", tensor="model.layers.0.mlp.up_proj.weight", value=7.0).agreed("amira", "bruno"))
    back = town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno"))


def exam(town: Town, name: str = "long", cases: bytes = CASES) -> Offered:
    """An eval that lands by the rules."""
    files = {f"evals/{name}/eval.toml": EVAL.encode(), f"evals/{name}/cases.jsonl": cases}
    return town.land(town.offer("evals", f"exam {name}", "mallory", files).agreed("amira", "bruno", "chen"))


def taken_back(town: Town, first: Offered, **how: Any) -> Offered:
    """Evals that are taken back by whom evals are asked of."""
    return town.land(town.revert(first, by="mallory").agreed("amira", "bruno", "chen"), **how)


@good
def evals_taken_back_and_restored(town: Town) -> None:
    """An eval leaves main's exam with the contribution that brought it, and comes back with it; and goes again."""
    first = exam(town)
    back = taken_back(town, first)
    town.land(town.data().agreed("amira", "bruno"))
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("amira", "bruno", "chen"))
    taken_back(town, first)


@good
def a_longer_eval_is_shorter_again(town: Town) -> None:
    """Who took back what made an eval longer has the eval of before; then that may be taken back too."""
    first = exam(town)
    longer = exam(town, cases=CASES + MORE)
    taken_back(town, longer)
    taken_back(town, first)


@good
def the_first_exam_is_as_it_was(town: Town) -> None:
    """The eval that main began with is longer, and shorter again."""
    taken_back(town, exam(town, "sums", CASES + MORE))


@good
def a_seal_taken_back(town: Town) -> None:
    """A hidden eval is no more asked for."""
    taken_back(town, sealed(town))


@good
def a_seal_closed_again(town: Town) -> None:
    """Who takes back what opened a seal has the seal again; and it may be opened again."""
    sealed(town)
    opened = exam(town, "guard")
    back = taken_back(town, opened)
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("amira", "bruno", "chen"))


@good
def evals_taken_back_at_once(town: Town) -> None:
    """Two of security take a dear exam out at once, and it is ratified by whom evals are asked of."""
    back = urgent(town, of=exam(town).slug)
    town.land(town.offer("ratify", "rightly", of=back.slug).agreed("amira", "bruno", "chen"))


def sealed(town: Town) -> Offered:
    """A hidden eval of the cases that `exam` shows."""
    digest_ = digest_files({"eval.toml": EVAL.encode(), "cases.jsonl": CASES})
    seal_ = f'title = "Guard"\ndigest = "{digest_}"\ncases = 1\nkind = "exact"\nlicence = "CC0-1.0"\n'
    files = {"evals/guard/sealed.toml": seal_.encode()}
    return town.land(town.offer("evals", "seal", "mallory", files).agreed("amira", "bruno", "chen"))


def urgent(town: Town, kind: str = "revert", of: str = "") -> Offered:
    """Something that landed and was taken back by two of security, unchecked."""
    if not of:
        of = town.land(town.data("rows").agreed("amira", "bruno")).slug
    offer = town.offer(kind, "stop this", "adil", of=of)
    offer.votes("amira", "bruno")
    return town.land(offer)


@good
def an_emergency_not_yet_lapsed(town: Town) -> None:
    """Six days after it, other work goes on."""
    urgent(town)
    town.wait(days=6)
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@good
def an_emergency_ratified(town: Town) -> None:
    """Ratified in time by the ordinary rules; then it stays."""
    back = urgent(town)
    town.wait(days=3)
    town.land(town.offer("ratify", "it was right", of=back.slug).agreed("chen", "bruno"))
    town.wait(days=30)
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@good
def an_emergency_lapsed_and_undone(town: Town) -> None:
    """Nobody ratified it in seven days: what it took comes back without a vote, and work goes on."""
    back = urgent(town)
    town.wait(days=8)
    town.land(town.offer("restore", "lapsed", "bruno", of=back.slug))
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@good
def an_emergency_ratified_late(town: Town) -> None:
    """Lapsed, and then ratified by the ordinary rules before anything else landed."""
    back = urgent(town)
    town.wait(days=8)
    town.land(town.offer("ratify", "it was right", of=back.slug).agreed("chen", "bruno"))
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@good
def the_emergency_clause_dropped_meanwhile(town: Town) -> None:
    """Amended away while one was pending: without the clause nothing lapses, and main is not stuck."""
    quick = Scope(name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", n=2),))
    scopes = (town.work(), *town.rules()[:2], quick)
    town.begin(town.policy(scope=scopes))
    urgent(town)
    town.land(town.amend(town.policy(scope=scopes, emergency=None)).agreed("chen", "bruno"))
    town.wait(days=8)
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))
    town.land(town.data("still more", rows=ROWS * 3).agreed("amira", "bruno"))


# -- releases and evals ------------------------------------------------------------------------------------------------


@good
def a_release(town: Town) -> None:
    """Of main with weights in it, signed, voted on, landed."""
    town.land(town.weights().agreed("amira", "bruno"))
    town.land(town.release().agreed("chen", "bruno"))


@good
def a_release_of_an_earlier_main(town: Town) -> None:
    """Main moved on while people voted: it is of the main it names."""
    offer = town.release()
    town.land(town.data().agreed("amira", "bruno"))
    town.land(offer.agreed("chen", "bruno"))


@good
def a_release_of_what_was_taken_back(town: Town) -> None:
    """A clone brings the tensors main needs now; one that only an earlier release was made of is not among them."""
    first = town.land(town.weights(value=3.0).agreed("amira", "bruno"))
    town.land(town.release().agreed("chen", "bruno"))
    town.land(town.revert(first).agreed("chen", "bruno"))
    town.store.path(TensorRef.of(np.full(4, 3.0, "<f4")).digest).unlink()


@good
def a_release_with_more_yes_than_no(town: Town) -> None:
    """Releases go by majority here: one no does not stop two."""
    scopes = town.scopes(match=("contributions/**",), majority=True)
    town.begin(town.policy(scope=scopes))
    offer = town.release(by="mallory", signer="adil").agreed("amira", "bruno")
    offer.no("chen")
    town.land(offer)


@good
def a_yank(town: Town) -> None:
    """A release that should not be used says why."""
    town.land(town.release().agreed("chen", "bruno"))
    town.land(town.offer("yank", "answers in Latin", of="1.0").agreed("chen", "bruno"))


@good
def a_yank_undone(town: Town) -> None:
    """And comes back."""
    town.land(town.release().agreed("chen", "bruno"))
    yank = town.land(town.offer("yank", "answers in Latin", of="1.0").agreed("chen", "bruno"))
    town.land(town.offer("restore", "Latin is fine", of=yank.slug).agreed("chen", "bruno"))


@good
def a_release_by_a_key_that_later_went(town: Town) -> None:
    """Its signer left; the release was good when it landed."""
    town.land(town.release(by="adil").agreed("chen", "bruno"))
    without = with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"])
    left = tuple(person for person in without.person if person.name != "adil")
    amended(town, town.amend(town.policy(person=left, role=without.role)))


@good
def the_exam_amended(town: Town) -> None:
    """Evals need three organisations, and have them."""
    harder = b'{"id": "a", "prompt": "1 + 2", "expected": "3"}\n'
    town.land(town.exam(cases=harder).agreed("amira", "bruno", "chen"))


@good
def another_way_of_merging(town: Town) -> None:
    """A contribution asks for task arithmetic; souq.toml says so from then on."""
    offer = town.weights(files={"merge.toml": b'method = "task-arithmetic"\n'}).agreed("amira", "bruno")
    town.land(offer, also={"souq.toml": settings(town, {"method": "task-arithmetic"})})


def settings(town: Town, merge: dict[str, Any]) -> bytes:
    """souq.toml with another [merge] table, as it is computed."""
    return format_toml(msgspec.structs.replace(town.snapshot().config, merge=merge)).encode()


@good
def two_hundred_contributions(town: Town) -> None:
    """A history of some length."""
    for number in range(200):
        town.land(town.data(f"rows {number}", rows=ROWS * (number + 1)).agreed("amira", "bruno"))


# -- git ---------------------------------------------------------------------------------------------------------------


@good
def signed_commits(town: Town) -> None:
    """Git's own signatures are git's business."""
    offer = town.data().agreed("amira", "bruno")
    town.land(offer, more="gpgsig -----BEGIN PGP SIGNATURE-----\n \n aGVsbG8=\n -----END PGP SIGNATURE-----")


@good
def a_reader_with_habits(town: Town) -> None:
    """The clone's own git configuration changes what git prints; it may not change what a verifier reads."""
    town.land(town.weights().agreed("amira", "bruno"), more="gpgsig -----BEGIN PGP SIGNATURE-----\n -----END")
    habits = {
        "log": "showSignature = true\n\tdate = relative\n\tdecorate = full\n\tfollow = true\n\tdiffMerges = combined",
        "diff": "renames = copies\n\tnoprefix = true\n\trelative = true\n\torderFile = /dev/null\n\tsubmodule = log",
        "color": "ui = always", "format": "pretty = oneline", "gpg": "program = false",
    }  # fmt: skip
    config = "".join(f"[{part}]\n\t{lines}\n" for part, lines in habits.items())
    town.git.write("config", b"[core]\n\trepositoryformatversion = 0\n\tbare = false\n" + config.encode())


@good
def merged_with_its_head(town: Town) -> None:
    """A landing has the pull request's head as second parent, and only the first is main's history."""
    base = town.main
    offer = town.data().agreed("amira", "bruno")
    side = {**town.files, **{f"{offer.home}{path}": town.git.file(data) for path, data in offer.files.items()}}
    head = town.git.commit(town.git.tree(side), [base], "head", 1_770_000_000)
    town.land(offer, parents=[base, head])


@good
def refs_that_are_nobody_s_business(town: Town) -> None:
    """A pull request's ref points at an object that is not here; main is whole."""
    town.land(town.data().agreed("amira", "bruno"))
    town.git.ref("refs/souq/pr/7/vote/0000000000000000", "1" * 40)


@good
def a_thousand_evals(town: Town) -> None:
    """In three landings, each of as many files as one may have; a fourth adds a case to one of the first."""
    for part in range(3):
        files = {f"evals/sums-{part}-{number}/{name}": data for number in range(330) for name, data in _exam().items()}
        town.land(town.offer("evals", f"part {part}", "mallory", files).agreed("amira", "bruno", "chen"))
    more = _exam(MORE)
    files = {f"evals/sums-0-0/{name}": data for name, data in more.items()}
    town.land(town.offer("evals", "one more", "mallory", files).agreed("amira", "bruno", "chen"))


def _exam(more: bytes = b"") -> dict[str, bytes]:
    return {"eval.toml": EVAL.encode(), "cases.jsonl": CASES + more}


@good
def an_honest_commit_graph(town: Town) -> None:
    """Git's cache of parents and trees, as it is."""
    town.land(town.data().agreed("amira", "bruno"))
    town.git.graph(town.written)


@good
def witnesses_who_saw_this(town: Town) -> None:
    """Two people signed what they saw; a stranger signed what never was."""
    town.land(town.data().agreed("amira", "bruno"))
    witness(town, "amira", town.commits[0], 1)
    witness(town, "bruno", town.main, 2)
    witness(town, "mallory", "7" * 40, 9)


def witness(town: Town, name: str, commit: str, length: int, after: tuple[str, ...] = (), root: str = "") -> str:
    """A note that somebody has seen main like this; older tools did not say of which root. Its digest."""
    seen = {"commit": commit, "length": length, "by": name, "at": town.at(), "after": list(after)}
    seen |= {"root": root} if root else {}
    payload = signing.statement("urn:souq:witness:1", "main", digest(commit.encode()), seen)
    data = seal(payload, [town.keys[name].sign(payload, "souq.witness.v1")])
    oid = town.git.put("blob", data)
    town.git.ref(f"refs/souq/witness/{name}/{oid[:16]}", oid)
    return digest(data)
