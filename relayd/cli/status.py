"""``relayd status``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from tabulate import tabulate

from relayd.cli.config import config_option, load_or_end
from relayd.cli.control import ask
from relayd.config.units import Duration


@click.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(config: Path | None, as_json: bool) -> None:
    """Show what came in, what went out, and what waits."""
    status = ask(load_or_end(config).config, "/status")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(status)).decode())
    else:
        click.echo(render(status))


def render(status: Mapping[str, Any]) -> str:
    """The figures of the admin API's /status as text: a line on the process, and a table each for in and out."""
    journal = status["journal"]
    lines = [
        f"relayd {status['version']}, {status['state']} for {_seconds(status['uptime_s'])}",
        f"state: {status['state_dir']}",
        f"journal: {journal['events']:,} events, {_bytes(journal['bytes'])} in {journal['segments']} segments",
    ]
    if journal["refusing"]:
        lines.append(f"REFUSING EVENTS: {journal['refusing']}")
    lines += [_copy(name, copy) for name, copy in status["copies"].items()]
    unknown = sum(status["listener"]["rejected"].values())
    if unknown:
        lines.append(f"under a write key that no source has: {unknown:,} events, not kept")
    lines += ["", _sources(status["sources"]), "", _destinations(status["destinations"])]
    lines += _functions(status.get("functions", {}))
    down = {name: each for name, each in status["destinations"].items() if each["state"] == "backing_off"}
    lines += [""] * bool(down) + [f"{name} is backing off: {each['last_failure']}" for name, each in down.items()]
    return "\n".join(lines)


def _copy(name: str, copy: Mapping[str, Any]) -> str:
    """How far a copy of the archive has come."""
    up_to = f"copied up to {copy['received_at']}" if copy["received_at"] else "nothing copied yet"
    waiting = f", {copy['waiting']:,} segments wait" if copy["waiting"] else ""
    failure = f": {copy['last_failure']}" if copy["last_failure"] else ""
    return f"{name}: {copy['place']}, {up_to}{waiting}{failure}"


def _sources(sources: Mapping[str, Any]) -> str:
    rows = [
        (name, each["received"], each["duplicates"], sum(each["rejected"].values()), _reasons(each["rejected"]))
        for name, each in sources.items()
    ]
    return _table(("source", "received", "duplicates", "rejected", "codes"), "lrrrl", rows)


def _functions(functions: Mapping[str, Any]) -> list[str]:
    """The source functions that have requests to take, or never took some."""
    return [
        f"{name} has {each['pending']:,} requests to take later, and {each['held']:,} held in functions.sqlite3"
        for name, each in functions.items()
        if each["pending"] or each["held"]
    ]


def _destinations(destinations: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            each["state"],
            each["received"],
            sum(each["filtered"].values()),
            each["delivered"],
            each["pending"],
            sum(each["failed"].values()),
            _percent(each["deliverability"]["first_attempt"]),
            _percent(each["deliverability"]["final"]),
            _seconds(each["latency_s"]["p50"]),
            _seconds(each["latency_s"]["p95"]),
            _reasons({**each["filtered"], **each["failed"]}),
        )
        for name, each in destinations.items()
    ]
    headers = (
        *("destination", "state", "received", "filtered", "delivered", "pending", "held"),
        *("first attempt", "final", "p50", "p95", "reasons"),
    )
    return _table(headers, "llrrrrrrrrrl", rows)


def _table(headers: Sequence[str], align: str, rows: Sequence[Sequence[object]]) -> str:
    """``align`` has an l or an r for each column."""
    shown = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    sides = [{"l": "left", "r": "right"}[side] for side in align]
    return tabulate(shown, headers=headers, tablefmt="simple", colalign=sides if rows else None, disable_numparse=True)


def _reasons(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason} {count:,}" for reason, count in most if count)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return str(Duration(round(seconds, 3 if seconds < 1 else 1)))


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.4g} {unit}"
