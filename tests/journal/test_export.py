"""An export has what is meant, all of it and no more, and reads nothing that comes long before."""

import gzip
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest

from relayd.journal.export import Export, write_folder
from relayd.journal.reader import find_end
from relayd.journal.segment import Damaged, Folders
from relayd.journal.selection import Selection
from tests.journal.logs import START, at, make_log


def exported(folders: Folders, selection: Selection, limit: int | None = None) -> list[bytes]:
    found = Export(folders, selection, head=find_end(folders), limit=limit)
    return [line for batch in found for line, _ in batch.events]


@pytest.fixture
def log(tmp_path: Path) -> Folders:
    return make_log(tmp_path, [[at(number) for number in range(30 * of, 30 * of + 30)] for of in range(4)])


def test_it_has_what_was_received_in_the_time_asked_for(log: Folders) -> None:
    since, until = START + timedelta(minutes=25), START + timedelta(minutes=70)
    selection = Selection(since=since, until=until, users=("user-3",))
    assert exported(log, selection) == [at(number) for number in range(25, 70) if number % 7 == 3]
    assert exported(log, selection, limit=2) == [at(31), at(38)]


def test_what_is_long_before_is_not_read(log: Folders) -> None:
    found = Export(log, Selection(since=START + timedelta(minutes=100)), head=find_end(log))
    assert found.start == sum(len(at(number)) for number in range(99))


def test_an_event_after_which_the_clock_was_set_back_is_found(tmp_path: Path) -> None:
    back = at(9, receivedAt="2026-11-24T10:09:59.000Z")
    lines = [at(number) for number in range(10)] + [at(10), back, at(11)]
    folders = make_log(tmp_path, [lines])
    assert exported(folders, Selection(since=START + timedelta(minutes=10))) == [at(10), at(11)]
    assert back in exported(folders, Selection(until=START + timedelta(minutes=10)))


def test_lines_that_are_none_are_counted_and_passed_over(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(0), b"rust\n", b"\xff\xfe\n", at(1)], [at(2)]])
    found = Export(folders, Selection(), head=find_end(folders))
    assert [line for batch in found for line, _ in batch.events] == [at(0), at(1), at(2)]
    assert found.skipped == 2


def test_a_folder_has_segments_layout_and_no_event_twice(log: Folders, tmp_path: Path) -> None:
    told: list[int] = []
    found = Export(log, Selection(since=START + timedelta(minutes=45)), head=find_end(log))
    files = write_folder(found, tmp_path / "out", told.append)
    assert [path.relative_to(tmp_path / "out").parts[:2] for path in files] == [("segment-logs", "web")] * 3
    assert b"".join(gzip.decompress(path.read_bytes()) for path in files) == b"".join(map(at, range(45, 120)))
    assert sum(told) == found.end - found.start


def test_a_damaged_segment_ends_it_after_what_comes_before(log: Folders, tmp_path: Path) -> None:
    path = log.sealed()[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    got: list[bytes] = []
    with pytest.raises(Damaged, match=path.name):
        got.extend(line for batch in Export(log, Selection(), head=find_end(log)) for line, _ in batch.events)
    assert got == [at(number) for number in range(30)]
    with pytest.raises(Damaged):
        write_folder(Export(log, Selection(), head=find_end(log)), tmp_path / "out", lambda size: None)
    assert [path.name for path in (tmp_path / "out").rglob("*.gz")] == ["00000000000000000000.gz"]


def test_memory_stays_flat(tmp_path: Path) -> None:
    filler = "x" * 1000
    folders = make_log(tmp_path, [[at(number, filler=filler) for number in range(20_000)], [at(20_000)]])
    tracemalloc.start()
    try:
        for _ in Export(folders, Selection(), head=find_end(folders)):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20
