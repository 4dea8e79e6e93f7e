"""A function, run in a process of its own.

Why a process: nothing else can be ended for sure. A thread in ``while True`` can not, and takes half of the daemon's
interpreter meanwhile; and what a function leaks, crashes or exits must not be the daemon's. The price is a tenth
of a second when it starts, 25 MB, and less than a millisecond a call.

Guarantees
- It is started by the first call, again when its file has changed (time or size), when it has ended, was ended, or has
  grown too large.
- One call at a time, in the order in which they came. A call that takes longer than its timeout, or whose caller is
  cancelled, ends the process and all that it started.
- When the daemon ends, however it ends, so does the process (see `relayd.functions.worker`).
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import trio

from relayd.functions.protocol import (
    HEADER,
    MAX_FRAME,
    Call,
    Fault,
    Hello,
    Reply,
    decode_hello,
    decode_reply,
    frame,
)

START_TIMEOUT = 10.0
"""Seconds for a file to be imported."""
_RECEIVE = 65_536

Version = tuple[int, int, int]


class Failed(Exception):
    """A call that got no reply. It may work another time; the text says why it did not."""


class TimedOut(Failed):
    """It took too long, and was ended."""


class Crashed(Failed):
    """Its process ended."""


class Unavailable(Failed):
    """Its file can not be imported."""

    def __init__(self, path: Path, fault: Fault) -> None:
        place = str(path) if fault.line is None else f"{path}:{fault.line}"
        super().__init__(f"{place}: {fault.message}")
        self.fault = fault


class Function:
    """One file. Use it as a context manager, or `aclose` it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._absolute = path.absolute()
        self.starts = 0
        """How often its process was started."""
        self._turn = trio.Lock()
        self._worker: _Worker | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self._turn.statistics().tasks_waiting

    @property
    def pid(self) -> int | None:
        """Its process; None when there is none."""
        return self._worker.process.pid if self._worker else None

    async def call(self, call: Call) -> Reply:
        """Run it. Raises `Failed`; a call that did not get a reply may still have had effects outside."""
        async with self._turn:
            worker = await self._ready()
            replied = False
            try:
                with trio.move_on_after(call.timeout):
                    reply = await worker.exchange(call)
                    replied = True
            finally:
                if not replied:
                    await self._end()
            if not replied:
                raise TimedOut(f"it took longer than {call.timeout:g} s, and was ended")
            if reply.last:
                await self._end()
            return reply

    async def inspect(self) -> Hello:
        """What its file is, now. Raises `Failed`, but not `Unavailable`: the fault is in what is returned."""
        async with self._turn:
            try:
                return (await self._ready()).hello
            except Unavailable as error:
                return Hello(fault=error.fault)

    async def aclose(self) -> None:
        """End its process. It may be called again after that."""
        async with self._turn:
            await self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self.aclose()

    async def _ready(self) -> "_Worker":
        """The process, started anew if it must be. Raises `Failed`."""
        try:
            version = _version(self.path)
        except OSError as error:
            await self._end()
            raise Unavailable(self.path, Fault(f"can not be read: {error.strerror}")) from error
        if self._worker is not None and (self._worker.version != version or self._worker.has_ended()):
            await self._end()
        if self._worker is None:
            self._worker = await _Worker.start(self._absolute, version)
            self.starts += 1
            greeted = False
            try:
                with trio.move_on_after(START_TIMEOUT):
                    await self._worker.greet()
                    greeted = True
            finally:
                if not greeted:
                    await self._end()
            if not greeted:
                raise TimedOut(f"{self.path} took longer than {START_TIMEOUT:g} s to be imported")
            fault = self._worker.hello.fault
            if fault is not None:
                await self._end()
                raise Unavailable(self.path, fault)
        return self._worker

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()


def _version(path: Path) -> Version:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Worker:
    """A process, and what it said of itself."""

    def __init__(self, process: trio.Process, version: Version) -> None:
        self.process = process
        self.version = version
        self.hello = Hello()
        self._buffer = bytearray()

    @classmethod
    async def start(cls, path: Path, version: Version) -> Self:
        with trio.CancelScope(shield=True):  # or its process would be nobody's
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "relayd.functions.worker", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return cls(process, version)

    def has_ended(self) -> bool:
        """Whether it is gone; its group still has its number, until `end`."""
        return self._status() is not None

    def _status(self) -> os.waitid_result | None:
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    async def greet(self) -> None:
        """Wait for what it says first. Raises `Crashed`."""
        self.hello = decode_hello(await self._receive())

    async def exchange(self, call: Call) -> Reply:
        """Raises `Crashed`."""
        assert self.process.stdin is not None
        try:
            await self.process.stdin.send_all(frame(call))
            return decode_reply(await self._receive())
        except (trio.BrokenResourceError, msgspec.DecodeError, ValueError) as error:
            raise Crashed(f"its process can not be talked to: {error or 'it is gone'}") from error

    async def _receive(self) -> bytes:
        """The next frame."""
        assert self.process.stdout is not None
        while True:
            size = int.from_bytes(self._buffer[:HEADER], "big") if len(self._buffer) >= HEADER else None
            if size is not None and size > MAX_FRAME:
                raise Crashed("its process sent no message")
            if size is not None and len(self._buffer) >= HEADER + size:
                body = bytes(self._buffer[HEADER : HEADER + size])
                del self._buffer[: HEADER + size]
                return body
            data = await self.process.stdout.receive_some(_RECEIVE)
            if not data:
                raise Crashed(f"its process ended {await self._how()}")
            self._buffer += data

    async def _how(self) -> str:
        """How it ended, once it has."""
        with trio.move_on_after(1):
            while (found := self._status()) is None:  # noqa: ASYNC110  trio would reap it
                await trio.sleep(0.01)
            if found.si_code == os.CLD_EXITED:
                return f"with exit code {found.si_status}"
            return f"by {signal.Signals(found.si_status).name}"
        return "its side of the conversation"

    async def end(self) -> None:
        """End it and its group, and wait for that; it takes no time."""
        with trio.CancelScope(shield=True):
            os.killpg(self.process.pid, signal.SIGKILL)  # not reaped yet, so the number is its own
            for stream in (self.process.stdin, self.process.stdout):
                assert stream is not None
                await stream.aclose()
            await self.process.wait()
