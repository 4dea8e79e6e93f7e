"""``relayd replay``: history again, into one destination."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import random
from typing import Any

import click
import msgspec
from msgspec.structs import replace
from tabulate import tabulate

from relayd.cli.config import config_option, load_or_end
from relayd.cli.control import ask
from relayd.config.load import Loaded
from relayd.config.model import Config, Section
from relayd.config.units import Rate
from relayd.delivery.eligibility import Eligibility
from relayd.destinations import get
from relayd.destinations.subscription import compile_subscriptions
from relayd.journal.reader import find_end
from relayd.journal.segment import Folders
from relayd.journal.selection import parse_moment
from relayd.replay.formats import ArchiveReader, Bad, NoArchive, files_of
from relayd.replay.job import Criteria, Spec
from relayd.replay.runner import Refused, check
from relayd.replay.scan import JournalLines, Lines, Scan, span

_EVERY = 0.5
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Moment(click.ParamType[int]):
    """An ISO 8601 time, or how long ago: "2h", "30d". Becomes Unix milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else round(parse_moment(value, datetime.now(UTC)).timestamp() * 1000)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class PerSecond(click.ParamType[float]):
    """Events a second: "200/s"."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value if isinstance(value, float) else Rate.parse(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group("replay")
def command() -> None:
    """Deliver events of the journal, or of archived logs, to one destination (again)."""


@command.command("start")
@config_option
@click.option("--to", "destination", required=True, metavar="DEST", help="The destination; it may be disabled.")
@click.option("--from-source", "source", metavar="SOURCE", help="Only events of this source.")
@click.option("--since", type=Moment(), help='Only events received from this time on ("2026-11-01", or "2h" ago).')
@click.option("--until", type=Moment(), help="Only events received before this time.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given again.")
@click.option(
    "--event", "events", multiple=True, help="Only events, pages or screens of this name; may be given again."
)
@click.option("--user", metavar="ID", help="Only events of this userId or anonymousId.")
@click.option(
    "--archive",
    type=click.Path(exists=True, path_type=Path),
    help="A folder or file of archived logs, relayd's or Segment's, instead of relayd's own journal.",
)
@click.option("--rate", type=PerSecond(), help='Events a second at most ("200/s").')
@click.option("--dry-run", is_flag=True, help="Only count what would be sent; needs no running relayd.")
@click.option("--again", is_flag=True, help="Do it although the same replay was done before.")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@_json_option
def start(
    config: Path | None,
    destination: str,
    source: str | None,
    since: int | None,
    until: int | None,
    types: tuple[str, ...],
    events: tuple[str, ...],
    user: str | None,
    archive: Path | None,
    rate: float | None,
    dry_run: bool,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a replay, and print its id."""
    loaded = load_or_end(config)
    try:
        criteria = Criteria(
            source=source, since=since, until=until, types=frozenset(types), events=frozenset(events), user=user
        )
        where = None if archive is None else str(archive.absolute())
        spec = Spec(destination=destination, criteria=criteria, archive=where, rate=rate)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if dry_run:
        _show_counts(_dry_run(loaded, spec), as_json)
        return
    answer = ask(loaded.config, "/replays", {"spec": spec, "again": again})
    if as_json:
        click.echo(msgspec.json.encode(answer))
    else:
        click.echo(f"replay {answer['id']} has started; `relayd replay show {answer['id']}` says how it stands")
    if wait:
        _follow(loaded, answer["id"], quiet=as_json)


@command.command("list")
@config_option
@_json_option
def list_(config: Path | None, as_json: bool) -> None:
    """Show all replays."""
    replays = ask(load_or_end(config).config, "/replays")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(replays)))
        return
    rows = [
        [
            each["id"],
            each["destination"],
            each["state"],
            f"{each['share']:.0%}",
            each["scanned"],
            each["matched"],
            each["delivered"],
            each["pending"],
            sum(each["failed"].values()),
        ]
        for each in replays
    ]
    headers = ["replay", "to", "state", "read", "scanned", "matched", "delivered", "pending", "held"]
    click.echo(tabulate(rows, headers, intfmt=",") if rows else "no replays")


@command.command("show")
@config_option
@click.argument("id_", metavar="ID")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@_json_option
def show(config: Path | None, id_: str, wait: bool, as_json: bool) -> None:
    """Show one replay's figures."""
    loaded = load_or_end(config)
    if wait:
        _follow(loaded, id_, quiet=as_json)
    _show_counts(ask(loaded.config, f"/replays/{id_}"), as_json)


