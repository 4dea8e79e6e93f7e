"""What of an event a destination does not get: whole events dropped or sampled, and single properties.

`compile_filters` takes the configuration's ``[[destinations.NAME.filters]]`` tables; `compile_transformers` takes
Segment's transformers as its own format (tsub) writes them. Neither changes the event it is given: what passes shares
everything untouched with it.

Filters work as Segment documents them for destinations. A filter has a condition in FQL, and one action or more. First
come samples, then drops, then drop_properties, allow_properties, map_properties and hash_properties, each kind in the
order of the configuration. Every condition looks at the event as it came, so that no filter can hide it from another.
A filter that raises fails closed: the event is dropped, and the result says so apart from events dropped by rule.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import random as unseeded
from typing import Any, NamedTuple

from msgspec import Struct

from relayd.actions import sampling
from relayd.actions.transformers import Event, Transformer, TransformerError, compile_transformer
from relayd.actions.trigger import Condition, TriggerError, compile_filter

__all__ = ["FilterError", "FilterResult", "Filters", "TransformerError", "compile_filters", "compile_transformers"]

_ACTIONS = ("sample", "drop", "drop_properties", "allow_properties", "map_properties", "hash_properties")
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


class FilterStep(NamedTuple):
    """One action of one filter, as it went with an event."""

    filter: int
    """Which filter, counted from 0."""
    action: str
    holds: bool
    """Whether the filter's condition holds; where it does not, the action was not applied."""
    before: Event
    after: Event | None
    """None where the event was dropped, by rule or for the error."""
    error: str | None = None


class Filters:
    """The filters of a destination, compiled. Nothing here raises."""

    def __init__(self, rules: Sequence[tuple[int, int, Condition, Transformer]]) -> None:
        """``rules`` are an action's place among the kinds, its filter's index, its condition, and what it does."""
        self._rules = sorted(rules, key=lambda rule: rule[:2])

    def __call__(self, event: Event) -> FilterResult:
        """What is left of an event."""
        left = event
        for step in self.steps(event):
            if step.after is None:
                return FilterResult(None, step.filter, step.error)
            left = step.after
        return FilterResult(left)

    def steps(self, event: Event) -> Iterator[FilterStep]:
        """Each action in its turn, up to the one that drops the event."""
        left = event
        for order, index, condition, action in self._rules:
            holds = False
            try:
                holds = condition(event)
                changed = action(left) if holds else left
            except Exception as error:
                yield FilterStep(index, _ACTIONS[order], holds, left, None, f"{type(error).__name__}: {error}")
                return
            yield FilterStep(index, _ACTIONS[order], holds, left, changed)
            if changed is None:
                return
            left = changed


def compile_filters(filters: Sequence[Mapping[str, Any]], *, random: Callable[[], float]) -> Filters:
    """The filters of a destination, given as tables of ``if`` and some actions. Raises `FilterError`.

    ``random`` gives numbers from 0 to below 1; it decides on samples without a path.
    """
    return Filters(
        [
            (order, index, condition, action)
            for index, each in enumerate(filters)
            for order, condition, action in _compile(each, f"filters[{index}]", random)
        ]
    )


def _compile(
    table: Mapping[str, Any], place: str, random: Callable[[], float]
) -> list[tuple[int, Condition, Transformer]]:
    """A filter's actions: when each comes, when it applies, and what it does."""
    actions = table.keys() - {"if"}
    if "if" not in table or not actions or not actions <= set(_ACTIONS):
        raise FilterError(f"{place}: a filter has `if`, some of {', '.join(_ACTIONS)}, and nothing else")
    text = table["if"]
    if not isinstance(text, str):
        raise FilterError(f"{place}.if: has to be a condition in quotes")
    try:
        condition = compile_filter(text)
    except TriggerError as error:
        raise FilterError(f"{place}.if: {error}") from error
    rules = []
    for order, action in enumerate(_ACTIONS):
        if action not in actions:
            continue
        try:
            transformer = compile_transformer(
                _transformer(action, table[action]), random=random, fraction=sampling.fraction
            )
        except TransformerError as error:
            raise FilterError(f"{place}.{action}: {error}") from error
        rules.append((order, condition, transformer))
    return rules


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
