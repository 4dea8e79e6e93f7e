"""Appends to files, as a transport: the other half of ``relayd.destinations.file``.

Guarantees
- Answered 200, the lines are on disk: written, fdatasynced, and a new file's name with them.
- A file holds whole lines only. An append that fails is taken back. What a crash left of one is mended before the next:
  a last line without its newline is given it if it is whole JSON, else it is moved to ``NAME.torn``. It was never
  answered 200, so its events come again.
- A file is larger than ``max-size`` only when a single append is. It is renamed before, which is atomic, to
  ``STEM-YYYYMMDDTHHMMSS.ffffffZ.SUFFIX`` (UTC); a reader that has it open reads on undisturbed.
- One writer at a time: appends queue up, also those of another destination or a replay, and the file is locked (flock)
  against other processes.

The file is opened anew for each append, so a file moved or deleted by others is simply made again.

Fails with `httpx.WriteError`, the ``OSError`` as its cause: a full disk, a missing directory or right is retried like
any network fault, and its message says what to do. A cancellation takes effect when the append has ended.
"""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

import httpx
import msgspec
import trio

from relayd.delivery.connection import Answer, Timeouts
from relayd.delivery.transport import NO_TIMEOUTS

MODE = 0o640
"""Of a new file: events are personal data."""
MAX_TORN = 64 * 2**20
"""Bytes of a last line without its newline, at most; with a longer one a file is not JSON Lines."""

_BLOCK = 64 * 2**10
_TIME = "%Y%m%dT%H%M%S.%fZ"
_TIME_PATTERN = r"\d{8}T\d{6}\.\d{6}Z"
_ADVICE = {
    errno.ENOSPC: "its disk is full; make room",
    errno.EDQUOT: "the disk quota of relayd's user is used up; raise it or make room",
    errno.EACCES: "relayd's user may not write there; give it the right",
    errno.EPERM: "relayd's user may not write there; give it the right",
    errno.EROFS: "its file system is mounted read-only",
    errno.ENOENT: "its directory is not there; make it",
    errno.EISDIR: "it is a directory",
    errno.EWOULDBLOCK: "another process is writing it",
}
_TURNS: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
"""By the path of the file."""


class FileTransport:
    """Carries out ``APPEND file:///PATH``; has the `send` and `aclose` of ``relayd.delivery.transport.Transport``."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """``clock``, in Unix seconds, names rotated files."""
        self._clock = clock

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts = NO_TIMEOUTS
    ) -> Answer:
        """Append ``body``, whole lines, and answer 200 once it is on disk; see the module for how it fails.

        ``timeouts`` is there for the likeness with the HTTP transport: a disk has none.
        """
        assert method == "APPEND", method
        path = unquote(urlsplit(url).path)
        limits = int(headers.get("max-size", "0")), int(headers.get("keep", "0"))
        async with _TURNS.setdefault(path, trio.Lock()):
            try:
                await trio.to_thread.run_sync(append, Path(path), body, *limits, self._clock())
            except OSError as error:
                advice = _ADVICE.get(error.errno or 0, error.strerror or repr(error))
                raise httpx.WriteError(f"can not append to {path}: {advice}") from error
        return Answer(status=200, headers=[], body=b"", http_version="", truncated=False)

    async def aclose(self) -> None:
        """Nothing is open between appends."""
        await trio.lowlevel.checkpoint()


def append(path: Path, lines: bytes, max_size: int, keep: int, now: float) -> None:
    """Append whole ``lines`` durably, mending and rotating the file first where it must be; blocks.

    ``max_size`` in bytes and ``keep`` in rotated files, 0: no limit; ``now`` in Unix seconds. Raises ``OSError``, then
    the file is as it was.
    """
    with _locked(path) as file:
        size = _mend(path, file)
        if not max_size or not size or size + len(lines) <= max_size:
            _write(path, file, lines, size)
            return
        _rotate(path, keep, now)
    with _locked(path) as file:
        _write(path, file, lines, _mend(path, file))


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The open file, ours alone until it is closed."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):
                yield file
                return
        finally:
            os.close(file)


def _is_at(path: Path, file: int) -> bool:
    """Whether the file still has its name: another process may have rotated it before we had the lock."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write(path: Path, file: int, lines: bytes, size: int) -> None:
    """Append to a file of ``size`` bytes, all or nothing, and sync."""
    try:
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fdatasync(file)
        if size == 0:
            _sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def _mend(path: Path, file: int) -> int:
    """See to it that the last line is whole; returns the file's size."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return size
    torn = _last_line(file, size)
    if _whole(torn):
        _write(path, file, b"\n", size)
        return size + 1
    aside = path.with_name(f"{path.name}.torn")
    copy = os.open(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        _write(aside, copy, torn + b"\n", os.fstat(copy).st_size)
    finally:
        os.close(copy)
    os.ftruncate(file, size - len(torn))
    return size - len(torn)


def _whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _last_line(file: int, size: int) -> bytes:
    """What follows the last newline."""
    line = b""
    while len(line) < min(size, MAX_TORN):
        start = max(size - len(line) - _BLOCK, 0)
        block = os.pread(file, size - len(line) - start, start)
        _, newline, after = block.rpartition(b"\n")
        line = after + line
        if newline:
            return line
    if len(line) < size:
        raise OSError(errno.EINVAL, f"its last line is longer than {MAX_TORN} bytes; it is not JSON Lines")
    return line


def _rotate(path: Path, keep: int, now: float) -> None:
    """Give the file a name of its time, and delete the oldest such files but ``keep``."""
    moment = datetime.fromtimestamp(now, UTC)
    while (rotated := path.with_name(f"{path.stem}-{moment.strftime(_TIME)}{path.suffix}")).exists():
        moment += timedelta(microseconds=1)
    path.rename(rotated)
    if keep:
        name = re.compile(f"{re.escape(path.stem)}-{_TIME_PATTERN}{re.escape(path.suffix)}")
        for old in sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))[:-keep]:
            old.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
