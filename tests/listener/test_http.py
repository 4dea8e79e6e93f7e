"""The server: what it promises to its handler, to well-behaved clients, and against the others."""

import errno
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from structlog.testing import capture_logs
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from relayd.config import model
from relayd.listener.http import Handler, Limits, Server, open_listeners
from relayd.listener.message import Request, Response
from tests.listener.wire import OK, Client, Gate, Recorder, post, serving
from tests.waiting import until

LIMITS = Limits(body=500_000)
GET = b"GET /v1/t HTTP/1.1\r\nHost: relayd\r\n\r\n"


class Port:
    """A server on a real socket."""

    def __init__(self, server: Server, number: int) -> None:
        self.server = server
        self._number = number
        self._streams: list[trio.abc.Stream] = []

    async def dial(self, tls: ssl.SSLContext | None = None) -> Client:
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", self._number)
        if tls:
            stream = trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)
        self._streams.append(stream)
        return Client(stream)

    async def aclose(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def on_tcp(handler: Handler, limits: Limits = LIMITS, certificate: Path | None = None) -> AsyncIterator[Port]:
    """The server is cancelled at the end, and must have let go of everything."""
    file = str(certificate or "")
    (listener,) = await open_listeners("127.0.0.1:0", tls_certificate=file, tls_key=file)
    transport = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
    assert isinstance(transport, trio.SocketListener)
    server = Server(handler, limits)
    port = Port(server, transport.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: server.serve([listener], task_status=task_status))
        yield port
        nursery.cancel_scope.cancel()
    assert not server.connections
    assert server.buffered == 0
    await port.aclose()


def test_the_limits_are_those_of_the_configuration() -> None:
    assert Limits.of(model.Listener()) == Limits()


# What the handler sees, and the client gets


async def test_a_request_over_tcp_and_its_answer() -> None:
    handler = Recorder()
    async with on_tcp(handler) as port:
        client = await port.dial()
        await client.send(post(b"{}", "Authorization: Basic a2V5Og==", path="/v1/batch?a=b"))
        answer = await client.answer()
        assert port.server.statistics().connections == 1
        assert port.server.statistics().requests == 1
    assert (answer.status, answer.body) == (200, b'{"success":true}')
    (request,) = handler.requests
    assert (request.method, request.path, request.query, request.body) == ("POST", "/v1/batch", "a=b", b"{}")
    assert (request.peer, request.scheme) == ("127.0.0.1", "http")
    assert request.headers["authorization"] == "Basic a2V5Og=="


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 65_536, 499_999, 500_000])
async def test_a_body_up_to_the_limit_arrives_whole(size: int, chunked: bool) -> None:
    handler = Recorder()
    body = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
    chunks = [body[at : at + 7000] for at in range(0, size, 7000)] if chunked else None
    async with on_tcp(handler) as port:
        client = await port.dial()
        await client.stream.send_all(post(body, chunks=chunks) + GET)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [request.body for request in handler.requests] == [body, b""]


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def handler(request: Request) -> Response:
        for _ in range(5 - len(request.body)):  # the first takes the longest
            await trio.lowlevel.checkpoint()
        return Response(200, request.body)

    async with serving(handler) as wire:
        client = wire.connect()
        await client.send(
            b"".join(post(b"x" * size, chunks=[b"x" * size] if size % 2 else None) for size in range(1, 5))
        )
        assert [(await client.answer()).body for _ in range(4)] == [b"x", b"xx", b"xxx", b"xxxx"]


async def test_nothing_more_is_read_while_a_request_is_handled() -> None:
    handler = Gate()
    async with serving(handler, pair=lockstep_stream_pair) as wire, trio.open_nursery() as nursery:
        client = wire.connect()
        await client.stream.send_all(GET + GET)
        nursery.start_soon(client.stream.send_all, GET)  # blocks until it is read
        await wait_all_tasks_blocked()
        assert handler.waiting == 1
        assert nursery.child_tasks
        handler.open()
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 200]


async def test_connection_close_is_answered_and_done() -> None:
    async with serving(Recorder()) as wire:
        client = wire.connect()
        await client.send(post(b"{}", "Connection: close") + GET)
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_client_that_only_closed_its_sending_half_gets_its_answer() -> None:
    async with on_tcp(Recorder()) as port:
        client = await port.dial()
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_all(post(b"{}"))
        await client.stream.send_eof()
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


