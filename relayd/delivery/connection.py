"""HTTP/1.1 on one wire: a request out, its answer in, and then whether the connection may carry another.

Theory of operation. `AnswerReader` is the protocol without I/O: it is fed what arrives and says when the answer is
whole. `Connection` feeds it. A connection is `reusable` only after an answer that ended where it said it would, with
keep-alive, and nothing behind it; whatever else happens (an error, a timeout, a cancellation at any await) leaves it
not reusable.

Bounded: a head or framing (interim answers, chunk extensions, trailers) beyond ``max_head`` bytes and a head of more
than ``max_headers`` lines fail; a body beyond ``max_response`` is cut there, and the rest is not read. What drips in
slowly is bounded by the caller's timeout alone.

Fails with httpx's exceptions, the cause attached: `httpx.WriteError` and `httpx.ReadError` for a broken connection;
`httpx.RemoteProtocolError` for an answer that is not HTTP/1.1 or that ended too soon (then its cause is a
`ConnectionResetError`); `httpx.ReadTimeout`, `httpx.WriteTimeout`; and `httpx.LocalProtocolError` for a request that
can not be sent. No message holds a URL, a header or a body: they may hold secrets.
"""

import errno
import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import httptools
import httpx
import trio
from msgspec import Struct

from relayd.delivery.wire import Origin, Wire

JOINED = 65_536
"""A body up to this many bytes leaves together with its head, in one send."""

FRAMING_PER_BYTE = 8
"""Bytes of framing allowed for each byte of body, on top of ``max_head``; chunks of one byte take 5."""

BROKEN = (OSError, trio.ClosedResourceError)
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Limits(Struct, frozen=True, kw_only=True):
    """How much of an answer is taken."""

    max_response: int = 1_000_000
    """Bytes of body."""
    max_head: int = 65_536
    """Bytes of head and framing, checked at each receive."""
    max_headers: int = 200


class Timeouts(NamedTuple):
    """Seconds that each step may take, as httpx defines them; None: no limit but the caller's."""

    connect: float | None = None
    read: float | None = None
    write: float | None = None
    pool: float | None = None


class Answer(Struct, gc=False):
    """What a server answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """As received, trailers left out."""
    body: bytes
    http_version: str
    truncated: bool
    """The body was longer than ``max_response``."""
    resent: bool = False
    """The request was written twice, see `relayd.delivery.transport`: the server may have seen it twice."""

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)


class Target(Struct, frozen=True):
    """A URL, as a request needs it."""

    origin: Origin
    host: str
    path: str
    authorization: str | None
    """From the URL's ``user:password@``."""


