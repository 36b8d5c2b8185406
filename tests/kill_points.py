"""Each verb, stopped at each change it makes: what was there is there, the same line goes on, and nothing half remains.

    python -m tests.kill_points                      # every verb, every point, every way
    python -m tests.kill_points clone push --how full
    python -m tests.kill_points pr-merge --only 12   # one point, and what is wrong after it

A point holds when, after the stop,
  others fetch and verify as before, and the hub's git is whole;
  what is visible under its name is whole;
  the same line, typed again, succeeds, and makes what it makes when nothing stops it;
  no file is left that would not be there, and none is missing.

At every point the verb is really stopped. What comes then follows from what lies on the disk: where that is, byte for
byte, what an earlier stop of this verb left, the same holds and is not played again (`--anew` plays it all the same).
So each verb believes in one moment (`Clock`): with the second in every signature no two states would be one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from souq.build.delta_file import read_delta, write_delta
from souq.weights.delta import Delta
from tests.bazaar import PEOPLE, SKILLS, Bazaar, build_town
from tests.points import HOWS, KILLED, TRACEBACK, Done, Event, How, Stop, Typed
from tests.states import Kept, State

GREET = (
    "pr",
    "create",
    "{town}/greet.delta",
    "--title",
    "Greet",
    "--licence",
    "Apache-2.0",
    "--signoff",
    "--fixes",
    "greet",
)
PROMPT = '{"prompt": "say hello to %s", "source": "me", "licence": "CC0-1.0"}\n'


def ready(bazaar: Bazaar) -> None:
    """#2 weights and #3 data, voted on and queued; #4 open; everybody has all of it."""
    for skill in SKILLS:
        lessen(bazaar.delta(skill))
    bazaar.offer("chen", bazaar.delta("count"), fixes="count")
    assert bazaar("amira", "pr checks 2") == 0
    for number in (1, 2):
        row = {"prompt": f"1 + {number}", "completion": "2"}
        (bazaar.folder / f"rows{number}.jsonl").write_text(json.dumps(row) + "\n")
    rows = ["pr", "create", "--title", "Rows", "--licence", "CC0-1.0", "--signoff", "--data"]
    for number in (1, 2):
        assert bazaar("chen", [*rows, bazaar.folder / f"rows{number}.jsonl"]) == 0
    for who in ("amira", "bruno"):
        for number in (2, 3):
            assert bazaar(who, f"pr review {number} --approve") == 0
    assert bazaar("amira", "queue add 2 3") == 0
    (bazaar.folder / "prompts.jsonl").write_text("".join(PROMPT % name for name in ("ada", "bo", "cy", "dee")))
    for who in PEOPLE:
        assert bazaar(who, "fetch") == 0


def lessen(path: Path) -> None:
    """A delta with two of its fourteen tensors: each is an object or two more, and each object the same ten changes."""
    delta, tensors = read_delta(path)
    names = [*delta.parts][::7]
    inputs = {name: delta.inputs[name] for name in names}
    parts, grams = {name: delta.parts[name] for name in names}, {key: delta.grams[key] for key in inputs.values()}
    held = {ref.digest: tensors[ref.digest] for ref in delta.refs()}
    write_delta(path, Delta(delta.base, parts, grams, inputs), held)


@dataclass(frozen=True)
class Verb:
    """What is typed, by whom, after what, and what must hold; `{town}` in its words is the town's folder."""

    words: tuple[str, ...]
    who: str = "amira"
    at: str = ""  # below the town; "" for the clone of who types
    before: tuple[tuple[str, str, str], ...] = ()  # (who, line, at)
    again: tuple[int, ...] = (0,)  # how the line may end when it is typed once more
    whole: Callable[[Town], Iterator[str]] = lambda town: iter(())  # whatever is visible, whenever it stopped
    made: Callable[[Town], Iterator[str]] = lambda town: iter(())  # what is wrong once it is done
    reader: str = "bruno"  # who looks at what is visible
    lab: bool = False  # whether it needs torch, whose memory makes each fork three times as long


class Clock:
    """A moment that stays, for as long as others' clocks bear with it: what is signed then is the same bytes."""

    STAYS = 240.0  # of the ten minutes by which two clocks may differ

    def __init__(self) -> None:
        self._at = time.time()

    def dates(self, later: int = 0) -> dict[str, str]:
        """What tells git, and souq, which moment it is; so many seconds later."""
        if time.time() > self._at + self.STAYS:
            self._at = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._at + later))
        return {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment}


