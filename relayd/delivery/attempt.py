"""One attempt: from deliveries to requests, and from answers to an outcome for each delivery.

Deliveries that go out together are sorted into parcels: those of one subscription whose payloads may share a request.
A parcel that is refused as a whole for what may be the fault of one event in it is halved and sent again, until the
bad event stands alone. An event that can not be mapped is refused by itself before anything is sent.

When no answer comes, what is left of the batch fails with it, unsent: it would only wait as long again. So it does
after any failure when users' events are kept in order.
"""

import re
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import httpx
import msgspec
import structlog
import trio
from msgspec import Struct

from relayd.delivery import outcome as outcomes
from relayd.delivery.connection import Answer
from relayd.delivery.outbox import Delivery
from relayd.delivery.outcome import Event, Outcome
from relayd.delivery.transport import error_code
from relayd.destinations import Request
from relayd.destinations.action import Verdict
from relayd.destinations.subscription import Identity, Subscription, pick

_log = structlog.get_logger(__name__)

_DETAIL = 500
"""Characters of an answer that are kept to explain a failure."""
_EXPLAINED = 16 * _DETAIL
"""Bytes of an answer that are looked at for that: more than are kept, so that no secret is cut where it is masked."""
_IN_A_THREAD = 16
"""Events from which on mapping is done in a thread, so that no one else has to wait for it."""
_LONG_AGO = 1_000_000_000
"""In Unix seconds; what is less is no time."""
_NOTHING_TO_SEND = Outcome(Event.DELIVER, alive=None)
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def addressed(url: str, base_url: str) -> str:
    """Where a request goes: to its URL, or with a ``base_url`` to the same path there."""
    return _ORIGIN.sub(lambda _: base_url.rstrip("/"), url, count=1) if base_url else url


