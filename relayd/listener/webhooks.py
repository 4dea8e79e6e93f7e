"""Webhooks of other apps: ``POST /v1/sources/NAME``, for sources of type cloud_app; those of type function get theirs
by the same route (`relayd.listener.functions`).

- A body is looked at only after the app has proven itself on the raw bytes. What is forged or stale is answered 401.
- 200 means what it means in the Tracking API, whose road into the journal this is: every event is on disk, was there
  before, or is counted as rejected. An app sends again what is answered otherwise, for hours or days, so what will
  never be an event (no subscription is for it, its mapping fails) is counted and answered 200.
- 503 has a Retry-After, upon which Zendesk sends again too.

Each refusal is counted in the source's ``rejected``: as invalid_signature, stale_signature, bad_request,
batch_too_large, source_disabled, no_matching_subscription, mapping_failed, or a code of the Tracking API.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
import trio

from relayd.config import model
from relayd.listener.accounts import Accounts
from relayd.listener.functions import Functions
from relayd.listener.http import Handler
from relayd.listener.message import Request, RequestError, Response
from relayd.listener.tracking import SUCCESS, Refused, Tracking, refusal
from relayd.sources import App, Forged, Mapped, TooMany, app_of

_log = structlog.get_logger(__name__)

PREFIX = "/v1/sources/"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_IN_A_THREAD = 32_768
"""Bytes of a body above which it is mapped in a thread, so that nobody else has to wait for it."""
_LOG_EVERY = 60.0
"""Seconds between two warnings about the webhooks of a source."""


class Webhooks:
    """The handler of the sources' routes."""

    def __init__(
        self,
        tracking: Tracking,
        *,
        sources: Mapping[str, model.Source],
        accounts: Accounts,
        functions: Functions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` in Unix seconds."""
        self._tracking = tracking
        self._sources = sources
        self._apps = {name: app_of(name, each) for name, each in sources.items() if each.type == "cloud_app"}
        self._functions = functions
        self._accounts = accounts
        self._clock = clock
        self._mapping = trio.CapacityLimiter(1)
        self._warned: dict[str, float] = {}

    async def __call__(self, request: Request) -> Response:
        """Answer one request. Raises nothing but bugs; cancelled, what was appended may be in the journal."""
        name = request.path.removeprefix(PREFIX).rstrip("/")
        app, functions = self._apps.get(name), self._functions
        if app is None and (functions is None or name not in functions):
            return refusal(404, "unknown_source", "no source of this name takes webhooks")
        if request.method != "POST":
            return refusal(405, "method_not_allowed", "use POST", (("Allow", "POST"),))
        if not self._sources[name].enabled:
            return self._count(name, "source_disabled", SUCCESS)
        if app is None:
            assert functions is not None
            return await functions.answer(name, request)
        return await self._take(name, app, request)

    async def _take(self, name: str, app: App[Any], request: Request) -> Response:
        try:
            app.verify(request.headers, request.body, self._clock())
        except Forged as forged:
            self._warn(name, "a webhook is refused", code=forged.code, reason=str(forged), peer=request.peer)
            return self._count(name, forged.code, refusal(401, forged.code, str(forged)))
        try:
            body = self._tracking.read_body(request)
            if len(body) > _IN_A_THREAD:
                mapped, events = await trio.to_thread.run_sync(_map, app, body, request.headers, limiter=self._mapping)
            else:
                mapped, events = _map(app, body, request.headers)
        except Refused as refused:
            return self._count(name, "bad_request", refused.response)
        except (msgspec.DecodeError, RecursionError) as error:
            return self._count(name, "bad_request", refusal(400, "bad_request", f"the body is not JSON: {error}"))
        except TooMany as error:
            return self._count(name, "batch_too_large", refusal(400, "batch_too_large", str(error)))
        if mapped.faults:
            self._warn(name, "a webhook could not be mapped", reason="; ".join(mapped.faults[:3]))
        return await self._tracking.accept(name, events, mapped.rejected)

    def _count(self, name: str, code: str, answer: Response) -> Response:
        self._accounts.reject(name, Counter({code: 1}))
        return answer

    def _warn(self, name: str, event: str, **fields: object) -> None:
        """Log a warning, unless the source had one lately."""
        now = time.monotonic()
        if now - self._warned.get(name, -_LOG_EVERY) >= _LOG_EVERY:
            self._warned[name] = now
            _log.warning(event, source=name, **fields)


def _map(app: App[Any], body: bytes, headers: Mapping[str, str]) -> tuple[Mapped, list[bytes]]:
    """What became of a webhook, and its events as JSON."""
    mapped = app.events(_decode(body), headers)
    return mapped, list(map(_encode, mapped.events))


def with_webhooks(tracking: Tracking, webhooks: Webhooks, *, max_body: int) -> Handler:
    """The handler of both. A request of an SDK costs a look at its path, and has at most ``max_body`` bytes."""
    too_large = RequestError.body_too_large(max_body).response

    async def refuse() -> Response:
        return too_large

    def handle(request: Request) -> Awaitable[Response]:
        if request.path.startswith(PREFIX):
            return webhooks(request)
        return tracking(request) if len(request.body) <= max_body else refuse()

    return handle
