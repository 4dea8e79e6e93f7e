"""FQL, the language of triggers and filters: a text becomes a function that says whether an event satisfies it.

    compile_trigger('type = "track" and event = "Order Completed"')
    compile_filter("typeof(traits.email) = 'string' and !match(lowercase(traits.email), '*@example.com')")

A text that is no FQL raises `TriggerError`, which names the column, what was expected there, and shows the line; no
part of a text is ever skipped. A compiled condition takes any event decoded from JSON and never raises; it costs less
than a microsecond. Texts are at most 5 KB and 32 levels deep.

There are two dialects, with one grammar and one compiler. `compile_filter` reads the language that Segment documents
for destination filters (docs: "Destination Filter Query Language"). `compile_trigger` reads the language of
subscriptions, as Segment's engine runs it (npm @segment/destination-subscriptions 3.37.0) wherever that is not an
accident of its parser; there relayd does the sane thing: `and` binds tighter than `or`, groups nest and can be negated,
single quotes and glob patterns work. A trigger is rewritten into documented FQL, and the compiler knows no other:

    in a trigger                               is, in documented FQL
    -----------------------------------------  ------------------------------------------------------------------
    type, event, name, userId; below           the same paths; all other fields are an error
      properties, traits, context
    properties.a\\.b, properties.items\\[0\\].sku  properties.a.b, properties.items.0.sku: an escape never joins keys
    type = track                               type = 'track': a bare word is text, one with dots is a field
    event = 5, userId != 5                     event = '5', userId != '5': these four fields are compared as text
    event = true, type = false                 event = 'true', type = 'false'; but userId = true is the truth value
    properties.x != true                       properties.x != 'true', so always, unless it is that text
    properties.x != 10                         typeof(properties.x) = 'number' and properties.x != 10
    properties.x > "10", … > true              properties.x > 10, … > 1; never, where the text is no number
    !contains(P, 's'), !match(P, 'g')          typeof(P) = 'string' and !contains(P, 's')
    contains, match: the second value          has to be a text in quotes
    in, lists, texts as first values           the same
    length and the other functions,            an error
      a field alone, a text left of `=`

In both: a missing field is null; `=` and `!=` are strict in type, and each other's opposite; `<` and its like hold for
numbers only; a list's items are at .0, .1 and its number of items is at .length.
"""

from relayd.actions.fql_ast import Node
from relayd.actions.fql_compiler import Condition, compile_condition
from relayd.actions.fql_dialect import FilterDialect, TriggerDialect
from relayd.actions.fql_error import TriggerError
from relayd.actions.fql_parser import MAX_BYTES, MAX_DEPTH, parse

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "Condition",
    "TriggerError",
    "compile_filter",
    "compile_trigger",
    "parse_filter",
    "parse_trigger",
]


def compile_trigger(text: str) -> Condition:
    """Whether an event is for a subscription, in the dialect of triggers. Raises `TriggerError`."""
    return compile_condition(parse_trigger(text))


def compile_filter(text: str) -> Condition:
    """Whether a filter applies to an event, in documented FQL. Raises `TriggerError`."""
    return compile_condition(parse_filter(text))


def parse_trigger(text: str) -> Node:
    """A trigger's tree; printed, it is the trigger in documented FQL. Raises `TriggerError`."""
    return parse(text, TriggerDialect())


def parse_filter(text: str) -> Node:
    """A filter's tree; printed, it is FQL that gives the same tree. Raises `TriggerError`."""
    return parse(text, FilterDialect())
