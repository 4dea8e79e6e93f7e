"""The command line. Each command lives in a module of its own, imported when it is called, so that ``--help`` is quick.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""

from importlib import import_module

import click

_COMMANDS = {
    # name: (module, one line of help)
    "run": ("run", "Run the relay."),
    "check": ("check", "Check a configuration: all its errors at once."),
    "catalog": ("catalog", "Show the types of destinations, and what each can do."),
    "explain": ("explain", "Show what would become of an event at a destination, and why."),
    "status": ("status", "Show what came in, what went out, and what waits."),
    "replay": ("replay", "Deliver history again, into one destination."),
    "privacy": ("privacy", "Take no more events of a user, or forget one."),
    "journal": ("journal", "Look into the log of all events: verify it, export from it."),
    "send": ("send", "Send one event to the relay."),
    "simulate": ("simulate", "Show what retries make of a destination that fails."),
    "sink": ("sink", "Run a receiving endpoint that records what it gets and can fail on purpose."),
}


class LazyGroup(click.Group):
    """Commands by name; the module of one is imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = import_module(f"relayd.cli.{_COMMANDS[name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="relayd")
def main() -> None:
    """relayd keeps every event on disk before it says 200, and delivers it to each of your tools."""
