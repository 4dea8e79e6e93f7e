"""The bare yardstick: what trio, httptools, msgspec and fdatasync reach when nothing else is asked of them.

It answers 200 only after the events are on disk, as relayd does: requests that wait together share one fdatasync, made
in a thread. It keeps every field of an event, as raw JSON by its name. It validates, deduplicates, corrects,
limits and times out nothing. With ``--forward`` it also delivers what it
committed to a sink, from memory, over a fixed set of connections; with ``--batch`` in arrays of that many events.

    python -m benchmarks.yardstick PORT FILE [--forward PORT] [--batch N] [--connections N]
"""

import argparse
import os
import sys
from collections import deque
from functools import partial
from pathlib import Path

import httptools
import msgspec
import trio

OK = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"success":true}'
POST = b"POST / HTTP/1.1\r\nhost: sink\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


Event = dict[str, msgspec.Raw]


class Batch(msgspec.Struct):
    """The body of ``/v1/batch``."""

    batch: list[Event]


class Journal:
    """An append-only file with group commit."""

    def __init__(self, path: Path, queue: deque[bytes] | None) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._queue = queue  # what is to be forwarded; None: nothing is
        self._lines: list[bytes] = []
        self._committed = trio.Event()
        self._wanted = trio.Event()
        self.arrived = trio.Event()

    async def append(self, lines: bytes) -> None:
        """Returns when ``lines`` are on disk."""
        self._lines.append(lines)
        self._wanted.set()
        await self._committed.wait()

    def _write(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(self._fd, data) :]
        os.fdatasync(self._fd)

    async def commit_forever(self) -> None:
        while True:
            await self._wanted.wait()
            lines, committed = self._lines, self._committed
            self._lines, self._committed, self._wanted = [], trio.Event(), trio.Event()
            await trio.to_thread.run_sync(self._write, lines)
            committed.set()
            if self._queue is not None:
                for some in lines:
                    self._queue.extend(some.splitlines())
                self.arrived.set()
                self.arrived = trio.Event()


class Exchange:
    """The callbacks of httptools, of a connection of either side: ``bodies`` are those that are complete."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.bodies: list[bytes] = []

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        self.bodies.append(b"".join(self._parts))
        self._parts.clear()


async def serve(journal: Journal, stream: trio.SocketStream) -> None:
    exchange = Exchange()
    parser = httptools.HttpRequestParser(exchange)
    decode, decode_batch = msgspec.json.Decoder(Event).decode, msgspec.json.Decoder(Batch).decode
    encode_lines = msgspec.json.Encoder().encode_lines
    try:
        while data := await stream.receive_some(65536):
            parser.feed_data(data)
            while exchange.bodies:
                body = exchange.bodies.pop(0)
                events = decode_batch(body).batch if body.startswith(b'{"batch"') else [decode(body)]
                await journal.append(encode_lines(events))
                await stream.send_all(OK)
    except trio.BrokenResourceError:
        pass  # the client is gone


async def forward(journal: Journal, queue: deque[bytes], port: int, batch: int | None) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    exchange = Exchange()
    parser = httptools.HttpResponseParser(exchange)
    while True:
        if not queue:
            await journal.arrived.wait()
            continue
        if batch is None:
            body = queue.popleft()
        else:
            body = b"[" + b",".join([queue.popleft() for _ in range(min(batch, len(queue)))]) + b"]"
        await stream.send_all(POST % (len(body), body))
        while not exchange.bodies:
            data = await stream.receive_some(65536)
            if not data:
                raise ConnectionError("the sink closed a connection")
            parser.feed_data(data)
        exchange.bodies.clear()


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("port", type=int)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--forward", type=int)
    arguments.add_argument("--batch", type=int)
    arguments.add_argument("--connections", type=int, default=32)
    given = arguments.parse_args()
    queue: deque[bytes] | None = None if given.forward is None else deque()
    journal = Journal(given.file, queue)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.commit_forever)
        if queue is not None:
            for _ in range(given.connections):
                nursery.start_soon(forward, journal, queue, given.forward, given.batch)
        await trio.serve_tcp(partial(serve, journal), given.port, host="127.0.0.1", backlog=1024)


if __name__ == "__main__":
    sys.exit(trio.run(main))