@lru_cache(maxsize=1024)
def parse_target(url: str) -> Target:
    """Take a URL apart. Raises `httpx.InvalidURL`, or `httpx.UnsupportedProtocol` if it is not http or https."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise httpx.UnsupportedProtocol("the URL must start with http:// or https:// and name a host")
    return Target(
        origin=Origin(
            parsed.scheme, parsed.raw_host.decode("ascii"), parsed.port or (443 if parsed.scheme == "https" else 80)
        ),
        host=parsed.netloc.decode("ascii"),
        path=parsed.raw_path.decode("ascii"),
        authorization=f"Basic {b64encode(_userinfo(parsed)).decode()}" if parsed.userinfo else None,
    )


def _userinfo(url: httpx.URL) -> bytes:
    return f"{url.username}:{url.password}".encode()


def encode_head(method: str, target: Target, headers: Iterable[tuple[str, str]], length: int) -> bytes:
    """The request line and headers of a request with ``length`` bytes of body.

    The framing is ours: a ``content-length`` or ``transfer-encoding`` given is ignored. A ``host`` or ``authorization``
    given replaces the URL's. Raises `httpx.LocalProtocolError` for headers that would not be read as just these.
    """
    if not TOKEN.fullmatch(method):
        raise httpx.LocalProtocolError("the method is not a token")
    lines = [f"{method} {target.path} HTTP/1.1", f"host: {target.host}"]
    encoding, authorization = "accept-encoding: identity", target.authorization
    for name, value in headers:
        match _lowercase(name):
            case "host":
                lines[1] = f"host: {value}"
            case "content-length" | "transfer-encoding":
                pass
            case "accept-encoding":
                encoding = f"accept-encoding: {value}"
            case "authorization":
                authorization = value
            case lowercase:
                lines.append(f"{lowercase}: {value}")
    lines.append(encoding)
    if authorization is not None:
        lines.append(f"authorization: {authorization}")
    if length or method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise httpx.LocalProtocolError("a header holds a line break or a NUL")
    try:
        return f"{text}\r\n\r\n".encode("latin-1")
    except UnicodeEncodeError as exc:
        raise httpx.LocalProtocolError("a header holds a character beyond ISO 8859-1") from exc


@lru_cache(maxsize=1024)
def _lowercase(name: str) -> str:
    if not TOKEN.fullmatch(name):
        raise httpx.LocalProtocolError("a header's name is not a token")
    return name.lower()


class _Stop(Exception):
    """Raised in a callback: parse no further."""


class AnswerReader:
    """Bytes in, one answer after the other out. No I/O.

    The rules, RFC 9112 6.3: an answer to HEAD, a 204 and a 304 have no body; else ``transfer-encoding: chunked`` or
    ``content-length`` ends it; else the close of the connection does. Interim answers (1xx) are skipped.
    """

    __slots__ = (
        "_chunks",
        "_headers",
        "_limits",
        "_method",
        "_parser",
        "_size",
        "_status",
        "_truncated",
        "_version",
        "done",
        "keep_alive",
        "received",
    )

    done: bool
    """The answer is whole."""
    keep_alive: bool
    """It is, and another may follow on this connection."""
    received: int
    """Bytes taken since `start`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        self.start("")

    def start(self, method: str) -> None:
        """Expect the answer to a request of this method."""
        self._method = method
        self._status = 0
        self._version = ""
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._truncated = False
        self.done = self.keep_alive = False
        self.received = 0

    def feed(self, data: bytes) -> None:
        """Take what arrived. Raises `httpx.RemoteProtocolError` if that can not be, or not become, an answer."""
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            raise httpx.RemoteProtocolError("the server switched protocols unasked") from exc
        except httptools.HttpParserError as exc:
            self.keep_alive = False
            if not self.done:
                raise httpx.RemoteProtocolError(f"not an HTTP/1.1 answer: {exc.__context__ or exc}") from exc
        if not self.done and self.received - self._size * (1 + FRAMING_PER_BYTE) > self._limits.max_head:
            raise httpx.RemoteProtocolError(f"head and framing of the answer exceed {self._limits.max_head} bytes")

    def feed_eof(self) -> None:
        """Take the end of the stream. Raises `httpx.RemoteProtocolError` unless that is how this answer may end."""
        self.keep_alive = False
        self.done = self.done or (self._status != 0 and not self._delimited())
        if not self.done:
            where = "in the middle of" if self.received else "before"
            raise httpx.RemoteProtocolError(f"the server closed the connection {where} its answer") from (
                ConnectionResetError(errno.ECONNRESET, "closed by the server")
            )

    def answer(self) -> Answer:
        """What was read, once `done`."""
        return Answer(self._status, self._headers, b"".join(self._chunks), self._version, self._truncated)

    def _delimited(self) -> bool:
        """Whether the answer says itself where its body ends."""
        names = {name.lower(): value.lower() for name, value in self._headers}
        coding = names.get(b"transfer-encoding")
        return b"content-length" in names if coding is None else coding.rpartition(b",")[2].strip() == b"chunked"

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.done:
            raise _Stop("bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status:
            return  # a trailer
        if len(self._headers) == self._limits.max_headers:
            raise _Stop(f"more than {self._limits.max_headers} headers")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100:
                raise _Stop(f"status {status}")
            self._headers = []
            return
        self._status = status
        self._version = self._parser.get_http_version()
        self.done = self._method == "HEAD"  # the parser knows nothing of it, and is of no use after it

    def on_body(self, data: bytes) -> None:
        if self.done:
            raise _Stop("a body in answer to HEAD")
        room = self._limits.max_response - self._size
        self._size += len(data)
        if len(data) <= room:
            self._chunks.append(data)
            return
        self._chunks.append(data[:room])
        self._truncated = self.done = True
        raise _Stop("enough")

    def on_message_complete(self) -> None:
        if self._status and not self.done:
            self.done = True
            self.keep_alive = self._parser.should_keep_alive()


class Connection:
    """One connection to an origin, for one request at a time."""

    __slots__ = ("_reader", "_wire", "idle_since", "origin", "reusable", "sent")

    def __init__(self, origin: Origin, wire: Wire, limits: Limits) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.reusable = False
        self.sent = False
        """The whole of the last request was handed to the kernel: the server may have it."""
        self._wire = wire
        self._reader = AnswerReader(limits)

    @property
    def answered(self) -> bool:
        """Whether any byte came back for the last request."""
        return self._reader.received > 0

    def stale(self) -> bool:
        """Whether the server closed the idle connection, or sent what nobody asked for."""
        return self._wire.stale()

    def close(self) -> None:
        """Close; whoever is in `exchange` gets an error."""
        self.reusable = False
        self._wire.close()

    async def exchange(self, method: str, head: bytes, body: bytes, timeouts: Timeouts) -> Answer:
        """Send a request and read its answer; afterwards see `reusable`.

        A server may answer before it has read all, and close: then writing fails, and the answer is there to be read.
        """
        reader = self._reader
        self.reusable = self.sent = False
        reader.start(method)
        fault: BaseException | None = None
        try:
            await self._write(head, body, timeouts.write)
            self.sent = True
        except BROKEN as exc:
            fault = exc
        try:
            while not reader.done:
                data = await self._read(timeouts.read)
                if data:
                    reader.feed(data)
                else:
                    reader.feed_eof()
        except (*BROKEN, httpx.RemoteProtocolError) as exc:
            if fault is not None and not reader.received:
                raise httpx.WriteError(f"cannot send to {self.origin}: {fault}") from fault
            if isinstance(exc, httpx.RemoteProtocolError):
                raise
            raise httpx.ReadError(f"cannot receive from {self.origin}: {exc}") from exc
        self.reusable = reader.keep_alive and self.sent
        return reader.answer()

    async def _write(self, head: bytes, body: bytes, seconds: float | None) -> None:
        if seconds is None:
            for part in (head + body,) if len(body) <= JOINED else (head, body):
                await self._wire.send_all(part)
            return
        with trio.move_on_after(seconds) as scope:
            await self._write(head, body, None)
        if scope.cancelled_caught:
            raise httpx.WriteTimeout(f"{self.origin} did not take the request within {seconds} s")

    async def _read(self, seconds: float | None) -> bytes:
        if seconds is None:
            return await self._wire.receive()
        with trio.move_on_after(seconds):
            return await self._wire.receive()
        raise httpx.ReadTimeout(f"{self.origin} sent no bytes within {seconds} s")
