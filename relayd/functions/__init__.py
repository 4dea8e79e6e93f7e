"""What a function's file imports: events to make, the request to make them of, and the errors to raise.

A source function has ``async def on_request(request, settings)``, which returns or yields events. A destination
function has ``on_track(event, settings)`` and its like, or ``on_batch(events, settings)``. Either may be a plain
``def``. It runs in a process of its own, on asyncio, or on trio when the file says ``import trio``.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

__all__ = [
    "DropEvent",
    "Event",
    "EventNotSupported",
    "FunctionError",
    "Headers",
    "InvalidEventPayload",
    "InvalidSettings",
    "Request",
    "RetryError",
    "ValidationError",
    "alias",
    "group",
    "identify",
    "page",
    "screen",
    "track",
]

Event = dict[str, Any]
"""An event of the Tracking API."""


class FunctionError(Exception):
    """What a function raises on purpose. Each kind is counted under its own name."""


class ValidationError(FunctionError):
    """This can never become an event, or be sent: a source's request is dropped, a destination's event is held."""


class InvalidEventPayload(ValidationError):
    """Segment's other name for the same."""


class EventNotSupported(FunctionError):
    """The function has nothing for this kind of request or event."""


class InvalidSettings(FunctionError):
    """The settings can not work."""


class RetryError(FunctionError):
    """It may work later: the same is tried again."""


class DropEvent(FunctionError):
    """A destination does not want this event; it counts as delivered."""


class Headers(Mapping[str, str]):
    """Names in any case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._headers)})"


class Request:
    """What was POSTed."""

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.url = url
        self.headers = Headers(headers)
        self.body = body
        """As it came: what an app signs."""

    def text(self) -> str:
        """The body as text. Raises `ValidationError` when it is not UTF-8."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise ValidationError("the body is not UTF-8") from error

    def json(self) -> Any:
        """The body, decoded from JSON. Raises `ValidationError` when it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValidationError("the body is not JSON") from error

    def form(self) -> dict[str, str]:
        """The fields of a form (application/x-www-form-urlencoded); of one that is there twice, the last."""
        return dict(parse_qsl(self.text(), keep_blank_values=True))

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url}, {len(self.body)} bytes)"


def track(
    event: str,
    *,
    user_id: str | None = None,
    anonymous_id: str | None = None,
    properties: Mapping[str, object] | None = None,
    **more: Any,
) -> Event:
    """Something that a user did. ``more`` as in `identify`."""
    return _event("track", user_id, anonymous_id, more, event=event, properties=properties)


def identify(
    user_id: str | None = None,
    *,
    anonymous_id: str | None = None,
    traits: Mapping[str, object] | None = None,
    context: Mapping[str, object] | None = None,
    integrations: Mapping[str, object] | None = None,
    timestamp: datetime | str | None = None,
    message_id: str | None = None,
) -> Event:
    """Who a user is.

    ``message_id`` is the app's own id of what happened: the same one is kept once. Without it, a request that the
    app sends again becomes events again. A ``timestamp`` without a zone is UTC.
    """
    more = {"context": context, "integrations": integrations, "timestamp": timestamp, "message_id": message_id}
    return _event("identify", user_id, anonymous_id, more, traits=traits)


def page(
    name: str | None = None,
    *,
    user_id: str | None = None,
    anonymous_id: str | None = None,
    category: str | None = None,
    properties: Mapping[str, object] | None = None,
    **more: Any,
) -> Event:
    """A page that a user saw."""
    return _event("page", user_id, anonymous_id, more, name=name, category=category, properties=properties)


def screen(
    name: str | None = None,
    *,
    user_id: str | None = None,
    anonymous_id: str | None = None,
    category: str | None = None,
    properties: Mapping[str, object] | None = None,
    **more: Any,
) -> Event:
    """A screen that a user saw."""
    return _event("screen", user_id, anonymous_id, more, name=name, category=category, properties=properties)


def group(
    group_id: str,
    *,
    user_id: str | None = None,
    anonymous_id: str | None = None,
    traits: Mapping[str, object] | None = None,
    **more: Any,
) -> Event:
    """What a user belongs to."""
    return _event("group", user_id, anonymous_id, more, groupId=group_id, traits=traits)


def alias(previous_id: str, user_id: str, **more: Any) -> Event:
    """Another id that a user has from now on."""
    return _event("alias", user_id, None, more, previousId=previous_id)


_MORE = {
    "context": "context",
    "integrations": "integrations",
    "timestamp": "timestamp",
    "message_id": "messageId",
}


def _event(kind: str, user_id: str | None, anonymous_id: str | None, more: dict[str, Any], **fields: object) -> Event:
    unknown = more.keys() - _MORE.keys()
    if unknown:
        raise TypeError(f"{kind}() got an unexpected keyword argument {min(unknown)!r}")
    if not user_id and not anonymous_id:
        raise ValidationError(f"{kind}() needs user_id or anonymous_id")
    event = {"type": kind, "userId": user_id, "anonymousId": anonymous_id, **fields}
    event |= {_MORE[name]: value for name, value in more.items()}
    timestamp = event.get("timestamp")
    if isinstance(timestamp, datetime):
        event["timestamp"] = (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).isoformat()
    return {name: value for name, value in event.items() if value is not None}
