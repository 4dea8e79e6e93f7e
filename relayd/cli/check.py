"""``relayd check``: all errors of a configuration at once, or the annotated reference of all that it can have."""

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from relayd.cli.config import WRONG, catalog, config_option, find, load_checked
from relayd.config.errors import ConfigError, Problem
from relayd.config.reference import reference
from relayd.sources import declared


@click.command("check")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--reference", "wants_reference", is_flag=True, help="Print every key, its default and what it means.")
def command(config: Path | None, as_json: bool, wants_reference: bool) -> None:
    """Check a configuration: print all its errors at once, each with its file and line, and exit 2.

    The files of functions are imported, each in a process of its own.
    """
    if wants_reference:
        click.echo(reference(catalog(), declared()), nl=False)
        return
    path = find(config)
    try:
        loaded = load_checked(path, imports=True)
    except ConfigError as error:
        if as_json:
            _print_json(path, problems=error.problems)
        else:
            click.echo(str(error), err=True)
        raise SystemExit(WRONG) from None
    sources, destinations = len(loaded.config.sources), len(loaded.config.destinations)
    if as_json:
        _print_json(path, sources=sources, destinations=destinations, warnings=loaded.warnings)
        return
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path}: ok, {_count(sources, 'source')}, {_count(destinations, 'destination')}")


def _print_json(
    path: Path,
    *,
    sources: int | None = None,
    destinations: int | None = None,
    problems: Iterable[Problem] = (),
    warnings: Iterable[Problem] = (),
) -> None:
    problems = list(problems)
    answer = {
        "file": str(path),
        "ok": not problems,
        "sources": sources,
        "destinations": destinations,
        "problems": problems,
        "warnings": list(warnings),
    }
    click.echo(msgspec.json.format(msgspec.json.encode(answer)))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
