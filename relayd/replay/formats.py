"""Archived logs as one endless log: relayd's own or Segment's, from a file or a folder of files.

    *.jsonl, *.jsonl.zst    relayd's journal and archive
    *.gz                    gzip JSON Lines, as Segment writes them: plain, or as segment-logs/SOURCE/DAY/*.gz

Files are read in the order of their paths, so by source and day in Segment's layout. A place in the log is
``number of the file * 2^40 + bytes of its uncompressed text``; a reader that starts in the middle of a file inflates
what comes before, and throws it away.

A line that is no event is passed over, counted, and written down with its place. A file that is cut off or damaged is
read up to the break, and that is written down and counted too. Memory is bounded by `LONGEST_LINE`.
"""

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from pyzstd import SeekableZstdFile, ZstdFile

from relayd.event import format_time, parse_time
from relayd.journal.segment import DAMAGE, RAW, SEALED, SEGMENT_LOGS

FILE = 2**40
"""The places that a file takes."""
CHUNK = 2**20
"""Bytes of text read at once."""
LONGEST_LINE = 16 * 2**20
"""Bytes of a line; a longer one is no event."""

_GZIP = ".gz"
_SUFFIXES = (RAW, SEALED, _GZIP)
_BROKEN = (OSError, zlib.error, *DAMAGE)
_LOOKED_AT = ("type", "event", "name", "userId", "anonymousId")
_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode


class _Known(Struct):
    """What an event must have, and what is changed of it."""

    type: str | None = None
    messageId: str | None = None  # noqa: N815  the field's name
    projectId: str | None = None  # noqa: N815
    receivedAt: str | None = None  # noqa: N815
    timestamp: str | None = None
    writeKey: Raw | UnsetType = UNSET  # noqa: N815


_decode_known = msgspec.json.Decoder(_Known).decode


class NoArchive(ValueError):
    """There are no archived logs at a path; the text says what was looked for."""


class Bad(NamedTuple):
    """Something in an archive that is no event."""

    file: str
    line: int | None
    """From 1; None when it is about the file."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.what}"


class Piece(NamedTuple):
    """A stretch of a log."""

    data: bytes
    """Its events, as journal lines."""
    bad: int = 0
    """Lines that are no events, and breaks."""


def files_of(path: Path) -> list[Path]:
    """The archived logs at ``path``, in the order in which they are read. Raises `NoArchive`, or ``OSError``. Blocks.

    What relayd's archive has twice (its second layout, or a segment that was being sealed) is read once.
    """
    if path.is_file():
        found = [path] if path.name.endswith(_SUFFIXES) else []
    else:
        found = sorted(each for each in path.rglob("*") if each.name.endswith(_SUFFIXES) and each.is_file())
    segments: set[str] = set()
    once = []
    for each in sorted(found, key=lambda each: each.name.endswith(_GZIP)):
        stem = each.name.partition(".")[0]
        if stem.isdigit() and stem in segments and (not each.name.endswith(_GZIP) or SEGMENT_LOGS in each.parts):
            continue
        if not each.name.endswith(_GZIP):
            segments.add(stem)
        once.append(each)
    if not once:
        raise NoArchive(f"{path} has no archived logs: files that end in {', '.join(_SUFFIXES)}")
    return sorted(once)


class ArchiveReader:
    """Reads `files_of` a path. Blocks; one thread at a time. A file that can not be opened is a break too."""

    def __init__(
        self,
        files: Sequence[Path],
        offset: int,
        *,
        source: str | None,
        report: Callable[[Bad], None],
        chunk: int = CHUNK,
    ) -> None:
        """``source`` is what events count as coming from that name none, or are in its folder in Segment's layout.

        ``chunk`` is how many bytes of text are read at once.
        """
        self.offset = offset
        self._files = files
        self._source = source
        self._report = report
        self._chunk = chunk
        self._text: _Text | None = None
        self._number = 0
        self._position = 0
        self._line = 0
        self._rest = b""
        self._overlong = 0
        """Bytes of a line that were thrown away because it is too long."""

    @property
    def share(self) -> float:
        """How much was read, 0 to 1: of the files, and of the bytes of the one that is open."""
        text = self._text
        within = 0.0 if text is None else text.share
        return min((self.offset // FILE + within) / len(self._files), 1.0)

    def seek(self, offset: int) -> None:
        """Go on at ``offset``."""
        self.offset = offset
        self.close()

    def close(self) -> None:
        """Close the open file; the offset is kept."""
        if self._text is not None:
            self._text.close()
            self._text = None

    def next(self) -> Piece | None:
        """The next events; None at the end."""
        while self._text is not None or self._open():
            assert self._text is not None
            more = self._text.read(self._chunk)
            data = self._rest + more
            cut = data.rfind(b"\n") + 1 if more else len(data)
            self._rest = data[cut:]
            if not cut and len(self._rest) > LONGEST_LINE:
                self._overlong += len(self._rest)
                self._rest = b""
            if not more:
                return self._last_piece(data, self._text.damage)
            if cut:
                self._position += self._overlong + cut
                self.offset = self._number * FILE + self._position
                return self._piece(data[: cut - 1].split(b"\n"))
        return None

    def _last_piece(self, rest: bytes, damage: str | None) -> Piece:
        """A file ends with ``rest``."""
        whole = self._line
        self._next_file()
        if damage is None:
            return self._piece([rest]) if rest or self._overlong else Piece(b"")
        self._bad(None, f"it is damaged after line {whole}: {damage}")
        try:
            return Piece(as_kept(rest, self._source, self._folder) + b"\n", 1)
        except (ValueError, msgspec.DecodeError):
            return Piece(b"", 1)

    def _piece(self, lines: Sequence[bytes]) -> Piece:
        events, bad = [], 0
        for line in lines:
            self._line += 1
            try:
                if self._overlong:
                    self._overlong = 0
                    raise ValueError(f"it is longer than {LONGEST_LINE:,} bytes")  # noqa: TRY301  as of other lines
                if line and not line.isspace():
                    events.append(as_kept(line, self._source, self._folder))
            except (ValueError, msgspec.DecodeError) as error:
                bad += 1
                self._bad(self._line, str(error))
        return Piece(b"\n".join([*events, b""]), bad)

    def _bad(self, line: int | None, what: str) -> None:
        self._report(Bad(str(self._files[self._number]), line, what))

    def _open(self) -> bool:
        self._number, self._position = divmod(self.offset, FILE)
        if self._number >= len(self._files):
            return False
        path = self._files[self._number]
        self._text = text = _Text(path)
        self._folder = _source_folder(path)
        self._line, self._rest, self._overlong = 0, b"", 0
        left = self._position
        while left and (data := text.read(min(self._chunk, left))):
            left -= len(data)
            self._line += data.count(b"\n")
        return True

    def _next_file(self) -> None:
        self.close()
        self.offset = (self._number + 1) * FILE


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class _Text:
    """A file's text, inflated."""

    def __init__(self, path: Path) -> None:
        """Where it can not be opened, that is its damage."""
        self.damage: str | None = None
        """What keeps it from being read to its end."""
        self.share = 0.0
        """How much of the file was read, 0 to 1."""
        self._doubt: str | None = None
        self._raw: BinaryIO | None = None
        try:
            self._raw = path.open("rb")
            self._size = path.stat().st_size
            self._file, self._doubt = _inflated(path, self._raw)
        except OSError as error:
            self.damage = error.strerror or str(error)

    def read(self, size: int) -> bytes:
        """The next bytes, ``size`` of them if there are so many; none at the end, and at the damage."""
        parts = []
        while size and self.damage is None:
            assert self._raw is not None
            try:
                data = self._file.read1(size)
            except _BROKEN as error:
                self.damage = str(error)
                break
            self.share = self._raw.tell() / self._size if self._size else 1.0
            if not data:
                self.damage = self._doubt
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()


def _inflated(path: Path, raw: BinaryIO) -> tuple[_Readable, str | None]:
    """What reads the text of a file, and what is to be said of it when all of that was read."""
    if path.name.endswith(_GZIP):
        return gzip.GzipFile(fileobj=raw, mode="rb"), None
    if not path.name.endswith(SEALED):
        return cast("_Readable", raw), None
    doubt = None
    if path.name.removesuffix(SEALED).isdigit():
        try:
            SeekableZstdFile(path).close()
        except _BROKEN:
            doubt = "its index is gone, as of a file that is cut off"
    return ZstdFile(raw), doubt


def _source_folder(path: Path) -> str | None:
    """SOURCE of segment-logs/SOURCE/DAY/*.gz."""
    return path.parts[-3] if len(path.parts) > 3 and path.parts[-4] == SEGMENT_LOGS else None


def as_kept(line: bytes, source: str | None, folder: str | None = None) -> bytes:
    """An archived event as a journal line would have it. Raises ``ValueError`` or ``msgspec.DecodeError``.

    It comes from its own ``projectId``, else the source that its ``folder`` names, else ``source``; but from ``source``
    if the folder names that.
    """
    try:
        if not line.isascii():
            line.decode()
        known = _decode_known(line)
        for name, text in (("type", known.type), ("messageId", known.messageId)):
            if not text:
                raise ValueError(f"it has no {name}")
        time = parse_time(known.receivedAt or known.timestamp or "")
        if time is None:
            raise ValueError("it has no time of receipt")
        received = format_time(time)
    except (RecursionError, OverflowError, OSError) as error:
        raise ValueError(str(error)) from None
    origin = known.projectId or folder or source or "archive"
    if source is not None and folder == source:
        origin = source
    as_it_is = known.writeKey is UNSET and (known.projectId, known.receivedAt) == (origin, received)
    if as_it_is and b"\\" not in line and b"\r" not in line:
        return line.strip()
    fields = _decode(line)
    fields.pop("writeKey", None)
    fields |= {"projectId": Raw(_encode(origin)), "receivedAt": Raw(_encode(received))}
    for name in _LOOKED_AT:  # which a selection finds by how they are written
        if name in fields:
            fields[name] = Raw(_encode(_decode_any(fields[name])))
    encoded = _encode(fields)
    return msgspec.json.format(encoded, indent=-1) if b"\r" in line else encoded
