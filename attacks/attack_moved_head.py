"""Approved first, changed afterwards: the head of a pull request is moved under the votes it has."""

import subprocess

from souq.pulls import pull


def test_votes_do_not_follow(bazaar, tmp_path):
    """Votes are for a digest; other bytes have another."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar("amira", f"pr checks {number}")
    for who in ("amira", "bruno"):
        bazaar(who, f"pr review {number} --approve --reason fine")
    repo, clone = bazaar.repo("mallory"), bazaar.actors["mallory"].clone
    offer = pull.get(repo, number).offer
    files = {f"contributions/{offer.slug}/{p}": d for p, d in offer.files.items()}
    files[f"contributions/{offer.slug}/delta.lock"] += b"\n"
    files[f"contributions/{offer.slug}/contribution.toml"] = files[
        f"contributions/{offer.slug}/contribution.toml"
    ].replace(b"Greetings", b"Grudges")
    with bazaar.stage.as_actor(bazaar.actors["mallory"], clone):
        head = repo.write_commit([repo.tip()], files, "x\n", tree_of=repo.tip())
        words = ["git", "push", "-q", "--force", "origin", f"{head}:refs/souq/pr/{number}/head"]
        subprocess.run(words, cwd=clone, check=True)

    assert bazaar("bruno", f"pr merge {number}") in (1, 3)
    assert pull.get(bazaar.repo("chen"), number).landed(bazaar.main()) is False
