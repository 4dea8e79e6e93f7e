"""The formats a field's text may have to follow.

The names are JSON Schema's and mean what ajv-formats takes them for; "date-like" is that of datetime fields, which take
what dayjs takes: ISO 8601 in many spellings, Unix times, and what V8's ``Date`` makes of other texts. Of the last,
relayd knows what people write, such as "Tue, 2 Jan 2026 03:04 PM GMT+1" and "1/2/2026".
"""

import re
from collections.abc import Callable
from datetime import date
from ipaddress import AddressValueError, IPv6Address

from relayd.actions.javascript import number_to_string, to_number

_LAST_SECOND = 8.64e12
_LAST_YEAR = 275_760
"""JavaScript's time ends there."""

_DAYJS = re.compile(
    r"[0-9]{4}[-/]?(?:[0-9]{1,2})?[-/]?[0-9]{0,2}[Tt\s]*(?:[0-9]{1,2})?:?(?:[0-9]{1,2})?:?(?:[0-9]{1,2})?[.:]?[0-9]*"
)
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_ISO = re.compile(
    rf"(?:[0-9]{{4}}|\+[0-9]{{6}}|-(?!000000)[0-9]{{6}})(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01]))?)?"
    rf"(?:[Tt](?:24:00(?::00)?|{_HOUR}:{_SIXTY}(?::{_SIXTY}(?:\.[0-9]+)?)?)(?:[Zz]|[+-]{_HOUR}:?{_SIXTY})?)?"
)
_TIME = re.compile(
    r"(?<![0-9:.])(?P<hour>[0-9]{1,2}):(?P<minute>[0-5]?[0-9])(?::(?P<second>[0-5]?[0-9])(?:\.[0-9]+)?)?(?![0-9:.])"
    r"\s*(?P<half>[ap]m\b)?\s*(?:(?:z|utc?|gmt|[ecmp][ds]t)\b)?\s*(?:[+-](?:[0-9]{3,4}|[0-9]{1,2}(?::[0-9]{1,2})?)?(?![0-9]))?"
)
_PART = re.compile(r"(?P<number>[0-9]+)|(?P<word>[^\W\d]+)(?=(?P<glued>[0-9])?)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def is_date(text: str) -> bool:
    """Whether dayjs finds a valid date in the text; a plain number is a Unix time in seconds."""
    if _ISO.fullmatch(text):
        return True
    number = to_number(text)
    if number_to_string(number) == text:
        return abs(number) <= _LAST_SECOND
    if _DAYJS.fullmatch(text) and not text.endswith(("Z", "z")):
        return True
    return _is_written_date(text.lower())


def _is_written_date(text: str) -> bool:
    """A date of words and numbers, perhaps with a time.

    Unknown words before the first number do not count, nor does what is in parentheses.
    """
    text = re.sub(r"\([^()]*\)?", " ", text)
    if time := _TIME.search(text):
        if int(time["hour"]) > (12 if time["half"] else 23):
            return False
        text = f"{text[: time.start()]} {text[time.end() :]}"
    numbers: list[int] = []
    month = 0
    for part in _PART.finditer(text):
        if part["number"]:
            numbers.append(int(part["number"][:9]))
        elif part["word"].startswith(_MONTHS):
            month = 1 + _MONTHS.index(part["word"][:3])
        elif numbers or part["glued"]:
            return False
    return 1 <= len(numbers) <= 3 and _is_calendar_day(numbers, month)


def _is_calendar_day(numbers: list[int], month: int) -> bool:
    one, two, three = [*numbers, 1, 1][:3]
    if month:
        day, year = (one, two) if 1 <= one <= 31 else (two, one)
    elif 1 <= one <= 31:
        month, day, year = one, two, three
    else:
        year, month, day = one, two, three
    return 1 <= month <= 12 and 1 <= day <= 31 and year <= _LAST_YEAR


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE | re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return "%" not in text


def _is_day(text: str) -> bool:
    try:
        return re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is not None and date.fromisoformat(text) is not None
    except ValueError:
        return False


def _is_date_time(text: str) -> bool:
    return _is_day(text[:10]) and text[10:11] in ("T", "t", " ") and _is_time(text[11:])


_BYTE = "(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_is_time = _matches(rf"(?:{_HOUR}:{_SIXTY}:{_SIXTY}|23:59:60)(?:\.[0-9]+)?(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)?")

FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _is_day,
    "date-like": is_date,
    "date-time": _is_date_time,
    "email": _matches(rf"{_ATOM}(?:\.{_ATOM})*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"),
    "hostname": _matches(rf"(?=.{{1,253}}\.?$){_LABEL}(?:\.{_LABEL})*\.?"),
    "ipv4": _matches(rf"(?:{_BYTE}\.){{3}}{_BYTE}"),
    "ipv6": _is_ipv6,
    "password": lambda _: True,
    "text": lambda _: True,
    "time": _is_time,
    "uri": _matches(r"[a-z][a-z0-9+.-]*:(?:[a-z0-9._~:/?#@!$&'()*+,;=\[\]-]|%[0-9a-f]{2})+"),
    "uuid": _matches("(?:urn:uuid:)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),
}
