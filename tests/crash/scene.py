"""The scene of the crashes: a relay with two sources and five destinations, each of which is hard in its own way.

    single    a request an event; a tenth fails at first; events may exclude it through ``integrations``
    batched   batches; fed from one of the sources only
    ordered   each user's events in order, across retries
    picky     refuses some events for good, which become dead letters; batches are halved around them
    lake      a file, rotated

The other sides of the network outlive the daemon; a sink's record says what arrived, in which order.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from relayd.testing import Faults, Sink, open_sink
from tests.crash.sender import Sender
from tests.relay import WRITE_KEY, Relay

WRITE_KEYS = {"app": WRITE_KEY, "site": "site-write-key"}
CONCURRENCY = {"single": 16, "batched": 4, "ordered": 8, "picky": 4, "lake": 2}
BATCHES = {"single": 1, "batched": 20, "ordered": 5, "picky": 5, "lake": 1000}
MOST_AT_ONCE = {name: CONCURRENCY[name] * batch for name, batch in BATCHES.items()}
"""Events in flight: so many may be delivered twice because of one kill."""
REFUSES = Faults(share=0.05, attempts=0, status=400)
FAULTS = {"picky": REFUSES}
STUMBLES = Faults(share=0.1)

MORE = """
journal.fsync = "{fsync}"
journal.segment_size = "64KB"
journal.min_free = "1MB"
dedupe.max_ids = 100000
[sources.site]
type = "web"
write_key = "{site}"
"""
RETRY = 'retry.initial_wait = "20ms"\nretry.max_wait = "200ms"'
OPTIONS = {
    "single": "",
    "batched": 'sources = ["app"]\ndelivery.batch_wait = "20ms"',
    "ordered": 'delivery.ordering = "user"',
    "picky": "",
}


class Arrivals(NamedTuple):
    """What arrived at a destination."""

    payloads: dict[str, set[bytes]]
    """By messageId, in the order of their first arrivals."""
    times: Counter[str]

    @classmethod
    def of(cls, events: Iterable[bytes]) -> "Arrivals":
        """From events as they arrived."""
        payloads: dict[str, set[bytes]] = {}
        times: Counter[str] = Counter()
        for event in events:
            message_id = msgspec.json.decode(event)["messageId"]
            payloads.setdefault(message_id, set()).add(event)
            times[message_id] += 1
        return cls(payloads, times)

    def followed_by(self, later: "Arrivals") -> "Arrivals":
        """These, and then ``later`` ones."""
        payloads = {each: set(found) for each, found in self.payloads.items()}
        for each, found in later.payloads.items():
            payloads.setdefault(each, set()).update(found)
        return Arrivals(payloads, self.times + later.times)

    @property
    def ids(self) -> Set[str]:
        return self.payloads.keys()

    @property
    def repeats(self) -> int:
        return self.times.total() - len(self.payloads)


class Scene:
    """A relay and what is around it."""

    def __init__(self, root: Path, relay: Relay, sinks: Mapping[str, Sink]) -> None:
        self.relay = relay
        self.sinks = sinks
        self._root = root

    def sender(self, random: Random, *, name: str = "a") -> Sender:
        return Sender(self.relay.port, WRITE_KEYS, random, name=name)

    def arrivals(self) -> dict[str, Arrivals]:
        """What arrived so far, by destination."""
        found = {
            name: Arrivals.of(event for request in sink.requests if request.accepted for event in request.events)
            for name, sink in self.sinks.items()
        }
        return found | {"lake": Arrivals.of(self._lake())}

    def _lake(self) -> Iterable[bytes]:
        """The lines of the file and of those it was renamed to. One that a kill cut short does not count."""
        for path in sorted(self._root.glob("lake-*.jsonl")):
            yield from path.read_bytes().splitlines()
        data = (self._root / "lake.jsonl").read_bytes() if (self._root / "lake.jsonl").exists() else b""
        yield from data[: data.rfind(b"\n") + 1].splitlines()


@asynccontextmanager
async def scene(
    root: Path, *, fsync: str = "always", program: Sequence[str] = ("-m", "relayd")
) -> AsyncIterator[Scene]:
    """The scene on ``root``, its state in ``root/state``; the relay is not started.

    ``fsync`` is the journal's; ``program`` is what Python runs as ``relayd``.
    """
    root.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        sinks = {
            name: await stack.enter_async_context(open_sink(faults=FAULTS.get(name, STUMBLES))) for name in OPTIONS
        }
        settings = {name: f'type = "webhook"\nsettings.url = "{sink.url}"' for name, sink in sinks.items()}
        settings["lake"] = f'type = "file"\nsettings.path = "{root}/lake.jsonl"\nsettings.max_size = "512KB"'
        destinations = {
            name: f"{text}\n{RETRY}\ndelivery.concurrency = {CONCURRENCY[name]}\n"
            f"delivery.batch_size = {BATCHES[name]}\n{OPTIONS.get(name, '')}"
            for name, text in settings.items()
        }
        relay = Relay(root, destinations, more=MORE.format(site=WRITE_KEYS["site"], fsync=fsync), program=program)
        yield Scene(root, stack.enter_context(relay), sinks)


def refusal(destination: str, event: Mapping[str, Any]) -> str | None:
    """Why a destination does not get an event of the journal; None when it does."""
    if destination == "batched" and event["projectId"] != "app":
        return "SOURCE_NOT_CONNECTED"
    if event.get("integrations", {}).get(destination) is False:
        return "FILTERED_BY_INTEGRATIONS_OBJECT"
    return None


def is_refused(message_id: str) -> bool:
    """Whether ``picky`` refuses it, when it comes first in a request."""
    return REFUSES.fault(message_id, 1) is not None
