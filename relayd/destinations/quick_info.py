"""Quick info: the facts of a type of destination, as `relayd catalog` shows them, derived from its class. Pure.

These structs are the contract of ``relayd catalog --json``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from relayd.actions.fql_ast import And, Compare, Literal, Node, Not, Or, Path
from relayd.actions.trigger import parse_trigger
from relayd.config.schema import REQUIRED, Key, describe, keys
from relayd.config.toml import render
from relayd.destinations.action import Action, Preset, defaults
from relayd.destinations.base import Destination
from relayd.destinations.modes import DEVICES

METHODS = ("track", "identify", "page", "screen", "group", "alias")
"""In Segment's order."""
SOURCE_TYPES = ("web", "mobile", "server", "cloud_app", "function")


class Setting(Struct, frozen=True):
    """A key of ``[destinations.NAME.settings]``."""

    name: str
    type: str
    """What may be written, in words."""
    required: bool
    default: str | None
    """In TOML; None where there is none."""
    secret: bool
    public: bool
    """Whether web pages and apps get it too, in device-mode."""
    explanation: str


class Field(Struct, frozen=True):
    """A field of an action, which a mapping fills."""

    name: str
    type: str
    """As in Segment's definitions: string, number, integer, boolean, datetime, object...; ``[]`` behind a list's."""
    required: bool
    """Whether it is always required."""
    required_if: object
    """The conditions under which it is, as Segment writes them; None without any."""
    choices: list[object]
    default: object
    """The directive, or value, that a mapping starts from; None where there is none."""


class Batch(Struct, frozen=True):
    """How many events may share a request."""

    size: int
    """By default."""
    max_size: int
    max_bytes: int
    keys: list[str]
    """Fields whose values must be equal within a batch."""


class ActionInfo(Struct, frozen=True):
    """One thing that the destination can do with an event."""

    name: str
    title: str
    trigger: str
    """The trigger that a user starts from, in FQL."""
    fields: list[Field]
    batch: Batch | None
    """None: one event a request."""


class PresetInfo(Struct, frozen=True):
    """A subscription that the destination has when the configuration has none."""

    name: str
    action: str
    trigger: str
    methods: list[str]
    """The event types that the trigger can match."""
    mapping: dict[str, object]


class QuickInfo(Struct, frozen=True):
    """A type of destination."""

    type: str
    title: str
    names: list[str]
    """What an event's ``integrations`` may call it by, besides its type and its name in the configuration."""
    description: str
    methods: list[str]
    """The event types that it takes."""
    at_once: list[str]
    """Those that it takes without subscriptions in the configuration: as they are, or by its presets."""
    source_types: list[str]
    modes: dict[str, list[str]]
    """The connection modes that it has, ``cloud`` and ``device``, by the type of source."""
    passes_on: bool
    """Whether it takes events as they are, when the configuration has no subscriptions."""
    batch: Batch | None
    """Of events that are passed on as they are; None: one event a request, or it does not pass on."""
    settings: list[Setting]
    actions: list[ActionInfo]
    presets: list[PresetInfo]


def quick_info(destination: Destination[Any]) -> QuickInfo:
    """The facts of a type."""
    presets = [_preset(each, destination) for each in destination.presets]
    methods = _ordered(destination.methods, METHODS)
    by_presets = {method for each in presets for method in each.methods}
    batched = destination.passes_on and destination.max_batch_size > 1
    return QuickInfo(
        type=destination.type,
        title=destination.title or destination.type.title(),
        names=list(destination.names),
        description=next(iter((type(destination).__doc__ or "").strip().splitlines()), ""),
        methods=methods,
        at_once=methods if destination.passes_on else [each for each in methods if each in by_presets],
        source_types=_ordered(destination.source_types, SOURCE_TYPES),
        modes=_modes(destination),
        passes_on=destination.passes_on,
        batch=Batch(destination.batch_size, destination.max_batch_size, destination.batch_bytes, [])
        if batched
        else None,
        settings=[_setting(key) for key in keys(destination.settings).values()],
        actions=[_action(each) for each in destination.actions.values()],
        presets=presets,
    )


def _ordered(names: Iterable[str], order: tuple[str, ...]) -> list[str]:
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _modes(destination: Destination[Any]) -> dict[str, list[str]]:
    """As `relayd.destinations.modes` has it: cloud where it takes events, device where the type says so."""
    device = destination.device.source_types & DEVICES if destination.device else frozenset()
    found = {}
    for each in SOURCE_TYPES:
        cloud = destination.cloud and each in destination.source_types
        modes = ["cloud"] * cloud + ["device"] * (each in device)
        if modes:
            found[each] = modes
    return found


def _setting(key: Key) -> Setting:
    required = key.default is REQUIRED
    return Setting(
        name=key.name,
        type=describe(key.holds),
        required=required,
        default=None if required or key.default is None else render(key.default),
        secret=key.secret,
        public=key.public,
        explanation=key.explanation,
    )


def _action(action: Action) -> ActionInfo:
    batching = action.batching
    return ActionInfo(
        name=action.name,
        title=action.title,
        trigger=action.trigger,
        fields=[_field(name, definition) for name, definition in action.fields.items()],
        batch=None
        if batching is None
        else Batch(batching.size, batching.max_size, batching.max_bytes, list(batching.keys)),
    )


def _field(name: str, definition: Mapping[str, Any]) -> Field:
    required = definition.get("required")
    choices = definition.get("choices") or ()
    return Field(
        name=name,
        type=f"{definition.get('type')}{'[]' if definition.get('multiple') else ''}",
        required=required is True,
        required_if=required if isinstance(required, Mapping) else None,
        choices=[each["value"] if isinstance(each, Mapping) else each for each in choices],
        default=definition.get("default"),
    )


def _preset(preset: Preset, destination: Destination[Any]) -> PresetInfo:
    fields = destination.actions[preset.action].fields
    trigger = parse_trigger(preset.trigger) if preset.trigger else None
    return PresetInfo(
        name=preset.name,
        action=preset.action,
        trigger=preset.trigger,
        methods=[
            each
            for each in _ordered(destination.methods, METHODS)
            if trigger is None or _holds(trigger, each) is not False
        ],
        mapping=defaults(fields) if preset.mapping is None else dict(preset.mapping),
    )


def _holds(trigger: Node, method: str) -> bool | None:
    """Whether a trigger holds for an event of a type; None where that depends on the rest of the event."""
    match trigger:
        case And(nodes):
            found = [_holds(each, method) for each in nodes]
            return False if False in found else None if None in found else True
        case Or(nodes):
            found = [_holds(each, method) for each in nodes]
            return True if True in found else None if None in found else False
        case Not(node):
            inner = _holds(node, method)
            return None if inner is None else not inner
        case Compare("=" | "!=" as operator, Path(("type",)), Literal(value)):
            return (value == method) is (operator == "=")
        case Compare("=", Path(("event",)), Literal(str())) if method != "track":
            return False  # no other type has an event's name
        case _:
            return None
