"""After a power cut, which keeps of each file what was synced, and of the rest what it likes."""

from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.crash import laws, noting_syncs
from tests.crash.luck import CUTS, luck
from tests.crash.noting_syncs import noted
from tests.crash.scene import BATCHES, scene
from tests.crash.sender import Unit
from tests.crash.wreck import TORN, Wreck, aftermath, boot, cut_log, tear, wreck
from tests.events import line

PROGRAM = (noting_syncs.__file__,)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAYD_SYNCED", str(tmp_path / "synced"))
    return tmp_path / "synced"


def synced(left: Wreck, notes: Path) -> dict[str, int]:
    """How much of each of the wreck's raw segments was synced, by its name."""
    lengths = noted(notes)
    return {path.name: lengths.get(str(path), 0) for path in (left.root / "state" / "journal").glob("*.jsonl")}


def cut_the_power(state: Path, least: dict[str, int], random: Random) -> None:
    """Do to a copy of a wreck's state what a power cut does; ``least`` is what is synced."""
    for path in (state / "journal").glob("*.jsonl"):
        tear(path, random.choice((least[path.name], random.randint(least[path.name], path.stat().st_size))), random)
    for database in (*(state / "outbox" / f"{name}.sqlite3" for name in BATCHES), state / "relayd.sqlite3"):
        cut_log(database, random)
    boot(state / "dedupe")


async def test_what_was_acknowledged_survives(tmp_path: Path, notes: Path) -> None:
    with luck("the wreck") as random:
        left = await wreck(tmp_path / "wreck", random, program=PROGRAM)
    least = synced(left, notes)
    for number in range(CUTS):
        with luck(f"power cut {number}") as random:
            root = tmp_path / str(number)
            cut_the_power(left.copy(root), least, random)
            after = await aftermath(left, root, random, left.sender.sent)
            journal, state = laws.stored(after.relay), after.relay.state
            laws.durability(journal, left.sender, *after.senders)
            laws.conservation(state, after.status, journal)
            laws.delivery(state, journal, after.arrivals)
            laws.order(after.arrivals["ordered"], journal)
            after.relay.assert_clean_log(TORN)


async def test_between_two_syncs_costs_what_was_not_synced_and_it_is_kept_when_it_is_sent_again(
    tmp_path: Path, notes: Path
) -> None:
    """With ``fsync = "interval"``. What the sources have received then counts what was lost; all else is exact."""
    with luck("the wreck") as random:
        left = await wreck(tmp_path / "wreck", random, fsync="interval", program=PROGRAM)
    least = synced(left, notes)
    end = max(int(name.partition(".")[0]) + length for name, length in least.items())
    on_disk = [entry for entry in left.journal if entry.offset < end]
    for number in range(CUTS):
        with luck(f"power cut {number}") as random:
            root = tmp_path / str(number)
            cut_the_power(left.copy(root), least, random)
            after = await aftermath(left, root, random, left.sender.sent, fsync="interval")
            journal, state = laws.stored(after.relay, gaps=1), after.relay.state
            assert journal[: len(on_disk)] == on_disk
            laws.durability(journal, *after.senders)
            laws.destinations(state, after.status, journal)
            laws.delivery(state, journal, after.arrivals)
            laws.order(after.arrivals["ordered"], journal)


async def test_what_a_killed_daemon_had_written_is_synced_before_its_ids_are_acknowledged(
    tmp_path: Path, notes: Path
) -> None:
    segment = tmp_path / "state" / "journal" / f"{0:020d}.jsonl"
    segment.parent.mkdir(parents=True)
    written = line(1, projectId="app")
    segment.write_bytes(written)  # as a kill between the write and the sync leaves it
    async with scene(tmp_path, program=PROGRAM) as stage:
        await stage.relay.start()
        sender = stage.sender(Random(0))
        await sender.send([Unit("app", (msgspec.json.decode(written),))])
        assert noted(notes).get(str(segment), 0) >= len(written)
        assert await stage.relay.stop() == 0
    assert [entry.line for entry in laws.stored(stage.relay)] == [written[:-1]]
