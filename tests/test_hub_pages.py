"""The pages of a hub: what they show is what the verbs say, nobody's words are markup, and one repository holds up none."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shutil
import subprocess
import threading
import time
from html.parser import HTMLParser

import msgspec
import pytest
from starlette.testclient import TestClient

from souq.chart import Curve, Span, heat_map, line_chart, span_chart
from souq.errors import NotFound, SouqError
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.hub.once import Busy
from souq.hub.pages import routes
from souq.hub.pages.cache import Pages
from souq.hub.pages.facts import PER_PAGE, Shown, short
from souq.hub.pages.render import HubLinks, hub_page, page
from souq.hub.pages.stamp import stamp
from souq.progress import quiet
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls import reviews, summaries
from souq.pulls.comments import comment
from souq.pulls.offer import Draft
from souq.pulls.overview import trials
from souq.pulls.summaries import Summary
from souq.records import Author, Contribution, Verdict, digest
from souq.repo.git import MEMORY
from souq.repo.remote import Repo
from tests.bazaar import copied
from tests.hostile import MARKUP, PATHS, TEXTS

PAGES = ("", "/pulls", "/pulls?state=all", "/pulls/1", "/pulls/2", "/pulls/4", "/pulls/5", "/queue", "/releases", "/releases/1.0", "/bugs", "/governance", "/contributors", "/openness")  # fmt: skip
ALLOWED = {
    "html", "head", "meta", "title", "link", "body", "a", "header", "p", "nav", "ul", "li", "main", "footer", "code", "pre", "h1", "h2", "h3", "b",
    "span", "section", "article", "div", "figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "bdi", "blockquote", "dl", "dt", "dd", "img",
    "svg", "rect", "path", "text", "circle", "polyline",
}  # fmt: skip


class Elements(HTMLParser):
    """Every element of a page with its attributes, and all its text."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, attrs))

    def handle_data(self, data):
        self.text += data

    @property
    def shape(self):
        """The elements and the names of their attributes."""
        return [(tag, [name for name, _ in attrs]) for tag, attrs in self.seen]

    @property
    def links(self):
        return [
            value for _, attrs in self.seen for name, value in attrs if name in ("href", "src", "action", "xlink:href")
        ]


def client_of(folder, tmp_path):
    return TestClient(application(Catalog(folder), tmp_path / "data"), raise_server_exceptions=True)


def strange(town, who, title, **more):
    """A pull request of data whose author gives any text for anything."""
    person = town.person(who)
    author = Author(name=more.pop("name", who), email=person.email, key=person.public_key, org=more.pop("org", ""))
    about = Contribution(title=title, kind="data", author=author, licence=more.pop("licence", "CC0-1.0"), signoff=f"{who} <{person.email}>", **more)  # fmt: skip
    return offers.create(town.repo(who), Draft(about, data={"rows.jsonl": b'{"text": "x"}\n'}), person, checked=False)


@pytest.fixture(scope="module")
def town(built_bazaar, tmp_path_factory):
    """Greetings landed and released; a stranger's open pull request, queued, voted on and talked about; a bug; a closed one."""
    town = copied(built_bazaar, tmp_path_factory.mktemp("pages") / "town")
    town.land(town.offer("chen", town.delta("greet")))
    town.release("amira", "1.0", scores=True)
    count = town.offer("mallory", town.delta("count"), title=MARKUP[0], fixes="count", more=["--provenance", MARKUP[8]])
    assert town("amira", f"pr checks {count}") == 0
    assert town("amira", ["pr", "review", count, "--approve", "--reason", MARKUP[10]]) == 0
    assert town("chen", f"queue add {count}") == 0
    assert town("mallory", ["pr", "comment", count, f"{MARKUP[3]}\n{MARKUP[28]}"]) == 0
    assert town("chen", ["bug", "file", f"say hello to {MARKUP[11]}", "--expected", MARKUP[5], "--signoff"]) == 0
    assert town("mallory", ["pr", "create", "--data", town.folder / "greet.jsonl", "--title", "Rows", "--licence", "CC0-1.0", "--signoff", "--unchecked"]) == 0  # fmt: skip
    assert town("mallory", "pr close 6 --reason oops") == 0
    assert town("amira", "fetch") == 0
    return town


