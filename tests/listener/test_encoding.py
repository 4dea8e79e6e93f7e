"""gzip bodies: undone whole, or refused."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.listener.encoding import EncodingError, inflate


@given(st.lists(st.binary(max_size=500), min_size=1, max_size=4))
def test_members_are_inflated_one_after_the_other(members: list[bytes]) -> None:
    body = b"".join(gzip.compress(member) for member in members)
    assert inflate(body, 2000) == b"".join(members)


def test_the_limit_is_exact() -> None:
    body = gzip.compress(b"a" * 1000)
    assert inflate(body, 1000) == b"a" * 1000
    with pytest.raises(EncodingError, match="larger than 999 bytes"):
        inflate(body, 999)


def test_the_limit_counts_all_members() -> None:
    with pytest.raises(EncodingError, match="larger"):
        inflate(gzip.compress(b"a" * 600) * 2, 1000)


@pytest.mark.parametrize("nested", [False, True])
def test_a_bomb_stops_at_the_limit(nested: bool) -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(EncodingError, match="larger"):
            inflate(gzip.compress(b"") * 3 + bomb if nested else bomb, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_every_truncation_is_an_error() -> None:
    body = gzip.compress(b"hello, hello, hello")
    for end in range(len(body)):
        with pytest.raises(EncodingError, match="truncated"):
            inflate(body[:end], 1000)


@pytest.mark.parametrize("garbage", [b"\0", b"garbage", b"{}", b"\x1f"])
def test_what_follows_is_an_error(garbage: bytes) -> None:
    with pytest.raises(EncodingError):
        inflate(gzip.compress(b"hello") + garbage, 1000)


@pytest.mark.parametrize("body", [b"{}", zlib.compress(b"{}"), b"\x1f\x8b\x09" + bytes(20)])
def test_what_is_no_gzip_is_an_error(body: bytes) -> None:
    with pytest.raises(EncodingError, match="not valid gzip"):
        inflate(body, 1000)


def test_a_wrong_checksum_is_an_error() -> None:
    body = bytearray(gzip.compress(b"hello"))
    body[-6] ^= 1
    with pytest.raises(EncodingError, match="not valid gzip"):
        inflate(bytes(body), 1000)


def test_members_are_bounded_because_each_costs_a_copy_of_the_rest() -> None:
    with pytest.raises(EncodingError, match="more than 64 members"):
        inflate(gzip.compress(b"") * 65, 1000)
