"""The second layout is Segment's, whole, and the same however often it is made."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from relayd.journal import layout
from relayd.journal.archive import retire
from relayd.journal.layout import LogWriter, remove, sizes, write_segment
from relayd.journal.segment import Damaged
from tests.events import line
from tests.journal.logs import at, make_log

DAY = round(datetime(2026, 11, 24, tzinfo=UTC).timestamp()) * 1000


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_events_are_by_source_and_day_of_receipt(tmp_path: Path) -> None:
    lines = [at(0), at(1, projectId="app"), b"no event\n", at(60 * 14), at(60 * 14 + 1, projectId="../up")]
    folders = make_log(tmp_path, [lines, [at(2000)]])
    root = folders.layout
    write_segment(root, folders.sealed()[0])
    name = "00000000000000000000.gz"
    assert {path: gzip.decompress(data) for path, data in tree(root).items()} == {
        f"web/{DAY}/{name}": lines[0],
        f"app/{DAY}/{name}": lines[1],
        f"web/{DAY + 86400_000}/{name}": lines[3],
        f"%2E%2E%2Fup/{DAY + 86400_000}/{name}": lines[4],
    }
    assert sizes(root) == {0: sum(map(len, tree(root).values()))}


def test_doing_it_again_after_a_crash_gives_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = make_log(tmp_path, [[at(number, projectId=f"s{number % 5}") for number in range(2000)], [at(2000)]])
    (segment,) = folders.sealed()
    write_segment(tmp_path / "once", segment)
    whole = tree(tmp_path / "once")
    real, left = Path.replace, 3

    def crash(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    monkeypatch.setattr(LogWriter, "discard", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        write_segment(tmp_path / "again", segment)
    assert len(list((tmp_path / "again").glob("*/*/*.gz"))) == 2
    monkeypatch.undo()
    write_segment(tmp_path / "again", segment)
    assert tree(tmp_path / "again") == whole


def test_more_sources_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_OPEN", 3)
    monkeypatch.setattr(layout, "_BLOCK", 200)
    lines = [at(number, projectId=f"s{number % 10}") for number in range(100)]
    folders = make_log(tmp_path, [lines, []])
    write_segment(folders.layout, folders.sealed()[0])
    for path, data in tree(folders.layout).items():
        source = path.split("/")[0]
        assert gzip.decompress(data) == b"".join(
            each for each in lines if msgspec.json.decode(each)["projectId"] == source
        )


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(writer: LogWriter) -> None:
        with writer:
            for number in range(1000):
                writer.write(line(number), "web", datetime.now(UTC))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(LogWriter(tmp_path, "x"))
    assert tree(tmp_path) == {}


def test_a_damaged_segment_leaves_nothing(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(0)], [at(1)]])
    (segment,) = folders.sealed()
    data = bytearray(segment.path.read_bytes())
    data[30] ^= 255
    segment.path.write_bytes(data)
    with pytest.raises(Damaged, match=segment.path.name):
        write_segment(folders.layout, segment)
    assert tree(folders.layout) == {}


def test_files_that_a_rewritten_segment_no_longer_has_go(tmp_path: Path) -> None:
    folders = make_log(tmp_path / "a", [[at(0), at(1, projectId="app")], []])
    write_segment(tmp_path / "logs", folders.sealed()[0])
    rewritten = make_log(tmp_path / "b", [[at(0)], []])
    write_segment(tmp_path / "logs", rewritten.sealed()[0])
    assert [path.split("/")[0] for path in tree(tmp_path / "logs")] == ["web"]
    assert not (tmp_path / "logs" / "app").exists()
    remove(tmp_path / "logs", 0)
    assert list((tmp_path / "logs").iterdir()) == []


def test_retention_counts_it_and_lets_it_go_with_its_segment(tmp_path: Path) -> None:
    folders = make_log(tmp_path, [[at(number)] for number in range(4)])
    for segment in folders.sealed():
        write_segment(folders.layout, segment)
    sealed = folders.sealed()
    raw = sum(segment.path.stat().st_size for segment in folders.raw())
    by_base = sizes(folders.layout)
    kept = raw + sealed[2].path.stat().st_size + by_base[sealed[2].base]
    gone = retire(folders, floor=10**9, retention=10**9, max_size=kept, now=0)
    assert gone == sealed[:2]
    assert sizes(folders.layout) == {sealed[2].base: by_base[sealed[2].base]}
