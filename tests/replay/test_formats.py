"""Archives of relayd and of Segment, whole and broken, read as one log."""

import gzip
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.journal.layout import write_segment
from relayd.replay import formats
from relayd.replay.formats import FILE, NoArchive, as_kept, files_of
from tests.events import line
from tests.journal.logs import make_log
from tests.replay.archives import SEGMENT_EVENT, Read, ids, segment_line, write

KINDS = ("00000000000000000000.jsonl", "00000000000000000000.jsonl.zst", "events.gz")


@pytest.mark.parametrize("name", KINDS)
def test_relayds_own_lines_come_out_as_they_are(tmp_path: Path, name: str) -> None:
    lines = [line(number, text="täxt") for number in range(50)]
    found = Read(write(tmp_path / name, b"".join(lines)))
    assert found.lines == [each.rstrip() for each in lines]
    assert (found.bad, found.report) == (0, [])


def test_an_archive_that_relayd_sealed_is_read_in_order(tmp_path: Path) -> None:
    lines = [line(number) for number in range(90)]
    make_log(tmp_path, [lines[:30], lines[30:60], lines[60:]])
    assert Read(tmp_path).lines == [each.rstrip() for each in lines]
    assert Read(tmp_path / "archive").ids == [f"id-{number}" for number in range(60)]


def test_what_an_archive_has_in_two_layouts_is_read_once(tmp_path: Path) -> None:
    lines = [line(number, projectId=f"source-{number % 3}") for number in range(60)]
    folders = make_log(tmp_path, [lines[:30], lines[30:], []])
    for segment in folders.sealed():
        write_segment(folders.layout, segment)
    assert len(list(folders.layout.rglob("*.gz"))) == 6
    assert Read(folders.archive).lines == [each.rstrip() for each in lines]
    assert sorted(Read(folders.layout).lines) == sorted(each.rstrip() for each in lines)


def test_a_segment_that_a_crash_left_in_both_places_is_read_once(tmp_path: Path) -> None:
    data = b"".join(map(line, range(20)))
    write(tmp_path / "archive/2026-11-24/00000000000000000000.jsonl.zst", data)
    write(tmp_path / "journal/00000000000000000000.jsonl", data)
    assert len(Read(tmp_path).lines) == 20


@pytest.mark.parametrize("folder", ["", "segment-logs/8tvmJ1eZ2e/1795478400000", "deep/er"])
def test_segments_files_keep_all_fields_but_the_write_key(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder / "1795478400000.a8bdb2.1.1.3a8ee6.gz", segment_line())
    expected = {name: value for name, value in SEGMENT_EVENT.items() if name != "writeKey"} | {"messageId": "m-0"}
    assert Read(tmp_path).events == [expected]


def test_segments_layout_is_read_by_source_and_day(tmp_path: Path) -> None:
    for number, place in enumerate(("a/1795392000000", "a/1795478400000", "b/1795392000000")):
        write(tmp_path / "segment-logs" / place / "x.gz", segment_line(number, projectId=None))
    found = Read(tmp_path)
    assert [(each["messageId"], each["projectId"]) for each in found.events] == [
        ("m-0", "a"), ("m-1", "a"), ("m-2", "b")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("own", "folder", "asked", "counts_as"),
    [
        ("p", None, None, "p"),
        ("p", None, "web", "p"),
        ("p", "f", None, "p"),
        ("p", "f", "web", "p"),
        ("p", "web", "web", "web"),
        (None, "f", "web", "f"),
        (None, None, "web", "web"),
        (None, None, None, "archive"),
        (None, "f", None, "f"),
    ],
)
def test_where_an_event_comes_from(own: str | None, folder: str | None, asked: str | None, counts_as: str) -> None:
    kept = as_kept(segment_line(projectId=own), asked, folder)
    assert msgspec.json.decode(kept)["projectId"] == counts_as


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"receivedAt": "2026-11-24T16:04:17Z"}, "2026-11-24T16:04:17.000Z"),
        ({"receivedAt": "2026-11-24T17:04:17.040+01:00"}, "2026-11-24T16:04:17.040Z"),
        ({"receivedAt": None}, "2026-11-24T16:04:17.032Z"),
    ],
)
def test_times_become_as_the_journal_has_them(fields: dict[str, Any], expected: str) -> None:
    assert msgspec.json.decode(as_kept(segment_line(**fields), None))["receivedAt"] == expected


