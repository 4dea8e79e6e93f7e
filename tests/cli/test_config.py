"""What every command does with a configuration that is wrong, or not there."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from relayd.cli import config
from relayd.cli.config import config_option, load_or_end


@click.command
@config_option
def command(config: Path | None) -> None:
    """Stands for any command."""
    click.echo(f"{len(load_or_end(config).config.sources)} sources")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELAYD_CONFIG", raising=False)
    monkeypatch.setattr(config, "USUAL", (tmp_path / "usual.toml",))


def test_a_command_gets_the_configuration() -> None:
    Path("a.toml").write_text("")
    assert run("-c", "a.toml").output == "0 sources\n"


def test_a_command_ends_with_all_errors_and_2() -> None:
    Path("a.toml").write_text("[daemon]\nlog_level = 1\nstate_dri = 2")
    result = run("-c", "a.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        'a.toml:2: daemon.log_level: must be "debug", "info", "warning" or "error", not 1\n'
        'a.toml:3: daemon.state_dri: unknown key "state_dri"; did you mean "state_dir"?\n'
    )


def test_a_command_ends_without_a_configuration(tmp_path: Path) -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stderr == (
        f"there is no configuration at {tmp_path}/usual.toml; name one with -c FILE or $RELAYD_CONFIG\n"
    )


def test_references_are_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.toml").write_text('[sources.web]\nwrite_key = "${env:WEB_KEY}"')
    monkeypatch.setenv("WEB_KEY", "web-key")
    assert run("-c", "a.toml").output == "1 sources\n"
