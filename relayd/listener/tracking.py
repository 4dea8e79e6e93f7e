"""The Tracking API: Segment's routes, answers and limits, over HTTP requests.

What SDKs rely on (each observed with the SDK)
- Success is exactly 200 ``{"success":true}``: other 2xx make older Python SDKs send again.
- 400 has ``code`` and ``message``: without them Python SDKs send again. There is no 413, which mobile SDKs send again
  for ever, and never a redirect, which SDKs follow with a GET and take for success.
- 503 and 429 carry Retry-After and X-RateLimit-Reset, both in seconds.
- An event that breaks a rule is answered 200 and counted by its code: an error makes rudder-sdk-node end the process.
- A body is JSON whatever its Content-Type says; the write key is looked for in Basic, the body, the first event.

200 is said only when every event of the request is in the journal, was there before, or is counted as rejected.
"""

import base64
import binascii
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec
import structlog
from msgspec import UNSET, Raw, Struct, field

from relayd.config import analytics_js, model
from relayd.event import TYPES, Arrival, Event, Invalid, Json, Rejected, Text, encode_lines, normalise
from relayd.event import repair as repair_event
from relayd.journal.log import RETRY_AFTER, Journal, Overloaded
from relayd.listener.accounts import Accounts
from relayd.listener.analytics_js import Assets
from relayd.listener.encoding import EncodingError, inflate
from relayd.listener.message import Request, Response
from relayd.listener.origin import Proxies
from relayd.listener.settings import Settings
from relayd.privacy.suppressed import NOBODY, Users

_log = structlog.get_logger(__name__)

_SHORT = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias"}
_BATCHES = frozenset({"batch", "b", "import"})
_POSTS = {f"/v1/{name}": kind for name, kind in (*_SHORT.items(), *((each, each) for each in TYPES))}
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "Retry-After, X-RateLimit-Reset"),
)
_JSON = (("Content-Type", "application/json"), *_CORS)
_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

SUCCESS = Response(200, b'{"success":true}', _JSON)
_HEALTHY = Response(200, b'{"status":"ok"}', _JSON)
_PIXEL = Response(200, _GIF, (("Content-Type", "image/gif"), ("Cache-Control", "no-store"), *_CORS))
_PREFLIGHT = Response(
    204,
    b"",
    (
        *_CORS,
        ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
        ("Access-Control-Allow-Headers", "authorization, content-encoding, content-type, x-retry-count"),
        ("Access-Control-Max-Age", "86400"),
    ),
)


class _Batch(Struct, rename="camel"):
    """A batch's body when each of its events is well-typed, which nearly all are."""

    batch: list[Event]
    sent_at: Text = UNSET
    write_key: Text = UNSET
    context: Json = UNSET
    integrations: Json = UNSET


class _LooseBatch(Struct, rename="camel"):
    """Any batch's body."""

    batch: list[Raw]
    sent_at: Json = UNSET
    write_key: Json = UNSET
    context: Json = UNSET
    integrations: Json = UNSET


class Refused(Exception):
    """The request as a whole is answered 400."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.response = refusal(400, code, message)


class Parsed(Struct):
    """A body taken apart: well-typed events, and what was wrong with the others."""

    events: list[Event]
    extras: dict[int, bytes] = {}
    rejected: Rejected = field(default_factory=lambda: defaultdict(int))
    write_key: Text = UNSET
    sent_at: Text = UNSET
    context: Json = UNSET
    integrations: Json = UNSET
    compact: bool = False
    """Whether the body has no line breaks."""


class _Entry(NamedTuple):
    """What a request brings to the journal. Nothing of its body is kept beside while the commit is awaited: to free a
    thousand small objects later, when they have left the processor's caches, costs as much as to make them."""

    source: str
    lines: bytes
    fresh: int
    """Events in ``lines``."""
    duplicates: int
    rejected: Rejected


_decode_event = msgspec.json.Decoder(Event).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_loose_batch = msgspec.json.Decoder(_LooseBatch).decode
_decode_text = msgspec.json.Decoder(str | None).decode


