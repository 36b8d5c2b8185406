"""What an engine costs, as it is typed: `0.25/1.25`, dollars a million tokens asked and answered."""

from __future__ import annotations

from souq.errors import UsageError


def per_million(text: str, where: str, example: str = "0.25/1.25") -> tuple[float, float]:
    """Dollars a million tokens, asked and answered.

    Raises:
        UsageError: not two prices.
    """
    asked, _, answered = text.partition("/")
    try:
        prices = float(asked), float(answered)
    except ValueError as error:
        raise UsageError(where, hint=f"write {example}: dollars a million tokens in and out") from error
    if not all(0 <= value < 1e6 for value in prices):
        raise UsageError(f"{where}: dollars a million tokens, from 0 up")
    return prices
