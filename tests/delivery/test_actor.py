"""The delivery actor delivers everything once, in spite of what destinations do, and accounts for all of it."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio

from relayd.config import model
from relayd.config.units import Duration, Rate
from relayd.delivery import breaker
from relayd.delivery.outbox import Outbox
from tests.delivery.stand import Destination, Reply, configuration, standing
from tests.events import line
from tests.waiting import until


@pytest.fixture
def quickly_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination counts as down, and is probed, after a fraction of the usual time."""
    monkeypatch.setattr(breaker, "SURE", 0.2)
    monkeypatch.setattr(breaker, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(breaker, "LONGEST_WAIT", 0.2)


def ids(numbers: range) -> set[str]:
    return {f"id-{number}" for number in numbers}


def fails_first(count: int, reply: Reply = 503) -> Callable[[list[str]], Reply]:
    """Answer ``reply`` to the first ``count`` attempts of each message."""
    attempts: Counter[str] = Counter()

    def answer(batch: list[str]) -> Reply:
        attempts.update(batch)
        return reply if any(attempts[each] <= count for each in batch) else 200

    return answer


async def test_every_event_is_delivered_once(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination()) as stand:
        stand.append(range(3000))
        await stand.settled()
        assert sorted(stand.destination.accepted) == sorted(ids(range(3000)))
        assert stand.outbox.count("first_attempts:ok") == stand.outbox.count("delivered") == 3000
        assert sum(stand.outbox.totals("latency").values()) == 3000
        stand.check_conservation()


async def test_what_fails_is_tried_again_until_it_is_delivered(tmp_path: Path) -> None:
    def answer(batch: list[str]) -> Reply:
        number = int(batch[0].removeprefix("id-"))
        return flaky(batch) if number % 3 == 0 else 200

    flaky = fails_first(2)
    async with standing(tmp_path, Destination(answer)) as stand:
        stand.append(range(300))
        await stand.settled()
        assert Counter(stand.destination.accepted) == Counter(ids(range(300)))
        assert stand.outbox.count("first_attempts:failed") == 100
        assert stand.outbox.count("attempts:failed") == 200
        stand.check_conservation()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (httpx.ReadTimeout("slow"), "ETIMEDOUT"),
        (httpx.RemoteProtocolError("garbage"), "EPROTO"),
        (408, "408"),
        (429, "429"),
        (500, "500"),
    ],
)
async def test_faults_are_retried_and_named(tmp_path: Path, fault: Reply, reason: str) -> None:
    async with standing(tmp_path, Destination(fails_first(1, fault))) as stand:
        stand.destination.gate = trio.Event()
        stand.append(range(1))
        await until(lambda: stand.actor.in_flight == 1)
        stand.destination.gate.set()
        await stand.settled()
        assert stand.destination.requests == [["id-0"], ["id-0"]]
        assert stand.outbox.count("delivered") == 1


async def test_what_is_refused_is_held_with_its_reason_and_never_deleted(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(lambda batch: 401)) as stand:
        stand.append(range(5))
        await stand.settled()
        assert stand.outbox.totals("failed") == {"401": 5}
        assert len(stand.destination.requests) == 5
        rows = stand.outbox._execute(
            "SELECT message_id, payload, reason, detail, attempts FROM dead_letters"
        ).fetchall()
        assert {row[0] for row in rows} == ids(range(5))
        assert rows[0][1:] == (line(0)[:-1], "401", "**** no", 1)
        stand.check_conservation()


async def test_after_the_last_attempt_it_is_held_as_expired_and_the_rest_goes_on(tmp_path: Path) -> None:
    config = configuration()
    retry = model.Retry(policy="node", initial_wait=Duration(0.001), max_attempts=3)
    config = model.Destination(type="webhook", settings=config.settings, retry=retry)
    async with standing(tmp_path, Destination(lambda batch: 503 if batch == ["id-1"] else 200), config) as stand:
        stand.append(range(3))
        await stand.settled()
        assert stand.destination.requests.count(["id-1"]) == 3
        assert stand.outbox.totals("failed") == {"EXPIRED": 1}
        assert stand.outbox._execute("SELECT detail FROM dead_letters").fetchone() == ("503: **** no",)
        assert set(stand.destination.accepted) == {"id-0", "id-2"}


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(fails_first(1, (503, {"retry-after": "3600"})))) as stand:
        stand.append(range(1))
        await until(lambda: stand.outbox.count("attempts:failed"))
        due = stand.outbox._execute("SELECT due - first_attempt FROM deliveries").fetchone()[0]
        assert 3_599_000 < due < 3_601_000


async def test_429_with_retry_after_pauses_the_whole_destination(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(lambda batch: (429, {"retry-after": "3600"}))) as stand:
        stand.append(range(1))
        await until(lambda: stand.actor.backing_off)
        stand.append(range(1, 20))
        await until(lambda: stand.outbox.cursor == stand.log.head)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert len(stand.destination.requests) == 1


