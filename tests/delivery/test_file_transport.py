"""Appending to files: whole lines whatever happens, rotation, and errors that say what to do."""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.delivery import file_transport
from relayd.delivery.file_transport import FileTransport, append
from relayd.destinations.base import Request
from relayd.destinations.file import File, Settings

NOW = 1_764_000_000.25
ROTATED = "events-20251124T160000.250000Z.jsonl"


read, stat_of, rename, write = Path.read_bytes, Path.stat, Path.rename, Path.write_bytes


def line(number: int) -> bytes:
    return msgspec.json.encode({"messageId": f"m-{number}", "text": "é\n"}) + b"\n"


def request(path: Path, *numbers: int, **settings: Any) -> Request:
    """What the destination asks for."""
    events = [line(number).rstrip() for number in numbers]
    configured = Settings(path=str(path), **settings)
    File().check(configured)
    return File().requests("send", configured, None, events, batch=True, now=NOW)[0]


async def send(transport: FileTransport, what: Request) -> int:
    return (await transport.send(what.method, what.url, what.headers, what.body)).status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def transport() -> FileTransport:
    return FileTransport(clock=lambda: NOW)


async def test_appends_of_two_transports_queue_up_as_those_of_one_do(path: Path, transport: FileTransport) -> None:
    """A replay has a transport of its own: it must not make the live destination's appends fail."""
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(send, transport if number % 2 else FileTransport(), request(path, number))
    assert sorted(read(path).splitlines()) == sorted(line(number).rstrip() for number in range(40))


async def test_lines_are_appended_and_answered_200(path: Path, transport: FileTransport) -> None:
    assert await send(transport, request(path, 1, 2)) == 200
    assert await send(transport, request(path, 3)) == 200
    assert read(path) == line(1) + line(2) + line(3)
    assert stat.S_IMODE(stat_of(path).st_mode) & 0o007 == 0, "events are not everybody's to read"


async def test_an_unusual_path_arrives_as_it_was_configured(path: Path, transport: FileTransport) -> None:
    unusual = path.with_name("a b#?%41é.jsonl")
    await send(transport, request(unusual, 1))
    assert read(unusual) == line(1)


async def test_lines_are_synced_before_the_answer(
    path: Path, transport: FileTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(read(path)))
    await send(transport, request(path, 1))
    assert synced == [line(1)]


async def test_concurrent_appends_do_not_mix(path: Path, transport: FileTransport) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(send, transport, request(path, *[number] * 50))
    lines = read(path).splitlines(keepends=True)
    assert len(lines) == 1000
    assert all(len(set(lines[at : at + 50])) == 1 for at in range(0, 1000, 50))


async def test_a_cancelled_append_is_still_whole(path: Path, transport: FileTransport) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await send(transport, request(path, 1))
    await send(transport, request(path, 2))
    assert read(path) in (line(2), line(1) + line(2))


async def test_a_file_that_would_grow_too_large_is_renamed_first(path: Path, transport: FileTransport) -> None:
    size = len(line(1)) * 2
    for number in range(3):
        await send(transport, request(path, number, max_size=size))
    assert read(path.with_name(ROTATED)) == line(0) + line(1)
    assert read(path) == line(2)


async def test_rotations_within_a_microsecond_do_not_overwrite_each_other(path: Path, transport: FileTransport) -> None:
    for number in range(4):
        await send(transport, request(path, number, max_size=1))
    rotated = sorted(path.parent.glob("events-*"))
    assert b"".join(read(each) for each in [*rotated, path]) == b"".join(map(line, range(4)))


async def test_an_append_larger_than_the_limit_goes_into_a_file_of_its_own(
    path: Path, transport: FileTransport
) -> None:
    for numbers in ((1, 2), (3, 4)):
        await send(transport, request(path, *numbers, max_size=10))
    assert read(path.with_name(ROTATED)) == line(1) + line(2)
    assert read(path) == line(3) + line(4)


async def test_without_a_limit_nothing_is_renamed(path: Path, transport: FileTransport) -> None:
    for number in range(3):
        await send(transport, request(path, number, max_size=0))
    assert list(path.parent.iterdir()) == [path]


async def test_only_the_newest_rotated_files_are_kept_and_others_left_alone(path: Path) -> None:
    others = [path.with_name(name) for name in ("events-old.jsonl", "other-20251124T160000.250000Z.jsonl", "events")]
    for other in others:
        other.write_bytes(b"mine\n")
    times = iter(range(10))
    transport = FileTransport(clock=lambda: NOW + next(times))
    for number in range(6):
        await send(transport, request(path, number, max_size=1, keep=2))
    rotated = sorted(set(path.parent.glob("events-2025*")))
    assert [read(each) for each in rotated] == [line(3), line(4)]
    assert all(read(other) == b"mine\n" for other in others)


