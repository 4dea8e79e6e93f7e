"""The annotated reference: every key of every section with its default and its line of explanation, as valid TOML.

Lines that begin with ``# `` show defaults, so uncommenting them changes nothing. Lines that begin with ``## `` are
examples: of keys that have no default, and of destinations of the other types. ``conf/relayd.toml`` is this text.
"""

import textwrap
from collections.abc import Container, Iterator, Mapping
from typing import Final, Literal, get_args, get_origin

from relayd.config import schema
from relayd.config.model import Config, Destination, Section, Source, SourceSubscription
from relayd.config.schema import REQUIRED, Key
from relayd.config.toml import render

_NOTHING: Final[Mapping[str, object]] = {}
_NO_APPS: Final[Mapping[str, type[Section]]] = {}
_COLUMN = 44
"""Where the explanations begin, at most."""
_WIDTH = 120
_HEAD = """\
# relayd's configuration. This file is the reference too: `relayd check --reference` prints it.
#
# Lines that begin with # show defaults: uncommenting one changes nothing. Lines that begin with ## are examples.
# Durations are "250ms", "10s", "5m", "4h" or "30d"; sizes are "500KB", "64MB" or "20GB", and a KB is 1,024 bytes.
# Any string may hold ${env:NAME}, ${file:PATH} or ${credential:NAME} (of systemd); "$${" is a plain "${".
# Paths are relative to the working directory, but those of include and ${file:} to the file that names them.
# The webhook below calls `relayd sink`, which shows what it gets. After a change: `relayd check`.
"""


_SDK_KEYS = ("type", "write_key", "enabled")
_OWN_MAPPING = "webhook"
"""The app that takes its trigger and mapping from the configuration."""


def reference(settings: Mapping[str, type[Section]], apps: Mapping[str, type[Section]] = _NO_APPS) -> str:
    """The reference, with a destination of each type; the first is in use, and shows all that a destination can have.

    ``apps`` are those of cloud-app sources. Raises ``ValueError`` for a key that has neither a default nor an example.
    """
    first, *others = settings
    tables = [_table("", Config), *_inner("", Config)]
    tables += [_table("sources.example", Source, _examples(Source), only=_SDK_KEYS), *_sources(apps)]
    tables += [
        _table(f"destinations.{first}", Destination, {"type": first}),
        _table(f"destinations.{first}.settings", settings[first], _examples(settings[first])),
        *_inner(f"destinations.{first}.", Destination),
    ]
    for other in others:
        name, given = f"destinations.{other}", {"type": other}
        tables += [
            _table(name, Destination, given, mark="## ", only=given),
            _table(f"{name}.settings", settings[other], _examples(settings[other]), mark="## "),
        ]
    return "\n".join([_HEAD, *tables])


def _sources(apps: Mapping[str, type[Section]]) -> Iterator[str]:
    """Examples of sources that take webhooks; the first app's shows subscriptions of its own."""
    if not apps:
        return
    first = next(iter(apps))
    for app, settings in apps.items():
        name, given = f"sources.{app}", {"type": "cloud_app", "app": app}
        keys = (*given, "trigger", "mapping") if app == _OWN_MAPPING else given
        yield _table(name, Source, given, mark="## ", only=keys)
        yield _table(f"{name}.settings", settings, _examples(settings), mark="## ")
        if app == first:
            yield _table(f"[{name}.subscriptions]", SourceSubscription, mark="## ")
    yield _table("sources.function", Source, {"type": "function"}, mark="## ", only=("type", "file", "timeout"))


def _examples(section: type[Section]) -> Mapping[str, object]:
    """What has to be set for the section to be of use, and has a default nevertheless."""
    return {
        key.name: key.example for key in schema.keys(section).values() if key.example is not None and key.default == ""
    }


def _inner(prefix: str, section: type[Section]) -> Iterator[str]:
    """The tables that are in a table."""
    for key in schema.keys(section).values():
        if key.section:
            yield _table(f"{prefix}{key.name}", key.section)
            yield from _inner(f"{prefix}{key.name}.", key.section)
        elif get_origin(key.holds) is tuple and _holds_tables(key):
            yield _table(f"[{prefix}{key.name}]", get_args(key.holds)[0], mark="## ")


def _table(
    name: str,
    section: type[Section],
    given: Mapping[str, object] = _NOTHING,
    *,
    mark: str = "",
    only: Container[str] | None = None,
) -> str:
    """A header and a row for each key, with the explanations in a column."""
    rows = [(f"{mark}[{name}]", " ".join((section.__doc__ or "").split()))] if name else []
    rows += [
        (_row(name, key, given, mark), _explanation(key))
        for key in schema.keys(section).values()
        if not _holds_tables(key) and (only is None or key.name in only)
    ]
    column = min(max(len(row) for row, _ in rows) + 2, _COLUMN)
    return "".join(_lines(row, explanation, column) for row, explanation in rows)


def _row(name: str, key: Key, given: Mapping[str, object], mark: str) -> str:
    if key.name in given:
        return f"{mark}{key.name} = {render(given[key.name])}"
    if key.default is not REQUIRED and key.default is not None:
        return f"{mark or '# '}{key.name} = {render(key.default)}"
    if key.example is None:
        raise ValueError(f"{name}.{key.name} has neither a default nor an example")
    return f"{mark or ('' if key.default is REQUIRED else '## ')}{key.name} = {render(key.example)}"


def _explanation(key: Key) -> str:
    """What the key says of itself, and what may be written where that does not say it."""
    parts = [key.explanation]
    choices = get_args(key.holds) if get_origin(key.holds) is Literal else ()
    if not all(str(each) in key.explanation for each in choices):
        parts.append(schema.alternatives([render(each) for each in choices]))
    parts += [f"{each.ge} to {each.le:,}" for each in key.meta if each.ge is not None and each.le is not None]
    return "; ".join(parts)


def _holds_tables(key: Key) -> bool:
    """Whether what the key holds is written as tables of their own."""
    inner = [each for member in schema.members(key.holds) for each in (member, *get_args(member))]
    return any(isinstance(each, type) and issubclass(each, Section) for each in inner)


def _lines(row: str, explanation: str, column: int) -> str:
    first, *more = textwrap.wrap(explanation, _WIDTH - max(column, len(row) + 2) - 2)
    lines = [f"{row:<{column - 2}}  # {first}", *(f"{'#':<{column}}# {each}" for each in more)]
    return "".join(f"{line}\n" for line in lines)