@pytest.mark.usefixtures("quickly_sure")
async def test_a_dead_destination_is_probed_not_hammered_and_recovers_by_itself(tmp_path: Path) -> None:
    down = True

    def answer(batch: list[str]) -> Reply:
        return httpx.ConnectError("refused") if down else 200

    async with standing(tmp_path, Destination(answer)) as stand:
        stand.append(range(2000))
        await until(lambda: stand.actor.backing_off and stand.outbox.cursor == stand.log.head)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(stand.destination.requests) < 50
        assert stand.outbox.pending == 2000
        assert stand.actor.in_flight == 0
        down = False
        await stand.settled()
        assert Counter(stand.destination.accepted) == Counter(ids(range(2000)))
        stand.check_conservation()


@pytest.mark.usefixtures("quickly_sure")
async def test_events_behind_an_open_breaker_expire_when_their_window_is_over(tmp_path: Path) -> None:
    config = configuration()
    retry = model.Retry(initial_wait=Duration(0.01), window=Duration(0.3))
    config = model.Destination(type="webhook", settings=config.settings, retry=retry, delivery=config.delivery)
    async with standing(tmp_path, Destination(lambda batch: 500), config) as stand:
        stand.append(range(1500))
        await stand.settled()
        assert stand.outbox.totals("failed") == {"EXPIRED": 1500}
        assert len(stand.destination.requests) < 100
        stand.check_conservation()


async def test_nothing_expires_just_because_relayd_was_stopped(tmp_path: Path) -> None:
    config = configuration()
    retry = model.Retry(initial_wait=Duration(0.01), window=Duration(0.2))
    config = model.Destination(type="webhook", settings=config.settings, retry=retry, delivery=config.delivery)
    destination = Destination()
    destination.gate = trio.Event()
    async with standing(tmp_path, destination, config, stop=False) as stand:
        stand.append(range(50))
        await until(lambda: stand.outbox.cursor == stand.log.head)
    await trio.sleep(0.3)
    async with standing(tmp_path, Destination(), config) as stand:
        await stand.settled()
        assert set(stand.destination.accepted) == ids(range(50))


async def test_no_more_requests_at_once_than_configured(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(), configuration(concurrency=3)) as stand:
        stand.destination.gate = trio.Event()
        stand.append(range(100))
        await until(lambda: stand.actor.in_flight == 3)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert stand.actor.in_flight == 3
        stand.destination.gate.set()
        await stand.settled()
        assert stand.destination.at_once == 3


async def test_no_more_requests_a_second_than_configured(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(), configuration(rate=Rate(100))) as stand:
        start = trio.current_time()
        stand.append(range(60))
        await stand.settled()
        assert trio.current_time() - start > 0.48  # a burst of a tenth of a second is allowed


async def test_a_destination_that_fails_in_a_row_is_tried_one_by_one(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(lambda batch: 500), configuration(concurrency=8)) as stand:
        stand.append(range(500))
        await until(lambda: len(stand.destination.requests) >= breaker.THRESHOLD + 8)
        await trio.testing.wait_all_tasks_blocked(0.02)
        before = len(stand.destination.requests)
        stand.destination.at_once = 0
        await until(lambda: len(stand.destination.requests) >= before + 3)
        assert stand.destination.at_once == 1


async def test_batches_are_filled_within_their_limits(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(), configuration(batch_size=40, concurrency=1)) as stand:
        stand.append(range(400))
        await stand.settled()
        assert max(map(len, stand.destination.requests)) == 40
        assert [each for batch in stand.destination.requests for each in batch] == [f"id-{n}" for n in range(400)]
        stand.check_conservation()


async def test_a_batch_waits_to_fill_but_not_longer_than_configured(tmp_path: Path) -> None:
    config = configuration(batch_size=10, batch_wait=Duration(0.2), concurrency=1)
    async with standing(tmp_path, Destination(), config) as stand:
        for number in range(5):
            stand.append(range(number, number + 1))
            await trio.sleep(0.01)
        await stand.settled()
        assert stand.destination.requests == [[f"id-{number}" for number in range(5)]]


async def test_one_bad_event_does_not_sink_its_batch(tmp_path: Path) -> None:
    async with standing(
        tmp_path, Destination(lambda batch: 400 if "id-7" in batch else 200), configuration(batch_size=20)
    ) as stand:
        stand.append(range(20))
        await stand.settled()
        assert stand.outbox.totals("failed") == {"400": 1}
        assert set(stand.destination.accepted) == ids(range(20)) - {"id-7"}
        stand.check_conservation()


@pytest.mark.parametrize("batch_size", [1, 7])
async def test_a_users_events_stay_in_order_across_retries(tmp_path: Path, batch_size: int) -> None:
    attempts: Counter[str] = Counter()

    def answer(batch: list[str]) -> Reply:
        attempts.update(batch)
        return 503 if any(int(each[3:]) % 5 == 0 and attempts[each] < 3 for each in batch) else 200

    config = configuration(ordering="user", batch_size=batch_size, concurrency=8)
    async with standing(tmp_path, Destination(answer), config) as stand:
        stand.append(range(700))
        await stand.settled()
        assert sorted(stand.destination.accepted) == sorted(ids(range(700)))
        numbers = [int(each[3:]) for each in stand.destination.accepted]
        for user in range(7):
            of_user = [number for number in numbers if number % 7 == user]
            assert of_user == sorted(of_user)
        stand.check_conservation()