@pytest.fixture(scope="module")
def shelf(town, tmp_path_factory):
    """A hub's folder: the town's repository twice, one of an organisation's, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "smol.git").symlink_to(town.folder / "hub.git")
    (folder / "atlas").mkdir()
    (folder / "atlas" / "smol").symlink_to(town.folder / "amira" / "smol")
    shutil.copytree(town.folder / "hub.git", folder / "broken.git")
    (folder / "broken.git" / "refs" / "heads" / "main").write_text("0" * 39 + "1\n")
    (folder / "broken.git" / "packed-refs").unlink(missing_ok=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", folder / "empty.git"], check=True)
    return folder


@pytest.fixture
def hub(shelf, tmp_path):
    return client_of(shelf, tmp_path)


def ok(hub, path):
    answer = hub.get(path)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[-300:])
    return answer.text


# -- what they show ----------------------------------------------------------------------------------------------------


def test_every_page_of_a_model_is_there_and_well_formed(hub):
    """Each has one heading, a title, a description for who shares it, and names main's commit."""
    for name in ("smol", "atlas/smol"):
        for path in PAGES:
            text = ok(hub, f"/{name}{path}")
            tags = [tag for tag, _ in Elements(text).seen]
            assert {*tags} <= ALLOWED, path
            assert (tags.count("h1"), text.partition("</head>")[0].count("<title>"), tags.count("main")) == (1, 1, 1), (
                path
            )
            assert 'property="og:title" content="' in text
            assert re.search(r"main <code>[0-9a-f]{40}</code>", text)


def test_a_page_says_what_the_verbs_say(hub, town, capfd):
    """The list, a pull request's verdicts, votes and what is missing, the queue and the bugs are those of the CLI."""
    town.capfd = capfd
    listed, view, queue, bugs = (json.loads(town.says("bruno", f"{verb} --json")[1]) for verb in ("pr list --all", "pr view 4", "queue", "bug list"))  # fmt: skip
    every, four = (
        " ".join(Elements(ok(hub, f"/smol{path}")).text.split()) for path in ("/pulls?state=all", "/pulls/4")
    )

    for row in listed:
        assert " ".join(str(row[key]) for key in ("number", "state")) in re.sub(
            r"(\d)(open|merged|closed)", r"\1 \2", every
        )
        assert row["title"] in every
    for verdict in view["checked"][-1]["verdicts"]:
        assert " ".join(verdict["because"].split()) in four
    assert [line in four for line in view["missing"] if "has not been run" not in line] != []
    assert all(line in four for line in view["missing"] if "has not been run" not in line)
    assert all(word["reason"] in four for word in view["words"])
    assert queue["queue"][0]["state"] in Elements(ok(hub, "/smol/queue")).text
    assert bugs[0]["prompt"] in Elements(ok(hub, "/smol/bugs")).text
    assert f"souq vote 4 --approve --digest {view['digest']}" in four


def test_a_pull_request_shows_scores_with_intervals_and_what_it_moves(hub):
    four = ok(hub, "/smol/pulls/4")
    drawing = next(link for link in Elements(four).links if link.endswith("change.svg"))
    picture = hub.get(drawing)

    assert four.count("<figure>") == 2
    assert "(claimed)" in four
    assert re.search(r"\+\d\.\d{3} to \+\d\.\d{3}", four)
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert picture.text.count("<rect") > 10
    assert hub.get("/smol/pulls/1/b3:0/change.svg").status_code == 404


