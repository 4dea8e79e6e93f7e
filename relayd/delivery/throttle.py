"""How many requests or events a second may go out (the generic cell rate algorithm, ITU-T I.371). Pure."""


class Throttle:
    """``rate`` of them a second, spaced evenly, with a burst of a tenth of a second; None is no limit."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 0.0 if rate is None else 1 / rate
        self._slack = max(0.1 - self._interval, 0.0)
        self._next = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next may go out; 0: now. Monotonic seconds."""
        return max(self._next - self._slack - now, 0.0)

    def take(self, now: float, count: int = 1) -> None:
        """So many go out."""
        self._next = max(self._next, now) + self._interval * count
