"""Subscriptions: which events a destination gets, and what it does with each, compiled once from the configuration.

    trigger    an event                 -> whether it is for this subscription
    payload    an event as it is kept   -> what the action takes, or why it can not
    group      a payload                -> what must be equal within one request
    requests   payloads                 -> requests
    verdicts   payloads and an answer   -> what became of each

A destination without subscriptions in the configuration has its presets; one that passes events on has the `Identity`
instead, whose events are never decoded.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from relayd.actions.fields import compile_fields
from relayd.actions.mapping import MappingError, compile_mapping
from relayd.actions.trigger import Condition, TriggerError, compile_trigger
from relayd.config.errors import Keys, suggestion
from relayd.config.model import Delivery, Section
from relayd.config.model import Subscription as Spec
from relayd.destinations.action import Action, Batching, Payload, Preset, Verdict, mapping_of
from relayd.destinations.base import Destination, Request

__all__ = ["Identity", "InvalidSubscription", "Mapped", "Subscription", "compile_subscriptions", "faults_of", "pick"]

PayloadT = TypeVar("PayloadT")

_SEGMENTS_SIZE = 1000
"""Events a batch of Segment's when the mapping does not say (README of its actions library)."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class InvalidSubscription(ValueError):
    """A subscription that can not be compiled: ``keys`` say where in it, the text says why."""

    def __init__(self, keys: Keys, message: str) -> None:
        super().__init__(message)
        self.keys = keys


class Subscription(ABC, Generic[PayloadT]):
    """One subscription of one destination. Pure, and without state."""

    name: str | None
    """Unique in its destination; None for the identity."""
    trigger: Condition | None
    """None: every event is for it."""
    condition: str = ""
    """The trigger as it is written; empty: there is none."""
    batch_size: int
    """Events a request at most."""
    batch_bytes: int
    """Bytes of events that go into one request."""
    max_body: int | None = None
    """Bytes of the body of a request that carries more than one event."""

    @abstractmethod
    def payload(self, event: bytes) -> PayloadT:
        """What is sent of an event. Raises ``ValueError`` for one that can not be sent; it names no values."""

    def group(self, payload: PayloadT) -> Hashable:
        """What payloads must have in common to share a request."""
        return None

    @abstractmethod
    def requests(self, payloads: Sequence[PayloadT], *, now: float) -> list[Request]:
        """The requests that deliver ``payloads``: at most ``batch_size``, of one group. ``now`` in Unix seconds.

        Raises ``ValueError`` for payloads that can not be sent; of several, one may be at fault.
        """

    def verdicts(self, payloads: Sequence[PayloadT], status: int, body: bytes) -> Sequence[Verdict] | None:
        """What an answer says of each payload; None when its status says it of all."""
        return None


class Identity(Subscription[bytes]):
    """Every event as it is, by the destination's one action."""

    name = None
    trigger = None

    def __init__(self, destination: Destination[Any], settings: Section, delivery: Delivery) -> None:
        self.batch_size = min(delivery.batch_size or destination.batch_size, destination.max_batch_size)
        self.batch_bytes = min(delivery.batch_bytes or destination.batch_bytes, destination.batch_bytes)
        self._destination = destination
        self._settings = settings

    def payload(self, event: bytes) -> bytes:
        return event

    def requests(self, payloads: Sequence[bytes], *, now: float) -> list[Request]:
        of = self._destination
        return of.requests(of.action, self._settings, None, payloads, batch=self.batch_size > 1, now=now)


