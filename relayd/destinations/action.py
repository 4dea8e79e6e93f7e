"""Destination Actions: what a tool can do with an event, in Segment's terms, so that configurations carry over.

An event becomes a payload by the subscription's mapping (`relayd.actions.mapping`), and fits the action's fields
(`relayd.actions.fields`); the action makes requests of payloads. All of it is pure.

A destination of this kind is one file: its settings, its actions, its presets. `ActionDestination` does the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Struct

from relayd.actions.fields import FieldError, Fields, compile_fields
from relayd.actions.mapping import compile_mapping
from relayd.config.model import Section
from relayd.destinations.base import Destination, Request
from relayd.event import parse_time

Payload = dict[str, Any]
"""What the mapping made of an event, once it fits the action's fields."""

SettingsT = TypeVar("SettingsT", bound=Section)


class InvalidPayload(ValueError):
    """An event that the action can not send, found before it is sent. The message names fields, never values."""


class Verdict(Struct, frozen=True):
    """What an answer says of one event of a batch."""

    kind: Literal["delivered", "retry", "hold"]
    reason: str = ""
    """What it is counted under, unless delivered: the vendor's code or an HTTP status; of a small, fixed set."""
    detail: str = ""
    """What the vendor says, for a person."""


DELIVERED = Verdict("delivered")


class Batching(Struct, frozen=True):
    """How an action takes many events in one request."""

    perform: Callable[[Any, Sequence[Payload], float], list[Request]]
    """``(settings, payloads, now) -> requests``. One request, where there are ``verdicts``."""
    size: int
    """Events a request when the configuration does not say."""
    max_size: int
    max_bytes: int = 4_000_000
    """Of the request's body, at most."""
    keys: tuple[str, ...] = ()
    """Fields whose values must be equal within a batch, besides those that the mapping names as ``batch_keys``."""
    verdicts: Callable[[Sequence[Payload], int, bytes], Sequence[Verdict] | None] | None = None
    """``(payloads, status, body) -> one for each``; None: the status holds for all of them."""


class Action(Struct, frozen=True):
    """One thing that a destination does with an event."""

    name: str
    title: str
    fields: Fields
    """In the form that `compile_fields` takes, with ``default`` for the mapping that a user starts from; see also
    `mapping_of`."""
    perform: Callable[[Any, Payload, float], list[Request]]
    """``(settings, payload, now) -> requests``, in the order in which they are sent; ``now`` in Unix seconds.

    Raises `InvalidPayload`.
    """
    batching: Batching | None = None
    trigger: str = ""
    """The trigger that a user starts from, in FQL."""
    verdicts: Callable[[Payload, int, bytes], Verdict | None] | None = None
    """As `Batching.verdicts`, for an event that is sent alone: vendors that say 200 and mean no."""


class Preset(Struct, frozen=True):
    """A subscription that a destination comes with."""

    name: str
    action: str
    trigger: str
    mapping: Mapping[str, object] | None = None
    """None: the defaults of the action's fields."""


def defaults(fields: Fields, **others: object) -> dict[str, object]:
    """The mapping of all the fields' defaults, with ``others`` over them."""
    return {key: field["default"] for key, field in fields.items() if "default" in field} | others


def mapping_of(fields: Fields, given: Mapping[str, object] | None) -> dict[str, object]:
    """A subscription's mapping: what is ``given``, or else the fields' defaults.

    A field that is ``implied`` has its default in any case: Segment does not know it, so no mapping from there can.
    """
    if given is None:
        return defaults(fields)
    return defaults({key: field for key, field in fields.items() if field.get("implied")}) | dict(given)


class ActionDestination(Destination[SettingsT]):
    """A destination whose events are mapped. The instance has no state."""

    passes_on = False
    actions: ClassVar[Mapping[str, Action]]

    def requests(
        self,
        action: str,
        settings: SettingsT | Mapping[str, object],
        mapping: Mapping[str, object] | None,
        events: Sequence[bytes | dict[str, object]],
        *,
        batch: bool,
        now: float | str,
    ) -> list[Request]:
        """As `Destination.requests`; no mapping means the fields' defaults, and ``now`` may be an ISO 8601 time.

        In a batch, events that do not fit are left out, as Segment's engine does; `Subscription.payload` names them.
        Raises ``KeyError`` for an unknown action, and ``ValueError`` (`MappingError`, `FieldError`, `InvalidPayload`).
        """
        of = self.actions[action]
        if isinstance(settings, Mapping):
            settings = msgspec.convert(settings, self.settings)  # type: ignore[assignment]
        if isinstance(now, str):
            now = (parse_time(now) or 0) / 1000
        mapped = compile_mapping(mapping_of(of.fields, mapping))
        fit = compile_fields(of.fields, batch=batch)
        decoded = [event if isinstance(event, dict) else msgspec.json.decode(event) for event in events]
        if not batch:
            return [request for event in decoded for request in of.perform(settings, fit(mapped(event)), now)]  # type: ignore[arg-type]
        if of.batching is None:
            raise InvalidPayload(f"{action} takes no batches")
        payloads = []
        for event in decoded:
            with suppress(FieldError):
                payloads.append(fit(mapped(event)))  # type: ignore[arg-type]
        return of.batching.perform(settings, payloads, now) if payloads else []
