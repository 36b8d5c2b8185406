"""A title, a reason or a name that would be more than text in a forge's comment: markdown, HTML, mentions, our own marker."""

from __future__ import annotations

import re

import pytest

from souq.errors import Hostile, SouqError, UsageError
from souq.pulls.forge import Answer
from souq.pulls.forge_comment import MARKER, MAX_SHOWN, Forge, code, render
from souq.records import Checked, Verdict, Vote

DIGEST = "b3:" + "5" * 64
TEXTS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- souq -->", "--> <b>", "![x](https://evil.example/p.png)",
    "[click](javascript:alert(1))", "@everyone @atlas/maintainers", "fixes #1, closes atlas/smol#2", "https://evil.example",
    "`", "``` ```", "` @all `", "``x`` <b>", "a | b | **merged** |", "\\| x \\", "\\`x\\`", "x\n\n# Approved\n\n- [x] all good",
    "x\r\n| ok | pass |", "\u202egnp.exe", "a\u200bb\ufeff", "\x1b[2J", "&lt;b&gt; &#64;all", "***bold*** __x__ ~~y~~", "$$x$$", ":tada:",
    "x" * 10_000, "", "   ", "`" * 500, "<details><summary>x", "[^1]: y", "</td></tr></table>", "```suggestion\nx\n```",
]  # fmt: skip


def answer(text, **more):
    """An answer in which every text that somebody else writes is this one."""
    verdicts = (
        Verdict(check="files", outcome="refuse", because=text),
        Verdict(check=text, outcome="pass", because="ok"),
    )
    facts = {"title": text, "digest": DIGEST, "number": 3, "missing": (text,)}
    facts["checked"] = Checked(subject=DIGEST, base="0" * 40, verdicts=verdicts, by=text, at=text)
    facts["votes"] = (Vote(subject=DIGEST, choice="reject", reason=text, by=text, at=text),)
    return Answer(forge=12, **(facts | more))


def outside_of_code(body):
    """What a forge would read as markdown: all but code spans (CommonMark 6.1: a run of backticks ends at its like) and blocks."""
    body = re.sub(r"^```sh\n.*?^```$", "", body, flags=re.S | re.M)
    return re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", body)


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_only_text(text):
    """Outside of code the comment is the same whatever the strangers wrote; no line and no cell more."""
    plain, made = render(answer("a title")), render(answer(text))
    if not text.strip():
        made, plain = made.replace("–", "`x`"), plain

    assert outside_of_code(made) == outside_of_code(plain)
    assert made.count("\n") == plain.count("\n")
    assert [line.count("|") for line in made.splitlines()] == [line.count("|") for line in plain.splitlines()]
    assert made.count(MARKER) == 1 + made.count("`<!-- souq -->`")
    assert made.startswith(MARKER + "\n")
    assert len(made) < 8 * MAX_SHOWN + 4000


@pytest.mark.parametrize("text", TEXTS)
def test_a_problem_is_only_text(text):
    made = render(Answer(forge=12, problem=text or "x"))

    assert outside_of_code(made) == outside_of_code(render(Answer(forge=12, problem="x"))) or not text.strip()
    assert made.count("\n") == render(Answer(forge=12, problem="x")).count("\n")


@pytest.mark.parametrize("text", TEXTS)
def test_code_is_one_span(text):
    shown = code(text)

    assert shown == "–" or (shown[0] == shown[-1] == "`" and "`" not in shown[1:-1] and shown[1:-1].strip())
    assert not set(shown) & set("\n\r|\x1b\u202e\u200b\ufeff")


def test_the_lines_to_type_hold_nothing_of_a_stranger_s():
    """What people paste into a shell is a number and a digest; another's digest is not made into a line."""
    made = render(answer('$(rm -rf ~) "; `id`'))

    (lines,) = re.findall(r"```sh\n(.*?)```", made, re.S)
    assert lines == f'souq fetch\nsouq pr view 3\nsouq vote 3 --approve --digest {DIGEST} --reason "…"\n'
    with pytest.raises(Hostile):
        render(answer("x", digest='b3:"; id; "'))


@pytest.mark.parametrize(
    "api", ["file:///etc/passwd", "ftp://x/", "https://x@evil.example", "https://a b", "gopher://x", ""]
)
def test_a_token_goes_to_no_odd_address(api):
    with pytest.raises(UsageError, match="not the address"):
        Forge(api, "atlas/smol", "t", "bot")


@pytest.mark.parametrize("name", ["atlas", "atlas/smol/../../x", "../x", "atlas/smol?x", ""])
def test_a_repository_is_owner_and_name(name):
    with pytest.raises(UsageError):
        Forge("https://forge.example", name, "t", "bot")


def test_a_redirect_does_not_take_the_token_along():
    """An API that sends us elsewhere is an error, not a trip with our token."""
    import http.server
    import threading

    from souq.pulls.forge_comment import post

    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(302)
            self.send_header("Location", "/stolen")
            self.end_headers()

        def log_message(self, *told):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(SouqError, match="answered 302"):
            post(Forge(f"http://127.0.0.1:{server.server_port}", "atlas/smol", "t0k", "bot"), 12, "x")
    finally:
        server.shutdown()
    assert len(asked) == 1
