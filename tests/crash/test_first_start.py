"""The first start: what is accepted from the first moment on reaches every destination, however that start ends."""

from pathlib import Path

from tests.crash import laws
from tests.crash.luck import CUTS, luck
from tests.crash.scene import BATCHES, scene
from tests.crash.wreck import cut_log


async def test_events_that_wait_at_the_door_of_a_first_start_reach_every_destination(tmp_path: Path) -> None:
    for number in range(CUTS):
        with luck(f"first start {number}") as random:
            async with scene(tmp_path / str(number)) as stage:
                sender = stage.sender(random)
                stage.relay.spawn()
                await sender.send([sender.unit(1) for _ in range(20)], wait=0)
                if number % 2:
                    stage.relay.kill()
                    await stage.relay.start()
                status = await stage.relay.drained()
                assert await stage.relay.stop() == 0
            journal = laws.stored(stage.relay)
            laws.durability(journal, sender)
            laws.conservation(stage.relay.state, status, journal)
            laws.delivery(stage.relay.state, journal, stage.arrivals(), kills=number % 2)


async def test_the_place_of_a_new_destination_survives_a_power_cut(tmp_path: Path) -> None:
    with luck("first power cut") as random:
        async with scene(tmp_path) as stage:
            sender = stage.sender(random)
            await stage.relay.start()
            await sender.send([sender.unit(20)])
            stage.relay.kill()
            for name in BATCHES:
                cut_log(tmp_path / "state" / "outbox" / f"{name}.sqlite3", random)
            await stage.relay.start()
            status = await stage.relay.drained()
            assert await stage.relay.stop() == 0
        journal = laws.stored(stage.relay)
        laws.durability(journal, sender)
        laws.conservation(stage.relay.state, status, journal)
        laws.delivery(stage.relay.state, journal, stage.arrivals())
