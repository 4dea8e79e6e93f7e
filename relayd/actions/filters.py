"""What of an event a destination does not get: whole events dropped or sampled, and single properties.

`compile_filters` takes the configuration's ``[[destinations.NAME.filters]]`` tables; `compile_transformers` takes
Segment's transformers as its own format (tsub) writes them. Neither changes the event it is given: what passes shares
everything untouched with it.

Filters work as Segment documents them for destinations. A filter has a condition in FQL, and one action. First come
samples, then drops, then drop_properties, then allow_properties, each kind in the order of the configuration. Every
condition looks at the event as it came, so that no filter can hide it from another. A filter that raises fails closed:
the event is dropped, and the result says so apart from events dropped by rule.
"""

from collections.abc import Callable, Mapping, Sequence
from random import random as unseeded
from typing import Any

from msgspec import Struct

from relayd.actions import sampling
from relayd.actions.transformers import Event, Transformer, TransformerError, compile_transformer
from relayd.actions.trigger import Condition, TriggerError, compile_filter

__all__ = ["FilterError", "FilterResult", "TransformerError", "compile_filters", "compile_transformers"]

_ACTIONS = ("sample", "drop", "drop_properties", "allow_properties")
"""In the order in which they are applied."""


class FilterError(ValueError):
    """A filter that is none. The message begins with its place, as in ``filters[2].if``."""


class FilterResult(Struct, frozen=True):
    """What the filters left of an event."""

    event: Event | None
    """The event to deliver, or None."""
    filter: int | None = None
    """Which filter dropped it, counted from 0."""
    error: str | None = None
    """Why that filter could not be applied; None where it dropped the event by rule."""

    @property
    def reason(self) -> str | None:
        """The reason to count a dropped event under; None for one that passed."""
        if self.filter is None:
            return None
        return "FILTERED_BY_RULES" if self.error is None else "FILTER_FAILED"


def compile_transformers(
    transformers: Sequence[Mapping[str, Any]],
    *,
    random: Callable[[], float] = unseeded,
    fraction: Callable[[object], float] = sampling.browser_fraction,
) -> Transformer:
    """Segment's transformers, one after the other, as its engine in browsers runs them. Raises `TransformerError`.

    That engine's samples by path keep everything; give ``sampling.fraction`` for ones that do not.
    """
    steps = [compile_transformer(each, random=random, fraction=fraction) for each in transformers]

    def transform(event: Event) -> Event | None:
        result: Event | None = event
        for step in steps:
            if result is None:
                break
            result = step(result)
        return result

    return transform


def compile_filters(
    filters: Sequence[Mapping[str, Any]], *, random: Callable[[], float]
) -> Callable[[Event], FilterResult]:
    """The filters of a destination, given as tables of ``if`` and one action. Raises `FilterError`.

    ``random`` gives numbers from 0 to below 1; it decides on samples without a path. What is returned never raises.
    """
    rules = [(index, *_compile(each, f"filters[{index}]", random)) for index, each in enumerate(filters)]
    rules.sort(key=lambda rule: rule[1])

    def apply(event: Event) -> FilterResult:
        left = event
        for index, _, condition, action in rules:
            try:
                changed = action(left) if condition(event) else left
            except Exception as error:
                return FilterResult(None, index, f"{type(error).__name__}: {error}")
            if changed is None:
                return FilterResult(None, index)
            left = changed
        return FilterResult(left)

    return apply


def _compile(table: Mapping[str, Any], place: str, random: Callable[[], float]) -> tuple[int, Condition, Transformer]:
    """When a filter comes, when it applies, and what it does."""
    actions = [action for action in _ACTIONS if action in table]
    if len(actions) != 1 or table.keys() != {"if", *actions}:
        raise FilterError(f"{place}: a filter has `if`, one of {', '.join(_ACTIONS)}, and nothing else")
    (action,) = actions
    text = table["if"]
    if not isinstance(text, str):
        raise FilterError(f"{place}.if: has to be a condition in quotes")
    try:
        condition = compile_filter(text)
    except TriggerError as error:
        raise FilterError(f"{place}.if: {error}") from error
    try:
        transformer = compile_transformer(
            _transformer(action, table[action]), random=random, fraction=sampling.fraction
        )
    except TransformerError as error:
        raise FilterError(f"{place}.{action}: {error}") from error
    return _ACTIONS.index(action), condition, transformer


def _transformer(action: str, value: Any) -> Mapping[str, Any]:
    """A filter's action as a transformer."""
    match action:
        case "drop":
            if value is not True:
                raise TransformerError("true is its only value")
            return {"type": "drop"}
        case "sample":
            if not isinstance(value, Mapping) or not {"percent"} <= value.keys() <= {"percent", "path"}:
                raise TransformerError("has to be a table with percent, a share from 0 to 1, and a path or none")
            if not isinstance(value["percent"], int | float) or not 0 <= value["percent"] <= 1:
                raise TransformerError(f"percent is a share from 0 to 1, not {value['percent']!r}")
            return {"type": "sample_event", "config": {"sample": value}}
        case _:
            return {"type": action, "config": {action.removesuffix("_properties"): value}}
