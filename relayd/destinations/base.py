"""What every destination is: settings, limits, and a pure function from events to requests.

A destination knows no clock, no network and no disk: the delivery actor hands it events and sends what it returns.
"""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from msgspec import Struct

from relayd.config.model import Section
from relayd.destinations.modes import DeviceMode, Integration, public_settings

if TYPE_CHECKING:
    from relayd.destinations.action import Action, Preset

SOURCE_TYPES = frozenset({"web", "mobile", "server", "cloud_app", "function"})
METHODS = frozenset({"track", "identify", "page", "screen", "group", "alias"})


class Request(Struct, frozen=True):
    """One call to a destination. ``url``'s scheme picks the transport: ``http``, ``https``, ``file``, ``function``."""

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

    passes_on: ClassVar[bool] = True
    """Whether events are passed on as they are, when the configuration has no subscriptions."""
    title: ClassVar[str] = ""
    """What people call it."""
    names: ClassVar[tuple[str, ...]] = ()
    """What ``integrations`` may call it by, besides its type and its name in the configuration."""
    source_types: ClassVar[frozenset[str]] = SOURCE_TYPES
    """The types of sources it takes events from; those of another are filtered as UNSUPPORTED_SOURCE_TYPE."""
    actions: ClassVar[Mapping[str, "Action"]] = {}
    presets: ClassVar[Sequence["Preset"]] = ()
    cloud: ClassVar[bool] = True
    """Whether relayd sends to it. Where it does not, there is no actor and no outbox."""
    serial: ClassVar[bool] = False
    """Whether it takes one request at a time, whatever ``delivery.concurrency`` says."""
    deletes: ClassVar[bool] = False
    """Whether it can be told to delete users: `deletions`."""
    device: ClassVar[DeviceMode | None] = None
    """Where web pages or apps can talk to it themselves, with the settings that are marked `public`."""

    def check(self, settings: SettingsT) -> None:
        """Raise `InvalidSettings` for what the types alone do not exclude."""

    def check_mapped(self, settings: SettingsT) -> None:
        """The same for a destination with subscriptions, whose mappings may say what the settings do not."""
        self.check(settings)

    def integration(self, settings: SettingsT, source_type: str) -> Integration | None:
        """What the SDKs of such sources are told of it in device-mode; None where it has none."""
        if self.device is None or source_type not in self.device.source_types:
            return None
        return Integration(self.device.name, public_settings(settings))

    def deletions(self, settings: SettingsT, ids: Sequence[str], now: float) -> list[Request]:
        """The requests that have the vendor delete users, by their userIds. ``now`` is in Unix seconds.

        Raises ``ValueError`` when the settings that this needs are missing. Only where `deletes` is true.
        """
        raise NotImplementedError

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
