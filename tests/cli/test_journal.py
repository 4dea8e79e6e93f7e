"""``relayd journal``, as a user runs it: beside a daemon, and without one."""

import gzip
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relayd.cli import main
from relayd.journal.segment import Folders
from tests.journal.logs import at, make_log
from tests.relay import Relay
from tests.test_daemon import post

Run = Callable[..., Result]


@pytest.fixture
def log(tmp_path: Path) -> Folders:
    return make_log(tmp_path / "state", [[at(number) for number in range(30 * of, 30 * of + 30)] for of in range(3)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relayd.toml"
    path.write_text(f'daemon.state_dir = "{tmp_path / "state"}"\n[sources.web]\nwrite_key = "key"\n')
    return path


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["journal", command, "-c", str(config), *arguments], catch_exceptions=False)

    return invoke


def test_a_sound_log_is_a_table_and_exit_0(run: Run, log: Folders) -> None:
    result = run("verify")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[2].split() == [
        *(str(log.sealed()[0].path), "2026-11-24", "10:00:00", "2026-11-24", "10:29:00", "30", "6,580"),
        f"{log.sealed()[0].path.stat().st_size:,}",
    ]
    assert lines[-1] == "90 events in 3 segments: no fault"


def test_a_fault_is_its_place_and_exit_1(run: Run, log: Folders) -> None:
    path = log.sealed()[1].path
    path.write_bytes(path.read_bytes()[:-20])
    result = run("verify")
    assert result.exit_code == 1
    assert f"{path}: its seek table can not be read" in result.stdout
    assert result.stdout.endswith("1 fault\n")
    result = run("verify", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert answer["faults"][0]["place"] == str(path)
    assert [each["events"] for each in answer["segments"]] == [30, 30, 30]
    assert answer["segments"][0]["first_received_at"] == "2026-11-24T10:00:00Z"


@pytest.mark.parametrize("command", ["verify", "export"])
def test_without_a_journal_it_says_so(run: Run, command: str) -> None:
    result = run(command)
    assert result.exit_code == 1
    assert "there is no journal at" in result.stderr


def test_events_are_json_lines(run: Run, log: Folders) -> None:
    result = run("export", "--since", "2026-11-24T10:20:00Z", "--until", "2026-11-24T11:00:00Z", "--user", "user-3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == b"".join(at(number) for number in range(20, 60) if number % 7 == 3)
    result = run("export", "--type", "track", "--source", "web", "--event", "Order Completed", "--limit", "3")
    assert result.stdout_bytes == at(0) + at(1) + at(2)
    assert run("export", "--since", "1ms").stdout_bytes == b""


def test_a_folder_is_written_once(run: Run, log: Folders, tmp_path: Path) -> None:
    result = run("export", "--to", str(tmp_path / "out"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"90 events in 3 files below {tmp_path / 'out' / 'segment-logs'}\n"
    files = sorted((tmp_path / "out").glob("segment-logs/web/*/*.gz"))
    assert b"".join(gzip.decompress(path.read_bytes()) for path in files) == b"".join(map(at, range(90)))
    again = run("export", "--to", str(tmp_path / "out"))
    assert again.exit_code == 2
    assert "is already there" in again.stderr


def test_damage_ends_an_export_with_1_and_a_hint(run: Run, log: Folders) -> None:
    path = log.sealed()[1].path
    path.write_bytes(path.read_bytes()[:-20])
    result = run("export")
    assert result.exit_code == 1
    assert result.stdout_bytes == b"".join(map(at, range(30)))
    assert str(path) in result.stderr
    assert "relayd journal verify" in result.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--since", "soon"], "2h"), (["--type", "click"], "track"), (["--limit", "0"], "range")],
)
def test_wrong_usage_is_2(run: Run, log: Folders, options: list[str], why: str) -> None:
    result = run("export", *options)
    assert result.exit_code == 2
    assert why in result.stderr


def test_who_reads_may_have_enough(config: Path, tmp_path: Path) -> None:
    make_log(tmp_path / "state", [[at(number) for number in range(5000)], [at(5000)]])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m relayd journal export -c {config} | head -n 1"],
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, at(0), b"")


def test_a_terminal_sees_how_far_it_is(config: Path, log: Folders, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "relayd", "journal", "export", "-c", str(config), "--to", str(tmp_path / "out")]
    subprocess.run(command, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000)
    os.close(ours)
    assert b"exporting" in shown
    assert b"100%" in shown


async def test_both_work_beside_a_daemon(tmp_path: Path) -> None:
    with Relay(tmp_path, {}, more='journal.segment_size = "4KB"') as relay:
        await relay.start()
        for _ in range(5):
            post(relay, 20)
        verified = CliRunner().invoke(main, ["journal", "verify", "-c", str(relay.config), "--json"])
        assert verified.exit_code == 0, verified.output
        assert sum(each["events"] for each in json.loads(verified.stdout)["segments"]) == 100
        exported = CliRunner().invoke(main, ["journal", "export", "-c", str(relay.config), "--since", "1h"])
        assert exported.stdout.count("\n") == 100
