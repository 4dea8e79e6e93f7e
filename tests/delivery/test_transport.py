"""The transport against servers that do all that servers do. Real sockets on loopback; time is a MockClock."""

import errno
import gzip
import os
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme

from relayd.delivery.transport import (
    Answer,
    Statistics,
    Timeouts,
    Transport,
    error_code,
    may_have_arrived,
    root_cause,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def settled() -> None:
    """Wait until both sides have done what they can, and loopback too."""
    await trio.testing.wait_all_tasks_blocked(0.01)


class Peer:
    """The server's side of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def request(self) -> bytes | None:
        """The next request, head and body; None: the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._fill():
                return None
        head = self._buffer.partition(b"\r\n\r\n")[0]
        length = int(dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:]).get(b"content-length", b"0"))
        while len(self._buffer) < len(head) + 4 + length:
            if not await self._fill():
                return None
        request, self._buffer = self._buffer[: len(head) + 4 + length], self._buffer[len(head) + 4 + length :]
        return request

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def gone(self) -> None:
        """Wait until the client has closed."""
        while await self._fill():
            pass

    def reset(self) -> None:
        """Close with RST."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def _fill(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)


Handler = Callable[[Peer], Awaitable[None]]


class Corked(trio.abc.Stream):
    """Holds what is sent back while ``held`` is not None."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.held: bytes | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.held is None:
            await self.stream.send_all(data)
        else:
            self.held += data

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


class Server:
    """Serves ``handler``, which may be replaced, on a port of loopback."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.context: ssl.SSLContext | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}/hook"

    async def start(self, nursery: trio.Nursery) -> None:
        listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
        self.port = listeners[0].socket.getsockname()[1]

    async def _serve(self, tcp: trio.SocketStream) -> None:
        self.connections += 1
        stream: trio.abc.Stream = tcp
        if self.context is not None:
            stream = trio.SSLStream(Corked(tcp), self.context, server_side=True, https_compatible=True)
        try:
            await self.handler(Peer(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)


Serve = Callable[..., Awaitable[Server]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serve(nursery: trio.Nursery, authority: trustme.CA) -> Serve:
    async def serve(handler: Handler, *, tls: bool = False, name: str = "127.0.0.1") -> Server:
        server = Server(handler)
        if tls:
            server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(server.context)
        await server.start(nursery)
        return server

    return serve


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.02)  # longer than loopback takes to deliver


async def post(transport: Transport, server: Server, body: bytes = b"{}", timeouts: Timeouts | None = None) -> Answer:
    return await transport.send("POST", server.url, {}, body, timeouts or Timeouts())


async def good(peer: Peer) -> None:
    while await peer.request() is not None:
        await peer.send(OK)


async def echo(peer: Peer) -> None:
    while (request := await peer.request()) is not None:
        body = request.partition(b"\r\n\r\n")[2]
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def answering(raw: bytes) -> Handler:
    """Answer each request with ``raw``, and close once it has been sent if that is not a keep-alive answer."""

    async def handler(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(raw)

    return handler


def closing(*raw: bytes, reset: bool = False) -> Handler:
    """Take a request, send ``raw``, close."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        for part in raw:
            await peer.send(part)
        if reset:
            peer.reset()

    return handler


async def silent(peer: Peer) -> None:
    await peer.gone()


async def assert_whole(transport: Transport, server: Server) -> None:
    """No slot is lost, and the transport still works."""
    statistics = transport.statistics()
    assert (statistics.in_use, statistics.waiting) == (0, 0)
    assert statistics.open == statistics.idle
    server.handler = good
    assert (await post(transport, server)).body == b"ok"


# One request.


