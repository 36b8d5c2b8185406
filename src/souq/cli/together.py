"""Cheap checks of what was typed, all of them before the first dear step: whoever errs twice is answered once.

rows, policy = together(partial(read_rows, data), partial(read_policy, text))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from souq.errors import SouqError


def together(*steps: Callable[[], Any]) -> list[Any]:
    """Every step's answer, or one error with all that is wrong and all that can be done.

    Raises:
        SouqError: of the first step that fails, with what the others say too.
    """
    answers, errors = list[Any](), list[SouqError]()
    for step in steps:
        try:
            answers.append(step())
        except SouqError as error:
            errors.append(error)
    if errors:
        hints = [error.hint for error in errors if error.hint]
        raise type(errors[0])("; ".join(map(str, errors)), hint="; ".join(hints) or None)
    return answers
