"""What is logged where: redacted, with priorities and fields in the journal, and not the same all the time."""

import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trio

from relayd import logs
from relayd.config import model
from relayd.logs import journald, repeats
from relayd.logs.repeats import MOST, WINDOW, Repeats
from tests.relay import Relay


@pytest.fixture
def configured() -> Iterator[None]:
    """structlog as it was, afterwards."""
    yield
    structlog.reset_defaults()


class Journal:
    """journald's end of its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def entry(self) -> dict[str, str]:
        """The next entry's fields. Raises ``BlockingIOError`` when there is none."""
        data, files, _, _ = socket.recv_fds(self._socket, 2**20, 1)
        for file in files:
            with open(file, "rb") as sealed:
                assert not data
                sealed.seek(0)
                data = sealed.read()
        fields = {}
        while data:
            line, _, data = data.partition(b"\n")
            name, has_value, value = line.partition(b"=")
            if not has_value:
                (length,) = struct.unpack("<Q", data[:8])
                value, data = data[8 : 8 + length], data[9 + length :]
            fields[name.decode()] = value.decode()
        return fields

    def close(self) -> None:
        """Gone, and its file with it."""
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "socket")
    yield found
    if found.path.exists():
        found.close()


@pytest.fixture
def logger(journal: Journal) -> Iterator[journald.Journald]:
    found = journald.Journald(journal.path)
    yield found
    found.close()


# The journal


def test_a_message_has_its_text_priority_and_fields(journal: Journal, logger: journald.Journald) -> None:
    logger.msg(
        journald.encode(
            {
                "event": "destination is down; probing it",
                "level": "warning",
                "destination": "crm",
                "reason": "two\nlines = täxt",
                "Odd-näme": 1.5,
                "list": ["a", 1],
            }
        )
    )
    assert journal.entry() == {
        "MESSAGE": "destination is down; probing it destination=crm reason=two\nlines = täxt "
        'Odd-näme=1.5 list=["a", 1]',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "relayd",
        "RELAYD_DESTINATION": "crm",
        "RELAYD_REASON": "two\nlines = täxt",
        "RELAYD_ODD_N_ME": "1.5",
        "RELAYD_LIST": '["a", 1]',
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_priorities_are_those_of_syslog(journal: Journal, logger: journald.Journald, level: str, priority: str) -> None:
    logger.msg(journald.encode({"event": "e", "level": level}))
    assert journal.entry()["PRIORITY"] == priority


def test_a_long_message_goes_as_a_sealed_file(journal: Journal, logger: journald.Journald) -> None:
    long = "x" * 20_000_000
    logger.msg(journald.encode({"event": "e", "level": "info", "text": long}))
    assert journal.entry()["RELAYD_TEXT"] == long


def test_a_field_name_is_as_long_as_journald_takes(journal: Journal, logger: journald.Journald) -> None:
    logger.msg(journald.encode({"event": "e", "level": "info", "n" * 200: "v"}))
    assert journal.entry()["RELAYD_" + "N" * 57] == "v"


def test_a_journal_that_is_full_or_gone_holds_nobody_up_and_hears_what_it_missed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "socket")
    logger = journald.Journald(journal.path)
    message = journald.encode({"event": "e", "level": "info"})
    for _ in range(3000):
        logger.msg(message)  # more than it takes in
    taken = 0
    while True:
        try:
            journal.entry()
        except BlockingIOError:
            break
        taken += 1
    assert 0 < taken < 3000
    journal.close()
    logger.msg(message)
    again = Journal(tmp_path / "socket")
    logger.msg(message)
    assert again.entry()["RELAYD_LOST"] == str(3000 - taken + 1)
    logger.msg(message)
    assert "RELAYD_LOST" not in again.entry()
    again.close()
    logger.close()


