"""An event is found by its messageId in every kind of segment, the newest first."""

from pathlib import Path

import pytest
from pyzstd import SeekableZstdFile

from relayd.journal.find import find_message
from relayd.journal.segment import Folders
from tests.events import line


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders(tmp_path / "journal", tmp_path / "archive")
    found.journal.mkdir()
    found.archive.mkdir()
    return found


def write_sealed(folders: Folders, base: int, *lines: bytes) -> int:
    path = folders.sealed_path(base, "2026-11-24")
    path.parent.mkdir(exist_ok=True)
    with SeekableZstdFile(path, "w") as file:
        file.write(b"".join(lines))
    return base + len(b"".join(lines))


def test_nothing_is_found_where_nothing_is(tmp_path: Path, folders: Folders) -> None:
    assert find_message(folders, "id-1") is None
    assert find_message(Folders(tmp_path / "none", tmp_path / "none"), "id-1") is None


def test_sealed_and_raw_segments_are_searched_from_the_newest(folders: Folders) -> None:
    old, new = line(1, event="Old"), line(1, event="New")
    end = write_sealed(folders, 0, line(2), old)
    assert find_message(folders, "id-1") == (len(line(2)), old)
    folders.raw_path(end).write_bytes(line(3) + new + line(4) + line(1)[:20])
    assert find_message(folders, "id-1") == (end + len(line(3)), new)
    assert find_message(folders, "id-2") == (0, line(2))
    assert find_message(folders, "id-5") is None


def test_an_id_that_another_event_mentions_and_lines_that_are_no_events_are_passed_over(folders: Folders) -> None:
    own = line(0, messageId='a"b\\ü')
    lines = [b"\x00\xff\n", own, line(1, text='a"b\\ü')]
    folders.raw_path(0).write_bytes(b"".join(lines))
    assert find_message(folders, 'a"b\\ü') == (len(lines[0]), own)
