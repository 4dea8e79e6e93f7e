"""Segment's transformers (tsub): functions from an event to the event changed, or to None where it is dropped.

| type | configuration | what it does |
|---|---|---|
| drop | | drops the event |
| sample_event | sample: {percent, path} | keeps a share (0 to 1) of the events; at random where path is "" |
| drop_properties | drop: {path: [names]} | takes the named members out of the object at path |
| allow_properties | allow: {path: [names]} | takes all other members out of the object at path |
| map_properties | map: {path: {copy, move, set, to_string}} | writes members; reads them as they were before |
| hash_properties | hash: {path: [names]}, algorithm | replaces members by their digest |

A path is split at its dots; "" is the event itself; at a list, each of its objects is meant. What is not there is left
alone. An event is never changed in place: what changes is copied, and the rest is shared with the event that came in.

Behaviour is that of @segment/tsub 2.0.1 as executed, with these exceptions: configurations are checked when they are
compiled; members inherited from JavaScript's prototypes do not exist; and hash_properties, which that engine accepts
and ignores, hashes here (a configuration without ``hash`` is ignored here too).
"""

import hashlib
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from relayd.actions.javascript import UNDEFINED, member, stringify, to_number, truthy
from relayd.actions.sampling import browser_fraction

Event = dict[str, Any]
Transformer = Callable[[Event], Event | None]
Keys = tuple[str, ...]

_ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
_UNSETTABLE = frozenset({"__proto__", "constructor", "prototype"})
_MAX_GAP = 1000
"""Items by which writing past a list's end lengthens it at most."""


class TransformerError(ValueError):
    """A transformer that is none, or an event that it can not be applied to."""


def compile_transformer(
    transformer: Mapping[str, Any],
    *,
    random: Callable[[], float],
    fraction: Callable[[object], float] = browser_fraction,
) -> Transformer:
    """One transformer. Raises `TransformerError`.

    ``random`` gives numbers from 0 to below 1 for samples without a path, ``fraction`` for samples with one.
    """
    kind = transformer.get("type")
    config = transformer.get("config") or {}
    match kind:
        case "drop":
            return lambda event: None
        case "sample_event":
            return _sample(_table(config, "sample", kind), random, fraction)
        case "drop_properties":
            return _at_paths(_names(config, "drop", kind), _without)
        case "allow_properties":
            return _at_paths(_names(config, "allow", kind), _only)
        case "map_properties":
            if "config" not in transformer:
                raise TransformerError("map_properties needs a config")
            return _map(config.get("map") or {})
        case "hash_properties":
            algorithm = config.get("algorithm", "sha256")
            if algorithm not in _ALGORITHMS:
                raise TransformerError(f"hash_properties: algorithm {algorithm!r} is none of {', '.join(_ALGORITHMS)}")
            names = _names(config, "hash", kind) if "hash" in config else {}
            return _at_paths(names, lambda hashed: _hashed(hashed, algorithm))
        case _:
            raise TransformerError(f"a transformer of type {kind!r} is unsupported")


def _table(config: Mapping[str, Any], key: str, kind: str) -> Mapping[str, Any]:
    table = config.get(key)
    if not isinstance(table, Mapping):
        raise TransformerError(f"{kind} needs a table {key!r}")
    return table


def _names(config: Mapping[str, Any], key: str, kind: str) -> dict[str, frozenset[str]]:
    table = _table(config, key, kind)
    for path, names in table.items():
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise TransformerError(f"{kind}: {key}: {path!r} has to be a list of names")
    return {path: frozenset(names) for path, names in table.items()}


def _keys(path: str) -> Keys:
    return tuple(path.split("."))


# Sampling


def _sample(config: Mapping[str, Any], random: Callable[[], float], fraction: Callable[[object], float]) -> Transformer:
    share, path = config.get("percent"), config.get("path", "")
    if isinstance(share, bool) or not isinstance(share, int | float) or not isinstance(path, str):
        raise TransformerError("sample_event needs a percent from 0 to 1, and a path or none")
    if share <= 0:
        return lambda event: None
    if share >= 1:
        return lambda event: event
    if not path:
        return lambda event: event if random() < share else None
    keys = _keys(path)
    return lambda event: event if fraction(read(event, keys)) < share else None


# Dropping, allowing, hashing


def _at_paths(
    names: Mapping[str, frozenset[str]], change: Callable[[frozenset[str]], Callable[[Event], Event]]
) -> Transformer:
    changes = [(_keys(path) if path else (), change(those)) for path, those in names.items()]

    def transform(event: Event) -> Event:
        for keys, change_object in changes:
            event = _replaced(event, keys, change_object)
        return event

    return transform


