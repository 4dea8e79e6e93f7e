"""The key by which a receiver recognises an event, or a batch, that it was sent before.

A retry of the same events has the same key. A key is visible ASCII, at most 300 characters, fit for a header.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import quote

import msgspec
from msgspec import Struct

_PLAIN = re.compile(r"[!-$&-~]+")  # visible ASCII without "%"
_RESERVED = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


class _Identified(Struct, rename="camel"):
    message_id: str


_decode = msgspec.json.Decoder(_Identified).decode


def message_id(event: bytes) -> str:
    """The messageId of an encoded event; the journal gives every event one."""
    return _decode(event).message_id


def event_key(event: bytes) -> str:
    """The messageId itself. What a header can not hold, and "%", is percent-encoded, so that no two ids share a key."""
    own = message_id(event)
    return own if _PLAIN.fullmatch(own) else quote(own, safe=_RESERVED)


def batch_key(events: Sequence[bytes]) -> str:
    """A digest of the messageIds in their order: 32 hexadecimal digits."""
    return blake2b(msgspec.json.encode([message_id(event) for event in events]), digest_size=16).hexdigest()