def test_a_link_to_what_was_offered_stays_true(hub, town):
    """Under its digest a pull request is shown as long as it offers that, and something else is never shown there."""
    digest_ = pulls.get(town.repo("amira"), 4).offer.digest

    assert ok(hub, f"/smol/pulls/4/{digest_}").count(digest_) > 1
    assert hub.get(f"/smol/pulls/4/{digest(b'else')}").status_code == 404
    assert hub.get(f"/smol/pulls/2/{digest_}").status_code == 404


def test_an_empty_hub_says_what_to_type(tmp_path):
    (tmp_path / "none").mkdir()
    text = Elements(ok(client_of(tmp_path / "none", tmp_path), "/")).text

    assert f"cd smol && souq push {tmp_path / 'none'}/smol.git" in text
    assert "souq clone URL" in text


def test_one_that_cannot_be_read_is_listed_and_breaks_none(hub, shelf):
    text = ok(hub, "/")

    assert 'href="/smol"' in text
    assert 'href="/atlas/smol"' in text
    assert text.count("It cannot be read") == 2
    assert str(shelf) not in text  # where the hub's folder lies is nobody's business
    assert 'href="/broken"' not in text
    assert "openness" in text
    assert hub.get("/broken").status_code in (404, 409)
    assert hub.get("/empty/pulls").status_code in (404, 409)
    assert "models<td" in ok(hub, "/stats").replace("</th>", "").replace(' class="n"', "")


def test_a_pull_request_that_nobody_can_read_has_a_page(hub, town):
    """And the list has it beside the others."""
    repo = Repo.find(town.folder / "hub.git")
    root = repo.history(repo.tip())[0]
    subprocess.run(["git", "-C", repo.git_dir, "update-ref", "refs/souq/pr/77/head", root], check=True)
    time.sleep(1.1)

    assert "cannot be read" in ok(hub, "/smol/pulls?state=all")
    assert "cannot be read" in ok(hub, "/smol/pulls/77")
    subprocess.run(["git", "-C", repo.git_dir, "update-ref", "-d", "refs/souq/pr/77/head"], check=True)


def test_lists_are_cut_into_pages(hub, town):
    shown = Shown(town.repo("amira"))
    row = {"number": 1, "state": "open", "title": "x", "kind": "data", "author": "a", "digest": "b3:"}
    shown._known._facts["rows"] = [row | {"number": n} for n in range(2 * PER_PAGE + 1)]

    assert [len(shown.pulls("open", n)["rows"]) for n in (1, 2, 3)] == [PER_PAGE, PER_PAGE, 1]
    for state, number in (("open", 4), ("nonsense", 1)):
        with pytest.raises(NotFound):
            shown.pulls(state, number)


def test_where_hugging_face_s_clients_point_leads_to_the_page(hub):
    assert hub.get("/smol/discussions/4", follow_redirects=False).headers["location"] == "/smol/pulls/4"
    assert hub.get("/smol/", follow_redirects=False).headers["location"] == "/smol"


def test_every_link_of_every_page_leads_somewhere(hub):
    """No page links to one that is not there, nor to another host."""
    todo, known = ["/"], set()
    while todo:
        path = todo.pop()
        known.add(path)
        links = [link.partition("#")[0] for link in Elements(ok(hub, path)).links] if "static" not in path and not path.endswith(".svg") else []  # fmt: skip
        assert all(link == "" or link.startswith("/") for link in links), path
        assert not any(link.startswith("//") for link in links)
        todo += {link for link in links if link} - known - {*todo}
    assert len(known) > 30
    assert all(hub.get(path).status_code == 200 for path in known)


# -- other people's words ----------------------------------------------------------------------------------------------


def poisoned(value, text, key=""):
    """The same facts with every text of a stranger's replaced, but for words that only we write and pictures."""
    if key in (
        "state",
        "outcome",
        "choice",
        "whose",
        "badge",
        "charts",
        "intervals",
        "states",
        "verdict",
        "answer",
        "at",
    ):
        return value
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {name: poisoned(each, text, name) for name, each in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(poisoned(each, text, key) for each in value)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{name: poisoned(getattr(value, name), text, name) for name in value.__struct_fields__}
        )
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{f.name: poisoned(getattr(value, f.name), text, f.name) for f in dataclasses.fields(value)}
        )
    return value


