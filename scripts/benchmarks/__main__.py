"""The command line of the benchmarks; see ``scripts/bench --help``."""

import signal
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from benchmarks.load import wrk
from benchmarks.process import LOAD_CPUS, SERVER_CPUS, DiedError
from benchmarks.report import Figure, filesystem, machine, table
from benchmarks.rows import ROWS, Bench
from benchmarks.servers import commit

_ROWS = "\n".join(f"  {name:15} {row.__doc__}" for name, row in ROWS.items())


@click.command(
    help="Measures relayd, one core against the load on the others, each ROW (default: all) beside its yardstick.",
    epilog=f"\b\nRows:\n{_ROWS}",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)), metavar="[ROW]...")
@click.option("--seconds", type=click.FloatRange(1, 120), default=5.0, help="Length of a sample.")
@click.option("--rounds", type=click.IntRange(1, 20), default=3, help="Samples of each side; the median counts.")
@click.option("--quick", is_flag=True, help="One round of 2 seconds, and smaller journals: a smoke test, no measure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every sample.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a budget is missed.")
@click.option(
    "--dir",
    "parent",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/var/tmp"),
    help="Where states are kept while they are measured; a real disk.",
)
def main(
    rows: tuple[str, ...], seconds: float, rounds: int, quick: bool, as_json: bool, strict: bool, parent: Path
) -> None:
    if wrk() is None:
        raise click.UsageError("the load comes from wrk, which is missing; apt-get install wrk (or brew install wrk)")
    if filesystem(parent.resolve()) in ("tmpfs", "ramfs"):
        raise click.UsageError(f"{parent} is in memory, where fdatasync costs nothing; name a disk with --dir")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    if quick:
        seconds, rounds = 2, 1
    figures: list[Figure] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="relayd-bench-", dir=parent.resolve()) as directory:
        about = {"commit": commit(), **machine(Path(directory))}
        bench = Bench(Path(directory), seconds=seconds, rounds=rounds, quick=quick)
        for name in rows or ROWS:
            try:
                figures += ROWS[name](bench)
            except DiedError as error:
                failed = True
                bench.note(f"{name}: not measured: {error}")
    if as_json:
        told = {"machine": about, "figures": [figure.as_json() for figure in figures], "notes": bench.remarks()}
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        click.echo(table(figures))
        click.echo()
        for note in bench.remarks():
            click.echo(f"- {note}")
        click.echo("machine: " + ", ".join(f"{key} {value}" for key, value in about.items()))
        click.echo(f"servers on core {SERVER_CPUS}, load and sink on {LOAD_CPUS}, {rounds} x {seconds:g} s; medians")
        click.echo("commands: relayd run -c FILE; python -m benchmarks.yardstick PORT FILE; wrk -t1 -cN --latency")
    missed = any(figure.met is False for figure in figures)
    sys.exit(1 if failed or (strict and missed) else 0)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
