"""Bad histories: what was signed for another place, another time or another thing, and records that are not what
their files say."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable

from souq.governance.policy import with_members
from souq.records import canonical
from souq_conformance.cases import bad
from souq_conformance.good import amended, council, elected, witness
from souq_conformance.keys import seal
from souq_conformance.town import ROWS, Offered, Town

# -- another repository ------------------------------------------------------------------------------------------------


def sandbox(town: Town, *, shared: bool = False) -> Town:
    """A repository of the same people where everything is tried; `shared`: it begins as this one did, and goes on."""
    side = Town(town.folder / ".git" / "sandbox", town.stock)
    if shared:
        side.begin()
    else:
        side.begin(files={"README.md": b"# a sandbox\n"})
    shutil.rmtree(side.folder / ".git" / "souq")  # what was signed in it is all that is wanted
    return side


def replay(here: Offered, there: Offered, *kinds: str) -> Offered:
    """One repository's records in another's."""
    assert here.digest == there.digest
    here.records |= {name: data for name, data in there.records.items() if name.startswith(kinds)}
    return here


def voted(town: Town) -> Offered:
    offer = town.data()
    offer.votes("amira", "bruno")
    return offer


@bad("other-main")
def votes_from_a_sandbox(town: Town) -> None:
    """The same bytes under the same number, agreed to where it was tried; here nobody was asked."""
    there = voted(sandbox(town))
    town.land(replay(town.data(), there, "vote").checks("chen"), by="chen")


@bad("other-main", "unsigned-offer")
def a_sign_off_from_a_sandbox(town: Town) -> None:
    """Its author promised it for another model."""
    there = sandbox(town).data()
    town.land(replay(town.data(signed=False), there, "signoff").agreed("amira", "bruno"))


@bad("other-main")
def ballots_from_a_sandbox(town: Town) -> None:
    """Cast where the election was rehearsed."""
    side = sandbox(town)
    council(town)
    side.clock = town.clock
    there, here = side.election(), town.election()
    for name in ("amira", "bruno", "chen"):
        there.ballot(name, "amira", "bruno")
    elected(town, replay(here, there, "ballot"), "amira", "bruno")


@bad("other-main", "early", "min-orgs")
def an_amendment_agreed_to_in_a_sandbox(town: Town) -> None:
    """Two weeks, three organisations: of another repository's policy."""
    looser = town.policy(scope=town.scopes(n=1))
    there = sandbox(town).amend(looser)
    there.votes("amira", "bruno", "chen")
    here = replay(town.amend(looser), there, "vote")
    town.wait(days=15)
    town.land(here.checks("bruno"))


@bad("other-main")
def a_revert_agreed_to_in_a_sandbox(town: Town) -> None:
    """What was taken back there has the same name as what is good here."""
    side = sandbox(town)
    first = town.land(town.data().agreed("amira", "bruno"))
    there = side.land(side.data(rows=ROWS * 9).agreed("amira", "bruno"))
    assert there.slug == first.slug
    back = side.revert(there)
    back.votes("chen", "bruno")
    town.land(replay(town.revert(first), back, "vote").checks("bruno"))


@bad("other-main", "unchecked")
def an_emergency_from_a_sandbox(town: Town) -> None:
    """Two of security took it out there at once."""
    side = sandbox(town)
    first = town.land(town.data().agreed("amira", "bruno"))
    side.land(side.data(rows=ROWS * 9).agreed("amira", "bruno"))
    back = side.offer("revert", "stop this", "adil", of=first.slug)
    back.votes("amira", "bruno")
    town.land(replay(town.offer("revert", "stop this", "adil", of=first.slug), back, "vote"))


@bad("other-main", "unsigned-offer")
def a_resignation_from_a_sandbox(town: Town) -> None:
    """Adil laid down a role of a rehearsal."""
    left = with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"])
    there = sandbox(town).amend(left, "adil leaves", by="adil")
    here = town.amend(left, "adil leaves", by="adil")
    here.records.clear()
    town.land(replay(here, there, "signoff"))


