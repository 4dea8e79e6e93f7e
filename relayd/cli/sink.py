"""``relayd sink``: a receiving endpoint to point destinations at, which shows what it gets and can fail on purpose."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import click
import msgspec
import structlog
import trio
from msgspec import Raw, Struct

from relayd.config.units import Duration
from relayd.listener.sockets import BindError
from relayd.testing.faults import KINDS, Faults, Kind
from relayd.testing.sink import Received, Sink, Statistics, open_sink


class DurationType(click.ParamType[Duration]):
    """A duration such as 50ms or 2s."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            return value if isinstance(value, Duration) else Duration.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Event(Struct, rename="camel"):
    """What of an event is shown."""

    type: str | None = None
    event: str | None = None
    name: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    message_id: str | None = None


@click.command("sink")
@click.option("--bind", default="127.0.0.1:8099", metavar="ADDRESS", help="HOST:PORT or unix:PATH.")
@click.option(
    "--fail-first",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Share of messages that fail at first.",
)
@click.option(
    "--fail-attempts", type=click.IntRange(0), default=1, metavar="N", help="How often each of them fails; 0: always."
)
@click.option(
    "--fail-how", "kinds", type=click.Choice(KINDS), multiple=True, default=("status",), help="How; several are mixed."
)
@click.option("--status", type=click.IntRange(100, 999), default=503, help="The status of a failure.")
@click.option("--retry-after", type=click.FloatRange(0), metavar="SECONDS", help="Sent in Retry-After with the status.")
@click.option("--latency", type=DurationType(), default="0s", metavar="DURATION", help="Before every answer.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append what is accepted, as JSON Lines.",
)
@click.option("--quiet", is_flag=True, help="Show the totals only, at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line a request.")
@click.pass_context
def command(
    ctx: click.Context,
    bind: str,
    fail_first: float,
    fail_attempts: int,
    kinds: tuple[Kind, ...],
    status: int,
    retry_after: float | None,
    latency: Duration,
    record: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Receive events over HTTP, on any path, until Ctrl-C; show them; fail on purpose if told to.

    Which messages fail is decided by their messageId, so a retry of one succeeds.
    """
    if not fail_first:
        for option in ("fail_attempts", "kinds", "status", "retry_after"):
            if ctx.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError("nothing is to fail: say which share of messages with --fail-first, such as 0.1")
    faults = Faults(
        share=fail_first, attempts=fail_attempts, kinds=kinds, status=status, retry_after=retry_after, latency=latency
    )
    structlog.configure(  # clients that leave, often because they were told to, are nothing to report
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        statistics = trio.run(_run, bind, faults, record, quiet, as_json)
    except BindError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise click.ClickException(f"can not record to {record}: {error.strerror}") from None
    if as_json:
        click.echo(msgspec.json.encode({"totals": statistics}))
    else:
        click.echo(_totals(statistics), err=True)


async def _run(bind: str, faults: Faults, record: Path | None, quiet: bool, as_json: bool) -> Statistics:
    gone: BrokenPipeError | None = None
    stop = trio.CancelScope()

    def show(received: Received) -> None:
        nonlocal gone
        try:
            click.echo(_json(received) if as_json else "\n".join(_lines(received)))
        except BrokenPipeError as error:
            gone = error
            stop.cancel()

    watch: Callable[[Received], object] | None = None if quiet else show
    with stop, trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_sink(bind, faults=faults, memory="counts", record=record, watch=watch) as sink:
            _greet(sink, bind, as_json)
            async for _ in signals:
                break
    if gone:
        raise gone
    return sink.statistics()


def _greet(sink: Sink, bind: str, as_json: bool) -> None:
    where = sink.url or bind
    if as_json:
        click.echo(msgspec.json.encode({"listening": where}))
    else:
        click.echo(f"listening on {where}, any path; Ctrl-C stops", err=True)


def _json(received: Received) -> bytes:
    return msgspec.json.encode(
        {
            "at": received.at,
            "method": received.method,
            "target": received.target,
            "status": received.status,
            "fault": received.fault,
            "rejected": received.rejected or None,
            "events": [Raw(event) for event in received.events],
        }
    )


def _lines(received: Received) -> Iterator[str]:
    """The time, what was answered, and each event; events after the first below it."""
    at = datetime.fromtimestamp(received.at).astimezone().strftime("%H:%M:%S")
    answer = str(received.status) if received.fault in (None, "status") else str(received.fault)
    styled = click.style(answer.ljust(7), fg="green" if received.accepted else "red")
    shown = [_describe(event) for event in received.events] or [received.rejected or "no events"]
    head = f"{at}  {styled} {_clean(f'{received.method} {received.target}')}  "
    if len(shown) > 1:
        yield f"{head}{len(shown)} events"
        yield from (f"{'':18}{each}" for each in shown)
    else:
        yield head + shown[0]


def _describe(event: bytes) -> str:
    """An event in a few words."""
    try:
        shown = msgspec.json.decode(event, type=_Event)
    except msgspec.DecodeError:
        return _clean(event[:100].decode(errors="replace"))
    name = shown.event or shown.name
    parts = (shown.type, name and f'"{name}"', shown.user_id or shown.anonymous_id, shown.message_id)
    return "  ".join(_clean(part) for part in parts if part)


def _clean(text: str) -> str:
    """Without what would steer the terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _totals(statistics: Statistics) -> str:
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(statistics.faults.items()))
    return (
        f"accepted {statistics.accepted_events} events in {statistics.accepted_requests} of {statistics.requests} "
        f"requests; failed on purpose: {faults or 'none'}; not events: {statistics.rejected}"
    )
