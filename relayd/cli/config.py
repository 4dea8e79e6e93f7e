"""The configuration, as every command gets it: ``-c FILE``, else $RELAYD_CONFIG, else the first of the usual places."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from relayd.config.errors import ConfigError, Keys
from relayd.config.load import Loaded, load
from relayd.config.model import Destination, Section
from relayd.config.schema import keys
from relayd.config.units import Size
from relayd.destinations import CATALOG, InvalidSettings, get

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


def load_checked(path: Path) -> Loaded:
    """The configuration at ``path``, checked against the catalog too. Raises `ConfigError`."""
    return load(path, settings=catalog(), check=_check)


def load_or_end(config: Path | None) -> Loaded:
    """The configuration that is meant. Prints what is wrong with it to stderr, and then ends the command."""
    try:
        return load_checked(find(config))
    except ConfigError as error:
        _end(str(error))


def catalog() -> Mapping[str, type[Section]]:
    """Every type of destination, and what it declares."""
    return {name: each.settings for name, each in CATALOG.items()}


def _check(destination: Destination) -> Iterator[tuple[Keys, str]]:
    """What the destination's type says against it."""
    type_ = get(destination.type)
    if isinstance(destination.settings, Section):
        try:
            type_.check(destination.settings)
        except InvalidSettings as error:
            yield _placed(str(error), type_.settings)
    size, size_limit = destination.delivery.batch_size, type_.max_batch_size
    if size and size > size_limit:
        yield ("delivery", "batch_size"), f"must be at most {size_limit} for type {destination.type}, not {size}"
    bytes_, bytes_limit = destination.delivery.batch_bytes, Size(type_.batch_bytes)
    if bytes_ and bytes_ > bytes_limit:
        yield ("delivery", "batch_bytes"), f"must be at most {bytes_limit} for type {destination.type}, not {bytes_}"


def _placed(message: str, settings: type[Section]) -> tuple[Keys, str]:
    """The message, at the setting that it begins with if it does."""
    match = re.match(r"(\w+):? ", message)
    if match and match[1] in keys(settings):
        return ("settings", match[1]), message[match.end() :]
    return ("settings",), message


def _end(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(WRONG)