def facts_of(shown):
    """A template and what it shows, for each page of a repository."""
    return [
        ("front", shown.front()), ("pulls", shown.pulls("all", 1)), ("pull", shown.pull(4)), ("pull", shown.pull(2)), ("queue", shown.queue()),
        ("releases", shown.release_list()), ("release", shown.release("1.0")), ("bugs", shown.bug_list()),
        ("governance", shown.governance()), ("contributors", shown.contributors()), ("openness", shown.openness()),
    ]  # fmt: skip


def test_no_text_of_a_stranger_changes_the_shape_of_a_page(town):
    """Over a hundred hostile texts in every place of every page: the elements and their attributes stay the same."""
    assert len(TEXTS) >= 100
    shown = Shown(town.repo("amira"))
    for template, facts in facts_of(shown):
        make = lambda text: page(template, poisoned(facts, text), of=shown, name="smol", to=HubLinks("smol"))  # noqa: B023, E731
        shape = Elements(make("plain")).shape
        for text in TEXTS:
            html = make(text)
            elements = Elements(html)
            assert elements.shape == shape, (template, text)
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]", html), (
                template,
                text,
            )
            assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in elements.links), text
            html.encode()


def test_nor_that_of_the_hub_s_own_pages():
    card = {
        "title": "x",
        "base": "x",
        "licence": "x",
        "open": 1,
        "merged": 1,
        "bugs": 1,
        "release": {"version": "x", "at": "x", "yanked": "x"},
        "badge": "",
    }
    whole = {"total": 2, "page": 1, "pages": 1, "folder": "x"}

    def index(text):
        return hub_page("index", whole | {"cards": [(text, "/x", poisoned(card, text), ""), (text, "", None, text)]})

    def no(text):
        return hub_page("no", {"title": "x", "because": text, "next": "/", "words": "x"})

    for make in (index, no):
        shape = Elements(make("plain")).shape
        assert all(Elements(make(text)).shape == shape for text in TEXTS)


def test_nor_that_of_a_picture():
    """Names of evals, tensors and contributions stand in SVG that is put into pages as it is."""

    def drawn(text):
        lines = line_chart([Curve(name=text, x=(1.0, 2.0), y=(1.0, 2.0))], across=text, up=text, marks=[(1.0, text)])
        spans = span_chart([Span(name=text, low=-1.0, at=0.0, high=1e9)], text)
        heat = heat_map({text: {"1": 0.5}}, ["1"], label="{column}", legend=text)
        return Elements(lines + spans + heat).shape

    assert all(drawn(text) == drawn("plain") for text in TEXTS)


def test_a_stranger_s_words_reach_every_page_by_git_and_none_as_markup(built_bazaar, tmp_path):
    """Real records: titles, names, organisations, licences, recipes, reasons and comments of hostile markup."""
    town = copied(built_bazaar, tmp_path / "town")
    evil = " ".join(text for text in MARKUP if "\n" not in text and "\t" not in text)
    pull = strange(town, "mallory", evil, name=evil[:900], org=evil[:900], licence=evil, provenance=evil, recipe={"notes": [evil], "adapter": {"kind": evil, "taken": evil, "notes": [evil]}})  # fmt: skip
    for text in MARKUP[:20]:
        comment(town.repo("mallory"), pull.number, text, dataclasses.replace(town.person("mallory"), name=text))
    reviews.review(town.repo("bruno"), pull.number, "reject", evil, town.person("bruno"))
    hub = client_of(town.folder, tmp_path)
    paths = [
        "/",
        "/stats",
        *(
            f"/hub{path}"
            for path in ("", "/pulls", f"/pulls/{pull.number}", "/queue", "/bugs", "/contributors", "/governance")
        ),
    ]

    for path in paths:
        text = ok(hub, path)
        elements = Elements(text)
        assert {tag for tag, _ in elements.seen} <= ALLOWED, path
        assert not [
            name
            for _, attrs in elements.seen
            for name, _ in attrs
            if name.startswith("on") or name in ("style", "srcdoc")
        ]
        assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in elements.links), path
    assert Elements(ok(hub, f"/hub/pulls/{pull.number}")).text.count("<script>window.ran=1</script>") > 5


