"""A destination that is down is probed, not hammered. Pure: the caller acts on what it says.

    closed      attempts go out as usual; after `THRESHOLD` failures in a row, none of which shows life: open
    open        nothing goes out until the next probe is due
    probing     one attempt is out; alive: closed; failed: open again, for twice as long

An answer that shows the destination at work (2xx, 4xx, 429) closes the breaker: only 5xx, network faults and timeouts
open it. Deliveries that wait behind an open breaker use up no attempts; what their window means then is in
`relayd.delivery.actor`.
"""

from collections.abc import Callable

THRESHOLD = 10
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between probes."""


class Breaker:
    """Times are monotonic seconds; ``random`` gives [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0
        self._wait = 0.0
        self._probe_at = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._wait > 0

    @property
    def probe_at(self) -> float:
        """When the next probe may go out; of meaning while open and not probing."""
        return self._probe_at

    @property
    def probing(self) -> bool:
        return self._probing

    def allows(self, now: float) -> bool:
        """Whether an attempt may start now."""
        return not self.is_open or (not self._probing and now >= self._probe_at)

    def started(self) -> None:
        """An attempt went out."""
        if self.is_open:
            self._probing = True

    def put_back(self) -> None:
        """An attempt was taken back without an outcome."""
        self._probing = False

    def ended(self, *, alive: bool, now: float) -> None:
        """An attempt came to an end. Those that were out before the breaker opened count like a probe."""
        self._probing = False
        if alive:
            self._failures, self._wait = 0, 0.0
            return
        self._failures += 1
        if self._failures < THRESHOLD:
            return
        if not self.is_open or now >= self._probe_at:
            self._wait = min(max(self._wait * 2, FIRST_WAIT), LONGEST_WAIT)
            self._probe_at = now + self._wait * (1 - 0.5 * self._random())
