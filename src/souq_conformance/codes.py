"""Why a history is rejected: codes that every verifier may name, and souq's own lines read as codes.

A code says what is wrong; where a vote, a verdict or a signature counts for nothing, `CONSEQUENCE` is what then lacks,
and a verifier that only says that is right too, if less plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CODES = {
    # who agreed
    "threshold": "too few approvals of a role that is asked",
    "org-cap": "approvals that do not count, since their organisation has all it may have",
    "min-orgs": "approvals of too few organisations",
    "self-approval": "an author's yes to their own work",
    "rejected": "the no of somebody whose no stands, or no more yes than no",
    "veto": "a veto that has not lapsed",
    "early": "not open for as long as it must be",
    "cooling-off": "an approval that has not stood for as long as it must",
    "unchecked": "a check that nobody who may has run",
    "refused-check": "a check that refuses",
    "no-scope": "a path that no scope covers: by default nobody may change it",
    # records
    "unknown-signer": "signed by a key that is not enrolled",
    "forged-signature": "a signature that does not hold",
    "wrong-namespace": "a signature made for another kind of record",
    "wrong-type": "a statement of another predicate type",
    "other-version": "a signature of a version of SSHSIG that is not 1",
    "malformed-record": "signed, and not a record of the one spelling",
    "expired-key": "a key that does not hold, when it signed or when it landed",
    "future-record": "a record dated more than ten minutes after the landing",
    "replayed-vote": "a record about another contribution, other bytes or another number",
    "stale-check": "verdicts on another main than the one it landed on",
    "withheld-record": "a record that others name is not there",
    "odd-record-name": "a file among the records whose name not every system holds",
    # landings
    "no-pull-request": "a commit that is not the landing of one new contribution",
    "unmerged": "no merge record by an enrolled person",
    "unsigned-offer": "not signed off by its author",
    "stale-merge": "a merge record made for another main",
    "backwards": "dated more than ten minutes before what landed before it",
    "from-the-future": "dated more than ten minutes after its reader's clock",
    "not-offered": "a path changed that the contribution did not offer",
    "altered-landing": "a file that landed with other bytes than were offered",
    "not-landed": "a file that was offered and did not land",
    "not-taken": "a file left behind that a revert takes",
    "nothing-to-undo": "what it is about is not there",
    "altered-settings": "souq.toml is not what was asked for",
    "odd-offer": "files that do not belong to its kind, or cannot be read",
    "not-a-file": "a link, a submodule or an executable",
    # policy
    "bad-policy": "a policy that cannot be read",
    "impossible-policy": "a threshold that nobody could ever meet",
    "unamendable": "a policy that nobody could ever amend again",
    "no-policy": "a beginning without a policy",
    "emergency-lapsed": "something landed after an emergency lapsed that nobody ratified",
    "election-open": "an election that had not closed",
    "too-few-ballots": "ballots of too few electors or organisations",
    "not-as-elected": "a policy that is not what the ballots make it",
    "no-such-office": "an election to a role that is not elected",
    # beginnings, releases, objects
    "unvoted-root": "a beginning with contributions or releases in it",
    "other-root": "another beginning than the one that was pinned",
    "fork": "somebody enrolled saw another main",
    "rollback": "somebody enrolled saw a longer main",
    "release-version": "a release that calls itself otherwise",
    "release-commit": "a release of a commit that is not in this history",
    "release-recipe": "a release that does not name the recipe it stands on",
    "release-model": "a release of another model than model.lock names",
    "released-twice": "a version that is there already",
    "shallow": "a history whose beginning is not here",
    "missing-object": "a commit, tree or file that is not here",
    "lying-object": "bytes kept under another object's name",
    "too-large": "more files, folders or bytes than a landing or a beginning may have",
    "odd-tree": "a tree with a name twice or a name that is none",
    "model-lock": "a model.lock that is not what base and contributions build to",
    "tensor-missing": "a tensor that is not in the store",
    "tensor-bytes": "a tensor whose bytes have another digest",
}

CONSEQUENCE = {
    **dict.fromkeys(("org-cap", "self-approval", "cooling-off", "withheld-record"), ("threshold",)),
    **dict.fromkeys(
        ("unknown-signer", "forged-signature", "wrong-namespace", "wrong-type", "other-version", "malformed-record",
         "expired-key", "future-record", "replayed-vote"),
        ("threshold", "unchecked", "unmerged", "unsigned-offer", "too-few-ballots"),
    ),
    "stale-check": ("unchecked",),
    "impossible-policy": ("bad-policy",),
}  # fmt: skip
"""What follows where records count for nothing: said beside the reason, or instead of it."""

_SAYS = [
    (code, re.compile(pattern))
    for code, pattern in [
        ("org-cap", r"does not count: .* has \d+ of at most"),
        ("self-approval", r" is its author"),
        ("cooling-off", r"'s counts in \d+ h"),
        ("threshold", r"\d+ more approvals? from `"),
        ("min-orgs", r"approvals from \d+ organisations"),
        ("rejected", r" rejects it: |more approvals than the \d+ against"),
        ("veto", r" vetoes it: "),
        ("early", r"more for everybody to see it|h for everybody to see it"),
        ("unchecked", r"has not been run by an enrolled person"),
        ("refused-check", r"check `[^`]+` refuses"),
        ("no-scope", r"by default nobody may change it"),
        ("unknown-signer", r"not signed by anybody who is known here"),
        ("forged-signature", r"its signature does not hold"),
        ("wrong-namespace", r"signed as another kind of record"),
        ("wrong-type", r"counts for nothing: signed as urn:"),
        ("other-version", r"signed by a tool of another version"),
        ("malformed-record", r"signed, but n|counts for nothing: not an envelope|spelling souq writes"),
        ("odd-record-name", r"is no name of a record$"),
        ("malformed-record", r"the key does not hold, on (?!\d{4}-)"),
        ("expired-key", r"the key does not hold, on \d{4}-|with a key that did not hold on"),
        ("future-record", r", after the landing$"),
        ("replayed-vote", r"about another contribution"),
        ("stale-check", r"it is of another main"),
        ("withheld-record", r"may be withheld"),
        ("no-pull-request", r"without a pull request"),
        ("unmerged", r"has no signed merge record"),
        ("unsigned-offer", r"is not signed off by its author"),
        ("stale-merge", r"merge record was made for another main"),
        ("backwards", r", before what landed before it"),
        ("from-the-future", r"which clock is wrong"),
        ("not-offered", r"did not offer$"),
        ("altered-landing", r"is not what \S+ offered$"),
        ("not-landed", r"did not land$"),
        ("not-taken", r"takes back$"),
        ("nothing-to-undo", r"cannot be taken back|could be yanked|took nothing back here|took back is there again"),
        ("nothing-to-undo", r"is not as \S+ left it"),
        ("altered-settings", r"souq\.toml is not what"),
        ("odd-offer", r"election\.toml: who may be chosen"),
        ("odd-offer", r"a contribution of \w+ |/contribution\.toml: |there is no contribution\.toml"),
        ("not-a-file", r"is not a plain file"),
        ("impossible-policy", r"can ever vote|organisations; those it asks"),
        ("unamendable", r"nobody could ever amend it again"),
        ("no-policy", r"begins without a GOVERNANCE\.toml|^no GOVERNANCE\.toml in"),
        ("bad-policy", r"GOVERNANCE\.toml: (?!scope '\w+' asks for \d)|not an? (plain )?ssh public key"),
        ("emergency-lapsed", r"has lapsed and nobody ratified"),
        ("election-open", r"the end of the election"),
        ("too-few-ballots", r"more ballots of|ballots of two organisations"),
        ("not-as-elected", r"as the ballots make it|does not say who was elected"),
        ("no-such-office", r"a role that is elected"),
        ("unvoted-root", r"history begins with "),
        ("other-root", r"not at the pinned root"),
        ("fork", r"was rewritten, or forked"),
        ("rollback", r"missing then is withheld"),
        ("release-version", r"calls itself "),
        ("release-commit", r"of a commit that is not in this history"),
        ("release-recipe", r"does not name the recipe"),
        ("release-model", r"names another model"),
        ("released-twice", r"is released already"),
        ("shallow", r"clone is shallow"),
        ("missing-object", r"is not here: history is not whole|missing (blob|tree|commit)|bad object"),
        ("missing-object", r"Failed to traverse|no commit |could not get|unable to read"),
        ("lying-object", r" lies: its bytes"),
        ("odd-tree", r"stands twice in its tree|a tree with an entry"),
        ("too-large", r"changes more than [\d,]+ files|a path of more than|brings( records)?: more than [\d,]+ bytes"),
        ("too-large", r"files of [\d,]+ bytes; the most|brings( records)?: [\d,]+ files; the most"),
        ("model-lock", r"is not what model\.lock says"),
        ("tensor-missing", r"no tensor b3:"),
        ("tensor-bytes", r"is damaged: "),
    ]
]  # fmt: skip


def read(lines: Iterable[str]) -> set[str]:
    """The codes of souq's findings; a line nobody knows is `?` and itself, so that it is seen."""
    codes: set[str] = set()
    for line in lines:
        codes |= {code for code, pattern in _SAYS if pattern.search(line)} or {f"? {line}"}
    return codes
