"""A client as SDKs are: what is not acknowledged it sends again, under the same messageIds, until it is."""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx
import msgspec
import trio

from relayd.delivery.transport import Transport
from tests.relay import WRITE_KEY

HEADERS = {"authorization": "Basic " + b64encode(f"{WRITE_KEY}:".encode()).decode()}
SUCCESS = b'{"success":true}'


class Sender:
    """Sends single events and batches over a few connections. Its records outlive the daemon's lives."""

    def __init__(self, url: str, seed: int, *, first: int = 0) -> None:
        """``first`` is the number of the first event, which its messageId ends with."""
        self.sent: dict[str, dict[str, Any]] = {}
        """Every event that was sent, acknowledged or not, by messageId."""
        self.acknowledged: set[str] = set()
        """The messageIds that were answered exactly 200 ``{"success":true}``."""
        self._url = url
        self._first = first
        self._random = Random(seed)
        self._stop = trio.Event()

    @asynccontextmanager
    async def sending(self, connections: int = 6) -> AsyncIterator[None]:
        """Send while the block runs; at its end every event in hand is seen through."""
        self._stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(self._send_until_stopped)
            yield
            self._stop.set()

    async def _send_until_stopped(self) -> None:
        async with Transport(max_connections=1) as transport:
            while not self._stop.is_set():
                events = [self._event() for _ in range(self._random.choice((1, 1, 1, 5, 40)))]
                while not await self._acknowledges(transport, events):  # noqa: ASYNC110  nothing tells that it is back
                    await trio.sleep(0.02)
                self.acknowledged.update(event["messageId"] for event in events)
                await trio.sleep(0.03)
                if self._random.random() < 0.05:  # a lost answer: the same once more
                    await self._acknowledges(transport, events)

    def _event(self) -> dict[str, Any]:
        number = self._first + len(self.sent)
        event = {
            "type": "track",
            "messageId": f"crash-{number}",
            "userId": f"user-{self._random.randrange(20)}",
            "event": "Order Completed",
            "properties": {"number": number, "text": "ü" * self._random.randrange(200)},
        }
        self.sent[f"crash-{number}"] = event
        return event

    async def _acknowledges(self, transport: Transport, events: list[dict[str, Any]]) -> bool:
        path, body = ("track", events[0]) if len(events) == 1 else ("batch", {"batch": events})
        try:
            with trio.fail_after(5):
                answer = await transport.send("POST", f"{self._url}/v1/{path}", HEADERS, msgspec.json.encode(body))
        except (httpx.TransportError, trio.TooSlowError):
            return False
        return answer.status == 200 and answer.body == SUCCESS