async def test_http_1_0_closes_unless_it_asks_not_to() -> None:
    async with serving(Recorder()) as wire:
        client = wire.connect()
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "keep-alive"
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""


async def test_the_handler_can_close() -> None:
    async def handler(request: Request) -> Response:
        return Response(400, b"no", close=True)

    async with serving(handler) as wire:
        client = wire.connect()
        await client.send(GET)
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""


async def test_head_has_the_length_and_no_body() -> None:
    async with serving(Recorder()) as wire:
        client = wire.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        assert (await client.answer("HEAD")).headers["content-length"] == "16"
        assert (await client.answer()).body == b'{"success":true}'


# Expect: 100-continue


@pytest.mark.parametrize("chunked", [False, True])
async def test_100_continue_comes_before_the_body(chunked: bool) -> None:
    handler = Recorder()
    request = post(b"{}", "Expect: 100-Continue", chunks=[b"{}"] if chunked else None)
    head, _, body = request.partition(b"\r\n\r\n")
    async with serving(handler) as wire:
        client = wire.connect()
        await client.send(head + b"\r\n\r\n")
        assert (await client.answer()).status == 100
        assert not handler.requests
        await client.send(body)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(post(b"{}", "Expect: 100-continue"), 200, id="the body is there already"),
        pytest.param(post(b"", "Expect: 100-continue"), 200, id="there is no body"),
        pytest.param(
            post(b"{}", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")[:-2] + b"{}", 200, id="HTTP/1.0"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 600000\r\n\r\n", 400, id="too large"
        ),
        pytest.param(post(b"{}", "Expect: tea"), 417, id="another expectation"),
    ],
)
async def test_100_continue_is_not_sent_in_vain(request_: bytes, status: int) -> None:
    async with serving(Recorder(), LIMITS) as wire:
        client = wire.connect()
        await client.send(request_)
        assert (await client.answer()).status == status


# Too large, too many


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large_is_refused_at_once_and_its_sender_can_read_why(chunked: bool) -> None:
    handler = Recorder()
    body = bytes(8_000_000)
    async with on_tcp(handler) as port:
        client = await port.dial()
        await client.stream.send_all(post(body, chunks=[body[:1000], body] if chunked else None))
        answer = await client.answer()
        assert await client.rest() == b""
        assert port.server.statistics().refused == {"body_too_large": 1}
    assert answer.status == 400  # and not 413, which some SDKs retry for ever
    assert b'"code":"body_too_large"' in answer.body
    assert not handler.requests


async def test_a_body_too_large_is_refused_before_it_comes() -> None:
    async with serving(Recorder(), LIMITS) as wire:
        client = wire.connect()
        await client.send(post(bytes(600_000))[:200])
        assert (await client.answer()).status == 400


async def test_all_the_bodies_being_read_are_bounded_together() -> None:
    handler = Recorder()
    async with serving(handler, Limits(buffered=1000)) as wire:
        first, second, third = wire.connect(), wire.connect(), wire.connect()
        await first.send(post(bytes(700))[:-1])
        assert wire.server.statistics().buffered == 699
        await second.send(post(bytes(700))[:-1])
        answer = await second.answer()
        assert answer.status == 503
        assert answer.headers["retry-after"] == answer.headers["x-ratelimit-reset"] == "5"
        assert answer.headers["connection"] == "close"
        await first.send(b"\0")
        assert (await first.answer()).status == 200
        assert wire.server.statistics().buffered == 0
        await third.send(*(post(bytes(700))[at : at + 99] for at in range(0, 800, 99)))
        assert (await third.answer()).status == 200
        assert wire.server.statistics().refused == {"overloaded": 1}


async def test_one_connection_too_many_is_told_to_return() -> None:
    async with on_tcp(Recorder(), Limits(connections=2)) as port:
        clients = [await port.dial() for _ in range(2)]
        for client in clients:
            await client.send(GET)
            await client.answer()
        late = await port.dial()
        await late.stream.send_all(post(bytes(100_000)))
        answer = await late.answer()
        assert answer.status == 503
        assert answer.headers["retry-after"] == answer.headers["x-ratelimit-reset"] == "5"
        assert await late.rest() == b""
        await clients[0].stream.aclose()
        await late.stream.aclose()
        await wait_all_tasks_blocked(0.01)
        assert port.server.statistics().connections == 1
        again = await port.dial()
        await again.send(GET)
        assert (await again.answer()).status == 200


