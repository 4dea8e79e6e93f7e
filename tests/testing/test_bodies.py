"""What a sink reads from a body."""

import gzip

import pytest

from relayd.testing import bodies

A, B = b'{"messageId":"a","properties":{"x":[1, 2]}}', b'{"messageId":"b"}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (A, [A]),
        (b"  " + A + b"\r\n", [A]),
        (b"[" + A + b" , " + B + b"]", [A, B]),
        (b"[]", []),
        (b'{"batch":[' + A + b"," + B + b'],"sentAt":"2026-01-01T00:00:00Z"}', [A, B]),
        (b'{"batch":[]}', []),
        (A + b"\n" + B + b"\n", [A, B]),
        (b'{"messageId":"a","batch":[1]}', [b'{"messageId":"a","batch":[1]}']),
    ],
    ids=["one", "spaces", "array", "no events", "batch", "empty batch", "lines", "an event that has a batch"],
)
def test_each_shape_gives_its_events_as_they_were_sent(body: bytes, expected: list[bytes]) -> None:
    assert bodies.events(body) == expected
    assert bodies.events(gzip.compress(body), encoding="gzip") == expected


@pytest.mark.parametrize(
    ("body", "encoding", "why"),
    [
        (b"", "", "empty"),
        (b" \n", "", "empty"),
        (b"a=1&b=2", "", "not events"),
        (b'{"messageId":', "", "not events"),
        (b'{"batch":1}', "", "not events"),
        (b"[" + A, "", "not events"),
        (A, "gzip", "not gzip"),
        (gzip.compress(A)[:-9], "gzip", "cut short"),
        (A, "br", "neither gzip nor identity"),
    ],
)
def test_anything_else_is_refused_with_a_reason(body: bytes, encoding: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        bodies.events(body, encoding=encoding)


def test_a_body_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_INFLATED", 1000)
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        bodies.events(gzip.compress(b"[" + b" " * 100_000 + b"]"), encoding="gzip")


def test_message_id_is_empty_where_there_is_none() -> None:
    assert bodies.message_id(A) == "a"
    assert bodies.message_id(b"{}") == ""
    with pytest.raises(ValueError, match="not an event"):
        bodies.message_id(b"[1]")
