"""Reading a configuration: from a path to a checked `Config`, or to all of its errors at once.

Paths in the configuration are relative to the working directory, but for those of ``include`` and ``${file:}``, which
are relative to the file that names them.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from relayd.config import rules
from relayd.config.conversion import Conversion
from relayd.config.document import Document, read
from relayd.config.errors import ConfigError, Keys, Problem, suggestion
from relayd.config.model import Config, Destination, Section, Source

Check = Callable[[Destination], Iterable[tuple[Keys, str]]]
"""What a destination's type says of it: the keys, from the destination on, and what is wrong."""

SourceCheck = Callable[[Source], Iterable[tuple[Keys, str]]]
"""The same of a source."""

_NO_APPS: Mapping[str, type[Section]] = {}


class Loaded(Struct, frozen=True):
    """A checked configuration, and what goes with it."""

    config: Config
    secrets: frozenset[str]
    """Whatever came from a reference or is marked secret, to be redacted from logs; nothing under 4 characters."""
    warnings: tuple[Problem, ...]
    """What is allowed and yet hardly meant."""
    files: tuple[str, ...]
    """The files that were read, the one that was asked for first."""


def load(
    path: str | Path,
    *,
    settings: Mapping[str, type[Section]],
    apps: Mapping[str, type[Section]] = _NO_APPS,
    environ: Mapping[str, str] = os.environ,
    check: Check | None = None,
    check_source: SourceCheck | None = None,
) -> Loaded:
    """Read the configuration at ``path``. Raises `ConfigError` with all that is wrong.

    ``settings`` are the types of destinations and what each declares, ``apps`` those of cloud-app sources. ``check``
    sees each destination of a known type; its settings are the declared `Section`, or, if an error in them is already
    known, as they are written. ``check_source`` sees each source of which no error is known.
    """
    document = read(Path(path), environ)
    conversion = Conversion(document)
    config = conversion.section(Config, document.tree, ())
    config = replace(
        config,
        daemon=replace(config.daemon, state_dir=config.daemon.state_dir or _state_dir(environ)),
        sources={
            name: _with_app(source, ("sources", name), conversion, document, apps)
            for name, source in config.sources.items()
        },
        destinations={
            name: _with_settings(destination, ("destinations", name), conversion, document, settings)
            for name, destination in config.destinations.items()
        },
    )
    rules.check(config, document)
    for name, destination in config.destinations.items():
        if check and destination.type in settings:
            for keys, message in check(destination):
                document.report(("destinations", name, *keys), message)
    for name, source in config.sources.items():
        if check_source and document.sound("sources", name):
            for keys, message in check_source(source):
                document.report(("sources", name, *keys), message)
    if document.problems:
        raise ConfigError(document.problems)
    return Loaded(config, frozenset(document.secrets), tuple(rules.warnings(config, document)), tuple(document.files))


def _with_app(
    source: Source, at: Keys, conversion: Conversion, document: Document, apps: Mapping[str, type[Section]]
) -> Source:
    """The source with the settings that its app declares, if it is one of an app that is known."""
    if source.type != "cloud_app" or source.app is None or not document.sound(*at, "app"):
        return source
    declared = apps.get(source.app)
    if declared is None:
        document.report((*at, "app"), f'unknown app "{source.app}"; {suggestion(source.app, apps, "apps")}')
        return source
    if document.wrong(*at, "settings"):
        return source
    converted = conversion.section(declared, source.settings, (*at, "settings"))
    return replace(source, settings=converted) if document.sound(*at, "settings") else source


def _with_settings(
    destination: Destination,
    at: Keys,
    conversion: Conversion,
    document: Document,
    settings: Mapping[str, type[Section]],
) -> Destination:
    """The destination with the settings that its type declares, if all that is known of it lets us find out."""
    if not document.sound(*at, "type"):
        return destination
    declared = settings.get(destination.type)
    if declared is None:
        message = f'unknown type "{destination.type}"; {suggestion(destination.type, settings, "types")}'
        document.report((*at, "type"), message)
        return destination
    if document.wrong(*at, "settings"):
        return destination
    converted = conversion.section(declared, destination.settings, (*at, "settings"))
    return replace(destination, settings=converted) if document.sound(*at, "settings") else destination


def _state_dir(environ: Mapping[str, str]) -> str:
    """systemd's, of which there may be several, else ``./state``."""
    return environ.get("STATE_DIRECTORY", "").split(":")[0] or "state"