def test_texts_that_a_selection_looks_for_are_written_one_way(tmp_path: Path) -> None:
    text = rb'{"type":"tr\u0061ck","event":"Caf\u00e9 \/ Bar","userId":"\u0061da","anonymousId":null,"messageId":"m",'
    text += rb'"projectId":"p","receivedAt":"2026-11-24T16:04:17.040Z","properties":{"x":"\u00e9"}}'
    kept = as_kept(text, None)
    assert '"event":"Café / Bar"'.encode() in kept
    assert b'"type":"track"' in kept
    assert b'"userId":"ada"' in kept
    assert msgspec.json.decode(kept) == msgspec.json.decode(text)


@pytest.mark.parametrize("name", KINDS)
def test_a_last_line_without_its_end_blank_lines_and_windows_ends_are_no_trouble(tmp_path: Path, name: str) -> None:
    data = b"\n \t\n" + segment_line(0).replace(b"\n", b"\r\n") + b"\n\r\n" + segment_line(1) + segment_line(2).rstrip()
    found = Read(write(tmp_path / name, data))
    assert found.ids == ids(range(3))
    assert (found.bad, found.report) == (0, [])
    assert all(b"\r" not in each and b"\n" not in each for each in found.lines)


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_file_and_one_of_blank_lines_have_no_events(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a" / name, b"")
    write(tmp_path / "b" / f"1{name}", b"\n\n \n")
    write(tmp_path / "c" / f"2{name}", segment_line())
    found = Read(tmp_path)
    assert (found.ids, found.bad) == (["m-0"], 0)


BAD = {
    b"not json": "malformed",
    b'{"type":"track"': "truncated",
    b"[]": "Expected `object`",
    b"null": "Expected `object`",
    segment_line(type=None): "no type",
    segment_line(type=""): "no type",
    segment_line(messageId=None): "no messageId",
    segment_line(messageId=7): "$.messageId",
    segment_line(receivedAt="yesterday"): "no time of receipt",
    segment_line(receivedAt=None, timestamp=None): "no time of receipt",
    segment_line(receivedAt="0001-01-01T00:00:00+14:00"): "",
    segment_line(event="\x00").replace(b"\\u0000", b"\xff\xfe"): "utf-8",
    b'{"a":' + b"[" * 100_000: "",
}


@pytest.mark.parametrize("name", KINDS)
def test_bad_lines_are_counted_and_told_with_file_and_line(tmp_path: Path, name: str) -> None:
    """A pretty-printed event is as many bad lines as it has; what is around them comes through."""
    pretty = msgspec.json.format(segment_line(9), indent=2)
    lines = [segment_line(0), *(each.rstrip() + b"\n" for each in BAD), b"\n", segment_line(1), pretty + b"\n"]
    found = Read(write(tmp_path / name, b"".join([*lines, segment_line(2)])))
    assert found.ids == ids(range(3))
    places = [each.line for each in found.report]
    after = len(BAD) + 4
    assert places == [*range(2, len(BAD) + 2), *range(after, after + pretty.count(b"\n") + 1)]
    assert found.bad == len(found.report)
    assert {each.file for each in found.report} == {str(tmp_path / name)}
    for bad, what in zip(found.report, BAD.values(), strict=False):
        assert what in bad.what
        assert bad.what


def test_a_truncated_gzip_is_read_up_to_the_break_and_reported(tmp_path: Path) -> None:
    rng = random.Random(5)
    lines = [segment_line(number, properties={"noise": rng.randbytes(60).hex()}) for number in range(4000)]
    data = gzip.compress(b"".join(lines))
    (tmp_path / "a.gz").write_bytes(data[: len(data) * 2 // 3])
    write(tmp_path / "b.gz", segment_line(9999))
    found = Read(tmp_path)
    intact = len(found.ids) - 1
    assert found.ids == [*ids(range(intact)), "m-9999"]
    assert 2600 < intact < 2700, "all that can be inflated counts, not only whole blocks of it"
    (bad,) = found.report
    assert bad.file == str(tmp_path / "a.gz")
    assert bad.line is None
    assert f"it is damaged after line {intact}: " in bad.what
    assert found.bad == 1


def test_a_truncated_zstd_is_read_up_to_the_break_and_reported(tmp_path: Path) -> None:
    rng = random.Random(5)
    lines = [segment_line(number, properties={"noise": rng.randbytes(60).hex()}) for number in range(4000)]
    path = write(tmp_path / f"{0:020}.jsonl.zst", b"".join(lines), frame=2**18)
    whole = path.read_bytes()
    os.truncate(path, len(whole) * 2 // 3)
    found = Read(tmp_path)
    assert found.ids == ids(range(len(found.ids)))
    assert 2000 < len(found.ids) < 2700
    assert [(each.line, each.what.partition(":")[0]) for each in found.report] == [
        (None, f"it is damaged after line {len(found.ids)}")
    ]


def test_a_zstd_that_was_cut_between_two_frames_is_reported_too(tmp_path: Path) -> None:
    lines = [segment_line(number) for number in range(2000)]
    half = write(tmp_path / "half.jsonl.zst", b"".join(lines[:1000]))
    index = half.read_bytes().rindex(b"\x5e\x2a\x4d\x18")
    frames = half.read_bytes()[:index]
    half.unlink()
    (tmp_path / f"{0:020}.jsonl.zst").write_bytes(frames)
    found = Read(tmp_path)
    assert found.ids == ids(range(1000))
    (bad,) = found.report
    assert "its index is gone" in bad.what


def test_bytes_that_a_disk_changed_end_a_file_there(tmp_path: Path) -> None:
    lines = [segment_line(number) for number in range(3000)]
    path = write(tmp_path / "x.jsonl.zst", b"".join(lines), frame=2**18)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    found = Read(tmp_path)
    assert 0 < len(found.ids) < 3000
    assert found.ids == ids(range(len(found.ids)))
    assert len(found.report) == 1


@pytest.mark.parametrize("name", ["x.gz", "x.jsonl.zst"])
def test_what_only_looks_compressed_is_reported_and_the_next_file_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a" / "x.jsonl", b"").with_name(name).write_bytes(b"plain text\n" * 50)
    write(tmp_path / "b.jsonl", segment_line(1))
    found = Read(tmp_path)
    assert found.ids == ["m-1"]
    assert [each.file for each in found.report] == [str(tmp_path / "a" / name)]


def test_a_file_that_is_gone_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.gz", segment_line(number))
    files = files_of(tmp_path)
    (tmp_path / "1.gz").unlink()
    report: list[formats.Bad] = []
    reader = formats.ArchiveReader(files, 0, source=None, report=report.append)
    events = 0
    while (piece := reader.next()) is not None:
        events += piece.data.count(b"\n")
    assert events == 2
    assert [(each.file, each.line) for each in report] == [(str(tmp_path / "1.gz"), None)]
    assert "No such file" in report[0].what


def test_one_huge_line_is_an_event(tmp_path: Path) -> None:
    lines = [segment_line(0), segment_line(1, properties={"text": "x" * 5_000_000}), segment_line(2)]
    for name in KINDS:
        path = write(tmp_path / name, b"".join(lines))
        assert Read(path).ids == ids(range(3))
        assert Read(path, chunk=1000).ids == ids(range(3))


@pytest.mark.parametrize("last", [False, True])
def test_a_line_longer_than_any_event_is_a_bad_line_and_costs_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE", 10_000)
    huge = segment_line(1, properties={"text": "x" * 300_000})
    lines = [segment_line(0), huge.rstrip()] if last else [segment_line(0), huge, segment_line(2), b"bad\n"]
    path = write(tmp_path / "x.gz", b"".join(lines))
    found = Read(path, chunk=4096)
    assert found.ids == (["m-0"] if last else ["m-0", "m-2"])
    assert [each.line for each in found.report] == ([2] if last else [2, 4])
    assert found.report[0].what == "it is longer than 10,000 bytes"
    for offset, before in found.offsets:
        assert Read(path, offset, chunk=4096).ids == found.ids[before:]


LINE = st.one_of(
    st.builds(segment_line, st.integers(0, 99), properties=st.dictionaries(st.text(max_size=3), st.text(max_size=40))),
    st.sampled_from([b"\n", b"  \n", b"no event\n", segment_line(5).replace(b"\n", b"\r\n")]),
)


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.lists(LINE, max_size=12), min_size=1, max_size=3),
    kind=st.sampled_from([".jsonl", ".jsonl.zst", ".gz"]),
    chunk=st.integers(1, 3000),
    other=st.integers(1, 3000),
    ended=st.booleans(),
)
def test_going_on_at_any_offset_gives_the_same_events_and_reports(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[list[bytes]],
    kind: str,
    chunk: int,
    other: int,
    ended: bool,
) -> None:
    root = tmp_path_factory.mktemp("archive")
    for number, lines in enumerate(contents):
        data = b"".join(lines)
        write(root / f"{number}-{kind}", data if ended else data.removesuffix(b"\n"), frame=1000)
    whole = Read(root)
    small = Read(root, chunk=chunk)
    assert (small.lines, small.report, small.bad) == (whole.lines, whole.report, whole.bad)
    assert [offset for offset, _ in small.offsets] == sorted(offset for offset, _ in small.offsets)
    assert small.shares == sorted(small.shares)
    assert small.shares[-1:] == [1.0]
    for offset, before in small.offsets:
        rest = Read(root, offset, chunk=other)
        assert rest.lines == whole.lines[before:]
        assert rest.report == whole.report[len(whole.report) - len(rest.report) :]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 6000), chunk=st.integers(1, 3000), kind=st.sampled_from([".jsonl.zst", ".gz"]))
