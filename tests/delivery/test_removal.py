"""What is removed from an outbox is sent no more; what is in flight ends first, and all is counted."""

import sqlite3
from pathlib import Path

import msgspec
import trio

from relayd.delivery.eligibility import SUPPRESSED_USER
from relayd.delivery.outbox import Outbox
from relayd.delivery.removal import remove_from
from relayd.privacy.person import Removal, Row
from tests.delivery.stand import Destination, configuration, standing
from tests.waiting import until


def is_of(user: str) -> Removal:
    def theirs(row: Row) -> bool:
        return bool(msgspec.json.decode(row.payload)["userId"] == user)

    return Removal(theirs, SUPPRESSED_USER, scrub=True)


async def test_what_is_in_flight_ends_before_it_goes(tmp_path: Path) -> None:
    destination = Destination()
    destination.gate = trio.Event()
    async with standing(tmp_path, destination, configuration(concurrency=2)) as stand:
        stand.append(range(70))
        await until(lambda: len(destination.requests) == 2)
        removed: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_remove, stand.actor, is_of("user-0"), removed)
            await trio.sleep(0.2)
            assert not removed  # id-0 is in flight
            destination.gate.set()
        await stand.settled()
        assert removed == [9]
        assert sorted(destination.accepted) == sorted(
            f"id-{number}" for number in range(70) if number % 7 or not number
        )
        assert stand.outbox.totals("failed") == {SUPPRESSED_USER: 9}
        assert stand.outbox.count("deliveries") == 70 == stand.outbox.count("delivered") + 9
        assert stand.outbox.size == 0


async def _remove(actor: object, removal: Removal, removed: list[int]) -> None:
    removed.append(await actor.remove(removal))  # type: ignore[attr-defined]


async def test_what_failed_while_it_was_in_flight_goes_too_and_its_place_in_the_order_is_free(tmp_path: Path) -> None:
    destination = Destination(lambda ids: 503)
    async with standing(tmp_path, destination, configuration(ordering="user"), stop=False) as stand:
        stand.append(range(14))
        await until(lambda: len(destination.requests) > 3)
        assert await stand.actor.remove(is_of("user-3")) == 2
        destination.reply = lambda ids: 200
        await stand.settled()
        assert "id-3" not in destination.accepted
        assert len(destination.accepted) == 12


async def test_an_outbox_at_rest_is_cleaned_and_leaves_no_trace(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(lambda ids: 400)) as stand:
        stand.append(range(70))
        await stand.settled()
    path = tmp_path / "outbox.sqlite3"
    assert b"user-3" in path.read_bytes()
    assert await remove_from(path, is_of("user-3"), actor=lambda: None, at_rest=trio.Lock()) == 10
    assert b"user-3" not in path.read_bytes()
    assert not path.with_name(path.name + "-wal").exists()
    outbox = Outbox(path)
    assert outbox.size == 60
    assert outbox.totals("failed") == {"400": 70}
    outbox.close()
    assert sqlite3.connect(path).execute("PRAGMA auto_vacuum").fetchone() == (2,)
