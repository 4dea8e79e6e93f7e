"""What a replay reads of a log: the events that fit, addressed to its destination alone."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relayd.event import parse_time
from relayd.journal.archive import FRAME
from relayd.journal.reader import find_end
from relayd.journal.segment import Folders
from relayd.replay.formats import ArchiveReader, Bad, files_of
from relayd.replay.job import Criteria
from relayd.replay.scan import Choice, JournalLines, Scan, share, span
from tests.events import line
from tests.journal.logs import START, at, make_log
from tests.replay.archives import segment_line, write


def milliseconds(minute: float) -> int:
    """So many minutes after `START`."""
    return round((START.timestamp() + minute * 60) * 1000)


def criteria(**fields: Any) -> Criteria:
    return msgspec.convert(fields, Criteria)


def refuse(bad: Bad) -> None:
    raise AssertionError(bad)


def scan_of(
    folders: Folders, asked: Criteria, destination: str = "hook", report: Callable[[Bad], None] = refuse
) -> Scan:
    start, end = span(folders, find_end(folders), asked)
    lines = JournalLines(folders, start, end, offset=start, report=report)
    return Scan(lines, asked, destination, has_room=lambda: True)


def read(scan: Scan) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """All its events, and its counts."""
    events: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    offset = scan.offset
    while (chunk := scan.read(0)) is not None:
        assert offset <= chunk.start <= chunk.end == scan.offset
        offset = chunk.end
        events += map(msgspec.json.decode, chunk.data.splitlines())
        for name, count in chunk.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert scan.finished
    scan.close()
    return events, counts


EVENT = {"type": "track", "event": "Order Completed", "projectId": "web", "userId": "ada", "anonymousId": "anon"}


@pytest.mark.parametrize(
    ("asked", "fields", "wanted"),
    [
        ({}, {}, True),
        ({"types": ["track"]}, {}, True),
        ({"types": ["identify", "page"]}, {}, False),
        ({"types": ["identify", "page"]}, {"type": "page"}, True),
        ({"events": ["Order Completed"]}, {}, True),
        ({"events": ["Order"]}, {}, False),
        ({"events": ["Order", "Order Completed"]}, {}, True),
        ({"events": ["Order Completed"]}, {"type": "identify", "event": None}, False),
        ({"events": ["Home"]}, {"type": "page", "name": "Home", "event": None}, True),
        ({"events": ["Home"]}, {"name": "Home"}, False),
        ({"events": ['Café "A\\B"\n']}, {"event": 'Café "A\\B"\n'}, True),
        ({"source": "web"}, {}, True),
        ({"source": "app"}, {}, False),
        ({"user": "ada"}, {}, True),
        ({"user": "anon"}, {}, True),
        ({"user": "Order Completed"}, {}, False),
        ({"user": "anon"}, {"anonymousId": None}, False),
        ({"since": milliseconds(1)}, {}, True),
        ({"since": milliseconds(1) + 1}, {}, False),
        ({"until": milliseconds(1)}, {}, False),
        ({"until": milliseconds(1) + 1}, {}, True),
        ({"since": milliseconds(0), "until": milliseconds(2)}, {}, True),
        ({"types": ["track"], "events": ["Order Completed"], "source": "web", "user": "ada"}, {}, True),
        ({"types": ["track"], "events": ["Order Completed"], "source": "app", "user": "ada"}, {}, False),
        ({"types": ["page"], "events": ["Order Completed"]}, {}, False),
        ({"types": ["track"], "since": milliseconds(2)}, {}, False),
    ],
)
def test_each_criterion_and_several_together(asked: dict[str, Any], fields: dict[str, Any], wanted: bool) -> None:
    assert bool(Choice(criteria(**asked)).of(at(1, **(EVENT | fields)))) is wanted


@pytest.mark.parametrize("text", [b"no event", b'{"type":"track"}', b"{}"])
def test_an_unreadable_line_is_for_eligibility_to_count_unless_more_than_a_time_is_asked_for(text: bytes) -> None:
    good = at(1, **EVENT).rstrip()
    data = text + b"\n" + good + b"\n"
    assert Choice(criteria()).of(data) == [text, good]
    assert Choice(criteria(since=1, until=2)).of(data) == [text]
    assert Choice(criteria(types=["track"])).of(data) == [good]
    assert Choice(criteria(user="ada", since=1)).of(data) == [good]


NAMES = st.sampled_from(["a", "b", 'q"', "é", "\\", "track"])
OPTIONAL = st.none() | NAMES
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "page", "identify"]),
        "event": OPTIONAL,
        "name": OPTIONAL,
        "projectId": NAMES,
        "userId": OPTIONAL,
        "anonymousId": OPTIONAL,
        "properties": st.dictionaries(NAMES, NAMES, max_size=2),
    }
)
ASKED = st.fixed_dictionaries(
    {
        "types": st.frozensets(st.sampled_from(["track", "page", "identify"]), max_size=2),
        "events": st.frozensets(NAMES, max_size=2),
        "source": OPTIONAL,
        "user": OPTIONAL,
        "since": st.none() | st.integers(0, 3).map(milliseconds),
        "until": st.none() | st.integers(4, 6).map(milliseconds),
    }
)


@given(event=EVENTS, asked=ASKED, minute=st.integers(0, 6))
def test_the_quick_look_decides_as_the_definition_does(
    event: dict[str, Any], asked: dict[str, Any], minute: int
) -> None:
    received = milliseconds(minute)
    named = event["event"] if event["type"] == "track" else event["name"]
    expected = (
        (not asked["types"] or event["type"] in asked["types"])
        and (not asked["events"] or named in asked["events"])
        and (asked["source"] is None or event["projectId"] == asked["source"])
        and (asked["user"] is None or asked["user"] in (event["userId"], event["anonymousId"]))
        and (asked["since"] is None or received >= asked["since"])
        and (asked["until"] is None or received < asked["until"])
    )
    assert bool(Choice(criteria(**asked)).of(at(minute, **event))) is expected


def test_integrations_become_the_destination_alone_and_all_else_stays(tmp_path: Path) -> None:
    lines = [
        at(0, integrations={"All": True, "hook": False, "Amplitude": {"session_id": 1}}),
        at(1, context={"a": "é"}),
    ]
    events, counts = read(scan_of(make_log(tmp_path, [lines]), criteria(), 'my "hook"'))
    rewritten = {"integrations": {"All": False, 'my "hook"': True}}
    assert events == [msgspec.json.decode(each) | rewritten for each in lines]
    assert counts == {"scanned": 2, "bad_lines": 0}


def test_scanned_is_what_was_looked_at_and_not_what_fits(tmp_path: Path) -> None:
    lines = [at(number, event="Rare" if number % 10 == 3 else "Common") for number in range(100)]
    folders = make_log(tmp_path, [lines[:40], lines[40:80], lines[80:]])
    events, counts = read(scan_of(folders, criteria(events=["Rare"])))
    assert [each["messageId"] for each in events] == [f"id-{number}" for number in range(3, 100, 10)]
    assert counts == {"scanned": 100, "bad_lines": 0}


def test_a_time_spares_reading_what_is_long_before_and_after(tmp_path: Path) -> None:
    lines = [at(number) for number in range(100)]
    folders = make_log(tmp_path, [lines[:40], lines[40:80], lines[80:]])
    events, counts = read(scan_of(folders, criteria(since=milliseconds(50), until=milliseconds(60))))
    assert [parse_time(each["receivedAt"]) for each in events] == [milliseconds(minute) for minute in range(50, 60)]
    assert counts["scanned"] < 15


def test_events_that_a_clock_set_back_put_out_of_order_are_found(tmp_path: Path) -> None:
    lines = [at(0), at(10), at(9.5), at(10.5), at(20)]  # type: ignore[arg-type]
    events, _ = read(scan_of(make_log(tmp_path, [lines]), criteria(since=milliseconds(10), until=milliseconds(11))))
    assert [parse_time(each["receivedAt"]) for each in events] == [milliseconds(10), milliseconds(10.5)]


def test_unreadable_lines_reach_eligibility_as_they_are(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[line(0), b"no event\n", line(1)]])
    scan = scan_of(folders, criteria())
    chunk = scan.read(0)
    assert chunk is not None
    assert chunk.data.splitlines()[1] == b"no event"
    assert chunk.counts["scanned"] == 3
    scan.close()


@pytest.mark.parametrize("asked", [{}, {"types": ["track"]}, {"types": ["page"]}])
def test_what_a_deleted_event_left_is_no_event(tmp_path: Path, asked: dict[str, Any]) -> None:
    gone = b" " * 80 + b"\n"
    events, counts = read(scan_of(make_log(tmp_path, [[gone, line(0), gone, gone, line(1), gone]]), criteria(**asked)))
    assert len(events) == (0 if asked == {"types": ["page"]} else 2)
    assert counts == {"scanned": 2, "bad_lines": 0}


def damage(path: Path, share: float) -> None:
    """Change a byte of a file, as a disk may."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("asked", [{}, {"since": milliseconds(0)}])