async def test_a_request_arrives_as_it_was_given(serve: Serve) -> None:
    seen = []

    async def handler(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    server = await serve(handler)
    async with Transport() as transport:
        answer = await transport.send("PUT", server.url, {"content-type": "application/json"}, b'{"a":1}')
    assert answer == Answer(200, [(b"content-length", b"2")], b"ok", "1.1", truncated=False, resent=False)
    assert seen == [
        b"PUT /hook HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b'accept-encoding: identity\r\ncontent-length: 7\r\n\r\n{"a":1}' % server.port
    ]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
async def test_a_body_of_any_size_goes_there_and_back(
    serve: Serve, context: ssl.SSLContext, size: int, tls: bool
) -> None:
    server = await serve(echo, tls=tls)
    body = random.Random(size).randbytes(size)
    async with Transport(ssl_context=context, max_response=size) as transport:
        for _ in range(2):
            answer = await post(transport, server, body)
            assert answer.body == body
        assert transport.statistics() == Statistics(open=1, idle=1, in_use=0, waiting=0, opened=1, requests=2, resent=0)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (OK, True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, True),
        (OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), False),
        (OK.replace(b"1.1", b"1.0"), False),
        (OK + b"HTTP/1.1 500 Desync\r\ncontent-length: 0\r\n\r\n", False),
        (OK + b"garbage", False),
    ],
)
async def test_a_connection_is_kept_only_behind_a_clean_answer(serve: Serve, raw: bytes, kept: bool) -> None:
    server = await serve(answering(raw))
    async with Transport() as transport:
        for _ in range(3):
            assert (await post(transport, server)).body == b"ok"
            assert transport.statistics().open == kept
        assert server.connections == (1 if kept else 3)


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\n\r\nok", b"HTTP/1.0 200 OK\r\n\r\nok"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_an_answer_may_end_with_the_connection(
    serve: Serve, context: ssl.SSLContext, raw: bytes, tls: bool
) -> None:
    server = await serve(closing(raw), tls=tls)
    async with Transport(ssl_context=context) as transport:
        assert (await post(transport, server)).body == b"ok"
        await assert_whole(transport, server)


@pytest.mark.parametrize("length", [b"content-length: 1000000000\r\n", b"", b"transfer-encoding: chunked\r\n"])
async def test_an_endless_body_is_cut_and_the_rest_not_read(serve: Serve, length: bytes) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while True:
            await peer.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    server = await serve(handler)
    async with Transport(max_response=5000) as transport:
        answer = await post(transport, server)
        assert (len(answer.body), answer.truncated) == (5000, True)
        await assert_whole(transport, server)


