"""``relayd sink`` as a user runs it."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from click.testing import CliRunner

from relayd.cli import main
from relayd.cli.sink import _lines
from relayd.testing.sink import Received

read = Path.read_bytes


class Running:
    """A sink in a process of its own."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._output = b""

    async def line(self) -> bytes:
        """The next line it prints."""
        assert self.process.stdout is not None
        with trio.fail_after(20):
            while b"\n" not in self._output:
                data = await self.process.stdout.receive_some()
                assert data, "the sink has ended"
                self._output += data
        line, _, self._output = self._output.partition(b"\n")
        return line

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        with trio.fail_after(20):
            return await self.process.wait()


@asynccontextmanager
async def running(*options: str) -> AsyncIterator[Running]:
    argv = [sys.executable, "-m", "relayd", "sink", "--bind", "127.0.0.1:0", *options]
    process = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    async with process.stdout or trio.abc.ReceiveStream():  # type: ignore[abstract]
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def post(url: str, *events: Mapping[str, object]) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.post(f"{url}in", json=events if len(events) > 1 else events[0])).status_code


async def test_it_shows_what_comes_in_fails_as_told_and_sums_up(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    async with running("--fail-first", "1", "--status", "500", "--record", str(record)) as sink:
        url = (await sink.line()).split()[2].decode().rstrip(",")
        event = {"type": "track", "event": "Order \x1b[2J", "userId": "u-1", "messageId": "m-1"}
        assert await post(url, event) == 500
        assert await post(url, event) == 200
        first, second = await sink.line(), await sink.line()
        assert b"500" in first
        assert '200     POST /in  track  "Order \N{REPLACEMENT CHARACTER}[2J"  u-1  m-1' in second.decode()
        assert json.loads(read(record)) == event
        assert await sink.stop() == 0
        assert await sink.line() == (
            b"accepted 1 events in 1 of 2 requests; failed on purpose: 1 status; not events: 0"
        )


async def test_json_is_a_line_a_request_with_where_it_listens_first_and_totals_last() -> None:
    async with running("--json") as sink:
        url = json.loads(await sink.line())["listening"]
        assert await post(url, {"messageId": "m-1"}, {"messageId": "m-2"}) == 200
        line = json.loads(await sink.line())
        assert (line["status"], line["fault"], line["target"]) == (200, None, "/in")
        assert line["events"] == [{"messageId": "m-1"}, {"messageId": "m-2"}]
        assert await sink.stop() == 0
        assert json.loads(await sink.line())["totals"]["accepted_events"] == 2


async def test_quiet_prints_totals_alone() -> None:
    async with running("--quiet") as sink:
        url = (await sink.line()).split()[2].decode().rstrip(",")
        assert await post(url, {"messageId": "m-1"}) == 200
        assert await sink.stop() == 0
        assert (await sink.line()).startswith(b"accepted 1 events")


def test_a_batch_is_shown_with_an_event_a_line_and_what_is_none_with_the_reason() -> None:
    events = (b'{"type":"page","name":"Home","anonymousId":"a-1","messageId":"m-1"}', b'["no event"]')
    lines = list(_lines(Received(0, "POST", "/b", {}, events, 503, "reset")))
    assert "reset" in lines[0]
    assert lines[0].endswith("POST /b  2 events")
    assert [line.strip() for line in lines[1:]] == ['page  "Home"  a-1  m-1', '["no event"]']
    (line,) = _lines(Received(0, "POST", "/b", {}, (), 400, None, "not events: why"))
    assert line.endswith("not events: why")


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (["--status", "500"], 2, "--fail-first"),
        (["--fail-how", "reset"], 2, "--fail-first"),
        (["--fail-first", "2"], 2, "not in the range"),
        (["--fail-first", "1", "--fail-how", "explode"], 2, "explode"),
        (["--latency", "soon"], 2, "duration"),
        (["--bind", "nowhere"], 1, "HOST:PORT"),
        (["--record", "/nowhere/record.jsonl"], 1, "No such file"),
    ],
)
def test_wrong_usage_is_2_and_what_can_not_be_opened_is_1(options: list[str], code: int, why: str) -> None:
    result = CliRunner().invoke(main, ["sink", "--bind", "127.0.0.1:0", *options])
    assert result.exit_code == code
    assert why in result.output