def refusal(status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """An answer that says no, in the form that SDKs understand."""
    body = msgspec.json.encode({"success": False, "code": code, "message": message})
    return Response(status, body, (*_JSON, *headers))


def overloaded(reason: str) -> Response:
    """503, with the seconds after which to come again."""
    wait = str(RETRY_AFTER)
    return refusal(503, "overloaded", reason, (("Retry-After", wait), ("X-RateLimit-Reset", wait)))


_SETTINGS = (*_JSON, ("Cache-Control", "private, max-age=60"))
_UNKNOWN_SOURCE = refusal(404, "unknown_source", "no source has this write key")
_NOWHERE: Mapping[str, model.Destination] = {}


class Tracking:
    """The handler of the listener's requests."""

    def __init__(
        self,
        journal: Journal,
        *,
        sources: Mapping[str, model.Source],
        destinations: Mapping[str, model.Destination] = _NOWHERE,
        limits: model.Listener,
        accounts: Accounts,
        suppressed: Users = NOBODY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``destinations`` are what SDKs are told of, ``suppressed`` users whose events are rejected as
        suppressed_user. ``clock`` in Unix seconds.

        Raises ``ValueError`` when ``limits.analytics_js`` is not that.
        """
        self._journal = journal
        self._by_key = {source.write_key: (name, source) for name, source in sources.items() if source.write_key}
        self._limits = limits
        self._proxies = Proxies(limits.trusted_proxies)
        self._settings = Settings(sources, destinations, self._proxies)
        self._assets = Assets(analytics_js.find(limits.analytics_js)) if limits.analytics_js else None
        self._accounts = accounts
        self._suppressed = suppressed
        self._clock = clock
        self._unknown_logged = 0.0

    async def __call__(self, request: Request) -> Response:
        """Answer one request. Raises nothing but bugs; cancelled, what was appended may be in the journal."""
        path = request.path.rstrip("/")
        kind = _POSTS.get(path)
        if request.method == "OPTIONS":
            return _PREFLIGHT
        if kind is not None or path.removeprefix("/v1/") in _BATCHES:
            return await self._post(request, kind) if request.method == "POST" else _method_not_allowed("POST")
        match path.split("/")[1:]:
            case ["health"] if request.method in ("GET", "HEAD"):
                return _HEALTHY
            case ["v1", "m"] if request.method == "POST":
                return SUCCESS
            case ["v1", "pixel", name] if request.method == "GET" and (name in TYPES or name in _SHORT):
                return await self._pixel(request, _SHORT.get(name, name))
            case ["v1", "projects", write_key, "settings"] if request.method in ("GET", "HEAD"):
                settings = self._settings.answer(unquote(write_key), request)
                return _UNKNOWN_SOURCE if settings is None else Response(200, settings, _SETTINGS)
            case ["analytics.js" | "analytics-next", *_] if self._assets and request.method in ("GET", "HEAD"):
                return await self._asset(self._assets, path, request) or _not_found(request)
            case _:
                return _not_found(request)

    async def accept(self, name: str, events: Sequence[bytes], rejected: Counter[str]) -> Response:
        """Keep events (JSON) that were made here of what was sent to the source: they go the way of an SDK's.

        ``rejected`` counts what could not be made an event. The answer is `SUCCESS` once they are in the journal, were
        there before, or are counted as rejected; else a 503.
        """
        parsed = _repair(list(map(Raw, events)))
        parsed.rejected.update(rejected)
        parsed.compact = True
        arrival = Arrival(project=name, received=int(self._clock() * 1000), compact=True)
        try:
            entry = self._keep(parsed, arrival, None)
        except Overloaded as error:
            return overloaded(str(error))
        return await self._commit(entry, SUCCESS)

    async def _asset(self, assets: Assets, path: str, request: Request) -> Response | None:
        """A file of analytics.js; None when there is none at this path."""
        match path.split("/")[1:]:
            case ["analytics.js", "v1", write_key, "analytics.min.js"]:
                key = unquote(write_key)
                return await assets.script(key, request) if key in self._by_key else _UNKNOWN_SOURCE
            case ["analytics-next", "bundles", name]:
                return await assets.bundle(name, request)
            case _:
                return None

    async def _post(self, request: Request, kind: str | None) -> Response:
        try:
            entry = self._enter(request, kind)
        except Refused as refused:
            return refused.response
        except Overloaded as error:
            return overloaded(str(error))
        return await self._commit(entry, SUCCESS)

    async def _pixel(self, request: Request, kind: str) -> Response:
        """An image's address that carries an event as base64 or plain JSON in ``data``; whatever it is, 200."""
        data = dict(parse_qsl(request.query)).get("data", "")
        try:
            # a "+" of base64 has become a space on the way; URL-safe base64 has other signs
            text = data.replace(" ", "+").replace("-", "+").replace("_", "/")
            body = data.encode() if data.startswith("{") else base64.b64decode(text + "=" * (-len(text) % 4))
            body.decode()
            entry = self._prepare(self._parse_event(body), request, kind)
        except (Refused, binascii.Error, UnicodeDecodeError):
            self._accounts.reject("", Counter(bad_request=1))
            return _PIXEL
        except Overloaded as error:
            return overloaded(str(error))
        return await self._commit(entry, _PIXEL)

    def _enter(self, request: Request, kind: str | None) -> _Entry | None:
        body = self.read_body(request)
        parsed = self._parse_batch(body) if kind is None else self._parse_event(body)
        parsed.compact = b"\n" not in body and b"\r" not in body
        request.body = b""
        return self._prepare(parsed, request, kind)

    async def _commit(self, entry: _Entry | None, done: Response) -> Response:
        """Answer ``done`` when what a request brings is in the journal; None brings nothing."""
        if entry is None:
            return done
        try:
            if entry.fresh:
                await self._journal.append(entry.lines, entry.source, entry.fresh)
            else:
                await self._journal.settle()
        except OSError as error:
            return overloaded(f"the journal could not be written: {error.strerror}")
        self._accounts.reject(entry.source, entry.rejected)
        self._accounts.duplicates[entry.source] += entry.duplicates
        return done

    def read_body(self, request: Request) -> bytes:
        """The body without its Content-Encoding, as UTF-8. Raises `Refused`."""
        body = request.body
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            try:
                body = inflate(body, self._limits.max_inflated)
            except EncodingError as error:
                raise Refused("bad_request", str(error)) from None
        elif encoding not in ("identity", ""):
            raise Refused("bad_request", f"Content-Encoding {encoding} is not understood; use gzip or none")
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError as error:
                raise Refused("bad_request", f"the body is not UTF-8: {error}") from None
        return body

    def _parse_event(self, body: bytes) -> Parsed:
        if len(body) > self._limits.max_event:
            raise Refused("message_too_large", f"the event is larger than {self._limits.max_event}")
        try:
            event = _decode_event(body)
            parsed = Parsed([event])
        except msgspec.ValidationError:
            parsed = _repair([Raw(body)])
        except (msgspec.DecodeError, RecursionError) as error:
            raise Refused("bad_request", f"the body is not JSON: {error}") from None
        return parsed

    def _parse_batch(self, body: bytes) -> Parsed:
        try:
            batch = _decode_batch(body)
            parsed = Parsed(
                batch.batch,
                write_key=batch.write_key or UNSET,
                sent_at=batch.sent_at,
                context=_object(batch.context),
                integrations=_object(batch.integrations),
            )
        except msgspec.ValidationError:
            parsed = self._parse_loose_batch(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Refused("bad_request", f"the body is not JSON: {error}") from None
        count = len(parsed.events) + sum(parsed.rejected.values())
        if count > self._limits.max_batch:
            raise Refused("batch_too_large", f"the batch has {count} events, more than {self._limits.max_batch}")
        if not count:
            parsed.rejected["empty_batch"] += 1
        return parsed

    def _parse_loose_batch(self, body: bytes) -> Parsed:
        try:
            loose = _decode_loose_batch(body)
        except msgspec.ValidationError as error:
            raise Refused("bad_request", f'the body is no {{"batch": [...]}}: {error}') from None
        parsed = _repair(loose.batch)
        parsed.write_key = _text(loose.write_key)
        parsed.sent_at = _text(loose.sent_at) or UNSET
        parsed.context, parsed.integrations = _object(loose.context), _object(loose.integrations)
        return parsed

    def _prepare(self, parsed: Parsed, request: Request, kind: str | None) -> _Entry | None:
        """The lines of the events that are new; their ids are remembered, unless the commit fails.

        None when the source takes none. Raises `Overloaded`.
        """
        name, source = self._source(request, parsed)
        events = parsed.events
        if source is None or not source.enabled:
            code = "unknown_source" if source is None else "source_disabled"
            self._accounts.reject(name, Counter({code: len(events) + sum(parsed.rejected.values())}))
            if source is None:
                self._warn_of_unknown(request)
            return None
        return self._keep(parsed, self._arrival(name, source, parsed, request), kind)

    def _keep(self, parsed: Parsed, arrival: Arrival, kind: str | None) -> _Entry:
        """As `_prepare`, for a source that takes events."""
        kept = self._normalise(parsed, arrival, kind)
        lines = self._within_limit(kept, arrival, parsed)
        self._journal.check_room(len(lines))
        fresh = self._fresh(kept, arrival.received // 1000)
        duplicates = len(kept) - len(fresh)
        if duplicates:
            lines = encode_lines(fresh, arrival, _extras_of(fresh, kept, parsed.extras))
        return _Entry(arrival.project, lines, len(fresh), duplicates, parsed.rejected)

    def _source(self, request: Request, parsed: Parsed) -> tuple[str, model.Source | None]:
        keys = (
            _basic_user(request.headers.get("authorization", "")),
            parsed.write_key,
            parsed.events[0].write_key if parsed.events else None,
        )
        return self._by_key.get(next((key for key in keys if key), ""), ("", None))

    def _arrival(self, name: str, source: model.Source, parsed: Parsed, request: Request) -> Arrival:
        return Arrival(
            project=name,
            received=int(self._clock() * 1000),
            client_side=source.type in ("web", "mobile"),
            ip=self._proxies.client(request),
            sent_at=parsed.sent_at,
            context=parsed.context,
            integrations=parsed.integrations,
            compact=parsed.compact,
        )

    def _normalise(self, parsed: Parsed, arrival: Arrival, kind: str | None) -> list[Event]:
        kept = normalise(parsed.events, arrival, kind, parsed.rejected)
        if self._suppressed:
            found = kept
            kept = [event for event in found if not self._is_suppressed(event)]
            if len(kept) < len(found):
                parsed.rejected["suppressed_user"] += len(found) - len(kept)
        if parsed.extras and len(kept) < len(parsed.events):
            parsed.extras = _extras_of(kept, parsed.events, parsed.extras)
        return kept

    def _is_suppressed(self, event: Event) -> bool:
        return event.user_id in self._suppressed or (event.type == "alias" and event.previous_id in self._suppressed)

    def _within_limit(self, events: list[Event], arrival: Arrival, parsed: Parsed) -> bytes:
        """The events' lines without those that are too long, which leave ``events`` too."""
        limit = self._limits.max_event
        lines = encode_lines(events, arrival, parsed.extras)
        if _all_within(lines, limit):
            return lines
        sizes = [len(line) for line in lines.split(b"\n")[:-1]]
        before = list(events)
        events[:] = [event for event, size in zip(before, sizes, strict=True) if size <= limit]
        parsed.rejected["message_too_large"] += len(before) - len(events)
        parsed.extras = _extras_of(events, before, parsed.extras)
        return encode_lines(events, arrival, parsed.extras)

    def _fresh(self, events: list[Event], now: int) -> list[Event]:
        """The events whose messageIds are new; from here on they are remembered, unless the commit fails."""
        dedupe = self._journal.dedupe
        dedupe.expire(now)
        new = dedupe.add([event.message_id or "" for event in events], now)
        return events if all(new) else list(compress(events, new))

    def _warn_of_unknown(self, request: Request) -> None:
        now = time.monotonic()
        if now - self._unknown_logged >= 60:
            self._unknown_logged = now
            _log.warning("events with an unknown write key are not kept; check the SDK's key", peer=request.peer)


def _not_found(request: Request) -> Response:
    return refusal(404, "not_found", f"there is no {request.method} {request.path.rstrip('/') or '/'} here")


def _method_not_allowed(allowed: str) -> Response:
    return refusal(405, "method_not_allowed", f"use {allowed}", (("Allow", f"{allowed}, OPTIONS"),))


def _repair(raws: Sequence[Raw]) -> Parsed:
    parsed = Parsed([])
    for raw in raws:
        try:
            event, extra = repair_event(raw)
        except Invalid as invalid:
            parsed.rejected[invalid.code] += 1
            continue
        except RecursionError:  # it is nested too deeply
            parsed.rejected["bad_request"] += 1
            continue
        if extra is not None:
            parsed.extras[len(parsed.events)] = extra
        parsed.events.append(event)
    return parsed


def _extras_of(events: Sequence[Event], among: Sequence[Event], extras: Mapping[int, bytes]) -> dict[int, bytes]:
    """The extras of ``events``, a part of ``among`` in the same order, by their new places."""
    if not extras:
        return {}
    places = {id(event): place for place, event in enumerate(events)}
    found = ((places.get(id(among[old])), extra) for old, extra in extras.items())
    return {place: extra for place, extra in found if place is not None}


def _all_within(lines: bytes, limit: int) -> bool:
    """Whether no line is longer than ``limit``: from each place, the last line end within reach is the next place."""
    place, last = 0, len(lines) - limit - 1
    while place < last:
        end = lines.rfind(b"\n", place, place + limit + 1)
        if end < 0:
            return False
        place = end + 1
    return True


@lru_cache(maxsize=256)  # an SDK's is always the same
def _basic_user(authorization: str) -> str | None:
    """The user name of HTTP Basic; None for any other scheme."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return None


def _text(raw: Json) -> str | None:
    try:
        return _decode_text(raw) if raw is not UNSET else None
    except msgspec.ValidationError:
        return None


def _object(raw: Json) -> Json:
    """A batch's ``context`` or ``integrations``, when it is one."""
    return raw if raw is not UNSET and bytes(raw)[:1] == b"{" else UNSET
