"""The value of a datetime field as the numbers and texts that vendors ask for.

Such a field is a number, which is milliseconds since 1970 as JavaScript's ``Date`` takes it, or a text. Of texts these
are read: ISO 8601, also with slashes in its date; a whole number, which is milliseconds too unless it has the eight
digits of a date; and dates as e-mail writes them (RFC 5322). A text without a zone is UTC. Fractions of a millisecond
are cut off, as ``Date`` does.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import isfinite

from relayd.event import format_time, parse_time

__all__ = ["iso", "milliseconds", "seconds"]

_WHOLE = re.compile("-?(?![0-9]{8}$)[0-9]{1,17}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_USUAL = len("2026-11-24T10:54:44.188Z")
"""As relayd writes times, which `parse_time` reads in a sixth of the time."""
_LAST = 8.64e15
"""JavaScript's time ends there, in milliseconds."""


def milliseconds(value: object) -> int | None:
    """Unix milliseconds of a datetime field's value; None for what is no time, or is written in another way."""
    if isinstance(value, str):
        if len(value) == _USUAL and value[-1] == "Z" and (time := parse_time(value)) is not None:
            return time
        text = value.strip()
        value = int(text) if _WHOLE.fullmatch(text) else _written(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or abs(value) > _LAST:
        return None
    return int(value)


def seconds(value: object) -> int | None:
    """Whole Unix seconds of a datetime field's value, or None as `milliseconds` says."""
    time = milliseconds(value)
    return None if time is None else time // 1000


def iso(value: object) -> str | None:
    """A datetime field's value in ISO 8601, UTC and milliseconds; None as `milliseconds` says, or beyond year 9999."""
    time = milliseconds(value)
    try:
        return None if time is None else format_time(time)
    except (ValueError, OverflowError, OSError):
        return None


def _written(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text[:10].replace("/", "-") + text[10:])
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND
