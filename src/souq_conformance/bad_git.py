"""Bad histories: objects and refs that lie, histories that are not whole, weights that are not what the lock says."""

from __future__ import annotations

import numpy as np

from souq.governance.policy import format_policy
from souq.weights.delta import TensorRef
from souq.weights.store import Store
from souq_conformance.cases import bad
from souq_conformance.git import PLAIN, File
from souq_conformance.good import witness
from souq_conformance.town import BASE, ROWS, Town


def two_landings(town: Town, *, fine: bool = True) -> None:
    """One landing, and another that one person approved of, where it is not fine."""
    town.land(town.data("first").agreed("amira", "bruno"))
    town.land(town.data("second", rows=ROWS * 2).agreed(*(("amira", "bruno") if fine else ("amira",))))


@bad("shallow")
def a_shallow_clone(town: Town) -> None:
    """Its beginning is not here, so nothing can be judged from the beginning."""
    two_landings(town)
    town.git.write("shallow", f"{town.main}\n".encode())
    town.git.path(town.commits[1]).unlink()


@bad("missing-object")
def a_missing_commit(town: Town) -> None:
    """One commit in the middle is not here."""
    two_landings(town)
    town.git.path(town.commits[1]).unlink()


@bad("missing-object")
def a_missing_vote(town: Town) -> None:
    """The bytes of one record are not here."""
    offer = town.land(town.data().agreed("amira", "bruno"))
    vote = next(path for path in town.files if path.startswith(f"{offer.home}records/vote"))
    town.git.path(town.files[vote].oid).unlink()


@bad("missing-object")
def main_points_nowhere(town: Town) -> None:
    """refs/heads/main names a commit that is not here."""
    town.begin()
    town.git.ref("refs/heads/main", "7" * 40)


@bad("threshold")
def a_graft_hides_a_landing(town: Town) -> None:
    """info/grafts says that the last commit follows the root: the bad one between is still there."""
    town.land(town.data("bad").agreed("amira"))
    town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"))
    town.git.write("info/grafts", f"{town.commits[2]} {town.commits[0]}\n".encode())


@bad("threshold")
def a_replace_ref_hides_a_landing(town: Town) -> None:
    """refs/replace says that the bad landing is a good one."""
    town.land(town.data().agreed("amira"))
    bad, files = town.main, dict(town.files)
    town.commits.pop()
    town.files = {path: file for path, file in files.items() if not path.startswith("contributions/")}
    town.land(town.data().agreed("amira", "bruno"))
    town.git.ref(f"refs/replace/{bad}", town.main)
    town.commits[-1] = bad
    town.git.ref("refs/heads/main", bad)


@bad("threshold", "lying-object")
def a_commit_graph_hides_a_landing(town: Town) -> None:
    """Git's own cache of parents says that the last commit follows the root; the commit itself says otherwise."""
    town.land(town.data("bad").agreed("amira"))
    town.land(town.data("second", rows=ROWS * 2).agreed("amira", "bruno"))
    root, _, tip = town.written
    town.git.graph([root, (tip[0], tip[1], (root[0],), tip[3])])


@bad("lying-object")
def a_policy_under_another_s_name(town: Town) -> None:
    """The root is the pinned one by name; the bytes kept under its policy's name are of a laxer policy."""
    lax = town.policy(scope=town.scopes(n=1))
    town.begin()
    town.git.put("blob", format_policy(lax).encode(), under=town.files["GOVERNANCE.toml"].oid)
    town.land(town.data().agreed("amira"))


@bad("lying-object")
def a_tree_under_another_s_name(town: Town) -> None:
    """The root's tree is another one."""
    town.begin()
    tree = town.written[0][1]
    lax = town.policy(scope=town.scopes(n=1))
    rows = {name: file for name, file in town.files.items() if "/" not in name}
    rows["GOVERNANCE.toml"] = town.git.file(format_policy(lax).encode())
    town.git.entries(sorted(rows.items()), under=tree)


@bad("lying-object")
def a_commit_under_another_s_name(town: Town) -> None:
    """The bytes of the pinned root are those of another root."""
    town.begin()
    root, policy = town.main, town.policy(scope=town.scopes(n=1))
    tree = town.git.tree({**town.files, "GOVERNANCE.toml": town.git.file(format_policy(policy).encode())})
    town.git.put("commit", f"tree {tree}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\nx\n".encode(), under=root)
    town.files["GOVERNANCE.toml"] = town.git.file(format_policy(policy).encode())
    town.land(town.data().agreed("amira"))


@bad("odd-tree", "not-offered")
def a_policy_that_stands_twice(town: Town) -> None:
    """Two entries of one name: who reads the first sees a policy nobody voted on, who reads the last the right one."""
    offer = town.amend(town.policy(emergency=None))
    offer.votes("amira", "bruno", "chen")
    town.wait(days=15)
    offer.checks()
    lax = town.policy(scope=town.scopes(n=1))
    evil = ("GOVERNANCE.toml", town.git.file(format_policy(lax).encode()))
    town.land(offer)
    whole = dict(town.files)
    folders = {name.partition("/")[0] for name in whole if "/" in name}
    rows = [(name, file) for name, file in whole.items() if "/" not in name]
    for name in folders:
        inside = {path.partition("/")[2]: file for path, file in whole.items() if path.startswith(f"{name}/")}
        rows.append((name, File(town.git.tree(inside), "40000")))
    order = sorted(rows, key=lambda row: row[0] + "/" * (row[1].mode != PLAIN))
    at = next(i for i, row in enumerate(order) if row[0] == "GOVERNANCE.toml")
    order.insert(at, evil)
    town.commits.pop()
    town.commit({}, "Merge", tree=town.git.entries(order))


