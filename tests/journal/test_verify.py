"""Verifying says what is there, and finds whatever is not as it was written."""

import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from relayd.journal.archive import seal
from relayd.journal.segment import Folders
from relayd.journal.verify import MAX_LINES, Report, log_size, verify
from tests.journal.logs import START, at, make_log


def log(root: Path) -> Folders:
    """Four segments, two of them sealed."""
    return make_log(root, [[at(number) for number in range(30 * of, 30 * of + 30)] for of in range(4)], raw=2)


def faults(report: Report) -> list[str]:
    return [str(fault) for fault in report.faults]


def test_a_sound_log_is_described(tmp_path: Path) -> None:
    folders = log(tmp_path)
    told: list[int] = []
    report = verify(folders, told.append)
    assert (report.ok, report.faults, report.notes) == (True, [], [])
    assert [each.events for each in report.segments] == [30] * 4
    assert [each.sealed for each in report.segments] == [True, True, False, False]
    assert report.segments[0].first_received_at == START
    assert [each.end for each in report.segments[:-1]] == [each.base for each in report.segments[1:]]
    assert report.segments[0].bytes == len(b"".join(map(at, range(30))))
    assert report.segments[0].compressed_bytes == folders.sealed()[0].path.stat().st_size
    assert sum(told) == log_size(folders)


def test_the_end_of_the_active_segment_is_no_fault(tmp_path: Path) -> None:
    folders = log(tmp_path)
    active = folders.raw()[-1].path
    for tail in (at(1)[:-5], b"\0" * 50 + b"\n" + at(2)[:30]):
        whole = active.read_bytes()
        active.write_bytes(whole + tail)
        report = verify(folders)
        assert report.ok
        assert report.segments[-1].bytes == len(whole)
        assert f"{len(tail)} bytes" in report.notes[0].message
        active.write_bytes(whole)


def test_lines_that_are_no_events_are_named_with_their_place(tmp_path: Path) -> None:
    bad = [b"{}\n", b"\xff\n", at(1, type="nope"), at(2)[:-3] + b"\n"]
    folders = make_log(tmp_path, [[at(0), *bad, at(3)], [bad[0], at(4)]])
    report = verify(folders)
    sealed, active = folders.sealed()[0].path, folders.raw()[0].path
    assert [fault.place for fault in report.faults] == [f"{sealed}:{number}" for number in (2, 3, 4, 5)] + [
        f"{active}:1"
    ]
    assert f"offset {len(at(0))}" in report.faults[0].message
    assert "unknown type 'nope'" in report.faults[2].message
    assert [each.events for each in report.segments] == [2, 1]


def test_what_is_wrong_a_thousand_times_is_not_said_a_thousand_times(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(0), *[b"{}\n"] * 1000, at(1)], [at(2)]])
    report = verify(folders)
    assert len(report.faults) == MAX_LINES + 1
    assert "980 more lines" in report.faults[-1].message


def test_a_segment_that_is_no_longer_written_has_no_torn_end(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(0)], [at(1), at(2)[:-9]], [at(3)]], raw=2)
    report = verify(folders)
    assert "ends in the middle of a line" in faults(report)[0]


def test_a_gap_and_an_overlap_are_told(tmp_path: Path) -> None:
    folders = log(tmp_path)
    lost = folders.sealed()[1]
    lost.path.unlink()
    (fault,) = verify(folders).faults
    assert fault.place == str(folders.raw()[0].path)
    assert f"from offset {lost.base} on" in fault.message
    make_log(tmp_path, [[at(0)]], base=folders.raw()[0].base + 5)
    assert any("begins at offset" in each for each in faults(verify(folders)))


def test_retention_is_no_gap(tmp_path: Path) -> None:
    folders = log(tmp_path)
    folders.sealed()[0].path.unlink()
    assert verify(folders).ok


def test_a_frame_that_the_disk_changed_is_found_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.journal.archive.FRAME", 1000)
    folders = log(tmp_path)
    path = folders.sealed()[0].path
    whole = path.read_bytes()
    with folders.sealed()[0].open() as file:
        text = file.read()
    end = len(whole) - 17 - 8 * (len(b"".join(map(at, range(30)))) // 1000 + 1)
    for _ in range(60):
        place = random.randrange(end)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ random.randrange(1, 256)]) + whole[place + 1 :])
        report = verify(folders)
        if not faults(report):  # a bit of a frame's head on which nothing depends
            with folders.sealed()[0].open() as file:
                assert file.read() == text, place
            continue
        assert any("frame" in each for each in faults(report)), place
        assert 20 <= report.segments[0].events < 30
        assert report.segments[0].end == report.segments[1].base


def test_whatever_is_cut_off_a_sealed_segment_is_found(tmp_path: Path) -> None:
    folders = log(tmp_path)
    path = folders.sealed()[0].path
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert not verify(folders).ok, size


def test_a_seek_table_that_is_not_right_is_found_and_events_are_read_without_it(tmp_path: Path) -> None:
    folders = log(tmp_path)
    path = folders.sealed()[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    report = verify(folders)
    assert "seek table can not be read" in faults(report)[0]
    assert report.segments[0].events == 30
    size = len(b"".join(map(at, range(30))))
    assert struct.pack("<I", size) in whole
    path.write_bytes(whole.replace(struct.pack("<I", size), struct.pack("<I", size - 1)))
    assert f"and {size - 1} by the seek table" in faults(verify(folders))[0]


def test_a_segment_in_both_places_may_not_differ(tmp_path: Path) -> None:
    folders = log(tmp_path)
    sealed = folders.sealed()[1]
    raw = folders.raw_path(sealed.base)
    lines = [at(number) for number in range(30, 60)]
    raw.write_bytes(b"".join(lines))
    assert verify(folders).ok
    lines[3] = lines[3].replace(b"Order", b"Ardor")
    raw.write_bytes(b"".join(lines))
    (fault,) = verify(folders).faults
    assert fault.place == str(raw)
    at_byte = sealed.base + len(b"".join(lines[:3])) + lines[3].index(b"Ardor")
    assert f"not the same as {sealed.path}, from offset {at_byte} on" in fault.message


def test_half_a_sealed_segment_of_a_crash_is_noted(tmp_path: Path) -> None:
    folders = log(tmp_path)
    partial = folders.sealed()[0].path.with_name("x.jsonl.zst.partial")
    partial.write_bytes(b"half")
    report = verify(folders)
    assert report.ok
    assert report.notes[0].place == str(partial)


def test_segments_that_are_sealed_or_let_go_meanwhile_are_no_faults(tmp_path: Path) -> None:
    folders = log(tmp_path)
    raw = folders.raw()
    steps: list[Callable[[], object]] = [partial(seal, folders, raw[0]), folders.sealed()[1].path.unlink]

    def meanwhile(size: int) -> None:
        if steps:
            steps.pop()()

    report = verify(folders, meanwhile)
    assert report.ok, faults(report)
    assert [each.base for each in report.segments if each.base >= raw[0].base] == [raw[0].base, raw[1].base]
