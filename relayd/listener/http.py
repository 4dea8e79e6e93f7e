"""An HTTP/1.1 server on trio, for one handler: ``async def handler(request: Request) -> Response``.

It knows nothing of events; the listener, the admin socket and the test sink are handlers. It guarantees

- the handler sees only whole requests that have one reading (`relayd.listener.message` has the rules);
- the answers of a connection leave in the order of its requests; while one is handled, nothing more is read;
- every buffer is bounded: a head, a body, a receive of pipelined requests per connection, the number of connections,
  and all the bodies being read together;
- every wait for a client is bounded: for a head, a body, the next request, and for it to take its answer;
- a client that misbehaves or leaves, and a handler that raises, end their own connection and nothing else.

A request that is refused gets a JSON answer, then the connection closes, after the client had the chance to read it.
A connection is one task. It has no timers: it notes until when it may wait, and one task a server, which looks
once a second, cancels those that waited too long. So timeouts are exact to about a second, and free.
"""

import errno
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Self

import structlog
import trio
from msgspec import Struct

from relayd.config import model
from relayd.listener.message import (
    CHUNKED,
    CONTINUE,
    HEAD_END,
    ChunkedBody,
    Request,
    RequestError,
    Response,
    check_partial_head,
    parse_head,
    refusal,
)
from relayd.listener.sockets import BindError, names, open_listeners, passed_listeners

__all__ = [
    "BindError",
    "Handler",
    "Limits",
    "Request",
    "Response",
    "Server",
    "Statistics",
    "names",
    "open_listeners",
    "passed_listeners",
]

Handler = Callable[[Request], Awaitable[Response]]
"""Owns the request; a connection has one in hand at a time. Any Exception it raises is answered with 500."""

_log = structlog.get_logger(__name__)

_RECEIVE = 65_536  # bytes a receive at most, hence of pipelined requests that wait in a connection
_GRACE = 1.0  # seconds for a connection that we accepted to ask its first question, when we are to stop
_LINGER = 2.0  # seconds for a client to read our last answer and close
_LINGER_BYTES = 16_000_000  # bytes it may still send meanwhile
_TURNED_AWAY = 64  # connections above the limit that are told so; more are dropped
_ACCEPT_PAUSE = 0.1  # seconds to wait for file descriptors
_CAPACITY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

_TIMED_OUT = (408, "timeout", "The request took too long to arrive.")
_TOO_MANY_CONNECTIONS = (503, "too_many_connections", "Too many connections are open; try again later.")
_TOO_MUCH_BUFFERED = (503, "overloaded", "Too many requests are being received; try again later.")
_FAILED = refusal(500, "internal_error", "The request could not be handled; the log says why.")

_DEFAULTS = model.Listener()

_Phase = Literal["handshake", "idle", "head", "body", "handling", "closing"]


class Limits(Struct, frozen=True):
    """What one server accepts: bytes, counts and seconds. The defaults are the configuration's."""

    head: int = _DEFAULTS.max_head
    headers: int = _DEFAULTS.max_headers
    body: int = _DEFAULTS.max_body
    connections: int = _DEFAULTS.max_connections
    buffered: int = _DEFAULTS.max_buffered
    """Bytes of all the bodies being read."""
    head_timeout: float = _DEFAULTS.head_timeout
    """From the first byte of a head to its last; also for a TLS handshake."""
    body_timeout: float = _DEFAULTS.body_timeout
    """For a whole body, and again for the client to take its answer."""
    idle_timeout: float = _DEFAULTS.idle_timeout

    @classmethod
    def of(cls, config: model.Listener) -> Self:
        """The limits that ``[listener]`` sets."""
        return cls(
            head=config.max_head,
            headers=config.max_headers,
            body=config.max_body,
            connections=config.max_connections,
            buffered=config.max_buffered,
            head_timeout=config.head_timeout,
            body_timeout=config.body_timeout,
            idle_timeout=config.idle_timeout,
        )


class Statistics(Struct, frozen=True):
    """A server's counters since it was made, and gauges."""

    connections: int
    """Open now."""
    buffered: int
    """Bytes of bodies being read now."""
    requests: int
    """Handed to the handler."""
    failed: int
    """Of these, those whose handler raised."""
    refused: Mapping[str, int]
    """Never handed to it, by the ``code`` of the answer."""


