"""HTTP/1.1 requests and answers as bytes; no I/O, no clock.

The rules are RFC 9110 and 9112. Where they let a server be lenient this one is not: a message has one reading or is
refused, so that no proxy in front can have read another (request smuggling). In particular

- a head is lines that end in CRLF, with no other control characters, no folded lines, no space before a colon;
- HTTP/1.1 requires exactly one Host; Content-Length is one number, Transfer-Encoding one ``chunked``, never both;
- a chunk size is 1 to 16 hexadecimal digits; extensions and trailers are bounded, checked and dropped.

What is refused raises `RequestError`, which knows its answer. Nothing here keeps more than it was given.

httptools is not used for requests: it has no limits, no way to stop after one of several pipelined messages, drops the
body of a request that asks for an Upgrade, and mixes trailers into the headers. It would save 2 us of the 26 that a
request takes, before the checks that it leaves to its user.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal, Self

from msgspec import Struct

CRLF = b"\r\n"
HEAD_END = b"\r\n\r\n"
CHUNKED = -1
"""The `Request.length` of a body that comes in chunks."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
RETRY_AFTER = "5"
"""Seconds; sent with each 503, in the two headers that the SDKs look at."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  RFC 9110's name for it
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_FIELD_NAME = re.compile(_TOKEN)
_AUTHORITY = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?"
_HOST = re.compile(_AUTHORITY)
_ABSOLUTE = re.compile(rf"https?://({_AUTHORITY})(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER_LINE = re.compile(rf"({_TOKEN}):[\t\x20-\x7e\x80-\xff]*\r\n".encode())
_NOT_CONTROL = bytes(code for code in range(256) if (code >= 0x20 and code != 0x7F) or code == 0x09)
_MAX_CHUNK_LINE = 1024
_MAX_DIGITS = 18
_CONTROL_CHARACTER = "its head has a control character, or a line that does not end in CRLF"

_USUAL_FIELDS = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection"),
    *("Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Origin", "Referer"),
    *("Transfer-Encoding", "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto", "X-Retry-Count", "X-Write-Key"),
)
_FIELD_STARTS = {f"{spelling}:": name.lower() for name in _USUAL_FIELDS for spelling in (name, name.lower())}
"""How the usual headers start, up to the space: these need no check and no lower-casing."""

_SINGLE = frozenset({"authorization", "content-length", "content-type", "host", "transfer-encoding"})
"""Headers of which two would be two readings."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_JSON = (("Content-Type", "application/json"),)


class Request(Struct, gc=False):
    """A request, as it came. ``body`` is free of chunking and still has its Content-Encoding."""

    method: str
    path: str
    """As sent, percent-encoding included; "*" for ``OPTIONS *``."""
    query: str = ""
    """What follows the first "?", as sent."""
    headers: dict[str, str] = {}
    """By lower-case name, decoded as Latin-1; several of one name are joined by ", "."""
    body: bytes = b""
    peer: str | None = None
    """The IP address of the other end; None on a Unix socket."""
    scheme: str = "http"
    http10: bool = False
    keep_alive: bool = True
    """Whether the client lets the connection stay open."""
    length: int = 0
    """Bytes of body that the head announces, or `CHUNKED`."""


class Response(Struct):
    """An answer. Keep one that never changes in a constant: it is encoded once. Do not change it after it was sent."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = _JSON
    """All but Content-Length and Connection."""
    close: bool = False
    """Whether the connection is closed after it."""
    _wire: bytes | None = None

    @property
    def wire(self) -> bytes:
        """The answer on an HTTP/1.1 connection that stays open; made on first use, then kept."""
        if self._wire is None:
            self._wire = self.encode()
        return self._wire

    def encode(self, *, keep_alive: bool = True, http10: bool = False, head_only: bool = False) -> bytes:
        """The bytes to send. Raises ValueError for a header with a line break, or that Latin-1 can not spell."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers]
        bodiless = self.status in (204, 304)
        if not bodiless:
            lines.append(f"Content-Length: {len(self.body)}\r\n")
        if not keep_alive:
            lines.append("Connection: close\r\n")
        elif http10:
            lines.append("Connection: keep-alive\r\n")
        head = "".join(lines)
        if not len(lines) == head.count("\r") == head.count("\n"):
            raise ValueError("a header of the answer contains a line break")
        start = _STATUS_LINES.get(self.status) or f"HTTP/1.1 {self.status} \r\n"
        return f"{start}{head}\r\n".encode("latin-1") + (b"" if head_only or bodiless else self.body)


