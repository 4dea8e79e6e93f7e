"""A destination that records what it is sent, and fails on purpose.

It takes any method and path. A body is one event, an array, ``{"batch": [...]}`` or lines, gzip or not. What it takes
is answered 200, what is none of these 400. `Faults` says what is to fail, and how; ``sink.faults`` may be replaced at
any time.

    async with open_sink(faults=Faults(share=0.1, kinds=("reset",))) as sink:
        ...                                   # point a destination at sink.url
        await sink.wait_accepted(1000)
        assert sink.accepted == {"m-1": 1, ...}
"""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
import trio
from msgspec import Struct

from relayd.listener.http import Limits, Server
from relayd.listener.message import Request, Response
from relayd.listener.sockets import open_listeners
from relayd.testing import bodies
from relayd.testing.faults import Faults, Kind
from relayd.testing.scripts import ScriptableListener, failure

Memory = Literal["requests", "ids", "counts"]
"""What a sink keeps: whole requests, or how often each messageId was accepted, or counts alone; the first keeps all."""

_ACCEPTED = Response(200, b'{"success":true}')
_HOUR = 3600.0
_LIMITS = Limits(
    head=64_000, headers=200, body=64 * 2**20, buffered=512 * 2**20, body_timeout=_HOUR, idle_timeout=_HOUR
)  # a hang or a drip may last


class Received(Struct, frozen=True, gc=False):
    """One request, as it was taken or failed."""

    at: float
    """Unix seconds."""
    method: str
    target: str
    """Path and query, as sent."""
    headers: Mapping[str, str]
    """By lower-case name."""
    events: tuple[bytes, ...]
    """As sent, each a JSON value; empty when ``rejected``."""
    status: int
    """Of the answer, also where a fault keeps it from arriving."""
    fault: Kind | None = None
    rejected: str = ""
    """Why the body was answered 400."""

    @property
    def accepted(self) -> bool:
        return self.fault is None and not self.rejected


class Statistics(Struct, frozen=True):
    """What a sink has seen since it was made."""

    requests: int
    accepted_requests: int
    accepted_events: int
    rejected: int
    """Requests answered 400."""
    faults: Mapping[str, int]
    """Requests that failed on purpose, by kind."""


class Sink:
    """Records and answers. `serve` runs it; `open_sink` does all."""

    def __init__(
        self,
        *,
        faults: Faults = Faults(),  # noqa: B008  frozen
        memory: Memory = "requests",
        record: Path | None = None,
        watch: Callable[[Received], object] | None = None,
    ) -> None:
        """``record`` is a file that every accepted event is appended to, a line each, before the answer leaves, so that
        another process can read it at any moment. ``watch`` is called with each request before its answer leaves.
        """
        self.faults = faults
        self.requests: list[Received] = []
        self.accepted: Counter[str] = Counter()
        """How often each messageId was accepted."""
        self.url = ""
        """Where it listens, once it does; empty on a Unix socket."""
        self._memory = memory
        self._watch = watch
        self._record = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._attempts: Counter[str] = Counter()  # of messages that are failing
        self._counts: Counter[str] = Counter()
        self._faulted: Counter[str] = Counter()
        self._waiting = trio.lowlevel.ParkingLot()
        self._server = Server(self.handle, _LIMITS)

    def statistics(self) -> Statistics:
        """The counters as they are now."""
        counts = self._counts
        return Statistics(
            requests=counts["requests"],
            accepted_requests=counts["accepted_requests"],
            accepted_events=counts["accepted_events"],
            rejected=counts["rejected"],
            faults=dict(self._faulted),
        )

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled or drained; owns ``listeners``, which accept plain sockets."""
        first = listeners[0]
        if isinstance(first, trio.SocketListener) and first.socket.family != trio.socket.AF_UNIX:
            host, port = first.socket.getsockname()[:2]
            self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        await self._server.serve([ScriptableListener(each) for each in listeners], task_status=task_status)

    def close(self) -> None:
        """Close the record. Needed where there is one, once `serve` is done."""
        if self._record is not None:
            os.close(self._record)
            self._record = None

    def drain(self) -> None:
        """Take no more connections, finish what is in hand; `serve` returns then."""
        self._server.drain()

    async def wait_accepted(self, events: int) -> None:
        """Wait until so many events have been accepted in all, those that came twice included."""
        while self._counts["accepted_events"] < events:
            await self._waiting.park()

    async def wait_requests(self, requests: int) -> None:
        """Wait until so many requests have come in all, good or bad."""
        while self._counts["requests"] < requests:
            await self._waiting.park()

    async def handle(self, request: Request) -> Response:
        """The handler of `Server`."""
        faults = self.faults
        fault, status, rejected = None, 200, ""
        events: list[bytes] = []
        ids: list[str] = []
        try:
            events = bodies.events(request.body, encoding=request.headers.get("content-encoding", ""))
            ids = [bodies.message_id(event) for event in events]
        except ValueError as error:
            status, rejected = 400, str(error)
        else:
            fault = self._fault(faults, ids[0] if ids else "")
            if fault is None:
                self._accept(events, ids)
            else:
                status = faults.status
                self._faulted[fault] += 1
        self._counts["requests"] += 1
        self._counts["rejected"] += bool(rejected)
        if self._memory == "requests" or self._watch:
            target = f"{request.path}?{request.query}" if request.query else request.path
            received = Received(
                time.time(), request.method, target, request.headers, tuple(events), status, fault, rejected
            )
            if self._memory == "requests":
                self.requests.append(received)
            if self._watch:
                self._watch(received)
        self._waiting.unpark_all()
        if faults.latency:
            await trio.sleep(faults.latency)
        if fault is not None:
            return failure(fault, faults)
        return _rejection(rejected) if rejected else _ACCEPTED

    def _fault(self, faults: Faults, message_id: str) -> Kind | None:
        attempt = self._attempts[message_id] + 1
        fault = faults.fault(message_id, attempt)
        if fault is None:
            del self._attempts[message_id]
        elif faults.attempts:
            self._attempts[message_id] = attempt
        return fault

    def _accept(self, events: Sequence[bytes], ids: Sequence[str]) -> None:
        if self._record is not None and events:
            lines = b"".join(event.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for event in events)
            os.write(self._record, lines)
        self._counts["accepted_requests"] += 1
        self._counts["accepted_events"] += len(events)
        if self._memory != "counts":
            self.accepted.update(ids)


def _rejection(why: str) -> Response:
    return Response(400, msgspec.json.encode({"success": False, "code": "not_events", "message": why}))


@asynccontextmanager
async def open_sink(
    bind: str = "127.0.0.1:0",
    *,
    faults: Faults = Faults(),  # noqa: B008  frozen
    memory: Memory = "requests",
    record: Path | None = None,
    watch: Callable[[Received], object] | None = None,
) -> AsyncIterator[Sink]:
    """A sink that serves while the block runs; see `Sink`. ``bind`` is "HOST:PORT" or "unix:PATH".

    Raises `relayd.listener.sockets.BindError`, and ``OSError`` for a ``record`` that can not be written.
    """
    sink = Sink(faults=faults, memory=memory, record=record, watch=watch)
    try:
        listeners = await open_listeners(bind)
        async with trio.open_nursery() as nursery:
            await nursery.start(sink.serve, listeners)
            yield sink
            nursery.cancel_scope.cancel()
    finally:
        sink.close()
