"""A place in the log is found by time, without reading what is before it."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.journal import reader as reader_module
from relayd.journal.reader import Reader, find_end, find_time
from relayd.journal.segment import Damaged, Folders
from tests.journal.logs import START, at, make_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    """Five segments, two of them raw, of frames that hold a few lines each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relayd.journal.archive.FRAME", 1000)
        patch.setattr(reader_module, "FRAME", 1000)
        root = tmp_path_factory.mktemp("log")
        yield make_log(root, [[at(number) for number in range(30 * of, 30 * of + 30)] for of in range(5)], raw=2)


@given(seconds=st.integers(-300, 9600))
def test_a_time_is_found_wherever_it_is(log: Folders, seconds: int) -> None:
    offsets = [0, *itertools.accumulate(len(at(number)) for number in range(150))]
    expected = next((offsets[number] for number in range(150) if number * 60 >= seconds), offsets[150])
    assert find_time(log, find_end(log), START + timedelta(seconds=seconds)) == expected


def test_little_is_read_to_find_a_time(log: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    real = Reader.read

    def counting(self: Reader, head: int, size: int = 0) -> reader_module.Chunk | None:
        nonlocal read
        chunk = real(self, head, 200)
        read += len(chunk.data) if chunk else 0
        return chunk

    monkeypatch.setattr(reader_module, "LOOK", 200)
    monkeypatch.setattr(Reader, "read", counting)
    find_time(log, find_end(log), START + timedelta(minutes=88))
    assert 0 < read < find_end(log) / 5


def test_lines_that_are_none_do_not_mislead(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[b"{broken\n", at(0)], [b"\xff\n", at(10), at(11)], [at(20)]])
    first = len(b"{broken\n" + at(0))
    assert find_time(folders, find_end(folders), START + timedelta(minutes=5)) == first + len(b"\xff\n")


def test_an_empty_log_has_no_times(tmp_path: Path) -> None:
    assert find_time(make_log(tmp_path, []), 77, START) == 77


def test_a_segment_that_the_disk_did_not_keep_is_named(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(0)], [at(1)]])
    path = folders.sealed()[0].path
    path.write_bytes(path.read_bytes()[:-4] + b"rust")
    with pytest.raises(Damaged, match=path.name):
        Reader(folders, 0).read(1000)
