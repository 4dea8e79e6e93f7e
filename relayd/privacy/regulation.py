"""What is asked for about people, in the words of Segment's Public API (https://docs.segmentapis.com, "Deletion and
Suppression"): a regulation has a type, the ids of users, and a status."""

from typing import Literal

from msgspec import Struct, field

Kind = Literal["SUPPRESS_ONLY", "UNSUPPRESS", "SUPPRESS_WITH_DELETE", "DELETE_ONLY"]
"""
    SUPPRESS_ONLY         no more events are taken; what waits for destinations goes; history stays
    UNSUPPRESS            events are taken again
    SUPPRESS_WITH_DELETE  no more events are taken, and history goes too
    DELETE_ONLY           history goes; events that come from now on are taken
"""
Status = Literal["INITIALIZED", "RUNNING", "FINISHED", "FAILED"]

SUPPRESSES = frozenset({"SUPPRESS_ONLY", "SUPPRESS_WITH_DELETE"})
DELETES = frozenset({"SUPPRESS_WITH_DELETE", "DELETE_ONLY"})
MAX_USERS = 5000
"""Users that one regulation may name, as at Segment."""
SUPPRESSED_USER, DELETED_USER = "SUPPRESSED_USER", "DELETED_USER"
"""What deliveries that are taken out of an outbox are counted under."""


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """What POST /regulations takes. Raises ``ValueError`` for what can not be done."""

    type: Kind
    user_ids: list[str]
    with_anonymous: bool = False
    """Whether events without a userId go too, of the anonymousIds that an identify of the user's had."""
    forward: bool = False
    """Whether the destinations that offer it are told to delete the users too."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.user_ids) <= MAX_USERS:
            raise ValueError(f"a regulation names 1 to {MAX_USERS:,} users, not {len(self.user_ids):,}")
        if not all(self.user_ids):
            raise ValueError("a userId is empty")
        if self.type not in DELETES and (self.with_anonymous or self.forward):
            raise ValueError(f"with_anonymous and forward are for deletions, not for {self.type}")


class Regulation(Struct, kw_only=True):
    """A regulation and how it stands, as ``relayd privacy list --json`` shows it. Times in Unix seconds.

    The users' ids are kept only until it is done; then their digests under a secret key are left.
    """

    id: str
    type: Kind
    status: Status
    created: float
    ended: float | None = None
    users: int
    """How many it names."""
    with_anonymous: bool = False
    forward: bool = False
    share: float = 0.0
    """How much is done, 0 to 1."""
    events: int = 0
    """Events deleted from journal and archive."""
    deliveries: int = 0
    """Deliveries removed from outboxes, pending or held."""
    forwarded: dict[str, str] = field(default_factory=dict)
    """By destination: "pending", "done", or why it failed."""
    failure: str | None = None
    """Why it failed, or what it waits for and tries again."""
