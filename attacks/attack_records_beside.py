"""Whatever somebody pushes beside the records of others: junk of any name and number, a no under another name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from souq import signing
from souq.errors import Refused
from souq.pulls import land, pull, reviews
from souq.pulls.pull import PullRequest
from souq.repo.contribution import MAX_HELD, MAX_RECORD, MAX_RECORDS
from souq.repo.git import MAIN
from souq.repo.snapshot import Snapshot
from souq.signing import Person
from souq.verify import verify
from souq_conformance.town import Stock, Town


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    stock = Stock(tmp_path_factory.mktemp("stock"))
    assert stock.keys
    assert stock.empty
    return stock


@pytest.fixture
def town(stock, tmp_path, monkeypatch):
    """A town whose clock is souq's."""
    town = Town(tmp_path / "town", stock)
    monkeypatch.setattr(signing, "now", lambda: town.at())
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "bruno")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "bruno@example.org")
    return town


def offered(town, offer, **refs):
    """A pull request with the offer's records under its refs, and more."""
    files = {**town.files, **{f"{offer.home}{path}": town.git.file(data) for path, data in offer.files.items()}}
    head = town.git.commit(town.git.tree(files), [town.main], "offered", 1_770_000_000)
    held = {name.removesuffix(".json"): town.git.put("blob", data) for name, data in offer.records.items()}
    return PullRequest(town.repo, town.number, {"head": head, **held, **refs})


def landed(town, request):
    """Where it lands, once every reader has accepted it; and the names of its records there."""
    bruno = Person("bruno", "bruno@example.org", town.keys["bruno"].key)
    commit = land.landing(request, Snapshot(town.repo, town.main), bruno, lambda *_: None)
    town.git.ref(MAIN, commit)
    assert verify(town.repo, now=town.at()).findings == []
    below = f"contributions/{request.offer.slug}/records/"
    return {path.removeprefix(below) for path in Snapshot(town.repo, commit).paths(below.rstrip("/"))}


def honest(town, **more):
    offer = town.data(**more).agreed("amira", "bruno")
    town.wait(hours=1)
    return offer


def test_junk_stays_where_it_is(town):
    """Names that no disk holds, commits, trees, megabytes, and records of strangers: main gets none of them."""
    offer = honest(town)
    names = set(landed_names(offer))
    offer.vote("mallory")
    offer.record("closed", "bruno", {"reason": "not now"})
    put = town.git.put
    junk = {
        "x/" + "a" * 200 + "/" + "b" * 80: put("blob", b"nothing"), "aux": put("blob", b"1"), "vote/A": put("blob", b"2"),
        "vote/a": put("blob", b"3"), "vote/commit": town.main, "vote/tree": town.git.tree(town.files),
        "vote/huge": put("blob", bytes(MAX_RECORD + 1)), "merge": put("blob", town.data().record("merge", "chen", {})),
    }  # fmt: skip

    assert landed(town, offered(town, offer, **junk)) == names


def landed_names(offer):
    """As a landing names what holds: by kind and content."""
    for name, data in offer.records.items():
        kind = name.partition("-")[0].removesuffix(".json")
        yield "signoff.json" if kind == "signoff" else f"{kind}-{signing.digest(data)[3:19]}.json"
    yield "merge.json"


