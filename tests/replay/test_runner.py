"""Replays run to their end, beside live delivery and apart from it, whatever comes between."""

import math
import sqlite3
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import trio

from relayd.config import model
from relayd.delivery.actor import Actor
from relayd.delivery.throttle import Throttle
from relayd.destinations import device
from relayd.replay import runner
from relayd.replay.job import UnknownReplay
from relayd.replay.runner import Refused
from relayd.testing import Faults, open_sink
from tests.events import line
from tests.journal.logs import at
from tests.replay.archives import segment_line, write
from tests.replay.stand import hook, standing
from tests.replay.test_scan import milliseconds
from tests.waiting import until


def once(count: int) -> Counter[str]:
    """Each of so many events of `line`, once."""
    return Counter(f"id-{number}" for number in range(count))


async def test_the_journal_up_to_the_moment_of_the_start_is_delivered(tmp_path: Path) -> None:
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(300))]) as stand:
        id_ = await stand.start(rate=500.0)
        await stand.journal.append(b"".join(map(line, range(300, 400))), "web", 100)
        status = await stand.ended(id_)
        assert sink.accepted == once(300)
        assert (status.scanned, status.received, status.matched, status.delivered) == (300, 300, 300, 300)
        assert {each.headers["idempotency-key"] for each in sink.requests} >= {"id-0"}
        (event,) = sink.requests[0].events
        assert msgspec.json.decode(event)["integrations"] == {"All": False, "hook": True}


async def test_filters_and_criteria_apply_and_are_counted_apart(tmp_path: Path) -> None:
    lines = [
        at(number, event="Rare" if number % 10 == 0 else "Common", type="page" if number % 5 == 4 else "track")
        for number in range(100)
    ]
    async with open_sink() as sink:
        config = msgspec.structs.replace(
            hook(sink, batch_size=7), filters=(model.Filter(condition='messageId = "id-50"', drop=True),)
        )
        async with standing(tmp_path, {"hook": config}, lines) as stand:
            id_ = await stand.start(events=["Rare"], types=["track"], since=milliseconds(20), until=milliseconds(90))
            status = await stand.ended(id_)
    assert sorted(sink.accepted) == [f"id-{number}" for number in (20, 30, 40, 60, 70, 80)]
    assert (status.received, status.filtered, status.matched) == (7, {"FILTERED_BY_RULES": 1}, 6)
    assert status.scanned < 80


async def test_a_disabled_destination_and_one_fed_from_other_sources_can_be_replayed_to(tmp_path: Path) -> None:
    async with open_sink() as sink:
        config = msgspec.structs.replace(hook(sink, enabled=False), sources=("ios",))
        async with standing(tmp_path, {"hook": config}, [*map(line, range(20))]) as stand:
            assert (await stand.ended(await stand.start())).delivered == 20
    assert sink.accepted == once(20)


async def test_a_folder_of_segments_logs_is_replayed_and_its_bad_lines_kept(tmp_path: Path) -> None:
    archive = tmp_path / "bucket"
    days = [segment_line(number) for number in range(60)]
    write(archive / "segment-logs/8tvmJ1eZ2e/1795392000000/a.gz", b"".join(days[:30]) + b"no event\n")
    write(archive / "segment-logs/8tvmJ1eZ2e/1795478400000/b.gz", b"".join(days[30:]))
    cut = archive / "segment-logs/8tvmJ1eZ2e/1795478400000/c.gz"
    cut.write_bytes(write(archive / "c.gz", segment_line(60) * 50).read_bytes()[:-30])
    (archive / "c.gz").unlink()
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}) as stand:
        id_ = await stand.start(archive=archive, source="8tvmJ1eZ2e")
        assert math.isinf(stand.replays.floor()), "it needs nothing of the journal"
        status = await stand.ended(id_)
        kept = (tmp_path / "replays" / id_ / "bad-lines.jsonl").read_bytes().splitlines()
    assert set(sink.accepted) >= {f"m-{number}" for number in range(60)}
    assert status.bad_lines == 2
    assert [(each["file"].rpartition("/")[2], each["line"]) for each in map(msgspec.json.decode, kept)] == [
        ("a.gz", 31),
        ("c.gz", None),
    ]


