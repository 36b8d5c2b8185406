"""YAML as people write it: bounded before anything is built of it, and every value with its place.

A file is read as PyYAML's nodes and never as objects of its writer's choosing, so a refusal names its line.

    >>> place = compose("models:\\n- a\\n- b\\n", "m.yaml", depth=3, nodes=20)
    >>> place.value, [(name.node.value, value.line) for name, value in place.pairs()]
    ({'models': ['a', 'b']}, [('models', 2)])
    >>> str(place.wrong("no weights"))
    'm.yaml, line 1: no weights'
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import yaml

from souq.errors import Hostile, UsageError
from souq.records import refuse_control

# Explicit tags (`!!int ""`), `\UFFFFFFFF` and long escapes make PyYAML fail in ways of its own.
_FAILURES = (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a file and where it stands, for whoever has to mend it."""

    node: yaml.Node
    file: str = ""
    path: str = ""  # `config.models[0].model`; empty where lines are enough

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    @property
    def value(self) -> Any:
        """As Python has it.

        Raises:
            UsageError: it only looks like a date, or like another of YAML's types.
        """
        try:
            return yaml.constructor.SafeConstructor().construct_document(self.node)
        except _FAILURES as error:
            raise self.wrong(_reason(error)) from error

    def wrong(self, message: str, *, hint: str | None = None) -> UsageError:
        """What to raise when something is off here."""
        where = f"{self.file}, line {self.line}" if self.file else f"line {self.line}"
        return UsageError(": ".join(filter(None, (where, self.path, message))), hint=hint)

    def at(self, node: yaml.Node, step: str = "") -> Self:
        """The place of a node inside this one, `step` further along the path."""
        return replace(self, node=node, path=self.path and self.path + step)

    def pairs(self) -> list[tuple[Self, Self]]:
        """The names of a mapping and their values.

        Raises:
            UsageError: something else stands here.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong("here must be names and values")
        return [(self.at(name, ", a key"), self.at(value, f".{name.value}")) for name, value in self.node.value]


def compose(text: str, file: str, *, depth: int, nodes: int) -> Place:
    """A stranger's one document: no aliases, no tags, and neither deeper nor longer than the bounds.

    Raises:
        Hostile: an alias, a tag, or out of bounds.
        UsageError: not one YAML document, or nothing.
    """
    try:
        _refuse_bombs(text, file, depth, nodes)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except _FAILURES as error:
        raise UsageError(f"{file}, {_problem(error)}") from error
    if node is None:
        raise UsageError(f"{file}, line 1: the file is empty")
    return Place(node, file)


def _refuse_bombs(text: str, file: str, depth: int, nodes: int) -> None:
    """Before anything is built: composing recurses, and an alias can stand for any number of others."""
    deep = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        where = f"{file}, line {event.start_mark.line + 1}"
        deep += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise Hostile(f"{where}: anchors and aliases are not taken")
        if getattr(event, "tag", None):
            raise Hostile(f"{where}: tags are not taken")
        if deep > depth or count > nodes:
            raise Hostile(f"{where}: deeper or longer than any {file.rpartition('/')[2]} people write")


def compose_all(text: str, *, nodes: int) -> list[Place]:
    """Every document, with aliases, `<<` and YAML's own tags; what an alias stands for counts each time it is used.

    Raises:
        UsageError: not YAML, or out of bounds.
        Hostile: a text that would steer the terminal it is shown on.
    """
    places = []
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            _refuse_growth(node, nodes)
            # Built to see that it can be, and thrown away; `<<` is then resolved in the nodes themselves.
            refuse_control(loader.construct_document(node), where="YAML")
            places.append(Place(node))
    except RecursionError as error:
        raise UsageError("not YAML: nested too deeply") from error
    except _FAILURES as error:
        raise UsageError(f"not YAML: {_problem(error)}") from error
    return places


def _refuse_growth(document: yaml.Node, nodes: int) -> None:
    """Before anything is built: `<<` copies what an alias stands for, and a kilobyte can stand for a terabyte."""
    todo, seen = [document], 0
    while todo:
        node, seen = todo.pop(), seen + 1
        if seen > nodes:
            raise UsageError(f"more than {nodes} values once aliases are followed")
        if isinstance(node, yaml.MappingNode):
            todo.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            todo.extend(node.value)


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1 if mark else 1}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Without the snippet PyYAML adds: that is the file's own text, unread, on its way to a terminal."""
    return str(getattr(error, "problem", None) or str(error).partition("\n")[0])