def test_a_file_cut_anywhere_gives_what_is_before_from_every_offset(
    tmp_path_factory: pytest.TempPathFactory, cut: int, chunk: int, kind: str
) -> None:
    root = tmp_path_factory.mktemp("archive")
    rng = random.Random(1)
    lines = [segment_line(number, properties={"noise": rng.randbytes(200).hex()}) for number in range(20)]
    path = write(root / f"x{kind}", b"".join(lines), frame=2000)
    whole = len(path.read_bytes())
    os.truncate(path, min(cut, whole))
    found = Read(root, chunk=chunk)
    assert found.ids == ids(range(len(found.ids)))
    for offset, before in found.offsets:
        assert Read(root, offset).ids == found.ids[before:]


def test_a_place_names_its_file(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.gz", segment_line(number))
    assert Read(tmp_path, FILE).ids == ids([1, 2])
    assert Read(tmp_path, 3 * FILE).ids == []


def test_files_of_takes_one_file_or_all_below_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("b/2.gz", "b/1.jsonl", "a.jsonl.zst", "b/notes.txt", "c/x.gz.partial"):
        write(tmp_path / name, b"")
    (tmp_path / "folder.gz").mkdir()
    names = [str(each.relative_to(tmp_path)) for each in files_of(tmp_path)]
    assert names == ["a.jsonl.zst", "b/1.jsonl", "b/2.gz"]
    assert files_of(tmp_path / "b/2.gz") == [tmp_path / "b/2.gz"]


@pytest.mark.parametrize("name", ["empty", "notes.txt", "missing"])
def test_a_path_without_archived_logs_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NoArchive, match=r"has no archived logs: files that end in \.jsonl, \.jsonl\.zst, \.gz"):
        files_of(tmp_path / name)
