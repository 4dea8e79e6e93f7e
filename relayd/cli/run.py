"""``relayd run``."""

import faulthandler
import os
from pathlib import Path
from typing import NoReturn

import click
import structlog
import trio

from relayd import logs
from relayd.cli.config import config_option, load_or_end
from relayd.daemon import Daemon, InUse
from relayd.listener.http import BindError
from relayd.systemd import Manager


@click.command("run")
@config_option
def command(config: Path | None) -> None:
    """Run the relay in the foreground, until SIGTERM or Ctrl-C."""
    faulthandler.enable()  # where it hung, when systemd's watchdog ends it
    manager = Manager.take(os.environ, os.getpid())
    loaded = load_or_end(config)
    logs.set_up(loaded.config.daemon, logs.redactor(loaded.secrets))
    for warning in loaded.warnings:
        structlog.get_logger(__name__).warning(str(warning))
    try:
        trio.run(Daemon(loaded, manager).run)
    except* (BindError, InUse) as group:
        _end(group, "relayd")
    except* OSError as failures:
        _end(failures, "relayd: the state directory can not be used")


def _end(group: BaseExceptionGroup[Exception], prefix: str) -> NoReturn:
    """Print each error of the group, and end the command."""
    errors: list[BaseException] = [group]
    while errors:
        error = errors.pop()
        if isinstance(error, BaseExceptionGroup):
            errors += error.exceptions
        else:
            click.echo(f"{prefix}: {error}", err=True)
    raise SystemExit(1)