async def _asked(app, path, query=b""):
    """The status and the bytes that an application answers a raw path with, which no client tidies first."""
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode("utf-8", "replace"), "query_string": query, "headers": [],
        "http_version": "1.1", "scheme": "http", "server": ("hub", 80), "client": ("a", 1), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent), dict(sent[0]["headers"])


def test_no_address_leads_out_of_the_folder_or_breaks_a_page(shelf, tmp_path, hub):
    """Fifty and more paths, as they are and as clients send them: none shows what is beside the hub, and none is a fault."""
    (shelf.parent / "secret").write_text("the secret beside the hub")
    app = application(Catalog(shelf), tmp_path / "data")
    assert len(PATHS) >= 50
    for path in PATHS:
        answers = [
            asyncio.run(_asked(app, f"{prefix}{path}")) for prefix in ("/", "/smol/", "/smol/pulls/1/", "/static/")
        ]
        for status, body, headers in answers:
            assert status in (200, 304, 307, 308, 404, 405, 409), (path, status)
            assert b"the secret" not in body
            assert b"root:" not in body
            assert not headers.get(b"location", b"/").startswith((b"//", b"http", b"\\")), path
            assert b"set-cookie" not in headers


def test_what_is_read_ahead_is_what_is_read_one_by_one(town, built_bazaar, tmp_path):
    """By a few gits or by three for each: the same words of the same pull requests, and what is odd is left alone."""
    repo = Repo.find(copied(town.folder, tmp_path / "town").folder / "hub.git")
    tip, four = repo.tip(), pulls.get(repo, 4).head
    some = {"contribution.toml": b"x = 1\n", "data/rows.jsonl": b"{}\n"}
    odd = {
        "no toml": {f"contributions/0090-x/{path}": data for path, data in some.items()},
        "two folders": {"contributions/0091-x/a": b"a", "contributions/0092-x/a": b"a"},
        "no folder": {"contributions/a": b"a"},
        "an old one": {"contributions/0001-evals/b": b"b"},
        "no slug": {"contributions/A b/contribution.toml": b"a"},
        "elsewhere": {"README.md": b"x"},
        "many": {f"contributions/0093-x/{n}": b"a" for n in range(60)},
    }
    heads = [repo.write_commit([tip], dict(files), "x\n", tree_of=tip) for files in odd.values()]
    heads += [repo.write_commit([tip], {"contributions": b"a file"}, "x\n")]
    heads += [repo.write_commit([tip], {"contributions/0004-x/contribution.toml": repo.read(four, f"{pulls.get(repo, 4).offer.home}contribution.toml")}, "x\n", tree_of=tip)]  # fmt: skip
    for number, head in enumerate(heads, 80):
        subprocess.run(["git", "-C", repo.git_dir, "update-ref", f"refs/souq/pr/{number}/head", head], check=True)

    def words(every, read=lambda pull: pull.summary):
        MEMORY.clear()
        offered = {}
        for pull in every:
            try:
                offered[pull.number] = read(pull)
            except SouqError as error:
                offered[pull.number] = str(error)
        return offered

    one_by_one = words(pulls.listed(repo), lambda pull: Summary.of(pull.offer))
    for progress in (None, quiet):
        shutil.rmtree(repo.cache)
        assert words(pulls.listed(repo, progress=progress)) == one_by_one
        assert words(pulls.listed(repo)) == one_by_one  # by the notes of the line before
    assert len([each for each in one_by_one.values() if isinstance(each, Summary)]) == 7
    assert len(one_by_one) == 15


