"""Likes of a hub, by Hugging Face's own client: once each, taken back, told to anybody, and gone with what was liked."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi

from souq.errors import Refused
from souq.hub import likes as store
from souq.hub.accounts.store import Accounts
from souq.hub.accounts.trail import OPERATOR
from souq.hub.database import Database
from souq.hub.discussions.store import About
from souq.hub.huggingface import likes as routes
from souq.hub.likes import Likes
from tests.test_hub_uploads import desk_in


@pytest.fixture
def desk(tmp_path):
    with desk_in(tmp_path) as desk:
        yield desk


def likes(desk, name, token="bruno", method="POST", kind="models"):
    headers = {"Authorization": f"Bearer {desk.site.token(token)}"} if token else {}
    return desk.site.ask(f"/api/{kind}/{name}/like", method, b"" if method == "POST" else None, **headers).status


def likers(desk, name):
    return [each.username for each in desk.amira.list_repo_likers(name)]


def test_somebody_likes_a_repository_and_takes_it_back(desk):
    """Liked twice is liked once; the client lists who, and what, and counts; unlike is the client's own."""
    name = desk.new()
    desk.amira.create_repo("amira/rows", repo_type="dataset")
    assert [likes(desk, name) for _ in range(2)] == [200, 200]
    assert likes(desk, name, "amira") == likes(desk, "amira/rows", kind="datasets") == 200

    assert likers(desk, name) == ["amira", "bruno"]
    assert desk.bruno.model_info(name).likes == 2
    mine = desk.bruno.list_liked_repos()
    assert (mine.user, mine.total, mine.models, mine.datasets) == ("bruno", 2, [name], ["amira/rows"])
    assert HfApi(desk.site.url, token=False).list_liked_repos("nobody").total == 0

    for _ in range(2):
        desk.bruno.unlike(name)
    assert likers(desk, name) == ["amira"]
    assert desk.bruno.list_liked_repos().models == []


def test_who_may_not_write_likes_nothing(desk):
    """Nobody, a token that reads, one for another repository; and nothing is liked that is not there."""
    name, other = desk.new(), desk.new()
    narrow = desk.site.app.state.accounts.mint("bruno", by=OPERATOR, scope="write", repository=other)[0]
    reads = desk.site.token("bruno", "read")

    def by(token):
        return desk.site.ask(f"/api/models/{name}/like", "POST", b"", Authorization=f"Bearer {token}").status

    assert likes(desk, name, token="") == 401
    assert [by(reads), by(narrow)] == [403, 403]
    for wrong in ("amira/none", "../x", "amira/a%00b", "amira/%3Cscript%3E"):
        assert likes(desk, wrong) in (400, 404), wrong
    assert likers(desk, name) == []


def test_likes_go_with_what_was_liked(desk):
    """Another name keeps them; a repository made anew under a name that was removed has none."""
    name = desk.new()
    likes(desk, name)
    desk.amira.move_repo(name, "amira/elsewhere")
    assert likers(desk, "amira/elsewhere") == ["bruno"]
    desk.amira.delete_repo("amira/elsewhere")
    desk.amira.create_repo("amira/elsewhere")

    assert likers(desk, "amira/elsewhere") == []
    assert desk.bruno.list_liked_repos().total == 0


def test_a_list_longer_than_a_page_is_read_whole(desk, monkeypatch):
    monkeypatch.setattr(routes, "PAGE", 2)
    names = [desk.new() for _ in range(5)]
    for name in names:
        likes(desk, name)

    assert sorted(desk.bruno.list_liked_repos().models) == names


def test_nobody_likes_without_end(database_url, monkeypatch):
    """On either database; what it likes already costs no place."""
    monkeypatch.setattr(store, "MOST", 2)
    accounts = Accounts(database := Database(database_url))
    accounts.add("ada", by=OPERATOR)
    kept = Likes(database)
    for name in ("x/a", "x/b", "x/a"):
        kept.add(About("models", name), "ada")
    with pytest.raises(Refused, match="likes 2 repositories already"):
        kept.add(About("models", "x/c"), "ada")

    assert kept.count(About("models", "x/a")) == 1
    assert kept.count(About("datasets", "x/a")) == 0
    database.close()