class RequestError(Exception):
    """A request that is not handled; the connection ends with ``response``."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.response = refusal(status, code, message)

    @classmethod
    def malformed(cls, what: str) -> Self:
        return cls(400, "malformed_request", f"This is not a valid HTTP/1.1 request: {what}.")

    @classmethod
    def body_too_large(cls, limit: int) -> Self:
        # Not 413: some SDKs send the same batch again for ever.
        return cls(400, "body_too_large", f"The body is larger than {limit} bytes; send smaller batches.")

    @classmethod
    def head_too_large(cls, limit: int, what: str) -> Self:
        return cls(431, "head_too_large", f"The request has more than {limit} {what}.")


def refusal(status: int, code: str, message: str) -> Response:
    """The JSON answer that says no, after which the connection closes. The texts are ours: plain, without quotes."""
    headers: Sequence[tuple[str, str]] = _JSON
    if status == 503:
        headers = (*headers, ("Retry-After", RETRY_AFTER), ("X-RateLimit-Reset", RETRY_AFTER))
    body = f'{{"success":false,"code":"{code}","message":"{message}"}}'
    return Response(status, body.encode(), headers, close=True)


def parse_head(head: bytes, max_headers: int) -> Request:
    """The request whose head this is, without the empty line; ``length`` says what body follows.

    Raises `RequestError`.
    """
    lines = head.decode("latin-1").split("\r\n")
    if len(lines) - 1 > max_headers:
        raise RequestError.head_too_large(max_headers, "headers")
    if head.translate(None, _NOT_CONTROL) != CRLF * (len(lines) - 1):
        raise RequestError.malformed(_CONTROL_CHARACTER)
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise RequestError.malformed("its first line is not METHOD TARGET HTTP/1.1")
    method, target, major, minor = match.groups()
    if major != "1":
        raise RequestError(505, "version_not_supported", "This server speaks HTTP/1.1 and HTTP/1.0.")
    http10 = minor == "0"

    headers: dict[str, str] = {}
    for line in lines[1:]:
        start, _, value = line.partition(" ")
        name = _FIELD_STARTS.get(start)
        if name is None:
            spelling, colon, value = line.partition(":")
            if not colon or _FIELD_NAME.fullmatch(spelling) is None:
                raise RequestError.malformed("a header is folded, has no colon, or its name is not a name")
            name = spelling.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _SINGLE:
                raise RequestError.malformed(f"it has more than one {name}")
            value = f"{headers[name]}, {value}"
        headers[name] = value

    host = headers.get("host")
    if host is None:
        if not http10:
            raise RequestError.malformed("it has no Host")
    elif _HOST.fullmatch(host) is None:
        raise RequestError.malformed("its Host is not a host")
    path, query = _split_target(method, target, headers)

    if "expect" in headers and not http10 and headers["expect"].lower() != "100-continue":
        raise RequestError(417, "expectation_failed", "The only expectation this server can meet is 100-continue.")
    return Request(
        method,
        path,
        query,
        headers,
        http10=http10,
        keep_alive=_keep_alive(headers, http10),
        length=_length(headers, http10),
    )


def _split_target(method: str, target: str, headers: dict[str, str]) -> tuple[str, str]:
    """Path and query. The authority of an absolute target replaces Host (RFC 9112, 3.2.2)."""
    if method == "CONNECT":
        raise RequestError.malformed("this server is no proxy, there is no CONNECT")
    if target[0] == "/":
        path, _, query = target.partition("?")
        return path, query
    if target == "*" and method == "OPTIONS":
        return target, ""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise RequestError.malformed("its target is neither a path nor an http URL")
    headers["host"] = match[1]
    return match[2] or "/", match[3] or ""


def _length(headers: dict[str, str], http10: bool) -> int:
    """Bytes of body, or `CHUNKED` (RFC 9112, 6.3)."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise RequestError.malformed("it has both Content-Length and Transfer-Encoding")
        if coding.lower() != "chunked" or http10:
            raise RequestError.malformed("the only Transfer-Encoding is chunked, on HTTP/1.1")
        return CHUNKED
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
        raise RequestError.malformed("its Content-Length is not one decimal number")
    return int(length)