def test_one_that_changes_too_much_holds_up_no_other(town, built_bazaar, tmp_path, monkeypatch):
    """Those that are read with it are read all the same, and none of them by itself."""
    repo = Repo.find(copied(town.folder, tmp_path / "town").folder / "hub.git")
    tip = repo.tip()
    many = {f"contributions/0093-x/{n}": b"a" for n in range(60)}
    for number in (80, 81):
        head = repo.write_commit([tip], many | {"README.md": b"%d" % number}, "x\n", tree_of=tip)
        subprocess.run(["git", "-C", repo.git_dir, "update-ref", f"refs/souq/pr/{number}/head", head], check=True)
    alone, was = [], summaries.offered
    monkeypatch.setattr(summaries, "offered", lambda repo, head: alone.append(head) or was(repo, head))
    every = pulls.listed(repo, progress=quiet)

    titles = [pull.summary.title for pull in every if pull.number < 80]

    assert len(titles) == 6
    assert alone == []


# -- kept, and never waited for ----------------------------------------------------------------------------------------


def test_a_page_is_made_once_for_each_state_of_the_repository(town, hub, monkeypatch):
    """And made anew when anything about it was signed, though main has not moved."""
    made = []
    was = routes.page
    monkeypatch.setattr(routes, "page", lambda *words, **more: made.append(words[0]) or was(*words, **more))
    monkeypatch.setattr("souq.hub.pages.stamp.MINUTE", 1e9)
    first = [ok(hub, "/smol/pulls/4") for _ in range(5)]

    assert (len({*first}), made) == (1, ["pull"])
    assert town("chen", ["pr", "comment", "4", "one word more"]) == 0
    time.sleep(1.1)
    assert "one word more" in ok(hub, "/smol/pulls/4")
    assert made == ["pull", "pull"]


def test_no_page_may_run_a_script(hub):
    """Whatever stood in one: the policy that comes with it lets none run, and nothing be sent or framed."""
    for path in ("/", "/smol", "/smol/pulls/4", "/nowhere", "/static/icon.svg"):
        policy = hub.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'")
        assert "script" not in policy
        assert "form-action 'none'; frame-ancestors 'none'" in policy