@bad("other-main")
def votes_of_a_fork(town: Town) -> None:
    """It shares the root and the first landing, then goes its own way; its people agreed to the third of theirs."""
    town.land(town.data("first").agreed("amira", "bruno"))
    fork, kept = town.main, (dict(town.files), list(town.commits), town.number)
    town.land(town.data("theirs", rows=ROWS * 2).agreed("amira", "bruno"))
    there = town.data("third", rows=ROWS * 3)
    there.votes("amira", "bruno")
    town.files, town.commits = dict(kept[0]), list(kept[1])
    assert town.main == fork
    town.land(town.data("ours", rows=ROWS * 4, slug="0002-ours").agreed("amira", "bruno"))
    here = town.data("third", rows=ROWS * 3, slug=there.slug)
    town.land(replay(here, there, "vote").checks("chen"), by="chen")


def _names(town: Town, main: object) -> None:
    """Bruno's vote names this main."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", main=main)
    town.land(offer)


@bad("other-main")
def a_vote_on_a_main_that_never_was(town: Town) -> None:
    """A commit nobody has."""
    _names(town, "7" * 40)


@bad("other-main")
def a_vote_on_a_part_of_a_commit_s_name(town: Town) -> None:
    """Short names are for people: two commits may have one."""
    _names(town, town.main[:12])


@bad("other-main")
def a_vote_on_mains_of_choice(town: Town) -> None:
    """A list of commits, the right one among them."""
    _names(town, [town.main, "7" * 40])


@bad("other-main")
def a_vote_on_a_branch(town: Town) -> None:
    """`refs/heads/main` is whatever it is today."""
    _names(town, "refs/heads/main")


@bad("other-main")
def a_vote_on_its_own_head(town: Town) -> None:
    """The commit that offers it is none of main's."""
    base, offer = town.main, town.data().agreed("amira")
    files = {**town.files, **{f"{offer.home}{path}": town.git.file(data) for path, data in offer.files.items()}}
    head = town.git.commit(town.git.tree(files), [base], "head", 1_770_000_000)
    offer.vote("bruno", main=head)
    town.land(offer, parents=[base, head])


# -- no repository at all ----------------------------------------------------------------------------------------------


def _old(town: Town, does: Callable[[], Offered]) -> Offered:
    """Something signed by a tool that names no main."""
    town.bound = False
    made = does()
    town.bound = True
    return made


@bad("unbound-record")
def a_vote_that_names_no_main_any_more(town: Town) -> None:
    """Something has landed here by votes that all did; a sandbox of years before holds many that do not."""
    town.land(town.data("first").agreed("amira", "bruno"))
    offer = town.data("second", rows=ROWS * 2)
    town.land(_old(town, lambda: offer.agreed("amira", "bruno")))


@bad("unbound-record", "unsigned-offer")
def a_sign_off_that_names_no_main_any_more(town: Town) -> None:
    """Its author's tool is of before."""
    town.land(town.data("first").agreed("amira", "bruno"))
    offer = _old(town, lambda: town.data("second", rows=ROWS * 2))
    town.land(offer.agreed("amira", "bruno"))


@bad("unbound-record")
def ballots_that_name_no_main_any_more(town: Town) -> None:
    """An election by what anybody may have kept."""
    council(town)
    town.land(town.data("first").agreed("amira", "bruno"))
    offer = town.election()
    _old(town, lambda: offer.ballot("amira", "amira").ballot("bruno", "bruno").ballot("chen", "chen"))
    elected(town, offer, "amira", "bruno")


@bad("unbound-record")
def an_old_history_that_goes_back(town: Town) -> None:
    """It began before records named a main, went on with those that do, and cannot return."""
    _old(town, lambda: town.land(town.data("before").agreed("amira", "bruno")))
    town.land(town.data("since", rows=ROWS * 2).agreed("amira", "bruno"))
    _old(town, lambda: town.land(town.data("again", rows=ROWS * 3).agreed("amira", "bruno")))


@bad("rejected")
def a_no_that_names_no_main(town: Town) -> None:
    """Whose tool is old has said no all the same."""
    town.land(town.data("first").agreed("amira", "bruno"))
    offer = town.data("second", rows=ROWS * 2).agreed("amira", "bruno")
    town.bound = False
    offer.no("chen")
    town.bound = True
    town.land(offer)


# -- another time ------------------------------------------------------------------------------------------------------


