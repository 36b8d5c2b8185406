"""Pull requests made with git's plumbing, past every client: trees of any names, modes and sizes.

offer(bazaar, [folder("data", bomb)])     # mallory pushes it as refs/souq/pr/7/head
"""

from __future__ import annotations

import subprocess

NUMBER = 7
LINES = ("pr list", "status", f"pr view {NUMBER}", f"pr checks {NUMBER}", f"pr diff {NUMBER}", f"pr merge {NUMBER}")


def git(bazaar, *words, data=b"", who="mallory"):
    done = subprocess.run(["git", *words], cwd=bazaar.actors[who].clone, input=data, capture_output=True, check=True)
    return done.stdout.strip()


def blob(bazaar, data):
    return git(bazaar, "hash-object", "-w", "--stdin", data=data)


def tree(bazaar, rows):
    """rows: `mode type oid\\tname`, as bytes."""
    return git(bazaar, "mktree", "-z", "--missing", data=b"".join(row + b"\0" for row in rows))


def file(name, oid, mode=b"100644"):
    kind = b"commit" if mode == b"160000" else b"blob"
    return mode + b" " + kind + b" " + oid + b"\t" + name


def folder(name, oid):
    return b"040000 tree " + oid + b"\t" + name


def told(bazaar, kind="weights"):
    who = bazaar.actors["mallory"]
    text = f'title="x"\nkind="{kind}"\nlicence="MIT"\nsignoff="m <{who.email}>"\nfixes=["greet"]\n'
    return (text + f'[author]\nname="m"\nemail="{who.email}"\nkey="{who.who().keys[0]}"\n').encode()


def bomb(bazaar, leaf, depth=9, width=10):
    """A folder of `width` folders of `width` folders …: one kilobyte, `width ** depth` times the leaf."""
    for _ in range(depth):
        leaf = tree(bazaar, [folder(b"d%d" % i, leaf) for i in range(width)])
    return leaf


def offer(
    bazaar,
    rows=(),
    *,
    slug=b"0007-x",
    beside=(),
    kind="weights",
    base="refs/remotes/origin/main",
    text=None,
    says=b"x\n",
):
    """A head whose one new folder holds contribution.toml and `rows`; `beside` stands in the root of its tree."""
    git(bazaar, "fetch", "-q", "origin", "+refs/heads/main:refs/remotes/origin/main")
    main = git(bazaar, "rev-parse", base).decode()
    own = tree(bazaar, [file(b"contribution.toml", blob(bazaar, text or told(bazaar, kind))), *rows])
    top = {row.split(b"\t")[1]: row for row in _rows(bazaar, main)}
    landed = _rows(bazaar, f"{main}:contributions") if b"contributions" in top else []
    top[b"contributions"] = folder(b"contributions", tree(bazaar, [*landed, folder(slug, own)]))
    top |= {row.split(b"\t")[1]: row for row in beside}
    push(bazaar, git(bazaar, "commit-tree", tree(bazaar, top.values()), "-p", main, data=says))
    return NUMBER


def _rows(bazaar, what):
    return [row for row in git(bazaar, "ls-tree", "-z", what).split(b"\0") if row]


def push(bazaar, oid, ref=f"refs/souq/pr/{NUMBER}/head"):
    git(bazaar, "push", "-q", "--force", "origin", f"{oid.decode()}:{ref}")


def turned_away(bazaar, lines=LINES):
    """Every verb of a maintainer's goes on in plain words, and the hostile one is never merged; all that was said."""
    said = ""
    for line in lines:
        code, out, err = bazaar.says("amira", line)
        assert "Traceback" not in err, err
        assert not set(out + err) & set("\x1b\u202e\x07\x9b"), (line, out, err)
        assert code == 0 if line in ("pr list", "status") else code in (0, 1, 3), (line, err)
        assert not (line.startswith("pr merge") and code == 0), line
        said += out + err
    return said
