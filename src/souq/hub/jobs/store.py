"""Jobs in a hub's database: asked for, taken by one worker at a time, held by a lease, finished once or cancelled.

Who holds a job says so again and again; who falls silent has lost it, and another begins it anew. Only the holder
finishes it, so that what a worker of before still says changes nothing. Nothing here knows how a job is done.

    jobs = Jobs(database)
    jobs.ask("look", "atlas/smol", 7, by=OPERATOR)
    held = jobs.take(lease=30)
    jobs.finish(held, "done", result=b"…")
"""

from __future__ import annotations

import secrets
from typing import Literal, get_args

from sqlalchemy import Connection, Update, func, insert, select, update

from souq import signing
from souq.errors import NotFound, Refused, UsageError
from souq.hub.accounts.tokens import in_days
from souq.hub.accounts.trail import By, note
from souq.hub.catalog import is_name
from souq.hub.database import Database
from souq.hub.database.tables import Job as Row
from souq.records import Record, spelled_out

Kind = Literal["look", "checks", "build"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
RANKS: dict[Kind, int] = {"look": 0, "checks": 1, "build": 1}  # cheap ones first
MOST_WAITING, MOST_EACH = 1_000, 20  # that wait or run: in all, and of one who asks
MOST_TRIES = 10  # workers that one job may outlive
MAX_LOG, MAX_RESULT, MAX_BECAUSE = 64 << 10, 1 << 20, 400  # characters; the end of a log is what is kept
DAY = 86_400.0
GOING: tuple[State, ...] = ("waiting", "running")


class Job(Record, frozen=True):
    """One of them, without its log and result."""

    id: int
    kind: Kind
    repository: str
    number: int  # of the pull request; 0 for main
    state: State
    by: str
    made: str
    tries: int
    holder: str
    begun: str
    ended: str
    because: str  # why it failed

    @property
    def about(self) -> str:
        """What it is of, for people."""
        return f"{self.repository} #{self.number}" if self.number else f"{self.repository}, main"

    @property
    def is_going(self) -> bool:
        return self.state in GOING


COLUMNS = [getattr(Row, name) for name in Job.__struct_fields__]


class Jobs:
    """The jobs of one hub."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- who asks ------------------------------------------------------------------------------------------------------

    def ask(self, kind: str, repository: str, number: int, *, by: By) -> Job:
        """Have a job done; the same again while it waits or runs is that one.

        Raises:
            UsageError: there is no such kind of job, or nothing is called so.
            Refused: too many wait.
        """
        _refuse_odd(kind, repository, number)
        with self.database.writing() as connection:
            same = select(*COLUMNS).where(
                Row.kind == kind, Row.repository == repository, Row.number == number, Row.state.in_(GOING)
            )  # fmt: skip
            if (row := connection.execute(same).first()) is not None:
                return _job(row)
            _refuse_many(connection, by)
            id_ = connection.scalar(insert(Row).values(**_new(kind, repository, number, by)).returning(Row.id))
            note(connection, by, "job asked for", f"{repository}#{number}", f"job {id_} {kind}")
            return _get(connection, id_ or 0)

    def cancel(self, id_: int, *, by: By) -> None:
        """Have it done no more; whoever does it learns so when they next say that they hold it.

        Raises:
            NotFound: there is no such job.
            Refused: it is over.
        """
        with self.database.writing() as connection:
            job = _get(connection, id_)
            words = {"state": "cancelled", "ended": signing.now(), "holder": "", "because": f"cancelled by {by.name}"}
            if not connection.execute(_going(id_).values(**words)).rowcount:
                raise Refused(f"job {id_} is {job.state}")
            note(connection, by, "job cancelled", f"{job.repository}#{job.number}", f"job {id_} {job.kind}")

    def get(self, id_: int) -> Job:
        """A job by its number.

        Raises:
            NotFound: there is none.
        """
        with self.database.reading() as connection:
            return _get(connection, id_)

    def said_by(self, id_: int) -> tuple[str, str]:
        """What a job has written so far, and what it found; "" while it has found nothing."""
        with self.database.reading() as connection:
            row = connection.execute(select(Row.log, Row.result).where(Row.id == id_)).first()
        return (row.log, row.result) if row is not None else ("", "")

    def listed(self, most: int = 50, *, repository: str = "", number: int = 0, going: bool = False) -> list[Job]:
        """The newest first; of one repository or pull request, or those that wait or run."""
        asked = select(*COLUMNS).order_by(Row.id.desc()).limit(most)
        asked = asked.where(Row.repository == repository) if repository else asked
        asked = asked.where(Row.number == number) if number else asked
        asked = asked.where(Row.state.in_(GOING)) if going else asked
        with self.database.reading() as connection:
            return [_job(row) for row in connection.execute(asked)]

    # -- who works -----------------------------------------------------------------------------------------------------

    def take(self, lease: float) -> Job | None:
        """A job to do, held for so many seconds: the cheapest, then the oldest. None where nothing waits.

        One whose holder fell silent is begun anew, unless it has outlived too many.
        """
        with self.database.writing() as connection:
            self._drop_deadly(connection)
            waits = (Row.state == "waiting") | ((Row.state == "running") & (Row.lease <= signing.now()))
            order = (Row.rank, Row.tries, Row.id)  # what may be what killed a worker holds up nobody
            asked = select(Row.id).where(waits).order_by(*order).limit(1).with_for_update(skip_locked=True)
            if (id_ := connection.scalar(asked)) is None:
                return None
            words = {
                "state": "running", "holder": secrets.token_hex(8), "lease": in_days(lease / DAY), "log": "",
                "begun": signing.now(), "tries": Row.tries + 1,
            }  # fmt: skip
            connection.execute(update(Row).where(Row.id == id_).values(**words))
            return _get(connection, id_)

    def hold(self, job: Job, lease: float, log: str) -> bool:
        """Say that it is being done, and what it wrote; False where it is somebody else's by now, or cancelled."""
        with self.database.writing() as connection:
            words = {"lease": in_days(lease / DAY), "log": _log(log)}
            return connection.execute(_held(job).values(**words)).rowcount == 1

    def finish(self, job: Job, state: State, log: str, *, result: str = "", because: str = "") -> bool:
        """Have it be over, with all that it found at once; False where it is somebody else's by now, or cancelled."""
        if len(result) > MAX_RESULT:
            state, result, because = "failed", "", f"it found more than {MAX_RESULT:,} characters"
        words = {
            "state": state, "ended": signing.now(), "holder": "", "log": _log(log), "result": result,
            "because": _line(because),
        }  # fmt: skip
        with self.database.writing() as connection:
            return connection.execute(_held(job).values(**words)).rowcount == 1

    def give_back(self, job: Job) -> None:
        """Have somebody else do it: who held it stops, and it is no fault of the job's."""
        with self.database.writing() as connection:
            connection.execute(_held(job).values(state="waiting", holder="", tries=Row.tries - 1))

    def _drop_deadly(self, connection: Connection) -> None:
        late = (Row.state == "running") & (Row.lease <= signing.now()) & (Row.tries >= MOST_TRIES)
        because = f"{MOST_TRIES} workers fell silent over it"
        words = {"state": "failed", "ended": signing.now(), "holder": "", "because": because}
        connection.execute(update(Row).where(late).values(**words))


# -- with a connection -------------------------------------------------------------------------------------------------


def _refuse_odd(kind: str, repository: str, number: int) -> None:
    if kind not in get_args(Kind):
        raise UsageError(f"no kind of job {kind[:20]!r}", hint=f"one of {', '.join(get_args(Kind))}")
    if not is_name(repository) or not (kind != "build") <= number < 10**9:
        raise UsageError(f"no pull request {repository[:100]!r} {number}", hint="as the hub lists it: atlas/smol 7")


def _refuse_many(connection: Connection, by: By) -> None:
    count = select(func.count()).where(Row.state.in_(GOING))
    if (connection.scalar(count) or 0) >= MOST_WAITING:
        raise Refused(f"{MOST_WAITING} jobs wait already", hint="come again when some are done")
    if (connection.scalar(count.where(Row.by == by.name)) or 0) >= MOST_EACH:
        raise Refused(f"{MOST_EACH} jobs of {by.name} wait already", hint="come again when some are done")


def _new(kind: str, repository: str, number: int, by: By) -> dict[str, str | int]:
    empty: dict[str, str | int] = dict.fromkeys(("holder", "lease", "begun", "ended", "because", "result", "log"), "")
    rank = next(rank for name, rank in RANKS.items() if name == kind)
    about: dict[str, str | int] = {"kind": kind, "repository": repository, "number": number, "by": by.name}
    return {**empty, **about, "state": "waiting", "rank": rank, "made": signing.now(), "tries": 0}


def _get(connection: Connection, id_: int) -> Job:
    row = connection.execute(select(*COLUMNS).where(Row.id == id_)).first() if 0 < id_ < 2**31 else None
    if row is None:
        raise NotFound("no such job", hint="`souq hub job list` lists those there are")
    return _job(row)


def _going(id_: int) -> Update:
    return update(Row).where(Row.id == id_, Row.state.in_(GOING))


def _held(job: Job) -> Update:
    return update(Row).where(Row.id == job.id, Row.state == "running", Row.holder == job.holder)


def _job(row: object) -> Job:
    return Job(**{name: getattr(row, name) for name in Job.__struct_fields__})


def _log(text: str) -> str:
    """The end of what was written, without what steers a terminal; lines stay."""
    return "\n".join(spelled_out(line) for line in text.splitlines())[-MAX_LOG:]


def _line(text: str) -> str:
    return spelled_out(" ".join(text.split()))[:MAX_BECAUSE]
