"""Replays and people: what was suppressed can be replayed, what was deleted can not, wherever it comes from."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.privacy.stage import Stage, event, stage, traces

ADA, BOB = "ada-lovelace", "bob"


async def replay(scene: Stage, *, to: str = "good", **spec: object) -> dict[str, Any]:
    """The figures of a replay that is over, or with a ``rate`` has read all there is."""
    asked = await scene.ask("/replays", {"spec": {"destination": to, **spec}})
    with trio.fail_after(20):
        while True:
            figures: dict[str, Any] = await scene.ask(f"/replays/{asked['id']}")
            if figures["state"] == "finished" or ("rate" in spec and figures["share"] == 1.0):
                return figures
            await trio.sleep(0.05)


async def test_the_history_of_a_suppressed_user_is_replayed(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(10) for user in (ADA, BOB))
        await scene.read()
        await scene.regulate("SUPPRESS_ONLY", ADA)
        figures = await replay(scene)
        assert (figures["delivered"], figures["filtered"]) == (20, {})
        assert scene.sinks["good"].accepted[f"{ADA}:1"] == 2


async def test_the_history_of_a_deleted_user_is_gone_and_not_counted(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(10) for user in (ADA, BOB))
        await scene.read()
        await scene.regulate("SUPPRESS_WITH_DELETE", ADA)
        figures = await replay(scene)
        assert (figures["scanned"], figures["delivered"], figures["bad_lines"]) == (10, 10, 0)
        assert scene.sinks["good"].accepted[f"{ADA}:1"] == 1


async def test_a_foreign_archive_brings_nobody_back_who_is_suppressed_and_deleted(tmp_path: Path) -> None:
    archive = tmp_path / "elsewhere" / "log.gz"
    archive.parent.mkdir()
    times = {"receivedAt": "2026-11-01T10:00:00.000Z", "timestamp": "2026-11-01T10:00:00.000Z"}
    events = [event(user, 1, **times) for user in (ADA, BOB, "eve")]
    archive.write_bytes(gzip.compress(b"\n".join(map(msgspec.json.encode, events))))
    async with stage(tmp_path) as scene:
        await scene.regulate("SUPPRESS_WITH_DELETE", ADA)
        await scene.regulate("SUPPRESS_ONLY", BOB)
        figures = await replay(scene, archive=str(archive.parent))
        assert (figures["delivered"], figures["filtered"]) == (2, {"SUPPRESSED_USER": 1})
        assert sorted(scene.sinks["good"].accepted) == ["bob:1", "eve:1"]
        assert traces(scene.relay.state, [ADA]) == []


async def test_no_replay_keeps_anything_of_a_deleted_user(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(30) for user in (ADA, BOB))
        await scene.read()
        await replay(scene, rate=1.0)
        await replay(scene, to="picky", criteria={"user": ADA})
        bad = tmp_path / "bad.jsonl"
        bad.write_bytes(b'{"type": "ada-lovelace"\n')
        await replay(scene, archive=str(bad))
        paused = (await scene.ask("/replays"))[0]
        done = await scene.regulate("DELETE_ONLY", ADA)
        assert done["status"] == "FINISHED"
        assert traces(scene.relay.state, [ADA]) == []
        figures = await scene.ask(f"/replays/{paused['id']}")
        assert 25 < figures["failed"]["DELETED_USER"] <= 30
        assert (
            figures["deliveries"] == figures["delivered"] + figures["pending"] + sum(figures["failed"].values()) == 60
        )
        assert await scene.relay.stop() == 0
        await scene.relay.start()
        assert len(await scene.ask("/replays")) == 3
        assert traces(scene.relay.state, [ADA]) == []
