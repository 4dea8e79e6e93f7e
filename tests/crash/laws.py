"""What must hold after any crash, checked on sets. Each law of the design that a crash could break is one function."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.crash.scene import MOST_AT_ONCE, Arrivals, is_refused, refusal
from tests.crash.sender import Sender
from tests.relay import Relay


class Entry(NamedTuple):
    """A line of the journal."""

    offset: int
    line: bytes
    event: dict[str, Any]

    @property
    def id(self) -> str:
        found: str = self.event["messageId"]
        return found


def stored(relay: Relay, *, gaps: int = 0, torn: bool = False) -> list[Entry]:
    """The journal's lines, in order. Segments follow each other with ``gaps`` gaps at most, and hold whole lines.

    With ``torn`` the last line need not be whole; it is then left out.
    """
    found: list[Entry] = []
    end: int | None = None
    for base, data in relay.segments().items():
        assert end is None or base >= end, "segments overlap"
        gaps -= end is not None and base > end
        offset = base
        for line in data.splitlines(keepends=True):
            if line.endswith(b"\n"):
                found.append(Entry(offset, line[:-1], msgspec.json.decode(line)))
            else:
                assert torn, "half a line"
            offset += len(line)
        end = offset
    assert gaps >= 0, "offsets are missing"
    return found


def durability(journal: Collection[Entry], *senders: Sender, repeatable: Collection[str] = ()) -> None:
    """Every acknowledged event is in the journal, as it was sent, and once, but for those that are ``repeatable``.

    Nothing is there that was not sent.
    """
    times = Counter(entry.id for entry in journal)
    acknowledged = set[str]().union(*(sender.acknowledged for sender in senders))
    assert acknowledged <= times.keys(), (len(acknowledged - times.keys()), sorted(acknowledged - times.keys())[:10])
    assert {each for each, count in times.items() if count > 1} <= set(repeatable)
    assert times.keys() <= set[str]().union(*(sender.sent for sender in senders))
    for entry in journal:
        sender = next(each for each in senders if entry.id in each.sent)
        sent = sender.sent[entry.id]
        assert {name: entry.event.get(name) for name in sent} == sent
        assert entry.event["projectId"] == sender.sources[entry.id]


def delivery(
    state: Path, journal: Collection[Entry], arrivals: Mapping[str, Arrivals], *, kills: int | None = None
) -> None:
    """Each destination got all that the journal has for it, as it is there, or holds it; and nothing else.

    It got no more twice than was in flight at the ``kills``; None: that is not to be checked.
    """
    for name, arrived in arrivals.items():
        expected = {entry.id for entry in journal if refusal(name, entry.event) is None}
        holds = held(state, name)
        same_ids(name, arrived.ids | holds, expected)
        assert all(is_refused(each) for each in holds)
        assert name == "picky" or not holds
        as_stored(arrived, journal)
        if kills is not None:
            twice = arrived.repeats + len(arrived.ids & holds)
            assert twice <= kills * MOST_AT_ONCE[name], (name, twice)


def same_ids(name: str, found: Set[str], expected: Set[str]) -> None:
    """Both are the same; the error shows how they differ."""
    missing, strange = expected - found, found - expected
    assert not missing, (name, f"{len(missing)} of {len(expected)} are missing", sorted(missing)[:10])
    assert not strange, (name, f"{len(strange)} should not be there", sorted(strange)[:10])


def as_stored(arrived: Arrivals, journal: Iterable[Entry]) -> None:
    """Every payload is a line that the journal has, or had, for that event."""
    lines: dict[str, set[bytes]] = {}
    for entry in journal:
        lines.setdefault(entry.id, set()).add(entry.line)
    assert [each for each, payloads in arrived.payloads.items() if not payloads <= lines[each]] == []


def order(arrived: Arrivals, journal: Iterable[Entry]) -> None:
    """No event arrived for the first time before an earlier one of its user had: each user's are in journal order."""
    events = {entry.id: entry.event for entry in journal}
    assert _by_user(events[each] for each in arrived.payloads) == _by_user(events.values())


def conservation(state: Path, status: Mapping[str, Any], journal: Collection[Entry]) -> None:
    """After a drain the counters agree with each other, with the rows, and with the journal, and nothing is pending."""
    assert status["journal"]["events"] == len(journal)
    for name, source in status["sources"].items():
        assert source["received"] == sum(entry.event["projectId"] == name for entry in journal), name
        assert source["rejected"] == {}
    destinations(state, status, journal)


def destinations(state: Path, status: Mapping[str, Any], journal: Collection[Entry]) -> None:
    """That, for the destinations."""
    for name, each in status["destinations"].items():
        reasons = Counter(refusal(name, entry.event) for entry in journal)
        matched = reasons.pop(None, 0)
        assert each["filtered"] == reasons, name
        assert (each["received"], each["matched"]) == (len(journal), matched), name
        balance(state, name, each)


def balance(state: Path, name: str, each: Mapping[str, Any]) -> None:
    """A drained destination's counters agree with each other and with its rows."""
    failed = sum(each["failed"].values())
    assert each["received"] == sum(each["filtered"].values()) + each["matched"], name
    assert each["deliveries"] == each["matched"] == each["delivered"] + failed, name
    assert each["pending"] == each["in_flight"] == rows(state, name, "deliveries") == 0, name
    assert rows(state, name, "dead_letters") == failed, name
    assert each["attempts"]["ok"] == each["delivered"], name
    assert sum(each["first_attempts"].values()) == each["deliveries"], name


def rows(state: Path, name: str, table: str) -> int:
    """How many rows a table of an outbox has."""
    count: int = _query(state, name, f"SELECT count(*) FROM {table}")[0][0]
    return count


def held(state: Path, name: str) -> set[str]:
    """The messageIds of a destination's dead letters."""
    return {row[0] for row in _query(state, name, "SELECT message_id FROM dead_letters")}


def cursor(state: Path, name: str) -> int | None:
    """The journal offset up to which a destination has taken in events; None when it has none yet."""
    found = _query(state, name, "SELECT value FROM counters WHERE name = 'cursor'")
    return found[0][0] if found else None


def _query(state: Path, name: str, sql: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(f"file:{state}/outbox/{name}.sqlite3?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def _by_user(events: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event["userId"], []).append(event["messageId"])
    return found
