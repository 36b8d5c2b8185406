"""5,000 pull requests by 500 new keys, a voucher who vouches for all of them, vouches and pre-checks that are none."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.bazaar import MAINTAINERS
from tests.flooding import copied
from tests.stall import key
from tests.test_flood import NOW, policy, word
from tests.test_prechecks import sign_checked
from tests.test_prechecks import word as evals_word

from souq import signing
from souq.governance import read_policy
from souq.governance.limits import Evaluated, Junk, Offered, SignedVouch, accounts, spent, vouched_for, waiting
from souq.pulls import pull as pulls
from souq.pulls import vouches
from souq.pulls.prechecks import Tried, chance, draw
from souq.records import canonical, digest
from souq.signing import fingerprint

LIMITS = "\n[limits]\nopen_per_key = 5\nopen_per_org = 20\nopen_strangers = 50\nevals_strangers = 40\nvouches = 5\n"


def sybil(n):
    """The nth of many keys."""
    return f"{key(10)[:-8]}{n:04d}AAA="


@pytest.fixture(scope="module")
def flood():
    """5,000 pull requests of 500 keys, ten each in turn, and behind them one of somebody enrolled and one newcomer's."""
    keys = [sybil(n) for n in range(500)]
    offered = [Offered(1 + n, keys[n % 500]) for n in range(5_000)]
    return keys, [*offered, Offered(5_001, key(1)), Offered(5_002, key(9))]


def said(about, **more):
    """A vouch of p1's for one of the many keys."""
    return SignedVouch(msgspec.structs.replace(word(1, 0).vouch, key=about, **more), key(1))


def looked_at(offered, sentences):
    return [each for each in offered if each.number not in sentences]


def test_a_flood_is_looked_at_as_one_stranger_s_share(flood):
    """Fifty of the 5,000 at once, however many keys they have; who is enrolled waits for none of them."""
    _, offered = flood
    rules = policy(LIMITS)

    sentences = waiting(rules, offered, {})

    seen = looked_at(offered, sentences)
    assert len(seen) == 51
    assert seen[-1].number == 5_001
    assert "and 47 more" in sentences[5_002]


def test_who_vouches_for_all_gains_nothing(flood):
    """Five vouches hold; as many of theirs are looked at as of the voucher alone, and the voucher waits behind them."""
    keys, offered = flood
    rules = policy(LIMITS)
    signed = [said(each, at=f"2026-11-20T10:{n // 60:02d}:{n % 60:02d}Z") for n, each in enumerate(keys)]

    vouchers = vouched_for(rules, signed, [], NOW)
    sentences = waiting(rules, offered, vouchers)
    theirs = [each for each in looked_at(offered, sentences) if each.key in vouchers or each.key == key(1)]

    assert len(vouchers) == 5
    assert len(theirs) == 5
    assert "of p1 and whom they vouch for" in sentences[5_001]
    assert len(looked_at(offered, sentences)) == 55


def test_all_who_are_enrolled_vouching_are_bounded_by_their_organisation():
    """Ten people of one organisation, five newcomers each: twenty at once, as the organisation alone."""
    people = "".join(f'[[person]]\nname = "p{n}"\norg = "Atlas"\nkeys = ["{key(n)}"]\n' for n in range(1, 11))
    scope = '[[scope]]\nname = "all"\nmatch = ["**"]\nrequires = [{ role = "m", n = 1 }]\n'
    rules = read_policy(f'{people}[[role]]\nname = "m"\nmembers = ["p1"]\n{scope}{LIMITS}')
    vouchers = {sybil(n): rules.named(f"p{1 + n % 10}") for n in range(50)}
    offered = [Offered(n, sybil(n % 50)) for n in range(500)]

    assert len(looked_at(offered, waiting(rules, offered, vouchers))) == 20


def test_junk_of_one_s_newcomers_ends_the_vouching(flood):
    """Each that is turned down takes a vouch, and the five of tomorrow are not there."""
    keys, _ = flood
    rules = policy(LIMITS)
    signed = [said(each) for each in keys[:5]]
    junk = [Junk(n, keys[n % 5], "2026-11-30T10:00:00Z") for n in range(7)]

    assert len(vouched_for(rules, signed, junk[:2], NOW)) == 3
    assert vouched_for(rules, signed, junk, NOW) == {}


def test_the_week_s_evaluations_are_shared_by_all_keys(flood):
    """Forty for all strangers: the 41st key has none, though it never had one."""
    keys, _ = flood
    used = [Evaluated(each, "2026-11-30T10:00:00Z") for each in keys[:40]]

    assert spent(policy(LIMITS), keys[41], used, {}, now=NOW)
    assert not spent(policy(LIMITS), key(1), used, {}, now=NOW)