@pytest.mark.usefixtures("configured")
def test_under_journald_messages_go_to_it_redacted_with_their_traces(
    journal: Journal, logger: journald.Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    monkeypatch.setattr(journald, "SOCKET", journal.path)
    monkeypatch.setattr(journald, "Journald", lambda path: logger)
    logs.set_up(model.Daemon(), logs.redactor(["s3cret"]))
    try:
        int("s3cret")
    except ValueError:
        structlog.get_logger("x").exception("it failed", destination="crm", key="s3cret")
    entry = journal.entry()
    assert entry["PRIORITY"] == "3"
    assert entry["RELAYD_KEY"] == logs.REDACTED
    assert entry["MESSAGE"].startswith("it failed destination=crm key=[redacted]\nTraceback")
    assert entry["MESSAGE"].endswith("int() with base 10: '[redacted]'")
    structlog.get_logger("x").debug("not at this level")
    with pytest.raises(BlockingIOError):
        journal.entry()


@pytest.mark.parametrize("log_format", ["auto", "json"])
def test_json_in_the_journal_has_a_priority_in_front(tmp_path: Path, log_format: str) -> None:
    """As a process, whose stderr is what JOURNAL_STREAM says; with no journald there, "auto" is JSON too."""
    code = (
        "import pathlib, structlog; from relayd import logs; from relayd.config import model\n"
        "logs.journald.SOCKET = pathlib.Path('/nonexistent')\n"
        f"logs.set_up(model.Daemon(log_format={log_format!r}), str)\n"
        "structlog.get_logger().warning('w', n=1); structlog.get_logger().info('i')"
    )
    file = tmp_path / "stream"
    with file.open("wb") as stream:
        status = os.fstat(stream.fileno())
        environ = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run([sys.executable, "-c", code], stderr=stream, env=environ, check=True)
    lines = file.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<4>", "<6>"]
    assert json.loads(lines[0][3:])["n"] == 1


@pytest.mark.usefixtures("configured")
def test_elsewhere_lines_are_json_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")  # of a service that started a shell: our stderr is not that
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logs.set_up(model.Daemon(), logs.redactor(["s3cret"]))
    structlog.get_logger("x").warning("w", key="s3cret")
    line = json.loads(said.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "w", "key": "[redacted]", "level": "warning"}


# Repeats


class Clock:
    """Time that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


Heard = list[dict[str, Any]]


@pytest.fixture
def heard(configured: None) -> Heard:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limited(heard: Heard, clock: Clock) -> Repeats:
    """structlog, with only this before a list of what comes through."""
    found = Repeats(clock)

    def keep(logger: object, method: str, event: structlog.typing.EventDict) -> str:
        heard.append(dict(event) | {"level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[found, keep])
    return found


def down(destination: str, **fields: object) -> None:
    structlog.get_logger("x").warning("destination is down", destination=destination, **fields)


@pytest.mark.usefixtures("limited")
def test_the_same_of_one_destination_comes_so_often_and_then_its_count(heard: Heard, clock: Clock) -> None:
    for number in range(100):
        down("crm", reason=str(number))
    down("other")
    assert [each["destination"] for each in heard] == ["crm"] * MOST + ["other"]
    assert [each["reason"] for each in heard[:MOST]] == [str(number) for number in range(MOST)]
    clock.now += WINDOW
    heard.clear()
    down("crm", reason="new")
    assert heard == [
        {
            "event": "destination is down",
            "level": "warning",
            "destination": "crm",
            "reason": "99",
            "left_out": 100 - MOST,
        },
        {"event": "destination is down", "level": "warning", "destination": "crm", "reason": "new"},
    ]


def test_the_count_is_told_when_nothing_else_is_said(heard: Heard, clock: Clock, limited: Repeats) -> None:
    for _ in range(MOST + 1):
        down("crm")
    heard.clear()
    clock.now += WINDOW - 1
    limited.tell()
    assert heard == []
    limited.tell(everything=True)
    assert [each["left_out"] for each in heard] == [1]
    limited.tell(everything=True)
    assert len(heard) == 1


def test_what_was_not_repeated_needs_no_count(heard: Heard, limited: Repeats) -> None:
    for _ in range(MOST):
        down("crm")
    limited.tell(everything=True)
    assert len(heard) == MOST


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("field", repeats.IDENTITY)
def test_what_tells_messages_apart(heard: Heard, field: str) -> None:
    for number in range(50):
        structlog.get_logger("x").info("e", **{field: str(number)})
    assert len(heard) == 50


@pytest.mark.usefixtures("limited")
def test_debug_is_not_limited(heard: Heard) -> None:
    for _ in range(50):
        structlog.get_logger("x").debug("e")
    assert len(heard) == 50


@pytest.mark.usefixtures("limited")
def test_what_is_known_of_messages_is_bounded_and_no_count_is_lost(heard: Heard, limited: Repeats) -> None:
    for _ in range(MOST + 7):
        down("first")
    for number in range(3000):
        down(f"d{number}")
    assert [each["left_out"] for each in heard if "left_out" in each] == [7]
    assert len(limited._windows) == 1000


async def test_the_daemon_tells_counts_in_time_and_at_its_end(
    heard: Heard,
    clock: Clock,
    limited: Repeats,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    monkeypatch.setattr(logs, "_repeats", limited)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(logs.tell_left_out)
        for _ in range(MOST + 2):
            down("crm")
        clock.now += WINDOW
        await trio.sleep(11)
        assert [each["left_out"] for each in heard if "left_out" in each] == [2]
        for _ in range(MOST + 3):
            down("crm")
        nursery.cancel_scope.cancel()
    assert [each["left_out"] for each in heard if "left_out" in each] == [2, 3]


async def test_a_daemon_that_is_refused_often_says_it_seldom(tmp_path: Path) -> None:
    """A function that prints the same for each request, as users' functions do."""
    (tmp_path / "f.py").write_text("async def on_request(request, settings):\n    print('same')\n")
    more = f'[sources.f]\ntype = "function"\nfile = "{tmp_path}/f.py"\n'
    with Relay(tmp_path, {}, more=more) as relay:
        await relay.start()
        with httpx.Client(trust_env=False, timeout=20) as client:
            for _ in range(30):
                client.post(f"{relay.url}/v1/sources/f", json={})
        assert await relay.stop() == 0
        printed = [each for each in relay.logged() if each["event"] == "a function printed"]
        assert len(printed) == MOST + 1
        assert printed[-1]["left_out"] == 30 - MOST


def test_a_secret_is_redacted_also_as_basic_sends_it() -> None:
    redact = logs.redactor(["key", "longer key"])
    assert redact("a longer key, a key, a2V5Og==") == "a [redacted], a [redacted], [redacted]=="
    assert not re.search("key", redact("key"))
