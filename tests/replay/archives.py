"""Archived logs on the disk, and what a reader makes of them."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from pyzstd import CParameter, SeekableZstdFile

from relayd.replay.formats import CHUNK, ArchiveReader, Bad, files_of

SEGMENT_EVENT = {
    "anonymousId": "507f191e810c19729de860ea",
    "channel": "browser",
    "context": {"ip": "8.8.8.8", "library": {"name": "analytics.js", "version": "2.11.1"}, "page": {"path": "/café"}},
    "event": "Order Completed",
    "integrations": {"Amplitude": {"session_id": 123}},
    "messageId": "ajs-f8ca1e4de5024d9430b3928bd8ac6b96",
    "originalTimestamp": "2026-11-24T16:04:16.722Z",
    "projectId": "8tvmJ1eZ2e",
    "properties": {"total": 9.5, "url": "https://shop.test/?a=1"},
    "receivedAt": "2026-11-24T16:04:17.040Z",
    "sentAt": "2026-11-24T16:04:16.730Z",
    "timestamp": "2026-11-24T16:04:17.032Z",
    "type": "track",
    "userId": "ada",
    "version": 2,
    "writeKey": "a-secret-write-key",
    "_metadata": {"bundled": [], "unbundled": ["Amplitude"]},
}
"""As Segment's S3 destination writes one."""


def segment_line(number: int = 0, **fields: object) -> bytes:
    """`SEGMENT_EVENT` with another messageId, and other ``fields``; one that is None is left out."""
    event = SEGMENT_EVENT | {"messageId": f"m-{number}"} | fields
    return msgspec.json.encode({name: value for name, value in event.items() if value is not None}) + b"\n"


def write(path: Path, data: bytes, *, frame: int = 2**20) -> Path:
    """A file of an archive, compressed as its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(data, mtime=0))
    elif path.name.endswith(".zst"):
        options: dict[int, int] = {CParameter.checksumFlag: 1}
        with SeekableZstdFile(path, "w", level_or_option=options, max_frame_content_size=frame) as file:
            file.write(data)
    else:
        path.write_bytes(data)
    return path


class Read:
    """All that is in an archive from ``offset`` on."""

    def __init__(self, path: Path, offset: int = 0, *, source: str | None = None, chunk: int = CHUNK) -> None:
        self.lines: list[bytes] = []
        self.report: list[Bad] = []
        self.bad = 0
        self.offsets: list[tuple[int, int]] = [(offset, 0)]
        """Each place at which the reader stood, and how many events lay before it."""
        self.shares: list[float] = []
        reader = ArchiveReader(files_of(path), offset, source=source, report=self.report.append, chunk=chunk)
        while (piece := reader.next()) is not None:
            self.lines += piece.data.splitlines()
            self.bad += piece.bad
            self.offsets.append((reader.offset, len(self.lines)))
            self.shares.append(reader.share)
        reader.close()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.lines]

    @property
    def ids(self) -> list[str]:
        return [event["messageId"] for event in self.events]


def ids(numbers: Sequence[int]) -> list[str]:
    """The messageIds of `segment_line`."""
    return [f"m-{number}" for number in numbers]
