"""The deliveries an actor has in memory: which go out next, and in which order a user's events do. Pure.

With ``ordered``, no event of a user leaves while an earlier one is in flight. Those that come up meanwhile stand behind
it, in order: when it is settled, the next one's turn has come; when it has failed, all of them go back to wait in the
outbox. Several events of a user may leave in one batch, in order.

A delivery is here from when it is brought from the outbox until what became of it is recorded there.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from itertools import chain

from relayd.delivery.outbox import Delivery


class Ready:
    """Bounded by who adds to it: see ``room``."""

    def __init__(self, *, ordered: bool, limit: int, size: int) -> None:
        """``limit`` is how many deliveries, ``size`` how many bytes of payload to keep in memory, in flight or not."""
        self._ordered = ordered
        self._limit = limit
        self._size = size
        self._queue: deque[Delivery] = deque()
        self._turns: deque[Delivery] = deque()
        """Whose user's event before is settled."""
        self._behind: dict[str, deque[Delivery]] = {}
        """For each user with an event in flight, or in ``_turns``, what stands behind it."""
        self._held: dict[int, Delivery] = {}
        self._bytes = 0
        self._untried: list[int] = []
        """A heap of ids of first attempts; those that are gone are dropped when they come up."""
        self.watermark = 0
        """The id up to which the outbox's untried deliveries were brought here."""

    def __len__(self) -> int:
        """How many could be taken now."""
        return len(self._queue) + len(self._turns)

    @property
    def ids(self) -> Collection[int]:
        """Everything in memory, in flight included."""
        return self._held.keys()

    @property
    def room(self) -> int:
        """How many deliveries more; 0 also when the bytes are used up."""
        return max(self._limit - len(self._held), 0) if self._bytes < self._size else 0

    @property
    def room_bytes(self) -> int:
        return max(self._size - self._bytes, 0)

    @property
    def tried_up_to(self) -> int:
        """The id up to which no delivery awaits its first attempt, or the record of it."""
        while self._untried and self._untried[0] not in self._held:
            heappop(self._untried)
        return min(self._untried[0] - 1, self.watermark) if self._untried else self.watermark

    def add_untried(self, deliveries: Sequence[Delivery]) -> None:
        """The next ones from the outbox, in order of id; moves the watermark. What is here already is passed over."""
        if deliveries:
            self.watermark = max(self.watermark, deliveries[-1].id)
            for each in deliveries:
                if each.id not in self._held:
                    heappush(self._untried, each.id)
                    self._add(each)

    def add_due(self, deliveries: Iterable[Delivery]) -> None:
        """Failed ones that are due."""
        for each in deliveries:
            self._add(each)

    def take(self, count: int, size: int) -> list[Delivery]:
        """The next batch: ``count`` deliveries and ``size`` bytes of payload at most, but one at least, if any."""
        batch: list[Delivery] = []
        users: set[str] = set()
        while len(batch) < count and (source := self._turns or self._queue):
            each, user = source[0], source[0].user_key
            if batch and size < len(each.payload):
                break
            source.popleft()
            if self._ordered and user is not None:
                behind = self._behind.get(user)
                if behind is None:
                    self._behind[user] = deque()
                elif source is self._queue and (behind or user not in users):
                    behind.append(each)
                    continue
                elif behind:  # its turn has come, and that of the next will come before any other's
                    self._turns.appendleft(behind.popleft())
                users.add(user)
            batch.append(each)
            size -= len(each.payload)
        self._give_back_turns(users)
        return batch

    def detach(self, users: Collection[str]) -> list[Delivery]:
        """Take out what comes behind the events of these users, which failed; it counts as here until settled."""
        found: list[Delivery] = []
        for user in users:
            found += self._behind[user]
            self._behind[user].clear()
        queue = self._queue
        self._queue = deque(each for each in queue if each.user_key not in users)
        found += (each for each in queue if each.user_key in users)
        return found

    def settle(self, recorded: Iterable[Delivery]) -> None:
        """What became of these deliveries is recorded; the outbox holds back what comes behind those that failed."""
        users: dict[str, None] = {}
        for each in recorded:
            self._forget(each)
            if self._ordered and each.user_key is not None:
                users[each.user_key] = None
        for user in users:
            behind = self._behind[user]
            if behind:
                self._turns.append(behind.popleft())
            else:
                del self._behind[user]

    def clear(self) -> None:
        """Forget what is not in flight; it is still in the outbox, from where it is brought again."""
        self.watermark = self.tried_up_to
        for each in chain(self._queue, self._turns, *self._behind.values()):
            self._forget(each)
        for turn in self._turns:
            if turn.user_key is not None:
                self._behind.pop(turn.user_key, None)
        for behind in self._behind.values():
            behind.clear()
        self._queue.clear()
        self._turns.clear()

    def _give_back_turns(self, users: Collection[str]) -> None:
        """Users whose events left have no turn: what was next of theirs stands behind them again."""
        while self._turns and self._turns[0].user_key in users:
            turn = self._turns.popleft()
            assert turn.user_key is not None
            self._behind[turn.user_key].appendleft(turn)

    def _add(self, each: Delivery) -> None:
        self._held[each.id] = each
        self._bytes += len(each.payload)
        self._queue.append(each)

    def _forget(self, each: Delivery) -> None:
        if self._held.pop(each.id, None) is not None:
            self._bytes -= len(each.payload)
