"""The configuration, as every command gets it: ``-c FILE``, else $RELAYD_CONFIG, else the first of the usual places."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from relayd.actions.filters import FilterError, compile_filters
from relayd.cli.source_check import file_faults, source_check
from relayd.config.conversion import INVALID
from relayd.config.errors import ConfigError, Keys
from relayd.config.load import Loaded, load
from relayd.config.model import Destination, Filter, Section
from relayd.config.schema import keys
from relayd.config.units import Size
from relayd.destinations import CATALOG, InvalidSettings, base, function, get
from relayd.destinations.endpoint import check_url
from relayd.destinations.modes import DEVICES, Integration, connection
from relayd.destinations.subscription import InvalidSubscription, compile_subscriptions, faults_of
from relayd.sources import declared

USUAL = (Path("/etc/relayd/relayd.toml"), Path("conf/relayd.toml"))

WRONG = 2
"""The exit code for wrong usage or a wrong configuration."""


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its ``-c/--config``, as the parameter ``config``: a path, or None for the usual places."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        envvar="RELAYD_CONFIG",
        metavar="FILE",
        help=f"The configuration.  [default: $RELAYD_CONFIG, {', '.join(map(str, USUAL))}]",
    )(command)


def find(config: Path | None) -> Path:
    """The file that is meant. Ends the command when there is none."""
    path = config or next((each for each in USUAL if each.exists()), None)
    if path is None:
        _end(f"there is no configuration at {' or '.join(map(str, USUAL))}; name one with -c FILE or $RELAYD_CONFIG")
    return path


def load_checked(path: Path, *, imports: bool = False) -> Loaded:
    """The configuration at ``path``, checked against the catalog too. Raises `ConfigError`.

    With ``imports``, the files of functions are imported as well, each in a process of its own.
    """
    return load(
        path, settings=catalog(), apps=declared(), check=_checks(imports=imports), check_source=source_check(imports)
    )


def load_or_end(config: Path | None) -> Loaded:
    """The configuration that is meant. Prints what is wrong with it to stderr, and then ends the command."""
    try:
        return load_checked(find(config))
    except ConfigError as error:
        _end(str(error))


def catalog() -> Mapping[str, type[Section]]:
    """Every type of destination, and what it declares."""
    return {name: each.settings for name, each in CATALOG.items()}


def _checks(*, imports: bool) -> Callable[[Destination], Iterator[tuple[Keys, str]]]:
    """Checks the destinations of one configuration, each by itself and against those before it."""
    before: list[Destination] = []

    def check(destination: Destination) -> Iterator[tuple[Keys, str]]:
        yield from _check(destination)
        if isinstance(destination.settings, function.Settings):
            yield from file_faults(("settings", "file"), destination.settings.file, function.HANDLERS, imports)
        if any(map(partial(_are_one_tool, destination), before)):
            message = "is the name of another destination too, in the same pages or apps; a tool is told of there once"
            yield ("settings", "name"), message
        before.append(destination)

    return check


def _are_one_tool(one: Destination, other: Destination) -> bool:
    """Whether the SDKs of some source are told of two tools by one name."""
    meet = None in (one.sources, other.sources) or set(one.sources or ()) & set(other.sources or ())
    return bool(meet and _tools(one) & _tools(other))


def _tools(destination: Destination) -> set[tuple[str, str]]:
    """The types of sources whose SDKs are told of the destination, and as what."""
    if not (destination.enabled and isinstance(destination.settings, Section)):
        return set()
    connections = {
        each: connection(get(destination.type), destination.settings, destination.mode, each) for each in DEVICES
    }
    return {(each, tool.name) for each, tool in connections.items() if isinstance(tool, Integration)}


def _check(destination: Destination) -> Iterator[tuple[Keys, str]]:
    """What the destination's type says against it."""
    type_ = get(destination.type)
    if isinstance(destination.settings, Section):
        try:
            check = type_.check_mapped if destination.subscriptions else type_.check
            check(destination.settings)
        except InvalidSettings as error:
            yield _placed(str(error), type_.settings)
    yield from _modes(destination, type_)
    if not type_.cloud:
        return
    yield from _limits(destination, type_)
    yield from _base_url(destination.delivery.base_url)
    for index, each in enumerate(destination.filters):
        if each is not INVALID and each.condition is not INVALID:
            yield from _filter(index, each)
    yield from _subscriptions(destination, type_)