def test_what_could_not_be_drawn_is_drawn_once_its_tensors_are_here(town, hub, monkeypatch):
    """They are sent before the ref that tells of them, so a ref that moves is the time to look again."""
    drawing = next(link for link in Elements(ok(hub, "/smol/pulls/4")).links if link.endswith("change.svg"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Shown, "picture", lambda shown, number: "")
        assert hub.get(drawing).status_code == 404
    assert hub.get(drawing).status_code == 404
    assert town("chen", ["pr", "comment", "4", "the tensors are here now"]) == 0
    time.sleep(1.1)
    assert hub.get(drawing).status_code == 200


def test_a_browser_that_has_a_page_is_not_sent_it_again(hub):
    first = hub.get("/smol/governance")
    again = hub.get("/smol/governance", headers={"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert "max-age" in hub.get("/static/page.css").headers["cache-control"]


def test_a_slow_repository_holds_up_no_other(hub, monkeypatch):
    """It is answered with 503 and made on; others are answered meanwhile, and the list names it."""
    go = threading.Event()
    was = Shown.front

    def slow(shown):
        if shown.repo.root is not None:  # atlas/smol, which is a clone
            go.wait(20)
        return was(shown)

    monkeypatch.setattr(routes, "PATIENCE", 0.3)
    monkeypatch.setattr(Shown, "front", slow)
    try:
        waiting = [hub.get("/atlas/smol") for _ in range(4)]
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in waiting} == {(503, "3")}
        monkeypatch.setattr(routes, "PATIENCE", 4.0)
        assert hub.get("/smol").status_code == 200
        assert hub.get("/").status_code == 200
    finally:
        go.set()
    time.sleep(0.5)
    assert hub.get("/atlas/smol").status_code == 200


def test_what_waits_to_be_made_is_bounded(monkeypatch):
    monkeypatch.setattr("souq.hub.pages.cache.WAITING", 3)
    kept, go = Pages(), threading.Event()

    async def ask(n):
        return await kept.get("one", n, lambda: go.wait(10), patience=0.01)

    for n in range(6):
        with pytest.raises(Busy, match="being made" if n < 3 else "too much"):
            asyncio.run(ask(n))
    go.set()


def test_what_is_kept_is_bounded_and_a_fault_is_not_kept():
    kept, calls = Pages(most=2_500), []

    def make(n):
        calls.append(n)
        if n == 9:
            raise ZeroDivisionError
        return b"x" * 1_000

    def ask(n):
        return asyncio.run(kept.get("one", n, lambda: make(n), patience=5.0))

    for n in (1, 2, 2, 3, 3, 1):
        assert len(ask(n)) == 1_000
    assert calls == [1, 2, 3, 1]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            ask(9)
    assert calls.count(9) == 2


def test_a_refusal_is_remembered_like_a_page():
    kept, calls = Pages(), []

    def refuse():
        calls.append(1)
        raise SouqError("no")

    for _ in range(3):
        with pytest.raises(SouqError, match="no"):
            asyncio.run(kept.get("one", "key", refuse, patience=5.0))
    assert calls == [1]


def test_a_stamp_changes_with_any_ref_and_with_nothing_else(town):
    repo = Repo.find(town.folder / "hub.git")
    git = ["git", "-C", str(repo.git_dir)]
    before = stamp(repo)

    assert stamp(repo) == before
    blob = (
        subprocess.run([*git, "hash-object", "-w", "--stdin"], input=b"x", capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )
    assert stamp(repo) == before
    subprocess.run([*git, "update-ref", "refs/souq/pr/4/comment/abc", blob], check=True)
    assert (after := stamp(repo)) != before
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert stamp(repo) != after


def test_no_page_verifies_a_history(hub, monkeypatch):
    """Once it is known here, main is not judged again for a page, however often one is asked for."""
    ok(hub, "/smol/pulls/4")
    monkeypatch.setattr("souq.repo.history.History.judge", lambda *words: pytest.fail("a page judged a step of main"))
    monkeypatch.setattr("souq.hub.pages.stamp.MINUTE", 1e8)  # another stamp: all is made anew
    time.sleep(1.1)
    for path in PAGES:
        ok(hub, f"/smol{path}")


# -- figures that verdicts carry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("figures", [None, 7, "x", [], {}, {"interval": 3}, {"interval": [1], "before": 0}, {"interval": ["a", "b"], "before": 0, "after": 0, "gain": 0, "n": 1}, {"interval": [0, 1], "before": float("nan"), "after": 0, "gain": 0, "n": 1}, {"interval": [0, 1e400], "before": 0, "after": 0, "gain": 0, "n": 1}, {"interval": [0, 1], "before": 0, "after": 0, "gain": 0, "n": 1, "since_release": 4}])  # fmt: skip
def test_what_is_no_score_is_no_row(figures):
    """A verdict's evidence may hold anything: what has not the shape of a trial is left out, and the others stay."""
    good = {"interval": [0.0, 0.5], "before": 0.1, "after": 0.3, "gain": 0.2, "n": 9, "of": 12, "answer": "undecided"}
    verdict = Verdict(check="evals", outcome="pass", because="", evidence={"bad": figures, "good": good})

    assert [(trial.eval, trial.gain, trial.of) for trial in trials([verdict])] == [("good", 0.2, 12)]


def test_a_long_text_is_cut():
    assert (short("abc", 3), short("abcd", 3)) == ("abc", "ab…")