@bad("odd-tree", "odd-offer", "not-offered", "not-landed")
def a_file_named_like_its_parent(town: Town) -> None:
    """An entry called `..`."""
    offer = town.data()
    town.land(offer.agreed("amira", "bruno"), also={f"{offer.home}data/../up": b"x"})


@bad("fork")
def somebody_saw_another_main(town: Town) -> None:
    """Bruno signed a main of two steps that this history does not hold."""
    two_landings(town)
    witness(town, "bruno", "7" * 40, 2, root=town.commits[0])


@bad("rollback")
def somebody_saw_a_longer_main(town: Town) -> None:
    """The last landing is gone; Amira signed that it was there."""
    two_landings(town)
    witness(town, "amira", town.main, 3, root=town.commits[0])
    town.git.ref("refs/heads/main", town.commits[1])


# -- weights -----------------------------------------------------------------------------------------------------------


@bad("model-lock")
def a_model_lock_nobody_can_build(town: Town) -> None:
    """A contribution of weights lands with the digest of another tensor in model.lock."""
    town.begin()
    lock = town.snapshot().text("model.lock")
    other = TensorRef.of(np.full(4, 9.0, "<f4"))
    old = TensorRef.of(BASE["model.norm.weight"])
    town.land(town.weights().agreed("amira", "bruno"), lock=lock.replace(str(old), str(other)).encode())


@bad("model-lock")
def a_model_lock_left_as_it_was(town: Town) -> None:
    """Weights land, and model.lock still names the base."""
    town.begin()
    town.land(town.weights().agreed("amira", "bruno"), lock=town.read("model.lock"))


@bad("model-lock")
def a_revert_that_kept_the_weights(town: Town) -> None:
    """The folder is gone, and model.lock still has what it moved."""
    first = town.land(town.weights().agreed("amira", "bruno"))
    town.land(town.revert(first).agreed("chen", "bruno"), lock=town.read("model.lock"))


@bad("model-lock")
def a_release_of_a_lock_mended_later(town: Town) -> None:
    """1.0 was released of a model.lock that nobody can build; the next landing set it right again."""
    town.begin()
    other, old = TensorRef.of(np.full(4, 9.0, "<f4")), TensorRef.of(BASE["model.norm.weight"])
    lock = town.snapshot().text("model.lock").replace(str(old), str(other)).encode()
    town.land(town.weights().agreed("amira", "bruno"), lock=lock)
    town.land(town.release().agreed("chen", "bruno"))
    town.land(town.weights("more", tensor="model.layers.0.mlp.up_proj.weight", value=5.0).agreed("amira", "bruno"))


@bad("tensor-missing")
def a_tensor_that_is_not_here(town: Town) -> None:
    """A contribution's tensor is not in the store."""
    offer = town.weights(value=3.0).agreed("amira", "bruno")
    town.land(offer)
    store = Store(town.folder / ".git" / "souq")
    store.path(TensorRef.of(np.full(4, 3.0, "<f4")).digest).unlink()


@bad("tensor-bytes")
def a_tensor_under_another_s_name(town: Town) -> None:
    """The base's norm in the store is another tensor."""
    town.begin()
    store = Store(town.folder / ".git" / "souq")
    other = store.put(np.full(4, 8.0, "<f4"))
    store.path(TensorRef.of(BASE["model.norm.weight"]).digest).write_bytes(store.path(other).read_bytes())


@bad("tensor-bytes")
def a_flipped_bit(town: Town) -> None:
    """One bit of one number of the base."""
    town.begin()
    path = Store(town.folder / ".git" / "souq").path(TensorRef.of(BASE["model.norm.weight"]).digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


# -- what nobody could clone or check out ------------------------------------------------------------------------------


@bad("missing-object")
def a_head_that_is_nowhere(town: Town) -> None:
    """The landing's second parent is no object here: git could not clone it."""
    base, offer = town.main, town.data().agreed("amira", "bruno")
    town.land(offer, parents=[base, "1" * 40])


@bad("unmerged", "unsigned-offer", "not-offered", "no-pull-request", "threshold", "unchecked")
def a_landing_from_the_other_side(town: Town) -> None:
    """First parent and second exchanged: main's own line goes through what was offered."""
    base, offer = town.main, town.data().agreed("amira", "bruno")
    side = town.files | {f"{offer.home}{path}": town.git.file(data) for path, data in offer.files.items()}
    head = town.git.commit(town.git.tree(side), [base], "head", 1_770_000_000)
    town.land(offer, parents=[head, base])


@bad("not-a-file", "missing-object")
def a_beginning_with_a_submodule(town: Town) -> None:
    """The root commit names a commit of another repository, and .gitmodules a command to fetch it by."""
    modules = b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch nowhere"\n'
    town.begin(files={".gitmodules": modules})
    town.files = {**town.files, "x": File("1" * 40, "160000")}
    town.commits.clear()
    town.commit({}, "begin", parents=[])


@bad("not-a-file")
def a_beginning_with_a_link(town: Town) -> None:
    """The root commit's README is a link out of the folder."""
    town.begin(files={"README.md": None})
    town.files = {**town.files, "README.md": town.git.file(b"/etc/passwd", "120000")}
    town.commits.clear()
    town.commit({}, "begin", parents=[])
