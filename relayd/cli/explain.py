"""``relayd explain``: what would become of an event at a destination, and why."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click
import msgspec
from msgspec import Raw

from relayd.actions.reasons import Part, Value
from relayd.cli.config import config_option, load_or_end
from relayd.config.errors import suggestion
from relayd.config.model import Config
from relayd.delivery import outbox
from relayd.delivery.explain import Explainer
from relayd.delivery.explanation import Change, Explanation, FilterResult, SentRequest, Stored, SubscriptionResult
from relayd.delivery.supervisor import outbox_path
from relayd.event import decode_head, parse_time
from relayd.journal.find import find_message
from relayd.journal.segment import Damaged, Folders

_SHORT = 60
"""Characters of a value that are shown beside a condition or a change."""


@click.command("explain")
@click.argument("destination", metavar="DEST")
@click.argument("file", metavar="[EVENT.json]", type=click.File("rb"), required=False)
@config_option
@click.option("--message-id", metavar="ID", help="Explain the event that relayd has under this messageId.")
@click.option("--source", metavar="NAME", help="Which source sends the event.  [default: the only one]")
@click.option("--now", metavar="TIME", help="ISO 8601; when it is received and sent.  [default: the present]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    destination: str,
    file: BinaryIO | None,
    config: Path | None,
    message_id: str | None,
    source: str | None,
    now: str | None,
    as_json: bool,
) -> None:
    """Show, step by step, what would become of an event at DEST, and why. Nothing is sent, no daemon is needed.

    The event is that of a file (-: stdin), as an SDK sends it or as the journal keeps it; or, by its messageId, one
    that waits for DEST, is held, or is in the journal. Secrets are shown as [secret].

    Exit codes: 0 it would be sent, 1 it would not, 2 wrong usage or configuration.

    \b
    relayd explain webhook event.json
    relayd explain webhook --message-id order-1 --json
    """
    if (file is None) == (message_id is None):
        raise click.UsageError("say either a file with an EVENT, or a --message-id")
    moment = time.time() if now is None else _moment(now)
    loaded = load_or_end(config)
    destinations = loaded.config.destinations
    if destination not in destinations:
        near = suggestion(destination, destinations, "destinations")
        raise click.UsageError(f'there is no destination "{destination}"; {near}')
    explainer = Explainer(destination, loaded, now=moment)
    if message_id is not None:
        if source is not None:
            raise click.UsageError("an event that relayd has knows its source; leave --source out")
        explanation = _look_up(explainer, loaded.config, destination, message_id)
    else:
        assert file is not None
        explanation = _read(explainer, loaded.config, file, source)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(explanation)))
    else:
        click.echo("\n".join(render(explanation)))
    raise SystemExit(0 if explanation.sent else 1)


def _moment(text: str) -> float:
    milliseconds = parse_time(text)
    if milliseconds is None:
        raise click.BadParameter("must be an ISO 8601 time such as 2026-01-31T12:00:00Z", param_hint="--now")
    return milliseconds / 1000


def _read(explainer: Explainer, config: Config, file: BinaryIO, source: str | None) -> Explanation:
    """The event of a file: one of the journal's lines if it says what only those say, else an SDK's."""
    found = getattr(file, "name", "-")
    found = "stdin" if found in ("-", "<stdin>") else found
    event = file.read().strip()
    try:
        fields = msgspec.json.decode(event, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{found} is no JSON object: {error}") from None
    if "batch" in fields and "type" not in fields:
        raise click.UsageError(f"{found} is a batch; give one of its events")
    if source is None and _is_kept(event):
        return explainer.kept(msgspec.json.format(event, indent=-1), found=found)
    return explainer.raw(event, _source(config, source), found=found)


def _is_kept(event: bytes) -> bool:
    try:
        decode_head(event)
    except msgspec.DecodeError:
        return False
    return True


def _source(config: Config, wanted: str | None) -> str:
    if wanted is None and len(config.sources) != 1:
        raise click.UsageError(f"say which --source sends it; there are: {', '.join(config.sources) or 'none'}")
    if wanted is not None and wanted not in config.sources:
        raise click.UsageError(f'there is no source "{wanted}"; {suggestion(wanted, config.sources, "sources")}')
    return wanted or next(iter(config.sources))


def _look_up(explainer: Explainer, config: Config, destination: str, message_id: str) -> Explanation:
    """The event that relayd has. Ends the command when it has none."""
    path = outbox_path(config.state_dir / "outbox", destination)
    try:
        rows = outbox.find(path, message_id)
    except sqlite3.Error as error:
        click.echo(f"{path} can not be read, so this is what the journal has: {error}", err=True)
        rows = []
    if rows:
        held = sum(row.held for row in rows)
        parts = [f"{count} {what}" for count, what in ((len(rows) - held, "pending"), (held, "held")) if count]
        return explainer.stored(rows, found=f"{path} ({', '.join(parts)})")
    folders = Folders.of(config.state_dir)
    try:
        found = find_message(folders, message_id)
    except (Damaged, OSError) as error:
        raise click.ClickException(f"the journal can not be searched: {error}") from None
    if found is None:
        raise click.ClickException(
            f"no event has the messageId {message_id}: none waits for {destination} or is held, none is in "
            f"{folders.journal} or {folders.archive}. It was never accepted (`relayd status` counts what is rejected), "
            "or is older than the journal's retention"
        )
    offset, line = found
    return explainer.kept(line, found=f"the journal, at offset {offset}")


def render(explanation: Explanation) -> Iterator[str]:
    """The explanation for a person, line by line; the verdict comes last."""
    yield f"{explanation.destination} ({explanation.type}), an event of {explanation.source or 'no source'}"
    yield f"found in {explanation.found}"
    yield from _section("Event, as the journal keeps it" if _whole(explanation) else "Event, as the filters left it")
    yield from _json(explanation.event, 1)
    if explanation.arrival:
        yield _at(1, "of which relayd made:")
        yield from (_at(2, _change(each)) for each in explanation.arrival)
    yield from _section("Eligibility")
    yield from (_at(1, _mark(each.passed, each.detail)) for each in explanation.checks)
    if any(not each.passed for each in explanation.checks) and (explanation.filters or explanation.subscriptions):
        yield from _section("What follows is what would happen without that")
    if explanation.filters:
        yield from _section("Filters, in the order in which they are applied")
        for step in explanation.filters:
            yield from _filter(step)
    if explanation.subscriptions:
        yield from _section("Subscriptions")
        for each in explanation.subscriptions:
            yield from _subscription(each)
    yield ""
    yield f"{_verdict(explanation)}: {explanation.why}"


def _verdict(explanation: Explanation) -> str:
    if explanation.sent:
        return click.style("It would be sent", fg="green", bold=True)
    return click.style(f"It would not be sent, {explanation.reason}", fg="red", bold=True)


def _whole(explanation: Explanation) -> bool:
    return not any(each.stored for each in explanation.subscriptions)


def _filter(step: FilterResult) -> Iterator[str]:
    what = f"filters[{step.filter}] {step.action}"
    if step.error is not None:
        what += f": can not be applied, the event is dropped: {step.error}"
    elif step.dropped:
        what += ": the event is dropped"
    elif not step.condition.holds:
        what += ": not applied, its condition does not hold"
    elif step.by_chance is not None:
        what += f": {step.by_chance:.4%} of events are kept by chance; this one is explained as one that is kept"
    else:
        what += f": applied, {_count(len(step.changes), 'change')}"
    yield _at(1, what)
    yield from _part(step.condition, 2)
    yield from (_at(2, _change(each)) for each in step.changes)


def _subscription(result: SubscriptionResult) -> Iterator[str]:
    name = "all events, passed on as they are" if result.name is None else f"{result.name} ({result.action})"
    if not result.enabled:
        yield _at(1, f"{name}: disabled (enabled = false)")
        return
    yield _at(1, _mark(result.matches, f"{name}: {_state(result)}"))
    if result.condition is not None:
        yield from _part(result.condition, 3)
    if not result.matches:
        return
    if result.payload is not None:
        yield _at(
            3, "payload" if not result.faults else "what the mapping made, before the action's fields were applied"
        )
        yield from _json(result.payload, 4)
    for fault in result.faults:
        yield _at(3, _mark(False, " ".join(filter(None, (fault.path, fault.message)))))
    for number, request in enumerate(result.requests, 1):
        yield _at(3, f"request {number} of {len(result.requests)}{_batch(result)}")
        yield from _request(request)


def _state(result: SubscriptionResult) -> str:
    stored = result.stored
    if stored is not None:
        return _stored(stored)
    if not result.matches:
        return "does not match"
    return "matches" if result.trigger else "matches, as it has no trigger"


def _stored(stored: Stored) -> str:
    last = f", last failure {stored.reason} {stored.detail or ''}".rstrip() if stored.reason else ""
    attempts = _count(stored.attempts, "attempt")
    if stored.held:
        return f"held as a dead letter since {stored.held} after {attempts}{last}; a redrive would send what follows"
    due = f"next attempt at {stored.due}" if stored.due else "it awaits its turn"
    return f"pending after {attempts}, {due}{last}"


def _batch(result: SubscriptionResult) -> str:
    return f" (shared with up to {result.batch_size - 1:,} other events)" if result.batch_size > 1 else ""


def _request(request: SentRequest) -> Iterator[str]:
    yield _at(4, f"{request.method} {request.url}")
    yield from (_at(4, f"{name}: {value}") for name, value in request.headers.items())
    if request.format == "none":
        return
    yield ""
    if request.format == "json":
        yield from _json(request.body, 4)
    elif request.format == "form" and isinstance(request.body, dict):
        for name, value in request.body.items():
            yield _at(4, f"{name} =")
            yield from _json(_inner(value), 5)
    else:
        yield from (_at(4, _clean(line)) for line in str(request.body).splitlines())


def _inner(value: object) -> object:
    """A form's value, decoded if it is an object or a list in JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            pass
    return value