def _replaced(value: Any, keys: Keys, change: Callable[[Event], Event]) -> Any:
    """The value with what stands at ``keys`` changed; the value itself if that changes nothing."""
    if keys:
        old = member(value, keys[0]) if isinstance(value, dict | list) else UNDEFINED
        new = _replaced(old, keys[1:], change)
        return value if new is old else assign(value, keys[:1], new)
    if isinstance(value, list):
        items = [change(item) if isinstance(item, dict) else item for item in value]
        return value if all(map(_is, items, value)) else items
    return change(value) if isinstance(value, dict) else value


def _is(one: object, other: object) -> bool:
    return one is other


def _without(names: frozenset[str]) -> Callable[[Event], Event]:
    def change(value: Event) -> Event:
        return value if names.isdisjoint(value) else {key: value[key] for key in value if key not in names}

    return change


def _only(names: frozenset[str]) -> Callable[[Event], Event]:
    def change(value: Event) -> Event:
        return value if value.keys() <= names else {key: value[key] for key in value if key in names}

    return change


def _hashed(names: frozenset[str], algorithm: str) -> Callable[[Event], Event]:
    """Digests in hexadecimal: of a text its UTF-8, of another value its JSON. Null is no value to hide."""

    def digest(value: object) -> str:
        text = value if isinstance(value, str) else str(stringify(value))
        return hashlib.new(algorithm, text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()

    def change(value: Event) -> Event:
        found = {key: digest(value[key]) for key in names if value.get(key) is not None}
        return {**value, **found} if found else value

    return change


# Mapping


def _map(entries: Mapping[str, Any]) -> Transformer:
    for path, action in entries.items():
        if not isinstance(action, Mapping):
            raise TransformerError(f"map_properties: {path!r} has to be a table with copy, move, set or to_string")
    changes = [_mapped(_keys(path), action) for path, action in entries.items()]

    def transform(event: Event) -> Event:
        before = event
        for change in changes:
            event = change(event, before)
        return event

    return transform


def _mapped(keys: Keys, action: Mapping[str, Any]) -> Callable[[Event, Event], Event]:
    """One member written: copied, else moved, else set; then made a text."""
    copied, moved = (_keys(path) if path else None for path in (action.get("copy"), action.get("move")))

    def change(event: Event, before: Event) -> Event:
        parent = read(before, keys[:-1])
        if not isinstance(parent, dict | list | None):
            return event
        if source := copied or moved:
            value = read(before, source)
            if value is not UNDEFINED:
                event = assign(event, keys, value)
            if not copied and truthy(read(event, source)):
                event = _removed(event, source)
        elif "set" in action:
            event = assign(event, keys, action["set"])
        if action.get("to_string"):
            value = read(event, keys)
            if not isinstance(value, str | dict | list):
                event = assign(event, keys, str(stringify(value) or "undefined"))
        return event

    return change


def read(value: object, keys: Keys) -> object:
    """What stands at the end of a path, or `UNDEFINED`."""
    for key in keys:
        value = member(value, key) if truthy(value) else UNDEFINED
    return value


def assign(container: Any, keys: Keys, value: object) -> Any:
    """The container with ``value`` at ``keys``, and objects or lists made on the way where there are none."""
    key, rest = keys[0], keys[1:]
    if key in _UNSETTABLE:
        return container
    if rest:
        inner = member(container, key)
        if inner is None:
            raise TransformerError(f"{'.'.join(rest)!r} can not be set in {key!r}, which is null")
        if not isinstance(inner, dict | list):
            inner = [] if isfinite(to_number(rest[0])) else {}
        value = assign(inner, rest, value)
    if isinstance(container, dict):
        return {**container, key: value}
    index = _index(key)
    if index is None:
        return container
    if index > len(container) + _MAX_GAP:
        raise TransformerError(f"item {index} is far beyond the end of a list of {len(container)}")
    items = container + [None] * (index + 1 - len(container))
    items[index] = value
    return items


def _removed(container: Any, keys: Keys) -> Any:
    """The container without what stands at ``keys``, which is there; in a list, null takes its place."""
    key, rest = keys[0], keys[1:]
    if rest:
        return assign(container, (key,), _removed(member(container, key), rest))
    if isinstance(container, dict):
        return {name: container[name] for name in container if name != key}
    return assign(container, keys, None) if isinstance(container, list) else container


def _index(key: str) -> int | None:
    return int(key) if key.isascii() and key.isdecimal() and str(int(key[:9])) == key else None
