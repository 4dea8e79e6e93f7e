"""What every destination is: settings, limits, and a pure function from events to requests.

A destination knows no clock, no network and no disk: the delivery actor hands it events and sends what it returns.
"""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from msgspec import Struct

from relayd.config.model import Section

METHODS = frozenset({"track", "identify", "page", "screen", "group", "alias"})


class Request(Struct, frozen=True):
    """One call to a destination. ``url``'s scheme picks the transport: ``http``, ``https`` or ``file``."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class InvalidSettings(ValueError):
    """Settings that are well-typed but can not work together; the message says which and what to do."""


SettingsT = TypeVar("SettingsT", bound=Section)


class Destination(ABC, Generic[SettingsT]):
    """One type of destination; the instance has no state."""

    type: ClassVar[str]
    settings: ClassVar[builtins.type[Section]]
    """The struct that ``[destinations.NAME.settings]`` is checked against."""
    methods: ClassVar[frozenset[str]] = METHODS
    """The event types it takes; another is filtered as UNSUPPORTED_EVENT_TYPE."""
    action: ClassVar[str] = "send"
    """The action that runs when no subscription says otherwise."""
    batch_size: ClassVar[int] = 1
    """Events a request when the configuration does not say."""
    max_batch_size: ClassVar[int] = 1
    """Events a request at most; 1: the destination takes no batches."""
    batch_bytes: ClassVar[int] = 4_000_000
    """Bytes of events in a request when the configuration does not say, and at most."""

    def check(self, settings: SettingsT) -> None:
        """Raise `InvalidSettings` for what the types alone do not exclude."""

    @abstractmethod
    def requests(
        self,
        action: str,
        settings: SettingsT,
        mapping: Mapping[str, object] | None,
        events: Sequence[bytes],
        *,
        batch: bool,
        now: float,
    ) -> list[Request]:
        """The requests that deliver ``events`` (each a JSON object, encoded), in order.

        With ``batch`` one request carries them all; without, there is one request an event. ``mapping`` None is the
        identity: an event's bytes are passed on as they are. ``now`` is in Unix seconds.

        Raises ``ValueError`` for events that the destination can not take: the actor finds out which, and holds them.
        """
