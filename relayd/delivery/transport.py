"""HTTP requests to a destination, over a small pool of kept-alive connections.

Guarantees
- No more than ``max_connections`` connections are open, idle ones included, whatever servers and callers do.
- Whatever ends a request (an answer, an error, a timeout, a cancellation at any await) gives its slot back, and a
  connection goes back to the pool only after a whole answer with nothing behind it. So no server can cost a slot for
  good, as stock httpx's lose theirs when connections close under contention (encode/httpcore#1093).
- A request costs the same however many connections there are: no step looks at all of them.

How. A slot is a permit of a semaphore; a request holds one from before it has a connection until after it has let go of
it, and an idle connection holds none. So the semaphore alone gives ``requests in flight <= max_connections``, and one
rule the rest: before a connection is opened, the longest idle one is closed if ``in flight + idle`` exceeds the limit.

When a request is written twice. A server may close an idle connection at the moment a request leaves on it. RFC 9112
9.3.1 lets a client repeat such a request if it knows the repetition to be harmless. relayd does: it delivers at least
once, with the messageId as idempotency key, and the alternative, a failed attempt, would only repeat it later. So a
kept-alive connection is looked at before use (one non-blocking peek), and if it still ends before the first byte of an
answer, the request is sent once more, at once, on a fresh connection. If the whole request had been written before, the
server may have it twice, and the answer says so (``resent``), or the exception does (`may_have_arrived`). On a fresh
connection, after the first byte of an answer, and after a timeout nothing is repeated.

Fails with httpx's exceptions: those of `relayd.delivery.connection`, and `httpx.ConnectError`, `httpx.ConnectTimeout`,
`httpx.PoolTimeout`; `error_code` names the fault as Segment does. Neither redirects, cookies, proxies nor the
environment play a part.
"""

import errno
import math
import socket
import ssl
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import httpx
import trio
from msgspec import Struct

from relayd.delivery.connection import (
    Answer,
    Connection,
    Limits,
    Target,
    Timeouts,
    encode_head,
    parse_target,
)
from relayd.delivery.wire import Origin, open_wire, shared_ssl_context

__all__ = ["Answer", "Statistics", "Timeouts", "Transport", "error_code", "may_have_arrived"]

RESENT = "the request was written twice, the server may have received it twice"
NO_TIMEOUTS = Timeouts()


class Statistics(Struct, frozen=True):
    """Of one transport; the last three count since it was made."""

    open: int
    """Connections, idle or in use; one that is being opened is not yet."""
    idle: int
    in_use: int
    """Slots taken: requests that have or are opening a connection."""
    waiting: int
    """Requests that wait for a slot."""
    opened: int
    requests: int
    resent: int
    """Requests that were written twice."""


