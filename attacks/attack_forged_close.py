"""Somebody else's pull request, closed by a stranger: by a ref alone, or by a record under the stranger's own key."""

import pytest

from souq import signing
from souq.pulls import pull
from souq.records import canonical


@pytest.mark.lands
@pytest.mark.parametrize("by", ["nobody", "mallory", "another's record"])
def test_a_stranger_closes_nothing(bazaar, by):
    number = bazaar.offer("chen", bazaar.delta("greet"))
    repo, subject = bazaar.repo("mallory"), pull.get(bazaar.repo("mallory"), number).subject
    signer = "amira" if by == "another's record" else "mallory"
    about = "b3:" + "0" * 64 if by == "another's record" else subject
    said = signing.statement("urn:souq:closed:1", f"contributions/pr-{number}", about, {"reason": "no", "by": signer})
    sealed = canonical(signing.sign(said, bazaar.actors[signer].key, namespace="souq.closed.v1"))
    oid = repo.write_blob(b"closed" if by == "nobody" else sealed)
    repo.publish({f"refs/souq/pr/{number}/closed/0123456789abcdef": (None, oid)}, [])

    assert pull.get(bazaar.repo("amira"), number).state(bazaar.main()) == "open"
    bazaar.land(number)
