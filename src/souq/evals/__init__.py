"""Evals: cases with a right answer, who judges an answer, and how sure a difference is."""

from typing import TYPE_CHECKING

from souq.lazy import lazily

if TYPE_CHECKING:
    from souq.evals import checkers

__all__ = ["checkers"]

# Nothing of a history depends on an answer: a doubter's process need not read who judges them.
__getattr__ = lazily(__name__, {"": ("checkers",)})