async def test_an_endless_head_is_refused(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    server = await serve(handler)
    async with Transport(max_head=10_000) as transport:
        with pytest.raises(httpx.RemoteProtocolError, match="exceed 10000 bytes"):
            await post(transport, server)
        await assert_whole(transport, server)


# Faults.

FAULTS: dict[str, tuple[Handler, type[httpx.TransportError], str]] = {
    "closed before an answer": (closing(), httpx.RemoteProtocolError, "ECONNRESET"),
    "closed in the head": (closing(OK[:20]), httpx.RemoteProtocolError, "ECONNRESET"),
    "closed in the body": (closing(OK[:-1]), httpx.RemoteProtocolError, "ECONNRESET"),
    "closed in a chunk": (
        closing(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok"),
        httpx.RemoteProtocolError,
        "ECONNRESET",
    ),
    "reset before an answer": (closing(reset=True), httpx.ReadError, "ECONNRESET"),
    "reset in the body": (closing(OK[:-1], reset=True), httpx.ReadError, "ECONNRESET"),
    "garbage": (closing(b"220 mail.example ESMTP\r\n"), httpx.RemoteProtocolError, "EPROTO"),
    "switched protocols": (closing(b"HTTP/1.1 101 x\r\n\r\n"), httpx.RemoteProtocolError, "EPROTO"),
}


@pytest.mark.parametrize(("handler", "kind", "code"), FAULTS.values(), ids=FAULTS)
async def test_a_fault_is_named_and_costs_nothing_else(
    serve: Serve, handler: Handler, kind: type[httpx.TransportError], code: str
) -> None:
    server = await serve(handler)
    async with Transport(max_connections=1) as transport:
        for _ in range(3):
            with pytest.raises(kind) as caught:
                await post(transport, server)
            assert type(caught.value) is kind
            assert error_code(caught.value) == code
            assert may_have_arrived(caught.value)
        assert server.connections == 3, "nothing is repeated on a fresh connection"
        await assert_whole(transport, server)


async def test_an_answer_before_the_end_of_the_request_is_read(serve: Serve) -> None:
    """As from a server that refuses a body for its size: writing fails, and the reason is there to be read."""

    async def handler(peer: Peer) -> None:
        await peer.stream.receive_some(100)
        await peer.send(OK.replace(b"200 OK", b"413 Too Large"))

    server = await serve(handler)
    async with Transport() as transport:
        answer = await post(transport, server, b"x" * 20_000_000)
        assert answer.status == 413
        assert transport.statistics().open == 0
        await assert_whole(transport, server)


async def test_a_request_broken_off_half_written_did_not_arrive(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.stream.receive_some(100)
        peer.reset()

    server = await serve(handler)
    async with Transport() as transport:
        with pytest.raises(httpx.WriteError) as caught:
            await post(transport, server, b"x" * 20_000_000)
        assert error_code(caught.value) == "ECONNRESET"
        assert not may_have_arrived(caught.value)
        await assert_whole(transport, server)


async def drip(peer: Peer) -> None:
    await peer.request()
    while True:
        for byte in OK[:-1]:
            await peer.send(bytes([byte]))
            await trio.sleep(1)
        await trio.sleep_forever()


@pytest.mark.parametrize("handler", [silent, drip])
async def test_the_callers_timeout_bounds_a_request_and_frees_its_slot(
    serve: Serve, handler: Handler, autojump_clock: trio.testing.MockClock
) -> None:
    server = await serve(handler)
    async with Transport(max_connections=1) as transport:
        for _ in range(3):
            with pytest.raises(trio.TooSlowError) as caught, trio.fail_after(10):
                await post(transport, server)
            assert error_code(caught.value) == "ETIMEDOUT"
            assert transport.statistics() == Statistics(0, 0, 0, 0, server.connections, server.connections, 0)
        assert trio.current_time() == 30
        await assert_whole(transport, server)


async def test_a_read_timeout_counts_from_the_last_bytes(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    server = await serve(drip)
    async with Transport() as transport:
        with pytest.raises(httpx.ReadTimeout):
            await post(transport, server, timeouts=Timeouts(read=1.5))
        assert trio.current_time() == len(OK) - 2 + 1.5
        server.handler = silent
        with pytest.raises(httpx.ReadTimeout) as caught:
            await post(transport, server, timeouts=Timeouts(read=1.5))
        assert may_have_arrived(caught.value)
        await assert_whole(transport, server)


async def test_a_server_that_does_not_read_is_a_write_timeout(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(peer: Peer) -> None:
        await trio.sleep_forever()

    server = await serve(handler)
    async with Transport() as transport:
        with pytest.raises(httpx.WriteTimeout) as caught:
            await post(transport, server, b"x" * 50_000_000, Timeouts(write=5))
        assert trio.current_time() == 5
        assert not may_have_arrived(caught.value)
        await assert_whole(transport, server)


@pytest.mark.parametrize("timeouts", [Timeouts(), Timeouts(connect=60), Timeouts(connect=5)])
async def test_a_handshake_without_an_answer_is_a_connect_timeout(
    serve: Serve, context: ssl.SSLContext, autojump_clock: trio.testing.MockClock, timeouts: Timeouts
) -> None:
    server = await serve(silent)
    async with Transport(ssl_context=context, connect_timeout=10) as transport:
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await transport.send("POST", f"https://127.0.0.1:{server.port}/", {}, b"", timeouts)
        assert trio.current_time() == min(10, timeouts.connect or 10)
        assert not may_have_arrived(caught.value)
        await assert_whole(transport, server)


async def test_a_host_that_drops_packets_is_a_connect_timeout(autojump_clock: trio.testing.MockClock) -> None:
    """Loopback's way to drop a SYN: a listener whose backlog is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        async with Transport(connect_timeout=7) as transport:
            with pytest.raises(httpx.ConnectTimeout) as caught:
                await transport.send("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"")
            assert error_code(caught.value) == "ETIMEDOUT"
            assert trio.current_time() == 7
            assert transport.statistics().in_use == 0


async def test_a_refused_connection_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with Transport(max_connections=1) as transport:
            for _ in range(2):
                with pytest.raises(httpx.ConnectError, match="refused") as caught:
                    await transport.send("POST", f"http://127.0.0.1:{unused.getsockname()[1]}/", {}, b"")
                assert error_code(caught.value) == "ECONNREFUSED"
                assert not may_have_arrived(caught.value)
            assert transport.statistics() == Statistics(0, 0, 0, 0, 0, 2, 0)


class Late(trio.abc.HostnameResolver):
    def __init__(self, port: int) -> None:
        self.port = port
        self.found = trio.Event()

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        await self.found.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", self.port))]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


class Unresolved(trio.abc.HostnameResolver):
    def __init__(self, number: int) -> None:
        self.number = number

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        raise socket.gaierror(self.number, "no")

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize(("number", "code"), [(socket.EAI_NONAME, "ENOTFOUND"), (socket.EAI_AGAIN, "EAI_AGAIN")])
async def test_a_name_without_an_address_is_named(number: int, code: str) -> None:
    trio.socket.set_custom_hostname_resolver(Unresolved(number))
    async with Transport() as transport:
        with pytest.raises(httpx.ConnectError) as caught:
            await transport.send("POST", "http://gone.example/", {}, b"")
        assert error_code(caught.value) == code


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "https://.example"])
async def test_a_host_that_is_no_name_is_not_found(host: str, serve: Serve, context: ssl.SSLContext) -> None:
    async with Transport(ssl_context=context) as transport:
        with pytest.raises((httpx.ConnectError, httpx.InvalidURL)) as caught:
            await transport.send("POST", host if "//" in host else f"http://{host}/", {}, b"")
        assert error_code(caught.value) in ("ENOTFOUND", "EINVAL")
        assert transport.statistics().in_use == 0


async def test_no_message_holds_what_may_be_secret(serve: Serve) -> None:
    server = await serve(closing())
    async with Transport() as transport:
        for handler, _, _ in FAULTS.values():
            server.handler = handler
            with pytest.raises(httpx.TransportError) as caught:
                await transport.send(
                    "POST", f"http://us:s3cret@127.0.0.1:{server.port}/s3cret?k=s3cret", {"x-key": "s3cret"}, b"s3cret"
                )
            cause: BaseException | None = caught.value
            while cause is not None:
                assert "s3cret" not in f"{cause!r} {cause}"
                cause = cause.__cause__ or cause.__context__


# Kept-alive connections.


async def test_a_connection_closed_while_idle_is_replaced_and_nothing_written_twice(serve: Serve) -> None:
    server = await serve(closing(OK))
    async with Transport() as transport:
        for count in range(1, 4):
            answer = await post(transport, server)
            await settled()
            assert (server.connections, answer.resent) == (count, False)
        assert transport.statistics().resent == 0


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_bytes_sent_while_idle_are_no_answer(serve: Serve, context: ssl.SSLContext, tls: bool) -> None:
    """As from a server that says 408 before it closes an idle connection."""
    said = trio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await settled()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        said.set()
        await peer.gone()

    server = await serve(handler, tls=tls)
    async with Transport(ssl_context=context) as transport:
        await post(transport, server)
        await said.wait()
        server.handler = good
        assert (await post(transport, server)).status == 200
        assert server.connections == 2


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_request_lost_to_a_closing_connection_is_written_again_and_marked(serve: Serve, reset: bool) -> None:
    seen = []

    async def handler(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(OK)
        seen.append(await peer.request())
        server.handler = good
        if reset:
            peer.reset()

    server = await serve(handler)
    async with Transport(max_connections=1) as transport:
        assert not (await post(transport, server, b"1")).resent
        answer = await post(transport, server, b"2")
        assert (answer.status, answer.resent) == (200, True)
        assert len(seen) == 2, "the server has read it"
        assert transport.statistics() == Statistics(open=1, idle=1, in_use=0, waiting=0, opened=2, requests=2, resent=1)
        assert not (await post(transport, server, b"3")).resent


async def test_a_second_failure_in_a_row_is_final_and_marked(serve: Serve) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        server.handler = closing()

    server = await serve(handler)
    async with Transport(max_connections=1) as transport:
        await post(transport, server)
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await post(transport, server)
        assert may_have_arrived(caught.value)
        assert "written twice" in caught.value.__notes__[0]
        assert server.connections == 2
        await assert_whole(transport, server)


async def test_a_request_that_may_have_arrived_is_marked_although_the_second_could_not_connect(
    serve: Serve, nursery: trio.Nursery
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        stop.cancel()
        await settled()

    server = Server(handler)
    async with Transport() as transport, trio.open_nursery() as inner:
        stop = inner.cancel_scope
        await server.start(inner)
        await post(transport, server)
        with trio.CancelScope(shield=True), pytest.raises(httpx.ConnectError) as caught:
            await post(transport, server)
        assert error_code(caught.value) == "ECONNREFUSED"
        assert may_have_arrived(caught.value)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_nothing_is_repeated_after_a_byte_of_the_answer(serve: Serve, reset: bool) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"H")
        await settled()
        if reset:
            peer.reset()

    server = await serve(handler)
    async with Transport() as transport:
        await post(transport, server)
        with pytest.raises(httpx.TransportError):
            await post(transport, server)
        assert server.connections == 1
        await assert_whole(transport, server)


async def test_nothing_is_repeated_after_a_timeout(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.gone()

    server = await serve(handler)
    async with Transport() as transport:
        await post(transport, server)
        with pytest.raises(httpx.ReadTimeout):
            await post(transport, server, timeouts=Timeouts(read=1))
        assert server.connections == 1
        await assert_whole(transport, server)


async def test_a_connection_idle_for_too_long_is_not_used(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    server = await serve(good)
    async with Transport(idle_expiry=30) as transport:
        await post(transport, server)
        await trio.sleep(29)
        await post(transport, server)
        assert server.connections == 1
        await trio.sleep(30)
        await post(transport, server)
        assert server.connections == 2
        assert transport.statistics().open == 1


async def test_old_connections_are_closed_while_new_ones_are_used(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    server = await serve(good)
    async with Transport(idle_expiry=30) as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(post, transport, server)
        assert transport.statistics().open == 5
        for _ in range(2):
            await trio.sleep(20)
            await post(transport, server)
        assert transport.statistics().open == 1, "the last one used stays, the rest has aged"


# The pool.


async def test_no_more_connections_than_allowed_and_each_request_its_turn(serve: Serve) -> None:
    arrived = []
    go = trio.Semaphore(0)

    async def handler(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            arrived.append(int(request.rpartition(b"\n")[2]))
            await go.acquire()
            await peer.send(OK)

    server = await serve(handler)
    async with Transport(max_connections=3) as transport:
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(post, transport, server, b"%d" % number)
                await settled()
            for answered in range(12):
                assert arrived == list(range(min(answered + 3, 12)))
                assert transport.statistics().in_use == min(12 - answered, 3)
                assert transport.statistics().waiting == max(9 - answered, 0)
                go.release()
                await settled()
        assert server.connections == 3


async def test_waiting_for_a_slot_has_its_timeout(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    server = await serve(silent)
    async with Transport(max_connections=1) as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, transport, server)
            await settled()
            with pytest.raises(httpx.PoolTimeout) as caught:
                await post(transport, server, timeouts=Timeouts(pool=5))
            assert trio.current_time() == 5
            assert not may_have_arrived(caught.value)
            assert transport.statistics().waiting == 0
            nursery.cancel_scope.cancel()
        await assert_whole(transport, server)


async def test_an_idle_connection_gives_way_to_another_origin_the_longest_idle_first(serve: Serve) -> None:
    a, b, c = [await serve(good) for _ in range(3)]
    async with Transport(max_connections=2) as transport:
        for server in (a, b, a, c, a, b, a):
            await post(transport, server)
            assert transport.statistics().open <= 2
        assert (a.connections, b.connections, c.connections) == (1, 2, 1)


async def test_a_busy_connection_gives_way_to_none(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    a, b = await serve(silent), await serve(good)
    async with Transport(max_connections=2) as transport, trio.open_nursery() as nursery:
        nursery.start_soon(post, transport, a)
        await settled()
        for _ in range(3):
            await post(transport, b)
        assert (a.connections, b.connections, transport.statistics().open) == (1, 1, 2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "reused"])
async def test_a_closed_transport_fails_what_is_in_flight_and_refuses_the_rest(serve: Serve, warm: bool) -> None:
    async def handler(peer: Peer) -> None:
        if warm:
            await peer.request()
            await peer.send(OK)
        await silent(peer)

    server = await serve(handler)
    transport = Transport(max_connections=1)
    if warm:
        await post(transport, server)
    codes = []

    async def request() -> None:
        try:
            await post(transport, server)
        except httpx.ReadError as exc:
            codes.append(error_code(exc))
        except RuntimeError as exc:
            codes.append(str(exc))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(request)
            await settled()
        await transport.aclose()
    assert codes == ["ECONNABORTED", "the transport is closed", "the transport is closed"]
    assert transport.statistics() == Statistics(0, 0, 0, 0, 1, 1 + warm, 0)
    await transport.aclose()


async def test_a_connection_that_opens_behind_the_end_is_closed(serve: Serve, nursery: trio.Nursery) -> None:
    server = await serve(good)
    resolver = Late(server.port)
    trio.socket.set_custom_hostname_resolver(resolver)
    transport = Transport()

    async def close() -> None:
        await settled()
        await transport.aclose()
        resolver.found.set()

    nursery.start_soon(close)
    with pytest.raises(httpx.ConnectError) as caught:
        await transport.send("POST", f"http://late.example:{server.port}/", {}, b"")
    assert error_code(caught.value) == "ECONNABORTED"
    assert not may_have_arrived(caught.value)
    assert transport.statistics().open == 0
    await settled()
    assert server.connections == 1


# Cancellation.


class CancelAtStep(trio.abc.Instrument):
    """Cancel ``scope`` after the ``step``-th step that any task takes: sooner or later, at each await."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope = scope
        self.left = step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


async def cancelled_at(step: int, request: Callable[[], Awaitable[object]]) -> bool:
    """Run ``request`` and cancel it at ``step``; whether that was before its end."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await request()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("size", [9, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "reused"])
async def test_a_cancellation_anywhere_leaves_the_pool_whole(
    serve: Serve, context: ssl.SSLContext, tls: bool, size: int, warm: bool
) -> None:
    server = await serve(echo, tls=tls)
    cancelled, step = True, 0
    while cancelled:
        step += 1 + step // 16
        async with Transport(max_connections=1, ssl_context=context, max_response=size) as transport:
            if warm:
                assert (await post(transport, server, b"first")).body == b"first"
            cancelled = await cancelled_at(step, partial(post, transport, server, b"x" * size))
            statistics = transport.statistics()
            assert statistics.in_use == 0
            assert statistics.open == statistics.idle <= (1 if not cancelled or step == 1 else 0)
            assert (await post(transport, server, b"next")).body == b"next", "not the answer to another request"
            assert transport.statistics().resent == 0
    assert step > 1


async def test_a_cancellation_anywhere_in_a_queue_for_slots_leaves_the_pool_whole(serve: Serve) -> None:
    server = await serve(echo)
    answers: list[bytes] = []

    async def request(transport: Transport, body: bytes) -> None:
        answers.append((await post(transport, server, body)).body)

    async def crowd(transport: Transport) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(request, transport, b"%d" % number)

    cancelled, step = True, 0
    while cancelled:
        step += 1
        answers.clear()
        async with Transport(max_connections=2) as transport:
            cancelled = await cancelled_at(step, partial(crowd, transport))
            statistics = transport.statistics()
            assert (statistics.in_use, statistics.waiting) == (0, 0)
            assert statistics.open == statistics.idle
            assert len(answers) == len(set(answers))
            await crowd(transport)
            assert {b"0", b"1", b"2", b"3"} <= set(answers)
    assert step > 10


async def test_a_cancelled_caller_sends_nothing(serve: Serve) -> None:
    server = await serve(good)
    async with Transport() as transport:
        await post(transport, server)
        with trio.CancelScope() as scope:
            scope.cancel()
            await post(transport, server)
        assert scope.cancelled_caught
        assert transport.statistics() == Statistics(open=1, idle=1, in_use=0, waiting=0, opened=1, requests=1, resent=0)


@pytest.mark.parametrize("seed", range(3))
async def test_servers_that_close_under_contention_cost_no_slot(serve: Serve, seed: int) -> None:
    """The case that costs stock httpx its slots for good (encode/httpcore#1093)."""
    chance = random.Random(seed)
    calm = False

    async def handler(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            body = request.partition(b"\r\n\r\n")[2]
            raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            if calm:
                await peer.send(raw)
                continue
            for _ in range(chance.randrange(3)):
                await trio.lowlevel.checkpoint()
            match chance.randrange(8):
                case 0:
                    return
                case 1:
                    return peer.reset()
                case 2:
                    return await peer.send(raw)
                case 3:
                    return await peer.send(raw[:-1])
                case 4:
                    await peer.send(raw[:-1])
                    return peer.reset()
                case 5:
                    await peer.send(raw + b"x")
                case _:
                    await peer.send(raw)

    server = await serve(handler)
    outcomes: dict[str, int] = {}

    async def worker(transport: Transport, number: int) -> None:
        for turn in range(25):
            body = b"%d-%d" % (number, turn)
            outcome = "cancelled"
            with trio.CancelScope() as scope:
                if chance.randrange(5) == 0:
                    nursery.start_soon(cancel_soon, scope, chance.randrange(8))
                try:
                    answer = await post(transport, server, body)
                    assert answer.body == body, "the answer to another request"
                    outcome = "resent" if answer.resent else "ok"
                except httpx.TransportError as exc:
                    outcome = type(exc).__name__
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            statistics = transport.statistics()
            assert statistics.open <= 8
            assert statistics.in_use <= 8

    async def cancel_soon(scope: trio.CancelScope, steps: int) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with Transport(max_connections=8) as transport:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(64):
                    nursery.start_soon(worker, transport, number)
            assert set(outcomes) == {"ok", "resent", "cancelled", "ReadError", "RemoteProtocolError"}
            calm = True
            statistics = transport.statistics()
            assert (statistics.in_use, statistics.waiting) == (0, 0)
            assert statistics.open == statistics.idle
            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    for _ in range(40):
                        nursery.start_soon(post, transport, server)
            assert transport.statistics().in_use == 0


# TLS.


async def test_the_certificate_is_checked_against_a_trusted_authority(serve: Serve) -> None:
    server = await serve(good, tls=True)
    async with Transport() as transport:
        with pytest.raises(httpx.ConnectError, match="certificate verify failed") as caught:
            await post(transport, server)
        assert error_code(caught.value) == "TLS"
        assert transport.statistics().in_use == 0


async def test_the_certificate_is_checked_against_the_host(serve: Serve, context: ssl.SSLContext) -> None:
    server = await serve(good, tls=True, name="other.example")
    async with Transport(ssl_context=context) as transport:
        with pytest.raises(httpx.ConnectError, match="IP address mismatch") as caught:
            await post(transport, server)
        assert error_code(caught.value) == "TLS"


async def test_the_hosts_name_is_sent_in_the_handshake(serve: Serve, context: ssl.SSLContext) -> None:
    server = await serve(good, tls=True, name="localhost")
    names = []
    assert server.context is not None
    server.context.sni_callback = lambda _, name, __: names.append(name)
    async with Transport(ssl_context=context) as transport:
        answer = await transport.send("POST", f"https://localhost:{server.port}/", {}, b"")
    assert (answer.status, names) == (200, ["localhost"])


async def test_a_server_that_does_not_speak_tls_is_named(serve: Serve, context: ssl.SSLContext) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    server = await serve(handler)
    async with Transport(ssl_context=context) as transport:
        with pytest.raises(httpx.ConnectError) as caught:
            await transport.send("POST", f"https://127.0.0.1:{server.port}/", {}, b"")
        assert error_code(caught.value) == "TLS"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_tls_connection_is_kept_and_replaced_when_closed(
    serve: Serve, context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    server = await serve(good, tls=True)
    assert server.context is not None
    server.context.minimum_version = server.context.maximum_version = version
    async with Transport(ssl_context=context) as transport:
        for _ in range(3):
            await post(transport, server)
        assert server.connections == 1
        server.handler = closing(OK)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(post, transport, server)
        await settled()
        assert not (await post(transport, server)).resent
        await assert_whole(transport, server)


async def test_a_record_that_came_with_the_answer_spoils_the_connection(serve: Serve, context: ssl.SSLContext) -> None:
    async def handler(peer: Peer) -> None:
        assert isinstance(peer.stream, trio.SSLStream)
        corked = peer.stream.transport_stream
        assert isinstance(corked, Corked)
        await peer.request()
        corked.held = b""
        await peer.send(OK)
        await peer.send(OK.replace(b"200", b"500"))
        joined, corked.held = corked.held, None
        await corked.send_all(joined)
        await peer.gone()

    server = await serve(handler, tls=True)
    async with Transport(ssl_context=context) as transport:
        for count in range(1, 4):
            assert (await post(transport, server)).status == 200
            assert server.connections == count


# httpx.


async def test_httpx_sends_through_it(serve: Serve) -> None:
    packed = gzip.compress(b"packed")

    async def handler(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        assert request.count(b"\r\nhost: ") == request.count(b"\r\ncontent-length: ") == 1
        assert request.endswith(b"\r\n\r\nstreamed")
        assert b"accept-encoding: gzip" in request
        await peer.send(
            b"HTTP/1.1 302 Found\r\nlocation: /\r\nset-cookie: a=1\r\ncontent-encoding: gzip\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(packed), packed)
        )

    async def content() -> AsyncIterator[bytes]:
        yield b"stre"
        yield b"amed"

    server = await serve(handler)
    async with httpx.AsyncClient(transport=Transport()) as client:
        response = await client.post(server.url, content=content())
    assert (response.status_code, response.text, response.http_version) == (302, "packed", "HTTP/1.1")
    assert response.extensions["truncated"] is response.extensions["resent"] is False
    assert server.connections == 1


async def test_httpxs_timeouts_are_heeded(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    server = await serve(silent)
    async with httpx.AsyncClient(transport=Transport(), timeout=httpx.Timeout(9, read=3)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(server.url)
        assert trio.current_time() == 3


# Names of faults.


def caused(exc: Exception, by: BaseException) -> Exception:
    exc.__cause__ = by
    return exc


IPV6_ONLY_BY_NAME = [OSError(errno.ENETUNREACH, "no route"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")]


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        *[
            (caused(httpx.ConnectError(""), OSError(getattr(errno, name), "")), name)
            for name in ("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EHOSTUNREACH", "ETIMEDOUT", "EMFILE")
        ],
        (caused(httpx.WriteError(""), BrokenPipeError(errno.EPIPE, "")), "ECONNRESET"),
        (caused(httpx.ConnectError(""), OSError(errno.ENETUNREACH, "")), "EHOSTUNREACH"),
        (caused(httpx.ConnectError(""), socket.gaierror(socket.EAI_NONAME, "")), "ENOTFOUND"),
        (caused(httpx.ConnectError(""), socket.gaierror(socket.EAI_AGAIN, "")), "EAI_AGAIN"),
        (caused(httpx.ConnectError(""), caused(OSError("all"), ExceptionGroup("", IPV6_ONLY_BY_NAME))), "ECONNREFUSED"),
        (caused(httpx.ConnectError(""), UnicodeError()), "ENOTFOUND"),
        (caused(httpx.ConnectError(""), ssl.SSLCertVerificationError(1, "")), "TLS"),
        (caused(httpx.ReadError(""), ssl.SSLError(1, "")), "TLS"),
        (caused(httpx.ReadError(""), trio.ClosedResourceError()), "ECONNABORTED"),
        (caused(httpx.ConnectTimeout(""), trio.TooSlowError()), "ETIMEDOUT"),
        (httpx.PoolTimeout(""), "ETIMEDOUT"),
        (trio.TooSlowError(), "ETIMEDOUT"),
        (TimeoutError(), "ETIMEDOUT"),
        (caused(httpx.RemoteProtocolError(""), ValueError()), "EPROTO"),
        (httpx.UnsupportedProtocol(""), "EINVAL"),
        (httpx.LocalProtocolError(""), "EINVAL"),
        (caused(httpx.WriteError(""), OSError(errno.ENOSPC, "")), "ENOSPC"),
        (ZeroDivisionError(), "INTERNAL"),
    ],
)
def test_a_fault_has_segments_name(exc: Exception, code: str) -> None:
    assert error_code(exc) == code


def test_the_root_of_a_fault_is_what_the_system_said() -> None:
    said = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    assert root_cause(caused(httpx.ConnectError(""), caused(OSError("all"), ExceptionGroup("", [said])))) is said