async def test_files_that_come_into_an_archive_later_change_nothing(tmp_path: Path) -> None:
    for number in (1, 3, 5):
        write(tmp_path / f"a/{number}.gz", b"".join(segment_line(number * 100 + each) for each in range(50)))
    async with open_sink() as sink:
        async with standing(tmp_path, {"hook": hook(sink)}) as stand:
            id_ = await stand.start(archive=tmp_path / "a", rate=100.0)
            await sink.wait_accepted(60)
            await stand.replays.pause(id_)
            for number in (0, 2, 4, 6):
                write(tmp_path / f"a/{number}.gz", segment_line(9999))
        async with standing(tmp_path, {"hook": hook(sink)}) as stand:
            await stand.replays.resume(id_)
            await stand.ended(id_)
    assert sink.accepted == Counter(f"m-{number * 100 + each}" for number in (1, 3, 5) for each in range(50))


@pytest.mark.parametrize(
    ("destination", "archive", "told"),
    [
        ("hok", None, 'there is no destination "hok"; the destinations are: hook, pixel'),
        ("pixel", None, "pixel is only in device-mode"),
        ("hook", "nothing-here", "has no archived logs"),
    ],
)
async def test_what_can_not_be_replayed_is_refused(
    tmp_path: Path, destination: str, archive: str | None, told: str
) -> None:
    async with open_sink() as sink:
        pixel = model.Destination(type="device", settings=device.Settings(name="Pixel"))
        async with standing(tmp_path, {"hook": hook(sink), "pixel": pixel}) as stand:
            with pytest.raises(Refused, match=told):
                await stand.start(destination, archive=None if archive is None else tmp_path / archive)
            assert await stand.replays.status() == []


async def test_the_same_replay_twice_needs_again(tmp_path: Path) -> None:
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(10))]) as stand:
        first = await stand.start(types=["track"])
        with pytest.raises(Refused, match=f"replay {first} is the same and is (running|finished); use --again"):
            await stand.start(types=["track"], rate=5.0)
        await stand.ended(first)
        with pytest.raises(Refused, match=f"replay {first} is the same and is finished; use --again"):
            await stand.start(types=["track"])
        await stand.ended(await stand.start(types=["track", "page"]))
        await stand.ended(await stand.start(types=["track"], again=True))
        assert set(sink.accepted.values()) == {3}


async def test_one_that_was_cancelled_may_be_started_anew(tmp_path: Path) -> None:
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(10))]) as stand:
        await stand.replays.cancel(await stand.start(rate=1.0))
        await stand.ended(await stand.start())


async def test_the_same_asked_twice_at_once_is_started_once(tmp_path: Path) -> None:
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            await stand.start()
            outcomes.append("started")
        except Refused:
            outcomes.append("refused")

    async with (
        open_sink() as sink,
        standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(10))]) as stand,
        trio.open_nursery() as nursery,
    ):
        for _ in range(5):
            nursery.start_soon(ask)
    assert sorted(outcomes) == ["refused"] * 4 + ["started"]


async def test_pause_resume_and_cancel(tmp_path: Path) -> None:
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(200))]) as stand:
        id_ = await stand.start(rate=200.0)
        await sink.wait_accepted(20)
        await stand.replays.pause(id_)
        paused = await stand.status(id_)
        assert paused.state == "paused"
        assert paused.delivered == sink.accepted.total(), "what was in flight has ended and is counted"
        await trio.sleep(0.3)
        assert sink.accepted.total() == paused.delivered < 200
        with pytest.raises(Refused, match="is paused"):
            await stand.replays.pause(id_)
        await stand.replays.resume(id_)
        await sink.wait_accepted(paused.delivered + 20)
        await stand.replays.cancel(id_)
        cancelled = await stand.status(id_)
        assert (cancelled.state, cancelled.delivered) == ("cancelled", sink.accepted.total())
        assert cancelled.ended is not None
        for change in (stand.replays.pause, stand.replays.resume, stand.replays.cancel):
            with pytest.raises(Refused, match="is cancelled"):
                await change(id_)
            with pytest.raises(UnknownReplay):
                await change("00000000")
        assert max(sink.accepted.values()) == 1


