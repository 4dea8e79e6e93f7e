"""File: every event a line of a file on this host (JSON Lines, jsonlines.org), for other tools to read.

A request is ``APPEND file:///PATH`` whose body is whole lines; ``relayd.delivery.file_transport`` carries it out, and
rotates by what the headers say: ``max-size`` in bytes and ``keep`` in files, 0 meaning no limit. A line holds its
messageId, by which a reader drops the few that come twice after a crash.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from relayd.config.model import doc
from relayd.config.units import Size
from relayd.destinations.base import Destination, InvalidSettings, Request
from relayd.destinations.settings import DestinationSettings


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """Which file, and how much of it is kept."""

    path: Annotated[str, doc("absolute path; its directory must be there", example="/var/lib/relayd/events.jsonl")]
    max_size: Annotated[Size, doc("a file that would grow larger is first renamed to NAME-TIME; 0B: never")] = Size(
        100 * 2**20
    )
    keep: Annotated[int, doc("renamed files that are kept, the oldest go first; 0: all", ge=0)] = 0


class File(Destination[Settings]):
    """Appends events to a file."""

    type = "file"
    settings = Settings
    batch_size = 1000
    max_batch_size = 10_000

    def check(self, settings: Settings) -> None:
        if not settings.path.startswith("/") or settings.path.endswith("/"):
            raise InvalidSettings("path must be the absolute path of a file, such as /var/lib/relayd/events.jsonl")
        if not settings.path.isprintable():
            raise InvalidSettings("path must not hold control characters")

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
        assert mapping is None, "events are written as they are"
        if not events:
            return []
        url = Path(settings.path).as_uri()
        headers = {"max-size": str(int(settings.max_size)), "keep": str(settings.keep)}
        bodies = [b"\n".join(events) + b"\n"] if batch else [event + b"\n" for event in events]
        return [Request("APPEND", url, headers, body) for body in bodies]
