"""SIGKILL at any moment, again and again, loses nothing, invents nothing, and repeats no more than was in flight.

By hand: RELAYD_CRASH_ROUNDS=500 RELAYD_CRASH_SEED=7 scripts/test tests/crash
"""

import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import trio

from relayd.testing import Faults, open_sink
from tests.crash import laws
from tests.crash.sender import Sender
from tests.relay import Relay

ROUNDS = int(os.environ.get("RELAYD_CRASH_ROUNDS", "12"))
SEED = int(os.environ.get("RELAYD_CRASH_SEED", str(time.time_ns() % 100_000)))
CONCURRENCY, BATCH = 8, 20
MORE = 'journal.segment_size = "128KB"\njournal.min_free = "1MB"'
RETRY = 'retry.initial_wait = "20ms"\nretry.max_wait = "200ms"'


async def test_kills_at_random_moments_break_no_law(tmp_path: Path) -> None:
    print(f"RELAYD_CRASH_SEED={SEED} RELAYD_CRASH_ROUNDS={ROUNDS}")
    random = Random(SEED)
    async with AsyncExitStack() as stack:
        sinks = {
            name: await stack.enter_async_context(open_sink(faults=Faults(share=0.1)))
            for name in ("single", "batched", "ordered")
        }
        common = f"{RETRY}\ndelivery.concurrency = {CONCURRENCY}"
        destinations = {
            "single": f'type = "webhook"\nsettings.url = "{sinks["single"].url}"\n{common}',
            "batched": f'type = "webhook"\nsettings.url = "{sinks["batched"].url}"\n{common}\n'
            f'delivery.batch_size = {BATCH}\ndelivery.batch_wait = "20ms"',
            "ordered": f'type = "webhook"\nsettings.url = "{sinks["ordered"].url}"\n{common}\n'
            'delivery.ordering = "user"',
            "lake": f'type = "file"\nsettings.path = "{tmp_path}/lake.jsonl"\n{common}',
        }
        relay = stack.enter_context(Relay(tmp_path, destinations, more=MORE))
        sender = Sender(relay.url, SEED)
        async with sender.sending():
            for number in range(ROUNDS):
                if number % 4 == 3:  # in the middle of a start, or of a drain
                    relay.spawn()
                    await trio.sleep(random.uniform(0.2, 1.2))
                else:
                    await relay.start()
                    await trio.sleep(random.uniform(0.1, 1.5))
                    if number % 4 == 2:
                        relay.terminate()
                        await trio.sleep(random.uniform(0, 0.2))
                relay.kill()
            await relay.start()
        assert sender.acknowledged == sender.sent.keys()
        status = await relay.drained(len(list(relay.journal())))
        journal = laws.durability(relay, sender.acknowledged, sender.sent)
        laws.conservation(relay, status, journal)
        in_flight = {"single": CONCURRENCY, "batched": CONCURRENCY * BATCH, "ordered": CONCURRENCY}
        for name, sink in sinks.items():
            laws.delivery(sink, journal, sender.sent, repeats=ROUNDS * in_flight[name])
        laws.order(sinks["ordered"], journal)
        lines = (tmp_path / "lake.jsonl").read_bytes().splitlines()
        assert {laws.message_id(line) for line in lines} == {event["messageId"] for event in journal}
        assert len(lines) - len(journal) <= ROUNDS * CONCURRENCY * 1000
        assert len(journal) > 50 * ROUNDS
        assert list(relay.state.glob("archive/*/*.zst"))
        assert await relay.stop() == 0
