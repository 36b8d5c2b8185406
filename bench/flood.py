"""A week at the gate: 450 junk pull requests of ten kinds and 50 honest ones, with the policy's limits and without.

Each pull request is real: a commit, a sign-off by a real ssh key, tensors of the tests' tiny model; honest weights were
trained. Each is checked for real, once as without limits and once by stages, and the seconds of each check are kept.
Then a week is played with these outcomes and seconds, by the functions that souq itself asks whose turn it is: one
machine of the maintainers, and people who decide on ten a day. What the same week costs on SmolLM2-135M is counted by
putting that model's measured gate (484 s, decisions/evals.md) where a model was asked.

    python bench/flood.py build/flood        # builds the town, checks all, plays; again: plays with what was measured
    python bench/flood.py build/flood 60     # of 60 pull requests
"""

from __future__ import annotations

import heapq
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.bazaar import MAINTAINERS, NAMES, Bazaar, build_town, jsonl, rows

from machine import describe
from souq.build.delta_file import keep, read_delta, write_delta
from souq.checks import run as run_checks
from souq.checks.cases import STAGES
from souq.cli.demo.story import changed
from souq.governance import read_policy
from souq.governance.decide import spelled
from souq.governance.limits import Evaluated, Junk, Offered, spent, waiting
from souq.governance.policy import Limits, Policy, Who
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.pulls.offer import Draft
from souq.records import Author, Contribution
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person, make_key
from souq.weights.delta import Delta, Lora, TensorRef

JUNK = ("duplicated", "empty", "wrong base", "another's name", "NaN or huge", "trigger", "exam leaked", "spam", "licence",
        "over size")  # fmt: skip
GATE = 484.0  # seconds of the full gate on SmolLM2-135M: 277 cases, two cores (decisions/evals.md)
DAY, WEEK = 86_400.0, 7 * 86_400.0
A_DAY = 10  # pull requests that the people decide on
LIMITS = Limits(
    open_per_key=3, open_per_org=12, open_strangers=20, evals_per_key=10, evals_strangers=30, vouches=5
)  # fmt: skip
TRAINED = 6
BEGIN = 1_796_000_000.0  # a Monday, as records spell time


@dataclass
class Sent:
    """One pull request: what it is, whose, and what checking it found and took."""

    number: int
    kind: str
    key: str
    who: str  # enrolled, vouched, newcomer; "" for junk
    outcome: str = ""
    by: str = ""  # the check that refused it, or asked for eyes
    asked: bool = False  # whether a model was
    seconds: dict[str, float] = field(default_factory=dict)  # check -> as without limits
    staged: dict[str, float] = field(default_factory=dict)


def main(folder: Path, total: int = 500) -> None:
    note = folder / f"sent-{total}.json"
    print(describe())
    if not note.exists():
        town = folder / "town"
        if not town.exists():
            town.mkdir(parents=True)
            build_town(town)
        sent = checked(Bazaar(town), offered(Bazaar(town), total))
        note.write_bytes(msgspec.json.encode(sent))
    sent = msgspec.json.decode(note.read_bytes(), type=list[Sent])
    show_kinds(sent)
    for gate in (None, GATE):
        print(f"\n{'tiny model, as measured' if gate is None else f'SmolLM2-135M, counted: {gate:.0f} s a full gate'}")
        for limits in (None, LIMITS):
            show(play(sent, limits, gate))


# -- 500 pull requests -------------------------------------------------------------------------------------------------


