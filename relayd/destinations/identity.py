"""Destinations that take an event in either form: as it is, or as a mapping makes it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from relayd.destinations.action import ActionDestination
from relayd.destinations.base import Request, SettingsT


class IdentityDestination(ActionDestination[SettingsT]):
    """An `ActionDestination` for which no mapping is the identity: an event's bytes are passed on unchanged.

    ``batch_size``, ``max_batch_size`` and ``batch_bytes`` are of the identity; an action has its own `Batching`.
    """

    passes_on = True

    def requests(
        self,
        action: str,
        settings: SettingsT | Mapping[str, object],
        mapping: Mapping[str, object] | None,
        events: Sequence[bytes | dict[str, object]],
        *,
        batch: bool,
        now: float | str,
    ) -> list[Request]:
        """As `Destination.requests` without a mapping, whatever the action; as `ActionDestination.requests` with one.

        The identity takes events as bytes, settings as their struct, and ``now`` in Unix seconds.
        """
        if mapping is None:
            return self.pass_on(settings, events, batch=batch, now=now)  # type: ignore[arg-type]
        return super().requests(action, settings, mapping, events, batch=batch, now=now)

    @abstractmethod
    def pass_on(self, settings: SettingsT, events: Sequence[bytes], *, batch: bool, now: float) -> list[Request]:
        """The requests that deliver ``events`` as they are; with ``batch`` all in one, without one for each."""
