"""What the daemon and a function's process say to each other: frames of msgpack, each behind its length.

the process   Hello, once its file is imported or could not be
the daemon    Call
the process   Reply, one for each Call, in order
"""

from typing import Literal

import msgspec
from msgspec import Struct

HEADER = 4
"""Bytes of a frame's length, big-endian."""
MAX_FRAME = 64 * 2**20
"""Bytes of a frame, at most."""
MAX_EVENTS = 2500
"""Events that one request may become."""
MAX_PRINTED = 8192
"""Characters of what a call prints that are kept."""

Kind = Literal[
    "ok",
    "ValidationError",
    "InvalidEventPayload",
    "EventNotSupported",
    "InvalidSettings",
    "RetryError",
    "DropEvent",
    "Exception",
]
"""How a call, or an event of it, ended. "Exception" is any other error: a bug of the function."""

OK: Kind = "ok"


class Fault(Struct, frozen=True):
    """Why a file can not be imported."""

    message: str
    line: int | None = None


class Hello(Struct, frozen=True):
    """What a file is."""

    handlers: frozenset[str] = frozenset()
    """Its functions whose names begin with ``on_``."""
    fault: Fault | None = None


class RawRequest(Struct, frozen=True):
    """A request, as a function gets it and as it is kept for another try."""

    id: str
    """relayd's own. Events without a messageId are known by it, so that another try does not double them."""
    url: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class Call(Struct, frozen=True):
    """A request for ``on_request``, or events (JSON) for the handlers of a destination."""

    settings: dict[str, object]
    timeout: float
    """Seconds, after which the process is ended whatever it does."""
    request: RawRequest | None = None
    events: list[bytes] = []


class Verdict(Struct, frozen=True):
    """How a request, or one event, ended."""

    kind: Kind
    message: str = ""
    """The error, and where it was raised: ``ValueError: bad total (shop.py:12)``."""


class Reply(Struct, frozen=True):
    """What a call came to: one verdict for a request, else one for each event."""

    verdicts: list[Verdict]
    events: list[bytes] = []
    """What a request became, each as JSON."""
    printed: str = ""
    last: bool = False
    """Whether the process ends now: it has grown too large."""


encode = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_call = msgspec.msgpack.Decoder(Call).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def frame(message: Struct) -> bytes:
    """The bytes of a message. Raises ``ValueError`` when they are too many."""
    body = encode(message)
    if len(body) > MAX_FRAME:
        raise ValueError(f"{len(body)} bytes are more than a message of a function may have, {MAX_FRAME}")
    return len(body).to_bytes(HEADER, "big") + body
