"""Renders a stranger's chat template: a program of its own, with little time, little memory and nothing to write to.

It is run as a file, with one JSON object on stdin, and imports nothing of souq:

    {"template": "…", "jobs": [{"messages": […], "now": 1735689600, "add_generation_prompt": true, …}]}

and answers with one JSON list: {"text", "times"} or {"error", "raised"} a job. Jinja's sandbox keeps the template from
Python's insides; the limits of the process, which no template can lift, from everything else. The environment is the
one transformers renders in (its utils/chat_template_utils.py), so what was judged here is what is rendered there.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

SECONDS, MEMORY, MOST = 1, 1 << 29, 1 << 20  # of processor time; bytes; characters of one rendering


def bound() -> None:
    """Hold this process to its limits, for good."""
    try:
        import resource
    except ImportError:  # not on Windows: there the parent's patience is the only bound
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def environment() -> Any:
    """The sandboxed jinja2 environment that transformers renders chat templates in."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant says; it renders as what is inside."""

        tags = {"generation"}  # noqa: RUF012  jinja's own way

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

        def _inside(self, caller: Any) -> Any:
            return caller()

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise
    return made


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Declined(Exception):
    """The template itself says that it does not render such a conversation."""


def _raise(message: str) -> None:
    raise Declined(str(message)[:200])


def render(template: Any, job: dict[str, Any]) -> dict[str, Any]:
    """One conversation as {"text", "times"}, `times` being every time that the template was given; or as {"error"}."""
    times: list[str] = []

    def strftime_now(form: str) -> str:
        times.append(time.strftime(form, time.gmtime(job["now"])))
        return times[-1]

    pieces, length = [], 0
    try:
        for piece in template.generate(**job, strftime_now=strftime_now):
            pieces.append(piece)
            length += len(piece)
            if length > MOST:
                return {"error": f"renders more than {MOST:,} characters", "raised": "size"}
    except Declined as error:
        return {"error": str(error), "raised": "declined"}
    except Exception as error:  # whatever a stranger's program does is an answer
        return {"error": f"{type(error).__name__}: {error}"[:300], "raised": type(error).__name__}
    return {"text": "".join(pieces), "times": times}


def main() -> None:
    """Read one JSON object of stdin, render its template over its jobs, write the answers."""
    asked = json.loads(sys.stdin.read())
    made = environment()
    bound()
    try:
        template = made.from_string(asked["template"])
        answers = [render(template, job) for job in asked["jobs"]]
    except Exception as error:
        answers = [{"error": f"{type(error).__name__}: {error}"[:300], "raised": type(error).__name__}]
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