class Sender(Protocol):
    """A transport: carries out requests whose URL has its scheme."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer: ...


class _Parcel(Struct):
    """Deliveries that may share requests, by their places in what is sent."""

    subscription: Subscription[Any]
    places: list[int]
    payloads: list[Any]

    def is_refused_whole(self, results: Sequence[Outcome]) -> bool:
        """Whether several events were refused by one answer."""
        return len(results) > 1 and all(each is results[0] for each in results)

    def halves(self) -> "tuple[_Parcel, _Parcel]":
        middle = len(self.places) // 2
        first, second = slice(None, middle), slice(middle, None)
        return (
            _Parcel(self.subscription, self.places[first], self.payloads[first]),
            _Parcel(self.subscription, self.places[second], self.payloads[second]),
        )


class Attempt:
    """How one destination's deliveries are sent."""

    def __init__(
        self,
        name: str,
        subscriptions: Sequence[Subscription[Any]],
        *,
        senders: Mapping[str, Sender],
        timeout: float,
        base_url: str,
        ordered: bool,
        redact: Callable[[str], str],
        clock: Callable[[], float],
        pace: Callable[[], Awaitable[None]],
        judge: Callable[[Outcome], None],
    ) -> None:
        """``senders`` by URL scheme, ``timeout`` of a request in seconds.

        ``pace`` is awaited before each request but a batch's first; ``judge`` is told what each parcel came to.
        """
        self._name = name
        self._by_name: dict[str | None, Subscription[Any]] = {each.name: each for each in subscriptions}
        self._maps = any(not isinstance(each, Identity) for each in subscriptions)
        self._senders = senders
        self._timeout = timeout
        self._base_url = base_url
        self._ordered = ordered
        self._redact = redact
        self._clock = clock
        self._pace = pace
        self._judge = judge
        self._mapping = trio.CapacityLimiter(1)

    async def send(self, batch: Sequence[Delivery]) -> list[Outcome]:
        """Send each delivery once, and say what it came to."""
        found: dict[int, Outcome] = {}
        if self._maps and len(batch) >= _IN_A_THREAD:
            parcels = await trio.to_thread.run_sync(self._sort, batch, found, limiter=self._mapping)
        else:
            parcels = self._sort(batch, found)
        if found and not parcels:
            self._judge(next(iter(found.values())))
        waiting, sent = parcels[::-1], False
        while waiting:
            parcel = waiting.pop()
            results = await self._send(parcel, first=not sent)
            sent = sent or any(each.alive is not None for each in results)
            worst = max(results, key=lambda each: each.event is not Event.DELIVER)
            if worst.event is Event.REFUSE and worst.reason in outcomes.SPLIT and parcel.is_refused_whole(results):
                self._judge(worst)
                waiting += parcel.halves()[::-1]
                continue
            self._judge(_telling(results, worst))
            found.update(zip(parcel.places, results, strict=True))
            failed = next((each for each in results if each.event is Event.FAIL), None)
            if failed and (failed.unanswered or self._ordered):
                found.update((place, failed) for parcel in waiting for place in parcel.places)
                break
        return [found[place] for place in range(len(batch))]

    def _sort(self, batch: Sequence[Delivery], refused: dict[int, Outcome]) -> list[_Parcel]:
        """The parcels of a batch; deliveries that can not be sent get their outcomes in ``refused``."""
        parcels: list[_Parcel] = []
        open_parcels: dict[Hashable, _Parcel] = {}
        for place, each in enumerate(batch):
            try:
                subscription = pick(self._by_name, each.subscription, each.payload)
                payload = subscription.payload(each.payload)
                key = (subscription.name, subscription.group(payload))
            except Exception as error:
                refused[place] = self._refuse(self._fault(error))
                continue
            parcel = open_parcels.get(key)
            if parcel is None or len(parcel.places) == subscription.batch_size:
                if self._ordered:
                    open_parcels.clear()  # so that no later event of a user goes into an earlier parcel
                parcel = open_parcels[key] = _Parcel(subscription, [], [])
                parcels.append(parcel)
            parcel.places.append(place)
            parcel.payloads.append(payload)
        return parcels

    async def _send(self, parcel: _Parcel, *, first: bool) -> list[Outcome]:
        """Send a parcel's requests one after the other, up to the first that fails."""
        subscription, count = parcel.subscription, len(parcel.places)
        try:
            requests = subscription.requests(parcel.payloads, now=self._clock())
        except Exception as error:
            return [self._refuse(self._fault(error))] * count
        limit = subscription.max_body
        if count > 1 and limit is not None and any(len(request.body) > limit for request in requests):
            return [self._refuse("the batch is too large")] * count
        results = [outcomes.DELIVERED if requests else _NOTHING_TO_SEND] * count
        for number, request in enumerate(requests):
            if number or not first:
                await self._pace()
            results = await self._exchange(parcel, request)
            if any(each.event is not Event.DELIVER for each in results):
                break
        return results

    async def _exchange(self, parcel: _Parcel, request: Request) -> list[Outcome]:
        """Send one request; an outcome for each event in it."""
        count = len(parcel.places)
        url = addressed(request.url, self._base_url)
        sender = self._senders.get(url.partition(":")[0].lower())
        if sender is None:
            return [self._refuse("the URL has a scheme that is not supported")] * count
        try:
            with trio.fail_after(self._timeout):
                answer = await sender.send(request.method, url, request.headers, request.body)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            return [self._refuse(str(error))] * count
        except (httpx.TransportError, trio.TooSlowError) as error:
            return [outcomes.of_fault(error_code(error), self._explain(str(error) or "no answer in time"))] * count
        verdicts = self._verdicts(parcel, answer)
        wait = answer.header("retry-after") or _reset(answer, self._clock())
        if verdicts is not None:
            seconds = outcomes.parse_retry_after(wait, self._clock())
            return [self._of_verdict(each, seconds) for each in verdicts]
        detail = "" if answer.status < 300 else self._explain(answer.body[:_EXPLAINED].decode("utf-8", "replace"))
        return [outcomes.of_status(answer.status, retry_after=wait, detail=detail, now=self._clock())] * count

    def _verdicts(self, parcel: _Parcel, answer: Answer) -> Sequence[Verdict] | None:
        """What an answer says of each event; None where that can not be read off it."""
        try:
            verdicts = parcel.subscription.verdicts(parcel.payloads, answer.status, answer.body)
        except Exception:
            _log.exception("an answer could not be understood; its status counts", destination=self._name)
            return None
        if verdicts is not None and len(verdicts) != len(parcel.places):
            _log.error("an answer speaks of more or fewer events than were sent", destination=self._name)
            return None
        return verdicts

    def _of_verdict(self, verdict: Verdict, retry_after: float | None) -> Outcome:
        match verdict.kind:
            case "delivered":
                return outcomes.DELIVERED
            case "retry":
                return Outcome(Event.FAIL, verdict.reason, self._explain(verdict.detail), retry_after)
            case "hold":
                return Outcome(Event.REFUSE, verdict.reason, self._explain(verdict.detail))

    def _fault(self, error: Exception) -> str:
        """Why an event can not be sent. What a bug raises is logged, and only named: its text may hold values."""
        if isinstance(error, ValueError):
            return str(error)
        _log.error("no request could be made of an event; it is held", destination=self._name, exc_info=error)
        return f"no request could be made of it: {type(error).__name__}"

    def _refuse(self, why: str) -> Outcome:
        return Outcome(Event.REFUSE, outcomes.MESSAGE_REJECTED, self._explain(why), alive=None)

    def _explain(self, text: str) -> str:
        return self._redact(text)[:_DETAIL]


def _telling(results: Sequence[Outcome], worst: Outcome) -> Outcome:
    """What tells most about the destination: that it asks for a pause, else that it took something."""
    by_event = {each.event: each for each in results}
    asks = next((each for each in results if each.reason == "429"), None)
    return asks or by_event.get(Event.DELIVER, worst)


def _reset(answer: Answer, now: float) -> str | None:
    """Seconds to wait by ``X-RateLimit-Reset``, which some vendors send with a 429: in Unix seconds, or from now on."""
    text = answer.header("x-ratelimit-reset") if answer.status == 429 else None
    if text is None or not text.isdecimal():
        return None
    seconds = int(text)
    return str(max(round(seconds - now), 0)) if seconds > _LONG_AGO else text
