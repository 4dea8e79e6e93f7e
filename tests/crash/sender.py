"""A client as SDKs are, at their worst: what it has no answer for it sends again under the same messageIds, alone or in
a batch with new events; it loses answers, sends the same twice at once, and again what was acknowledged long ago.

It speaks HTTP by itself, and knows nothing of relayd but the Tracking API.
"""

from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple

import msgspec
import trio

SUCCESS = b'{"success":true}'
TYPES = ("track", "track", "track", "identify", "page", "group", "screen")


class Unit(NamedTuple):
    """The events of one request."""

    source: str
    events: tuple[dict[str, Any], ...]


class Sender:
    """Sends single events and batches over a few connections. Its records outlive the daemon's lives."""

    def __init__(self, port: int, write_keys: dict[str, str], random: Random, *, name: str = "a") -> None:
        """``write_keys`` by source. ``name`` begins the messageIds, and tells several senders' events apart."""
        self.sent: dict[str, dict[str, Any]] = {}
        """Every event that was sent, acknowledged or not, by messageId."""
        self.sources: dict[str, str] = {}
        """The source that each messageId was sent to."""
        self.acknowledged: set[str] = set()
        """The messageIds that were answered exactly 200 ``{"success":true}``."""
        self._port = port
        self._keys = {source: b64encode(f"{key}:".encode()).decode() for source, key in write_keys.items()}
        self._random = random
        self._name = name
        self._again: deque[Unit] = deque()
        self._stop = trio.Event()

    def successor(self, port: int) -> "Sender":
        """The same application after a restart: it knows what it sent, and takes nothing for acknowledged."""
        other = Sender(port, {}, self._random, name=self._name)
        other.sent, other.sources, other._keys = self.sent, self.sources, self._keys
        return other

    @asynccontextmanager
    async def sending(
        self, connections: int = 6, *, pause: float = 0.05, to_the_end: bool = True
    ) -> AsyncIterator[None]:
        """Send while the block runs. Then every event in hand is seen through, or given up.

        ``pause`` is in seconds, between two requests of a connection.
        """
        self._stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(self._send_until_stopped, pause)
            yield
            self._stop.set()
            if not to_the_end:
                nursery.cancel_scope.cancel()

    async def send(self, units: Iterable[Unit], *, wait: float = 0.02) -> None:
        """Send these, each until it is acknowledged; ``wait`` seconds after an attempt that failed."""
        async with _Connection(self._port) as connection:
            for unit in units:
                while not await self._acknowledges(connection, unit):  # noqa: ASYNC110  nothing tells that it is back
                    await trio.sleep(wait)

    def unit(self, count: int) -> Unit:
        """So many new events."""
        source = self._random.choice(sorted(self._keys))
        return Unit(source, tuple(self._event(source) for _ in range(count)))

    def again(self, message_ids: Collection[str], size: int = 50) -> Iterator[Unit]:
        """Units of what was sent before, in order."""
        for source in self._keys:
            events = [
                event for each, event in self.sent.items() if each in message_ids and self.sources[each] == source
            ]
            for start in range(0, len(events), size):
                yield Unit(source, tuple(events[start : start + size]))

    async def _send_until_stopped(self, pause: float) -> None:
        random = self._random
        async with _Connection(self._port) as connection:
            while self._again or not self._stop.is_set():
                if self._again and (self._stop.is_set() or random.random() < 0.5):
                    unit = self._again.popleft()
                    if random.random() < 0.3:  # as SDKs do whose queue has grown meanwhile
                        unit = Unit(unit.source, (*unit.events, *(self._event(unit.source) for _ in range(3))))
                else:
                    unit = self.unit(random.choice((1, 1, 1, 5, 40)))
                if random.random() < 0.02:  # two requests at once have the same events
                    self._again.append(unit)
                if random.random() < 0.02:  # or one has an event twice
                    unit = Unit(unit.source, (*unit.events, random.choice(unit.events)))
                loses_answer = not self._stop.is_set() and random.random() < 0.03
                if not await self._acknowledges(connection, unit, loses_answer=loses_answer):
                    self._again.append(unit)
                    await trio.sleep(0.02)
                elif not self._stop.is_set():
                    if random.random() < 0.03:  # acknowledged, and yet sent again
                        self._again.append(unit)
                    await trio.sleep(random.uniform(0, 2 * pause))

    def _event(self, source: str) -> dict[str, Any]:
        random, number = self._random, len(self.sent)
        event: dict[str, Any] = {
            "type": random.choice(TYPES),
            "messageId": f"{self._name}-{number}",
            "userId": f"user-{random.randrange(20)}",
            "event": "Order Completed",
            "properties": {"number": number, "text": "ü" * random.randrange(200)},
            "groupId": "acme",
        }
        if random.random() < 0.05:
            event["integrations"] = {"single": False}
        self.sent[event["messageId"]] = event
        self.sources[event["messageId"]] = source
        return event

    async def _acknowledges(self, connection: "_Connection", unit: Unit, *, loses_answer: bool = False) -> bool:
        """Send once; whether it is acknowledged. Fails when the answer is neither that nor 503."""
        event = unit.events[0]
        path, body = (event["type"], event) if len(unit.events) == 1 else ("batch", {"batch": unit.events})
        answer = await connection.post(
            f"/v1/{path}", self._keys[unit.source], msgspec.json.encode(body), loses_answer=loses_answer
        )
        if answer is None:
            return False
        assert answer[0] == 503 or answer == (200, SUCCESS), answer
        if answer[0] == 503:
            return False
        self.acknowledged.update(each["messageId"] for each in unit.events)
        return True


class _Connection:
    """One keep-alive connection, opened anew when it broke."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: trio.SocketStream | None = None

    async def __aenter__(self) -> "_Connection":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._close()

    async def post(self, path: str, key: str, body: bytes, *, loses_answer: bool) -> tuple[int, bytes] | None:
        """Status and body of the answer; None when none came."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Basic {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            with trio.fail_after(10):
                if self._stream is None:
                    self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
                await self._stream.send_all(head.encode() + body)
                if not loses_answer:
                    return await self._answer(self._stream)
        except (OSError, trio.BrokenResourceError, EOFError):
            pass
        await self._close()
        return None

    async def _answer(self, stream: trio.SocketStream) -> tuple[int, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await _more(stream)
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode().lower().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        while len(body) < int(headers["content-length"]):
            body += await _more(stream)
        if headers.get("connection") == "close":
            await self._close()
        return int(line.split()[1]), body

    async def _close(self) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
            self._stream = None


async def _more(stream: trio.SocketStream) -> bytes:
    more = await stream.receive_some()
    if not more:
        raise EOFError
    return bytes(more)