class Transport(httpx.AsyncBaseTransport):
    """The connections to one destination. Use it as ``async with``, or call `aclose`."""

    def __init__(
        self,
        *,
        max_connections: int = 32,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        idle_expiry: float = 30.0,
        max_response: int = Limits().max_response,
        max_head: int = Limits().max_head,
        max_headers: int = Limits().max_headers,
    ) -> None:
        """``ssl_context`` None: `shared_ssl_context`. Times in seconds; limits as in `Limits`.

        ``idle_expiry`` is the age at which an idle connection is not used any more. It is closed with the next request
        that ends, so without requests up to ``max_connections`` sockets may stay.
        """
        self._max_connections = max_connections
        self._ssl_context = ssl_context
        self._connect_timeout = connect_timeout
        self._idle_expiry = idle_expiry
        self._limits = Limits(max_response=max_response, max_head=max_head, max_headers=max_headers)
        self._slots = trio.Semaphore(max_connections, max_value=max_connections)
        self._idle = _Idle()
        self._busy: set[Connection] = set()
        self._closed = False
        self._opened = self._requests = self._resent = 0

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts = NO_TIMEOUTS
    ) -> Answer:
        """Send a request and read the whole answer: `handle_async_request` without httpx's objects.

        The caller bounds it with a cancel scope; ``timeouts`` bound single steps. ``accept-encoding`` is ``identity``
        unless given, and the body comes back as received. Always passes a checkpoint.
        """
        target = parse_target(url)
        return await self._send(method, target, encode_head(method, target, headers.items(), len(body)), body, timeouts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """httpx's way in. ``request.extensions["timeout"]`` is heeded; the answer was read before this returns.

        ``response.extensions`` has ``truncated`` and ``resent`` as in `Answer`.
        """
        body = await request.aread()
        target = parse_target(str(request.url))
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        head = encode_head(request.method, target, headers, len(body))
        timeouts = Timeouts(**request.extensions.get("timeout", {}))
        answer = await self._send(request.method, target, head, body, timeouts)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=httpx.ByteStream(answer.body),
            extensions={
                "http_version": b"HTTP/" + answer.http_version.encode(),
                "truncated": answer.truncated,
                "resent": answer.resent,
            },
        )

    async def aclose(self) -> None:
        """Close all connections. What is in flight fails (``ECONNABORTED``), what comes later is a `RuntimeError`."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle = _Idle()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> Statistics:
        """The pool as it is now."""
        return Statistics(
            open=len(self._idle) + len(self._busy),
            idle=len(self._idle),
            in_use=self._max_connections - self._slots.value,
            waiting=self._slots.statistics().tasks_waiting,
            opened=self._opened,
            requests=self._requests,
            resent=self._resent,
        )

    async def _send(self, method: str, target: Target, head: bytes, body: bytes, timeouts: Timeouts) -> Answer:
        await self._take_slot(timeouts.pool)
        try:
            self._requests += 1
            connection = self._take_idle(target.origin)
            if connection is None:
                connection = await self._open(target.origin, timeouts.connect)
                return await self._exchange(connection, method, head, body, timeouts)
            try:
                return await self._exchange(connection, method, head, body, timeouts)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if connection.answered or self._closed:
                    raise
            resent = connection.sent
            self._resent += resent
            try:
                connection = await self._open(target.origin, timeouts.connect)
                answer = await self._exchange(connection, method, head, body, timeouts)
            except httpx.TransportError as exc:
                if resent:
                    exc.add_note(RESENT)
                raise
            answer.resent = resent
            return answer
        finally:
            self._slots.release()

    async def _exchange(
        self, connection: Connection, method: str, head: bytes, body: bytes, timeouts: Timeouts
    ) -> Answer:
        """One request on ``connection``, which is idle or closed afterwards."""
        self._busy.add(connection)
        try:
            return await connection.exchange(method, head, body, timeouts)
        finally:
            self._busy.remove(connection)
            if connection.reusable:
                self._keep(connection)
            else:
                connection.close()

    async def _take_slot(self, seconds: float | None) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_after(math.inf if seconds is None else seconds) as scope:
                await self._slots.acquire()
            if scope.cancelled_caught:
                raise httpx.PoolTimeout(
                    f"none of {self._max_connections} connections came free in {seconds} s"
                ) from None
        if self._closed:
            self._slots.release()
            raise RuntimeError("the transport is closed")

    def _take_idle(self, origin: Origin) -> Connection | None:
        """The connection that was idle for the shortest time and is fit for use; those that are not are closed."""
        horizon = trio.current_time() - self._idle_expiry
        while (connection := self._idle.pop(origin)) is not None:
            if connection.idle_since > horizon and not connection.stale():
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection) -> None:
        """Put a connection to the idle ones, and close those that are too old by now."""
        connection.idle_since = now = trio.current_time()
        self._idle.push(connection)
        while self._idle.oldest().idle_since <= now - self._idle_expiry:
            self._idle.pop_oldest().close()

    async def _open(self, origin: Origin, seconds: float | None) -> Connection:
        """A fresh connection, in place of the longest idle one if all are open. The caller holds a slot for it."""
        in_use = self._max_connections - self._slots.value
        while in_use + len(self._idle) > self._max_connections:
            self._idle.pop_oldest().close()
        limit = self._connect_timeout if seconds is None else min(seconds, self._connect_timeout)
        with trio.move_on_after(limit):
            try:
                wire = await open_wire(origin, self._context)
            except (OSError, ValueError) as exc:  # ValueError: the host is no domain name
                raise httpx.ConnectError(f"cannot connect to {origin}: {root_cause(exc)}") from exc
            self._opened += 1
            connection = Connection(origin, wire, self._limits)
            if self._closed:
                connection.close()
                raise httpx.ConnectError("the transport was closed") from trio.ClosedResourceError()
            return connection
        raise httpx.ConnectTimeout(f"no connection to {origin} within {limit} s")

    def _context(self) -> ssl.SSLContext:
        return self._ssl_context or shared_ssl_context()


class _Idle:
    """Idle connections: a stack for each origin, so that few stay warm and the rest ages, and all by age."""

    def __init__(self) -> None:
        self._by_age: OrderedDict[Connection, None] = OrderedDict()
        self._stacks: dict[Origin, list[Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_age)

    def push(self, connection: Connection) -> None:
        self._by_age[connection] = None
        self._stacks.setdefault(connection.origin, []).append(connection)

    def pop(self, origin: Origin) -> Connection | None:
        """Take the one of this origin that was pushed last."""
        return self._take(origin, -1) if origin in self._stacks else None

    def oldest(self) -> Connection:
        return next(iter(self._by_age))

    def pop_oldest(self) -> Connection:
        return self._take(self.oldest().origin, 0)  # the oldest of all is the oldest of its origin

    def _take(self, origin: Origin, index: int) -> Connection:
        stack = self._stacks[origin]
        connection = stack.pop(index)
        if not stack:
            del self._stacks[origin]
        del self._by_age[connection]
        return connection


SAME_AS = {
    "EPIPE": "ECONNRESET",
    "EBADF": "ECONNABORTED",
    "ENETUNREACH": "EHOSTUNREACH",
    "ENETDOWN": "EHOSTUNREACH",
    "EHOSTDOWN": "EHOSTUNREACH",
    "EAFNOSUPPORT": "EHOSTUNREACH",
}
UNTELLING = ("EHOSTUNREACH", "EADDRNOTAVAIL")
"""What the other address family says about a host, or on one, that has no such addresses."""

NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
"""Raised before the whole request was with the kernel."""


def error_code(exc: BaseException) -> str:
    """The name of a network fault, as Segment's delivery overview shows it. Pure; takes any exception.

    ``ETIMEDOUT`` (whichever timeout it was), ``ECONNREFUSED``, ``ECONNRESET`` (also: closed before the answer was
    whole), ``ECONNABORTED`` (we closed it), ``EHOSTUNREACH``, ``ENOTFOUND`` and ``EAI_AGAIN`` (the host's name),
    ``TLS``, ``EPROTO`` (no valid answer), ``EINVAL`` (no valid request), another name of errno(3), or ``INTERNAL``.
    """
    match root_cause(exc):
        case httpx.TimeoutException() | trio.TooSlowError() | TimeoutError():
            return "ETIMEDOUT"
        case ssl.SSLError():
            return "TLS"
        case socket.gaierror(errno=number):
            return "EAI_AGAIN" if number == socket.EAI_AGAIN else "ENOTFOUND"
        case OSError(errno=int(number)):
            name = errno.errorcode.get(number, "EIO")
            return SAME_AS.get(name, name)
        case trio.ClosedResourceError():
            return "ECONNABORTED"
        case httpx.ConnectError():  # with no cause in the system: the host is no domain name
            return "ENOTFOUND"
        case httpx.RemoteProtocolError():
            return "EPROTO"
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "EINVAL"
        case _:
            return "INTERNAL"


def root_cause(exc: BaseException) -> BaseException:
    """What the system said, if it is among the causes; else ``exc``. Of several addresses' faults, the most telling."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            roots = [root_cause(each) for each in cause.exceptions]
            return next((root for root in roots if error_code(root) not in UNTELLING), roots[0])
        if isinstance(cause, trio.ClosedResourceError) or (isinstance(cause, OSError) and cause.errno is not None):
            return cause
        cause = cause.__cause__
    return exc


def may_have_arrived(exc: BaseException) -> bool:
    """Whether the server may have received the whole request that failed so: another attempt may be a duplicate."""
    return RESENT in getattr(exc, "__notes__", ()) or not isinstance(exc, NEVER_SENT)
