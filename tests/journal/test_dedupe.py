"""The dedupe index is exact: it always agrees with a plain ordered dict, across restarts and crashes."""

import shutil
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relayd.journal import dedupe as module
from relayd.journal.dedupe import Dedupe

MAX_IDS = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dedupe"


class Model(RuleBasedStateMachine):
    """A tiny index (so that eviction and collisions are common) beside an ordered dict."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "dedupe"
        self.real = Dedupe(self.path, max_ids=MAX_IDS, window=100)
        self.committed: OrderedDict[str, int] = OrderedDict()
        self.provisional: OrderedDict[str, int] = OrderedDict()
        self.now = 1_000_000

    @rule(number=st.integers(0, 24))
    def add(self, number: int) -> None:
        message_id = f"id-{number}"
        known = message_id in self.committed or message_id in self.provisional
        assert self.real.add([message_id], self.now) == [not known]
        if not known:
            if len(self.committed) + len(self.provisional) == MAX_IDS:
                (self.committed or self.provisional).popitem(last=False)
            self.provisional[message_id] = self.now

    @rule()
    def commit(self) -> None:
        self.real.commit(self.real.mark(), 0)
        self.real.segment_start = self.real.mark()  # what is built again leaves out the active segment's ids
        self.committed.update(self.provisional)
        self.provisional.clear()

    @rule()
    def rollback(self) -> None:
        self.real.rollback()
        self.provisional.clear()

    @rule(seconds=st.integers(1, 80))
    def expire(self, seconds: int) -> None:
        self.now += seconds
        self.real.expire(self.now)
        while self.committed and next(iter(self.committed.values())) < self.now - 100:
            self.committed.popitem(last=False)

    @rule()
    def restart(self) -> None:
        self.real.close()
        self.provisional.clear()
        self.real = Dedupe(self.path, max_ids=MAX_IDS, window=100)

    @rule(another_boot=st.booleans())
    def crash(self, another_boot: bool) -> None:
        """What a killed process leaves is what the mapping holds."""
        left = self.path.with_name("left")
        shutil.copyfile(self.path, left)
        self.real.close()
        left.replace(self.path)
        self.provisional.clear()
        boot = (1, 1) if another_boot else module._boot_id()
        with patch.object(module, "_boot_id", lambda: boot):
            self.real = Dedupe(self.path, max_ids=MAX_IDS, window=100)

    @invariant()
    def same_length(self) -> None:
        assert len(self.real) == len(self.committed) + len(self.provisional)

    def teardown(self) -> None:
        self.real.close()
        self.folder.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_larger_or_smaller_limit_keeps_the_newest_ids(path: Path) -> None:
    seen = Dedupe(path, max_ids=100, window=1000)
    seen.add([str(n) for n in range(60)], 1)
    seen.commit(seen.mark(), 0)
    seen.segment_start = seen.mark()
    seen.close()
    fewer = Dedupe(path, max_ids=10, window=1000)
    assert len(fewer) == 10
    assert fewer.add([str(n) for n in range(50, 60)], 2) == [False] * 10
    assert fewer.add(["49"], 2) == [True]
    fewer.close()


def test_a_damaged_file_is_replaced_and_the_index_works(path: Path) -> None:
    path.write_bytes(b"not a dedupe file")
    seen = Dedupe(path, max_ids=10, window=1000)
    assert seen.add(["a", "a"], 1) == [True, False]
    seen.close()


def test_a_million_ids_take_about_thirty_bytes_each(path: Path) -> None:
    seen = Dedupe(path, max_ids=1_000_000, window=1000)
    assert path.stat().st_size < 30_000_000
    seen.close()


@pytest.mark.parametrize("others", [0, 3])
def test_a_slot_that_a_kill_left_behind_does_not_make_an_id_known(tmp_path: Path, others: int) -> None:
    seen = Dedupe(tmp_path / "dedupe", max_ids=8, window=60)
    kept = [str(number) for number in range(others)]
    seen.add(kept, 1)
    seen.commit(seen.mark(), 10)
    seen.add(["lost"], 1)
    slots = bytes(seen._slots)
    seen.rollback()
    seen._slots[:] = memoryview(slots).cast("I")  # as if it had been killed in the middle
    assert seen.add(["lost"], 1) == [True]
    assert seen.add(["lost", *kept], 1) == [False] * (others + 1)
    seen.close()