def test_a_frame_that_the_disk_did_not_keep_costs_no_other_events(
    tmp_path: Path, share: float, asked: dict[str, Any]
) -> None:
    noise = random.Random(3)
    lines = [at(number, properties={"noise": noise.randbytes(2000).hex()}) for number in range(1000)]
    folders = make_log(tmp_path, [lines, [at(1000)], [at(1001)]])
    damage(folders.sealed()[0].path, share)
    report: list[Bad] = []
    events, counts = read(scan_of(folders, criteria(**asked), report=report.append))
    found = [int(each["messageId"].removeprefix("id-")) for each in events]
    lost = [number for number in range(1002) if number not in found]
    assert found == sorted(set(found))
    assert 0 < len(lost) <= FRAME / len(lines[0]) + 2
    assert lost == [*range(lost[0], lost[-1] + 1)], "they are of one frame"
    assert counts["bad_lines"] == len(report) == 1
    assert "are passed over" in report[0].what


def test_a_segment_without_its_index_is_passed_over_and_what_follows_is_read(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(number) for number in range(50)], [at(50)], [at(51)]])
    path = folders.sealed()[0].path
    os.truncate(path, path.stat().st_size - 5)
    report: list[Bad] = []
    events, counts = read(scan_of(folders, criteria(since=milliseconds(10)), report=report.append))
    assert [each["messageId"] for each in events] == ["id-50", "id-51"]
    assert counts["bad_lines"] == len(report) == 1