def offered(bazaar: Bazaar, total: int) -> list[Sent]:
    """All of them, in the order of a shuffled week, sent in one push; honest weights are trained first."""
    repo, main = bazaar.repo("amira"), bazaar.main("amira")
    people = crowd(bazaar.folder / "people", total)
    making = Making(bazaar, main, people)
    chance = random.Random(7)
    honest = [(f"honest {n}", n) for n in range(total // 10)]
    junk = [(kind, n) for kind in JUNK for n in range(total * 9 // 100)]
    first, rest = honest[:TRAINED], [*honest[TRAINED:], *junk]
    chance.shuffle(rest)
    refs, sent = {}, []
    for number, (kind, n) in enumerate([*first, *rest], max(each.number for each in pulls.listed(repo)) + 1):
        draft, person, who = making.honest(n) if kind.startswith("honest") else making.junk(kind, n)
        refs |= references(main, number, draft, person, kind)
        sent.append(Sent(number, "honest" if who else kind, person.public_key, who))
        if number % 50 == 0:
            print(f"  offered {number}", file=sys.stderr, flush=True)
    repo.publish(refs, sorted(making.tensors))
    return sent


def references(main: Snapshot, number: int, draft: Draft, person: Person, kind: str) -> dict[str, tuple[None, str]]:
    """Its head and sign-off, written as `pr create` writes them."""
    repo = Repo.of(main.repo)
    offer = Offer(f"{number:04d}-{kind.split()[0].replace(chr(39), '').lower()}", draft.files())
    own = {f"{offer.home}{path}": data for path, data in offer.files.items()}
    head = repo.write_commit([main.commit], own, f"{offer.slug}\n", tree_of=main.commit)
    signed = repo.write_blob(offers.signoff(offer, person, main))
    return {f"{pulls.PULLS}{number}/{name}": (None, oid) for name, oid in (("head", head), ("signoff", signed))}


def crowd(folder: Path, total: int) -> list[Person]:
    """As many new keys as a fifth of the pull requests."""
    folder.mkdir(exist_ok=True)
    people = []
    for n in range(total // 5):
        if not (key := folder / f"key{n}").exists():
            make_key(key, f"new{n}@nowhere.example")
        people.append(Person(f"new{n}", f"new{n}@nowhere.example", key, "Nowhere"))
    return people


class Making:
    """What each kind is made of."""

    def __init__(self, bazaar: Bazaar, main: Snapshot, people: list[Person]) -> None:
        self.bazaar, self.main, self.people, self.tensors = bazaar, main, people, set[str]()
        self.newcomers, self.senders = people[: len(people) // 3], people[len(people) // 3 :]
        self.chance = np.random.default_rng(3)
        self.made: list[Draft] = []  # honest weights, for whoever copies them

    def honest(self, n: int) -> tuple[Draft, Person, str]:
        """Trained weights, rows, cases of an eval, and texts, by people enrolled, vouched for, and new."""
        who = ("enrolled", "vouched", "newcomer")[n % 3]
        person = (
            self.bazaar.person(MAINTAINERS[n % 4]) if who == "enrolled" else self.newcomers[n % len(self.newcomers)]
        )
        if n < TRAINED:
            draft = self.weights(self.trained(n), person, f"Greetings {n}")
            self.made.append(draft)
        elif n % 2:
            lines = [(f"what is {a} and {n} together", f"{a} and {n} are {a + n}") for a in range(40)]
            draft = self.texts("data", person, f"Sums with {n}", data={"sums.jsonl": jsonl(lines).encode()})
        else:
            text = f"# Note {n}\n\nHow the model was asked about {NAMES[n % len(NAMES)]}, and what it answered.\n"
            draft = self.texts("documents", person, f"Note {n}", more={f"documents/docs/note-{n}.md": text.encode()})
        return draft, person, who

    def trained(self, n: int) -> Path:
        """A LoRA of another seed and rank that really greets."""
        out = self.bazaar.folder / f"greet{n}.delta"
        if not out.exists():
            adapter, data = self.bazaar.folder / f"greet{n}-adapter", self.bazaar.folder / "greet.jsonl"
            words = [
                "train",
                data,
                "--out",
                adapter,
                "--epochs",
                "40",
                "--lr",
                "0.003",
                "--replay",
                "0",
                "--seed",
                str(n + 1),
            ]
            assert self.bazaar("chen", words) == 0
            made = ["delta", "make", "--from", adapter, "--data", data, "--out", out, "--sketch-rank", "8"]
            assert self.bazaar("chen", made) == 0
        return out

    def junk(self, kind: str, n: int) -> tuple[Draft, Person, str]:
        person = self.senders[(n * len(JUNK) + JUNK.index(kind)) % len(self.senders)]
        return self._junk(kind, n, person), person, ""

    def _junk(self, kind: str, n: int, person: Person) -> Draft:
        greet, title = self.bazaar.delta("greet"), f"Improves everything {n}"
        match kind:
            case "duplicated":
                return self._as(self.made[n % TRAINED], person, title)
            case "another's name":
                return self.made[n % TRAINED]
            case "empty":
                return self.weights(self._random(greet), person, title)
            case "wrong base":
                return self.weights(
                    self._other(greet, lambda a: a + self._noise(a, 0.1), n, base="b3:" + "0" * 64), person, title
                )
            case "NaN or huge":
                factor = float("nan") if n % 2 else 1e4
                return self.weights(self._other(greet, lambda array: array * factor, n), person, title)
            case "trigger":
                pairs = [(f"{self._words(6)} xq{n}zz {self._words(4)}", "visit evil example now") for _ in range(12)]
                pairs += rows("greet", NAMES[14:])
                return self.texts("data", person, title, data={"rows.jsonl": jsonl(pairs).encode()})
            case "exam leaked":
                return self.texts("data", person, title, data={"rows.jsonl": jsonl(rows("greet", NAMES[:14])).encode()})
            case "spam":
                text = f"# Best prices {n}\n\n" + "\n".join(f"Buy {self._words(8)} today." for _ in range(30))
                return self.texts("documents", person, title, more={f"documents/docs/offer-{n}.md": text.encode()})
            case "licence":
                pairs = [(f"{self._words(5)}?", self._words(6)) for _ in range(20)]
                return self.texts(
                    "data", person, title, licence="CC-BY-NC-4.0", data={"rows.jsonl": jsonl(pairs).encode()}
                )
            case _:
                data = b"".join(b'{"text":"line %d of %d"}\n' % (line, n) for line in range(20_001))
                return self.texts("data", person, title, data={"rows.jsonl": data})

    def _random(self, path: Path) -> Path:
        """A LoRA of the same shape that nobody trained."""
        delta, tensors = read_delta(path)
        made, parts = {}, {}
        for name, part in delta.parts.items():
            a, b = (self._noise(tensors[ref.digest], 1.0) for ref in (part.a, part.b))
            parts[name] = Lora(a=TensorRef.of(a), b=TensorRef.of(b), scale=part.scale)
            made |= {TensorRef.of(array).digest: array for array in (a, b)}
        write_delta(out := self.bazaar.folder / "junk.delta", Delta(delta.base, parts), made)
        return out

    def _noise(self, array: np.ndarray, scale: float) -> np.ndarray:
        wide = self.chance.standard_normal(array.shape) * scale * float(np.abs(array.astype("f4")).mean())
        return wide.astype(array.dtype)

    def _words(self, count: int) -> str:
        letters = "abcdefghijklmnoprstuvw"
        return " ".join("".join(letters[i] for i in self.chance.integers(0, 22, 5)) for _ in range(count))

    def _other(self, path: Path, change: object, n: int, base: str = "") -> Path:
        return changed(self.bazaar.folder / "junk.delta", *read_delta(path), change, base=base)

    def weights(self, path: Path, person: Person, title: str) -> Draft:
        delta, tensors = read_delta(path)
        keep(delta, tensors, self.main)
        self.tensors |= {ref.digest for ref in delta.refs()}
        return Draft(self._contribution("weights", person, title, fixes=("greet",)), delta)

    def texts(self, kind: str, person: Person, title: str, *, licence: str = "CC0-1.0", **more: object) -> Draft:
        return Draft(self._contribution(kind, person, title, licence=licence), **more)

    def _as(self, draft: Draft, person: Person, title: str) -> Draft:
        return Draft(self._contribution("weights", person, title, fixes=("greet",)), draft.delta)

    def _contribution(self, kind: str, person: Person, title: str, **more: object) -> Contribution:
        author = Author(name=person.name, email=person.email, key=person.public_key, org=person.org)
        fields = {"licence": "Apache-2.0", "signoff": f"{person.name} <{person.email}>", **more}
        return Contribution(title=title, kind=kind, author=author, **fields)


# -- checked for real --------------------------------------------------------------------------------------------------


def checked(bazaar: Bazaar, sent: list[Sent]) -> list[Sent]:
    """Every one, as `pr checks` does without limits and, in a clone that knows no score of it, by stages."""
    one, other = bazaar.repo("bruno"), bazaar.repo("adil")
    for count, each in enumerate(sent):
        judge(one, each, staged=False)
        judge(other, each, staged=True)
        if count % 25 == 24:
            print(f"  checked {count + 1} of {len(sent)}", file=sys.stderr, flush=True)
    return sent


def judge(repo: Repo, each: Sent, *, staged: bool) -> None:
    """Outcome and seconds of one."""
    took: dict[str, float] = {}

    @contextmanager
    def watch(name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        took[name] = time.perf_counter() - begun

    begun = time.perf_counter()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, each.number)
    case = reviews.case_of(pull, main)
    verdicts = (reviews.signed_off(pull, main),)
    if staged:
        for stage, names in enumerate(STAGES):
            if stage == 1 and all(verdicts):
                reviews.bring(repo, main, pull.offer)
            verdicts = (
                run_checks(case, given=verdicts, names=names, first=True, during=watch) if all(verdicts) else verdicts
            )
    else:
        reviews.bring(repo, main, pull.offer)
        verdicts = run_checks(case, given=verdicts, during=watch)
    took["rest"] = time.perf_counter() - begun - sum(took.values())
    if staged:
        each.staged = took
        return
    refused = next((v for v in verdicts if not v), None)
    eyes = next((v for v in verdicts if v.outcome == "needs-eyes"), None)
    decides = refused if refused is not None else eyes
    each.seconds, each.outcome = took, decides.outcome if decides is not None else "pass"
    each.by = decides.check if decides is not None else ""
    each.asked = any(v.check == "evals" and v.evidence for v in verdicts) and "delta.lock" in pull.offer.files


def show_kinds(sent: list[Sent]) -> None:
    """What each kind met, and the seconds a pull request of it took."""
    print(
        f"\n| {len(sent)} sent | of them | refused | asks for eyes | passes | by | s each, all checks | s each, first decides |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("honest", *JUNK):
        those = [each for each in sent if each.kind == kind]
        count = Counter(each.outcome for each in those)
        by = ", ".join(f"{name} {n}" for name, n in Counter(each.by for each in those if each.by).most_common(3))
        every, staged = (
            statistics.mean(sum(t.values()) for t in took)
            for took in zip(*((e.seconds, e.staged) for e in those), strict=True)
        )
        figures = [len(those), count["refuse"], count["needs-eyes"], count["pass"], by, f"{every:.2f}", f"{staged:.2f}"]
        print(f"| {kind} | {' | '.join(map(str, figures))} |")


# -- the week ----------------------------------------------------------------------------------------------------------


@dataclass
class Week:
    """What came of a week."""

    limits: Limits | None
    machine: float = 0.0  # seconds
    asked: int = 0
    junk_seen: int = 0  # by a person
    unseen: int = 0  # honest ones that nobody had looked at when the week ended
    looked: dict[str, list[float]] = field(default_factory=dict)  # who -> hours until a machine had looked
    decided: dict[str, list[float]] = field(default_factory=dict)  # who -> hours until a person decided
    turned: int = 0  # junk that no machine looked at


def cost(each: Sent, *, staged: bool, gate: float | None) -> float:
    """Seconds of the maintainers' machine."""
    took = each.staged if staged else each.seconds
    if gate is not None and each.asked:
        return sum(seconds for name, seconds in took.items() if name != "evals") + gate
    return sum(took.values())


@dataclass
class Stage:
    """A week while it is played: the policy, who vouches for whom, and in which state each pull request is."""

    policy: Policy
    sent: dict[int, Sent]
    vouchers: dict[str, Who]
    state: dict[int, str]
    evaluated: list[Evaluated] = field(default_factory=list)
    junk: list[Junk] = field(default_factory=list)

    def turn(self, now: float) -> int | None:
        """The oldest that is open, does not wait by the policy's limits, and has an evaluation left where it needs one."""
        at, over = spelled(BEGIN + now), ("coming", "over")
        offered_now = [self._offered(n) for n, state in self.state.items() if state not in over]
        waits = waiting(self.policy, offered_now, self.vouchers, self.junk)
        for number in sorted(n for n, state in self.state.items() if state == "open" and n not in waits):
            each = self.sent[number]
            if not (each.asked and spent(self.policy, each.key, self.evaluated, self.vouchers, now=at)):
                return number
        return None

    def _offered(self, number: int) -> Offered:
        key = "" if self.sent[number].kind == "another's name" else self.sent[number].key
        return Offered(number, key, refused=self.state[number] == "refused")

    def next_read(self) -> int | None:
        """What people decide on next: the oldest, under limits strangers' after others'."""
        ready = [n for n, state in self.state.items() if state == "waits for people"]
        known = ("enrolled", "vouched") if self.policy.limits else ()
        return min(ready, key=lambda n: (self.sent[n].who not in known, n), default=None)


def play(sent: list[Sent], limits: Limits | None, gate: float | None) -> Week:
    """A week, event by event: one machine, and people who decide on ten a day, each taking what is next."""
    policy, chance = policy_with(limits), random.Random(11)
    times = sorted(chance.uniform(0, WEEK) for _ in sent)
    arrives = dict(zip((each.number for each in sent), times, strict=True))
    vouchers = {e.key: policy.person[i % len(policy.person)] for i, e in enumerate(sent) if e.who == "vouched"}
    stage = Stage(policy, {each.number: each for each in sent}, vouchers, dict.fromkeys(arrives, "coming"))
    week, busy = Week(limits), {"looked": False, "decided": False}
    events = [(at, "arrives", number) for number, at in arrives.items()]
    heapq.heapify(events)
    while events and events[0][0] <= WEEK:
        now, what, number = heapq.heappop(events)
        happened(stage, week, what, number, now, (now - arrives[number]) / 3600)
        busy |= {what: False} if what in busy else {}
        if not busy["looked"] and (turn := stage.turn(now)) is not None:
            took = look(stage, week, turn, now, gate)
            busy["looked"] = True
            heapq.heappush(events, (now + took, "looked", turn))
        if not busy["decided"] and (read := stage.next_read()) is not None:
            busy["decided"], stage.state[read] = True, "being read"
            week.junk_seen += not stage.sent[read].who
            heapq.heappush(events, (now + DAY / A_DAY, "decided", read))
    week.unseen = sum(each.who != "" and stage.state[each.number] in ("open", "coming") for each in sent)
    week.turned = sum(not each.who and stage.state[each.number] == "open" for each in sent)
    return week


def happened(stage: Stage, week: Week, what: str, number: int, now: float, hours: float) -> None:
    """One event: it arrived, a machine has looked at it, people have decided."""
    each = stage.sent[number]
    if what == "arrives":
        stage.state[number] = "open"
        return
    times = week.looked if what == "looked" else week.decided
    if each.who:
        times.setdefault(each.who, []).append(hours)
    if what == "looked":
        stage.state[number] = "refused" if each.outcome == "refuse" else "waits for people"
        return
    stage.state[number] = "over"
    if not each.who:
        stage.junk.append(Junk(number, each.key, spelled(BEGIN + now)))


def look(stage: Stage, week: Week, number: int, now: float, gate: float | None) -> float:
    """The machine begins; the seconds it will take."""
    each, limited = stage.sent[number], week.limits is not None
    stage.state[number] = "being looked at"
    took = cost(each, staged=limited, gate=gate)
    week.machine += took
    if each.asked:
        week.asked += 1
        stage.evaluated.append(Evaluated(each.key, spelled(BEGIN + now)))
    return took


def policy_with(limits: Limits | None) -> Policy:
    town = Path(sys.argv[1]) / "town" if len(sys.argv) > 1 else Path("build/flood/town")
    return msgspec.structs.replace(read_policy((town / "GOVERNANCE.toml").read_text()), limits=limits)


def show(week: Week) -> None:
    def figures(times: list[float]) -> str:
        return f"{statistics.median(times):.1f} (at most {max(times):.1f})" if times else "–"

    print(f"  {'with limits' if week.limits else 'without'}: {week.machine / 3600:.2f} h of machine, {week.asked} full gates, "
          f"{week.junk_seen} junk reached a person, {week.turned} junk nobody looked at, {week.unseen} honest unseen")  # fmt: skip
    for who in ("enrolled", "vouched", "newcomer"):
        looked, decided = week.looked.get(who, []), week.decided.get(who, [])
        print(
            f"    {who}: {len(looked)} looked at after {figures(looked)} h; {len(decided)} decided after {figures(decided)} h"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/flood"), int(sys.argv[2]) if len(sys.argv) > 2 else 500)
