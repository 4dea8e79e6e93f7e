"""What is left to chance, and how to have the same again.

What runs each time is short. By hand, as long as you like:

    RELAYD_CRASH_ROUNDS=500 RELAYD_CRASH_CUTS=200 RELAYD_CRASH_SEED=7 scripts/test tests/crash

The seed fixes what is done when; how far the daemon has got by then, the machine decides.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

ROUNDS = int(os.environ.get("RELAYD_CRASH_ROUNDS", "5"))
"""Kills of one daemon."""
CUTS = int(os.environ.get("RELAYD_CRASH_CUTS", "3"))
"""Damaged copies for each kind of damage."""
SEED = int(os.environ.get("RELAYD_CRASH_SEED", str(time.time_ns() % 100_000)))


@contextmanager
def luck(what: str) -> Iterator[Random]:
    """The randomness for a piece of a test; when that fails, the error tells how to have it again."""
    try:
        yield Random(f"{SEED} {what}")
    except BaseException as error:
        error.add_note(
            f"in {what}, with RELAYD_CRASH_SEED={SEED} RELAYD_CRASH_ROUNDS={ROUNDS} RELAYD_CRASH_CUTS={CUTS}"
        )
        raise
