"""What must hold after any crash, checked on sets. Each law of the design that a crash could break is one function."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from relayd.testing import Sink
from tests.relay import Relay

SENT_FIELDS = ("type", "userId", "event", "properties")


def durability(relay: Relay, acknowledged: set[str], sent: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every acknowledged event is in the journal, once, as it was sent; nothing is there that was not sent."""
    journal = list(relay.journal())
    times = Counter(event["messageId"] for event in journal)
    assert acknowledged <= times.keys(), sorted(acknowledged - times.keys())[:10]
    assert times.keys() <= sent.keys()
    assert [each for each, count in times.items() if count > 1] == []
    for event in journal:
        assert_same(event, sent)
    return journal


def delivery(sink: Sink, journal: Iterable[dict[str, Any]], sent: dict[str, dict[str, Any]], *, repeats: int) -> None:
    """All that the journal has was delivered, payloads equal, and at most ``repeats`` more than once."""
    expected = {event["messageId"] for event in journal}
    assert sink.accepted.keys() == expected, (
        sorted(expected - sink.accepted.keys())[:10],
        sorted(sink.accepted.keys() - expected)[:10],
    )
    assert sink.accepted.total() - len(expected) <= repeats
    for event in delivered(sink):
        assert_same(event, sent)


def order(sink: Sink, journal: Iterable[dict[str, Any]]) -> None:
    """Each user's events were first accepted in the journal's order."""
    first: dict[str, dict[str, Any]] = {}
    for event in delivered(sink):
        first.setdefault(event["messageId"], event)
    assert by_user(first.values()) == by_user(journal)


def conservation(relay: Relay, status: dict[str, Any], journal: list[dict[str, Any]]) -> None:
    """The counters agree with each other, with the rows, and with the journal."""
    assert status["sources"]["app"]["received"] == len(journal) == status["journal"]["events"]
    for name, each in status["destinations"].items():
        assert each["received"] == len(journal) == sum(each["filtered"].values()) + each["matched"]
        assert each["deliveries"] == each["delivered"] + each["pending"] + sum(each["failed"].values())
        assert each["deliveries"] == each["matched"]
        database = sqlite3.connect(relay.state / "outbox" / f"{name}.sqlite3")
        rows, dead = (
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("deliveries", "dead_letters")
        )
        database.close()
        assert (rows, dead) == (each["pending"], sum(each["failed"].values())) == (0, 0)


def delivered(sink: Sink) -> Iterable[dict[str, Any]]:
    """Every accepted event, in order."""
    for request in sink.requests:
        if request.accepted:
            yield from map(msgspec.json.decode, request.events)


def message_id(line: bytes) -> str:
    found: str = msgspec.json.decode(line)["messageId"]
    return found


def by_user(events: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event["userId"], []).append(event["messageId"])
    return found


def assert_same(event: dict[str, Any], sent: dict[str, dict[str, Any]]) -> None:
    original = sent[event["messageId"]]
    assert {name: event[name] for name in SENT_FIELDS} == {name: original[name] for name in SENT_FIELDS}
