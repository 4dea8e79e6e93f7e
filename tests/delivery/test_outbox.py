"""An outbox's counters, rows and cursor always agree, also after its file was cut at any byte."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.delivery.eligibility import Match, Selection
from relayd.delivery.outbox import (
    BEHIND,
    Delivery,
    Hold,
    Outbox,
    Results,
    Retry,
    ranges,
    read_counters,
    read_cursor,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hook.sqlite3"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    outbox = Outbox(path)
    outbox.start_at(0)
    yield outbox
    outbox.close()


def selection(numbers: range, *, user: str | None = None, filtered: int = 0) -> Selection:
    matches = [Match(f"id-{number}", b"{}" * 50, 1000 + number, user) for number in numbers]
    reasons = {"UNSUPPORTED_EVENT_TYPE": filtered} if filtered else {}
    return Selection(len(matches) + filtered, len(matches), matches, reasons)


def nothing() -> Results:
    return Results([], [], [], [], {})


def delivered(*deliveries: Delivery) -> Results:
    return Results(list(deliveries), [], [], [], {"delivered": len(deliveries)})


def retried(*deliveries: Delivery, due: int = 5000, first: int = 100) -> Results:
    retries = [Retry(each, each.attempts + 1, first, due, "503", "") for each in deliveries]
    return Results([], retries, [], [], {})


def held(*deliveries: Delivery) -> Results:
    holds = [Hold(each, 1, 100, 200, "400", "no") for each in deliveries]
    return Results([], [], holds, [], {"failed": len(holds), "failed:400": len(holds)})


def check(outbox: Outbox) -> None:
    """Conservation, between counters and rows."""
    rows, dead = (
        outbox._execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("deliveries", "dead_letters")
    )
    assert outbox.count("received") == outbox.count("matched") + sum(outbox.totals("filtered").values())
    assert outbox.count("deliveries") == outbox.count("delivered") + rows + dead
    assert (outbox.pending, outbox.count("failed")) == (rows, dead)
    assert outbox.size == rows + dead


def ids(deliveries: list[Delivery]) -> list[int]:
    return [each.id for each in deliveries]


def test_what_is_taken_in_is_there_after_reopening_with_its_cursor(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.cursor is None
    outbox.start_at(7)
    new = outbox.take_in(selection(range(5), filtered=2), 700, 1)
    assert ids(new) == [1, 2, 3, 4, 5]
    outbox.close()
    outbox = Outbox(path)
    assert outbox.cursor == 700 == read_cursor(path)
    assert outbox.load_new(0, 10, 10_000) == new
    check(outbox)
    outbox.close()


def test_counters_can_be_read_beside_whoever_has_the_file_open(outbox: Outbox, path: Path) -> None:
    new = outbox.take_in(selection(range(3), filtered=2), 77, 5, {"scanned": 9})
    outbox.record(delivered(*new[:2]), 2)
    found = read_counters(path)
    assert (found.count("scanned"), found.count("delivered"), found.pending, found.cursor) == (9, 2, 1, 77)
    assert found.totals("filtered") == {"UNSUPPORTED_EVENT_TYPE": 2}
    assert found.counters == outbox.counters


def test_a_file_that_is_not_there_or_just_being_made_has_no_counters_and_is_left_alone(tmp_path: Path) -> None:
    assert read_counters(tmp_path / "none").counters == {}
    assert not (tmp_path / "none").exists()
    (tmp_path / "new").touch()
    assert read_counters(tmp_path / "new").counters == {}
    (tmp_path / "bad").write_bytes(b"this is no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        read_counters(tmp_path / "bad")


def test_ids_are_never_used_twice(outbox: Outbox, path: Path) -> None:
    new = outbox.take_in(selection(range(3)), 10, 1)
    outbox.record(delivered(*new), 3)
    assert ids(outbox.take_in(selection(range(3, 5)), 20, 1)) == [4, 5]
    check(outbox)


def test_delivered_failed_and_held_find_their_place(outbox: Outbox) -> None:
    first, second, third, fourth = outbox.take_in(selection(range(4)), 10, 1)
    outbox.record(delivered(first), 1)
    outbox.record(retried(second, due=5000), 2)
    outbox.record(held(third), 3)
    check(outbox)
    assert ids(outbox.load_new(0, 10, 10_000)) == [fourth.id]
    assert outbox.load_due(4999, 10, 10_000, ()) == []
    (due,) = outbox.load_due(5000, 10, 10_000, ())
    assert (due.id, due.attempts, due.first_attempt) == (second.id, 1, 100)
    assert outbox.load_due(5000, 10, 10_000, {second.id}) == []
    assert outbox.next_due(0) == 5000
    assert outbox.next_due(5000) is None
    outbox.record(delivered(due), 3)
    check(outbox)


def test_loading_is_bounded_in_number_and_bytes(outbox: Outbox) -> None:
    new = outbox.take_in(selection(range(20)), 10, 1)
    assert len(outbox.load_new(0, 5, 10_000)) == 5
    assert len(outbox.load_new(0, 50, 250)) == 3
    outbox.record(retried(*new, due=1), 20)
    assert len(outbox.load_due(9, 5, 10_000, {1, 2, 3})) == 5
    assert len(outbox.load_due(9, 50, 250, ())) == 3


def test_events_behind_a_users_failed_one_wait_and_come_one_after_the_other(outbox: Outbox) -> None:
    first, second, third = outbox.take_in(selection(range(3), user="ada"), 10, 1)
    (other,) = outbox.take_in(selection(range(3, 4), user="bob"), 11, 1)
    outbox.record(retried(first, due=5000), 1)
    assert ids(outbox.load_new(1, 10, 10_000)) == [other.id]
    assert outbox.load_due(BEHIND - 1, 10, 10_000, {first.id}) == []
    assert outbox.record(delivered(first), 4) == 1
    assert ids(outbox.load_due(0, 10, 10_000, ())) == [second.id]
    assert outbox.record(held(second), 4) == 1
    assert ids(outbox.load_due(0, 10, 10_000, ())) == [third.id]
    check(outbox)


def test_a_page_of_nothing_but_waiting_events_does_not_hide_what_comes_after(outbox: Outbox) -> None:
    first, *_ = outbox.take_in(selection(range(50), user="ada"), 10, 1)
    (other,) = outbox.take_in(selection(range(50, 51), user="bob"), 11, 1)
    outbox.record(retried(first), 1)
    assert ids(outbox.load_new(1, 10, 10_000)) == [other.id]


def test_what_outlived_its_window_expires_and_the_rest_stays(outbox: Outbox) -> None:
    old = outbox.take_in(selection(range(3)), 10, 100)
    new = outbox.take_in(selection(range(3, 6)), 20, 900)
    outbox.record(retried(old[0], first=100), 1)
    outbox.record(retried(new[0], first=900), 1)

    def expire(**changed: object) -> int:
        how = {"horizon": 500, "down_since": 100, "limit": 100, "without": (), "now": 1000} | changed
        return outbox.expire(**how)  # type: ignore[arg-type]

    assert expire(down_since=600) == 1  # untried ones began to wait for it only when it went down
    assert expire(without={old[1].id}) == 1
    assert expire(limit=1) == 1
    assert expire() == 0
    assert outbox.totals("failed") == {"EXPIRED": 3}
    assert {row[0] for row in outbox._execute("SELECT id FROM dead_letters")} == {1, 2, 3}
    check(outbox)


def test_a_transaction_that_fails_changes_nothing(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    (new,) = outbox.take_in(selection(range(1)), 10, 1)
    before = dict(outbox.counters)
    broken = Results([new], [Retry(new, 1, 1, 1, None, "")], [], [], {"delivered": 1})  # type: ignore[arg-type]
    broken.retries.append(object())  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        outbox.record(broken, 1)
    assert outbox.counters == before
    check(outbox)


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(sqlite3.DatabaseError, match="another version"):
        Outbox(path)


@pytest.mark.parametrize("seed", range(3))
def test_a_log_cut_at_any_byte_falls_back_to_a_whole_transaction(tmp_path: Path, seed: int) -> None:
    live = tmp_path / "live.sqlite3"
    outbox = Outbox(live)
    outbox.start_at(0)
    states = {(None, 0, 0, 0), (0, 0, 0, 0)}
    for step in range(8):
        new = outbox.take_in(selection(range(step * 3, step * 3 + 3), filtered=1), (step + 1) * 100, 1)
        states.add(state(outbox))
        outbox.record(delivered(new[0]), new[0].id)
        states.add(state(outbox))
        outbox.record(held(new[1]), new[1].id)
        states.add(state(outbox))
    cut = tmp_path / "cut.sqlite3"
    log = live.with_name(live.name + "-wal").read_bytes()
    for size in range(seed, len(log), 997):
        shutil.copyfile(live, cut)
        cut.with_name(cut.name + "-wal").write_bytes(log[:size])
        cut.with_name(cut.name + "-shm").unlink(missing_ok=True)
        again = Outbox(cut)
        check(again)
        assert state(again) in states
        again.close()
        cut.unlink()
    outbox.close()


def state(outbox: Outbox) -> tuple[int | None, int, int, int]:
    return outbox.cursor, outbox.count("received"), outbox.count("delivered"), outbox.count("failed")


@given(st.sets(st.integers(0, 200)))
def test_ranges_cover_exactly_the_ids(numbers: set[int]) -> None:
    found = ranges(list(numbers))
    assert {each for low, high in found for each in range(low, high + 1)} == numbers
    assert all(found[place][1] + 1 < found[place + 1][0] for place in range(len(found) - 1))


VERSION_1 = """
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY, message_id TEXT NOT NULL, user_key TEXT, received INTEGER NOT NULL,
    queued INTEGER NOT NULL, payload BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, first_attempt INTEGER,
    due INTEGER, reason TEXT, detail TEXT
);
CREATE INDEX retries ON deliveries (due) WHERE due IS NOT NULL;
CREATE INDEX windows ON deliveries (first_attempt) WHERE first_attempt IS NOT NULL;
CREATE INDEX users ON deliveries (user_key, id) WHERE user_key IS NOT NULL;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY, message_id TEXT NOT NULL, user_key TEXT, received INTEGER NOT NULL,
    payload BLOB NOT NULL, attempts INTEGER NOT NULL, first_attempt INTEGER, failed INTEGER NOT NULL,
    reason TEXT NOT NULL, detail TEXT
);
CREATE INDEX reasons ON dead_letters (reason, failed);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO deliveries VALUES (2, 'id-2', 'ada', 1002, 10, x'7b226e223a327d', 3, 100, 5000, '503', 'busy');
INSERT INTO deliveries VALUES (4, 'id-4', 'ada', 1004, 10, x'7b226e223a347d', 0, NULL, 4611686018427387904, NULL, NULL);
INSERT INTO deliveries VALUES (5, 'id-5', NULL, 1005, 10, x'7b226e223a357d', 0, NULL, NULL, NULL, NULL);
INSERT INTO dead_letters VALUES (3, 'id-3', 'bob', 1003, x'7b226e223a337d', 1, 100, 200, '400', 'no');
INSERT INTO counters VALUES ('received', 7), ('filtered:UNSUPPORTED_EVENT_TYPE', 2), ('matched', 5), ('deliveries', 5),
    ('delivered', 1), ('failed', 1), ('failed:400', 1), ('cursor', 700), ('loaded', 4);
