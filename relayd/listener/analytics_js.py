"""A first-party analytics.js: the files that the snippet in a web page asks for, from the installed npm package.

    /analytics.js/v1/{writeKey}/analytics.min.js   standalone.js, with the write key and our address in it
    /analytics-next/bundles/{name}                 what that loads in its turn

The address has to be in it: the script takes it from ``analytics._cdn``, else from a script tag whose address begins
with https://, else it is Segment's. So a line in front sets ``_cdn`` to where the script itself came from, behind any
proxy, unless the page has set it. A page that calls ``analytics`` by another name needs https.

Only files of the one folder are served: a name has no slash, no percent sign and no leading dot, and ends in ``.js`` or
``.js.map``. Files are read when they are asked for, in a thread, and kept until they change, up to `CACHED` bytes. What
has a digest of its content in its name may be kept by browsers for ever, the others for five minutes; after that the
ETag spares the transfer. A file that is missing is answered 404, one that can not be read 500, with a line in the log.
"""

import gzip
import hashlib
import os
import re
from pathlib import Path

import msgspec
import structlog
import trio
from msgspec import Struct

from relayd.config.analytics_js import PLACEHOLDER, SCRIPT
from relayd.listener.message import Request, Response

_log = structlog.get_logger(__name__)

CACHED = 4 * 2**20
"""Bytes of files and their compressed forms that are kept."""
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}(?:\.js|\.js\.map)")
_WITH_DIGEST = re.compile(r"[A-Za-z0-9-]+\.bundle\.[0-9a-f]{16,}\.js(?:\.map)?")
_FIRST_PARTY = (
    b"(function(s){if(!s||!s.src||(s.dataset.globalSegmentAnalyticsKey||'analytics')!=='analytics')return;"
    b"var a=window.analytics=window.analytics||[];a._cdn=a._cdn||s.src.split('/analytics.js/v1/')[0]"
    b"})(document.currentScript);\n"
)
_COMMON = (
    ("Vary", "Accept-Encoding"),
    ("X-Content-Type-Options", "nosniff"),
    ("Access-Control-Allow-Origin", "*"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)


class _Served(Struct, frozen=True):
    """A file as it is answered. It is of the file that has this ``stamp``."""

    stamp: tuple[int, int]
    body: bytes
    compressed: bytes
    digest: str


class Assets:
    """The files of one folder."""

    def __init__(self, folder: Path) -> None:
        """``folder`` as `relayd.config.analytics_js.find` has found it."""
        self._folder = folder
        self._cache: dict[tuple[str, str], _Served] = {}
        self._cached = 0

    async def script(self, write_key: str, request: Request) -> Response | None:
        """analytics.js for the source with this key; None when the folder has lost it."""
        return await self._answer(SCRIPT, write_key, request)

    async def bundle(self, name: str, request: Request) -> Response | None:
        """One of the files that it loads; None when there is none of this name."""
        return await self._answer(name, "", request) if _NAME.fullmatch(name) else None

    async def _answer(self, name: str, write_key: str, request: Request) -> Response | None:
        try:
            served = await trio.to_thread.run_sync(self._read, name, write_key, self._cache.get((name, write_key)))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            _log.error("a file of analytics.js can not be read", file=str(self._folder / name), error=error.strerror)
            raise
        self._keep((name, write_key), served)
        compress = _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{served.digest}{"-gzip" if compress else ""}"'
        headers = [
            ("Cache-Control", "public, max-age=31536000, immutable" if _is_fixed(name) else "public, max-age=300"),
            ("ETag", tag),
            *_COMMON,
        ]
        if _names(request.headers.get("if-none-match", ""), tag):
            return Response(304, b"", headers)
        kind = "application/json" if name.endswith(".map") else "text/javascript; charset=utf-8"
        headers.append(("Content-Type", kind))
        if compress:
            headers.append(("Content-Encoding", "gzip"))
        return Response(200, served.compressed if compress else served.body, headers)

    def _read(self, name: str, write_key: str, known: _Served | None) -> _Served:
        """The file as it is now: ``known`` when that is still it. Blocks. Raises ``OSError``."""
        with (self._folder / name).open("rb") as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_mtime_ns, status.st_size)
            if known is not None and known.stamp == stamp:
                return known
            body = file.read()
        if write_key:
            body = _FIRST_PARTY + body.replace(PLACEHOLDER, _in_quotes(write_key))
        digest = hashlib.sha256(body).hexdigest()[:32]
        return _Served(stamp, body, gzip.compress(body, 6, mtime=0), digest)

    def _keep(self, key: tuple[str, str], served: _Served) -> None:
        """Keep it as the newest, and let the oldest go for it."""
        before = self._cache.pop(key, None)
        self._cached += _size(served) - (_size(before) if before else 0)
        self._cache[key] = served
        while self._cached > CACHED:
            oldest = next(iter(self._cache))
            self._cached -= _size(self._cache.pop(oldest))


def _size(served: _Served) -> int:
    return len(served.body) + len(served.compressed)


def _is_fixed(name: str) -> bool:
    return _WITH_DIGEST.fullmatch(name) is not None


def _in_quotes(text: str) -> bytes:
    """The text inside of a JavaScript string in double quotes, also where that is inside of HTML."""
    return msgspec.json.encode(text)[1:-1].replace(b"<", b"\\u003c")


def _takes_gzip(accepted: str) -> bool:
    """Whether Accept-Encoding names gzip, and not only to refuse it."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() == "gzip":
            return re.fullmatch(r"\s*q\s*=\s*0(?:\.0*)?\s*", weight) is None
    return False


def _names(condition: str, tag: str) -> bool:
    """Whether If-None-Match names the ETag (RFC 9110, 13.1.2)."""
    tags = [each.strip().removeprefix("W/") for each in condition.split(",")]
    return tag in tags or tags == ["*"]