class Town:
    """A copy of the bazaar that may be broken."""

    def __init__(self, folder: Path, notes: Path) -> None:
        self.folder, self.typed, self.clock = folder, Typed(folder, notes), Clock()
        self.kept: Kept | None = None

    def begin(self, source: Path) -> None:
        """As it was; the clones' remotes name this very place, so they need no change."""
        if self.kept is None or self.kept.source != source:
            self.kept = Kept(source, self.folder)
        self.kept.restore()

    def state(self) -> State:
        return self.kept.state()

    def env(self, who: str) -> dict[str, str]:
        mail = f"{who}@{PEOPLE[who].lower()}.example"
        names = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in (("NAME", who), ("EMAIL", mail))}  # fmt: skip
        return {"SOUQ_KEY": str(self.folder / who / "id_ed25519"), "TMPDIR": str(self.folder / "tmp"), **names}

    def __call__(self, who: str, line: str | list[str], at: str = "") -> Done:
        words = line.split() if isinstance(line, str) else [str(word) for word in line]
        return self.typed(self._words(words), self.folder / (at or f"{who}/smol"), self.env(who))

    def _words(self, words: Iterable[str]) -> list[str]:
        return [word.replace("{town}", str(self.folder)) for word in words]

    def count(self, verb: Verb) -> tuple[Done, list[Event]]:
        return self.typed.count(self._words(verb.words), self.place(verb), self.env(verb.who) | self.clock.dates())

    def play(self, verb: Verb, stop: Stop | None = None, later: int = 0) -> Done:
        env = self.env(verb.who) | self.clock.dates(later)
        return self.typed(self._words(verb.words), self.place(verb), env, stop)

    def place(self, verb: Verb) -> Path:
        return self.folder / (verb.at or f"{verb.who}/smol")

    def fails(self, who: str, line: str | list[str], at: str = "") -> Iterator[str]:
        """Nothing where a line goes well."""
        if (done := self(who, line, at)).code:
            yield f"`souq {line if isinstance(line, str) else ' '.join(line)}` in {at or who} says {last(done)!r}"

    def git(self, at: str, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder / at, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else f"git {words[0]} failed: {done.stderr.strip()}"

    def open_as(self, title: str) -> list[int]:
        listed = json.loads(self("bruno", "pr list --json").out or "[]")
        return [pull["number"] for pull in listed if pull["title"] == title]

    def files(self, who: str) -> set[str]:
        """What lies where, but for others' clones, what is named by content or time, and what git keeps for itself."""
        below = self.kept.names()
        # What was half written in a clone's store or cache stays hidden until something is written there, or `souq gc`.
        ours = re.compile(
            r"/souq/(.*/)?\.[^/]*\.part|(hub2?\.git|\.git)/(?!souq)|(^|/)hub2?\.git/souq/objects/..(/[0-9a-f]+)?$|\.git/souq/objects/..(/[0-9a-f]+)?$"
        )
        return {re.sub(r"[0-9a-f]{16,}", "#", path) for path in below if not ours.search(path) and path.split("/")[0] not in {"tmp", *PEOPLE} - {who}}  # fmt: skip


def last(done: Done) -> str:
    lines = [line for line in (done.err or done.out).splitlines() if line.strip()]
    return " / ".join(lines[-2:])[:300]


def _verifies(at: str, who: str = "bruno") -> Callable[[Town], Iterator[str]]:
    return lambda town: town.fails(who, "verify", at)


def _if_there(at: str, who: str = "bruno") -> Callable[[Town], Iterator[str]]:
    return lambda town: town.fails(who, "verify", at) if (town.folder / at).exists() else iter(())


def _second_hub(town: Town) -> Iterator[str]:
    """Whoever sees a main there can have all of it."""
    if (
        town.git("hub2.git", "rev-parse", "--verify", "-q", "refs/heads/main").startswith("git")
        if (town.folder / "hub2.git").exists()
        else True
    ):
        return
    yield from town.fails("bruno", "clone hub2.git other", ".")
    yield from town.fails("bruno", "verify", "other") if (town.folder / "other").exists() else ()
    shutil.rmtree(town.folder / "other", ignore_errors=True)


def _pushed(town: Town) -> Iterator[str]:
    yield from town.fails("bruno", "clone hub2.git other", ".")
    yield from town.fails("bruno", "verify", "other")
    shutil.rmtree(town.folder / "other", ignore_errors=True)
    yield from town.fails("amira", "push", "made")


def _up_to_date(who: str) -> Callable[[Town], Iterator[str]]:
    def check(town: Town) -> Iterator[str]:
        yield from town.fails(who, "fetch")
        yield from town.fails(who, "verify --no-rebuild")
        if changed := town.git(f"{who}/smol", "status", "--porcelain"):
            yield f"{who}'s files differ: {changed.splitlines()[:2]}"
        if town.git(f"{who}/smol", "rev-parse", "HEAD") != town.git("hub.git", "rev-parse", "refs/heads/main"):
            yield f"{who}'s main is not the hub's"

    return check


def _merged(*numbers: int, who: str) -> Callable[[Town], Iterator[str]]:
    def check(town: Town) -> Iterator[str]:
        states = {
            pull["number"]: pull["state"] for pull in json.loads(town("adil", "pr list --all --json").out or "[]")
        }
        yield from (f"#{n} is {states.get(n)}" for n in numbers if states.get(n) != "merged")
        yield from _up_to_date(who)(town)

    return check


def _offered_once(title: str) -> Callable[[Town], Iterator[str]]:
    def check(town: Town) -> Iterator[str]:
        if len(numbers := town.open_as(title)) != 1:
            yield f"{title!r} is offered {len(numbers)} times"
        for number in numbers[:1]:
            yield from town.fails("bruno", f"pr checks {number} --quick")

    return check


def _offered_whole(title: str) -> Callable[[Town], Iterator[str]]:
    def check(town: Town) -> Iterator[str]:
        for number in town.open_as(title):
            yield from town.fails("bruno", f"pr checks {number} --quick")

    return check


def _file(path: str) -> Callable[[Town], Iterator[str]]:
    return lambda town: town.fails("chen", f"delta show {{town}}/{path}") if (town.folder / path).exists() else iter(())


def _model(path: str, *, must: bool) -> Callable[[Town], Iterator[str]]:
    def check(town: Town) -> Iterator[str]:
        there = {p.name for p in (town.folder / path).glob("*")}
        lacks = {"model.safetensors", "model.lock", "README.md", "config.json"} - there
        if lacks and (there or must):
            yield f"{path} lacks {sorted(lacks)}"

    return check


def _asked(town: Town) -> Iterator[str]:
    done = town("amira", ["corpus", "query", "select count(*) as n from rows", "{town}/corpus"])
    if done.code or "4" not in done.out:
        yield f"corpus query says {done.out[-40:]!r} {last(done)!r}"


def _corpus_whole(town: Town) -> Iterator[str]:
    return _asked(town) if (town.folder / "corpus" / "manifest.json").exists() else iter(())


def _builds(town: Town) -> Iterator[str]:
    yield from town.fails("amira", "verify")
    yield from town.fails("amira", "pr checks 2 --quick")


INIT = ("init", "made", "--from", "{town}/tiny", "--governance", "solo", "--no-suite")
LANDED = (("bruno", "pr merge 2", ""), ("adil", "fetch", ""))
VERBS = {
    "init": Verb(INIT, at=".", again=(0, 2), whole=_if_there("made"), made=_verifies("made")),
    "push": Verb(
        ("push", "{town}/hub2.git"), at="made", before=(("amira", " ".join(INIT), "."),), whole=_second_hub, made=_pushed
    ),
    "clone": Verb(("clone", "{town}/hub.git", "fresh"), "bruno", at=".", again=(0, 2), whole=_if_there("fresh"), made=_verifies("fresh")),
    "fetch": Verb(("fetch",), "adil", before=LANDED[:1], made=_up_to_date("adil")),
    "delta-make": Verb(
        ("delta", "make", "--from", "{town}/greet-adapter", "--data", "{town}/greet.jsonl", "--out", "{town}/x.delta", "--sketch-rank", "8"),
        "chen", whole=_file("x.delta"), made=_file("x.delta"), reader="chen", lab=True,
    ),
    "pr-create": Verb((*GREET, "--unchecked"), "chen", whole=_offered_whole("Greet"), made=_offered_once("Greet")),
    "pr-merge": Verb(("pr", "merge", "2"), "bruno", again=(0, 3), made=_merged(2, who="bruno")),
    "queue-run": Verb(("queue", "run"), made=_merged(2, 3, who="amira")),
    "build": Verb(("build",), "adil", before=LANDED, made=lambda town: town.fails("adil", "verify")),
    "export": Verb(("export", "{town}/out"), "adil", before=LANDED, again=(0, 2), whole=_model("out", must=False), made=_model("out", must=True)),
    "release-create": Verb(("release", "create", "1.0", "--no-scores"), whole=_offered_whole("Release 1.0"), made=_offered_once("Release 1.0")),
    "corpus-make": Verb(("corpus", "make", "{town}/prompts.jsonl", "--out", "{town}/corpus", "--max-tokens", "4"), whole=_corpus_whole, made=_asked, reader="amira", lab=True),
    "gc": Verb(("gc", "--grace", "0"), before=(("amira", "build", ""),), made=_builds),
}  # fmt: skip


@dataclass
class Trial:
    """One verb in one town: what it changes, and what is there when nothing stops it."""

    name: str
    verb: Verb
    town: Town
    source: Path  # the town before the verb
    events: list[Event]
    whole: set[str]  # files
    anew: bool = False  # whether what follows from a state is played again where that state comes again
    again: int = 0  # how often one came again
    _known: dict[tuple[object, ...], list[str]] = field(default_factory=dict)  # -> what is wrong with it

    @classmethod
    def of(cls, name: str, town: Town, place: Path, base: Path) -> Trial:
        """Whatever comes before the verb, once; then the verb, counted."""
        verb, source = VERBS[name], place / f"before-{name}"
        if not source.exists():
            town.begin(base)
            (town.folder / "tmp").mkdir(exist_ok=True)
            for who, line, at in verb.before:
                assert not [*town.fails(who, line, at)]
            subprocess.run(["cp", "-a", town.folder, source], check=True)
        town.begin(source)
        done, events = town.count(verb)
        assert done.code == 0, f"{name}: {done.code} {last(done)}"
        assert not [*verb.made(town)], [*verb.made(town)]
        return cls(name, verb, town, source, events, town.files(verb.who))

    def points(self, how: How) -> list[Stop]:
        """Killed: before each change. Torn: within each that writes. Full: at each that needs room. Broken: at each."""
        kinds = [event.kind for event in self.events]
        fits = {
            "killed": [kind != "fsync" for kind in kinds],  # it changes nothing that a living machine reads
            "torn": [event.tears for event in self.events],
            "full": [kind not in ("os.remove", "os.rmdir", "os.chmod") for kind in kinds],
            "broken": [not kind.startswith("git") for kind in kinds],  # what git finds broken, it finds full too
        }
        return [Stop(at, how) for at, fit in enumerate(fits[how], 1) if fit]

    def wrong(self, stop: Stop) -> list[str]:
        """What does not hold after one stop."""
        self.town.begin(self.source)
        done = self.town.play(self.verb, stop)
        return [*_ends(done, stop), *self._follows(done.code == 0, torn=stop.how == "torn")]

    def _follows(self, done: bool, *, torn: bool) -> list[str]:
        """What is wrong with the state in which the town is, and what comes of it."""
        state = self.town.state()
        left = ("left", state.seen_by(), done, torn)
        self.again += left in self._known
        return self._once(left, lambda: self._aftermath(state, done, torn=torn))

    def _once(self, key: tuple[object, ...], ask: Callable[[], Iterable[str]]) -> list[str]:
        if self.anew or key not in self._known:
            self._known[key] = list(ask())
        return self._known[key]

    def _aftermath(self, state: State, done: bool, *, torn: bool) -> Iterator[str]:
        town, verb = self.town, self.verb
        visible = {top for top in state.tops if top[0] != "."} - {"tmp", *PEOPLE} | {verb.reader}
        yield from self._once(("whole", state.seen_by(visible)), lambda: verb.whole(town))
        yield from self._once(("others", state.seen_by({"hub.git", "mallory"})), lambda: _others(town))
        again = town.play(verb, later=1)
        if torn and self._unlocked(again):
            again = town.play(verb, later=1)
        if again.code not in (*verb.again, *((2, 3) if done else ())):
            yield f"typed again: {again.code} {last(again)}"
            return
        if torn and self._is_locked():  # what was left to do here is the next fetch's
            self._unlocked(town(verb.who, "fetch"))
        now = town.state()
        yield from self._once(("made", now.seen_by(now.tops - {"mallory"})), self._made)

    def _is_locked(self) -> bool:
        git = re.compile(rf"{self.verb.who}/smol/\.git/(?!souq/).*\.lock")
        return any(git.fullmatch(name) for name in self.town.kept.names())

    def _unlocked(self, done: Done) -> bool:
        """Whether a lock that git left was named, with the line that removes it, and is removed."""
        if lock := re.search(r"`rm (\S+\.lock)`", done.err):
            (self.town.place(self.verb) / lock[1]).unlink()
        return lock is not None

    def _made(self) -> Iterator[str]:
        """What is wrong where the line went on to its end."""
        yield from self.verb.made(self.town)
        files = self.town.files(self.verb.who)
        if more := sorted(files - self.whole):
            yield f"left behind: {more[:4]}"
        if less := sorted(self.whole - files):
            yield f"missing: {less[:4]}"


def _ends(done: Done, stop: Stop) -> Iterator[str]:
    """What is wrong with how a stopped line ended."""
    if done.code == TRACEBACK or "Traceback" in done.err:
        yield f"a traceback: {last(done)}"
    if done.code not in ((KILLED,) if stop.how in ("killed", "torn") else (0, 1)):
        yield f"ends with {done.code}: {last(done)}"


def _others(town: Town) -> Iterator[str]:
    """What others notice of it, who have the hub and a clone of theirs."""
    if (said := town.git("hub.git", "fsck", "--no-dangling", "--connectivity-only")).startswith("git"):
        yield said
    yield from town.fails("mallory", "fetch")
    yield from town.fails("mallory", "verify --no-rebuild")


def prepare(folder: Path, place: Path) -> None:
    """The town, in a process of its own: who has trained a model has threads, and must not be forked."""
    if (child := os.fork()) == 0:
        shutil.rmtree(folder, ignore_errors=True)
        if (place / "built").exists():
            shutil.copytree(place / "built", folder)
            for config in folder.glob("*/smol/.git/config"):
                config.write_text(re.sub(r"(url = ).*(/hub\.git)", rf"\1{folder}\2", config.read_text()))
        else:
            folder.mkdir(parents=True)
            build_town(folder)
        ready(Bazaar(folder))
        folder.rename(place / "ready")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def warm(*, lab: bool) -> None:
    """Import what the verbs import, once: a fork has all of it."""
    import souq.checks
    import souq.cli.look
    import souq.cli.model
    import souq.cli.pr
    import souq.cli.queue
    import souq.cli.release
    import souq.cli.start
    import souq.cli.verify
    import souq.corpus.shingles

    if lab:
        import souq.cli.corpus
        import souq.cli.delta
        import souq.lab.generate
        import souq.lab.lm
        import souq.lab.sketching  # noqa: F401


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_points")
    parser.add_argument("verbs", nargs="*", help=f"of {', '.join(VERBS)}; all of them unless named")
    parser.add_argument("--how", action="append", choices=HOWS)
    parser.add_argument("--only", type=int, help="one point")
    parser.add_argument("--every", type=int, default=1, help="one point of so many")
    parser.add_argument("--anew", action="store_true", help="play what follows from a state each time it comes")
    parser.add_argument("--sample", action="store_true", help="one point of each verb, near its end")
    parser.add_argument("--list", action="store_true", help="say what is counted, and stop nothing")
    parser.add_argument("--town", type=Path, help="a folder to keep the built bazaar in, for the next time")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.town or Path(scratch)
        notes = Path(scratch) / "notes"
        notes.mkdir()
        town = Town(place / "town", notes)
        if not (place / "ready").exists():
            prepare(town.folder, place)
        names = sorted(asked.verbs or VERBS, key=lambda name: VERBS[name].lab)
        return max([_tried(name, town, place, asked) for name in names], default=0)


def _tried(name: str, town: Town, place: Path, asked: argparse.Namespace) -> int:
    warm(lab=VERBS[name].lab)
    trial = Trial.of(name, town, place, place / "ready")
    trial.anew = asked.anew
    if asked.list:
        for at, event in enumerate(trial.events, 1):
            click.echo(f"{at} {event.kind} {event.of[-110:]}")
        return 0
    mine = [HOWS[[*VERBS].index(name) % len(HOWS)]] if asked.sample else HOWS
    return max([_held(trial, how, asked) for how in asked.how or mine])


def _held(trial: Trial, how: How, asked: argparse.Namespace) -> int:
    """Stop a verb in one way at all its points, and print how many hold; 1 where one does not."""
    begun, trial.again, good = time.monotonic(), 0, 0
    stops = [stop for stop in trial.points(how) if asked.only in (None, stop.at)][:: asked.every]
    stops = [stops[len(stops) * 9 // 10]] if asked.sample else stops
    for count, stop in enumerate(stops, 1):
        if count % 50 == 0:
            click.echo(f"  {trial.name} {how}: {count} of {len(stops)}, {time.monotonic() - begun:.0f} s", err=True)
        wrong = trial.wrong(stop)
        good += not wrong
        event = trial.events[stop.at - 1]
        for line in wrong:
            click.echo(f"  {trial.name} {how} at {stop.at} {event.kind} {event.of[-70:]}: {line}")
    states = f"{len(stops) - trial.again} states, {time.monotonic() - begun:.0f} s"
    click.echo(f"{trial.name} {how}: {good}/{len(stops)} points hold ({states})")
    return int(good < len(stops))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
