"""``relayd journal``: looks into the log, whether a daemon runs or not."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from tabulate import tabulate

from relayd.cli.config import config_option, load_or_end
from relayd.cli.control import NotRunning, ask
from relayd.config.model import Config
from relayd.event import TYPES
from relayd.journal.export import Export, write_folder
from relayd.journal.reader import find_end
from relayd.journal.segment import SEGMENT_LOGS, Damaged, Folders
from relayd.journal.selection import Selection, parse_moment
from relayd.journal.verify import Found, Report, log_size, verify

Progress = Callable[[int], object]


class MomentType(click.ParamType[datetime]):
    """A time, or a duration ago."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return value if isinstance(value, datetime) else parse_moment(str(value), datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group("journal")
def command() -> None:
    """Look into the log of all events: the journal and its archive."""


@command.command("verify", short_help="Look for whatever is wrong with the log.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_(config: Path | None, as_json: bool) -> None:
    """Read all that the log has, say what is there, and exit 1 when something is wrong with it. Repairs nothing.

    It looks at lines, offsets, frames and checksums. The daemon may run meanwhile.
    """
    folders = _folders(load_or_end(config).config)
    try:
        with _bar(log_size(folders), "verifying") as progress:
            report = verify(folders, progress)
    except OSError as error:
        raise click.ClickException(f"the log can not be read: {error}") from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"ok": report.ok} | msgspec.structs.asdict(report))))
    else:
        click.echo("\n".join(_render(report)))
    if not report.ok:
        raise SystemExit(1)


@command.command("export", short_help="Print events, or write them to a folder.")
@config_option
@click.option("--since", type=MomentType(), metavar="TIME", help='From then on: ISO 8601, or a time ago such as "2h".')
@click.option("--until", type=MomentType(), metavar="TIME", help="Up to then, that moment not included.")
@click.option("--source", "sources", metavar="NAME", multiple=True, help="Of this source; may be repeated.")
@click.option("--type", "types", type=click.Choice(sorted(TYPES)), multiple=True, help="Of this type; may be repeated.")
@click.option("--event", "events", metavar="NAME", multiple=True, help="Events, pages or screens of this name.")
@click.option("--user", "users", metavar="ID", multiple=True, help="With this userId or anonymousId.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="So many at most, the oldest first.")
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"Write DIR/{SEGMENT_LOGS}/SOURCE/DAY/*.gz, Segment's layout, and not to stdout.",
)
def export(
    config: Path | None,
    since: datetime | None,
    until: datetime | None,
    sources: tuple[str, ...],
    types: tuple[str, ...],
    events: tuple[str, ...],
    users: tuple[str, ...],
    limit: int | None,
    to: Path | None,
) -> None:
    """Print events as JSON Lines, the oldest first; times are those of receipt, in UTC where they name no zone.

    \b
    relayd journal export --since 2h --event "Order Completed"
    relayd journal export --since 2026-11-01 --until 2026-12-01 --to november
    """
    loaded = load_or_end(config).config
    folders = _folders(loaded)
    if to is not None and (to / SEGMENT_LOGS).exists():
        raise click.UsageError(f"{to / SEGMENT_LOGS} is already there; export into a new folder")
    selection = Selection(since, until, sources, types, events, users)
    try:
        found = Export(folders, selection, head=_head(loaded, folders), limit=limit)
        if to is None:
            _print(found)
        else:
            with _bar(found.end - found.start, "exporting") as progress:
                files = write_folder(found, to, progress)
            click.echo(f"{found.events:,} events in {len(files):,} files below {to / SEGMENT_LOGS}", err=True)
    except Damaged as error:
        raise click.ClickException(f"{error}; `relayd journal verify` says more") from None
    except BrokenPipeError:  # whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except OSError as error:
        raise click.ClickException(f"the events can not be exported: {error}") from None
    if found.skipped:
        click.echo(f"{found.skipped:,} lines are no events and were passed over", err=True)


def _folders(config: Config) -> Folders:
    folders = Folders.of(config.state_dir, config.archive.segment_logs_in)
    if not folders.journal.is_dir():
        raise click.ClickException(f"there is no journal at {folders.journal}; `relayd run` makes it")
    return folders


def _head(config: Config, folders: Folders) -> int:
    """Where the log ends: for a daemon that runs, what is synced."""
    try:
        head = ask(config, "/status")["journal"]["head"]
    except NotRunning:
        return find_end(folders)
    assert isinstance(head, int)
    return head


def _print(found: Export) -> None:
    out = sys.stdout.buffer
    for batch in found:
        out.write(b"".join(line for line, _ in batch.events))
        out.flush()


@contextmanager
def _bar(length: int, label: str) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def _render(report: Report) -> Iterator[str]:
    yield _table(report.segments)
    yield ""
    yield from (f"{note}" for note in report.notes)
    yield from (click.style(str(fault), fg="red") for fault in report.faults)
    events = sum(each.events for each in report.segments)
    faults = f"{len(report.faults):,} fault{'' if len(report.faults) == 1 else 's'}" if report.faults else "no fault"
    yield f"{events:,} events in {len(report.segments):,} segments: {faults}"


def _table(segments: list[Found]) -> str:
    rows = [
        (
            each.path,
            _time(each.first_received_at),
            _time(each.last_received_at),
            f"{each.events:,}",
            f"{each.bytes:,}",
            "" if each.compressed_bytes is None else f"{each.compressed_bytes:,}",
        )
        for each in segments
    ]
    headers = ("segment", "first received", "last received", "events", "bytes", "compressed")
    sides = ("left", "left", "left", "right", "right", "right")
    return tabulate(rows, headers=headers, tablefmt="simple", colalign=sides if rows else None, disable_numparse=True)


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
