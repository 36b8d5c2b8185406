"""Names that are no names: not UTF-8, steering a terminal, devices, links, submodules, one file in two capitals."""

import pytest

from attacks.by_hand import NUMBER, blob, file, folder, offer, tree, turned_away

ROW = b'{"text":"x"}\n'
SLUGS = {
    "a folder that is no UTF-8": b"\xff\xfe",
    "a folder that clears the screen": b"0007-\x1b[2J",
    "a folder of two lines": b"0007-x\nall checks passed",
    "a folder in reversed writing": "0007-\u202exy".encode(),
    "a folder with a Cyrillic letter": "0007-d\u0430tes".encode(),
    "a folder with a combining mark": "0007-e\u0301".encode(),
    "a folder with an over-long letter": b"0007-\xc1\xa1",
    "a folder with a space at its end": b"0007-x ",
    "a folder with a point at its end": b"0007-x.",
    "a folder in capitals": b"0007-X",
    "a folder like an option": b"--upload-pack=x",
    "a folder of two hundred letters": b"0007-" + b"x" * 200,
    "a folder like a stream of Windows": b"0007-x:evil",
}


@pytest.mark.parametrize("name", SLUGS)
def test_a_folder_is_a_number_and_plain_letters(bazaar, name):
    """It is shown spelled out, and can be turned down."""
    offer(bazaar, slug=SLUGS[name])

    turned_away(bazaar)
    assert bazaar("amira", f"pr close {NUMBER} --reason no") == 0


LINK, SUBMODULE, PROGRAM = b"120000", b"160000", b"100755"
FILES = {
    "a link to a password file": lambda b: [file(b"delta.lock", blob(b, b"/etc/passwd"), LINK)],
    "a link in its data": lambda b: [folder(b"data", tree(b, [file(b"x.jsonl", blob(b, b"../../../souq.toml"), LINK)]))],
    "a submodule": lambda b: [file(b"data", b"5" * 40, SUBMODULE)],
    "a list of submodules": lambda b: [file(b".gitmodules", blob(b, b'[submodule "x"]\nurl=ext::sh -c id\n'))],
    "attributes with a filter": lambda b: [file(b".gitattributes", blob(b, b"* filter=evil\n"))],
    "a program": lambda b: [file(b"delta.lock", blob(b, b"souq delta 1\n"), PROGRAM)],
    "a file that is no UTF-8": lambda b: [file(b"\xff\x1b[2J.py", blob(b, b"x"))],
    "a file that clears the screen": lambda b: [file(b"\x1b[2J.jsonl", blob(b, ROW))],
    "code": lambda b: [file(b"modeling_evil.py", blob(b, b"import os"))],
    "a zip": lambda b: [file(b"delta.zip", blob(b, b"PK\x03\x04" + bytes(30)))],
    "a pickle called delta.lock": lambda b: [file(b"delta.lock", blob(b, b"\x80\x04N."))],
    "a console": lambda b: [folder(b"data", tree(b, [file(b"con.jsonl", blob(b, ROW))]))],
    "a printer port": lambda b: [folder(b"data", tree(b, [file(b"LPT1.jsonl", blob(b, ROW))]))],
    "one file in two capitals": lambda b: [folder(b"data", tree(b, [file(n, blob(b, ROW)) for n in (b"X.jsonl", b"x.jsonl")]))],
    "a template": lambda b: [file(b"chat_template.jinja", blob(b, b"{{ cycler.__init__.__globals__ }}"))],
    "a configuration": lambda b: [file(b"config.json", blob(b, b'{"auto_map":{}}'))],
    "records of its own": lambda b: [folder(b"records", tree(b, [file(b"vote-x.json", blob(b, b"{}"))]))],
    "a folder in a folder": lambda b: [folder(b"data", tree(b, [folder(b"x.jsonl", tree(b, [file(b"y", blob(b, ROW))]))]))],
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_one_of_ours(bazaar, name):
    """Refused by `files`, or not to be read at all; nothing of it is ever checked out."""
    offer(bazaar, FILES[name](bazaar))

    said = turned_away(bazaar)
    assert "files" in said or "is not a plain file" in said or "not UTF-8" in said