def _keep_alive(headers: dict[str, str], http10: bool) -> bool:
    connection = headers.get("connection", "")
    if not http10 and connection in ("", "keep-alive"):
        return True
    options = [option.strip(" \t") for option in connection.lower().split(",")]
    return "close" not in options and (not http10 or "keep-alive" in options)


def check_partial_head(data: bytes, max_head: int) -> None:
    """Refuse what can no longer become a head, without waiting for its end: TLS on a plain port, bare LF, a flood.

    Raises `RequestError`. What passes is still checked by `parse_head`.
    """
    if len(data) > max_head:
        raise RequestError.head_too_large(max_head, "bytes of head")
    lines = CRLF * data.count(CRLF)
    if data.translate(None, _NOT_CONTROL) not in (lines, lines + b"\r"):
        raise RequestError.malformed(_CONTROL_CHARACTER)


class ChunkedBody:
    """Decodes one chunked body (RFC 9112, 7.1), fed in pieces of any size.

    Holds the decoded bytes, at most ``max_body``, and less than a line of framing. `feed` raises `RequestError` as soon
    as a line is wrong, or the body or its framing too large.
    """

    def __init__(self, max_body: int, max_overhead: int) -> None:
        self.body = bytearray()
        self.rest = b""
        """What came after the body, once `feed` has returned True."""
        self._max_body = max_body
        self._overhead = max_overhead  # bytes of extensions and trailers that may still come
        self._left = 0  # bytes that the chunk still lacks
        self._line: Literal["size", "end", "trailer"] = "size"

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True once the body is complete."""
        data, at = self.rest + data, 0
        while True:
            if self._left:
                self.body += data[at : at + self._left]
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
            end = data.find(b"\n", at) + 1
            if end == 0:
                self.rest = data[at:]
                if len(self.rest) > (2 if self._line == "end" else _MAX_CHUNK_LINE):
                    raise RequestError.malformed("a line of its chunked body is too long")
                return False
            if self._last_line(data[at:end]):
                self.rest = data[end:]
                return True
            at = end

    def _last_line(self, line: bytes) -> bool:
        """Take a line of framing; True if it ends the body."""
        match self._line:
            case "size":
                self._start_chunk(line)
            case "end":
                if line != CRLF:
                    raise RequestError.malformed("a chunk is longer than its size")
                self._line = "size"
            case "trailer":
                if line == CRLF:
                    return True
                match = _TRAILER_LINE.fullmatch(line)
                if match is None or match[1].decode().lower() in _SINGLE:
                    raise RequestError.malformed("a trailer is no header, or one that belongs in the head")
                self._spend(len(line))
        return False

    def _start_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestError.malformed("a chunk does not start with its size")
        self._spend(len(match[2] or b""))
        self._left = int(match[1], 16)
        if len(self.body) + self._left > self._max_body:
            raise RequestError.body_too_large(self._max_body)
        self._line = "end" if self._left else "trailer"

    def _spend(self, size: int) -> None:
        self._overhead -= size
        if self._overhead < 0:
            raise RequestError.malformed("it has too many bytes of chunk extensions and trailers")
