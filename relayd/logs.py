"""Logging: readable on a terminal, JSON lines elsewhere, secrets redacted in either."""

import logging
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import structlog

from relayd.config import model

REDACTED = "[redacted]"


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
    """Set structlog up for the process, writing to stderr."""

    def redact_values(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = redact(value)
        return event

    console = daemon.log_format == "console" or (daemon.log_format == "auto" and sys.stderr.isatty())
    rendering: list[structlog.typing.Processor]
    if console:
        rendering = [redact_values, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        rendering = [structlog.processors.format_exc_info, redact_values, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[daemon.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