def _change(name: str, text: str) -> None:
    @command.command(name, help=text)
    @config_option
    @click.argument("id_", metavar="ID")
    @_json_option
    def change(config: Path | None, id_: str, as_json: bool) -> None:
        answer = ask(load_or_end(config).config, f"/replays/{id_}/{name}", {})
        if as_json:
            click.echo(msgspec.json.encode(answer))
        else:
            click.echo(f"replay {id_} is {answer['state']}")


_change("pause", "Let what is in flight end, and wait.")
_change("resume", "Go on with a paused replay.")
_change("cancel", "Stop a replay for good.")


def _follow(loaded: Loaded, id_: str, *, quiet: bool) -> None:
    """Return when the replay has ended. Ends the command with 1 when it was cancelled."""
    seen, then = 0, time.monotonic()
    with click.progressbar(length=1000, label=id_, hidden=quiet, file=sys.stderr) as bar:
        while True:
            now = ask(loaded.config, f"/replays/{id_}")
            done = now["share"] * (1 - now["pending"] / max(now["deliveries"], 1))
            rate = (now["scanned"] - seen) / max(time.monotonic() - then, 0.001)
            seen, then = now["scanned"], time.monotonic()
            bar.label = f"{id_}: {now['delivered']:,} delivered, {rate:,.0f} events/s read"
            bar.update(max(round(1000 * done) - bar.pos, 0))
            if now["state"] != "running":
                break
            time.sleep(_EVERY)
    if now["state"] != "finished":
        raise click.ClickException(f"replay {id_} is {now['state']}")


def _dry_run(loaded: Loaded, spec: Spec) -> dict[str, Any]:
    """What the replay would come to, without sending anything. Ends the command where it would be refused."""
    try:
        check(spec, loaded.config)
        lines = _lines(loaded.config, spec)
    except (Refused, NoArchive, OSError) as error:
        raise click.ClickException(str(error)) from None
    config = replace(loaded.config.destinations[spec.destination], enabled=True, sources=None)
    assert isinstance(config.settings, Section), "the loader checks settings against the type"
    subscriptions = compile_subscriptions(get(config.type), config.settings, config.subscriptions, config.delivery)
    eligibility = Eligibility.of(spec.destination, config, subscriptions, sources=loaded.config.sources, random=random)
    scan = Scan(lines, spec.criteria, spec.destination, has_room=lambda: True)
    counts = dict.fromkeys(("scanned", "bad_lines", "received", "matched", "deliveries"), 0)
    filtered: dict[str, int] = {}
    try:
        while (chunk := scan.read(0)) is not None:
            selection = eligibility.select(chunk.data)
            found = {
                **chunk.counts,
                "received": selection.received,
                "matched": selection.matched,
                "deliveries": len(selection.matches),
            }
            for name, count in found.items():
                counts[name] += count
            for reason, count in selection.filtered.items():
                filtered[reason] = filtered.get(reason, 0) + count
    finally:
        scan.close()
    return counts | {"filtered": filtered}


def _lines(config: Config, spec: Spec) -> Lines:
    """What the replay would read. Raises `NoArchive`, or ``OSError``."""

    def report(bad: Bad) -> None:
        click.echo(str(bad), err=True)

    if spec.archive is not None:
        return ArchiveReader(files_of(Path(spec.archive)), 0, source=spec.criteria.source, report=report)
    folders = Folders.of(config.state_dir, config.archive.segment_logs_in)
    if not folders.journal.is_dir():
        raise NoArchive(f"there is no journal at {folders.journal}; `relayd run` makes it")
    begin, end = span(folders, find_end(folders), spec.criteria)
    return JournalLines(folders, begin, end, offset=begin, report=report)


def _show_counts(counts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(counts)))
        return
    rows: list[tuple[str, object]] = []
    for name, value in counts.items():
        if name in ("created", "ended") and value is not None:
            value = datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
        if name == "spec":
            continue
        if isinstance(value, dict):
            rows += [(f"{name}: {reason}", f"{count:,}") for reason, count in value.items()]
        else:
            rows.append((name.replace("_", " "), f"{value:,}" if type(value) is int else value))
    click.echo(tabulate(rows, tablefmt="plain", disable_numparse=True))
