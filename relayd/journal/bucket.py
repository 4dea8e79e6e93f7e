"""S3-compatible storage as a place for a copy of the archive. Needs obstore, the extra ``relayd[s3]``.

A segment's object has the name that its file has in the archive, ``PREFIX/DAY/OFFSET.jsonl.zst``, and is there whole or
not at all. An upload that is given up can leave parts that nobody sees; let the bucket's lifecycle rules remove
incomplete multipart uploads.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from relayd.config import model
from relayd.journal.copy import CopyFailed
from relayd.journal.segment import Folders, Segment

if TYPE_CHECKING:  # they are not there at run time
    from obstore.store import ClientConfig, RetryConfig, S3Config

TIMEOUT = timedelta(minutes=5)
"""For one request: a part of at most 5 MiB of a segment."""
CONNECT_TIMEOUT = timedelta(seconds=10)
CONCURRENCY = 2
"""Parts that are on their way at once."""

_CODE, _MESSAGE = re.compile(r"<Code>(.*?)</Code>"), re.compile(r"<Message>(.*?)</Message>")
_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}/([0-9]{20})\.jsonl\.zst$")
_CAUSE = re.compile(r'message: "(.*?)"')
_NOISE = re.compile(r"^Generic S3 error: | in [\d.]+\w*s(, after \d+ retries, [^-]*?)?(?= - )")


class Bucket:
    """A bucket, or a part of one."""

    name = "s3"

    def __init__(self, config: model.S3) -> None:
        """Connects to nothing yet."""
        prefix = config.prefix.strip("/")
        self.place = f"s3://{config.bucket}/{prefix}{f' at {config.endpoint}' if config.endpoint else ''}"
        settings: S3Config = {"region": config.region}
        if config.endpoint:
            settings["endpoint"] = config.endpoint.rstrip("/")
        if config.access_key_id:
            settings["access_key_id"] = config.access_key_id
            settings["secret_access_key"] = config.secret_access_key
        client: ClientConfig = {
            "allow_http": config.endpoint.startswith("http:"),
            "timeout": TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
        }
        retry: RetryConfig = {"max_retries": 2, "retry_timeout": TIMEOUT}
        self._store = S3Store(
            config.bucket, prefix=prefix or None, config=settings, client_options=client, retry_config=retry
        )

    def put(self, segment: Segment) -> None:
        """Upload a sealed segment. Blocks. Raises `CopyFailed`."""
        try:
            obstore.put(self._store, object_name(segment), segment.path, max_concurrency=CONCURRENCY)
        except (BaseError, OSError) as error:
            raise CopyFailed(reason(error)) from error

    def rewrite(self, log: Folders, before: int, work: Callable[[Segment], bool], scratch: Path) -> None:
        """See `Copy.rewrite`."""
        for base, name in self._names():
            path = scratch / name
            if base < before and not any(segment.base == base for segment in log.sealed()):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._fetch(name, path)
                    if work(Segment(base, path)):
                        self.put(Segment(base, path))
                finally:
                    path.unlink(missing_ok=True)

    def _names(self) -> list[tuple[int, str]]:
        """The segments that are there: their first offsets and their objects' names."""
        try:
            paths = [each["path"] for page in obstore.list(self._store) for each in page]
        except (BaseError, OSError) as error:
            raise CopyFailed(reason(error)) from error
        names = [(name := _NAME.search(path)) and (int(name[1]), name[0]) for path in paths]
        return sorted(name for name in names if name)

    def _fetch(self, name: str, path: Path) -> None:
        try:
            with path.open("wb") as file:
                for data in obstore.get(self._store, name).stream():
                    file.write(data)
        except (BaseError, OSError) as error:
            raise CopyFailed(reason(error)) from error


def object_name(segment: Segment) -> str:
    """What a segment is called in the bucket, behind the prefix."""
    return f"{segment.path.parent.name}/{segment.path.name}"


def reason(error: Exception) -> str:
    """An error of obstore in a line: what the storage says, or else what went wrong on the way to it."""
    text = str(error)
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    summary, _, debug = text.partition("\n\nDebug source")
    cause = _CAUSE.findall(debug)
    return _NOISE.sub("", " ".join(summary.split())) + (f": {cause[-1]}" if cause else "")