async def test_a_reader_of_a_rotated_file_reads_on(path: Path, transport: FileTransport) -> None:
    await send(transport, request(path, 1, max_size=1))
    with path.open("rb") as reader:
        await send(transport, request(path, 2, max_size=1))
        assert reader.read() == line(1)


async def test_a_file_that_others_moved_away_is_made_again(path: Path, transport: FileTransport) -> None:
    await send(transport, request(path, 1))
    rename(path, path.with_name("moved"))
    await send(transport, request(path, 2))
    assert read(path) == line(2)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(line(1) + line(2) + line(3))))
def test_a_tail_torn_at_any_byte_leaves_no_line_corrupt(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "events.jsonl"
    whole = line(1) + line(2) + line(3)
    path.write_bytes(whole[:cut])
    append(path, line(4), 0, 0, NOW)
    lines = read(path).splitlines(keepends=True)
    assert lines[-1] == line(4)
    assert lines[:-1] == whole.splitlines(keepends=True)[: len(lines) - 1]
    assert len(lines) - 1 >= whole[:cut].count(b"\n")


def test_a_torn_line_is_moved_aside_not_destroyed(path: Path) -> None:
    for number in (1, 2):
        path.write_bytes(line(1) + b'{"messageId":"torn')
        append(path, line(2), 0, 0, NOW)
        assert read(path) == line(1) + line(2)
        assert read(path.with_name("events.jsonl.torn")) == b'{"messageId":"torn\n' * number


def test_a_whole_last_line_is_given_its_newline(path: Path) -> None:
    path.write_bytes(line(1) + line(2).rstrip())
    append(path, line(3), 0, 0, NOW)
    assert read(path) == line(1) + line(2) + line(3)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [b"", line(1)])
@pytest.mark.parametrize("size", [100, file_transport._BLOCK - 1, file_transport._BLOCK, 3 * file_transport._BLOCK + 1])
def test_a_long_torn_line_is_found_back_to_its_start(path: Path, before: bytes, size: int) -> None:
    path.write_bytes(before + b"[" * size)
    append(path, line(2), 0, 0, NOW)
    assert read(path) == before + line(2)


def test_a_file_that_is_not_json_lines_is_left_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_transport, "MAX_TORN", 1000)
    monkeypatch.setattr(file_transport, "_BLOCK", 100)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(OSError, match="not JSON Lines"):
        append(path, line(1), 0, 0, NOW)
    assert read(path) == b"x" * 5000


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_an_append_that_fails_midway_is_taken_back_and_can_be_retried(
    path: Path, transport: FileTransport, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    await send(transport, request(path, 1))
    kernel = os.write

    def full(file: int, data: memoryview) -> int:
        if len(data) < len(line(2)):
            raise OSError(code, os.strerror(code))
        return kernel(file, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(httpx.WriteError, match=r"can not append to .*events\.jsonl") as failure:
            await send(transport, request(path, 2))
    assert isinstance(failure.value.__cause__, OSError)
    assert failure.value.__cause__.errno == code
    assert read(path) == line(1)
    await send(transport, request(path, 2))
    assert read(path) == line(1) + line(2)


async def test_a_sync_that_fails_takes_the_append_back(
    path: Path, transport: FileTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(httpx.WriteError, match="Input/output error"):
        await send(transport, request(path, 1))
    assert read(path) == b""


async def test_a_full_disk_says_what_to_do(
    path: Path, transport: FileTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(httpx.WriteError, match=r"events\.jsonl: its disk is full; make room"):
        await send(transport, request(path, 1))


async def test_a_missing_directory_a_directory_and_a_device_are_refused(
    tmp_path: Path, transport: FileTransport
) -> None:
    for where, why in (
        (tmp_path / "nowhere" / "events.jsonl", "its directory is not there; make it"),
        (tmp_path, "it is a directory"),
        (Path("/dev/null"), "not a regular file"),
    ):
        with pytest.raises(httpx.WriteError, match=why):
            await send(transport, request(where, 1))


async def test_a_missing_right_says_what_to_do(
    path: Path, transport: FileTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a fake: root, who may run the tests, has every right."""

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(httpx.WriteError, match="may not write there; give it the right"):
        await send(transport, request(path, 1))


async def test_a_file_that_another_process_writes_is_not_touched(path: Path, transport: FileTransport) -> None:
    write(path, line(1))
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(httpx.WriteError, match="another process is writing it"):
            await send(transport, request(path, 2))
    await send(transport, request(path, 2))
    assert read(path) == line(1) + line(2)


async def test_no_file_stays_open(path: Path, transport: FileTransport) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        await send(transport, request(path, number, max_size=1))
    with pytest.raises(httpx.WriteError):
        await send(transport, request(path.parent, 1))
    assert len(os.listdir("/proc/self/fd")) == before