async def test_ordered_users_go_on_after_a_dead_letter_and_after_a_restart(tmp_path: Path) -> None:
    def answer(batch: list[str]) -> Reply:
        number = int(batch[0][3:])
        return 400 if number == 0 else 503 if number in (1, 2) and not healed else 200

    healed = False
    config = configuration(ordering="user")
    async with standing(tmp_path, Destination(answer), config, stop=False) as stand:
        stand.append(range(140))
        await until(lambda: stand.outbox.cursor == stand.log.head and len(set(stand.destination.accepted)) == 99)
        assert not {f"id-{number}" for number in range(140) if number % 7 in (1, 2)} & set(stand.destination.accepted)
    healed = True
    async with standing(tmp_path, Destination(answer), config) as stand:
        await stand.settled()
        of_user = [each for each in stand.destination.accepted if int(each[3:]) % 7 == 1]
        assert of_user == [f"id-{number}" for number in range(140) if number % 7 == 1]
        assert stand.outbox.totals("failed") == {"400": 1}
        stand.check_conservation()


async def test_a_graceful_stop_finishes_what_is_in_flight(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination()) as stand:
        stand.destination.gate = trio.Event()
        stand.append(range(20))
        await until(lambda: stand.actor.in_flight == 4)
        stand.actor.stop()
        stand.destination.gate.set()
    assert len(stand.destination.accepted) == 4
    assert stand.outbox.count("delivered") == 4
    async with standing(tmp_path, stand.destination) as again:
        await again.settled()
        assert Counter(stand.destination.accepted) == Counter(ids(range(20)))


async def test_a_crash_repeats_at_most_what_was_in_flight(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(), stop=False) as stand:
        stand.append(range(100))
        await until(lambda: stand.outbox.count("delivered") > 20)
        stand.destination.gate = trio.Event()
    once = Counter(stand.destination.accepted)
    async with standing(tmp_path, Destination()) as again:
        await again.settled()
        total = once + Counter(again.destination.accepted)
        assert set(total) == ids(range(100))
        assert total.total() - 100 <= 4
        again.check_conservation()


async def test_a_full_outbox_stops_reading_the_journal_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with standing(tmp_path, Destination(), configuration(max_outbox=1000)) as stand:
        stand.destination.gate = trio.Event()
        for start in range(0, 9000, 500):
            stand.append(range(start, start + 500))
        await until(lambda: stand.outbox.pending >= 1000)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert stand.outbox.pending < 3000
        stand.destination.gate.set()
        await stand.settled()
        assert Counter(stand.destination.accepted) == Counter(ids(range(9000)))


async def test_a_transaction_that_the_disk_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.delivery.actor._PAUSE", 0.01)
    refusals = iter([True, False, True, True])
    real = Outbox._transact

    def transact(self: Outbox, *arguments: object) -> None:
        if next(refusals, False):
            raise sqlite3.OperationalError("database or disk is full")
        real(self, *arguments)  # type: ignore[arg-type]

    async with standing(tmp_path, Destination()) as stand:
        monkeypatch.setattr(Outbox, "_transact", transact)
        stand.append(range(50))
        await stand.settled()
        assert Counter(stand.destination.accepted) == Counter(ids(range(50)))
        stand.check_conservation()


async def test_a_poisonous_event_is_held_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relayd.destinations.webhook import Webhook

    real = Webhook.requests

    def requests(
        self: Webhook, action: str, settings: object, mapping: object, events: list[bytes], **how: object
    ) -> object:
        if any(b'"id-3"' in event for event in events):
            raise KeyError("a bug")
        return real(self, action, settings, mapping, events, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Webhook, "requests", requests)
    async with standing(tmp_path, Destination(), configuration(batch_size=5)) as stand:
        stand.append(range(10))
        await stand.settled()
        assert stand.outbox.totals("failed") == {"MESSAGE_REJECTED": 1}
        assert set(stand.destination.accepted) == ids(range(10)) - {"id-3"}


async def test_refusals_at_entry_are_counted_by_reason(tmp_path: Path) -> None:
    config = configuration()
    config = model.Destination(type="webhook", sources=("web",), settings=config.settings, delivery=config.delivery)
    async with standing(tmp_path, Destination(), config) as stand:
        stand.append(range(3))
        stand.append(range(3, 5), projectId="other")
        stand.append(range(5, 8), integrations={"All": False})
        stand.append(range(8, 9), integrations={"All": False, "hook": True})
        stand.append(range(9, 10), integrations={"webhook": False, "Segment.io": True})
        stand.log.append([b'{"type":"track"}\n'])
        await stand.settled()
        assert stand.outbox.totals("filtered") == {
            "SOURCE_NOT_CONNECTED": 2,
            "FILTERED_BY_INTEGRATIONS_OBJECT": 4,
            "UNREADABLE": 1,
        }
        assert set(stand.destination.accepted) == {"id-0", "id-1", "id-2", "id-8"}
        stand.check_conservation()
