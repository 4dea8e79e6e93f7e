"""What every cloud-app source is: who may send webhooks, and how they become events. Pure: no clock, no I/O.

An app is one file: its settings, how its webhooks are signed, and its subscriptions, which say in the directive
language (`relayd.actions.mapping`) what becomes an event. A subscription sees ``{"body": ..., "headers": ...}``; names
of headers are in lower case. Its trigger is in the FQL of filters, which can look at any field.

What a mapping makes is an event of the Tracking API, with three liberties: ``type`` is "track" when it says none,
``timestamp`` may be a number (Unix seconds), and ids that are numbers become texts. Its ``messageId`` is the app's own
id of what happened. The event's is ``SOURCE/SUBSCRIPTION/ID``: apps send a webhook again until it is answered, and it
is known by that; and neither two apps nor two subscriptions are in each other's way.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Generic, TypeVar

from msgspec import Struct, field

from relayd.actions.mapping import Mapper, MappingError, compile_mapping
from relayd.actions.trigger import Condition, compile_filter
from relayd.config.model import Section, Source, SourceSubscription
from relayd.event import MAX_MESSAGE_ID, format_time

NO_MATCHING_SUBSCRIPTION = "no_matching_subscription"
MAPPING_FAILED = "mapping_failed"
NOT_AN_EVENT = "bad_request"
EMPTY_BATCH = "empty_batch"

MAX_PARTS = 2500
"""Parts of one webhook that are mapped, as events of a batch."""

_IDS = ("userId", "anonymousId", "groupId", "previousId", "messageId")

Headers = Mapping[str, str]
"""By lower-case name."""
Event = dict[str, object]
SettingsT = TypeVar("SettingsT", bound=Section)


class Forged(Exception):
    """A webhook that is not of the app, or too old. ``code`` is what it is counted under; the text says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TooMany(Exception):
    """A webhook of more parts than `MAX_PARTS`."""


class Mapped(Struct):
    """What became of one webhook."""

    events: list[Event] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    """What became no event, by code."""
    faults: list[str] = field(default_factory=list)
    """Why, for a person; no values of the webhook are in it."""


class _Rule(Struct, frozen=True):
    name: str
    trigger: Condition | None
    map: Mapper


class App(ABC, Generic[SettingsT]):
    """One source of one app, compiled from its configuration. It has no state."""

    app: ClassVar[str]
    settings: ClassVar[type[Section]]
    """The struct that ``[sources.NAME.settings]`` is checked against."""
    subscriptions: ClassVar[tuple[SourceSubscription, ...]] = ()
    """What becomes of its webhooks when the configuration does not say."""

    def __init__(self, name: str, source: Source) -> None:
        """``source`` is one that `faults` finds nothing wrong with. Raises `TriggerError` or `MappingError`."""
        self._name = name
        assert isinstance(source.settings, self.settings), "the loader checks settings against the app"
        self._settings: SettingsT = source.settings  # type: ignore[assignment]
        self._rules = [
            _Rule(
                each.name, compile_filter(each.trigger) if each.trigger else None, compile_mapping(dict(each.mapping))
            )
            for each in subscriptions_of(self, source)
        ]

    @abstractmethod
    def verify(self, headers: Headers, body: bytes, now: float) -> None:
        """Raise `Forged` unless the app sent ``body`` (the bytes as they came), lately. ``now`` in Unix seconds."""

    def parts(self, body: object) -> Sequence[object]:
        """What in a decoded body is mapped by itself."""
        return (body,)

    def events(self, body: object, headers: Headers) -> Mapped:
        """The events of one webhook, in order. Raises `TooMany`."""
        parts = self.parts(body)
        if len(parts) > MAX_PARTS:
            raise TooMany(f"the webhook has {len(parts)} parts, more than {MAX_PARTS}")
        mapped = Mapped()
        if not parts:
            mapped.rejected[EMPTY_BATCH] += 1
        for part in parts:
            message: dict[str, object] = {"body": part, "headers": headers}
            rules = [rule for rule in self._rules if rule.trigger is None or rule.trigger(message)]
            if not rules:
                mapped.rejected[NO_MATCHING_SUBSCRIPTION] += 1
            for rule in rules:
                self._map(rule, message, mapped)
        return mapped

    def _map(self, rule: _Rule, message: dict[str, object], mapped: Mapped) -> None:
        try:
            event = rule.map(message)
        except MappingError as error:
            mapped.rejected[MAPPING_FAILED] += 1
            mapped.faults.append(f"{rule.name or 'mapping'}: {error}")
            return
        if not isinstance(event, dict):
            mapped.rejected[NOT_AN_EVENT] += 1
            mapped.faults.append(f"{rule.name or 'mapping'}: it gives no object")
            return
        mapped.events.append(self._finished(dict(event), rule.name))

    def _finished(self, event: Event, subscription: str) -> Event:
        event.setdefault("type", "track")
        for name in _IDS:
            value = event.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                event[name] = str(value)
        seconds = event.get("timestamp")
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            event["timestamp"] = _time(seconds)
        own = event.get("messageId")
        if own:
            event["messageId"] = message_id(self._name, subscription, str(own))
        return event


def _time(seconds: float) -> str | None:
    """ISO 8601; None, which counts as missing, for what is no time."""
    try:
        return format_time(round(seconds * 1000))
    except (ValueError, OverflowError, OSError):
        return None


def message_id(source: str, subscription: str, own: str) -> str:
    """The messageId of what an app calls ``own``: with its digest in place of it, where it would be too long."""
    whole = "/".join(filter(None, (source, subscription, own)))
    if len(whole) <= MAX_MESSAGE_ID:
        return whole
    return f"{source}/{blake2b(whole.encode(), digest_size=16).hexdigest()}"


def subscriptions_of(app: App[Any] | type[App[Any]], source: Source) -> Sequence[SourceSubscription]:
    """Those of the configuration, or else the app's own."""
    if source.subscriptions:
        return source.subscriptions
    if source.mapping is not None:
        return (SourceSubscription(name="", trigger=source.trigger or "", mapping=source.mapping),)
    return app.subscriptions
