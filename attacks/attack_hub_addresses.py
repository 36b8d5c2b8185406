"""Addresses by which a stranger would read what a hub does not show: other files, other commits, or nothing but a fault."""

import re

import pytest
from tests.hubs import NAME, raw

WORDS = r"""
../../etc/passwd ..%2f..%2f..%2fetc%2fpasswd %2e%2e/%2e%2e/%2e%2e/etc/passwd ..%5c..%5cetc%5cpasswd
%252e%252e%252fetc%252fpasswd %2fetc%2fpasswd //etc/passwd file:///etc/passwd ....//....//etc/passwd
%c0%ae%c0%ae/etc/passwd %ff%fe %00 config.json%00.md config.json/ ./config.json x/../config.json config.json%2f..
%EF%BC%8E%EF%BC%8E/etc %E2%80%AE %u002e%u002e/x ~root $(id) `id` |id ;id {{7*7}} ${7*7}
%3Cscript%3Ealert(1)%3C/script%3E %0d%0aSet-Cookie:x=1 %0aX-Evil:1 %0d%0a%0d%0ahello config.json%20 %20config.json
CONFIG.JSON Config.json config.json. config.json;x config.json%3fx config.json%23x * %3f [a-z]* {config,x}.json CON NUL
COM1 aux.txt .git/config ../hub.git/config HEAD objects/info/packs souq.toml GOVERNANCE.toml/x .souq-hub
%2esouq-hub/contents ../contents/files -rf --upload-pack=x @{u} main~1 main^ main:souq.toml :/x HEAD^{tree}
refs/heads/../main refs/pr/-1 refs/pr/0 refs/pr/007 refs/pr/99999999999999999999 refs/pr/1e3 refs/pr/%EF%BC%94
refs/pr/4/../4 refs/pr/4%00 refs/souq/pr/4/head refs/tags/..%2fx refs/convert/parquet refs/stash
0000000000000000000000000000000000000000 4b825dc642cb6eb9a060e54bf8d69288fbee4904
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA deadbeef deadbeefdeadbeefdeadbeefdeadbeefdeadbeefd v v1.0.0 vv1.0 1.0%20
1.0%0a %311.0 tokenizer.json%2f%2e%2e%2f%2e%2e 0x41 1e309 NaN -1 9223372036854775808 true null undefined __proto__
constructor ../../../../../../proc/self/environ /proc/self/mem /dev/zero /dev/stdin \\host\share C:%5cboot.ini
%2e%2e%2f%2e%2e%2fproc%2fself%2fcmdline ..;/..;/etc/passwd ..%00/x
"""
OTHERS = [*WORDS.split(), "a" * 5_000, "9" * 5_000, "%41" * 1_500, "/" * 3_000, "a/" * 1_500, "%2e%2e%2f" * 600]

ROUTES = {
    "a file's path": f"/{NAME}/resolve/main/{{}}",
    "a file's revision": f"/{NAME}/resolve/{{}}/config.json",
    "a file's repository": "/{}/resolve/main/config.json",
    "a file's organisation": "/{}/smol/resolve/main/config.json",
    "a folder's path": f"/api/models/{NAME}/tree/main/{{}}",
    "a folder's revision": f"/api/models/{NAME}/tree/{{}}",
    "a model": "/api/models/{}",
    "a model's revision": f"/api/models/{NAME}/revision/{{}}",
    "commits": f"/api/models/{NAME}/commits/{{}}",
    "refs": "/api/models/{}/refs",
    "a discussion": f"/api/models/{NAME}/discussions/{{}}",
    "a page": f"/{NAME}/pulls/{{}}",
    "a page's cursor": "/api/models?cursor={}&limit={}",
    "a sort": "/api/models?sort={}",
}
NAMES = {"a folder's path": ["/" * 3_000]}  # the folder that holds everything
SECRETS = re.compile(rb"root:.*:0:0|\[core\]|HOME=|x86_64")


@pytest.mark.parametrize("route", ROUTES)
def test_no_address_leads_out_of_what_is_shown_or_to_a_fault(site, route):
    """Each is answered with a no, in one answer that is whole, and never by a 5xx."""
    for other in OTHERS:
        path = ROUTES[route].replace("{}", other)
        answer = raw(site.url, f"GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
        status, (head, _, body) = int(answer[9:12]), answer.partition(b"\r\n\r\n")

        assert status in (200, 400, 404, 414), (path[:120], answer[:300])
        assert not SECRETS.search(body), path[:120]
        assert not re.search(rb"(?im)^(set-cookie|x-evil|x-1)", head), path[:120]
        assert b"\ncontent-type: text/html" not in head.lower() or b"<script>alert" not in body, path[:120]
        assert status != 200 or other in NAMES.get(route, ()), (path[:120], "names nothing")


RANGES = ["bytes=0-999999999999999999999999", "bytes=99999999999999999999-", "bytes=-99999999999999999999", "bytes=-0", "bytes=5-2", "bytes=a-b",
          "bytes=0x1-0x2", "items=0-1", "bytes=", "bytes", "bytes=--1", "bytes=1_0-2_0", "bytes=" + "0-0," * 900, "bytes=" + ",".join(f"{i}-{i}" for i in range(99)),
          "bytes=" + "9" * 4_500 + "-", "bytes=0-" + "9" * 4_500, "bytes=-" + "9" * 4_500, "bytes=\u0663-\u0665", "bytes=0-0, 1-1", "bytes=1-,0-"]  # fmt: skip


@pytest.mark.parametrize("wanted", RANGES, ids=range(len(RANGES)))
def test_a_range_is_a_part_of_the_file_or_a_no(site, wanted):
    """No number is too large, and many parts together are never more than the file and their headings."""
    whole = site.ask(f"/{NAME}/resolve/main/model.safetensors").body
    head = f"GET /{NAME}/resolve/main/model.safetensors HTTP/1.1\r\nHost: hub\r\nRange: {wanted}\r\nConnection: close\r\n\r\n"
    answer = raw(site.url, head.encode())
    status, body = int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]

    assert status in (200, 206, 400, 416), answer[:200]
    assert len(body) <= len(whole) + 100_000
    assert status != 200 or body == whole
    if status == 206 and b"multipart" not in answer[:2_000]:
        assert body in whole


def test_too_much_is_not_read(site):
    """A form without an end, and one of a million paths."""
    many = b"&".join(b"paths=config.json" for _ in range(6_000))

    assert site.ask(f"/api/models/{NAME}/paths-info/main", "POST", b"paths=" + b"x" * (2 << 20)).status == 413
    assert site.ask(f"/api/models/{NAME}/paths-info/main", "POST", many).status == 413
    assert site.ask(f"/api/models/{NAME}/paths-info/main", "POST", b"\xff\x00&&==&paths").status == 200


def test_what_a_check_of_main_refuses_is_not_built(site):
    """Numbers that are none: whoever asks for its model is told which check refuses it."""
    answer = site.ask(f"/{NAME}/resolve/refs%2Fpr%2F{site.town.hostile}/model.safetensors")

    assert answer.status == 403
    assert "refuses it" in answer.headers["x-error-message"]


def test_what_strangers_wrote_is_no_page_of_the_hub(site):
    """A file is sent to be kept, is typed as nothing that runs, and runs nothing if it is opened all the same."""
    for path in ("README.md", "config.json", "chat_template.jinja", "model.safetensors"):
        headers = site.ask(f"/{NAME}/resolve/refs%2Fpr%2F{site.town.open}/{path}").headers
        assert headers["content-disposition"].startswith("attachment")
        assert "sandbox" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not headers["content-type"].startswith(("text/html", "image/svg"))
