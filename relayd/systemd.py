"""What passes between relayd and the systemd that started it: sockets and a watchdog one way, news the other.

systemd passes listening sockets as files 3 and up (``LISTEN_FDS``), and says where it wants to be told
(``NOTIFY_SOCKET``) and how often it wants a sign of life (``WATCHDOG_USEC``); sd_listen_fds(3), sd_notify(3) and
sd_watchdog_enabled(3) have the protocol. A message is one datagram. What was not asked for is not sent.

Telling systemd never waits and never fails: if it does not take a message, the next one says the same.
"""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Self

import trio
from msgspec import Struct

_FIRST = 3
"""The first file that is passed."""
_REPORT = 10.0
"""Seconds between two looks at the figures."""
_FEEDS = 3
"""Signs of life in the time after which systemd misses one."""


class Manager(Struct, frozen=True):
    """The systemd that started this process, or, as made without arguments, nobody."""

    address: str = ""
    """Where it listens; "@" for the null byte of an abstract socket. Empty: nowhere."""
    watchdog: float = 0.0
    """It ends us when it hears nothing for so many seconds; 0: it does not care."""
    files: range = range(0)
    """The listening sockets that it passed."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int) -> Self:
        """What ``environ`` says to the process ``pid``. Takes it out, so that processes we start are told nothing.

        The sockets are marked not to be inherited either. What is meant for another process, or makes no sense, is not
        there.
        """
        said = {name: environ.pop(name, "") for name in _NAMES}

        def number(name: str, addressee: str) -> int:
            meant = said[addressee] in ("", str(pid)) if addressee == "WATCHDOG_PID" else said[addressee] == str(pid)
            return int(said[name]) if meant and said[name].isdecimal() else 0

        files = range(_FIRST, _FIRST + number("LISTEN_FDS", "LISTEN_PID"))
        for file in files:
            with contextlib.suppress(OSError):  # who listens on it says what is wrong with it
                os.set_inheritable(file, False)
        return cls(said["NOTIFY_SOCKET"], number("WATCHDOG_USEC", "WATCHDOG_PID") / 1e6, files)

    def ready(self, figures: str) -> None:
        """Say that relayd accepts events, with a first line of ``figures``."""
        self._send("READY=1", f"STATUS={figures}")

    def stopping(self, seconds: float) -> None:
        """Say that relayd has begun to stop, which may take so long."""
        self._send("STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    async def inform(self, figures: Callable[[], str], progress: Callable[[], Awaitable[object]]) -> None:
        """Until cancelled: tell the ``figures`` when they change, and feed the watchdog after each ``progress()``.

        While ``progress()`` does not return, nor the event loop goes round, the watchdog gets nothing.
        """
        async with trio.open_nursery() as nursery:
            if self.address:
                nursery.start_soon(self._report, figures)
            if self.address and self.watchdog:
                nursery.start_soon(self._feed, progress)

    async def _report(self, figures: Callable[[], str]) -> None:
        told = ""
        while True:
            await trio.sleep(_REPORT)
            line = figures()
            if line != told:
                self._send(f"STATUS={line}")
                told = line

    async def _feed(self, progress: Callable[[], Awaitable[object]]) -> None:
        while True:
            await progress()
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog / _FEEDS)

    def _send(self, *lines: str) -> None:
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        message = "\n".join(line.replace("\n", " ") for line in lines)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)


_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
