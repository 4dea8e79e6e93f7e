"""Latencies as a histogram with exponential buckets: bounded memory, exact sums, percentiles within 8 %."""

from bisect import bisect_left
from collections.abc import Mapping

_GROWTH = 1.15
BOUNDS = tuple(0.001 * _GROWTH**step for step in range(130))
"""Upper bounds of the buckets in seconds, from 1 ms to about 19 h; the last bucket has none."""


def bucket(seconds: float) -> int:
    """The bucket that counts this latency."""
    return bisect_left(BOUNDS, seconds)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Seconds below which ``share`` (0 to 1) of what the buckets count lies; None when they are empty."""
    total = sum(counts.values())
    if not total:
        return None
    seen = 0
    for place in sorted(counts):
        seen += counts[place]
        if seen >= share * total:
            return round(BOUNDS[min(place, len(BOUNDS) - 1)], 4)
    return None
