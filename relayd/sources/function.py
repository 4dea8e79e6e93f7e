"""A source function: what a request becomes, as a function of yours says; it runs in a process of its own.

    the function                                      counted as            what becomes of the request
    ------------------------------------------------  --------------------  ---------------------------
    gives events                                      received              kept as events
    raises ValidationError or InvalidEventPayload     validation_error      dropped
    raises EventNotSupported                          event_not_supported   dropped
    raises InvalidSettings                            invalid_settings      dropped
    raises DropEvent                                  dropped               dropped
    raises anything else                              function_error        dropped
    raises RetryError                                 retry_error           tried again
    takes longer than its timeout                     function_timeout      tried again
    ends its process                                  function_crashed      tried again
    can not be imported (after it was changed)        function_unavailable  tried again

Segment retries after the first two of the last four; the other two are for as long as the cause is mended in time.
"""

from collections.abc import Callable
from pathlib import Path
from random import random as system_random

from msgspec import Struct

from relayd.config.model import Section, Source
from relayd.functions.process import Crashed, Failed, Function, TimedOut
from relayd.functions.protocol import OK, Call, Kind, RawRequest

MAX_BODY = 512 * 2**10
"""Bytes of a request's body, at most (Segment's limit)."""
MAX_TRIES = 7
"""The first one, and six more (Segment's numbers, like those below)."""
_FIRST_WAIT = (60.0, 180.0)
"""Seconds, of which a random one is the first wait; each further one is twice the last."""
_LONGEST_WAIT = 1200.0

_CODES: dict[Kind, str] = {
    "ValidationError": "validation_error",
    "InvalidEventPayload": "validation_error",
    "EventNotSupported": "event_not_supported",
    "InvalidSettings": "invalid_settings",
    "DropEvent": "dropped",
    "RetryError": "retry_error",
    "Exception": "function_error",
}


class Ran(Struct, frozen=True):
    """What one run came to."""

    events: list[bytes] = []
    """Each as JSON."""
    code: str = ""
    """What it is counted under, unless it gave events."""
    message: str = ""
    """The error, for a person."""
    retry: bool = False
    """Whether the request is to be tried again."""
    printed: str = ""


class SourceFunction:
    """The function of one source. `aclose` it."""

    def __init__(self, source: Source) -> None:
        assert source.file is not None, "the loader checks that a function has its file"
        assert not isinstance(source.settings, Section), "no type declares a function's settings"
        self.function = Function(Path(source.file))
        self._settings = dict(source.settings)
        self._timeout = float(source.timeout)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self.function.waiting

    async def run(self, request: RawRequest) -> Ran:
        """Run it once. Raises nothing but cancellation."""
        try:
            reply = await self.function.call(Call(self._settings, self._timeout, request))
        except Failed as error:
            code = {TimedOut: "function_timeout", Crashed: "function_crashed"}.get(type(error), "function_unavailable")
            return Ran(code=code, message=str(error), retry=True)
        verdict = reply.verdicts[0]
        if verdict.kind == OK:
            return Ran(reply.events, printed=reply.printed)
        retry = verdict.kind == "RetryError"
        return Ran(code=_CODES[verdict.kind], message=verdict.message, retry=retry, printed=reply.printed)

    async def aclose(self) -> None:
        """End its process."""
        await self.function.aclose()


def next_wait(tries: int, last: float | None, random: Callable[[], float] = system_random) -> float | None:
    """Seconds until a request is tried again that was tried ``tries`` times; None when it was tried enough.

    ``last`` is the wait before; ``random`` gives [0, 1).
    """
    if tries >= MAX_TRIES:
        return None
    if last is None:
        low, high = _FIRST_WAIT
        return low + (high - low) * random()
    return min(last * 2, _LONGEST_WAIT)