def _modes(destination: Destination, type_: base.Destination[Any]) -> Iterator[tuple[Keys, str]]:
    """A connection mode that the type does not have, and what is for naught where relayd sends nothing."""
    if destination.mode == "device" and type_.device is None:
        yield (
            ("mode",),
            f'must be "cloud" for type {destination.type}, which has no device-mode; '
            'a tool whose code is in the page or the app is a destination of type "device"',
        )
    if type_.cloud:
        return
    if destination.mode == "cloud":
        yield ("mode",), f'must be "device" for type {destination.type}, which has no cloud-mode'
    for key in ("filters", "subscriptions"):
        if getattr(destination, key):
            yield (key,), f"must be left out for type {destination.type}: its events do not come from here"


def _limits(destination: Destination, type_: base.Destination[Any]) -> Iterator[tuple[Keys, str]]:
    """Batches that are larger than any request of the type may be."""
    batches = [each.batching for each in type_.actions.values() if each.batching]
    most = max([type_.max_batch_size, *(each.max_size for each in batches)])
    size = destination.delivery.batch_size
    if size and size > most:
        yield ("delivery", "batch_size"), f"must be at most {most} for type {destination.type}, not {size}"
    most_bytes = Size(max([type_.batch_bytes, *(each.max_bytes for each in batches)]))
    bytes_ = destination.delivery.batch_bytes
    if bytes_ and bytes_ > most_bytes:
        yield ("delivery", "batch_bytes"), f"must be at most {most_bytes} for type {destination.type}, not {bytes_}"


def _base_url(url: str) -> Iterator[tuple[Keys, str]]:
    """What makes it none that a request's path can stand behind."""
    try:
        if url:
            check_url("base_url", url)
        if "?" in url:
            yield ("delivery", "base_url"), "must not have a ?query; a request's path comes after it"
    except InvalidSettings as error:
        yield ("delivery", "base_url"), str(error).removeprefix("base_url ")


def _filter(index: int, filter_: Filter) -> Iterator[tuple[Keys, str]]:
    """What is wrong with a filter, at the place that the message begins with: ``filters[0].if: ...``."""
    actions = {name: value for name, value in filter_.table.items() if name != "if"}
    found = {}
    for each in [{name: value} for name, value in actions.items()] or [{}]:
        try:
            compile_filters([{"if": filter_.condition, **each}], random=lambda: 0)
        except FilterError as error:
            place, _, message = str(error).partition(": ")
            found[place.partition(".")[2]] = message
    for key, message in found.items():
        yield ("filters", index, key) if key else ("filters", index), message


def _subscriptions(destination: Destination, type_: base.Destination[Any]) -> Iterator[tuple[Keys, str]]:
    """What is wrong with the subscriptions, besides what is known of their names and actions."""
    sound = {}
    for index, each in enumerate(destination.subscriptions):
        if each is INVALID:
            continue
        if INVALID not in (each.name, each.action):
            sound[index] = each
        elif each.enabled:
            yield from ((("subscriptions", index, *keys), message) for keys, message in faults_of(each))
    try:
        compile_subscriptions(type_, Section(), list(sound.values()), destination.delivery)
    except ExceptionGroup as group:
        for fault in group.exceptions:
            assert isinstance(fault, InvalidSubscription)
            place, *within = fault.keys
            yield ("subscriptions", list(sound)[int(place)], *within), str(fault)


def _placed(message: str, settings: type[Section]) -> tuple[Keys, str]:
    """The message, at the setting that it begins with if it does."""
    match = re.match(r"(\w+):? ", message)
    if match and match[1] in keys(settings):
        return ("settings", match[1]), message[match.end() :]
    return ("settings",), message


def _end(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(WRONG)
