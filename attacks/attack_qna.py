"""A qna.yaml that is meant for the reader: bombs of aliases, depth, tags that run code, links out of the tree, sizes."""

import pytest

from souq.corpus.qna import MAX_BYTES, read
from souq.errors import Hostile

BOMBS = {
    "a billion laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    "itself inside itself": "a: &a [*a]\n",
    "a merge of itself": "a: &a\n  <<: *a\n",
    "brackets": "a: " + "[" * 100_000,
    "braces": "a: " + "{a: " * 50_000,
    "python": "a: !!python/object/apply:os.system ['touch /tmp/pwned']\n",
    "a tag of nobody": "a: !mallory x\n",
    "a million names": "".join(f"a{i}: b\n" for i in range(300_000)),
}


@pytest.mark.parametrize("what", BOMBS)
def test_it_is_refused_before_anything_is_built(what):
    with pytest.raises(Hostile, match=r"qna.yaml, line \d+"):
        read(BOMBS[what].encode(), "qna.yaml")


def test_more_than_people_write():
    with pytest.raises(Hostile, match="is the most"):
        read(b"a" * (MAX_BYTES + 1), "qna.yaml")


def test_a_link_out_of_the_tree_is_not_followed(bazaar, tmp_path):
    """Neither to a file nor to a folder: what is not in the tree is not read."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "qna.yaml").write_text("created_by: key\n")
    tree = tmp_path / "tree"
    (tree / "one").mkdir(parents=True)
    (tree / "one" / "qna.yaml").symlink_to(tmp_path / "secret" / "qna.yaml")
    (tree / "two").symlink_to(tmp_path / "secret")

    code, _, told = bazaar.says("mallory", ["corpus", "import-qna", str(tree), "--out", str(tmp_path / "out.jsonl")])

    assert (code, "no qna.yaml below" in told, (tmp_path / "out.jsonl").exists()) == (1, True, False)
