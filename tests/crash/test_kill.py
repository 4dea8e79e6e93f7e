"""SIGKILL at any moment, again and again, loses nothing, invents nothing, and repeats no more than was in flight."""

from pathlib import Path

import trio

from tests.crash import laws
from tests.crash.luck import ROUNDS, luck
from tests.crash.scene import scene
from tests.crash.wreck import TORN

LIVES = ("run", "run", "run", "start", "drain", "drain", "stop")
"""How far the daemon comes before it is killed; "stop" is to its end."""


async def test_kills_at_random_moments_break_no_law(tmp_path: Path) -> None:
    with luck("kills") as random:
        async with scene(tmp_path) as stage:
            relay, sender = stage.relay, stage.sender(random)
            kills = 0
            async with sender.sending(pause=0.1):
                for _ in range(ROUNDS):
                    life = random.choice(LIVES)
                    relay.spawn()  # the first time too, events wait at its door
                    if life == "start":
                        await trio.sleep(random.uniform(0, 0.8))
                    else:
                        await relay.answering()
                        await trio.sleep(random.uniform(0, 1.5))
                    if life == "drain":
                        relay.terminate()
                        await trio.sleep(random.uniform(0, 0.1))
                    if life == "stop":
                        assert await relay.stop() == 0
                    else:
                        kills += relay.kill()
                await relay.start()
            assert sender.acknowledged == sender.sent.keys()
            status = await relay.drained()
            assert await relay.stop() == 0
        journal, arrivals = laws.stored(relay), stage.arrivals()
        laws.durability(journal, sender)
        laws.conservation(relay.state, status, journal)
        laws.delivery(relay.state, journal, arrivals, kills=kills)
        laws.order(arrivals["ordered"], journal)
        relay.assert_clean_log(TORN)
        assert list(relay.state.glob("archive/*/*.zst"))
        assert not list(relay.state.glob("archive/*/*.partial"))
