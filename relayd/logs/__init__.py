"""Logging: readable on a terminal, fields under systemd's journald, JSON lines elsewhere; secrets redacted in any.

Whatever goes to the journal has a priority: JSON lines get theirs as the prefix ``<N>``, which journald takes off. The
same message is not logged all the time (`relayd.logs.repeats`).
"""

import logging
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import structlog
import trio

from relayd.config import model
from relayd.logs import journald
from relayd.logs.repeats import Repeats

REDACTED = "[redacted]"
_LOOK = 10.0
"""Seconds between two looks for what was left out."""
_repeats = Repeats()


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that puts `REDACTED` in place of every secret in a text, also as HTTP Basic sends it."""
    known = {form for secret in secrets for form in (secret, b64encode(f"{secret}:".encode()).decode().rstrip("="))}
    ordered = sorted(known, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in ordered:
            if secret in text:
                text = text.replace(secret, REDACTED)
        return text

    return redact


def set_up(daemon: model.Daemon, redact: Callable[[str], str]) -> None:
    """Set structlog up for the process, writing to stderr, or to journald where that is what stderr is."""

    def redact_values(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = redact(value)
        return event

    to_journal = journald.is_stderr(os.environ)
    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    factory: Callable[..., object] = structlog.PrintLoggerFactory(file=sys.stderr)
    rendering: list[structlog.typing.Processor]
    if daemon.log_format == "console" or (daemon.log_format == "auto" and sys.stderr.isatty()):
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        rendering = [time, redact_values, console]
    elif daemon.log_format == "auto" and to_journal and journald.SOCKET.exists():
        rendering = [structlog.processors.format_exc_info, redact_values, _encode]
        sender = journald.Journald(journald.SOCKET)
        factory = lambda *args: sender  # noqa: E731
    else:
        rendering = [time, structlog.processors.format_exc_info, redact_values]
        rendering += [_with_priority] if to_journal else [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[_repeats, structlog.processors.add_log_level, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[daemon.log_level.upper()]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )


async def tell_left_out() -> None:
    """Until cancelled, and then a last time: log how many repeats were left out, once their window is over."""
    try:
        while True:
            await trio.sleep(_LOOK)
            _repeats.tell()
    finally:
        _repeats.tell(everything=True)


def _encode(logger: object, method: str, event: MutableMapping[str, Any]) -> bytes:
    return journald.encode(event)


def _with_priority(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    line = structlog.processors.JSONRenderer()(logger, method, event)
    return f"<{journald.PRIORITIES.get(event['level'], 6)}>{line if isinstance(line, str) else line.decode()}"
