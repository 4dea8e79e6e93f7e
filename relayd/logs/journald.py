"""Messages to systemd's journal with their fields, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

A message is one datagram: ``MESSAGE``, which has all of it to read, ``PRIORITY``, and each field again by itself, as
``RELAYD_DESTINATION`` and the like, so that ``journalctl RELAYD_DESTINATION=crm`` finds what is said of one. What does
not fit in a datagram goes as a sealed file. Sending never waits: what journald does not take at once is lost, and how
much it was stands in the next message that it takes (``RELAYD_LOST``).
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOCKET = Path("/run/systemd/journal/socket")
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog's, by our levels."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NAME = 64  # bytes of a field's name that journald allows


def is_stderr(environ: Mapping[str, str]) -> bool:
    """Whether what is written to stderr goes to the journal, as systemd says in ``$JOURNAL_STREAM``."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def encode(event: Mapping[str, Any]) -> bytes:
    """A message as structlog has it (``event``, ``level``, ``exception`` and fields) as journald wants it."""
    fields = {name: _text(value) for name, value in event.items() if name not in ("event", "level", "exception")}
    message = " ".join([_text(event.get("event", "")), *(f"{name}={text}" for name, text in fields.items())])
    trace = event.get("exception")
    lines = [
        _line("MESSAGE", f"{message}\n{trace}" if trace else message),
        _line("PRIORITY", str(PRIORITIES.get(event.get("level", ""), 6))),
        _line("SYSLOG_IDENTIFIER", "relayd"),
    ]
    lines += [_line(_field(name), text) for name, text in fields.items()]
    return b"".join(lines)


class Journald:
    """Where structlog's messages end. Its method is named as those of structlog's own loggers are."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 2**20)
        self._lost = 0

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    def msg(self, message: bytes) -> None:
        """Send what `encode` made."""
        if self._lost:
            message += _line("RELAYD_LOST", str(self._lost))
        try:
            self._send(message)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    log = debug = info = warn = warning = error = critical = fatal = exception = msg

    def _send(self, message: bytes) -> None:
        try:
            self._socket.sendto(message, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            file = os.memfd_create("relayd-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                with open(file, "wb", closefd=False) as whole:
                    whole.write(message)
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file))
                self._socket.sendmsg([], [rights], 0, self._path)  # send_fds of Python 3.11 forgets the address
            finally:
                os.close(file)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _field(name: str) -> str:
    return re.sub("[^A-Z0-9_]", "_", f"RELAYD_{name.upper()}")[:_NAME]


def _line(name: str, text: str) -> bytes:
    data = text.encode(errors="replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
