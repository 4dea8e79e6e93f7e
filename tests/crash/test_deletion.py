"""SIGKILL at any moment of a deletion: in the end no trace is left, all else is where it was, and all goes on."""

from pathlib import Path

import trio

from tests.crash.luck import ROUNDS, luck
from tests.privacy.stage import Stage, blanked, event, log_bytes, stage, traces
from tests.relay import Relay

USERS = [f"user-{number:03d}." for number in range(ROUNDS + 2)]
"""The last two stay; no id is part of another."""
EACH = 40


async def replay(scene: Stage) -> str:
    """Begin to replay all there is into ``good``, slowly enough to last over all rounds."""
    spec = {"destination": "good", "rate": 100.0}
    asked = await scene.ask("/replays", {"spec": spec})
    found: str = asked["id"]
    return found


async def kill_and_start(relay: Relay) -> None:
    relay.kill()
    await relay.start()


async def test_kills_at_random_moments_of_deletions_leave_no_trace_and_touch_nobody_else(tmp_path: Path) -> None:
    with luck("deletions") as random:
        async with stage(tmp_path) as scene:
            relay = scene.relay
            await scene.send(event(user, number) for number in range(EACH) for user in USERS)
            await scene.read()
            replayed = await replay(scene)
            log, number = log_bytes(relay), EACH
            for user in USERS[:ROUNDS]:
                kind = random.choice(("DELETE_ONLY", "SUPPRESS_WITH_DELETE"))
                asked = await scene.ask("/regulations", {"type": kind, "user_ids": [user]})
                for _ in range(random.choice((1, 1, 2))):
                    await trio.sleep(random.choice((0, 0.05, 0.2)) + random.uniform(0, 0.15))
                    await kill_and_start(relay)
                if random.random() < 0.5:
                    await scene.send([event(USERS[-1], number)])
                    number += 1
                done = await scene.ended(asked["id"])
                assert (done["status"], done["failure"]) == ("FINISHED", None)
                assert traces(relay.state, [user]) == []
                log = blanked(log, user)
                assert log_bytes(relay).startswith(log)
                log = log_bytes(relay)
            status = await scene.read()
            balanced(status["destinations"])
            stay = {f"{user}:{number}" for user in USERS[-2:] for number in range(EACH)}
            assert status["destinations"]["down"]["pending"] == 2 * EACH + number - EACH
            figures = await finished(scene, replayed)
            balanced({"replay": figures | {"in_flight": 0}})
            times = scene.sinks["good"].accepted
            assert all(times[each] >= 2 for each in stay)  # live, and by the replay
            assert await relay.stop() == 0
        assert not list(relay.state.glob("archive/*/*.partial"))
        relay.assert_clean_log("torn tail of the journal cut off", "destination is down")


async def finished(scene: Stage, replayed: str) -> dict[str, object]:
    """A replay's figures when it is finished."""
    with trio.fail_after(60):
        while True:
            figures: dict[str, object] = await scene.ask(f"/replays/{replayed}")
            if figures["state"] == "finished":
                return figures
            await trio.sleep(0.1)


def balanced(destinations: dict[str, dict[str, object]]) -> None:
    """The counters are exact, whatever was removed."""
    for name, each in destinations.items():
        assert each["received"] == sum(each["filtered"].values()) + each["matched"], name  # type: ignore[attr-defined,operator]
        failed = sum(each["failed"].values())  # type: ignore[attr-defined]
        assert each["deliveries"] == each["delivered"] + each["pending"] + failed, (name, each)  # type: ignore[operator]
