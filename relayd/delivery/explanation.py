"""What would become of an event at a destination, step by step: the contract of ``relayd explain --json``.

All of it is masked: no secret of the configuration is in it.
"""

import gzip
from collections.abc import Iterator
from typing import Self
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from relayd.actions.reasons import Part
from relayd.destinations import Request

DEVICE_MODE_ONLY = "DEVICE_MODE_ONLY"
"""Nothing is counted under these two: a destination that is not sent to has no actor."""
SOURCE_DISABLED = "source_disabled"
"""What the listener counts the events of such a source under."""
NOTHING_TO_SEND = "NOTHING_TO_SEND"
"""Nothing is counted under it: an event of which its action makes no request counts as delivered."""


class CheckResult(Struct, frozen=True):
    """One thing that may keep an event away, in the order in which they are looked at."""

    reason: str
    """What a refusal is counted under; those of the listener are in lower case."""
    passed: bool
    detail: str


class Change(Struct, frozen=True):
    """One path of an event that a step changed."""

    path: str
    kind: str
    """``added``, ``changed`` or ``removed``."""
    before: object = None
    after: object = None


class FilterResult(Struct, frozen=True):
    """One action of one filter; they come in the order in which they are applied, up to one that drops the event."""

    filter: int
    """Which filter, counted from 0."""
    action: str
    """``sample``, ``drop``, ``drop_properties``, ``allow_properties``, ``map_properties`` or ``hash_properties``."""
    condition: Part
    changes: list[Change]
    dropped: bool
    by_chance: float | None
    """Of a sample without a path: the share of events that it keeps. This one is explained as one that is kept."""
    error: str | None
    """Why it could not be applied; the event is dropped then."""


class Fault(Struct, frozen=True):
    """Why the event can not be sent: a place in the payload, such as ``/properties/total``, and what is wrong there."""

    path: str
    """Empty where it is not about one place."""
    message: str


class SentRequest(Struct, frozen=True):
    """A request as it would leave, but for what the connection adds (Host, Content-Length)."""

    method: str
    url: str
    headers: dict[str, str]
    format: str
    """What ``body`` is: ``json``, ``form`` (names and values), ``text``, or ``none``."""
    body: object
    """Decoded, and free of compression."""

    @classmethod
    def of(cls, request: Request, url: str) -> Self:
        """The request as it goes to ``url``."""
        headers = dict(request.headers)
        body = gzip.decompress(request.body) if headers.get("content-encoding") == "gzip" else request.body
        return cls(request.method, url, headers, *_decoded(body, headers.get("content-type", "")))


class Stored(Struct, frozen=True):
    """A delivery that is in the destination's outbox. Times in ISO 8601."""

    place: str
    """``pending`` or ``dead letters``."""
    attempts: int
    received: str
    due: str | None
    """When the next attempt is due; null: the first one awaits its turn, or it is held."""
    held: str | None
    """When it became a dead letter."""
    reason: str | None
    """Of the last failure."""
    detail: str | None


class SubscriptionResult(Struct, frozen=True):
    """One subscription, and what it would send."""

    name: str | None
    """None: the destination passes events on as they are."""
    action: str
    trigger: str
    """As it is written; empty: every event is for it."""
    enabled: bool = True
    matches: bool = True
    condition: Part | None = None
    """The trigger taken apart; None without one, or where it is not evaluated again."""
    payload: object = None
    """What the mapping made of the event, if it matches; with ``faults`` in it, before the fields were applied."""
    faults: list[Fault] = []
    """Why it would be held instead of sent."""
    batch_size: int = 1
    """How many events may share its requests; they are shown with this one alone."""
    requests: list[SentRequest] = []
    stored: Stored | None = None


class Explanation(Struct, frozen=True):
    """What would become of an event at a destination."""

    destination: str
    type: str
    source: str
    sent: bool
    """Whether it would be sent: at least one request, and nothing in the way."""
    reason: str | None
    """Why not, as ``relayd status`` counts it."""
    why: str
    """The same for a person."""
    found: str
    """Where the event was found."""
    event: object
    """As the journal keeps it; one from the outbox: as the filters left it."""
    arrival: list[Change]
    """What normalising changed of a raw event."""
    checks: list[CheckResult]
    """When one failed, filters and subscriptions are those that the event would have met without it."""
    filters: list[FilterResult]
    subscriptions: list[SubscriptionResult]


def changes(before: object, after: object) -> list[Change]:
    """The paths at which two JSON values differ, outermost first; items of a list by their places."""
    return list(_changes(before, after, ""))


def _changes(before: object, after: object, path: str) -> Iterator[Change]:
    if before is after:
        return
    inner: Iterator[tuple[str, object, object]]
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys([*before, *after])
        inner = ((name, before.get(name, _NOTHING), after.get(name, _NOTHING)) for name in names)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        inner = ((str(place), one, other) for place, (one, other) in enumerate(zip(before, after, strict=True)))
    elif before is _NOTHING:
        yield Change(path, "added", after=after)
        return
    elif after is _NOTHING:
        yield Change(path, "removed", before=before)
        return
    else:
        if type(before) is not type(after) or before != after:
            yield Change(path, "changed", before, after)
        return
    for name, one, other in inner:
        yield from _changes(one, other, f"{path}.{name}" if path else name)


_NOTHING = object()


def _decoded(body: bytes, content_type: str) -> tuple[str, object]:
    """What a body is, and what is in it."""
    if not body:
        return "none", None
    text = body.decode(errors="backslashreplace")
    if content_type.startswith("application/x-www-form-urlencoded"):
        fields: dict[str, object] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            there = fields.get(name)
            fields[name] = value if there is None else [*(there if isinstance(there, list) else [there]), value]
        return "form", fields
    if not content_type or "json" in content_type:
        try:
            return "json", msgspec.json.decode(body)
        except msgspec.DecodeError:
            pass
    return "text", text
