"""Which events of the journal a destination gets, and why it does not get the others. Pure.

The checks, in order; the first refusal counts:

    SOURCE_NOT_CONNECTED             the destination is not fed from the event's source
    UNSUPPORTED_EVENT_TYPE           the destination does not take this type
    FILTERED_BY_INTEGRATIONS_OBJECT  the event's ``integrations`` switch the destination off
    UNREADABLE                       the line is no event (a damaged disk); it stays in the journal

``integrations`` (Segment's spec): ``All`` defaults to true; a name's own entry wins over it, false switches off,
anything else on. ``Segment.io`` is what analytics.js calls the relay itself, and says nothing about destinations.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from relayd.event import Head, decode_head

SOURCE_NOT_CONNECTED = "SOURCE_NOT_CONNECTED"
UNSUPPORTED_EVENT_TYPE = "UNSUPPORTED_EVENT_TYPE"
FILTERED_BY_INTEGRATIONS_OBJECT = "FILTERED_BY_INTEGRATIONS_OBJECT"
UNREADABLE = "UNREADABLE"


class Match(NamedTuple):
    """An event that the destination gets."""

    message_id: str
    payload: bytes
    received: int
    """Unix milliseconds."""
    user_key: str | None


class Selection(NamedTuple):
    """What a stretch of the journal gives a destination: ``received = len(matches) + sum(filtered)``."""

    received: int
    matches: list[Match]
    filtered: dict[str, int]


class Eligibility:
    """The rules of one destination."""

    def __init__(
        self, *, names: frozenset[str], methods: frozenset[str], sources: frozenset[str] | None, by_user: bool
    ) -> None:
        """``names`` are those that ``integrations`` may call it by; ``sources`` None is all of them.

        With ``by_user`` each match carries the key under which its user's events are kept in order.
        """
        self._names = names
        self._methods = methods
        self._sources = sources
        self._by_user = by_user

    def refusal(self, head: Head) -> str | None:
        """The reason why the event is not for this destination; None when it is."""
        if self._sources is not None and head.projectId not in self._sources:
            return SOURCE_NOT_CONNECTED
        if head.type not in self._methods:
            return UNSUPPORTED_EVENT_TYPE
        if head.integrations and not self._switched_on(head.integrations):
            return FILTERED_BY_INTEGRATIONS_OBJECT
        return None

    def select(self, lines: bytes) -> Selection:
        """Sort the events of whole journal lines."""
        matches: list[Match] = []
        filtered: dict[str, int] = {}
        received = 0
        for line in lines.splitlines():
            received += 1
            try:
                head = decode_head(line)
                reason = self.refusal(head)
            except (msgspec.DecodeError, UnicodeDecodeError):
                reason = UNREADABLE
            if reason is not None:
                filtered[reason] = filtered.get(reason, 0) + 1
                continue
            user_key = (head.userId or head.anonymousId) if self._by_user else None
            matches.append(Match(head.messageId, line, round(head.receivedAt.timestamp() * 1000), user_key))
        return Selection(received, matches, filtered)

    def _switched_on(self, integrations: Mapping[str, object]) -> bool:
        for name in self._names:
            if name in integrations:
                return integrations[name] is not False
        return integrations.get("All") is not False
