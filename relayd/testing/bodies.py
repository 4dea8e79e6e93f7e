"""The events in a request to a destination: what a sink understands."""

import zlib

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

MAX_INFLATED = 64 * 2**20
"""Bytes of a body once inflated, at most."""


class _Object(Struct, rename="camel"):
    batch: Raw | UnsetType = UNSET
    message_id: Raw | UnsetType = UNSET


class _Identified(Struct, rename="camel"):
    message_id: str = ""


_raw = msgspec.json.Decoder(Raw)
_array = msgspec.json.Decoder(list[Raw])
_object = msgspec.json.Decoder(_Object)
_identified = msgspec.json.Decoder(_Identified)


def events(body: bytes, *, encoding: str = "") -> list[bytes]:
    """The events of a body, each as it was sent, in order. ``encoding`` is its Content-Encoding.

    A body is one event, an array of events, ``{"batch": [...]}``, or one event a line. Raises ``ValueError`` for
    anything else.
    """
    if encoding == "gzip":
        body = _inflate(body)
    elif encoding not in ("", "identity"):
        raise ValueError(f"content-encoding {encoding!r} is neither gzip nor identity")
    if not body.strip():
        raise ValueError("not events: the body is empty")
    try:
        if body.lstrip()[:1] == b"[":
            return [bytes(each) for each in _array.decode(body)]
        try:
            shape = _object.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # more than one value: lines
            return [bytes(each) for each in _raw.decode_lines(body)]
        if shape.batch is UNSET or shape.message_id is not UNSET:
            return [body.strip()]
        return [bytes(each) for each in _array.decode(shape.batch)]
    except msgspec.DecodeError as error:
        raise ValueError(f"not events: {error}") from None


def message_id(event: bytes) -> str:
    """The event's messageId; empty when it has none. Raises ``ValueError`` when it is no object."""
    try:
        return _identified.decode(event).message_id
    except msgspec.DecodeError as error:
        raise ValueError(f"not an event: {error}") from None


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, MAX_INFLATED)
    except zlib.error as error:
        raise ValueError(f"not gzip: {error}") from None
    if not inflater.eof:
        raise ValueError(f"the gzip body is cut short, or larger than {MAX_INFLATED} bytes")
    return inflated
