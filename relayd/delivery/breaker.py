"""A destination that is down is probed, not hammered. Pure: the caller acts on what it says.

    closed    attempts go out as usual
    suspect   `THRESHOLD` failures in a row: one attempt at a time, `PACE` apart
    open      and no life for `SURE` seconds: one probe at a time, after 1 s, 2 s, 4 s, ... 60 s (half of it random)

Any sign of life closes it: 2xx, 4xx, 429; only 5xx, network faults and timeouts count as failures. So a destination
that fails some events, however often, does not count as down as long as it takes others.

Deliveries that wait behind an open breaker use up no attempts; what their window means then is in
`relayd.delivery.actor`.
"""

import math
from collections.abc import Callable

THRESHOLD = 10
PACE = 0.05
SURE = 10.0
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between probes."""


class Breaker:
    """Times are monotonic seconds; ``random`` gives [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.is_open = False
        self._random = random
        self._failures = 0
        self._failing_since = 0.0
        self._wait = 0.0
        self._next = 0.0
        self._one_is_out = False

    @property
    def is_suspect(self) -> bool:
        """Whether attempts go out one at a time, be it open or not."""
        return self._failures >= THRESHOLD

    def wait(self, now: float) -> float:
        """Seconds until an attempt may start; 0: now, infinite: when the one that is out has ended."""
        if not self.is_suspect:
            return 0.0
        return math.inf if self._one_is_out else max(self._next - now, 0.0)

    def started(self) -> None:
        """An attempt went out."""
        self._one_is_out = self.is_suspect

    def put_back(self) -> None:
        """An attempt ended without telling anything about the destination."""
        self._one_is_out = False

    def ended(self, *, alive: bool, now: float) -> None:
        """An attempt ended. One that was out before the breaker opened counts, but does not postpone the next probe."""
        self._one_is_out = False
        if alive:
            self._failures, self._wait, self.is_open = 0, 0.0, False
            return
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if now < self._next:
            return
        if now - self._failing_since < SURE or not self.is_suspect:
            self._next = now + PACE
            return
        self.is_open = True
        self._wait = min(max(self._wait * 2, FIRST_WAIT), LONGEST_WAIT)
        self._next = now + self._wait * (1 - 0.5 * self._random())
