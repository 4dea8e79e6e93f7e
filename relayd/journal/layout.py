"""Events as Segment writes them: ``segment-logs/SOURCE/DAY/NAME.gz``, gzipped JSON Lines.

SOURCE is a source's name, DAY the UTC day of receipt, as its first moment in Unix milliseconds: so are the buckets that
Segment fills (https://segment.com/docs/connections/storage/catalog/aws-s3/, "Data format"). NAME is the offset at
which the journal's segment begins, so what is of one segment has one name, in as many folders as it has sources
and days.

Guarantees
- A file is there whole, or not at all: it is written beside its place, synced, and renamed. The files of a segment come
  in one go; a crash in the midst of that leaves some of them, and doing it again completes them.
- The same segment gives the same files, byte for byte.
- Memory is bounded, however many sources there are (`MAX_OPEN`).
"""

import gzip
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote

import msgspec

from relayd.event import decode_head
from relayd.journal.segment import DAMAGE, Damaged, Segment, sync_folder

LEVEL = 6
MAX_OPEN = 64
"""Files that are written at once; of a further one, the least recently used is closed, and gone on with later."""

_BLOCK = 64 * 1024
_READ = 2**20
_PARTIAL = ".partial"
_SAFE = re.compile(r"[A-Za-z0-9_-]+")


class _File:
    """One file in the making, beside its place."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.partial = final.with_name(f".{final.name}{_PARTIAL}")
        self.size = 0
        """Bytes of the lines that are not yet written."""
        self._lines: list[bytes] = []
        self._mode = "wb"
        self._target: BinaryIO | None = None
        self._member: gzip.GzipFile | None = None

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self.size += len(line)

    def flush(self) -> None:
        if self._member is None:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._target = open(self.partial, self._mode)  # type: ignore[assignment]  # noqa: SIM115  until `close`
            self._mode = "ab"  # gone on with, it gets a further gzip member
            self._member = gzip.GzipFile("", "wb", LEVEL, self._target, mtime=0)
        self._member.write(b"".join(self._lines))
        self._lines.clear()
        self.size = 0

    def close(self) -> None:
        if self._member is not None and self._target is not None:
            with self._target:
                self._member.close()
                self._target.flush()
                os.fsync(self._target.fileno())
            self._member = self._target = None


class LogWriter:
    """Writes the files of one name. None is in its place before `commit`. Blocks; raises ``OSError``."""

    def __init__(self, root: Path, name: str) -> None:
        """``root`` is the folder ``segment-logs``."""
        self._root = root
        self._name = name
        self._files: dict[tuple[str, int], _File] = {}
        self._open: OrderedDict[tuple[str, int], _File] = OrderedDict()

    def write(self, line: bytes, source: str, received: datetime) -> None:
        """Add an event's line, its newline included. ``received`` is in UTC."""
        key = source, received.toordinal()
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = _File(self._root / _folder(source) / _day(key[1]) / f"{self._name}.gz")
        file.add(line)
        if file.size >= _BLOCK:
            self._flush(key, file)

    def commit(self) -> list[Path]:
        """Put all files in their places, synced, and return them."""
        for key, file in self._files.items():
            if file.size:
                self._flush(key, file)
            file.close()
        folders = set()
        for file in self._files.values():
            file.partial.replace(file.final)
            folders |= {file.final.parent, file.final.parent.parent, self._root}
        for folder in sorted(folders, reverse=True):  # the innermost first
            sync_folder(folder)
        return [file.final for file in self._files.values()]

    def discard(self) -> None:
        """Leave nothing behind of what is not committed."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()
            file.partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception: object, *rest: object) -> None:
        if exception is not None:
            self.discard()

    def _flush(self, key: tuple[str, int], file: _File) -> None:
        self._open[key] = file
        self._open.move_to_end(key)
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)[1].close()
        file.flush()


def write_segment(root: Path, segment: Segment) -> list[Path]:
    """Write a sealed segment's events below ``root``, and return the files; lines that are none are left out. Blocks.

    Files of the same segment that it no longer gives rise to go. Raises `Damaged`, or ``OSError``.
    """
    name = file_name(segment.base)
    with LogWriter(root, name) as writer:
        for line in _lines(segment):
            try:
                head = decode_head(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            writer.write(line, head.projectId, head.receivedAt.astimezone(UTC))
        written = writer.commit()
    remove(root, segment.base, but=written)
    return written


def file_name(base: int) -> str:
    """What the files of the segment that begins at ``base`` are called, without ``.gz``."""
    return f"{base:020d}"


def sizes(root: Path) -> dict[int, int]:
    """Bytes that the files below ``root`` take, by the segment that they are of. Blocks; costs a listing."""
    found: dict[int, int] = {}
    for path in root.glob("*/*/*.gz"):
        stem = path.name.removesuffix(".gz")
        with suppress(FileNotFoundError):
            if stem.isdigit():
                found[int(stem)] = found.get(int(stem), 0) + path.stat().st_size
    return found


def remove(root: Path, base: int, but: list[Path] | None = None) -> None:
    """Remove the files of a segment, half ones too, and the folders that are then empty. Blocks."""
    name = f"{file_name(base)}.gz"
    for path in (*root.glob(f"*/*/{name}"), *root.glob(f"*/*/.{name}{_PARTIAL}")):
        if but is None or path not in but:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                path.parent.rmdir()
                path.parent.parent.rmdir()


def _lines(segment: Segment) -> Iterator[bytes]:
    try:
        with segment.open() as file:
            rest = b""
            while data := file.read(_READ):
                *lines, rest = (rest + data).split(b"\n")
                yield from (line + b"\n" for line in lines)
            if rest:
                yield rest + b"\n"
    except DAMAGE as error:
        raise Damaged(f"{segment.path}: can not be read to its end: {error}") from error


@lru_cache(maxsize=1024)
def _folder(source: str) -> str:
    """The source's name, as a folder's whatever is in it."""
    if _SAFE.fullmatch(source):
        return source
    return quote(source, safe="").replace(".", "%2E")[:200] or "%"


@lru_cache(maxsize=1024)
def _day(ordinal: int) -> str:
    moment = datetime.fromordinal(ordinal).replace(tzinfo=UTC)
    return str(round(moment.timestamp()) * 1000)
