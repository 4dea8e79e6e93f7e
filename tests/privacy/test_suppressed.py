"""Looking up who is suppressed: exact, in constant time, in bounded memory, with a million of them."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from timeit import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.privacy.digests import Digests
from relayd.privacy.regulation import Wanted
from relayd.privacy.store import Store
from relayd.privacy.suppressed import Deleted, Suppressed

MILLION = 1_000_000


@given(st.lists(st.integers(1, 2**63 - 1), max_size=3000), st.lists(st.integers(1, 2**63 - 1), max_size=50))
def test_digests_are_a_set(added: list[int], others: list[int]) -> None:
    digests = Digests(added)
    assert len(digests) == len(set(added))
    assert all(each in digests for each in added)
    assert [each in digests for each in others] == [each in set(added) for each in others]


def opened(path: Path) -> tuple[Store, Suppressed]:
    store = Store(sqlite3.connect(path, check_same_thread=False), threading.Lock())
    return store, Suppressed(path, store.keys, store.quick_digests())


def test_who_is_suppressed_is_known_at_once_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "relayd.sqlite3"
    store, suppressed = opened(path)
    assert not suppressed
    store.create(Wanted("SUPPRESS_ONLY", ["ada", "grace"]), 0.0)
    suppressed.add(["ada", "grace"])
    store.create(Wanted("SUPPRESS_WITH_DELETE", ["bob"]), 0.0)
    suppressed.add(["bob"])
    store.create(Wanted("UNSUPPRESS", ["grace"]), 0.0)
    for known in (suppressed, opened(path)[1]):
        deleted = Deleted(known)
        assert known
        assert [each in known for each in ("ada", "grace", "bob", "eve", None, "")] == [1, 0, 1, 0, 0, 0]
        assert [each in deleted for each in ("ada", "grace", "bob", "eve")] == [0, 0, 1, 0]


def test_a_digest_that_two_users_share_makes_nobody_suppressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.privacy.suppressed.digest", lambda text, seed: 7)
    store, suppressed = opened(tmp_path / "relayd.sqlite3")
    store.create(Wanted("SUPPRESS_ONLY", ["ada"]), 0.0)
    suppressed.add(["ada"])
    assert "ada" in suppressed
    assert "bob" not in suppressed


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a million suppressed users: user-0 to user-999999."""
    path = tmp_path_factory.mktemp("million") / "relayd.sqlite3"
    store, _ = opened(path)
    rows = ((store.keys.strong(f"user-{each}"), store.keys.quick(f"user-{each}")) for each in range(MILLION))
    with sqlite3.connect(path) as database:
        database.executemany("INSERT INTO suppressed VALUES (?, ?, 0)", rows)
    return path


def test_a_million_suppressed_users_take_17_bytes_each_and_a_second_to_load(million: Path) -> None:
    started = perf_counter()
    _, suppressed = opened(million)
    seconds = perf_counter() - started
    assert suppressed.nbytes == 16 * 2**20
    assert seconds < 10  # 0.7 on an idle core
    assert all(f"user-{each}" in suppressed for each in range(0, MILLION, 1000))


def test_a_lookup_takes_as_long_with_a_million_as_with_one(million: Path, tmp_path: Path) -> None:
    many = opened(million)[1]
    store, one = opened(tmp_path / "relayd.sqlite3")
    store.create(Wanted("SUPPRESS_ONLY", ["user-1"]), 0.0)
    one.add(["user-1"])
    asked = [f"customer-{each}" for each in range(20_000)]

    def seconds(known: Suppressed) -> float:
        work: Callable[[], object] = lambda: [each in known for each in asked]  # noqa: E731
        return min(repeat(work, number=1, repeat=7)) / len(asked)

    with_many, with_one = seconds(many), seconds(one)
    print(f"a lookup among a million: {with_many * 1e9:.0f} ns; among one: {with_one * 1e9:.0f} ns")
    assert with_many < 4 * with_one  # what is not in the processor's cache costs, and the size does not
    assert with_many < 20e-6