async def test_a_flood_of_connections_is_dropped() -> None:
    async with serving(Recorder(), Limits(connections=2)) as wire:
        clients = [wire.connect() for _ in range(100)]
        await wait_all_tasks_blocked()
        assert wire.server.statistics().connections == 2 + 64
        assert wire.server.statistics().refused == {"too_many_connections": 98}
        assert [await client.rest() for client in clients[66:]] == [b""] * 34


# Time: the clock is virtual

TIMEOUTS = Limits(head_timeout=10, body_timeout=30, idle_timeout=75)


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        pytest.param(b"", 75, None, id="idle from the start"),
        pytest.param(b"P", 10, 408, id="in the head"),
        pytest.param(post(b"{}")[:-3], 10, 408, id="at the end of the head"),
        pytest.param(post(b"{}")[:-1], 30, 408, id="in the body"),
        pytest.param(post(chunks=[b"{}"])[:-2], 30, 408, id="in a chunked body"),
    ],
)
async def test_a_client_that_stops_sending_is_let_go(
    autojump_clock: MockClock, sent: bytes, seconds: float, status: int | None
) -> None:
    async with serving(Recorder(), TIMEOUTS) as wire:
        client = wire.connect()
        start = trio.current_time()
        if sent:
            await client.send(sent)
        if status is not None:
            answer = await client.answer()
            assert answer.status == status
            assert answer.headers["connection"] == "close"
        assert await client.rest() == b""
        assert seconds <= trio.current_time() - start <= seconds + 2.1


async def test_a_client_that_drips_is_not_given_more_time(autojump_clock: MockClock) -> None:
    async with serving(Recorder(), TIMEOUTS) as wire:
        head, body = wire.connect(), wire.connect()
        await body.send(post(bytes(200))[:-200])
        for byte in post(bytes(200))[:9]:
            await head.send(bytes([byte]))
            await body.send(b"\0")
            await trio.sleep(1.5)
        assert (await head.answer()).status == 408
        for _ in range(13):
            await body.send(b"\0")
            await trio.sleep(1.5)
        assert (await body.answer()).status == 408


async def test_idle_time_starts_again_after_an_answer(autojump_clock: MockClock) -> None:
    async with serving(Recorder(), TIMEOUTS) as wire:
        client = wire.connect()
        for _ in range(3):
            await client.send(GET)
            assert (await client.answer()).status == 200
            await trio.sleep(70)
        start = trio.current_time()
        assert await client.rest() == b""
        assert 5 <= trio.current_time() - start <= 7.1


async def test_a_handler_may_take_its_time(autojump_clock: MockClock) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep(1000)
        return OK

    async with serving(handler, TIMEOUTS) as wire:
        client = wire.connect()
        await client.send(GET)
        assert (await client.answer()).status == 200


async def test_a_client_that_does_not_take_its_answer_is_let_go(autojump_clock: MockClock) -> None:
    async with serving(Recorder(), TIMEOUTS, pair=lockstep_stream_pair) as wire:
        client = wire.connect()
        await client.stream.send_all(GET)
        start = trio.current_time()
        await until(lambda: not wire.server.connections, seconds=100)
        assert 30 <= trio.current_time() - start <= 33


@pytest.mark.parametrize("request_", [post(b"{}", "Connection: close"), b"nonsense\n"])
async def test_a_client_that_does_not_close_after_its_last_answer_is_let_go(
    autojump_clock: MockClock, request_: bytes
) -> None:
    async with serving(Recorder(), TIMEOUTS) as wire:
        client = wire.connect()
        await client.send(request_)
        await trio.sleep(2.1)
        assert not wire.server.connections


async def test_the_clock_is_as_fine_as_the_shortest_timeout(autojump_clock: MockClock) -> None:
    async with serving(Recorder(), Limits(head_timeout=0.4)) as wire:
        client = wire.connect()
        start = trio.current_time()
        await client.send(b"G")
        assert (await client.answer()).status == 408
        assert 0.4 <= trio.current_time() - start <= 0.7


# Harm that stays where it was done


class ExpectedError(Exception):
    pass


def raises(error: BaseException) -> Handler:
    async def handler(request: Request) -> Response:
        if request.path == "/v1/t":
            return OK
        raise error

    return handler


async def bad_header(request: Request) -> Response:
    return OK if request.path == "/v1/t" else Response(200, b"", (("X-Origin", "a\r\nb"),))


