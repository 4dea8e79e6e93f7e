"""Heads, chunked bodies and answers, as bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.listener.message import (
    CHUNKED,
    ChunkedBody,
    RequestError,
    Response,
    check_partial_head,
    parse_head,
    refusal,
)


def head(*lines: str, start: str = "POST /v1/t HTTP/1.1") -> bytes:
    return "\r\n".join((start, *(lines or ("Host: relayd",)))).encode("latin-1")


def test_a_head_becomes_a_request() -> None:
    request = parse_head(
        head(
            "Host: relayd:8088", "X-CUSTOM:  a b\t", "Content-Length:12", "accept:", start="PUT /a%20b?c=d?e HTTP/1.1"
        ),
        max_headers=4,
    )
    assert (request.method, request.path, request.query) == ("PUT", "/a%20b", "c=d?e")
    assert request.headers == {"host": "relayd:8088", "x-custom": "a b", "content-length": "12", "accept": ""}
    assert (request.length, request.keep_alive, request.http10) == (12, True, False)


def test_repeated_headers_are_joined_in_order() -> None:
    assert parse_head(head("Host: a", "X-A: 1", "x-a: 2"), 9).headers["x-a"] == "1, 2"


def test_bytes_above_ascii_are_kept_as_latin_1() -> None:
    assert parse_head(head("Host: a", "X-A: \xa0\xe9\x85"), 9).headers["x-a"] == "\xa0\xe9\x85"


@pytest.mark.parametrize(
    ("start", "lines", "keep_alive"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: close",), False),
        ("GET / HTTP/1.1", ("Connection: Keep-Alive , Close",), False),
        ("GET / HTTP/1.1", ("Connection: upgrade", "Connection: close"), False),
        ("GET / HTTP/1.0", (), False),
        ("GET / HTTP/1.0", ("Connection: Keep-Alive",), True),
        ("GET / HTTP/1.0", ("Connection: keep-alive, close",), False),
    ],
)
def test_who_may_keep_the_connection(start: str, lines: tuple[str, ...], keep_alive: bool) -> None:
    assert parse_head(head("Host: a", *lines, start=start), 9).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("http://other:1/a?b", "/a", "b", "other:1"),
        ("HTTPS://other", "/", "", "other"),
        ("http://other?b", "/", "b", "other"),
        ("http://[::1]:80/a", "/a", "", "[::1]:80"),
        ("//a/b", "//a/b", "", "relayd"),
    ],
)
def test_an_absolute_target_names_the_host(target: str, path: str, query: str, host: str) -> None:
    request = parse_head(head("Host: relayd", start=f"GET {target} HTTP/1.1"), 9)
    assert (request.path, request.query, request.headers["host"]) == (path, query, host)


def test_options_of_the_whole_server() -> None:
    assert parse_head(head("Host: a", start="OPTIONS * HTTP/1.1"), 9).path == "*"


def test_http_1_0_needs_no_host() -> None:
    assert parse_head(b"GET / HTTP/1.0", 9).headers == {}


@pytest.mark.parametrize("host", ["relayd", "relayd:8088", "127.0.0.1", "[::1]:8088", "my_service.local:", "a%20b"])
def test_hosts_that_are_hosts(host: str) -> None:
    assert parse_head(head(f"Host: {host}"), 9).headers["host"] == host


@pytest.mark.parametrize(
    "refused",
    [
        head("Host:"),
        head("Host: a b"),
        head("Host: a/b"),
        head("Host: user@a"),
        head("Host: [::1"),
        head("Host: a:b"),
        head("Host: a, b"),
        head("Host: a", start="GET http:///a HTTP/1.1"),
        head("Host: a", start="GET http://user@b/ HTTP/1.1"),
        head("Host: a", start="GET ftp://b/ HTTP/1.1"),
        head("Host: a", start="GET a/b HTTP/1.1"),
        head("Host: a", start="GET * HTTP/1.1"),
        head("Host: a", start="CONNECT a:443 HTTP/1.1"),
        head("Host: a", start="CONNECT / HTTP/1.1"),
        head("Host: a", start="GET /\xe9 HTTP/1.1"),
        head("Host: a", start="GET /a b HTTP/1.1"),
        head("Host: a", start="GET  / HTTP/1.1"),
        head("Host: a", start="GET\t/ HTTP/1.1"),
        head("Host: a", start="G(T / HTTP/1.1"),
        head("Host: a", start="GET / HTTP/1.1 "),
        head("Host: a", start="GET / http/1.1"),
        head("Host: a", start="GET / HTTP/1.10"),
        head("Host: a", start="GET /"),
        head("Host: a", start=""),
        b"",
    ],
)
def test_heads_that_are_none(refused: bytes) -> None:
    with pytest.raises(RequestError) as error:
        parse_head(refused, 9)
    assert error.value.code == "malformed_request"
    assert error.value.response.status == 400


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9", "HTTP/3.0"])
def test_other_versions_are_named(version: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_head(head("Host: a", start=f"PRI /x {version}"), 9)
    assert error.value.response.status == 505


def test_one_header_too_many_is_431() -> None:
    with pytest.raises(RequestError) as error:
        parse_head(head("Host: a", "A: 1", "B: 2"), 2)
    assert error.value.response.status == 431


@pytest.mark.parametrize("expectation", ["100-continue-please", "200-ok", "100-continue, 100-continue"])
def test_an_expectation_that_can_not_be_met_is_417(expectation: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_head(head("Host: a", f"Expect: {expectation}"), 9)
    assert error.value.response.status == 417


@pytest.mark.parametrize(
    "data", [b"", b"G", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nA: b\r\n", b"GET / HTTP/1.1\r\nA: b\r\n\r"]
)
def test_a_head_may_come_in_pieces(data: bytes) -> None:
    check_partial_head(data, 100)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nA\0", b"a\rb\nc"]
)
def test_what_can_not_become_a_head_is_refused_before_it_ends(data: bytes) -> None:
    with pytest.raises(RequestError):
        check_partial_head(data, 100)


# Chunked bodies


@given(
    chunks=st.lists(
        st.tuples(st.binary(min_size=1, max_size=300), st.sampled_from([b"", b";a", b";a=b", b';a="\t;"']))
    ),
    trailers=st.lists(st.sampled_from([b"A: b\r\n", b"X-Checksum: 3\r\n", b"Host-A:\r\n"]), max_size=3),
    rest=st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 2000)),
    zeros=st.integers(0, 15),
)
def test_a_chunked_body_is_decoded_however_it_is_cut(
    chunks: list[tuple[bytes, bytes]], trailers: list[bytes], rest: bytes, cuts: list[int], zeros: int
) -> None:
    body = b"".join(chunk for chunk, _ in chunks)
    encoded = b"".join(b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk, extension in chunks)
    encoded += b"0" * zeros + b"0\r\n" + b"".join(trailers) + b"\r\n"
    places = sorted({0, *(cut for cut in cuts if cut < len(encoded)), len(encoded)})
    pieces = [encoded[start:end] for start, end in pairwise(places)]
    decoder = ChunkedBody(len(body), 1000)
    *firsts, last = pieces
    for piece in firsts:
        assert not decoder.feed(piece)
    assert decoder.feed(last + rest)
    assert (bytes(decoder.body), decoder.rest) == (body, rest)


@pytest.mark.parametrize(
    "encoded",
    [
        b"\r\n",
        b"x\r\n",
        b"0x3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"-3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3_0\r\n",
        b"3\nabc\r\n",
        b"3\r\r\nabc\r\n",
        b"3;a\0\r\nabc\r\n",
        b"3;a\rb\r\nabc\r\n",
        b"3 ;a\r\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nab\r\n0\r\n\r\n",
        b"10000000000000000\r\n",
        b"00000000000000000\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n b\r\n\r\n",
        b"0\r\ncontent-length: 3\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\0\r\n\r\n",
        b"0\r\n\n",
        b"3;" + b"a" * 1500,
        b"1;" + b"a" * 900 + b"\r\n1\r\n" + b"1;" + b"a" * 900 + b"\r\n1\r\n",
        b"0\r\n" + b"A: b\r\n" * 200,
    ],
)
def test_chunks_that_are_none(encoded: bytes) -> None:
    with pytest.raises(RequestError) as error:
        assert not ChunkedBody(1000, 1000).feed(encoded)
    assert error.value.code == "malformed_request"


def test_a_chunked_body_is_refused_at_the_size_that_is_too_much() -> None:
    decoder = ChunkedBody(4, 100)
    assert not decoder.feed(b"3\r\nabc\r\n")
    with pytest.raises(RequestError) as error:
        decoder.feed(b"2\r\n")
    assert error.value.code == "body_too_large"


# Answers


def test_an_answer_on_the_wire() -> None:
    answer = Response(200, b"{}")
    expected = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert answer.wire == expected
    assert answer.wire is answer.wire
    assert answer.encode(head_only=True) == expected[:-2]
    assert b"\r\nConnection: close\r\n" in answer.encode(keep_alive=False)
    assert b"\r\nConnection: close\r\n" in answer.encode(keep_alive=False, http10=True)
    assert b"\r\nConnection: keep-alive\r\n" in answer.encode(http10=True)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_has_no_length(status: int) -> None:
    assert b"Length" not in Response(status, headers=()).wire


def test_an_unknown_status_has_no_phrase() -> None:
    assert Response(299, headers=()).wire.startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "\u20ac"])
def test_a_header_can_not_smuggle_another_into_the_answer(value: str) -> None:
    with pytest.raises(ValueError, match=r"line break|latin-1"):
        Response(200, headers=(("X-Origin", value),)).encode()


def test_a_503_tells_every_sdk_when_to_return() -> None:
    wire = refusal(503, "overloaded", "Later.").encode(keep_alive=False)
    assert b"\r\nRetry-After: 5\r\n" in wire
    assert b"\r\nX-RateLimit-Reset: 5\r\n" in wire
    assert wire.endswith(b'{"success":false,"code":"overloaded","message":"Later."}')


def test_a_length_says_how_a_body_is_framed() -> None:
    assert parse_head(head("Host: a", "Transfer-Encoding: Chunked"), 9).length == CHUNKED
    assert parse_head(head("Host: a", "Content-Length: 007"), 9).length == 7
    assert parse_head(head("Host: a"), 9).length == 0
