"""``relayd simulate``: what retries make of a destination that fails."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click
import msgspec
from tabulate import tabulate

from relayd.cli import chart
from relayd.config.model import PolicyName
from relayd.config.units import Duration
from relayd.delivery.schedule import POLICIES
from relayd.delivery.simulation import HORIZON, OUTAGES, PUBLISHED, Destination, Figures, Outages, simulate

_NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
_WIDTH = 100
"""Columns of the plot, at most."""


class OutagesType(click.ParamType[Outages]):
    """A preset, or ``MEAN[:SHARE]`` such as 10m or 10m:0.5."""

    name = "outages"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Outages:
        if isinstance(value, Outages):
            return value
        text = str(value)
        if text in OUTAGES:
            return OUTAGES[text]
        mean, colon, share = text.partition(":")
        try:
            outages = Outages(float(Duration.parse(mean)), float(share) if colon else 1.0)
        except ValueError:
            outages = Outages()
        if outages.mean <= 0 or not 0 <= outages.share <= 1:
            self.fail(f"{text!r} is not {', '.join(OUTAGES)}, a mean length such as 10m, or 10m:0.5", param, ctx)
        return outages


@click.command("simulate")
@click.option(
    "--success-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.9336,
    metavar="SHARE",
    help="Share of first attempts that the destination accepts.",
)
@click.option(
    "--outages",
    type=OutagesType(),
    default="published",
    metavar="none|published|MEAN[:SHARE]",
    help="Mean length of outages, and the share of failures that is due to them (1 if not given); see above.",
)
@click.option(
    "--refused",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="Share of events that are refused (400), which no retry helps.",
)
@click.option(
    "--policy", "policies", type=click.Choice(_NAMES), multiple=True, default=("segment",), help="Repeatable."
)
@click.option("--all", "all_policies", is_flag=True, help="Compare all policies.")
@click.option("--events", type=click.IntRange(1, 10_000_000), default=20_000, help="How many.")
@click.option("--seed", type=int, default=0, help="Same seed, same figures.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the plot to FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    success_rate: float,
    outages: Outages,
    refused: float,
    policies: tuple[PolicyName, ...],
    all_policies: bool,
    events: int,
    seed: int,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Show what retries make of a destination that fails. Nothing is sent; no configuration or daemon is needed.

    The schedule and the decisions are those of delivery, on virtual time. Events come at moments spread evenly over all
    that the destination goes through. During an outage it answers 503 to everything. Lengths of outages are
    heavy-tailed: half end within 0.41 of the mean, one in 121 lasts ten times as long; between them it is up for
    exponential times. Failures that are due neither to outages nor to --refused strike each request by itself.

    \b
    --outages none        no outages: each request fails by itself
    --outages published   mean 29m11s (1,751 s), share 1: with 93.36 % of first attempts
                          accepted, 99.28 % are delivered in the end, as published
    --outages 10m:0.5     mean 10 m; half of the failures are due to outages

    The breaker is left out: relayd sends only probes to a destination that is known to be down, which takes far fewer
    requests than shown, and uses up no attempts.
    """
    destination = Destination(success_rate, outages, refused)
    try:
        destination.check()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    found: dict[PolicyName, Figures] = {}
    for name in _NAMES if all_policies else dict.fromkeys(policies):
        twin = next((other for other in found if POLICIES[other] == POLICIES[name]), None)
        found[name] = found[twin] if twin else simulate(POLICIES[name], destination, events=events, seed=seed)
    if svg is not None:
        title = f"Delivered, of {success_rate:.2%} at the first attempt"
        try:
            svg.write_text(chart.svg(title, _curves(found)), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"can not write {svg}: {error.strerror}") from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_as_json(destination, events, seed, found))))
    else:
        click.echo(_render(destination, events, seed, found))


def _as_json(destination: Destination, events: int, seed: int, found: Mapping[PolicyName, Figures]) -> object:
    return {
        "destination": destination,
        "events": events,
        "seed": seed,
        "policies": {
            name: {
                "deliverability": {"first_attempt": each.first_attempt, "final": each.final},
                "requests_accepted": each.accepted,
                "attempts_per_event": each.attempts / each.events,
                "delay_s": {"p50": each.delay(0.5), "p95": each.delay(0.95), "p99": each.delay(0.99)},
                "delivered": each.delivered,
                "failed": each.failed,
                "pending": each.pending,
                "delivered_by": each.delivered_by(),
            }
            for name, each in found.items()
        },
    }


def _render(destination: Destination, events: int, seed: int, found: Mapping[PolicyName, Figures]) -> str:
    rows = [
        (
            name,
            f"{each.first_attempt:.2%}",
            f"{each.final:.2%}",
            f"{each.accepted:.2%}",
            f"{each.attempts / each.events:.2f}",
            *(_time(each.delay(share)) for share in (0.5, 0.95, 0.99)),
            f"{sum(each.failed.values()):,}",
            f"{each.pending:,}",
        )
        for name, each in found.items()
    ]
    headers = (
        *("policy", "first attempt", "final", "all requests", "attempts/event"),
        *("p50", "p95", "p99", "held", "pending"),
    )
    sides = ("left", *["right"] * (len(headers) - 1))
    table = tabulate(rows, headers=headers, tablefmt="simple", colalign=sides, disable_numparse=True)
    curves = _curves(found)
    width = min(shutil.get_terminal_size((_WIDTH, 0)).columns, _WIDTH)
    plot = chart.rows(curves, width=width) if len(curves) > 1 else chart.area(*curves.values(), width=width)
    return "\n".join(
        [
            _described(destination),
            f"{events:,} events, seed {seed}, followed for {Duration(HORIZON)}",
            *("", table, "", "Delivered, by the time since the first attempt:", plot),
        ]
    )


def _curves(found: Mapping[PolicyName, Figures]) -> dict[str, chart.Points]:
    return {name: each.delivered_by() for name, each in found.items()}


def _described(destination: Destination) -> str:
    outages, parts = destination.outages, [f"accepts {destination.success_rate:.2%} of first attempts"]
    if destination.refused:
        parts.append(f"refuses {destination.refused:.2%} of events")
    if destination.down:
        which = " (published)" if outages == PUBLISHED else ""
        parts.append(f"is down {destination.down:.2%} of the time, {_time(outages.mean)} on average{which}")
    if destination.flaky > 1e-9:
        parts.append(f"else fails {destination.flaky:.2%} of requests")
    return f"The destination {', '.join(parts)}"


def _time(seconds: float | None) -> str:
    """With two digits or more, as a person would say it."""
    if seconds is None:
        return "-"
    if seconds <= 0.001:
        return "at once"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.1f}s"