@pytest.mark.parametrize(
    "handler",
    [
        raises(ExpectedError("boom")),
        raises(ExceptionGroup("several", [ExpectedError("boom")])),
        raises(OSError(errno.ENOSPC, "disk full")),
        raises(trio.BrokenResourceError()),
        bad_header,
    ],
)
async def test_a_handler_that_raises_is_logged_once_and_answered_500(handler: Handler) -> None:
    with capture_logs() as logs:
        async with serving(handler) as wire:
            client, other = wire.connect(), wire.connect()
            await other.send(GET)
            await client.send(post(b"{}", path="/boom") + GET)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (500, "close")
            assert b'"success":false,"code":"internal_error"' in answer.body
            assert await client.rest() == b""
            await other.send(GET)
            assert [(await other.answer()).status for _ in range(2)] == [200, 200]
            assert wire.server.statistics().failed == 1
    assert [log["log_level"] for log in logs] == ["error"]


@pytest.mark.parametrize("sent", [b"", b"P", post(b"{}")[:-1], post(chunks=[b"{}"])[:-2], post(b"{}")])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_is_no_error(sent: bytes, reset: bool) -> None:
    handler = Gate()
    with capture_logs() as logs:
        async with on_tcp(handler) as port:
            client = await port.dial()
            if sent:
                await client.stream.send_all(sent)
            await until(lambda: port.server.connections)
            if reset:
                assert isinstance(client.stream, trio.SocketStream)
                client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.stream.aclose()
            handler.open()
            await until(lambda: not port.server.connections)
    assert {log["log_level"] for log in logs} <= {"debug"}


class Crashing(trio.abc.Stream):
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        raise ExpectedError("a stream of a kind we do not know")

    async def send_all(self, data: object) -> None:
        raise NotImplementedError

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_connection_that_crashes_is_logged_and_ends_alone() -> None:
    pairs = iter([(Crashing(), Crashing()), memory_stream_pair()])
    with capture_logs() as logs:
        async with serving(Recorder(), pair=lambda: next(pairs)) as wire:
            wire.connect()
            client = wire.connect()
            await client.send(GET)
            assert (await client.answer()).status == 200
            assert wire.server.statistics().connections == 1
    assert [log["log_level"] for log in logs] == ["error"]


