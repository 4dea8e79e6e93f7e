"""Durations, sizes and rates as they are written in the configuration.

Each type is a plain number with a parser: ``Duration`` counts seconds, ``Size`` counts bytes, ``Rate`` counts events
a second. A text that is none raises ``ValueError`` with what is allowed.
"""

import re
from collections.abc import Mapping
from typing import Self

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_DURATIONS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_RATES = {"s": 1, "m": 60, "min": 60, "h": 3600}


def _parse(text: str, units: Mapping[str, float], example: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not {example}; units are {', '.join(units)}")
    return float(match[1]) * units[match[2]]


class Duration(float):
    """Seconds; written as "250ms", "10s", "4h" or "30d"."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(_parse(text, _DURATIONS, 'a duration such as "10s" or "4h"'))

    def __str__(self) -> str:
        if 0 < self < 1:
            return f"{self * 1000:g}ms"
        unit = next((name for name in ("d", "h", "m") if self and self % _DURATIONS[name] == 0), "s")
        return f"{self / _DURATIONS[unit]:g}{unit}"


class Size(int):
    """Bytes; written as "500KB", "64MB" or "20GB". A KB is 1,024 bytes, as in the limits of Segment's SDKs."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(_parse(text, _SIZES, 'a size such as "500KB" or "64MB"'))

    def __str__(self) -> str:
        unit = next((name for name in ("TB", "GB", "MB", "KB") if self and self % _SIZES[name] == 0), "B")
        return f"{self // _SIZES[unit]}{unit}"


class Rate(float):
    """Events a second; written as "100/s", "600/min" or "5000/h"."""

    @classmethod
    def parse(cls, text: str) -> Self:
        number, slash, unit = text.partition("/")
        if not slash or unit.strip() not in _RATES:
            raise ValueError(f'{text!r} is not a rate such as "100/s"; units are {", ".join(_RATES)}')
        return cls(_parse(number, {"": 1}, 'a rate such as "100/s"') / _RATES[unit.strip()])

    def __str__(self) -> str:
        return f"{self:g}/s"
