"""Requests with two readings: each must be refused, and what another reading would find in it never handled."""

import pytest

from relayd.listener.http import Limits
from tests.listener.wire import Recorder, serving

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: relayd\r\n\r\n"


def head(*lines: bytes, start: bytes = b"POST /first HTTP/1.1\r\n") -> bytes:
    return start + b"".join(lines) + b"\r\n"


HOST = b"Host: relayd\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY_CHUNKS = b"0\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)

PROBES = {
    # Content-Length and Transfer-Encoding
    "CL.TE": head(HOST, b"Content-Length: 5\r\n", CHUNKED) + EMPTY_CHUNKS,
    "TE.CL": head(HOST, CHUNKED, b"Content-Length: 5\r\n") + EMPTY_CHUNKS,
    "CL.TE with a zero length": head(HOST, b"Content-Length: 0\r\n", CHUNKED) + EMPTY_CHUNKS,
    "two lengths": head(HOST, b"Content-Length: 0\r\n", LENGTH),
    "two equal lengths": head(HOST, b"Content-Length: 0\r\n", b"Content-Length: 0\r\n"),
    "a list of lengths": head(HOST, b"Content-Length: 0, 42\r\n"),
    "a list of equal lengths": head(HOST, b"Content-Length: 0, 0\r\n"),
    "a length with a sign": head(HOST, b"Content-Length: +0\r\n"),
    "a negative length": head(HOST, b"Content-Length: -1\r\n"),
    "a hexadecimal length": head(HOST, b"Content-Length: 0x0\r\n"),
    "a length with an underscore": head(HOST, b"Content-Length: 0_0\r\n"),
    "a length with a space": head(HOST, b"Content-Length: 0 0\r\n"),
    "a fractional length": head(HOST, b"Content-Length: 0.0\r\n"),
    "an empty length": head(HOST, b"Content-Length: \r\n"),
    "a length in other digits": head(HOST, b"Content-Length: \xb2\r\n"),
    "a length over 2**64": head(HOST, b"Content-Length: 18446744073709551616\r\n"),
    "a length of a thousand digits": head(HOST, b"Content-Length: " + b"0" * 1000 + b"\r\n"),
    "a length of ten thousand digits": head(HOST, b"Content-Length: " + b"1" * 10_000 + b"\r\n"),
    "a length that an underscore hides": head(
        HOST, b"Content_Length: 0\r\n", b"Content-Length: 0\r\nContent-Length: 1\r\n"
    ),
    "two codings": head(HOST, CHUNKED, CHUNKED) + EMPTY_CHUNKS,
    "a chunked and an identity": head(HOST, CHUNKED, b"Transfer-Encoding: identity\r\n") + EMPTY_CHUNKS,
    "TE: xchunked": head(HOST, b"Transfer-Encoding: xchunked\r\n") + EMPTY_CHUNKS,
    "TE: gzip, chunked": head(HOST, b"Transfer-Encoding: gzip, chunked\r\n") + EMPTY_CHUNKS,
    "TE: chunked, identity": head(HOST, b"Transfer-Encoding: chunked, identity\r\n") + EMPTY_CHUNKS,
    "TE: chunked, chunked": head(HOST, b"Transfer-Encoding: chunked, chunked\r\n") + EMPTY_CHUNKS,
    "TE: identity": head(HOST, b"Transfer-Encoding: identity\r\n"),
    "TE: gzip": head(HOST, b"Transfer-Encoding: gzip\r\n"),
    "TE: empty": head(HOST, b"Transfer-Encoding: \r\n") + EMPTY_CHUNKS,
    "TE: quoted": head(HOST, b'Transfer-Encoding: "chunked"\r\n') + EMPTY_CHUNKS,
    "TE: with a parameter": head(HOST, b"Transfer-Encoding: chunked;a=b\r\n") + EMPTY_CHUNKS,
    "TE: with a vertical tab": head(HOST, b"Transfer-Encoding:\x0bchunked\r\n") + EMPTY_CHUNKS,
    "TE: with a no-break space": head(HOST, b"Transfer-Encoding: chunked\xa0\r\n") + EMPTY_CHUNKS,
    "TE: cut by NUL": head(HOST, b"Transfer-Encoding: chunked\0x\r\n") + EMPTY_CHUNKS,
    "TE on HTTP/1.0": head(HOST, CHUNKED, start=b"POST /first HTTP/1.0\r\n") + EMPTY_CHUNKS,
    # Names and lines
    "a space before the colon": head(HOST, b"Content-Length : 0\r\n"),
    "a tab before the colon": head(HOST, b"Transfer-Encoding\t: chunked\r\n"),
    "a folded coding": head(HOST, b"Transfer-Encoding:\r\n chunked\r\n") + EMPTY_CHUNKS,
    "a folded line": head(HOST, b"X: a\r\n\tContent-Length: 42\r\n"),
    "a fold before the first header": head(b" Host: relayd\r\n", HOST),
    "a bare LF in a header": head(HOST, b"X: a\nContent-Length: 42\r\n"),
    "a bare CR in a header": head(HOST, b"X: a\rContent-Length: 42\r\n"),
    "a bare CR before CRLF": head(HOST, b"X: a\r\r\n"),
    "bare LF throughout": head(HOST, LENGTH).replace(b"\r\n", b"\n"),
    "a head that ends in a bare LF": head(HOST, LENGTH)[:-2] + b"\n",
    "a request line that ends in LF": head(HOST, start=b"POST /first HTTP/1.1\n"),
    "a request line that ends in CR": head(HOST, start=b"POST /first HTTP/1.1\r"),
    "NUL in a name": head(HOST, b"Content-\0Length: 0\r\n"),
    "NUL in a value": head(HOST, b"X: a\0b\r\n"),
    "NUL in the target": head(HOST, start=b"POST /fir\0st HTTP/1.1\r\n"),
    "an empty name": head(HOST, b": 0\r\n"),
    "no colon": head(HOST, b"Content-Length\r\n"),
    "a name in Latin-1": head(HOST, b"Content-Length\xa0: 0\r\n"),
    "an empty line first": b"\r\n" + head(HOST),
    # Hosts and targets
    "no Host": head(),
    "two Hosts": head(HOST, b"Host: other\r\n"),
    "two equal Hosts": head(HOST, HOST),
    "a Host with a path": head(b"Host: relayd/other\r\n"),
    "two Authorizations": head(HOST, b"Authorization: Basic YTo=\r\n", b"Authorization: Basic Yjo=\r\n"),
    "a relative target": head(HOST, start=b"POST first HTTP/1.1\r\n"),
    "a target with a space": head(HOST, start=b"POST /first second HTTP/1.1\r\n"),
    "a target with a tab": head(HOST, start=b"POST /first\tHTTP/1.1\r\n"),
    "a target for a proxy of another kind": head(HOST, start=b"POST gopher://first HTTP/1.1\r\n"),
    "CONNECT": head(HOST, start=b"CONNECT first:443 HTTP/1.1\r\n"),
    "HTTP/0.9": b"GET /first\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version with a space": head(HOST, start=b"POST /first HTTP/1. 1\r\n"),
    "a lower-case version": head(HOST, start=b"POST /first http/1.1\r\n"),
    # Chunks
    "a chunk size with 0x": head(HOST, CHUNKED) + b"0x0\r\n\r\n",
    "a chunk size with a sign": head(HOST, CHUNKED) + b"+0\r\n\r\n",
    "a chunk size with a space": head(HOST, CHUNKED) + b"0 \r\n\r\n",
    "a chunk size after a space": head(HOST, CHUNKED) + b" 0\r\n\r\n",
    "an empty chunk size": head(HOST, CHUNKED) + b";a\r\n0\r\n\r\n",
    "a chunk size over 2**64": head(HOST, CHUNKED) + b"10000000000000000\r\n",
    "a chunk size that ends in LF": head(HOST, CHUNKED) + b"0\n\r\n",
    "a chunk size that ends in CR": head(HOST, CHUNKED) + b"0\rX\n\r\n",
    "an extension with a bare LF": head(HOST, CHUNKED) + b"0;a\nb\r\n\r\n",
    "an extension with a bare CR": head(HOST, CHUNKED) + b"0;a\rb\r\n\r\n",
    "an extension with NUL": head(HOST, CHUNKED) + b"0;a\0b\r\n\r\n",
    "a chunk longer than its size": head(HOST, CHUNKED) + b"1\r\nab\r\n0\r\n\r\n",
    "a chunk shorter than its size": head(HOST, CHUNKED) + b"3\r\na\r\n0\r\n\r\n",
    "a chunk that ends in LF": head(HOST, CHUNKED) + b"1\r\na\n0\r\n\r\n",
    "a chunk that does not end": head(HOST, CHUNKED) + b"1\r\na0\r\n\r\n",
    "a body that ends in LF": head(HOST, CHUNKED) + b"0\r\n\n",
    "a trailer without a colon": head(HOST, CHUNKED) + b"0\r\nX\r\n\r\n",
    "a length as a trailer": head(HOST, CHUNKED) + b"0\r\n" + LENGTH + b"\r\n",
    "a coding as a trailer": head(HOST, CHUNKED) + b"0\r\n" + CHUNKED + b"\r\n",
    "a Host as a trailer": head(HOST, CHUNKED) + b"0\r\n" + HOST + b"\r\n",
    "a folded trailer": head(HOST, CHUNKED) + b"0\r\nX: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("split", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_a_request_with_two_readings_is_refused(probe: bytes, split: bool) -> None:
    handler = Recorder()
    async with serving(handler) as wire:
        client = wire.connect()
        data = probe + HIDDEN
        if split:
            await client.send(*(data[at : at + 1] for at in range(400)))
            data = data[400:]
        await client.stream.send_all(data)
        answer = await client.answer()
        assert answer.status in (400, 505)
        assert answer.headers["connection"] == "close"
        assert b'"success":false,"code":"' in answer.body
        assert b'"message":"' in answer.body
        await client.stream.aclose()
    assert not handler.requests


BENIGN = {
    "an Upgrade": head(HOST, b"Connection: upgrade\r\nUpgrade: h2c\r\n", LENGTH) + HIDDEN,
    "a websocket": head(HOST, b"Connection: upgrade\r\nUpgrade: websocket\r\n", LENGTH) + HIDDEN,
    "a chunked Upgrade": head(HOST, b"Connection: upgrade\r\nUpgrade: h2c\r\n", CHUNKED)
    + b"%x\r\n" % len(HIDDEN)
    + HIDDEN
    + b"\r\n0\r\n\r\n",
    "a body on GET": head(HOST, LENGTH, start=b"GET /first HTTP/1.1\r\n") + HIDDEN,
    "a body on OPTIONS": head(HOST, LENGTH, start=b"OPTIONS * HTTP/1.1\r\n") + HIDDEN,
    "a body on a method of its own": head(HOST, LENGTH, start=b"SEARCH /first HTTP/1.1\r\n") + HIDDEN,
    "a length that Connection names": head(HOST, LENGTH, b"Connection: content-length\r\n") + HIDDEN,
    "names in other cases": head(b"hOST: relayd\r\n", b"cOnTeNt-lEnGtH:%d \t\r\n" % len(HIDDEN)) + HIDDEN,
}


@pytest.mark.parametrize("request_", BENIGN.values(), ids=BENIGN)
async def test_a_body_is_never_a_request(request_: bytes) -> None:
    handler = Recorder()
    async with serving(handler) as wire:
        client = wire.connect()
        await client.stream.send_all(request_ + head(HOST, start=b"GET /second HTTP/1.1\r\n"))
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [request.body for request in handler.requests] == [HIDDEN, b""]
    assert handler.requests[1].path == "/second"
    assert handler.requests[0].headers.get("content-length") in (None, str(len(HIDDEN)))


LIMITS = {
    "a megabyte of one header": (head(HOST, b"X: " + b"a" * 1_000_000), 431),
    "a megabyte of request line": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 431),
    "a megabyte of nothing": (b"a" * 1_000_000, 431),
    "20,000 headers": (head(HOST, b"X: a\r\n" * 20_000), 431),
    "2,000 short headers": (head(HOST, b"X:\r\n" * 2000), 431),
    "a megabyte of chunk size": (head(HOST, CHUNKED) + b"0" * 1_000_000, 400),
    "a megabyte of extensions": (head(HOST, CHUNKED) + (b"1;" + b"a" * 500 + b"\r\na\r\n") * 2000, 400),
    "a megabyte of trailers": (head(HOST, CHUNKED) + b"0\r\n" + b"A: b\r\n" * 180_000, 400),
}


@pytest.mark.parametrize(("flood", "status"), LIMITS.values(), ids=LIMITS)
async def test_a_flood_is_refused_at_its_limit(flood: bytes, status: int) -> None:
    handler = Recorder()
    async with serving(handler, Limits(head=16_000, headers=1000)) as wire:
        client = wire.connect()
        await client.stream.send_all(flood)
        assert (await client.answer()).status == status
        await client.stream.aclose()
    assert not handler.requests
