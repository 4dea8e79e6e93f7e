"""Which events of the journal a destination gets, and why it does not get the others. Pure.

The checks, in order; the first refusal counts:

    SUPPRESSED_USER                  its user is suppressed, since the event came
    DESTINATION_DISABLED             ``enabled = false``; a replay can bring such events later
    SOURCE_NOT_CONNECTED             the destination is not fed from the event's source
    UNSUPPORTED_SOURCE_TYPE          the destination does not take events from sources of that type
    UNSUPPORTED_EVENT_TYPE           the destination does not take this type of event
    MESSAGE_SENT_CLIENT_SIDE         the page or the app has delivered it itself (``_metadata``)
    FILTERED_BY_INTEGRATIONS_OBJECT  the event's ``integrations`` switch the destination off
    FILTERED_BY_RULES                a filter dropped it
    FILTER_FAILED                    a filter could not be applied, so the event is not sent
    NO_MATCHING_MAPPING              no subscription's trigger matches
    UNREADABLE                       the line is no event (a damaged disk); it stays in the journal

What a deleted event left in the journal is passed over, and not counted.

``integrations`` (Segment's spec): ``All`` defaults to true; a name's own entry wins over it, false switches off,
anything else on; where several of its names have one, one false is enough. ``Segment.io`` is what analytics.js calls
the relay itself, and says nothing about destinations.

``_metadata`` is what device-mode SDKs say of an event (reference: sdk-wire-facts): ``bundled`` are the names, and
``bundledIds`` the ids, of the destinations that the device delivers to itself; those in ``failedInitializations`` did
not come up there, so the event is delivered from here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import msgspec
from msgspec import UNSET, Struct

from relayd.actions.filters import FilterResult, Filters, FilterStep, compile_filters
from relayd.config import model
from relayd.destinations import get
from relayd.destinations.subscription import Subscription
from relayd.event import Head, Json, decode_head
from relayd.journal.segment import is_blank
from relayd.privacy.suppressed import NOBODY, Users

SUPPRESSED_USER = "SUPPRESSED_USER"
DESTINATION_DISABLED = "DESTINATION_DISABLED"
SOURCE_NOT_CONNECTED = "SOURCE_NOT_CONNECTED"
UNSUPPORTED_SOURCE_TYPE = "UNSUPPORTED_SOURCE_TYPE"
UNSUPPORTED_EVENT_TYPE = "UNSUPPORTED_EVENT_TYPE"
MESSAGE_SENT_CLIENT_SIDE = "MESSAGE_SENT_CLIENT_SIDE"
FILTERED_BY_INTEGRATIONS_OBJECT = "FILTERED_BY_INTEGRATIONS_OBJECT"
NO_MATCHING_MAPPING = "NO_MATCHING_MAPPING"
UNREADABLE = "UNREADABLE"

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Match(NamedTuple):
    """One delivery that an event gives rise to."""

    message_id: str
    payload: bytes
    """The event, filtered."""
    received: int
    """Unix milliseconds."""
    user_key: str | None
    subscription: str | None = None
    """By its name; None for the identity."""


class Check(NamedTuple):
    """One of the checks, and how an event did."""

    reason: str
    """What a refusal is counted under."""
    passed: bool
    detail: str
    """What was compared, in words."""


class Selection(NamedTuple):
    """What a stretch of the journal gives a destination: ``received = matched + sum(filtered)``."""

    received: int
    matched: int
    matches: list[Match]
    """One for each subscription that matches an event."""
    filtered: dict[str, int]


class _Metadata(Struct, rename="camel"):
    bundled: list[str] = []
    bundled_ids: list[str] = []
    failed_initializations: list[str] = []


_decode_metadata = msgspec.json.Decoder(_Metadata).decode


class Eligibility:
    """The rules of one destination."""

    def __init__(
        self,
        *,
        names: frozenset[str],
        methods: frozenset[str],
        sources: frozenset[str] | None,
        source_types: frozenset[str],
        type_of_source: Mapping[str, str],
        filters: Filters | None,
        subscriptions: Sequence[Subscription[Any]],
        by_user: bool,
        disabled: bool = False,
        suppressed: Users = NOBODY,
    ) -> None:
        """``names`` are those that ``integrations`` may call it by; ``sources`` None is all of them.

        With ``by_user`` each match carries the key under which its user's events are kept in order.
        """
        self._names = names
        self._methods = methods
        self._sources = sources
        self._source_types = source_types
        self._type_of_source = type_of_source
        self._filters = filters
        self._subscriptions = subscriptions
        self._by_user = by_user
        self._disabled = disabled
        self._suppressed = suppressed
        plain = len(subscriptions) == 1 and subscriptions[0].trigger is None and filters is None
        self._for_all: str | Any | None = subscriptions[0].name if plain else UNSET
        """The one subscription that gets whatever passes, so that the event need not be decoded."""

    @classmethod
    def of(
        cls,
        name: str,
        config: model.Destination,
        subscriptions: Sequence[Subscription[Any]],
        *,
        sources: Mapping[str, model.Source],
        random: Callable[[], float],
        disabled: bool = False,
        suppressed: Users = NOBODY,
    ) -> Self:
        """The rules that the configuration sets, but for ``enabled``. ``random`` gives [0, 1). Raises `FilterError`."""
        destination = get(config.type)
        device = [destination.device.name] if destination.device else []
        return cls(
            names=frozenset({name, destination.type, *destination.names, *device}),
            methods=destination.methods,
            sources=None if config.sources is None else frozenset(config.sources),
            source_types=destination.source_types,
            type_of_source={each: source.type for each, source in sources.items()},
            filters=compile_filters([each.table for each in config.filters], random=random) if config.filters else None,
            subscriptions=subscriptions,
            by_user=config.delivery.ordering == "user",
            disabled=disabled,
            suppressed=suppressed,
        )

    def refusal(self, head: Head) -> str | None:
        """The reason why the event is not for this destination, whatever is in it; None when it may be."""
        if self._suppressed and head.userId in self._suppressed:
            return SUPPRESSED_USER
        if self._disabled:
            return DESTINATION_DISABLED
        if self._sources is not None and head.projectId not in self._sources:
            return SOURCE_NOT_CONNECTED
        if self._type_of_source.get(head.projectId, "server") not in self._source_types:
            return UNSUPPORTED_SOURCE_TYPE
        if head.type not in self._methods:
            return UNSUPPORTED_EVENT_TYPE
        if head.metadata is not UNSET and self._sent_by_device(head.metadata):
            return MESSAGE_SENT_CLIENT_SIDE
        if head.integrations and not self._switched_on(head.integrations):
            return FILTERED_BY_INTEGRATIONS_OBJECT
        return None

    def checks(self, head: Head) -> list[Check]:
        """What `refusal` looks at, each by itself and in words; the first that failed is the refusal."""
        kind = self._type_of_source.get(head.projectId, "server")
        sources = self._sources
        integrations, metadata = head.integrations or {}, head.metadata
        named = {name: integrations[name] for name in (*sorted(self._names), "All") if name in integrations}
        on = not integrations or self._switched_on(integrations)
        by_device = metadata is not UNSET and self._sent_by_device(metadata)
        return [
            Check(
                SOURCE_NOT_CONNECTED,
                sources is None or head.projectId in sources,
                f"it comes from {head.projectId}; the destination is fed from "
                + ("all sources" if sources is None else ", ".join(sorted(sources)) or "none"),
            ),
            Check(
                UNSUPPORTED_SOURCE_TYPE,
                kind in self._source_types,
                f"from a source of type {kind}; it takes {', '.join(sorted(self._source_types))}",
            ),
            Check(
                UNSUPPORTED_EVENT_TYPE,
                head.type in self._methods,
                f"of type {head.type}; it takes {', '.join(sorted(self._methods))}",
            ),
            Check(
                MESSAGE_SENT_CLIENT_SIDE,
                not by_device,
                f"{'' if by_device else 'not '}sent by the device itself, by its _metadata",
            ),
            Check(
                FILTERED_BY_INTEGRATIONS_OBJECT,
                on,
                "integrations: "
                + (", ".join(f"{name} = {_encode(value).decode()}" for name, value in named.items()) or "none named"),
            ),
        ]

    def filter_steps(self, event: dict[str, object]) -> list[FilterStep]:
        """What each filter does to an event, up to the one that drops it."""
        return [] if self._filters is None else list(self._filters.steps(event))

    def select(self, lines: bytes) -> Selection:
        """Sort the events of whole journal lines."""
        matches: list[Match] = []
        filtered: dict[str, int] = {}
        received = matched = 0
        suppressed = self._suppressed or None
        for line in lines.splitlines():
            received += 1
            try:
                head = decode_head(line)
                barred = suppressed is not None and head.userId in suppressed
                reason = SUPPRESSED_USER if barred else self.refusal(head)
                if reason is None and self._for_all is UNSET:
                    found = self.sort(line, head)
                    if isinstance(found, str):
                        reason = found
                    else:
                        matches += found
                elif reason is None:
                    matches.append(self._match(head, line, self._for_all))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                if is_blank(line):
                    received -= 1
                    continue
                reason = UNREADABLE
            if reason is None:
                matched += 1
            else:
                filtered[reason] = filtered.get(reason, 0) + 1
        return Selection(received, matched, matches, filtered)

    def sort(self, line: bytes, head: Head) -> list[Match] | str:
        """The deliveries that an event gives rise to once no check refuses it, or the reason why there are none."""
        event = _decode(line)
        result = FilterResult(event) if self._filters is None else self._filters(event)
        if result.event is None:
            assert result.reason is not None
            return result.reason
        matching = [each.name for each in self._subscriptions if each.trigger is None or each.trigger(result.event)]
        if not matching:
            return NO_MATCHING_MAPPING
        payload = line if result.event is event else _encode(result.event)
        return [self._match(head, payload, name) for name in matching]

    def _match(self, head: Head, payload: bytes, subscription: str | None) -> Match:
        user_key = (head.userId or head.anonymousId) if self._by_user else None
        received = round(head.receivedAt.timestamp() * 1000)
        return Match(head.messageId, payload, received, user_key, subscription)

    def _switched_on(self, integrations: Mapping[str, object]) -> bool:
        own = [integrations[name] for name in self._names if name in integrations]
        return all(each is not False for each in own or [integrations.get("All")])

    def _sent_by_device(self, metadata: Json) -> bool:
        raw = bytes(metadata)  # type: ignore[arg-type]
        if b'"bundled' not in raw:
            return False
        try:
            found = _decode_metadata(raw)
        except msgspec.ValidationError:
            return False  # what is not as any SDK writes it says nothing
        delivered = set(found.bundled).difference(found.failed_initializations)
        if self._names.isdisjoint(found.failed_initializations):
            delivered.update(found.bundled_ids)  # which still have the id of what failed by its name
        return not self._names.isdisjoint(delivered)
