"""Segment: events go on to a Tracking API, of Segment or of another relayd.

Facts (segment.com/docs/connections/sources/catalog/libraries/server/http-api):

- ``POST /v1/batch`` takes ``{"batch": [...], "sentAt": ISO 8601}``. Basic authentication's user name is the write key.
- A batch has at most 500 KB (before compression) and 2,500 events, an event 32 KB. A KB is 1,024 bytes, as in Segment's
  SDKs (analytics-python: ``MAX_MSG_SIZE = 32 << 10``). What is larger may be dropped behind a 200; relayd does that
  to an event of a batch. So it is not sent: `Segment.requests` raises ``ValueError``, and delivery holds the event.
- ``sentAt`` is the time of the attempt: the receiver corrects an event's ``timestamp`` by how far it is from its own
  clock. It wins over a ``sentAt`` that an event has from its first hop.
- The receiver drops an event whose messageId it has seen within a day, so a retry does no harm. No header is needed.
"""

import gzip
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from relayd.config.model import KB, doc, secret
from relayd.destinations.base import Destination, InvalidSettings, Request
from relayd.destinations.endpoint import USER_AGENT, check_url
from relayd.destinations.idempotency import message_id
from relayd.destinations.settings import DestinationSettings

MAX_EVENTS = 2500
MAX_BODY = 500 * KB
"""Bytes of a body before compression, at most."""
MAX_EVENT = 32 * KB
"""Bytes of an event, at most."""

_HEAD = b'{"batch":['
_TAIL = b'],"sentAt":"%s"}'
_ENVELOPE = len(_HEAD) + len(_TAIL % b"2026-01-01T00:00:00.000Z")


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """Which Tracking API, and as which of its sources."""

    write_key: Annotated[str, secret("the write key of the source there", min_length=1, example="WRITE_KEY")]
    endpoint: Annotated[
        str,
        doc("its /v1/batch; in the EU https://events.eu1.segmentapis.com/v1/batch; another relayd's is fine too"),
    ] = "https://api.segment.io/v1/batch"
    gzip: Annotated[bool, doc("whether bodies are compressed")] = True


class Segment(Destination[Settings]):
    """Forwards events to a Tracking API."""

    type = "segment"
    settings = Settings
    batch_size = 100
    max_batch_size = MAX_EVENTS
    batch_bytes = MAX_BODY - _ENVELOPE - (MAX_EVENTS - 1)
    """A full batch, its commas and its envelope fit into `MAX_BODY`."""

    def check(self, settings: Settings) -> None:
        check_url("endpoint", settings.endpoint)
        if ":" in settings.write_key or not settings.write_key.isprintable():
            raise InvalidSettings("write_key must not hold a colon or a control character")

    def requests(
        self,
        action: str,
        settings: Settings,
        mapping: Mapping[str, object] | None,
        events: Sequence[bytes],
        *,
        batch: bool,
        now: float,
    ) -> list[Request]:
        assert mapping is None, "Segment is sent events as they are"
        if not events:
            return []
        for event in events:
            if len(event) > MAX_EVENT:
                raise ValueError(
                    f"event {message_id(event)!r} has {len(event)} bytes, a Tracking API takes {MAX_EVENT}"
                )
        credentials = b64encode(f"{settings.write_key}:".encode()).decode()
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "authorization": f"Basic {credentials}",
        }
        if settings.gzip:
            headers["content-encoding"] = "gzip"
        sent_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        tail = _TAIL % sent_at.encode()
        bodies = (_HEAD + b",".join(each) + tail for each in ([events] if batch else [[event] for event in events]))
        return [
            Request("POST", settings.endpoint, headers, gzip.compress(body, 1, mtime=0) if settings.gzip else body)
            for body in bodies
        ]