def test_an_archive_counts_its_bad_lines_and_a_source_folder_can_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "segment-logs/web/1/a.gz", segment_line(1) + b"bad\n" + segment_line(2))
    write(tmp_path / "segment-logs/ios/1/a.gz", segment_line(3, projectId=None) + b"bad\n")
    report: list[Bad] = []
    asked = criteria(source="web")
    lines = ArchiveReader(files_of(tmp_path), 0, source=asked.source, report=report.append)
    events, counts = read(Scan(lines, asked, "hook", has_room=lambda: True))
    assert [(each["messageId"], each["projectId"]) for each in events] == [("m-1", "web"), ("m-2", "web")]
    assert counts == {"scanned": 3, "bad_lines": 2}
    assert len(report) == 2


def test_a_log_is_read_again_from_where_the_outbox_refused_it(tmp_path: Path) -> None:
    scan = scan_of(make_log(tmp_path, [[line(0)], [line(1)]]), criteria())
    first = scan.read(0)
    assert first is not None
    scan.seek(first.start)
    assert scan.read(0) == first
    while scan.read(0) is not None:
        pass
    scan.seek(first.start)
    assert not scan.finished
    scan.close()


async def test_it_waits_for_room_and_for_ever_once_all_is_read(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    has_room = False
    folders = make_log(tmp_path, [[line(0)]])
    scan = Scan(JournalLines(folders, 0, 9999, offset=0, report=refuse), criteria(), "hook", has_room=lambda: has_room)
    with trio.move_on_after(10) as waiting:
        await scan.wait_beyond(0)
    assert waiting.cancelled_caught
    has_room = True
    await scan.wait_beyond(0)
    read(scan)
    with trio.move_on_after(10) as waiting:
        await scan.wait_beyond(0)
    assert waiting.cancelled_caught


def test_the_share_is_of_what_is_to_be_read() -> None:
    assert share(100, 100, 200) == 0
    assert share(100, 150, 200) == 0.5
    assert share(100, 300, 200) == 1
    assert share(100, 100, 100) == 1
