"""h11, an independent parser, is fed the same bytes: it must find the same requests."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import h11
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct

from relayd.listener.http import Limits
from tests.listener.wire import Recorder, serving


class Found(Struct, frozen=True):
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def find(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Found:
    """What both parsers can say alike: h11 lower-cases a coding, and we join headers of one name."""
    names = [name for name, _ in headers]
    kept = [(n, v) for n, v in headers if names.count(n) == 1 and n != "transfer-encoding" and ", " not in v]
    return Found(method, target.removesuffix("?"), tuple(sorted(kept)), body)


def by_h11(data: bytes) -> list[Found]:
    """The requests that h11 finds, until the connection ends or it objects."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(data)
    found: list[Found] = []
    try:
        while True:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return found
            body = bytearray()
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                return found
            headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
            found.append(find(request.method.decode(), request.target.decode(), headers, bytes(body)))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return found
            connection.start_next_cycle()
    except h11.RemoteProtocolError:
        return found


async def by_us(pieces: Sequence[bytes]) -> list[Found]:
    """The requests that our server hands to its handler, until the connection ends."""
    handler = Recorder()
    async with serving(handler, Limits(head=2**20, headers=1000)) as wire:
        client = wire.connect()
        await client.send(*pieces)
        await client.stream.aclose()
    found = []
    for request in handler.requests:
        found.append(find(request.method, f"{request.path}?{request.query}", request.headers.items(), request.body))
        if request.http10:  # h11 closes, we may not
            break
    return found


token = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12)
methods = st.one_of(
    st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "DELETE"]), token.filter(lambda m: m not in ("CONNECT", "HEAD"))
)
targets = st.from_regex(r"/[!->@-~]{0,30}(\?[!-~]{1,20})?", fullmatch=True)
values = st.from_regex(
    r"([!-+\--~\x80-\xff]([\t !-+\--~\x80-\xff]{0,30}[!-+\--~\x80-\xff])?)?", fullmatch=True
)  # no comma
framed = {
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
    "upgrade",
    "authorization",
    "content-type",
}
fields = st.tuples(
    token.filter(lambda name: name.lower() not in framed), st.sampled_from(["", " ", "\t", "  "]), values
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A valid request, framed in one of the two ways."""
    lines = [f"{name}:{space}{value}{space}" for name, space, value in draw(st.lists(fields, max_size=6))]
    body = draw(st.binary(max_size=200))
    if draw(st.booleans()):
        lines.append("transfer-encoding: " + draw(st.sampled_from(["chunked", "Chunked", "CHUNKED"])))
        cuts = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=4))})
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b c"']))
        chunks = [body[a:b] for a, b in pairwise(cuts)]
        trailers = draw(st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nB:c\r\n"]))
        body = (
            b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
            + b"0\r\n"
            + trailers
            + b"\r\n"
        )
    elif body or draw(st.booleans()):
        lines.append(f"Content-Length: {len(body)}")
    lines.insert(draw(st.integers(0, len(lines))), "Host: relayd:80")
    start = f"{draw(methods)} {draw(targets)} HTTP/1.1"
    return "\r\n".join((start, *lines, "", "")).encode("latin-1") + body


streams = st.lists(requests(), min_size=1, max_size=3)
places = st.lists(st.integers(0, 2000), max_size=6)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place for place in at if place < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]


@given(stream=streams, at=places)
async def test_valid_requests_are_read_as_h11_reads_them(stream: list[bytes], at: list[int]) -> None:
    data = b"".join(stream)
    ours = await by_us(cut(data, at))
    assert len(ours) == len(stream)
    assert ours == by_h11(data)


tampering = st.tuples(
    st.integers(0, 400),
    st.integers(0, 3),
    st.sampled_from(
        [
            *(b"\r", b"\n", b"\0", b" ", b"\t", b":", b";", b",", b"\r\n", b"\r\n\r\n", b"\x0b", b"\x7f", b"\xff", b""),
            *(b"0", b"1", b"a", b"0\r\n\r\n", b"\r\n ", b"chunked", b"HTTP/1.0", b"HTTP/2.0", b"x" * 20),
            *(b"\r\nContent-Length: 1\r\n", b"\r\nTransfer-Encoding: chunked\r\n", b"\r\nHost: b\r\n", b"\r\nX: y\r\n"),
            *(
                b"\r\nConnection: close\r\n",
                b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n",
                b"\r\nExpect: 100-continue\r\n",
            ),
        ]
    ),
)


@given(stream=streams, tampered=st.lists(tampering, min_size=1, max_size=4), at=places)
@example(stream=[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], tampered=[(0, 0, b"\r\n")], at=[])
async def test_what_h11_refuses_is_never_handled_as_something_else(
    stream: list[bytes], tampered: list[tuple[int, int, bytes]], at: list[int]
) -> None:
    data = b"".join(stream)
    for place, removed, inserted in tampered:
        data = data[:place] + inserted + data[place + removed :]
    ours = await by_us(cut(data, at))
    theirs = by_h11(data)
    assert [(found.method, found.target, found.body) for found in ours] == [
        (found.method, found.target, found.body) for found in theirs[: len(ours)]
    ]