PRAGMA user_version = 1;
"""
"""As relayd made it then: of five deliveries one is delivered, one failed, one behind it, one held, one new."""


@pytest.fixture
def old(path: Path) -> Path:
    database = sqlite3.connect(path)
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(VERSION_1)
    database.close()
    return path


def schema(path: Path) -> list[tuple[str, ...]]:
    """The columns of every table, in order, and what the indexes are on."""
    database = sqlite3.connect(path)
    found = [
        (table, *(str(column) for column in database.execute(f"PRAGMA table_info({table})").fetchall()))
        for table in ("deliveries", "dead_letters", "counters")
    ]
    found += database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
    found += database.execute("PRAGMA user_version").fetchall()
    database.close()
    return found


def test_a_file_of_version_1_becomes_one_like_any_other(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite3"
    Outbox(new).close()
    Outbox(old).close()
    assert schema(old) == schema(new)
    Outbox(old).close()
    assert schema(old) == schema(new)


def test_an_upgrade_keeps_what_waits_and_what_is_held(old: Path) -> None:
    assert read_cursor(old) == 700
    outbox = Outbox(old)
    check(outbox)
    assert (outbox.cursor, outbox.loaded, outbox.pending, outbox.count("failed")) == (700, 4, 3, 1)
    assert outbox.load_due(5000, 10, 10_000, ()) == [Delivery(2, "id-2", "ada", 1002, b'{"n":2}', 3, 100, None)]
    assert outbox.load_new(4, 10, 10_000) == [Delivery(5, "id-5", None, 1005, b'{"n":5}', 0, None, None)]
    held = outbox._execute("SELECT * FROM dead_letters").fetchall()
    assert held == [(3, "id-3", "bob", 1003, b'{"n":3}', 1, 100, 200, "400", "no", None)]
    outbox.close()


def test_after_an_upgrade_every_way_goes_on(old: Path) -> None:
    outbox = Outbox(old)
    (due,) = outbox.load_due(5000, 10, 10_000, ())
    (fifth,) = outbox.load_new(4, 10, 10_000)
    match = Match("id-6", b"{}", 1006, None, "Orders")
    (sixth,) = outbox.take_in(Selection(1, 1, [match], {}), 800, 50)
    assert sixth == Delivery(6, "id-6", None, 1006, b"{}", subscription="Orders")
    outbox.record(retried(fifth, sixth, due=6000, first=40), 6)
    assert outbox.record(held(due), 6) == 1
    outbox.close()
    outbox = Outbox(old)
    check(outbox)
    assert [(each.id, each.subscription) for each in outbox.load_due(6000, 10, 10_000, ())] == [
        (4, None),
        (5, None),
        (6, "Orders"),
    ]
    assert outbox.expire(horizon=100, down_since=0, limit=9, without=(), now=900) == 2
    rows = outbox._execute("SELECT id, failed, reason, detail, subscription FROM dead_letters ORDER BY id").fetchall()
    assert rows == [
        (2, 200, "400", "no", None),
        (3, 200, "400", "no", None),
        (5, 900, "EXPIRED", "503: ", None),
        (6, 900, "EXPIRED", "503: ", "Orders"),
    ]
    check(outbox)
    outbox.close()


def test_one_event_may_give_rise_to_several_deliveries(outbox: Outbox) -> None:
    matches = [Match("id-1", b"{}", 1, None, name) for name in ("Orders", "Big")] + [
        Match("id-2", b"{}", 1, None, "Big")
    ]
    new = outbox.take_in(Selection(3, 2, matches, {"NO_MATCHING_MAPPING": 1}), 10, 1)
    assert (outbox.count("received"), outbox.count("matched"), outbox.count("deliveries")) == (3, 2, 3)
    outbox.record(delivered(new[0]), 1)
    outbox.record(held(new[1]), 2)
    outbox.record(retried(new[2], due=1), 3)
    check(outbox)
    assert [each.subscription for each in outbox.load_due(1, 9, 999, ())] == ["Big"]
    assert outbox._execute("SELECT message_id, subscription FROM dead_letters").fetchall() == [("id-1", "Big")]
