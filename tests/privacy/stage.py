"""A relay with something of everybody in every place that keeps events, and a look into all of its files."""

import gzip
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyzstd
import trio

from relayd.testing import Faults, Sink, open_sink
from tests.relay import WRITE_KEY, Relay
from tests.waiting import until

MORE = """
journal.segment_size = "16KB"
journal.min_free = "1MB"
archive.segment_logs = true
dedupe.max_ids = 10000
"""
RETRY = 'retry.initial_wait = "50ms"\nretry.max_wait = "200ms"'


class Stage:
    """A relay with three destinations: ``good`` takes all, ``down`` nothing, and ``picky`` refuses all for good."""

    def __init__(self, relay: Relay, sinks: dict[str, Sink]) -> None:
        self.relay = relay
        self.sinks = sinks

    async def send(self, events: Iterable[dict[str, Any]]) -> None:
        """Send events as a server's SDK does; they are acknowledged."""
        async with httpx.AsyncClient(auth=(WRITE_KEY, ""), trust_env=False, verify=False) as client:
            rest = list(events)
            while rest:
                answer = await client.post(f"{self.relay.url}/v1/batch", json={"batch": rest[:50]})
                assert answer.status_code == 200
                rest = rest[50:]

    async def ask(self, path: str, body: object = None) -> Any:
        """Ask the admin API, which agrees."""
        answer = await self.answer(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def answer(self, path: str, body: object = None) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=str(self.relay.state / "relayd.sock"), verify=False)
        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=30) as client:
            url = f"http://relayd{path}"
            return await (client.get(url) if body is None else client.post(url, content=msgspec.json.encode(body)))

    async def regulate(self, kind: str, *users: str, **options: object) -> dict[str, Any]:
        """Ask for a regulation, and return it when it has ended."""
        asked = await self.ask("/regulations", {"type": kind, "user_ids": users, **options})
        return await self.ended(asked["id"])

    async def ended(self, regulation: str, seconds: float = 30) -> dict[str, Any]:
        """A regulation when it has ended."""
        found: dict[str, Any] = {}
        with trio.move_on_after(seconds):
            while True:
                found = await self.ask(f"/regulations/{regulation}")
                if found["status"] in ("FINISHED", "FAILED"):
                    return found
                await trio.sleep(0.02)
        raise AssertionError(f"it does not end: {found}\n{self.relay.log.read_text()[-3000:]}")

    async def read(self) -> dict[str, Any]:
        """The status once each destination has read the journal, and all that can be settled is."""
        status: dict[str, Any] = {}

        def is_read() -> bool:
            status.update(self.relay.status())
            each = status["destinations"]
            return all(one["cursor"] == status["journal"]["head"] for one in each.values()) and not (
                each["good"]["pending"] or each["picky"]["pending"]
            )

        await until(is_read, 30)
        return status


@asynccontextmanager
async def stage(root: Path, *, more: str = "") -> AsyncIterator[Stage]:
    """The stage on ``root``, running."""
    refuses, fails = Faults(share=1.0, attempts=0, status=400), Faults(share=1.0, attempts=0)
    async with open_sink() as good, open_sink(faults=fails) as down, open_sink(faults=refuses) as picky:
        sinks = {"good": good, "down": down, "picky": picky}
        destinations = {name: f'type = "webhook"\nsettings.url = "{sink.url}"\n{RETRY}' for name, sink in sinks.items()}
        destinations["down"] += '\ndelivery.ordering = "user"'
        with Relay(root, destinations, more=MORE + more) as relay:
            await relay.start()
            yield Stage(relay, sinks)


def event(user: str | None, number: int, **fields: object) -> dict[str, Any]:
    """An event; its messageId begins with the user's id."""
    found: dict[str, Any] = {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"{user or 'nobody'}:{number}",
        "userId": user,
    }
    found |= {"properties": {"number": number, "text": "ü" * 100}, **fields}
    return {name: value for name, value in found.items() if value is not None}


def traces(state: Path, words: Collection[str]) -> list[str]:
    """The files below ``state`` that have one of the words: their bytes, or what they hold when inflated."""
    found = []
    for path in sorted(each for each in state.rglob("*") if each.is_file()):
        data = path.read_bytes()
        if path.name.endswith((".zst", ".zst.partial")):
            data += pyzstd.decompress(data)
        elif ".gz" in path.name:
            data += gzip.decompress(data)
        found += [f"{path.relative_to(state)}: {word}" for word in words if word.encode() in data]
    return found


def log_bytes(relay: Relay) -> bytes:
    """The whole log, from its first offset to its last; what is missing between two segments would show."""
    whole = b""
    for base, data in relay.segments().items():
        assert base == len(whole), (base, len(whole))
        whole += data
    return whole


def blanked(log: bytes, user: str) -> bytes:
    """What the log is to be when a user is deleted from it."""
    return b"".join(_blank(line) if _is_of(line, user) else line for line in log.splitlines(keepends=True))


def _is_of(line: bytes, user: str) -> bool:
    return not line.isspace() and msgspec.json.decode(line).get("userId") == user


def _blank(line: bytes) -> bytes:
    return b" " * (len(line) - 1) + b"\n"