class Failing(trio.abc.Listener[trio.abc.Stream]):
    """Its accept raises the errors, one after the other."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)
        self.closed = False

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop(0)
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_out_of_file_descriptors_is_logged_once_and_waited_for(autojump_clock: MockClock) -> None:
    listener = Failing(*(OSError(errno.EMFILE, "too many open files") for _ in range(5)))
    server = Server(Recorder(), Limits())
    with capture_logs() as logs, trio.move_on_after(10):
        await server.serve([listener])
    assert not listener.errors
    assert listener.closed
    assert len(logs) == 1


async def test_a_listener_that_breaks_ends_the_server_and_closes_the_others() -> None:
    listeners = [Failing(OSError(errno.EBADF, "bad file")), Failing()]
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        await Server(Recorder(), Limits()).serve(listeners)
    assert all(listener.closed for listener in listeners)


# Drain and cancellation


async def test_draining_closes_idle_connections_at_once() -> None:
    async with serving(Recorder()) as wire:
        used = wire.connect()
        await used.send(GET)
        await used.answer()
        wire.server.drain()
        assert await used.rest() == b""
        await wire.finished.wait()
        wire.server.drain()


async def test_draining_still_answers_a_connection_that_was_accepted_before_it_asks(
    autojump_clock: MockClock,
) -> None:
    async with serving(Recorder()) as wire:
        asks, stays_silent = wire.connect(), wire.connect()
        await wait_all_tasks_blocked()
        wire.server.drain()
        await trio.sleep(0.5)
        await asks.send(GET)
        answer = await asks.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        began = trio.current_time()
        assert await stays_silent.rest() == b""
        assert trio.current_time() - began < 4
        await wire.finished.wait()


async def test_draining_finishes_the_requests_that_have_begun() -> None:
    handler = Gate()
    async with serving(handler) as wire:
        handled, in_head, in_body = wire.connect(), wire.connect(), wire.connect()
        await handled.send(GET + GET)
        await in_head.send(GET[:10])
        await in_body.send(post(b"{}")[:-1])
        wire.server.drain()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            wire.connect()  # nobody listens any more
        await in_head.send(GET[10:])
        await in_body.send(b"}")
        assert handler.waiting == 3
        assert not wire.finished.is_set()
        handler.open()
        for client in (handled, in_head, in_body):
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await client.rest() == b""
            await client.stream.aclose()
        await wire.finished.wait()


async def test_draining_before_serving_serves_nobody() -> None:
    server, listener = Server(Recorder(), Limits()), Failing()
    server.drain()
    await server.serve([listener])
    assert listener.closed


SCENARIO = [
    post(b"{}"),
    post(b"{}", "Expect: 100-continue")[:-2],
    b"{}",
    *(post(chunks=[b"{", b"}"])[at : at + 40] for at in range(0, 120, 40)),
    post(bytes(100_000)),
    b"nonsense\n",
]
Pair = Callable[[], tuple[trio.StapledStream[Any, Any], trio.StapledStream[Any, Any]]]


async def cancel_after(ticks: int, pair: Pair) -> bool:
    """Cancel a server that many turns of the scheduler after a conversation began; whether it had ended by then."""
    client_end, server_end = pair()
    ended = False

    async def talk(client: Client) -> None:
        nonlocal ended
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.rest)
                for piece in SCENARIO:
                    await client.stream.send_all(piece)
                await client.stream.aclose()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        ended = True

    handler = Gate()
    handler.open()
    async with serving(handler, pair=lambda: (client_end, server_end)) as wire, trio.open_nursery() as nursery:
        nursery.start_soon(talk, wire.connect())
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        finished_first = ended
        wire.cancel()
    assert handler.waiting == 0
    with pytest.raises(trio.ClosedResourceError):
        await server_end.send_all(b"x")
    return finished_first


@pytest.mark.parametrize("pair", [memory_stream_pair, lockstep_stream_pair])
async def test_nothing_is_left_wherever_the_server_is_cancelled(pair: Pair) -> None:
    ticks = 0
    while not await cancel_after(ticks, pair):
        ticks += 1
        assert ticks < 1000
    assert ticks > 10


# TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """The server's key and chain."""
    path = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """The client's, which trusts the server."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_requests_over_tls(certificate: Path, context: ssl.SSLContext) -> None:
    handler = Recorder()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with on_tcp(handler, certificate=certificate) as port:
        client = await port.dial(context)
        await client.stream.send_all(post(bytes(200_000)) + post(b"{}", "Connection: close"))
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        assert await client.rest() == b""
        assert isinstance(client.stream, trio.SSLStream)
        assert client.stream.selected_alpn_protocol() == "http/1.1"
    assert [(request.scheme, request.peer) for request in handler.requests] == [("https", "127.0.0.1")] * 2


async def test_over_tls_too_a_refusal_can_be_read(certificate: Path, context: ssl.SSLContext) -> None:
    async with on_tcp(Recorder(), Limits(body=500_000, connections=1), certificate) as port:
        client = await port.dial(context)
        await client.stream.send_all(post(bytes(2_000_000)))
        assert (await client.answer()).status == 400
        late = await port.dial(context)
        await late.stream.send_all(GET)
        assert (await late.answer()).status == 503
        for each in (client, late):
            await trio.aclose_forcefully(each.stream)


async def test_plain_text_on_a_tls_port_harms_nobody(certificate: Path, context: ssl.SSLContext) -> None:
    with capture_logs() as logs:
        async with on_tcp(Recorder(), certificate=certificate) as port:
            plain, client = await port.dial(), await port.dial(context)
            await plain.stream.send_all(GET)
            await plain.rest()
            await client.stream.send_all(GET)
            assert (await client.answer()).status == 200
            await trio.aclose_forcefully(client.stream)
            await wait_all_tasks_blocked(0.01)
    assert {log["log_level"] for log in logs} <= {"debug"}


async def test_tls_on_a_plain_port_is_refused_at_once() -> None:
    async with on_tcp(Recorder()) as port:
        client = await port.dial(ssl.create_default_context())
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
            await client.stream.send_all(GET)
        assert port.server.statistics().refused == {"malformed_request": 1}


async def test_a_handshake_that_is_not_finished_is_let_go(certificate: Path, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.01  # the kernel's sockets are not on this clock
    async with on_tcp(Recorder(), TIMEOUTS, certificate) as port:
        client = await port.dial()
        await client.stream.send_all(b"\x16\x03\x01")
        start = trio.current_time()
        assert await client.rest() == b""
        assert 10 <= trio.current_time() - start <= 12.1