class Server:
    """Serves one handler on any number of listeners. Make one, call `serve` once."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.now = 0.0
        """trio's clock, fast by one `tick` at most; reading it is free."""
        self.tick = max(0.01, min(1.0, min(limits.head_timeout, limits.body_timeout, limits.idle_timeout) / 4))
        """Seconds between two looks."""
        self.draining = False
        self.connections: set[Connection] = set()
        self.buffered = 0
        self.requests = 0
        self.failed = 0
        self.refused: Counter[str] = Counter()
        self._accepting = trio.CancelScope()
        self._out_of_files = False

    def statistics(self) -> Statistics:
        """Counters and gauges, as of now."""
        return Statistics(len(self.connections), self.buffered, self.requests, self.failed, dict(self.refused))

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until `drain`, then until the last connection is done; owns and closes ``listeners``.

        Raises what ``accept`` raises, in exception groups; but out of file descriptors it only pauses. Cancelled, it
        drops every connection at once, handlers included.
        """
        self.now = trio.current_time() + self.tick
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_the_clock)
            async with trio.open_nursery() as connections:
                with self._accepting:
                    async with trio.open_nursery() as acceptors:
                        for listener in listeners:
                            acceptors.start_soon(self._accept, listener, connections)
                        task_status.started()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Accept no more, close idle connections, close the others after the request they are in.

        A connection that was accepted and has not asked yet has a second to, since its client was promised an answer.
        Returns at once; `serve` returns when it is done. Cancel that to set a deadline. May be called again.
        """
        self.draining = True
        self._accepting.cancel()
        for connection in self.connections:
            connection.drain()

    async def _accept(self, listener: trio.abc.Listener[trio.abc.Stream], nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _CAPACITY:
                        raise
                    if not self._out_of_files:
                        self._out_of_files = True
                        _log.error("can not accept; raise LimitNOFILE or lower max_connections", error=str(error))
                    await trio.sleep(_ACCEPT_PAUSE)
                    continue
                self._out_of_files = False
                free = self.limits.connections - len(self.connections)
                if free > -_TURNED_AWAY:
                    nursery.start_soon(Connection(self, stream, welcome=free > 0).run)
                else:
                    self.refused[_TOO_MANY_CONNECTIONS[1]] += 1
                    await trio.aclose_forcefully(stream)

    async def _watch_the_clock(self) -> None:
        while True:
            now = trio.current_time()
            self.now = now + self.tick
            for connection in self.connections:
                connection.check(now)
            await trio.sleep(self.tick)


class Connection:
    """One client, from accept to close. Registers itself with its server; `run` is its task."""

    def __init__(self, server: Server, stream: trio.abc.Stream, *, welcome: bool = True) -> None:
        self._server = server
        self._stream = stream
        # To read and write the file itself costs a fifth less a request than a SocketStream's methods.
        self._file = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        self._welcome = welcome
        self._data = b""  # received, and not yet part of a request
        self._held = 0  # bytes of it that count as buffered
        self._peer: str | None = None
        self._scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
        self._scope = trio.CancelScope()
        self._phase: _Phase = "idle"
        self._deadline = math.inf
        self._ended = False
        self._asked = False
        server.connections.add(self)

    async def run(self) -> None:
        """Serve until either side is done; owns the stream, raises nothing but cancellation."""
        try:
            with self._scope:
                try:
                    await self._converse()
                except RequestError as error:
                    await self._refuse(error)
            if self._scope.cancelled_caught and self._phase in ("head", "body"):
                await self._refuse(RequestError(*_TIMED_OUT))
        except (OSError, trio.BrokenResourceError) as error:
            _log.debug("the client left", peer=self._peer, error=str(error))
        except Exception:
            _log.exception("a connection failed", peer=self._peer)
        finally:
            self._server.connections.discard(self)
            await trio.aclose_forcefully(self._stream)

    def check(self, now: float) -> None:
        """End the connection if its client kept it waiting for too long."""
        if self._deadline < now:
            self._end()

    def drain(self) -> None:
        """End the connection now if it is idle; if not, or if it has yet to ask, it ends after the answer."""
        if self._phase == "idle" and self._asked:
            self._end()
        elif self._phase == "idle":
            self._deadline = min(self._deadline, self._server.now + _GRACE)

    def _end(self) -> None:
        self._ended = True
        self._scope.cancel()

    def _enter(self, phase: _Phase, timeout: float = math.inf) -> None:
        self._phase = phase
        self._deadline = self._server.now + timeout

    async def _converse(self) -> None:
        server = self._server
        limits = server.limits
        if not self._welcome:
            raise RequestError(*_TOO_MANY_CONNECTIONS)
        self._peer = _peer(self._stream)
        if isinstance(self._stream, trio.SSLStream):
            self._enter("handshake", limits.head_timeout)
            await self._stream.do_handshake()
        while True:
            head = await self._read_head()
            if head is None:
                return
            request = parse_head(head, limits.headers)
            request.peer = self._peer
            request.scheme = self._scheme
            if request.length:
                if len(self._data) >= request.length > 0 and request.length <= limits.body:
                    request.body, self._data = self._data[: request.length], self._data[request.length :]
                elif not await self._read_body(request):
                    return
            self._enter("handling")
            if self._ended:
                await trio.lowlevel.checkpoint_if_cancelled()  # its last byte came together with its deadline
            keep_alive = await self._answer(request)
            if not keep_alive:
                await self._close()
                return

    async def _read_head(self) -> bytes | None:
        """The next head without its empty line, or None if there is none."""
        limits = self._server.limits
        if not self._data:
            if self._server.draining and self._asked:
                return None
            self._enter("idle", min(limits.idle_timeout, _GRACE) if self._server.draining else limits.idle_timeout)
            self._data = await self._receive(_RECEIVE)
            if not self._data:
                return None
        self._asked = True
        end = self._data.find(HEAD_END)
        if end < 0:
            self._enter("head", limits.head_timeout)
        while end < 0:
            check_partial_head(self._data, limits.head)
            more = await self._receive(_RECEIVE)
            if not more:
                return None
            searched = max(len(self._data) - len(HEAD_END), 0)
            self._data += more
            end = self._data.find(HEAD_END, searched)
        if end > limits.head:
            raise RequestError.head_too_large(limits.head, "bytes of head")
        head, self._data = self._data[:end], self._data[end + len(HEAD_END) :]
        return head

    async def _read_body(self, request: Request) -> bool:
        """Read the body into ``request``; False if the client left in the middle."""
        server, limits = self._server, self._server.limits
        if request.length > limits.body:
            raise RequestError.body_too_large(limits.body)
        self._enter("body", limits.body_timeout)
        if not self._data and "expect" in request.headers and not request.http10:
            await self._send(CONTINUE)
        try:
            self._hold(self._data)
            if request.length == CHUNKED:
                chunks = ChunkedBody(limits.body, limits.head)
                while not chunks.feed(self._data):
                    self._data = self._hold(await self._receive(_RECEIVE))
                    if not self._data:
                        return False
                request.body, self._data = bytes(chunks.body), chunks.rest
            else:
                body, self._data = bytearray(self._data), b""
                while missing := request.length - len(body):
                    more = self._hold(await self._receive(min(missing, _RECEIVE)))
                    if not more:
                        return False
                    body += more
                request.body = bytes(body)
        finally:
            server.buffered -= self._held
            self._held = 0
        return True

    async def _receive(self, size: int) -> bytes:
        if self._file is None:
            return bytes(await self._stream.receive_some(size))
        while True:
            await trio.lowlevel.wait_readable(self._file)  # first: a client seldom sends before it has its answer
            try:
                return os.read(self._file, size)
            except BlockingIOError:
                continue

    async def _send(self, data: bytes) -> None:
        if self._file is None:
            await self._stream.send_all(data)
            return
        try:  # noqa: SIM105  suppress() would cost as much as the write
            data = data[os.write(self._file, data) :]
        except BlockingIOError:
            pass
        if data:
            await self._stream.send_all(data)

    def _hold(self, data: bytes) -> bytes:
        """Count bytes of a body that is being read against what the server may hold."""
        self._held += len(data)
        self._server.buffered += len(data)
        if self._server.buffered > self._server.limits.buffered:
            raise RequestError(*_TOO_MUCH_BUFFERED)
        return data

    async def _answer(self, request: Request) -> bool:
        """Have the request handled and send the answer; whether the connection stays open."""
        server = self._server
        server.requests += 1
        try:
            response = await server.handler(request)
            keep_alive = request.keep_alive and not response.close and not server.draining
            head_only = request.method == "HEAD"
            if keep_alive and not head_only and not request.http10:
                wire = response.wire
            else:
                wire = response.encode(keep_alive=keep_alive, http10=request.http10, head_only=head_only)
        except Exception:
            server.failed += 1
            _log.exception("the handler failed", method=request.method, peer=request.peer)
            keep_alive, wire = False, _FAILED.encode(keep_alive=False, head_only=request.method == "HEAD")
        self._enter("handling", server.limits.body_timeout)
        await self._send(wire)
        return keep_alive

    async def _refuse(self, error: RequestError) -> None:
        """Say why the request is not handled, and close."""
        self._server.refused[error.code] += 1
        await self._close(error.response.encode(keep_alive=False))

    async def _close(self, last_words: bytes = b"") -> None:
        """Close, but let the client read the last answer first: to close on bytes of its own would reset it."""
        self._enter("closing")
        stream = self._stream
        with trio.move_on_after(_LINGER):
            if last_words:
                await self._send(last_words)
            left = _LINGER_BYTES if last_words else 0  # no waiting where the client may wait for us
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
                left = _LINGER_BYTES
            while left > 0 and (data := await self._receive(_RECEIVE)):
                left -= len(data)
            await stream.aclose()


def _peer(stream: trio.abc.Stream) -> str | None:
    """The address at the other end; None if it has none. Raises BrokenResourceError if it is gone."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream) or stream.socket.family == trio.socket.AF_UNIX:
        return None
    try:
        address: str = stream.socket.getpeername()[0]
    except OSError as error:
        raise trio.BrokenResourceError(f"the client left at once: {error}") from error
    return address
