"""The dedupe index beside a journal that lost its end: an id counts as seen only when its event is still there.

Else a client that sends the event again is told 200, and nothing is on the disk. The moments of these crashes are too
short for a process that is killed at random, so the journal runs here in the test's own.
"""

import mmap
import shutil
from functools import partial
from pathlib import Path

import pytest

from relayd.config.units import Duration, Size
from relayd.journal import dedupe
from tests.crash.wreck import PAGE
from tests.events import line
from tests.journal.test_log import folders, running
from tests.waiting import until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


unsynced = partial(running, fsync="interval", fsync_interval=Duration(3600))


async def test_a_torn_tail_that_ends_in_a_newline_is_seen(root: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    async with unsynced(root) as journal:
        assert journal.dedupe.add(["id-0", "id-1"], 1) == [True, True]
        await journal.append(line(0) + line(1), "web", 2)
        shutil.copytree(root, left)
    active = folders(left).raw()[-1].path
    active.write_bytes(line(0) + b"?" * (len(line(1)) - 1) + b"\n")
    async with running(left) as journal:
        assert journal.head == len(line(0))
        assert journal.dedupe.add(["id-0", "id-1"], 2) == [False, True]


async def test_a_header_that_was_closed_cleanly_does_not_outlive_the_next_start(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may write the table before the header, and both before the journal."""
    left = tmp_path / "left"
    header = b""

    class Noting(mmap.mmap):
        def flush(self, *part: int) -> None:
            nonlocal header
            super().flush(*part)
            header = self[:PAGE]

    monkeypatch.setattr(mmap, "mmap", Noting)
    async with unsynced(root) as journal:
        journal.dedupe.add(["id-0"], 1)
        await journal.append(line(0), "web", 1)
    async with unsynced(root) as journal:
        journal.dedupe.add(["id-1"], 1)
        await journal.append(line(1), "web", 1)
        shutil.copytree(root, left)
        index = left / "dedupe"
        index.write_bytes(header + index.read_bytes()[PAGE:])
    folders(left).raw()[-1].path.write_bytes(line(0))
    monkeypatch.setattr(dedupe, "_boot_id", lambda: (1, 1))
    async with running(left) as journal:
        assert journal.dedupe.add(["id-1"], 2) == [True]
        assert journal.dedupe.add(["id-0"], 2) == [False]


@pytest.mark.parametrize("cursor", [0, 5000])
async def test_a_segment_made_at_the_start_or_before_a_kill_has_none_of_the_earlier_ids(
    root: Path, tmp_path: Path, cursor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut makes them new, and what is sent again is there twice."""
    left = tmp_path / "left"
    async with running(root) as journal:
        journal.dedupe.add(["id-0"], 1)
        await journal.append(line(0), "web", 1)
    if not cursor:
        folders(root).raw_path(len(line(0))).touch()  # the segment is full, and the kill came here
    async with running(root, cursor=cursor, segment_size=Size(10**6)) as journal:
        journal.dedupe.add(["id-1"], 1)
        await journal.append(line(1), "web", 1)
        await until(lambda: len(folders(root).raw()) == 1)  # nothing is sealed while it is copied
        shutil.copytree(root, left)
    monkeypatch.setattr(dedupe, "_boot_id", lambda: (1, 1))
    async with running(left) as journal:
        assert journal.dedupe.add(["id-0", "id-1"], 2) == [False, False]
