"""TOML that is small to send and long to read, in every file of it that a stranger writes."""

import pytest

from souq.build.delta_file import _recipe
from souq.errors import Hostile, UsageError
from souq.governance import read_policy
from souq.records import Contribution, parse_toml
from souq.repo.config import read_config
from souq.repo.contribution import Offer

BOMBS = {
    "a key of thirty thousand parts": "a." * 30_000 + "a = 1",
    "a table of thirty thousand parts": "[" + "a." * 30_000 + "a]",
    "a quoted key of thirty thousand parts": '"a" . ' * 30_000 + "a = 1",
    "an inline table of such keys": "x = {" + "a." * 30_000 + "a = 1}",
    "two hundred brackets": "a = " + "[" * 200 + "]" * 200,
    "ten thousand brackets": "a = " + "[" * 10_000 + "]" * 10_000,
    "three hundred tables in tables": "a = " + "{b = " * 300 + "1" + "}" * 300,
    "a number of five thousand digits": "a = " + "9" * 5_000,
    "a number of more than 64 bits": "a = 9223372036854775808",
    "a hexadecimal number of a megabyte": "a = 0x" + "f" * 60_000,
    "a million keys": "".join(f"k{i} = 1\n" for i in range(1_000_000)),
    "half a character": 'a = "\\ud800"',
    "an escape sequence": 'a = "\\u001b[2J"',
    "reversed writing in a key": '"\\u202ea" = 1',
    "a zero byte": 'a = "\\u0000"',
}
READERS = {
    "contribution.toml": lambda text: Offer("0001-x", {"contribution.toml": text.encode()}).contribution,
    "souq.toml": read_config,
    "GOVERNANCE.toml": read_policy,
    "merge.toml": lambda text: Offer("0001-x", {"merge.toml": text.encode()}).merge,
    "a recipe": lambda text: _recipe(text[: 1 << 16], "x.delta"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BOMBS)
def test_it_is_refused(name, reader):
    """64 kB of `a.a.a` took tomllib seven seconds and 3.9 GB."""
    with pytest.raises((Hostile, UsageError)):
        READERS[reader](BOMBS[name])


def test_a_key_of_two_parts_is_fine():
    with pytest.raises(UsageError, match="missing required field"):
        parse_toml('title = "x"\nrecipe.lr.a = 1', Contribution, where="x")
