"""A server at the other end of memory or of real sockets, and a client that reads answers one by one."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import trio
from msgspec import Struct
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from relayd.listener.http import Handler, Limits, Server
from relayd.listener.message import Request, Response

OK = Response(200, b'{"success":true}')


class Recorder:
    """A handler that keeps what it was handed and answers 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return OK

    @property
    def targets(self) -> list[str]:
        return [request.path for request in self.requests]


class Gate:
    """A handler whose requests wait until the gate is opened."""

    def __init__(self) -> None:
        self.waiting = 0
        self._open = trio.Event()

    async def __call__(self, request: Request) -> Response:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        return OK

    def open(self) -> None:
        self._open.set()


class Answer(Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """The client's end of a connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._data = b""

    async def send(self, *pieces: bytes) -> None:
        """Send each piece, and let the server take it before the next."""
        for piece in pieces:
            await self.stream.send_all(piece)
            await wait_all_tasks_blocked()

    async def answer(self, method: str = "POST") -> Answer:
        """The next answer; raises EOFError if the connection ends first."""
        while b"\r\n\r\n" not in self._data:
            await self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        while len(self._data) < length:
            await self._more()
        body, self._data = self._data[:length], self._data[length:]
        version, status, *_ = start.split(" ")
        assert version == "HTTP/1.1"
        return Answer(int(status), headers, body)

    async def rest(self) -> bytes:
        """All until the server closes."""
        data, self._data = self._data, b""
        try:
            async for more in self.stream:
                data += more
        except trio.BrokenResourceError:
            return data + b"<reset>"
        return data

    async def _more(self) -> None:
        more = await self.stream.receive_some()
        if not more:
            raise EOFError(self._data)
        self._data += more


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts one end of a pair for each stream that `connect` returns."""

    def __init__(self, pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair) -> None:
        self._pair = pair
        self._connecting, self._accepting = trio.open_memory_channel[trio.abc.Stream](1000)

    async def accept(self) -> trio.abc.Stream:
        return await self._accepting.receive()

    async def aclose(self) -> None:
        with suppress(trio.WouldBlock):
            while True:  # as the kernel does with those it has not handed over
                await trio.aclose_forcefully(self._accepting.receive_nowait())
        await self._accepting.aclose()

    def connect(self) -> trio.abc.Stream:
        client, server = self._pair()
        self._connecting.send_nowait(server)
        return client


class Wire:
    """A running server."""

    def __init__(self, server: Server, connect: Callable[[], trio.abc.Stream]) -> None:
        self.server = server
        self.finished = trio.Event()
        self._scope = trio.CancelScope()
        self._connect = connect

    def connect(self) -> Client:
        return Client(self._connect())

    async def run(self, listener: MemoryListener) -> None:
        with self._scope:
            await self.server.serve([listener])
        self.finished.set()

    def cancel(self) -> None:
        self._scope.cancel()


@asynccontextmanager
async def serving(
    handler: Handler,
    limits: Limits = Limits(),  # noqa: B008  frozen
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair,
) -> AsyncIterator[Wire]:
    """A server over memory streams; on leaving it is cancelled, and must have let go of everything."""
    listener = MemoryListener(pair)
    server = Server(handler, limits)
    virtual = isinstance(trio.lowlevel.current_clock(), MockClock)
    with trio.fail_after(10_000 if virtual else 20):
        async with trio.open_nursery() as nursery:
            wire = Wire(server, listener.connect)
            nursery.start_soon(wire.run, listener)
            yield wire
            nursery.cancel_scope.cancel()
    assert not server.connections
    assert server.buffered == 0


def post(body: bytes = b"", *headers: str, path: str = "/v1/t", chunks: Sequence[bytes] | None = None) -> bytes:
    """A request; with ``chunks`` it is chunked."""
    lines = [f"POST {path} HTTP/1.1", "Host: relayd", *headers]
    if chunks is None:
        lines.append(f"Content-Length: {len(body)}")
    else:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
