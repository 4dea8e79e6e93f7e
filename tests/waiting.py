"""Waiting for what another task or process does."""

from collections.abc import Callable

import trio


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return once ``condition()`` is true. Raises ``trio.TooSlowError`` after ``seconds``."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  the other side has no event to wait for
            await trio.sleep(0.01)