def _part(part: Part, depth: int) -> Iterator[str]:
    """A condition, and below it what it is made of."""
    values = "; ".join(map(_value, part.values))
    yield _at(depth, _mark(part.holds, f"{part.joined or part.text}{values and f'    {values}'}"))
    for each in part.parts:
        yield from _part(each, depth + 1)


def _value(value: Value) -> str:
    return f"{value.path} is {'missing' if value.missing else _brief(value.value)}"


def _change(change: Change) -> str:
    match change.kind:
        case "removed":
            return f"- {change.path}: {_brief(change.before)}"
        case "added":
            return f"+ {change.path}: {_brief(change.after)}"
        case _:
            return f"~ {change.path}: {_brief(change.before)} is now {_brief(change.after)}"


def _brief(value: object) -> str:
    text = _clean(msgspec.json.encode(value).decode())
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


def _mark(good: bool, text: str) -> str:
    return f"{click.style('yes', fg='green') if good else click.style('NO ', fg='red')} {text}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _section(title: str) -> Sequence[str]:
    return ("", click.style(title, bold=True))


def _json(value: object, depth: int) -> Iterator[str]:
    text = msgspec.json.format(msgspec.json.encode(value)).decode()
    return (_at(depth, _clean(line)) for line in text.split("\n"))


def _clean(text: str) -> str:
    """Without what would steer the terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _at(depth: int, line: str) -> str:
    return f"{'  ' * depth}{line}"