@bad("signed-off-twice", "unsigned-offer")
def a_sign_off_used_twice(town: Town) -> None:
    """Taken back, and agreed to anew under another number; whoever made it was not asked again."""
    first = town.land(town.data().agreed("amira", "bruno"))
    town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(replay(town.data(signed=False), first, "signoff").agreed("chen", "bruno"))


@bad("signed-off-twice", "unsigned-offer")
def a_sign_off_spelled_otherwise(town: Town) -> None:
    """Another key id and another line length: the same signature, and it has landed."""
    first = town.land(town.data().agreed("amira", "bruno"))
    town.land(town.revert(first).agreed("chen", "bruno"))
    again = town.data(signed=False)
    envelope = json.loads(first.records["signoff.json"])
    envelope["signatures"][0]["keyid"] = "SHA256:other"
    again.put("signoff", canonical(envelope))
    town.land(again.agreed("chen", "bruno"))


def _returned(town: Town) -> tuple[str, Offered]:
    """Adil resigned, and came back by an amendment."""
    left = town.policy(role=with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"]).role)
    gone = town.land(town.amend(left, "adil leaves", by="adil"))
    amended(town, town.amend(town.policy(), "adil is back"))
    return gone.files["GOVERNANCE.toml"].decode(), gone


@bad("signed-off-twice", "unsigned-offer")
def a_resignation_played_again(town: Town) -> None:
    """Thrown out by his own sign-off of the first time."""
    text, gone = _returned(town)
    again = town.amend(text, "adil leaves", by="adil")
    again.records.clear()
    town.land(replay(again, gone, "signoff"))


@bad("amended-since", "unsigned-offer")
def a_resignation_of_before_he_came_back(town: Town) -> None:
    """He signed two, of which one landed; the other is of a policy that is no more."""
    left = with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"])
    second = town.amend(left, "adil leaves at last", by="adil")
    _returned(town)
    town.land(second)


@bad("late-resignation")
def a_resignation_that_was_withdrawn(town: Town) -> None:
    """Adil closed it, beside main, where no verifier looks; a hundred days later Bruno lands it."""
    offer = town.amend(with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"]), "adil leaves", by="adil")
    town.wait(days=100)
    town.land(offer)


@bad("late-resignation")
def a_resignation_late_by_a_second(town: Town) -> None:
    """Two weeks and a second after it was signed."""
    offer = town.amend(with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"]), "adil leaves", by="adil")
    town.land(offer, at=town.at(days=14, seconds=1))
    town.wait(days=15)


@bad("amended-since", "unsigned-offer")
def an_amendment_that_undoes_another(town: Town) -> None:
    """Both were offered on the same policy; whoever agreed to the second had the first's words still before them."""
    first = town.amend(town.policy(scope=town.scopes(cooloff_h=24)), "cool off")
    second = town.amend(town.policy(scope=town.scopes(n=3)), "three")
    amended(town, first)
    amended(town, second)


@bad("amended-since", "unsigned-offer")
def an_amendment_that_undoes_an_election(town: Town) -> None:
    """It writes the members of before the ballots."""
    council(town)
    late = town.amend(town.snapshot().policy_text.replace("n = 2", "n = 1", 1), "looser")
    offer = town.election().ballot("amira", "amira", "bruno").ballot("chen", "amira").ballot("bruno", "bruno", "amira")
    elected(town, offer, "amira", "bruno")
    amended(town, late)


# -- what a record is --------------------------------------------------------------------------------------------------


def _renamed(town: Town, name: str) -> None:
    """Agreed to in sight of Chen's no, which lies under another name."""
    offer = town.data().checks("amira")
    no = offer.no("chen", "it is poisoned")
    offer.records.popitem()
    offer.put(name, no)
    offer.votes("amira", "bruno")
    town.land(offer)


@bad("rejected")
def a_no_called_praise(town: Town) -> None:
    """Nothing is missing; it is only not called a vote."""
    _renamed(town, "praise-0001")


@bad("rejected")
def a_no_called_a_verdict(town: Town) -> None:
    """Under a name that other records have."""
    _renamed(town, "checked-0123456789abcdef")


@bad("rejected")
def a_no_under_a_name_of_one_letter(town: Town) -> None:
    """Whatever a file is called, what was signed in it counts."""
    _renamed(town, "x")


@bad("rejected")
def a_no_in_the_sign_off_s_place(town: Town) -> None:
    """The file of that name is a no, and the sign-off lies elsewhere."""
    offer = town.data().agreed("amira", "bruno")
    offer.put("vote-9999", offer.records["signoff.json"])
    offer.put("signoff", offer.no("chen"))
    offer.records.pop(list(offer.records)[-1])
    town.land(offer)


@bad("refused-check")
def a_refusal_called_praise(town: Town) -> None:
    """The machine's no."""
    offer = town.data().agreed("amira", "bruno").checks("chen", "refuse")
    offer.put("praise-0001", offer.records.popitem()[1])
    town.land(offer)


@bad("threshold")
def a_doubt_called_praise(town: Town) -> None:
    """`needs-eyes` asks for one more approval."""
    offer = town.data().checks(outcome="needs-eyes")
    offer.put("praise-0001", offer.records.popitem()[1])
    offer.votes("amira", "bruno")
    town.land(offer)


@bad("withheld-record", "unknown-signer")
def a_no_signed_again_by_a_stranger(town: Town) -> None:
    """Chen's words under Mallory's key stand in the place of Chen's no."""
    offer = town.data().checks("amira")
    no = json.loads(offer.no("chen"))
    name = list(offer.records)[-1].removesuffix(".json")
    offer.votes("amira", "bruno")
    payload = base64.b64decode(no["payload"])
    offer.put(name, seal(payload, [town.keys["mallory"].sign(payload, "souq.vote.v1")]))
    town.land(offer)


@bad("unmerged", "wrong-type")
def a_merge_record_under_another_name(town: Town) -> None:
    """The one record that is known by its file: who undoes a landing finds there which main it stood on."""
    offer = town.data().agreed("amira", "bruno")
    offer.record("merge", "bruno", {"pr": 1, "base": town.main}, name="merged")
    town.land(offer, merged=False)


@bad("unmerged", "wrong-type")
def a_vote_called_a_merge_record(town: Town) -> None:
    """Bruno's yes under that name, and nobody merged."""
    offer = town.data().agreed("amira", "bruno")
    offer.vote("bruno", name="merge")
    town.land(offer, merged=False)


@bad("wrong-type")
def a_statement_of_no_kind(town: Town) -> None:
    """Signed as a vote, and calls itself praise."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", as_="urn:souq:praise:1")
    town.land(offer)


def _beside(town: Town, name: str) -> None:
    offer = town.data().agreed("amira", "bruno")
    town.land(offer, also={f"{offer.home}records/{name}": b"{}"})


@bad("odd-record-name")
def a_record_in_a_folder(town: Town) -> None:
    """Records lie side by side."""
    _beside(town, "more/vote-1.json")


@bad("odd-record-name")
def a_record_that_git_will_not_write(town: Town) -> None:
    """`.GIT.json` and the like are settings to some file systems."""
    _beside(town, ".GIT.json")


@bad("odd-record-name")
def a_record_with_a_colon(town: Town) -> None:
    """Half the world's disks hold no such name."""
    _beside(town, "a:b.json")


@bad("odd-record-name")
def a_record_that_is_no_json(town: Town) -> None:
    """A program among the votes."""
    _beside(town, "setup.exe")


@bad("odd-record-name")
def a_record_with_a_long_name(town: Town) -> None:
    """Longer than any ref that souq reads."""
    _beside(town, "x" * 310 + ".json")


@bad("too-large")
def more_than_a_thousand_records(town: Town) -> None:
    """Each empty, each a file that every clone keeps."""
    offer = town.data().agreed("amira", "bruno")
    empty = town.git.file(b"")
    town.land(offer, also={f"{offer.home}records/vote-{n:04d}.json": empty for n in range(1_001)})


# -- who saw it --------------------------------------------------------------------------------------------------------


@bad("fork")
def an_older_witness_saw_another_main(town: Town) -> None:
    """The note names no root, and the note before it one that is here."""
    town.land(town.data().agreed("amira", "bruno"))
    first = witness(town, "amira", town.main, 2)
    witness(town, "amira", "7" * 40, 2, after=(first,))