def test_a_thousand_pieces_of_junk_crowd_nobody_out(town, monkeypatch):
    """Smaller than any honest record, or large, and more than all records of a landing may have together."""
    monkeypatch.setattr(pull, "AHEAD", 512)
    offer = honest(town)
    small = {f"vote/{n:016x}": town.git.put("blob", b"%d" % n) for n in range(MAX_RECORDS)}
    large = {
        f"x/{n}": town.git.put("blob", b"%d" % n + bytes(MAX_RECORD - 9)) for n in range(MAX_HELD // MAX_RECORD + 1)
    }

    assert landed(town, offered(town, offer, **small, **large)) == set(landed_names(offer))


@pytest.mark.parametrize("name", ["praise/0001", "vote", "signoff/2", "checked/0123456789abcdef", "queued/x"])
def test_a_no_is_a_no_under_any_name(town, name):
    """Whoever may push refs moves it; its words are what was signed."""
    offer = honest(town)
    no = offer.no("chen", "it is poisoned")
    offer.records = {each: data for each, data in offer.records.items() if data != no}
    request = offered(town, offer, **{name: town.git.put("blob", no)})
    main = Snapshot(town.repo, town.main)

    assert land.decision_on(request, main).missing == ("chen rejects it: it is poisoned",)
    with pytest.raises(Refused, match=r"nobody could verify main with it: .*chen rejects it"):
        landed(town, request)


@pytest.mark.parametrize("name", ["closed/0123456789abcdef", "vote/0123456789abcdef", "praise/x"])
def test_so_is_a_closing(town, name):
    offer = town.data()
    note = offer.record("closed", "mallory", {"reason": "withdrawn"}, about="contributions/pr-1")
    offer.records.popitem()
    main = Snapshot(town.repo, town.main)

    assert offered(town, offer).state(main) == "open"
    assert offered(town, offer, **{name: town.git.put("blob", note)}).state(main) == "closed"


def test_more_records_than_a_landing_holds_are_named(town, monkeypatch):
    """Of people who are enrolled: nobody else can bring it there."""
    offer = honest(town)
    monkeypatch.setattr(land, "MAX_RECORDS", 3)

    with pytest.raises(Refused, match=r"#1 carries 4 records that hold, of [\d,]+ bytes; at most 3 of 16,777,216"):
        landed(town, offered(town, offer))
    monkeypatch.setattr(land, "MAX_RECORDS", 4)
    assert len(landed(town, offered(town, offer))) == 5


def test_an_offer_of_full_size_lands_with_its_records(town, monkeypatch):
    """Each has a bound of its own, so what anybody lays beside an offer takes none of its room."""
    monkeypatch.setattr("souq.repo.snapshot.MAX_OFFER", 1 << 16)
    monkeypatch.setattr("souq.repo.history.MAX_OFFER", 1 << 16)
    size = sum(map(len, town.data("probe", rows=b"").files.values()))
    offer = honest(town, title="whole", rows=b"\n" * ((1 << 16) - size))

    landed(town, offered(town, offer))

    assert Snapshot(town.repo, town.repo.tip()).offer(offer.slug).digest == offer.digest


@pytest.mark.parametrize("parents", [0, 2, "beside"])
def test_a_head_brings_no_history_of_its_own(town, parents):
    """Clones take all that main comes from: a head on a stranger's commits would bring them, of any size and words."""
    offer = honest(town)
    files = {**town.files, **{f"{offer.home}{path}": town.git.file(data) for path, data in offer.files.items()}}
    bare = town.git.commit(town.git.tree(town.files), [town.main] * (parents == "beside"), "fixes #7", 1_770_000_000)
    above = {0: [bare], 2: [town.main, bare], "beside": [bare]}[parents]
    request = offered(town, offer)
    request = replace(request, refs={**request.refs, "head": town.git.commit(town.git.tree(files), above, "x", 1)})

    missing = land.decision_on(request, Snapshot(town.repo, town.main)).missing
    assert missing == ("a head that stands on main alone: its author offers it again",)
    assert land.decision_on(offered(town, offer), Snapshot(town.repo, town.main))


@pytest.mark.parametrize(
    "wrong", [{"main": "7" * 40}, {"main": ["x"]}, {"about": "contributions/pr-2"}, {"subject": "b3:" + "0" * 64}]
)
def test_a_closing_of_another_place_closes_nothing_here(town, wrong):
    """Withdrawn in a sandbox, or under another number: a stranger copied it."""
    offer = town.data()
    about, subject = wrong.get("about", "contributions/pr-1"), wrong.get("subject", "")
    predicate = {"reason": "withdrawn"} | {key: value for key, value in wrong.items() if key == "main"}
    note = offer.record("closed", "mallory", predicate, about=about, subject=subject)
    offer.records.popitem()

    request = offered(town, offer, **{"closed/0123456789abcdef": town.git.put("blob", note)})
    assert request.state(Snapshot(town.repo, town.main)) == "open"


def test_votes_of_a_sandbox_do_not_count_before_it_lands_either(town):
    """What verify would say later is said while people still decide; what they sign next does not name them."""
    offer = town.data().checks("amira")
    for name in ("amira", "bruno"):
        offer.vote(name, main="7" * 40)
    town.wait(hours=1)
    request, main = offered(town, offer), Snapshot(town.repo, town.main)

    (lacks,) = land.decision_on(request, main).missing
    assert lacks.startswith("2 more approvals from `maintainer`")
    assert len(request.seen(main)) == 2


def test_a_sign_off_that_landed_before_is_refused_by_the_check(town):
    """Before anybody votes, and with the reason."""
    first = town.land(town.data().agreed("amira", "bruno"))
    town.land(town.revert(first).agreed("chen", "bruno"))
    again = town.data(signed=False)
    again.put("signoff", first.records["signoff.json"])
    verdict = reviews.signed_off(offered(town, again), Snapshot(town.repo, town.main))

    because = "its author has not signed it off: it has landed already, and a sign-off does so once"
    assert (verdict.outcome, verdict.because) == ("refuse", because)
    assert reviews.signed_off(offered(town, town.data()), Snapshot(town.repo, town.main)).outcome == "pass"
