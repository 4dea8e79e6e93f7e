"""Requests to source functions: run, kept as events, and tried again when the function says so.

- 200 means that the request's events are in the journal, or that the request is counted as rejected, or that it is on
  disk to be tried again (`relayd.listener.retries`): six times, first after 1 to 3 minutes, then after twice the last
  wait, at most 20 minutes (Segment's schedule). Then it is held, and counted as retries_exhausted.
- The functions are in nobody's way: each has its own process, and its own turn among what is tried again.
- A function gets one request at a time; `MAX_WAITING` more may wait for it, and others are answered 503.
- Events without a messageId of their own get one of the request's, so that a further try never doubles them.
"""

import math
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from uuid import uuid4

import structlog
import trio

from relayd.config import model
from relayd.functions.protocol import RawRequest
from relayd.listener.accounts import Accounts
from relayd.listener.message import Request, Response
from relayd.listener.retries import Full, Kept, Retries
from relayd.listener.tracking import SUCCESS, Refused, Tracking, overloaded, refusal
from relayd.sources.function import MAX_BODY, Ran, SourceFunction, next_wait

_log = structlog.get_logger(__name__)

MAX_WAITING = 64
"""Requests that wait for one function."""
_PAUSE = 5.0
"""Seconds before a further try, when the journal or the disk can take nothing."""
_LONGEST_SLEEP = 60.0
"""Seconds between looks at the clock, which may be set meanwhile."""


class Functions:
    """The source functions of a configuration. `run` it; it ends their processes."""

    def __init__(
        self,
        tracking: Tracking,
        retries: Retries,
        *,
        sources: Mapping[str, model.Source],
        accounts: Accounts,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Owns ``retries``. ``clock`` in Unix seconds, ``random`` in [0, 1)."""
        self.retries = retries
        self._tracking = tracking
        self._functions = {name: SourceFunction(each) for name, each in sources.items() if each.type == "function"}
        self._accounts = accounts
        self._clock = clock
        self._random = random
        self._kept = trio.Event()

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    async def answer(self, name: str, request: Request) -> Response:
        """Run the function of a source, and answer. Raises nothing but bugs; cancelled, its process is ended."""
        if len(request.body) > MAX_BODY:
            self._count(name, "body_too_large")
            return refusal(400, "body_too_large", f"the body is larger than {MAX_BODY} bytes")
        function = self._functions[name]
        if function.waiting >= MAX_WAITING:
            return overloaded("too many requests wait for this function")
        try:
            body = self._tracking.read_body(request)
        except Refused as refused:
            self._count(name, "bad_request")
            return refused.response
        url = f"{request.scheme}://{request.headers.get('host', 'localhost')}{request.path}"
        url += f"?{request.query}" if request.query else ""
        raw = RawRequest(uuid4().hex, url, request.headers, body)
        ran = await function.run(raw)
        self._tell(name, ran)
        if not ran.code:
            return await self._tracking.accept(name, ran.events, Counter())
        self._count(name, ran.code)
        if not ran.retry:
            return SUCCESS
        wait = next_wait(1, None, self._random)
        assert wait is not None
        try:
            await self.retries.put(Kept(name, raw, 1, wait, self._clock() + wait, ran.code))
        except (Full, sqlite3.Error) as error:
            return overloaded(f"the request can not be kept for another try: {error}")
        self.wake()
        return SUCCESS

    async def run(self) -> None:
        """Try again what is kept, until cancelled; then end the functions' processes, and close ``retries``."""
        try:
            async with trio.open_nursery() as nursery:
                for name in self._functions:
                    nursery.start_soon(self._retry_forever, name)
        finally:
            with trio.CancelScope(shield=True):
                for each in self._functions.values():
                    await each.aclose()
                self.retries.close()

    def wake(self) -> None:
        """Look for what is due, now."""
        self._kept.set()
        self._kept = trio.Event()

    async def _retry_forever(self, name: str) -> None:
        while True:
            kept = self._kept
            try:
                wait = await self._try_next(name)
            except sqlite3.Error as error:
                _log.error("what is kept for another try can not be read or written", source=name, error=str(error))
                wait = _PAUSE
            with trio.move_on_after(min(wait, _LONGEST_SLEEP)):
                await kept.wait()

    async def _try_next(self, name: str) -> float:
        """Try the source's next request, if it is due; seconds until the next look. Raises ``sqlite3.Error``."""
        kept = await self.retries.next_due(name)
        wait = math.inf if kept is None else kept.due - self._clock()
        if kept is None or wait > 0:
            return wait
        ran = await self._functions[name].run(kept.request)
        self._tell(name, ran)
        if not ran.code:
            answer = await self._tracking.accept(name, ran.events, Counter())
            if answer.status != SUCCESS.status:
                return _PAUSE
            await self.retries.forget(kept.request.id)
            return 0
        self._count(name, ran.code)
        if not ran.retry:
            await self.retries.forget(kept.request.id)
            return 0
        tries = kept.tries + 1
        pause = next_wait(tries, kept.wait, self._random)
        if pause is None:
            await self._give_up(Kept(name, kept.request, tries, kept.wait, 0, ran.code), ran.message)
        else:
            await self.retries.put(Kept(name, kept.request, tries, pause, self._clock() + pause, ran.code))
        return 0

    async def _give_up(self, kept: Kept, why: str) -> None:
        await self.retries.hold(kept)
        self._count(kept.source, "retries_exhausted")
        _log.error(
            "a request is held: its function could not take it", source=kept.source, id=kept.request.id, error=why
        )

    def _tell(self, name: str, ran: Ran) -> None:
        if ran.printed:
            _log.info("a function printed", source=name, text=ran.printed)
        if ran.code:
            _log.warning("a function did not take a request", source=name, code=ran.code, error=ran.message)

    def _count(self, name: str, code: str) -> None:
        self._accounts.reject(name, Counter({code: 1}))
