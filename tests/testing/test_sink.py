"""The sink over a real socket: what it records, and each way in which it fails."""

import gzip
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from relayd.listener.sockets import BindError
from relayd.testing.faults import Faults, Kind
from relayd.testing.sink import Received, Sink, open_sink

read = Path.read_bytes


def event(number: int) -> bytes:
    return b'{"type":"track","messageId":"m-%d"}' % number


def post(body: bytes, *headers: bytes, target: bytes = b"/in?a=1") -> bytes:
    head = [b"POST " + target + b" HTTP/1.1", b"Host: sink", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def connect(sink: Sink) -> trio.SocketStream:
    parts = urlsplit(sink.url)
    assert parts.hostname
    assert parts.port
    return await trio.open_tcp_stream(parts.hostname, parts.port)


async def receive(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(10):
        return bytes(await stream.receive_some())


async def exchange(sink: Sink, body: bytes, *headers: bytes) -> bytes:
    """All that comes back until the connection ends."""
    answer = b""
    with trio.fail_after(10):
        async with await connect(sink) as stream:
            await stream.send_all(post(body, b"Connection: close", *headers))
            async for data in stream:
                answer += data
    return answer


async def status(sink: Sink, body: bytes, *headers: bytes) -> int:
    return int((await exchange(sink, body, *headers)).split()[1])


async def test_accepted_requests_are_recorded_as_they_came() -> None:
    async with open_sink() as sink:
        assert await status(sink, event(1), b"Idempotency-Key: m-1") == 200
        assert await status(sink, b"[" + event(2) + b"," + event(3) + b"]") == 200
        batch = gzip.compress(b'{"batch":[' + event(1) + b'],"sentAt":"now"}')
        assert await status(sink, batch, b"Content-Encoding: gzip") == 200
        with trio.fail_after(10):
            await sink.wait_accepted(4)
    assert sink.accepted == {"m-1": 2, "m-2": 1, "m-3": 1}
    first = sink.requests[0]
    assert (first.method, first.target, first.status, first.accepted) == ("POST", "/in?a=1", 200, True)
    assert first.headers["idempotency-key"] == "m-1"
    assert [request.events for request in sink.requests] == [(event(1),), (event(2), event(3)), (event(1),)]
    assert (sink.statistics().accepted_requests, sink.statistics().accepted_events) == (3, 4)


async def test_a_body_that_holds_no_events_is_answered_400() -> None:
    async with open_sink() as sink:
        answer = await exchange(sink, b"a=1")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"not events" in answer
        assert await status(sink, b"[1]") == 400
    assert sink.statistics().rejected == 2
    assert sink.statistics().accepted_events == 0
    assert not sink.requests[0].accepted


@pytest.mark.parametrize("memory", ["ids", "counts"])
async def test_memory_can_be_bounded(memory: str) -> None:
    async with open_sink(memory="ids" if memory == "ids" else "counts") as sink:
        for number in range(3):
            assert await status(sink, event(number)) == 200
    assert sink.requests == []
    assert len(sink.accepted) == (3 if memory == "ids" else 0)
    assert sink.statistics().accepted_events == 3


async def test_the_record_has_every_accepted_event_as_a_line_before_the_answer_leaves(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_bytes(event(0) + b"\n")
    seen: list[bytes] = []
    async with open_sink(record=record, watch=lambda _: seen.append(record.read_bytes())) as sink:
        assert await status(sink, b'[{\n  "messageId": "m-1"\r\n},' + event(2) + b"]") == 200
        sink.faults = Faults(share=1)
        assert await status(sink, event(3)) == 503
    lines = read(record).splitlines()
    assert [json.loads(line)["messageId"] for line in lines] == ["m-0", "m-1", "m-2"], "appended to; no failed ones"
    assert seen == [read(record)] * 2


async def test_a_record_that_can_not_be_written_and_a_bind_that_is_taken_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with open_sink(record=tmp_path / "nowhere" / "record.jsonl"):
            raise AssertionError("unreachable")
    async with open_sink() as sink:
        with pytest.raises(BindError):
            async with open_sink(urlsplit(sink.url).netloc, record=tmp_path / "record.jsonl"):
                raise AssertionError("unreachable")


async def test_requests_share_a_connection_and_may_be_pipelined() -> None:
    async with open_sink(memory="counts") as sink, await connect(sink) as stream:
        await stream.send_all(b"".join(post(event(number)) for number in range(100)))
        with trio.fail_after(10):
            await sink.wait_accepted(100)
    assert sink.statistics().requests == 100


async def test_a_failing_message_succeeds_when_it_is_tried_again() -> None:
    async with open_sink(faults=Faults(share=1, attempts=2, status=429, retry_after=1.5)) as sink:
        answer = await exchange(sink, event(1))
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 2\r\n" in answer
        assert [await status(sink, event(1)) for _ in range(2)] == [429, 200]
        assert await status(sink, event(2)) == 429, "each message has attempts of its own"
    assert sink.accepted == {"m-1": 1}
    assert sink.statistics().faults == {"status": 3}
    assert [request.fault for request in sink.requests] == ["status", "status", None, "status"]


async def test_a_batch_fails_as_its_first_event_does() -> None:
    faults = Faults(share=0.1)
    bad = next(number for number in range(1000) if faults.fault(f"m-{number}", 1))
    good = next(number for number in range(1000) if not faults.fault(f"m-{number}", 1))
    async with open_sink(faults=faults) as sink:
        assert await status(sink, b"[" + event(good) + b"," + event(bad) + b"]") == 200
        assert await status(sink, b"[" + event(bad) + b"," + event(good) + b"]") == 503


async def test_faults_can_be_replaced_while_it_runs() -> None:
    async with open_sink(faults=Faults(share=1, attempts=0)) as sink:
        assert [await status(sink, event(1)) for _ in range(3)] == [503] * 3
        sink.faults = Faults()
        assert await status(sink, event(1)) == 200


@pytest.mark.parametrize("kind", ["hang", "reset", "close", "garbage", "endless"])
async def test_a_fault_below_http_ends_its_own_connection_and_no_other(kind: Kind) -> None:
    async with open_sink(faults=Faults(share=1, kinds=(kind,))) as sink, await connect(sink) as stream:
        await stream.send_all(post(event(1)))
        match kind:
            case "hang":
                with trio.fail_after(10):
                    await sink.wait_requests(1)
                with trio.move_on_after(0.01):
                    raise AssertionError(f"{await stream.receive_some()!r} came")
            case "reset":
                with pytest.raises(trio.BrokenResourceError):
                    await receive(stream)
            case "close":
                assert await receive(stream) == b""
            case "garbage":
                data = await receive(stream)
                assert not data.startswith(b"HTTP/")
                assert await receive(stream) == b""
            case "endless":
                size = 0
                while size < 5_000_000:
                    data = await receive(stream)
                    assert data
                    size += len(data)
        await stream.aclose()
        assert await status(sink, event(1)) == 200, "the next attempt succeeds"
    assert sink.statistics().faults == {kind: 1}
    assert sink.accepted == {"m-1": 1}


async def test_a_dripped_answer_comes_byte_by_byte_and_is_whole(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.002
    async with open_sink(faults=Faults(share=1, kinds=("drip",), pause=0.01)) as sink, await connect(sink) as stream:
        await stream.send_all(post(event(1)))
        started, answer = trio.current_time(), b""
        while not answer.endswith(b"}"):
            answer += await receive(stream)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert trio.current_time() - started >= (len(answer) - 2) * 0.01


async def test_latency_comes_before_every_answer(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.002
    async with open_sink(faults=Faults(latency=3)) as sink, await connect(sink) as stream:
        started = trio.current_time()
        await stream.send_all(post(event(1)))
        assert (await receive(stream)).startswith(b"HTTP/1.1 200 ")
        assert trio.current_time() - started >= 3


async def test_a_unix_socket_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "sink.sock"
    async with open_sink(f"unix:{path}", faults=Faults(share=1, kinds=("reset",))) as sink:
        for expected in (b"", b"HTTP/1.1 200"):
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(post(event(1)))
                assert (await receive(stream))[:12] == expected
    assert sink.url == ""


async def test_drain_finishes_what_is_in_hand() -> None:
    async with open_sink() as sink, await connect(sink) as stream:
        await stream.send_all(post(event(1)))
        with trio.fail_after(10):
            await sink.wait_accepted(1)
        sink.drain()
        assert (await receive(stream)).startswith(b"HTTP/1.1 200")


def test_a_request_that_was_told_no_is_not_accepted() -> None:
    received = Received(0.0, "POST", "/", {}, (), 503, "status")
    assert not received.accepted