class Mapped(Subscription[Payload]):
    """What an action makes of the events that a trigger matches."""

    def __init__(self, spec: Spec | Preset, action: Action, settings: Section, delivery: Delivery) -> None:
        """Without a mapping it is the defaults of the action's fields. Raises `TriggerError` or `MappingError`."""
        self.name = spec.name
        self.action = action
        self.mapping = mapping_of(action.fields, spec.mapping)
        batching = action.batching
        self.batch_size = 1 if batching is None else _batch_size(batching, self.mapping, delivery)
        limit = 0 if batching is None else batching.max_bytes
        self.batch_bytes = self.max_body = min(delivery.batch_bytes or limit, limit)
        self.condition = spec.trigger
        self.trigger = compile_trigger(spec.trigger) if spec.trigger else None
        self._map = compile_mapping(self.mapping)
        self._fit = compile_fields(action.fields, batch=self.batch_size > 1)
        self._batching = batching if self.batch_size > 1 else None
        self._settings = settings

    def mapped(self, event: bytes) -> object:
        """What the mapping makes of an event, before it is made to fit the fields. Raises `MappingError`."""
        return self._map(_decode(event))

    def payload(self, event: bytes) -> Payload:
        return self._fit(self.mapped(event))  # type: ignore[arg-type]  # it refuses what is no object

    def group(self, payload: Payload) -> Hashable:
        """The values of the fields by which the action groups, and of those that the mapping's ``batch_keys`` names."""
        if self._batching is None:
            return None
        named = payload.get("batch_keys")
        keys = (*self._batching.keys, *named) if isinstance(named, list) else self._batching.keys
        return _encode([payload.get(key) for key in keys]) if keys else None

    def requests(self, payloads: Sequence[Payload], *, now: float) -> list[Request]:
        if self._batching is not None:
            return self._batching.perform(self._settings, payloads, now)
        return [request for each in payloads for request in self.action.perform(self._settings, each, now)]

    def verdicts(self, payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
        if self._batching is not None:
            return self._batching.verdicts(payloads, status, body) if self._batching.verdicts else None
        verdict = self.action.verdicts(payloads[0], status, body) if self.action.verdicts else None
        return None if verdict is None else [verdict]


def pick(subscriptions: Mapping[str | None, Subscription[Any]], name: str | None, event: bytes) -> Subscription[Any]:
    """The subscription that a delivery is for: its own, or if that has left the configuration, the first that matches.

    ``subscriptions`` by their names. Raises ``ValueError`` when there is none.
    """
    own = subscriptions.get(name)
    if own is not None:
        return own
    decoded = _decode(event)
    for each in subscriptions.values():
        if each.trigger is None or each.trigger(decoded):
            return each
    raise ValueError("its subscription has left the configuration, and no other one matches")


def _batch_size(batching: Batching, mapping: Mapping[str, object], delivery: Delivery) -> int:
    """What the configuration says, else what Segment makes of the mapping's own switches, else the action's default."""
    if delivery.batch_size:
        return min(delivery.batch_size, batching.max_size)
    switch, size = mapping.get("enable_batching"), mapping.get("batch_size")
    if isinstance(switch, bool):
        return min(size if isinstance(size, int) and size > 0 else _SEGMENTS_SIZE, batching.max_size) if switch else 1
    return batching.size


def compile_subscriptions(
    destination: Destination[Any], settings: Section, specs: Sequence[Spec], delivery: Delivery
) -> list[Subscription[Any]]:
    """A destination's subscriptions. Raises an ``ExceptionGroup`` of `InvalidSubscription`: all that is wrong."""
    if not specs and destination.passes_on:
        return [Identity(destination, settings, delivery)]
    compiled: list[Subscription[Any]] = []
    faults: list[InvalidSubscription] = []
    names: set[str] = set()
    given: Sequence[Spec | Preset] = specs or destination.presets
    for index, spec in enumerate(given):
        if isinstance(spec, Spec) and not spec.enabled:
            continue
        action = destination.actions.get(spec.action)
        found = [InvalidSubscription((index, *keys), message) for keys, message in faults_of(spec)]
        if spec.name in names:
            found.append(InvalidSubscription((index, "name"), f'"{spec.name}" is there twice; each needs its own'))
        if action is None:
            near = suggestion(spec.action, destination.actions, "actions")
            found.append(InvalidSubscription((index, "action"), f'unknown action "{spec.action}"; {near}'))
        elif not found:
            compiled.append(Mapped(spec, action, settings, delivery))
        names.add(spec.name)
        faults += found
    if faults:
        raise ExceptionGroup("subscriptions can not be compiled", faults)
    return compiled


def faults_of(spec: Spec | Preset) -> Iterator[tuple[Keys, str]]:
    """What is wrong with a subscription's trigger and mapping, and where in it."""
    try:
        compile_trigger(spec.trigger)
    except TriggerError as error:
        if spec.trigger:
            yield ("trigger",), str(error)
    try:
        compile_mapping(dict(spec.mapping or {}))
    except MappingError as error:
        for each in error.faults:
            yield ("mapping", *_keys(spec.mapping, each.path)), each.message


def _keys(tree: object, path: Sequence[str]) -> Iterator[str | int]:
    """A path into a mapping, with the places in lists as numbers."""
    for key in path:
        if isinstance(tree, list):
            yield int(key)
            tree = tree[int(key)]
        else:
            yield key
            tree = tree.get(key) if isinstance(tree, Mapping) else None
