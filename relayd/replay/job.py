"""A replay as it is asked for and kept: which events, to where, and how it stands.

Each job has a folder below ``replays/`` in the state directory:

    replays/ID/job.json         this, written anew and renamed with each change
    replays/ID/outbox.sqlite3   what waits and what is held, the counters, and the cursor: an outbox like a
                                destination's, apart from it
    replays/ID/files.json       the files of a foreign archive, as they were when it was asked for
    replays/ID/bad-lines.jsonl  lines of foreign archives that are no events, each with its place

So a job survives whatever the daemon survives, and goes on at its own cursor.
"""

import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from relayd.event import TYPES
from relayd.journal.segment import sync_folder
from relayd.journal.selection import Selection

_log = structlog.get_logger(__name__)

State = Literal["running", "paused", "finished", "cancelled"]

_ID = re.compile(r"[a-z0-9]{8}")
_FILES = "files.json"
_EPOCH = datetime.fromtimestamp(0, UTC)
_LATEST = 253_370_764_800_000


class UnknownReplay(KeyError):
    """There is no replay of this id."""


class Criteria(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which events are replayed; what is not set does not matter. Times in Unix milliseconds."""

    source: str | None = None
    since: int | None = None
    """The first time of receipt."""
    until: int | None = None
    """The first time of receipt that is too late."""
    types: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    """Names of tracked events, pages and screens."""
    user: str | None = None
    """A userId or an anonymousId."""

    def __post_init__(self) -> None:
        unknown = sorted(self.types - TYPES)
        if unknown:
            raise ValueError(f"there is no event type {unknown[0]!r}; the types are {', '.join(sorted(TYPES))}")
        for time in (self.since, self.until):
            if time is not None and not 0 <= time < _LATEST:
                raise ValueError("the times between which events are replayed must lie in the years 1970 to 9998")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("the time from which events are replayed must lie before the time until which they are")

    @property
    def selection(self) -> Selection:
        """What it comes to for a log's lines."""
        return Selection(
            since=None if self.since is None else moment(self.since),
            until=None if self.until is None else moment(self.until),
            sources=() if self.source is None else (self.source,),
            types=tuple(self.types),
            events=tuple(self.events),
            users=() if self.user is None else (self.user,),
        )


def moment(milliseconds: int) -> datetime:
    """Unix milliseconds as a time. Exact."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


class Spec(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is asked for."""

    destination: str
    criteria: Criteria = Criteria()
    archive: str | None = None
    """A folder or file of archived logs; None: relayd's own journal and archive."""
    rate: float | None = None
    """Events a second, at most."""

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise ValueError("the rate must be more than 0 events a second")

    @property
    def essence(self) -> "Spec":
        """What makes two replays the same."""
        return replace(self, rate=None)


class Job(Struct, frozen=True, kw_only=True):
    """A replay. Times in Unix seconds, offsets of the log that it reads."""

    id: str
    spec: Spec
    state: State
    created: float
    ended: float | None = None
    start: int
    end: int
    """Where the log ended when it was asked for."""

    @property
    def reads_journal(self) -> bool:
        """Whether it reads relayd's own journal and archive; else it reads the files that `Store.files` gives."""
        return self.spec.archive is None


class Store:
    """The jobs' folders. Blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, id: str) -> Path:  # noqa: A002  it is one
        """Where a job's files are. Raises `UnknownReplay` for what is no id."""
        if not _ID.fullmatch(id):
            raise UnknownReplay(id)
        return self._folder / id

    def create(self, spec: Spec, *, now: float, start: int, end: int, files: Sequence[Path] = ()) -> Job:
        """A new job, running. ``files`` are those of a foreign archive: more that come into it later are not read."""
        job = Job(id=secrets.token_hex(4), spec=spec, state="running", created=now, start=start, end=end)
        (self._folder / job.id).mkdir(parents=True)
        if not job.reads_journal:
            _write(self._folder / job.id / _FILES, msgspec.json.encode([str(each) for each in files]))
        self.save(job)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)
        return job

    def files(self, id: str) -> list[Path]:  # noqa: A002
        """The files of the foreign archive that a job reads, in order."""
        paths = msgspec.json.decode((self.folder(id) / _FILES).read_bytes(), type=list[str])
        return [Path(path) for path in paths]

    def save(self, job: Job) -> None:
        """Keep the job as it is now."""
        _write(self.folder(job.id) / "job.json", msgspec.json.format(msgspec.json.encode(job)))

    def load(self, id: str) -> Job:  # noqa: A002
        """Raises `UnknownReplay`."""
        try:
            return msgspec.json.decode((self.folder(id) / "job.json").read_bytes(), type=Job)
        except FileNotFoundError:
            raise UnknownReplay(id) from None

    def all(self) -> Mapping[str, Job]:
        """Every job by its id, the oldest first. What can not be read is logged, and left as it is."""
        if not self._folder.exists():
            return {}
        jobs = []
        for path in self._folder.glob("*/job.json"):
            try:
                jobs.append(self.load(path.parent.name))
            except (msgspec.DecodeError, UnknownReplay) as error:
                _log.error("replay can not be read; it waits", path=str(path), error=str(error))
        return {job.id: job for job in sorted(jobs, key=lambda job: job.created)}

    def remove(self, id: str) -> None:  # noqa: A002
        """Delete all that is kept of a job."""
        shutil.rmtree(self.folder(id))


def _write(path: Path, data: bytes) -> None:
    """Put a file in its place, whole and durably, or not at all."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
