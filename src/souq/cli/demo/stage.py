"""The people of the demo, each with a clone, a key and a prompt; what they type is typed for real.

Every line a person types is a souq verb run in this process, in that person's clone, signed with that person's key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from souq.errors import SouqError
from souq.governance import Who
from souq.signing import make_key, public_key

Say = Callable[[str], None]
Verb = Callable[[list[str]], int]


@dataclass
class Actor:
    """Somebody with a name, an organisation, an ssh key and a clone."""

    name: str
    org: str
    home: Path

    @property
    def key(self) -> Path:
        return self.home / "id_ed25519"

    @property
    def clone(self) -> Path:
        return self.home / "smol"

    @property
    def email(self) -> str:
        return f"{self.name}@{self.org.lower().replace(' ', '-')}.example"

    def who(self) -> Who:
        """As GOVERNANCE.toml enrols them."""
        return Who(name=self.name, org=self.org, keys=(public_key(self.key),), email=self.email)

    def make_key(self) -> None:
        """A real ssh key."""
        self.home.mkdir(parents=True)
        make_key(self.key, self.email)


@dataclass
class Stage:
    """Where it is played: the folder, who narrates, and how long each part took."""

    folder: Path
    say: Say
    verb: Verb
    seconds: dict[str, float] = field(default_factory=dict)

    def actor(self, name: str, org: str) -> Actor:
        made = Actor(name, org, self.folder / name)
        made.make_key()
        return made

    def types(self, actor: Actor, *words: str | Path, at: Path | None = None, expect: int = 0) -> None:
        """What an actor types, shown and run; paths of the stage are typed as seen from where the actor stands.

        Raises:
            SouqError: the verb answered with another exit code than the story says.
        """
        at = at or actor.clone
        typed = [word if isinstance(word, str) else self._seen(word, at) for word in words]
        self.say(f"{actor.name}@{actor.org.lower()}$ souq {' '.join(map(_quoted, typed))}")
        with self.as_actor(actor, at):
            code = self.verb(typed)
        if code:
            self.say(f"  (exit {code})")
        if code != expect:
            raise SouqError(f"the story expected exit {expect} from `souq {' '.join(typed)}`, and it was {code}")

    def _seen(self, path: Path, at: Path) -> str:
        return os.path.relpath(path, at) if path.is_relative_to(self.folder) else str(path)

    @contextmanager
    def as_actor(self, actor: Actor, at: Path) -> Iterator[None]:
        """In the actor's clone, under the actor's name and key."""
        mine = {
            "SOUQ_KEY": str(actor.key),
            **{
                f"GIT_{role}_{part}": value
                for role in ("AUTHOR", "COMMITTER")
                for part, value in (("NAME", actor.name), ("EMAIL", actor.email))
            },
        }
        before, where = {key: os.environ.get(key) for key in mine}, Path.cwd()
        os.environ.update(mine)
        os.chdir(at)
        try:
            yield
        finally:
            os.chdir(where)
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A part of the story, timed."""
        self.say(f"\n## {title}")
        begun = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - begun


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
