"""What a client is told when the answer is no: by status and headers, which is where Hugging Face's clients look.

raise Problem(404, "EntryNotFound", "no tokenizer.model here", commit=revision.id)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from starlette.responses import JSONResponse

from souq.errors import NotFound, SouqError
from souq.hub.database import Away
from souq.records import spelled_out

Code = Literal["", "RepoNotFound", "RevisionNotFound", "EntryNotFound", "NotImplemented", "BadRequest"]
MAX_MESSAGE = 400  # characters


class Problem(Exception):
    """An answer that is no; `commit` lets a client remember that a file is not in this revision."""

    def __init__(
        self, status: int, code: Code, message: str, *, commit: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.commit = status, code, commit
        self.message = spelled_out(" ".join(message.split()))[:MAX_MESSAGE].strip()
        self.more = dict(headers or {})

    @property
    def response(self) -> JSONResponse:
        """As it is sent: a header holds ASCII, the body what was meant."""
        headers = {"X-Error-Message": self.message.encode("ascii", "backslashreplace").decode(), **self.more}
        headers |= {"X-Error-Code": self.code} if self.code else {}
        headers |= {"X-Repo-Commit": self.commit} if self.commit else {}
        return JSONResponse({"error": self.message}, self.status, headers)


def of_error(error: SouqError) -> Problem:
    """What an error of souq's own is to a client: what is not there, or what somebody must mend, and how."""
    message = f"{error}; {error.hint}" if error.hint else str(error)
    if isinstance(error, Away):
        return Problem(503, "", message, headers={"Retry-After": "3"})
    return Problem(404, "RepoNotFound", message) if isinstance(error, NotFound) else Problem(403, "", message)
