"""Files torn at any byte: relayd starts, says so, keeps the rest, and goes on."""

from enum import Enum
from pathlib import Path
from random import Random

from tests.crash import laws
from tests.crash.luck import CUTS, luck
from tests.crash.scene import BATCHES, refusal, scene
from tests.crash.sender import Sender
from tests.crash.wreck import (
    PAGE,
    TORN,
    Wreck,
    aftermath,
    boot,
    cut_line,
    cut_log,
    send_again_and_more,
    tear,
    wreck,
)
from tests.relay import WRITE_KEY, Relay

SHORTER = "the log is shorter than a cursor"
DAMAGED = "the dedupe file is damaged"


async def test_a_journal_torn_at_any_byte_loses_what_was_cut_and_nothing_else(tmp_path: Path) -> None:
    with luck("the wreck") as random:
        left = await wreck(tmp_path / "wreck", random)
    for number in range(CUTS):
        with luck(f"cut {number} of the journal") as random:
            await _tear_the_journal(tmp_path / str(number), left, random)


async def _tear_the_journal(root: Path, left: Wreck, random: Random) -> None:
    """Though it was synced, so that destinations know of what is lost. A kill follows soon after."""
    state = left.copy(root)
    active = max((state / "journal").glob("*.jsonl"))
    whole, base = active.read_bytes(), int(active.stem)
    tear(active, cut_line(whole, random), random)
    torn = active.read_bytes()
    end = base + whole.rfind(b"\n", 0, _same(whole, torn)) + 1
    if random.random() < 0.5:
        boot(state / "dedupe")
    kept = [entry for entry in left.journal if entry.offset < end]
    beyond = max(end, *(cursor for cursor, _ in left.taken_in.values()))
    async with scene(root) as stage:
        relay = stage.relay
        await relay.start()
        counted = relay.status()["journal"]["events"]
        lost = {entry.id for entry in left.journal[len(kept) :]} | left.unacknowledged
        senders = await send_again_and_more(left, stage, random, lost)
        relay.kill()
        await relay.start()
        status = await relay.drained()
        assert await relay.stop() == 0
    journal = laws.stored(relay, gaps=1)
    new = journal[len(kept) :]
    assert journal[: len(kept)] == kept
    assert all(entry.offset >= beyond for entry in new), "an offset is used again"
    warned = warnings(relay)
    assert warned <= {TORN, SHORTER}
    assert (TORN in warned) == (len(torn) > end - base)
    assert SHORTER in warned or beyond == end  # the accounts, too, may know of more than is left
    laws.durability(journal, *senders)
    assert status["journal"]["events"] == counted + len(new)
    for name, arrived in stage.arrivals().items():
        cursor, received = left.taken_in[name]
        got = [entry for entry in left.journal if entry.offset < cursor]
        got += [entry for entry in kept if entry.offset >= cursor] + new
        expected = {entry.id for entry in got if refusal(name, entry.event) is None}
        laws.same_ids(name, left.arrivals[name].ids | arrived.ids | laws.held(relay.state, name), expected)
        laws.as_stored(arrived, [*left.journal, *new])
        each = status["destinations"][name]
        assert each["received"] == received + sum(entry.offset >= cursor for entry in kept) + len(new)
        laws.balance(relay.state, name, each)


def _same(whole: bytes, torn: bytes) -> int:
    """How many bytes at the beginning of both are the same."""
    return next((at for at, (one, other) in enumerate(zip(whole, torn, strict=False)) if one != other), len(torn))


async def test_events_after_a_cut_are_counted_once_also_after_a_kill(tmp_path: Path) -> None:
    """No destination's cursor is there to say how long the log was; the accounts' own offset does."""
    with Relay(tmp_path, {}) as relay:
        sender = Sender(relay.port, {"app": WRITE_KEY}, Random(0))
        await relay.start()
        await sender.send([sender.unit(50)])
        assert await relay.stop() == 0
        (segment,) = (relay.state / "journal").glob("*.jsonl")
        segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:20]))
        await relay.start()
        counted = relay.status()["sources"]["app"]["received"]
        await sender.send([sender.unit(10)])
        relay.kill()  # before the counters are saved, which happens each second
        await relay.start()
        assert relay.status()["sources"]["app"]["received"] == counted + 10
        assert await relay.stop() == 0


async def test_an_outboxs_log_torn_at_any_byte_costs_no_delivery_and_no_count(tmp_path: Path) -> None:
    with luck("the wreck") as random:
        left = await wreck(tmp_path / "wreck", random)
    for number in range(CUTS):
        with luck(f"cut {number} of the outboxes") as random:
            root = tmp_path / str(number)
            state = left.copy(root)
            for database in (*(state / "outbox" / f"{name}.sqlite3" for name in BATCHES), state / "relayd.sqlite3"):
                cut_log(database, random)
            after = await aftermath(left, root, random, left.unacknowledged)
            journal = laws.stored(after.relay)
            laws.durability(journal, left.sender, *after.senders)
            laws.conservation(state, after.status, journal)
            laws.delivery(state, journal, after.arrivals)
            assert warnings(after.relay) <= {TORN}


class Damage(Enum):
    """What may have become of the dedupe file."""

    CUT = "cut"
    GARBAGE = "no header"
    GONE = "gone"
    OLD_HEADER = "header older than the rest"
    OLD_PAGES = "pages never written"


async def test_a_damaged_dedupe_file_costs_no_event(tmp_path: Path) -> None:
    with luck("the wreck") as random:
        left = await wreck(tmp_path / "wreck", random)
    active = max(int(path.stem) for path in (left.root / "state" / "journal").glob("*.jsonl"))
    forgotten = {entry.id for entry in left.journal if entry.offset < active}  # the rest is read from there
    for number in range(max(CUTS, len(Damage))):
        how = list(Damage)[number % len(Damage)]
        with luck(f"damage {number}, {how}, of the dedupe file") as random:
            root = tmp_path / str(number)
            state = left.copy(root)
            damage(state / "dedupe", how, left.early_header, random)
            after = await aftermath(left, root, random, left.sender.sent)
            journal = laws.stored(after.relay)
            laws.durability(journal, left.sender, *after.senders, repeatable=forgotten)
            laws.conservation(state, after.status, journal)
            laws.delivery(state, journal, after.arrivals)
            assert (DAMAGED in warnings(after.relay)) == (how in (Damage.CUT, Damage.GARBAGE))
            assert warnings(after.relay) <= {TORN, DAMAGED}


def damage(path: Path, how: Damage, early_header: bytes, random: Random) -> None:
    """Damage the dedupe file."""
    whole = path.read_bytes()
    match how:
        case Damage.CUT:
            path.write_bytes(whole[: random.randrange(len(whole))])
        case Damage.GARBAGE:
            path.write_bytes(random.randbytes(PAGE) + whole[PAGE:])
        case Damage.GONE:
            path.unlink()
        case Damage.OLD_HEADER:
            path.write_bytes(early_header + whole[PAGE:])
            boot(path)
        case Damage.OLD_PAGES:
            pages = [whole[at : at + PAGE] for at in range(PAGE, len(whole), PAGE)]
            pages = [bytes(len(page)) if random.random() < 0.5 else page for page in pages]
            path.write_bytes(whole[:PAGE] + b"".join(pages))
            boot(path)


def warnings(relay: Relay) -> set[str]:
    """What was logged as a warning or worse, up to the first semicolon."""
    return {each["event"].partition(";")[0] for each in relay.logged() if each["level"] not in ("debug", "info")}
