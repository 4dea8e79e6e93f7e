"""The same message of the same destination is logged so often at most; how many more there were is told afterwards.

What makes two messages the same: their text, and the values of `IDENTITY`. A window begins with the first of them; the
first `MOST` of a window pass, the others are counted, and when it is over the count is logged as ``left_out``, with the
last one's fields. Debug messages all pass. Nothing waits here: the count is told at the next message of any kind, or by
`Repeats.tell`.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from msgspec import Struct

MOST = 5
WINDOW = 60.0
"""Seconds."""
IDENTITY = ("destination", "source", "replay", "copy", "name", "id", "path", "text")
_KEYS = 1000
"""Different messages that are known at once; with more, the oldest window ends early."""

_Key = tuple[object, ...]


class _Window(Struct):
    ends: float
    method: str
    passed: int = 0
    left_out: int = 0
    last: dict[str, Any] = {}


class Repeats:
    """A processor of structlog's, which comes first; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: OrderedDict[_Key, _Window] = OrderedDict()
        """All are of one length, so they end in the order in which they began."""

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The message, as it is. Raises ``structlog.DropEvent`` when it is left out."""
        if method == "debug" or "left_out" in event:
            return event
        key = (method, event.get("event"), *(str(event[name]) for name in IDENTITY if name in event))
        now = self._clock()
        with self._lock:
            ended = self._end(now)
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(now + WINDOW, method)
                if len(self._windows) > _KEYS:
                    ended.append(self._windows.popitem(last=False)[1])
            passes = window.passed < MOST
            if passes:
                window.passed += 1
            else:
                window.left_out += 1
                window.last = dict(event)
        _log(ended)
        if not passes:
            raise structlog.DropEvent
        return event

    def tell(self, *, everything: bool = False) -> None:
        """Log what was left out in windows that are over, or in all of them."""
        with self._lock:
            ended = self._end(float("inf") if everything else self._clock())
        _log(ended)

    def _end(self, now: float) -> list[_Window]:
        ended = []
        while self._windows and next(iter(self._windows.values())).ends <= now:
            ended.append(self._windows.popitem(last=False)[1])
        return ended


def _log(windows: list[_Window]) -> None:
    for window in windows:
        if window.left_out:
            getattr(structlog.get_logger(__name__), window.method)(**window.last, left_out=window.left_out)