async def test_a_pause_does_not_wait_for_ever_for_an_answer_and_a_resume_goes_on_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_PATIENCE", 0.2)
    slow = Faults(share=1, attempts=1, latency=1.0)
    async with open_sink(faults=slow) as sink, standing(tmp_path, {"hook": hook(sink)}, [line(0), line(1)]) as stand:
        id_ = await stand.start()
        await sink.wait_requests(2)
        with trio.fail_after(0.8):
            await stand.replays.pause(id_)
        await stand.replays.resume(id_)
        await stand.ended(id_)
    assert sink.accepted == once(2)


async def test_a_stop_in_the_middle_goes_on_at_the_next_start(tmp_path: Path) -> None:
    async with open_sink() as sink:
        async with standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(300))]) as stand:
            id_ = await stand.start(rate=400.0)
            await sink.wait_accepted(50)
        assert sink.accepted.total() < 300
        async with standing(tmp_path, {"hook": hook(sink)}) as stand:
            status = await stand.ended(id_)
    assert sink.accepted == once(300)
    assert (status.scanned, status.delivered) == (300, 300)


async def test_a_job_whose_destination_is_gone_waits_for_it_to_come_back(tmp_path: Path) -> None:
    async with open_sink() as sink:
        async with standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(20))]) as stand:
            id_ = await stand.start(rate=1.0)
        async with standing(tmp_path, {"other": hook(sink)}) as stand:
            assert (await stand.status(id_)).state == "running"
            await stand.replays.pause(id_)
            with pytest.raises(Refused, match='there is no destination "hook"'):
                await stand.replays.resume(id_)
        async with standing(tmp_path, {"hook": hook(sink)}) as stand:
            await stand.replays.resume(id_)
            await until(lambda: sink.accepted.total() > 1)


async def test_what_is_refused_is_held_apart_with_its_reason(tmp_path: Path) -> None:
    async with (
        open_sink(faults=Faults(share=0.3, attempts=0, status=400)) as sink,
        standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(100))]) as stand,
    ):
        id_ = await stand.start()
        status = await stand.ended(id_)
        held = sqlite3.connect(tmp_path / "replays" / id_ / "outbox.sqlite3")
        ids = {row[0] for row in held.execute("SELECT message_id FROM dead_letters WHERE reason = '400'")}
        held.close()
    assert status.failed == {"400": len(ids)}
    assert 10 < len(ids) < 50
    assert ids.isdisjoint(sink.accepted)
    assert ids | set(sink.accepted) == set(once(100))


async def test_a_destination_that_fails_for_a_while_gets_everything_in_the_end(tmp_path: Path) -> None:
    async with (
        open_sink(faults=Faults(share=0.5, attempts=2, kinds=("status", "reset"))) as sink,
        standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(100))]) as stand,
    ):
        assert (await stand.ended(await stand.start())).delivered == 100
        assert sink.accepted == once(100)


async def test_the_rate_is_kept_to(tmp_path: Path) -> None:
    times: list[float] = []
    async with open_sink(watch=lambda received: times.extend([received.at] * len(received.events))) as sink:
        for size in (1, 25):
            times.clear()
            root = tmp_path / str(size)
            root.mkdir()
            async with standing(root, {"hook": hook(sink, batch_size=size)}, [*map(line, range(400))]) as stand:
                await stand.ended(await stand.start(rate=200.0))
            assert 1.5 < times[-1] - times[0] < 8, "400 events at 200 a second"
            for start in times[::20]:
                assert sum(start <= each < start + 0.5 for each in times) <= 100 + 20 + 2 * size


class Live:
    """As much of a live actor as a replay looks at."""

    def __init__(self, *, is_behind: bool = False, rate: float | None = None) -> None:
        self.is_behind = is_behind
        self.throttle = Throttle(rate)

    def __call__(self, name: str) -> Actor:
        return self  # type: ignore[return-value]


async def test_while_live_events_wait_a_replay_reads_and_sends_nothing_new(tmp_path: Path) -> None:
    live = Live()
    async with (
        open_sink() as sink,
        standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(500))], live=live) as stand,
    ):
        id_ = await stand.start(rate=500.0)
        await sink.wait_accepted(20)
        live.is_behind = True
        await trio.sleep(0.2)
        before, status = sink.accepted.total(), await stand.status(id_)
        assert status.pending > 0
        await trio.sleep(0.3)
        assert sink.accepted.total() == before
        assert (await stand.status(id_)).scanned == status.scanned
        live.is_behind = False
        await stand.ended(id_)
        assert sink.accepted == once(500)


