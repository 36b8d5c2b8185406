"""What is known of a model in one answer, and the list of models.

Nothing is counted here, so no answer says how often a model was downloaded or liked.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import SouqError
from souq.hub.catalog import Catalog
from souq.hub.huggingface.asked import Asked, asked, hub_of
from souq.hub.huggingface.exports import Exports
from souq.hub.huggingface.files import lfs
from souq.hub.huggingface.history import commit_facts, utc
from souq.hub.huggingface.paging import is_true, next_page, number
from souq.hub.huggingface.problems import Problem
from souq.releases.card import head
from souq.repo.config import Config
from souq.repo.snapshot import Snapshot
from souq.weights.lockfile import parse_lock

PAGE = 1_000
# By what lists are sorted: models by these dates, and by their names where nothing is counted.
DATES = {"createdAt": "createdAt", "created_at": "createdAt", "lastModified": "lastModified"}
DATES |= {"last_modified": "lastModified"}
UNCOUNTED = ("downloads", "likes", "likes30d", "trendingScore", "trending_score")
ALWAYS = {"_id", "id", "modelId", "sha"}  # whatever else was asked for

Row = dict[str, Any]


async def model(request: Request) -> Response:
    """One model at a revision: its digits, its files, and what its card and configuration say."""
    of = await asked(request)
    facts = await run_in_threadpool(_facts, of, hub_of(request).exports, blobs=is_true(request, "blobs"))
    query = request.query_params
    if wanted := {*query.getlist("expand"), *query.getlist("expand[]")}:
        facts = {name: value for name, value in facts.items() if name in wanted | ALWAYS}
    return JSONResponse(facts)


def _facts(of: Asked, exports: Exports, *, blobs: bool) -> Row:
    def read(path: str) -> bytes:
        return exports.path(of.revision, of.file(path)).read_bytes()

    siblings: list[Row] = [{"rfilename": path} for path in of.listing]
    if blobs:
        for sibling, (path, file) in zip(siblings, of.listing.items(), strict=True):
            sibling |= {"size": file.size, "blobId": file.oid}
            sibling |= {"lfs": lfs(file, "sha256")} if file.is_large(path) else {}
    counts = Counter[str]()
    for ref in parse_lock(read("model.lock").decode()).values():
        counts[ref.dtype] += ref.size
    config = json.loads(read("config.json"))
    first = of.line.repo.summary(of.line.commits[0])
    return _named(of.name, Snapshot(of.line.repo, of.revision.main).config) | {
        "sha": of.revision.id, "lastModified": commit_facts(of.line, of.revision)["date"], "createdAt": utc(first[1]),
        "siblings": siblings, "safetensors": {"parameters": counts, "total": counts.total()},
        "config": {key: config[key] for key in ("architectures", "model_type") if key in config},
        "usedStorage": sum({file.sha256: file.size for file in of.listing.values()}.values()),
    }  # fmt: skip


def _named(name: str, config: Config) -> Row:
    card = head(config.licence, config.origin)
    tags = ["transformers", "safetensors", *card["tags"], "text-generation", f"license:{card['license']}"]
    tags += [f"base_model:{card['base_model']}"] if "base_model" in card else []
    org = name.rpartition("/")[0] or None
    return {
        "_id": name, "id": name, "modelId": name, "author": org, "private": False, "gated": False, "disabled": False,
        "library_name": card["library_name"], "pipeline_tag": card["pipeline_tag"], "tags": tags, "cardData": card,
    }  # fmt: skip


async def models(request: Request) -> Response:
    """The models of this hub that can be read, in pages."""
    query = request.query_params
    sort = query.get("sort", "")
    if sort and sort not in (*DATES, *UNCOUNTED):
        known = ", ".join((*DATES, *UNCOUNTED))
        raise Problem(400, "BadRequest", f"models are not sorted by {sort[:40]!r}: one of {known}")
    limit, start = max(number(request, "limit", PAGE, PAGE), 1), number(request, "cursor", 0, 10**6)
    rows = await run_in_threadpool(_models, hub_of(request).catalog, query.get("search", ""), query.get("author", ""))
    wanted = [word for words in query.getlist("filter") for word in words.split(",")]
    rows = [row for row in rows if all(word in row["tags"] for word in wanted)]
    if sort in DATES:
        rows.sort(key=lambda row: str(row[DATES[sort]]), reverse=query.get("direction", "-1") == "-1")
    more = next_page(request, {"cursor": str(start + limit)}) if len(rows) > start + limit else {}
    return JSONResponse(rows[start : start + limit], headers=more)


def _models(catalog: Catalog, search: str, author: str) -> list[Row]:
    rows = []
    for entry in catalog.entries():
        org = entry.name.rpartition("/")[0]
        if not entry.problem and search.lower() in entry.name.lower() and author in ("", org):
            with suppress(SouqError, OSError, msgspec.MsgspecError):  # a broken one never breaks the list
                rows.append(_row(catalog, entry.name))
    return rows


def _row(catalog: Catalog, name: str) -> Row:
    repo = catalog.open(name)
    tip = repo.tip()
    first, last = repo.summary(repo.history(tip)[0]), repo.summary(tip)
    dates = {"createdAt": utc(first[1]), "lastModified": utc(last[1])}
    return _named(name, Snapshot(repo, tip).config) | {"sha": tip, **dates}