def test_a_stranger_fills_no_organisation_s_limit():
    """Whatever a stranger calls their employer: only who is enrolled counts against one."""
    assert [each.name for each in accounts(policy(LIMITS), key(9), {})][-1] == "everybody who is not enrolled"


def test_a_flood_in_another_s_name_takes_none_of_their_places(crowd):
    """Whose key has not signed it off is not its author: named a hundred times, layla is looked at as before."""
    genuine = crowd.document("layla", "genuine")
    repo = crowd.repo("omar")
    pull = pulls.get(repo, genuine)
    files = {f"{pull.offer.home}{path}": data for path, data in pull.offer.files.items()}
    signoff = pull.refs["signoff"]
    refs = {}
    for n in range(2, 42):  # the first half are her very bytes with her own sign-off, the others name her alone
        odd = {f"{pull.offer.home}documents/docs/genuine.md": b"omar's text %d\n" % n} if n > 21 else {}
        head = repo.write_commit([repo.tip()], files | odd, f"copy {n}\n", tree_of=repo.tip())
        refs |= {f"{pulls.PULLS}{n}/head": (None, head), f"{pulls.PULLS}{n}/signoff": (None, signoff)}
    repo.publish(refs, [])
    second = crowd.document("layla", "second")
    other = crowd.document("nadia", "other")
    rows = {row["number"]: row.get("waits", "") for row in json.loads(crowd.says("bruno", "pr list --json")[1])}

    assert rows[genuine] == ""
    assert all(rows[n] == f"waits for #{genuine}, whose very bytes it offers again" for n in range(2, 22))
    assert "key" not in rows[second]  # she waits with all strangers, for want of a voucher, and not for herself
    assert crowd("bruno", "pr checks 22 --out-of-turn") == 3
    assert crowd("amira", ["vouch", "layla", "--reason", "known"]) == 0
    rows = {row["number"]: row.get("waits", "") for row in json.loads(crowd.says("bruno", "pr list --json")[1])}
    assert (rows[genuine], rows[second]) == ("", "")
    assert rows[other] != ""
    for number in (2, 30):  # a copy of hers, and what only names her
        assert crowd("bruno", f"pr close {number} --junk --reason spam") == 0
    assert crowd.newcomers() == {"layla": "amira"}


# -- vouches that are none ---------------------------------------------------------------------------------------------


def put(crowd, who, about, *, signed_by=None, namespace=vouches.NAMESPACE, kind=vouches.KIND, main=None, **more):
    """A vouch in `who`'s name, by the key of `signed_by`, among the refs of the shared repository."""
    repo = crowd.repo("layla")
    more = {"at": signing.now(), "main": main or repo.tip(), **more}
    made = msgspec.structs.replace(word(1, 9).vouch, key=about, by=who, **more)
    statement = signing.statement(kind, "vouch", digest(made.key.encode()), msgspec.to_builtins(made))
    person = crowd.person(signed_by or who)
    oid = repo.write_blob(canonical(signing.sign(statement, person.key, namespace=namespace)))
    repo.publish({f"{vouches.REFS}{'0' * 16}/{oid[:16]}": (None, oid)}, [])


@pytest.fixture
def offered(crowd):
    crowd.document("layla", "text")
    return crowd


@pytest.mark.parametrize(
    "forged",
    [
        {"signed_by": "layla"}, {"namespace": "souq.vote.v1"}, {"kind": "urn:souq:vote:1"}, {"main": "0" * 40},
        {"at": "2030-01-01T00:00:00Z"}, {"reason": "x" * 5_000},
    ],
)  # fmt: skip
def test_a_forged_vouch_is_none(offered, forged):
    """By the newcomer's own key, as another record, of another main, from the future, or of any size."""
    put(offered, "amira", offered.key("layla"), **forged)

    assert offered.newcomers() == {}
    assert offered("bruno", "pr list") == 0


def test_a_vouch_copied_to_another_repository_is_none(offered, built_crowd, tmp_path):
    """It names a main that the other never had, though the same people are enrolled there."""
    assert offered("amira", ["vouch", "layla", "--reason", "known"]) == 0
    other = copied(built_crowd, tmp_path / "other")
    number = other.document("layla", "text")
    assert other("amira", f"pr checks {number}") == 0
    for who in ("amira", "bruno"):
        assert other(who, f"pr review {number} --approve --reason good") == 0
    assert other("bruno", f"pr merge {number}") == 0
    assert other("amira", ["vouch", "layla", "--reason", "known"]) == 0
    (oid,) = other.repo("amira").refs(vouches.REFS).values()
    data = other.repo("amira").object(oid, vouches.MAX_VOUCH)
    repo = offered.repo("omar")
    before = len(repo.refs(vouches.REFS))
    repo.publish({f"{vouches.REFS}{'1' * 16}/{oid[:16]}": (None, repo.write_blob(data))}, [])

    assert len(offered.repo("bruno").refs(vouches.REFS)) == before + 1
    assert len(vouches.read(offered.repo("bruno"), offered.main("bruno"))) == 1


