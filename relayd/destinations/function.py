"""Function: events go to a Python file of yours, which runs in a process of its own.

A request is ``CALL function:///PATH`` whose body is ``{"events": [...], "settings": {...}, "timeout": SECONDS}``;
``relayd.delivery.function_transport`` carries it out and answers with a verdict for each event. The file has
``on_track(event, settings)`` and its like, or ``on_batch(events, settings)`` for batches (``delivery.batch_size``):

    the function                                     the event
    -----------------------------------------------  -------------------------------
    returns, or raises DropEvent                     is delivered
    raises RetryError, takes too long, ends its      is tried again (``retry``)
      process, can not be imported
    raises ValidationError or InvalidEventPayload    is held as MESSAGE_REJECTED
    raises EventNotSupported, or has no handler      is held as UNSUPPORTED_EVENT_TYPE
    raises InvalidSettings                           is held as INVALID_SETTINGS
    raises anything else                             is held as FUNCTION_ERROR

One call at a time: for more at once use ``on_batch``. A mapping may change what the function gets.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Struct, field

from relayd.config.model import doc
from relayd.config.units import Duration
from relayd.destinations.action import DELIVERED, Action, ActionDestination, Batching, Payload, Preset, Verdict
from relayd.destinations.base import METHODS, InvalidSettings, Request
from relayd.destinations.fields import at, table
from relayd.destinations.settings import DestinationSettings

HANDLERS = frozenset({"on_batch", *(f"on_{method}" for method in METHODS)})
"""What the file has one of."""
RETRY, MESSAGE_REJECTED, UNSUPPORTED = "RETRY", "MESSAGE_REJECTED", "UNSUPPORTED_EVENT_TYPE"
INVALID_SETTINGS, FUNCTION_ERROR = "INVALID_SETTINGS", "FUNCTION_ERROR"

REFUSED = 422
"""The status that says of a batch that an event in it is invalid."""

_REASONS = {
    "ValidationError": MESSAGE_REJECTED,
    "InvalidEventPayload": MESSAGE_REJECTED,
    "EventNotSupported": UNSUPPORTED,
    "InvalidSettings": INVALID_SETTINGS,
    "Exception": FUNCTION_ERROR,
}


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """Which file, and what it is given."""

    file: Annotated[
        str, doc("a Python file with on_track and its like, or on_batch", example="conf/functions/destination.py")
    ]
    timeout: Annotated[Duration, doc("how long a call may take, after which its process is ended", gt=0)] = Duration(5)
    settings: Annotated[Mapping[str, object], doc("passed to the function", example={"greeting": "hello"})] = field(
        default_factory=dict
    )


class Said(Struct, frozen=True):
    """What became of one event: `relayd.functions.protocol` has the kinds."""

    kind: str
    message: str = ""


class _Body(Struct):
    """A request's body."""

    events: list[object]
    settings: Mapping[str, object]
    timeout: float


_decode = msgspec.json.Decoder(list[Said]).decode


def _call(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    body = _Body([each.get("event") for each in payloads], settings.settings, float(settings.timeout))
    url = Path(settings.file).absolute().as_uri().replace("file:", "function:", 1)
    return [Request("CALL", url, {}, msgspec.json.encode(body))]


def _verdict(said: Said) -> Verdict:
    if said.kind in ("ok", "DropEvent"):
        return DELIVERED
    if said.kind == "RetryError":
        return Verdict("retry", RETRY, said.message)
    return Verdict("hold", _REASONS.get(said.kind, FUNCTION_ERROR), said.message)


def _verdict_of(payload: Payload, status: int, body: bytes) -> Verdict:
    return _verdict(_decode(body)[0])


def _verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> list[Verdict] | None:
    return None if status == REFUSED else [_verdict(each) for each in _decode(body)]


_CALL = Action(
    name="call",
    title="Call the function",
    fields={"event": table(at(""), required=True)},
    perform=lambda settings, payload, now: _call(settings, [payload], now),
    verdicts=_verdict_of,
    batching=Batching(perform=_call, size=1, max_size=1000, verdicts=_verdicts),
)


class Function(ActionDestination[Settings]):
    """Calls a function of yours."""

    type = "function"
    title = "Function"
    settings = Settings
    serial = True
    actions = {"call": _CALL}  # noqa: RUF012  a ClassVar of the base
    presets = (Preset("All events", "call", ""),)

    def check(self, settings: Settings) -> None:
        if not settings.file.isprintable():
            raise InvalidSettings("file must not hold control characters")
