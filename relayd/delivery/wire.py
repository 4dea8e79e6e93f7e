"""The bytes to and from a destination: TCP, and TLS over it.

A wire is used by one task at a time, and always half-duplex: a request out, then its answer in. That is why it can be
leaner than a `trio.SocketStream`: no locks against concurrent use, no trip through the scheduler for a send that the
kernel takes at once, and no attempt to receive before the answer can be there.

Every method raises ``OSError`` when the connection breaks (``ssl.SSLError``, which is one, for a fault of TLS) and
`trio.ClosedResourceError` when another task closed the wire meanwhile. A cancelled method leaves the wire in an unknown
state: close it. `close` is synchronous, so that it works in a ``finally`` that is being cancelled.
"""

import functools
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, TypeVarTuple

import httpx
import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RECEIVE_SIZE = 65_536


class Origin(NamedTuple):
    """Where a connection leads to; two requests of the same origin can share one."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Wire(Protocol):
    """What a connection needs of its transport."""

    async def send_all(self, data: bytes) -> None:
        """Hand all of ``data`` to the kernel. Yields to other tasks only if the kernel's buffer is full."""

    async def receive(self) -> bytes:
        """Wait for bytes, at most `RECEIVE_SIZE`; empty: the peer has closed."""

    def stale(self) -> bool:
        """Whether an idle wire is unfit for a request: closed by the peer, broken, or holding bytes not asked for."""

    def close(self) -> None:
        """Close, now and without a farewell; again is harmless."""


async def open_wire(origin: Origin, context: Callable[[], ssl.SSLContext]) -> Wire:
    """Connect, to whichever of the host's addresses answers first (RFC 6555), and shake hands if the scheme is https.

    The certificate is verified against ``origin.host``, which is also sent as SNI. A cancelled or failed attempt leaves
    nothing open. Raises ``OSError``, or ``UnicodeError`` for a host that is no valid domain name.
    """
    stream = await trio.open_tcp_stream(origin.host, origin.port)  # sets TCP_NODELAY
    tcp = Tcp(socket.socket(fileno=stream.socket.detach()))
    if origin.scheme == "http":
        return tcp
    try:
        tls = Tls(tcp, context(), origin.host)
        await tls.handshake()
    except BaseException:
        tcp.close()
        raise
    return tls


@functools.cache
def shared_ssl_context() -> ssl.SSLContext:
    """The context of all destinations: certifi's authorities, or those of ``$SSL_CERT_FILE`` or ``$SSL_CERT_DIR``.

    Loading them takes some 20 ms, so it is done once, and not before the first https request.
    """
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Tcp:
    """A connected, non-blocking socket."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected

    async def send_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket.fileno())

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket.fileno())
            try:
                return self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:  # a spurious wake-up, see select(2)
                continue

    def stale(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()


class Tls:
    """TLS over TCP, the records passed through memory.

    Not `trio.SSLStream`, which keeps to itself what it has received: here `stale` sees whatever came behind an answer,
    be it still in the socket, in a record not yet opened, or in one opened and not yet read.
    """

    __slots__ = ("_incoming", "_outgoing", "_ssl", "_tcp")

    def __init__(self, tcp: Tcp, context: ssl.SSLContext, host: str) -> None:
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self) -> None:
        await self._pump(self._ssl.do_handshake)

    async def send_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[await self._pump(self._ssl.write, rest) :]

    async def receive(self) -> bytes:
        if not self._incoming.pending:
            await self._fill()
        try:
            return await self._pump(self._ssl.read, RECEIVE_SIZE)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # with a farewell, or, as many servers do, without
            return b""

    def stale(self) -> bool:
        return self._incoming.pending > 0 or self._ssl.pending() > 0 or self._tcp.stale()

    def close(self) -> None:
        self._tcp.close()

    async def _pump(self, step: Callable[[*Ts], T], *args: *Ts) -> T:
        """Repeat ``step`` until it has the records it wants; send what it has to say each time."""
        while True:
            try:
                result = step(*args)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._tcp.send_all(self._outgoing.read())

    async def _fill(self) -> None:
        data = await self._tcp.receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
