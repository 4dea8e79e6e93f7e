"""What goes wrong at a sink, said in one struct: for which messages, how often, and how.

Which messages fail is decided by a hash of their messageId: the same ones in every run, whatever the order, so that a
test can know them and a retry succeeds. A batch fails as its first event does.
"""

from typing import Literal, get_args

from msgspec import Struct
from xxhash import xxh3_64_intdigest

Kind = Literal["status", "hang", "reset", "close", "drip", "garbage", "endless"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""status: an answer with ``status``. hang: no answer, the connection stays open. reset: the connection is reset.
close: it is closed without an answer. drip: the answer comes one byte at a time. garbage: what comes is not HTTP.
endless: an answer whose body does not end.
"""


class Faults(Struct, frozen=True, kw_only=True):
    """How a sink fails; the default is not at all."""

    share: float = 0.0
    """Of messages that fail, 0 to 1."""
    attempts: int = 1
    """How often each of these fails before it succeeds; 0: always."""
    kinds: tuple[Kind, ...] = ("status",)
    """Each message that fails does so in one of these ways, in equal parts."""
    status: int = 503
    """Of the answer, where there is one."""
    retry_after: float | None = None
    """Seconds, sent in Retry-After with ``status``; rounded up."""
    latency: float = 0.0
    """Seconds before every answer, good or bad."""
    pause: float = 0.1
    """Seconds between two bytes of a drip."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is between 0 and 1, not {self.share}")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds are some of {', '.join(KINDS)}, not {', '.join(self.kinds) or 'none'}")
        if not 100 <= self.status <= 999:
            raise ValueError(f"status is between 100 and 999, not {self.status}")
        if min(self.attempts, self.retry_after or 0, self.latency, self.pause) < 0:
            raise ValueError("attempts, retry_after, latency and pause are not negative")

    def fault(self, message_id: str, attempt: int) -> Kind | None:
        """How this attempt, the first being 1, at a message fails; None: it succeeds."""
        if self.share == 0 or 0 < self.attempts < attempt:
            return None
        point = xxh3_64_intdigest(message_id.encode()) / 2**64
        if point >= self.share:
            return None
        return self.kinds[int(point / self.share * len(self.kinds))]
