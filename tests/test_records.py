"""What records promise: one value, one spelling, one digest; and a wrong key is answered with the nearest right one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import UsageError
from souq.records import Contribution, canonical, digest_files, digest_of, format_toml, is_digest, parse_toml
from souq.repo.config import read_config

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), plain, max_size=5))
def test_order_of_keys_is_not_meaning(value):
    """The same value built in another order has the same bytes."""
    turned = dict(reversed(value.items()))

    assert canonical(turned) == canonical(value)
    assert digest_of(turned) == digest_of(value)


@given(st.dictionaries(st.text(min_size=1), st.binary(max_size=30), min_size=1, max_size=5), st.data())
def test_a_folder_s_digest_is_of_every_byte_and_name(files, data):
    """Another name, another byte or another cut between files is another digest."""
    before = digest_files(files)
    name = data.draw(st.sampled_from(sorted(files)))

    assert is_digest(before)
    assert digest_files(dict(reversed(files.items()))) == before
    assert digest_files(files | {name: files[name] + b"x"}) != before
    assert digest_files({n: d for n, d in files.items() if n != name}) != before
    assert digest_files({n if n != name else n + "x": d for n, d in files.items()} | {}) != before


TOML = 'name = "smol"\nlicence = "Apache-2.0"\nbase = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOML + 'licens = "MIT"\n', "did you mean 'licence'?"),
        (TOML + "[checks]\nmax_nrom = 1.0\n", "did you mean 'max_norm'?"),
        (TOML + "[merge]\nmetod = 'mean'\n", "did you mean 'method'?"),
        ("name = 3\nlicence = 'x'\n", "name"),
        ("name = ", "souq.toml"),
    ],
)
def test_a_wrong_key_is_answered_with_the_nearest_right_one(text, said):
    with pytest.raises(UsageError) as caught:
        read_config(text)

    assert said in f"{caught.value} {caught.value.hint}"


def test_what_is_written_is_read_back():
    text = (
        'title = "x"\nkind = "weights"\nlicence = "MIT"\nsignoff = "a <a@b>"\nfixes = ["iso-dates"]\n'
        '[author]\nname = "a"\nemail = "a@b"\nkey = "k"\n'
    )
    made = parse_toml(text, Contribution, where="contribution.toml")

    assert parse_toml(format_toml(made), Contribution, where="contribution.toml") == made
