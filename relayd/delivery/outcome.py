"""What an attempt came to, and what becomes of the delivery: two tables, and nothing else decides.

Rules
- 2xx is delivered. Nothing else is.
- What may pass by itself is retried: 5xx but 501, 408, 423, 425, 429, network faults and timeouts (Segment's rule).
- What will not is held: any other answer, 3xx included (a redirect is never followed: it would lose the body). Held is
  not lost: a dead letter can be looked at and redriven once the cause is mended.
- A retry that comes too late has expired, which is held too, under a reason of its own.

    state       event       becomes
    pending     send        in flight
    in flight   deliver     delivered (counted, and gone from the outbox)
    in flight   fail        pending, with a later due time
    in flight   refuse      held
    in flight   expire      expired
    in flight   put back    pending, as if it had not been sent (a stop came first)
    pending     expire      expired (the destination is known to be down)
    held        redrive     pending, as new
    expired     redrive     pending, as new
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from msgspec import Struct

EXPIRED = "EXPIRED"
MESSAGE_REJECTED = "MESSAGE_REJECTED"
INVALID_SETTINGS = "INVALID_SETTINGS"
TIMED_OUT = "ETIMEDOUT"


class State(Enum):
    """Where a delivery stands."""

    PENDING = "pending"
    IN_FLIGHT = "in flight"
    DELIVERED = "delivered"
    HELD = "held"
    EXPIRED = "expired"


class Event(Enum):
    """What happens to a delivery."""

    SEND = "send"
    DELIVER = "deliver"
    FAIL = "fail"
    REFUSE = "refuse"
    EXPIRE = "expire"
    PUT_BACK = "put back"
    REDRIVE = "redrive"


TRANSITIONS = {
    (State.PENDING, Event.SEND): State.IN_FLIGHT,
    (State.IN_FLIGHT, Event.DELIVER): State.DELIVERED,
    (State.IN_FLIGHT, Event.FAIL): State.PENDING,
    (State.IN_FLIGHT, Event.REFUSE): State.HELD,
    (State.IN_FLIGHT, Event.EXPIRE): State.EXPIRED,
    (State.IN_FLIGHT, Event.PUT_BACK): State.PENDING,
    (State.PENDING, Event.EXPIRE): State.EXPIRED,
    (State.HELD, Event.REDRIVE): State.PENDING,
    (State.EXPIRED, Event.REDRIVE): State.PENDING,
}

_RETRIED = frozenset({408, 423, 425, 429})
_NOT_RETRIED = frozenset({501})
SPLIT = frozenset({"400", "413", "422", MESSAGE_REJECTED})
"""Refusals of a batch that may be the fault of one event in it: the batch is halved and sent again."""


class Outcome(Struct, frozen=True):
    """What an attempt came to: DELIVER, FAIL (try again) or REFUSE (hold), with the reason it is counted under."""

    event: Event
    reason: str = ""
    detail: str = ""
    """For a person: what came back, bounded and with secrets masked."""
    retry_after: float | None = None
    """Seconds that the destination asked for."""
    alive: bool | None = True
    """Whether the destination showed itself at work (not by a 5xx or a network fault); None: it was not asked."""
    unanswered: bool = False
    """Whether no answer came."""


DELIVERED = Outcome(Event.DELIVER)


def of_status(status: int, *, retry_after: str | None, detail: str, now: float) -> Outcome:
    """The outcome of an HTTP answer. ``retry_after`` is the header's text; ``now`` is in Unix seconds."""
    if 200 <= status < 300:
        return DELIVERED
    if status in _RETRIED or (status >= 500 and status not in _NOT_RETRIED):
        wait = parse_retry_after(retry_after, now)
        return Outcome(Event.FAIL, str(status), detail, wait, alive=status < 500)
    return Outcome(Event.REFUSE, str(status), detail)


def of_fault(reason: str, detail: str) -> Outcome:
    """The outcome of a network fault; ``reason`` is its code, such as ECONNRESET."""
    return Outcome(Event.FAIL, reason, detail, alive=False, unanswered=True)


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Seconds from a Retry-After header (delta seconds or an HTTP date, RFC 9110 10.2.3); None when it is neither."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now, 0)
