"""``relayd privacy``: users whose events are not taken, and users who are forgotten."""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import click
import msgspec
from tabulate import tabulate

from relayd.cli.config import config_option, load_or_end
from relayd.cli.control import ask
from relayd.config.load import Loaded
from relayd.privacy.regulation import MAX_USERS, Kind

_EVERY = 0.2
F = TypeVar("F", bound=Callable[..., object])
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("privacy")
def command() -> None:
    """Take no more events of a user, or forget one. The ids are userIds."""


def _users(function: F) -> F:
    """What the commands that name users have in common."""
    ids = click.argument("ids", nargs=-1, metavar="ID...")
    file = click.option(
        "--from", "file", type=click.File(encoding="utf-8"), help='A file with more ids, one a line ("-": stdin).'
    )
    wait = click.option("--wait", is_flag=True, help="Return when it is done.")
    return cast("F", config_option(ids(file(wait(_json_option(function))))))


_anonymous = click.option(
    "--with-anonymous",
    is_flag=True,
    help="Delete events without a userId too, of anonymousIds that an identify of the user's had.",
)
_forward = click.option(
    "--forward", is_flag=True, help="Have the destinations that offer it delete the users too (`relayd catalog`)."
)


@command.command("suppress")
@_users
@click.option("--and-delete", is_flag=True, help="Delete what there is of them too.")
@_anonymous
@_forward
def suppress(and_delete: bool, with_anonymous: bool, forward: bool, **users: Any) -> None:
    """Take no more events of these users, and deliver none that wait."""
    if not and_delete and (with_anonymous or forward):
        raise click.UsageError("--with-anonymous and --forward go with --and-delete")
    kind: Kind = "SUPPRESS_WITH_DELETE" if and_delete else "SUPPRESS_ONLY"
    _begin(kind, with_anonymous=with_anonymous, forward=forward, **users)


@command.command("unsuppress")
@_users
def unsuppress(**users: Any) -> None:
    """Take events of these users again."""
    _begin("UNSUPPRESS", **users)


@command.command("delete")
@_users
@_anonymous
@_forward
def delete(with_anonymous: bool, forward: bool, **users: Any) -> None:
    """Delete all there is of these users; events that come from now on are taken."""
    _begin("DELETE_ONLY", with_anonymous=with_anonymous, forward=forward, **users)


@command.command("list")
@config_option
@click.option("--user", metavar="ID", help="Only what names this user, and whether the user is suppressed.")
@click.option("--wait", is_flag=True, help="Return when all of these are done.")
@_json_option
def list_(config: Path | None, user: str | None, wait: bool, as_json: bool) -> None:
    """Show what was asked for, the newest first."""
    loaded = load_or_end(config)
    path = "/regulations" if user is None else f"/regulations?user={quote(user, safe='')}"
    found = ask(loaded.config, path)
    if wait:
        found = [_followed(loaded, each, quiet=as_json) for each in found]
    _show(found, as_json)
    if user is not None and not as_json:
        suppressed = ask(loaded.config, f"/suppressed?user={quote(user, safe='')}")["suppressed"]
        click.echo(f"{user} is {'' if suppressed else 'not '}suppressed")
    _end(found if wait else [])


def _begin(
    kind: Kind,
    config: Path | None,
    ids: tuple[str, ...],
    file: Any,
    wait: bool,
    as_json: bool,
    *,
    with_anonymous: bool = False,
    forward: bool = False,
) -> None:
    lines = [line.strip() for line in file] if file is not None else []
    users = list(dict.fromkeys([*ids, *(line for line in lines if line)]))
    if not users:
        raise click.UsageError("name at least one userId")
    if not all(users):
        raise click.UsageError("a userId is empty")
    loaded = load_or_end(config)
    body: dict[str, object] = {"type": kind, "with_anonymous": with_anonymous, "forward": forward}
    regulations = [
        ask(loaded.config, "/regulations", body | {"user_ids": users[start : start + MAX_USERS]})
        for start in range(0, len(users), MAX_USERS)
    ]
    if wait:
        regulations = [_followed(loaded, each, quiet=as_json) for each in regulations]
    _show(regulations, as_json)
    _end(regulations)


def _followed(loaded: Loaded, regulation: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """A regulation once it is done; how far it is is shown meanwhile."""
    shown = not quiet and sys.stderr.isatty()
    with click.progressbar(
        length=100, label=f"{regulation['type']} {regulation['id']}", file=sys.stderr, hidden=not shown
    ) as bar:
        while regulation["status"] not in ("FINISHED", "FAILED"):
            time.sleep(_EVERY)
            regulation = ask(loaded.config, f"/regulations/{regulation['id']}")
            bar.update(round(100 * regulation["share"]) - bar.pos)
    return regulation


def _show(regulations: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(regulations)))
        return
    rows = [
        [
            each["id"],
            each["type"],
            each["users"],
            datetime.fromtimestamp(each["created"], UTC).isoformat(timespec="seconds"),
            each["status"],
            f"{each['share']:.0%}",
            each["events"],
            each["deliveries"],
        ]
        for each in regulations
    ]
    headers = ["regulation", "type", "users", "asked for", "status", "done", "events deleted", "deliveries removed"]
    click.echo(tabulate(rows, headers, intfmt=",", disable_numparse=[0]) if rows else "nothing was asked for")
    for each in regulations:
        if each["failure"]:
            click.echo(f"{each['id']}: {each['failure']}")
        for name, outcome in each["forwarded"].items():
            click.echo(f"{each['id']}: {name}: {outcome}")


def _end(regulations: Sequence[dict[str, Any]]) -> None:
    if any(each["status"] == "FAILED" for each in regulations):
        raise SystemExit(1)
