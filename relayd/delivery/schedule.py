"""When a failed delivery is tried again. Pure: the clock and the randomness come in as arguments.

The waits between attempts are ``initial``, ``initial * growth``, ... but ``max_wait`` at most; the share ``jitter`` of
each is random, so that what failed together does not come back together. A delivery is given up (`next_due` is None)
after ``max_attempts``, or when ``window`` seconds have passed since its first attempt; the last attempt falls on the
window's end.

    policy      initial   growth  longest  attempts   window    (Segment's client libraries, and between Segment
    segment     1 s       x 2     20 min   -          4 h        and its destinations: 4 h, randomized)
    cpp         1 s       -       1 s      5          -
    clojure     15 s      x 2     1 h      50         -
    go          100 ms    x 2     10 s     10         -
    java        15 s      x 2     1 h      50         -
    javascript  1 s       x 2     1 h      10         -
    dotnet      100 ms    x 2     6.4 s    7          -
    node        100 ms    x 2     400 ms   3          -
    php         100 ms    x 2     6.4 s    7          -
    python      1 s       x 2     34 min   10         -
    ruby        100 ms    x 2     10 s     10         -
    mobile      30 s      -       30 s     -          -          (at the next flush, for ever)
"""

from collections.abc import Callable

from msgspec import Struct

from relayd.config import model

LONGEST_RETRY_AFTER = 24 * 3600
"""Seconds; a destination that asks for more is asked again after a day."""


class Policy(Struct, frozen=True):
    """Times in seconds; 0 attempts or a window of 0 is no limit; ``jitter`` from 0 (none) to 1 (all of a wait)."""

    initial_wait: float
    growth: float
    max_wait: float
    max_attempts: int = 0
    window: float = 0
    jitter: float = 0.5


POLICIES: dict[model.PolicyName, Policy] = {
    "segment": Policy(1, 2, 1200, window=4 * 3600),
    "cpp": Policy(1, 1, 1, 5),
    "clojure": Policy(15, 2, 3600, 50),
    "go": Policy(0.1, 2, 10, 10),
    "java": Policy(15, 2, 3600, 50),
    "javascript": Policy(1, 2, 3600, 10),
    "dotnet": Policy(0.1, 2, 6.4, 7),
    "node": Policy(0.1, 2, 0.4, 3),
    "php": Policy(0.1, 2, 6.4, 7),
    "python": Policy(1, 2, 34 * 60, 10),
    "ruby": Policy(0.1, 2, 10, 10),
    "mobile": Policy(30, 1, 30),
}


def policy_of(retry: model.Retry) -> Policy:
    """The named policy with the configuration's own numbers over it."""
    base = POLICIES[retry.policy]

    def number(name: str) -> float:
        own = getattr(retry, name)
        return float(getattr(base, name) if own is None else own)

    return Policy(
        initial_wait=number("initial_wait"),
        growth=number("growth"),
        max_wait=number("max_wait"),
        max_attempts=int(number("max_attempts")),
        window=number("window"),
        jitter=number("jitter"),
    )


def wait(policy: Policy, attempts: int, random: Callable[[], float]) -> float:
    """Seconds between attempt number ``attempts`` (from 1) and the next. ``random`` gives [0, 1)."""
    try:
        longest = policy.initial_wait * policy.growth ** (attempts - 1)
    except OverflowError:
        longest = policy.max_wait
    longest = min(longest, policy.max_wait)
    return longest * (1 - policy.jitter * random())


def next_due(
    policy: Policy, *, attempts: int, first: float, now: float, retry_after: float | None, random: Callable[[], float]
) -> float | None:
    """When to try again after ``attempts`` failures, the first at ``first``; None when the delivery has expired.

    ``retry_after`` (seconds, as the destination asked) is a lower bound, also beyond the window's end: there is then
    one more attempt. All times in Unix seconds.
    """
    if policy.max_attempts and attempts >= policy.max_attempts:
        return None
    due = now + wait(policy, attempts, random)
    if policy.window:
        end = first + policy.window
        if now >= end:
            return None
        due = min(due, end)
    if retry_after is not None:
        due = max(due, now + min(retry_after, LONGEST_RETRY_AFTER))
    return due