def test_a_withdrawn_vouch_stays_withdrawn(offered):
    """Its first record, put there again under another name, is still older than what took it back."""
    assert offered("amira", ["vouch", "layla", "--reason", "known"]) == 0
    (oid,) = offered.repo("omar").refs(vouches.REFS).values()
    put(offered, "amira", offered.key("layla"), withdrawn=True, reason="no more")
    repo = offered.repo("omar")
    repo.publish({f"{vouches.REFS}{'2' * 16}/{oid[:16]}": (None, oid)}, [])

    assert offered.newcomers() == {}


def test_odd_files_beside_vouches_are_no_vouches(offered):
    """Whoever may push may put there what they like: it is skipped, and what is signed counts."""
    repo = offered.repo("omar")
    odd = [repo.write_blob(f"junk {n}".encode()) for n in range(300)]
    repo.publish({f"{vouches.REFS}{n:016x}/{oid[:16]}": (None, oid) for n, oid in enumerate(odd)}, [])
    assert offered("amira", ["vouch", "layla", "--reason", "known"]) == 0

    assert offered.newcomers("bruno") == {"layla": "amira"}


def test_nobody_vouches_for_themselves_by_another_s_word(offered):
    """A stranger cannot vouch, and an enrolled person is no newcomer."""
    assert offered("omar", ["vouch", "layla", "--reason", "x"]) != 0
    for who in MAINTAINERS:
        put(offered, "amira", offered.key(who))
    assert offered.newcomers() == {}
    assert fingerprint(offered.key("omar")) not in offered.says("bruno", "vouch")[1]


# -- pre-checks that are none ------------------------------------------------------------------------------------------


def test_who_was_honest_a_thousand_times_is_still_drawn():
    """A long good record buys four of five, never all: of 20 lies that follow it, 1 - 0.8^20 = 98.8% meet a spot check."""
    assert chance([Tried(f"{n:04}", confirmed=True) for n in range(1_000)], 0.2) == 0.2


def test_an_author_cannot_look_for_a_digest_that_is_not_drawn(crowd):
    """Who tries digests until their own key would not draw them has chosen nothing of the checker's draw."""
    subjects = [digest(f"{n}".encode()) for n in range(80)]
    chosen = [each for each in subjects if draw("0" * 40, each, crowd.person("layla")) > 0.2]

    drawn = sum(draw("0" * 40, each, crowd.person("bruno")) < 0.2 for each in chosen)
    assert 2 <= drawn <= 30


def test_another_s_pre_check_is_not_the_author_s(crowd):
    """omar signs that layla's passes, or layla that another's does: nothing is spared, and no record grows."""
    number, other = crowd.weights("layla", 1), crowd.weights("omar", 2)
    sign_checked(crowd, number, "omar", name="layla")
    sign_checked(crowd, number, "omar", "refuse", name="layla")
    sign_checked(crowd, other, "layla", name="omar")

    assert [evals_word(crowd, each) for each in (number, other)] == ["", ""]


def test_a_pre_check_of_other_bytes_says_nothing_of_these(crowd):
    """Signed by its author, for a digest that is not offered."""
    number = crowd.weights("layla", 1)
    sign_checked(crowd, number, "layla", "refuse", subject=digest(b"other bytes"))

    assert evals_word(crowd, number) == ""


def test_strangers_confirm_nobody(crowd):
    """A second key of the author's, or a friend's, adds nothing to a record: only enrolled people's machines do."""
    number, proof = crowd.weights("layla", 1), crowd.weights("layla", 2)
    sign_checked(crowd, number, "layla")
    for n in range(5):
        for who in ("layla", "omar", "nadia"):
            sign_checked(crowd, proof, who, subject=digest(bytes([n])))

    assert evals_word(crowd, number) == ""


def test_one_offer_of_no_numbers_refuses_no_later_one(bazaar):
    """What nobody can measure is its own author's fault: who offers honest weights after it is not held to it."""
    for n, change in enumerate((lambda a: a * float("nan"), lambda a: a * float("inf"))):
        path = bazaar.changed(bazaar.folder / f"odd{n}.delta", change)
        assert bazaar.refusal(bazaar.offer("mallory", path, f"Odd {n}"), "bruno")[0] == "tensors"

    assert bazaar.refusal(bazaar.offer("chen", bazaar.delta("greet"))) is None