async def test_while_live_events_wait_a_new_replay_reads_nothing(tmp_path: Path) -> None:
    live = Live(is_behind=True)
    async with (
        open_sink() as sink,
        standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(50))], live=live) as stand,
    ):
        id_ = await stand.start()
        await trio.sleep(0.3)
        assert (await stand.status(id_)).scanned == 0
        assert stand.replays.floor() == 0, "the journal keeps what is not read"
        live.is_behind = False
        await stand.ended(id_)


async def test_a_destinations_limit_of_requests_holds_for_live_events_and_replays_together(tmp_path: Path) -> None:
    live = Live(rate=100.0)
    async with (
        open_sink() as sink,
        standing(tmp_path, {"hook": hook(sink, rate="100/s")}, [*map(line, range(300))], live=live) as stand,
    ):
        await stand.start()
        start, taken = time.monotonic(), 0
        while time.monotonic() < start + 1.5:
            if not live.throttle.wait(trio.current_time()):
                live.throttle.take(trio.current_time())
                taken += 1
            await trio.sleep(0.002)
        assert taken > 10
        assert sink.accepted.total() > 10
        assert taken + sink.accepted.total() <= 150 + 12


async def test_a_replay_of_many_events_keeps_its_outbox_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_MOST_PENDING", 500)
    archive = tmp_path / "a"
    for part in range(20):
        write(archive / f"{part:02}.gz", b"".join(segment_line(part * 300 + number) for number in range(300)))
    most = 0
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink, batch_size=50)}) as stand:
        id_ = await stand.start(archive=archive)
        while stand.replays._jobs[id_].state == "running":
            most = max(most, (await stand.status(id_)).pending)
            await trio.sleep(0.01)
        assert (await stand.ended(id_)).delivered == 6000
    assert 0 < most <= 500 + 300
    assert len(sink.accepted) == 6000


async def test_the_floor_is_the_least_cursor_of_what_still_reads_the_journal(tmp_path: Path) -> None:
    lines = [at(number) for number in range(200)]
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}, lines) as stand:
        assert math.isinf(stand.replays.floor())
        id_ = await stand.start(rate=5.0, since=milliseconds(100))
        floor = stand.replays.floor()
        assert sum(map(len, lines[:90])) < floor <= sum(map(len, lines[:100])) or floor == stand.journal.head
        await stand.replays.pause(id_)
        assert stand.replays.floor() <= floor
        other = await stand.start(rate=5.0)
        await stand.replays.pause(other)
        assert stand.replays.floor() == 0
        await stand.replays.cancel(other)
        await stand.replays.cancel(id_)
        assert math.isinf(stand.replays.floor())


async def test_the_floor_can_be_asked_from_another_thread_while_jobs_come_and_go(tmp_path: Path) -> None:
    async with open_sink() as sink, standing(tmp_path, {"hook": hook(sink)}, [line(0)]) as stand:
        done = False

        def ask_on() -> int:
            asked = 0
            while not done:
                stand.replays.floor()
                time.sleep(0.001)
                asked += 1
            return asked

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, ask_on)
            for _ in range(15):
                await stand.start(again=True)
            done = True


async def test_an_outbox_that_can_not_be_opened_stops_only_its_replay_until_it_can(tmp_path: Path) -> None:
    async with open_sink() as sink:
        async with standing(tmp_path, {"hook": hook(sink)}, [*map(line, range(20))]) as stand:
            id_ = await stand.start(rate=1.0)
            await until(lambda: sink.accepted)
        outbox = tmp_path / "replays" / id_ / "outbox.sqlite3"
        good = outbox.read_bytes()
        outbox.write_bytes(b"this is no database" * 100)
        async with standing(tmp_path, {"hook": hook(sink)}) as stand:
            other = await stand.start(types=["track"])
            assert (await stand.ended(other)).delivered == 20
            assert [each.id for each in await stand.replays.status()] == [id_, other]
            outbox.write_bytes(good)
            await until(lambda: sink.accepted.total() > 22)
            assert (await stand.status(id_)).delivered > 1
