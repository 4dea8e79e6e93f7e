"""What a deleted event leaves is passed over by all who read the log, and moves nobody else."""

import os
from datetime import timedelta
from pathlib import Path

from relayd.journal.erase import erase, find
from relayd.journal.export import Export
from relayd.journal.find import find_message
from relayd.journal.reader import Reader, find_end, find_time
from relayd.journal.segment import Folders, is_blank, scan
from relayd.journal.selection import Selection
from relayd.journal.verify import verify
from relayd.replay.job import Criteria
from relayd.replay.scan import Choice, JournalLines
from tests.journal.logs import START, at, make_log


def log_without(root: Path, user: str, numbers: range = range(60)) -> tuple[Folders, bytes]:
    """Three segments of 20 events, the last one raw, of which a user was erased; and the log as it was."""
    lines = [at(number) for number in numbers]
    folders = make_log(root, [lines[:20], lines[20:40], lines[40:]])
    for segment in folders.sealed():
        erase(segment, find(segment, lambda text: [each for each in text.splitlines() if user.encode() in each]))
    return folders, b"".join(lines)


def read(folders: Folders) -> bytes:
    reader, data = Reader(folders, 0), b""
    while (chunk := reader.read(find_end(folders))) is not None:
        data += chunk.data
    reader.close()
    return data


def test_an_erased_line_is_spaces_of_its_length_and_the_others_are_where_they_were(tmp_path: Path) -> None:
    folders, before = log_without(tmp_path, "user-3")
    after = read(folders)
    sealed = folders.raw()[0].base
    assert len(before) == len(after)
    for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
        gone = b"user-3" in old and before.index(old) < sealed
        assert new == (b" " * len(old) if gone else old)
    assert not list(folders.archive.glob("*/*.partial"))


def test_a_segment_that_is_written_anew_keeps_its_age(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(0), at(1)], [at(2)]])
    (segment,) = folders.sealed()
    os.utime(segment.path, (1_000_000_000, 1_000_000_000))
    erase(segment, [at(0).rstrip()])
    assert segment.path.stat().st_mtime == 1_000_000_000


def test_verify_counts_what_was_deleted_and_finds_no_fault(tmp_path: Path) -> None:
    report = verify(log_without(tmp_path, "user-3")[0])
    assert report.ok
    assert [each.deleted for each in report.segments] == [3, 3, 0]
    assert sum(each.events for each in report.segments) == 54


def test_a_time_is_found_in_a_log_that_lost_most_of_its_events(tmp_path: Path) -> None:
    lines = [at(number, properties={"text": "x" * 500}) for number in range(100)]
    folders = make_log(tmp_path, [lines[:50], lines[50:], [at(200)]])
    for segment in folders.sealed():
        erase(segment, find(segment, lambda text: [each for each in text.splitlines() if each + b"\n" != lines[49]]))
    head = find_end(folders)
    for minute in (0, 10, 49):
        assert find_time(folders, head, START + timedelta(minutes=minute)) == sum(map(len, lines[:49]))
    for minute in (50, 75, 150, 200):
        assert find_time(folders, head, START + timedelta(minutes=minute)) == folders.raw()[0].base


def test_export_replay_and_search_pass_over_what_was_deleted(tmp_path: Path) -> None:
    folders, _ = log_without(tmp_path, "user-3")
    export = Export(folders, Selection(), head=find_end(folders))
    assert sum(len(batch.events) for batch in export) == 54
    assert export.skipped == 0
    assert find_message(folders, "id-3") is None
    assert find_message(folders, "id-4") is not None
    lines, chosen = JournalLines(folders, 0, find_end(folders), offset=0, report=lambda bad: None), list[bytes]()
    while (piece := lines.next()) is not None:
        chosen += Choice(Criteria()).of(piece.data)
    assert len(chosen) == 54
    lines.close()


def test_a_scan_at_the_start_counts_a_blank_line_as_whole(tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    blank = b" " * 50 + b"\n"
    path.write_bytes(at(0) + blank + at(1) + blank + b"torn")
    heads: list[str] = []
    assert scan(path, 0, lambda head: heads.append(head.messageId)) == (path.stat().st_size - len(b"torn"), 0)
    assert heads == ["id-0", "id-1"]
    assert is_blank(blank)
    assert not is_blank(b"\n")
    assert not is_blank(bytes(20) + b"\n")
