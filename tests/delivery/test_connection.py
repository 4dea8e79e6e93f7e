"""HTTP/1.1 without a network: what is written, and that any bytes read give an answer or a named fault, in bounds."""

from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.delivery.connection import Answer, AnswerReader, Limits, encode_head, parse_target
from relayd.delivery.wire import Origin

LIMITS = Limits(max_response=100, max_head=400, max_headers=5)


def read(*chunks: bytes, method: str = "POST", eof: bool = False, limits: Limits = LIMITS) -> tuple[Answer, bool]:
    """The answer that ``chunks`` make, and whether the connection may carry another."""
    reader = AnswerReader(limits)
    reader.start(method)
    for chunk in chunks:
        assert not reader.done
        reader.feed(chunk)
    if eof:
        reader.feed_eof()
    assert reader.done
    return reader.answer(), reader.keep_alive


OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = {
    "content-length": (OK + b"content-length: 2\r\n\r\nhi", b"hi", True),
    "no body": (OK + b"content-length: 0\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", b"hi", True),
    "chunked": (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n", b"hi", True),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n", b"hi", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", True),
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi", b"hi", True),
    "103": (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi", b"hi", True),
    "close": (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"hi", False),
    "1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", False),
    "1.0 keep-alive": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", b"hi", True),
    "offers h2": (OK + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi", b"hi", True),
}
UNTIL_CLOSE = {
    "1.1": OK + b"\r\nhi",
    "1.0": b"HTTP/1.0 200 OK\r\n\r\nhi",
    "an unknown coding": OK + b"transfer-encoding: gzip\r\n\r\nhi",
}
GARBAGE = {
    "another protocol": b"220 mail.example ESMTP\r\n",
    "binary": bytes(range(256)),
    "status 000": b"HTTP/1.1 000 Zero\r\n\r\n",
    "status 99": b"HTTP/1.1 099 Low\r\n\r\n",
    "unasked upgrade": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n",
    "length and chunked": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "huge length": OK + b"content-length: 99999999999999999999\r\n\r\n",
    "bad chunk": OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "endless head": OK + b"x: " + b"y" * 500,
    "endless status line": b"HTTP/1.1 200 " + b"y" * 500,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    "endless chunk extension": OK + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * 500,
    "endless trailers": OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 100,
    "many headers": OK + b"x: y\r\n" * 6 + b"\r\n",
}


@pytest.mark.parametrize(("raw", "body", "kept"), WHOLE.values(), ids=WHOLE)
def test_an_answer_ends_where_it_says(raw: bytes, body: bytes, kept: bool) -> None:
    answer, keep_alive = read(raw)
    assert (answer.body, answer.truncated, keep_alive) == (body, False, kept)
    assert answer.header("link") is answer.header("x-sum") is None, "neither an interim answer's nor a trailer"
    assert read(*(raw[i : i + 1] for i in range(len(raw)))) == (answer, kept), "byte by byte"


@given(raw=st.sampled_from([raw for raw, _, _ in WHOLE.values()]), cuts=st.lists(st.integers(1, 200), max_size=6))
def test_how_an_answer_is_cut_into_segments_does_not_matter(raw: bytes, cuts: list[int]) -> None:
    places = [0, *sorted({cut for cut in cuts if cut < len(raw)}), len(raw)]
    assert read(*(raw[a:b] for a, b in pairwise(places))) == read(raw)


@pytest.mark.parametrize("raw", UNTIL_CLOSE.values(), ids=UNTIL_CLOSE)
def test_an_answer_without_a_length_ends_with_the_connection(raw: bytes) -> None:
    answer, keep_alive = read(raw, eof=True)
    assert (answer.body, keep_alive) == (b"hi", False)


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_what_is_not_an_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        read(raw)
    assert "%" not in str(caught.value)


@pytest.mark.parametrize("raw", [raw[:-1] for name, (raw, _, _) in WHOLE.items()], ids=WHOLE)
def test_an_answer_cut_short_is_a_fault_with_a_cause(raw: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="closed the connection in the middle of") as caught:
        read(raw, eof=True)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_no_answer_at_all_is_a_fault_with_a_cause() -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="closed the connection before") as caught:
        read(eof=True)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("more", [OK, b"x", b"\0", OK + b"content-length: 2\r\n\r\nno"])
@pytest.mark.parametrize("name", ["content-length", "chunked", "204", "close"])
def test_bytes_behind_an_answer_spoil_the_connection_and_not_the_answer(name: str, more: bytes) -> None:
    raw, body, _ = WHOLE[name]
    answer, keep_alive = read(raw + more)
    assert (answer.body, keep_alive) == (body, False)
    assert answer.headers == read(raw)[0].headers


def test_a_head_answer_has_no_body_whatever_its_length_says() -> None:
    answer, keep_alive = read(OK + b"content-length: 2\r\n\r\n", method="HEAD")
    assert (answer.status, answer.body, keep_alive) == (200, b"", False)
    assert read(OK + b"content-length: 2\r\n\r\nhi", method="HEAD") == (answer, False)


@pytest.mark.parametrize(
    "framing", [b"content-length: %d\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n%x\r\n", b"\r\n"]
)
def test_a_body_is_cut_at_the_cap(framing: bytes) -> None:
    answer, keep_alive = read(OK + (framing % 101 if b"%" in framing else framing) + b"x" * 101)
    assert (answer.body, answer.truncated, keep_alive) == (b"x" * 100, True, False)


def test_a_body_of_exactly_the_cap_is_whole() -> None:
    answer, keep_alive = read(OK + b"content-length: 100\r\n\r\n" + b"x" * 100)
    assert (len(answer.body), answer.truncated, keep_alive) == (100, False, True)


def test_tiny_chunks_are_no_fault() -> None:
    answer, _ = read(OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100 + b"0\r\n\r\n")
    assert answer.body == b"x" * 100


@given(st.lists(st.binary(max_size=300) | st.sampled_from([raw for raw, _, _ in WHOLE.values()]), max_size=20))
def test_no_bytes_break_the_reader_or_its_bounds(chunks: list[bytes]) -> None:
    reader = AnswerReader(LIMITS)
    try:
        for chunk in chunks:
            reader.feed(chunk)
            if reader.done:
                break
        reader.feed_eof()
    except httpx.RemoteProtocolError:
        return
    answer = reader.answer()
    assert 200 <= answer.status <= 999
    assert len(answer.body) <= LIMITS.max_response
    assert len(answer.headers) <= LIMITS.max_headers


def test_an_answers_headers_are_found_in_any_case() -> None:
    answer, _ = read(OK + b"Retry-After: 7\r\ncontent-length: 0\r\n\r\n")
    assert answer.header("retry-after") == answer.header("RETRY-AFTER") == "7"
    assert answer.header("date") is None


def head(method: str = "POST", url: str = "http://h/", length: int = 0, **headers: str) -> bytes:
    return with_headers({name.replace("_", "-"): value for name, value in headers.items()}, method, url, length)


def with_headers(headers: dict[str, str], method: str = "POST", url: str = "http://h/", length: int = 0) -> bytes:
    return encode_head(method, parse_target(url), headers.items(), length)


def test_a_head_is_written_once_and_whole() -> None:
    assert head(url="http://h:81/p?q=1", length=5, X_A="1", X_B="ü") == (
        b"POST /p?q=1 HTTP/1.1\r\nhost: h:81\r\nx-a: 1\r\nx-b: \xfc\r\n"
        b"accept-encoding: identity\r\ncontent-length: 5\r\n\r\n"
    )


def test_the_framing_is_ours_and_the_rest_the_callers() -> None:
    written = head(length=5, Host="other", Content_Length="9", Transfer_Encoding="chunked", Accept_Encoding="gzip")
    assert written == b"POST / HTTP/1.1\r\nhost: other\r\naccept-encoding: gzip\r\ncontent-length: 5\r\n\r\n"


def test_only_methods_that_have_no_body_go_without_a_length() -> None:
    assert b"content-length" not in head("GET")
    assert b"content-length: 0" in head("POST")
    assert b"content-length: 3" in head("GET", length=3)


def test_the_urls_password_authorizes_unless_the_caller_does() -> None:
    assert b"authorization: Basic dXM6cC93\r\n" in head(url="http://us:p%2Fw@h/")
    assert head(url="http://us:pw@h/", Authorization="Bearer t").count(b"authorization") == 1


@pytest.mark.parametrize("value", ["a\r\nevil: 1", "a\nevil: 1", "a\rb", "a\0b", "a\r\n\r\nGET /", "€"])
def test_a_value_can_not_smuggle_a_header(value: str) -> None:
    for name in ("x-a", "host", "authorization", "accept-encoding"):
        with pytest.raises(httpx.LocalProtocolError) as caught:
            with_headers({name: value})
        assert "evil" not in str(caught.value), "the message may be logged, the value may be a secret"


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ü"])
def test_a_name_must_be_a_token(name: str) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        with_headers({name: "1"})


def test_a_method_must_be_a_token() -> None:
    with pytest.raises(httpx.LocalProtocolError):
        head("GET / HTTP/1.1\r\nx: ")


@pytest.mark.parametrize(
    ("url", "origin", "host", "path"),
    [
        ("http://h", Origin("http", "h", 80), "h", "/"),
        ("https://h/a b?ü", Origin("https", "h", 443), "h", "/a%20b?%C3%BC"),
        ("https://h:443/#f", Origin("https", "h", 443), "h", "/"),
        ("http://[::1]:8080/x", Origin("http", "::1", 8080), "[::1]:8080", "/x"),
        ("http://bücher.example/", Origin("http", "xn--bcher-kva.example", 80), "xn--bcher-kva.example", "/"),
        ("http://u:p@h/", Origin("http", "h", 80), "h", "/"),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: Origin, host: str, path: str) -> None:
    target = parse_target(url)
    assert (target.origin, target.host, target.path) == (origin, host, path)


@pytest.mark.parametrize("url", ["ftp://h/", "h/path", "", "http:///x", "file:///etc"])
def test_a_url_must_be_http_with_a_host(url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        parse_target(url)
