"""Tells destinations to delete users, those that offer it: by the transport and under the retry policy that deliver
events to them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from random import random

import httpx
import structlog
import trio

from relayd.config import model
from relayd.delivery import outcome as outcomes
from relayd.delivery.attempt import addressed
from relayd.delivery.connection import Answer
from relayd.delivery.outcome import Event, Outcome
from relayd.delivery.schedule import next_due, policy_of
from relayd.delivery.throttle import Throttle
from relayd.delivery.transport import Transport, error_code
from relayd.destinations import Request, get

_log = structlog.get_logger(__name__)

_DETAIL = 300
"""Characters of an answer that are kept to explain a refusal."""


class Forwarding:
    """The destinations of a configuration."""

    def __init__(self, destinations: Mapping[str, model.Destination], *, redact: Callable[[str], str]) -> None:
        self._destinations = destinations
        self._redact = redact

    def names(self) -> Sequence[str]:
        """The enabled destinations that offer deletion."""
        return [name for name, each in self._destinations.items() if each.enabled and get(each.type).deletes]

    async def tell(self, name: str, ids: Sequence[str]) -> str | None:
        """Tell a destination to delete users; returns why it refused, None when it did not.

        What fails is tried again as the destination's retry policy says, from the first request that failed on.
        """
        config = self._destinations.get(name)
        if config is None:
            return "it is not configured any more"
        assert isinstance(config.settings, model.Section), "the loader checks settings against the type"
        policy, first, attempts = policy_of(config.retry), time.time(), 0
        throttle = Throttle(config.delivery.rate)
        async with Transport(max_connections=1, connect_timeout=math.inf) as transport:
            try:
                requests = get(config.type).deletions(config.settings, ids, now=time.time())
            except ValueError as error:
                return self._redact(str(error))[:_DETAIL]
            while requests:
                await trio.sleep(throttle.wait(trio.current_time()))
                throttle.take(trio.current_time())
                result = await self._send(transport, config, requests[0])
                if result.event is Event.DELIVER:
                    requests, first, attempts = requests[1:], time.time(), 0
                    continue
                reason = f"{result.reason} {result.detail}".strip()
                if result.event is Event.REFUSE:
                    return reason
                attempts += 1
                now = time.time()
                due = next_due(
                    policy, attempts=attempts, first=first, now=now, retry_after=result.retry_after, random=random
                )
                if due is None:
                    return f"given up after {attempts} attempts: {reason}"
                _log.warning("a deletion was not taken; trying again", destination=name, reason=reason)
                await trio.sleep(max(due - now, 0))
        return None

    async def _send(self, transport: Transport, config: model.Destination, request: Request) -> Outcome:
        url = addressed(request.url, config.delivery.base_url)
        try:
            with trio.fail_after(config.delivery.timeout):
                answer = await transport.send(request.method, url, request.headers, request.body)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            return Outcome(Event.REFUSE, outcomes.MESSAGE_REJECTED, self._redact(str(error)), alive=None)
        except (httpx.TransportError, trio.TooSlowError) as error:
            return outcomes.of_fault(error_code(error), self._redact(str(error) or "no answer in time"))
        return self._outcome(answer)

    def _outcome(self, answer: Answer) -> Outcome:
        detail = "" if answer.status < 300 else answer.body.decode("utf-8", "replace")
        return outcomes.of_status(
            answer.status,
            retry_after=answer.header("retry-after"),
            detail=self._redact(detail)[:_DETAIL],
            now=time.time(),
        )
