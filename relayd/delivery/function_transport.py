"""Calls functions, as a transport: the other half of ``relayd.destinations.function``.

Answered 200, the body has a verdict for each event, in order; answered `REFUSED`, a batch was refused as a whole, and
is halved until the bad event stands alone. A function that takes too long, ends its process or can
not be imported is like a host that does not answer: it fails with httpx's errors, and is tried again.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import httpx
import msgspec
import structlog
import trio
from msgspec import Raw, Struct

from relayd.delivery.connection import Answer, Timeouts
from relayd.delivery.transport import NO_TIMEOUTS
from relayd.destinations.function import REFUSED
from relayd.functions.process import Failed, Function, TimedOut
from relayd.functions.protocol import Call, Verdict

_log = structlog.get_logger(__name__)


class _Body(Struct):
    """What ``relayd.destinations.function`` writes."""

    events: list[Raw]
    settings: dict[str, Any]
    timeout: float


_INVALID = ("ValidationError", "InvalidEventPayload")
_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


class FunctionTransport:
    """Carries out ``CALL function:///PATH``. Owns the functions' processes, until it is closed."""

    def __init__(self, name: str, *, make: Callable[[Path], Function] = Function) -> None:
        """``name`` is the destination's, for what its function prints."""
        self._name = name
        self._make = make
        self._functions: dict[str, Function] = {}

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts = NO_TIMEOUTS
    ) -> Answer:
        """Call the function with the events in ``body``. A cancellation ends its process."""
        assert method == "CALL", method
        path = unquote(urlsplit(url).path)
        function = self._functions.get(path)
        if function is None:
            function = self._functions[path] = self._make(Path(path))
        call = _decode(body)
        events = [bytes(event) for event in call.events]
        try:
            reply = await function.call(Call(call.settings, call.timeout, events=events))
        except TimedOut as error:
            raise httpx.ReadTimeout(str(error)) from error
        except Failed as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        if reply.printed:
            _log.info("a function printed", destination=self._name, text=reply.printed)
        status = REFUSED if _is_refused_whole(reply.verdicts) else 200
        return Answer(status=status, headers=[], body=_encode(reply.verdicts), http_version="", truncated=False)

    async def aclose(self) -> None:
        """End the processes."""
        with trio.CancelScope(shield=True):
            for each in self._functions.values():
                await each.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        await self.aclose()


def _is_refused_whole(verdicts: Sequence[Verdict]) -> bool:
    """Whether one error speaks of several events, and may be the fault of one."""
    first = verdicts[0]
    return len(verdicts) > 1 and first.kind in _INVALID and all(each == first for each in verdicts)
