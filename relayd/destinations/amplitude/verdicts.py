"""What Amplitude's answer to a request with many events says of each.

It takes all events of a request or none, and says in a refusal which were at fault, by their places in ``events``
(amplitude.com/docs/apis/analytics/http-v2, /batch-event-upload and /http-api-batching-retries):

- 400: ``events_with_invalid_fields`` and ``events_with_missing_fields`` by field, ``silenced_events`` of devices that
  Amplitude has blocked. Also ``events_with_invalid_id_lengths``, which only Amplitude's SDKs know
  (amplitude/Amplitude-TypeScript#81). Those are held; they would be refused again, and everything beside them too.
- 429, and a 400 that also silences: ``throttled_events`` and the users and devices over their quota of a day. They are
  retried: both limits pass.
- The rest of a refused request is retried. No event of it was taken.

A refusal that names no event is about the request, and holds for all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from relayd.destinations.action import Payload, Verdict

Places = Mapping[str, Sequence[int]]


class _Refusal(Struct, frozen=True):
    """The members that matter of an answer."""

    error: str = ""
    events_with_missing_fields: Places = field(default_factory=dict)
    events_with_invalid_fields: Places = field(default_factory=dict)
    events_with_invalid_id_lengths: Places = field(default_factory=dict)
    silenced_events: Sequence[int] = ()
    throttled_events: Sequence[int] = ()
    exceeded_daily_quota_users: Mapping[str, Any] = field(default_factory=dict)
    exceeded_daily_quota_devices: Mapping[str, Any] = field(default_factory=dict)


_decode = msgspec.json.Decoder(_Refusal).decode


class Verdicts:
    """Reads answers for an action that makes ``count(payload)`` events of a payload."""

    def __init__(self, count: Callable[[Payload], int]) -> None:
        self._count = count

    def of_batch(self, payloads: Sequence[Payload], status: int, body: bytes) -> list[Verdict] | None:
        """As `Batching.verdicts`."""
        if status not in (400, 429):
            return None
        try:
            refusal = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        faults = _faults(refusal)
        found: list[Verdict | None] = []
        place = 0
        for payload in payloads:
            end = place + self._count(payload)
            of_events = [faults[index] for index in range(place, end) if index in faults]
            held = next((verdict for verdict in of_events if verdict.kind == "hold"), None)
            found.append(held or _quota(payload, refusal) or next(iter(of_events), None))
            place = end
        if not any(found):
            return None
        rest = Verdict("retry", "batch_refused", f"{refusal.error}, of others in the same request")
        return [verdict or rest for verdict in found]

    def of_one(self, payload: Payload, status: int, body: bytes) -> Verdict | None:
        """As `Action.verdicts`."""
        verdicts = self.of_batch([payload], status, body)
        return None if verdicts is None else verdicts[0]


def _faults(refusal: _Refusal) -> dict[int, Verdict]:
    """By the place of an event. What is held wins over what is retried."""
    faults = {place: Verdict("retry", "throttled", refusal.error) for place in refusal.throttled_events}
    faults |= {place: Verdict("hold", "silenced", refusal.error) for place in refusal.silenced_events}
    for reason, places_by_field in (
        ("invalid_id_length", refusal.events_with_invalid_id_lengths),
        ("invalid_field", refusal.events_with_invalid_fields),
        ("missing_field", refusal.events_with_missing_fields),
    ):
        for name, places in places_by_field.items():
            faults |= {place: Verdict("hold", reason, f"{refusal.error}: {name}") for place in places}
    return faults


def _quota(payload: Payload, refusal: _Refusal) -> Verdict | None:
    over = (
        payload.get("user_id") in refusal.exceeded_daily_quota_users
        or payload.get("device_id") in refusal.exceeded_daily_quota_devices
    )
    return Verdict("retry", "daily_quota", refusal.error) if over else None
