"""The key by which a receiver recognises an event, or a batch, that it was sent before.

A retry of the same events has the same key. A key is visible ASCII, at most 300 characters, fit for a header.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import quote

import msgspec
from msgspec import Struct

_LONGEST = 300
_PLAIN = re.compile(r"[!-$&-~]+")  # visible ASCII without "%"
_RESERVED = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


class _Identified(Struct, rename="camel"):
    message_id: str


_decode = msgspec.json.Decoder(_Identified).decode


def message_id(event: bytes) -> str:
    """The messageId of an encoded event; the journal gives every event one."""
    return _decode(event).message_id


def event_key(event: bytes) -> str:
    """The messageId itself, as `key_of`."""
    return key_of(message_id(event))


def batch_key(events: Sequence[bytes]) -> str:
    """A digest of the messageIds in their order, as `joint_key`."""
    return joint_key([message_id(event) for event in events])


def key_of(own: str) -> str:
    """An id as a key. What a header can not hold, and "%", is percent-encoded, so that no two ids share a key.

    An id whose key would be too long has the `joint_key` of itself alone.
    """
    key = own if _PLAIN.fullmatch(own) else quote(own, safe=_RESERVED)
    return key if len(key) <= _LONGEST else joint_key([own])


def joint_key(ids: Sequence[str]) -> str:
    """A digest of some ids in their order: 32 hexadecimal digits."""
    return blake2b(msgspec.json.encode(ids), digest_size=16).hexdigest()
