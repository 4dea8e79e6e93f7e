"""From what attempts came to, to what the outbox records. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence

import trio
from msgspec import Struct, field

from relayd.delivery.latency import bucket
from relayd.delivery.outbox import BEHIND, Delivery, Hold, Results, Retry
from relayd.delivery.outcome import DELIVERED, EXPIRED, TRANSITIONS, Event, Outcome, State
from relayd.delivery.schedule import Policy, next_due


class Ended(Struct, eq=False):
    """A batch with the outcome of each delivery, to be recorded."""

    batch: list[Delivery]
    outcomes: list[Outcome]
    at: float
    """Unix seconds."""
    behind: list[Delivery] = field(default_factory=list)
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def failed_users(self) -> set[str]:
        """Whose events after these have to wait."""
        pairs = zip(self.batch, self.outcomes, strict=True)
        users = {each.user_key for each, result in pairs if result.event is Event.FAIL}
        return {user for user in (*users, *(each.user_key for each in self.behind)) if user is not None}


def settle(entries: Sequence[Ended], policy: Policy, random: Callable[[], float]) -> Results:
    """What to record of batches that ended: rows and counters."""
    results = Results([], [], [], [], {})
    for entry in entries:
        results.behind += entry.behind
        if all(result is DELIVERED for result in entry.outcomes):
            _settle_delivered(results, entry)
            continue
        failed_users: set[str | None] = set()
        for each, result in zip(entry.batch, entry.outcomes, strict=True):
            _settle_one(results, each, result, entry.at, policy, random, failed_users)
    return results


def _settle_delivered(results: Results, entry: Ended) -> None:
    """As `_settle_one` for all of a batch, which is the usual case."""
    batch = entry.batch
    results.delivered += batch
    _count(results, "delivered", len(batch))
    _count(results, "attempts:ok", len(batch))
    _count(results, "first_attempts:ok", sum(not each.attempts for each in batch))
    for received, count in Counter(each.received for each in batch).items():
        _count(results, f"latency:{bucket(max(entry.at - received / 1000, 0))}", count)


def _settle_one(
    results: Results,
    each: Delivery,
    result: Outcome,
    at: float,
    policy: Policy,
    random: Callable[[], float],
    failed_users: set[str | None],
) -> None:
    """``failed_users`` are those with a failed event before in the batch; theirs is added."""
    now = round(at * 1000)
    attempts, first = each.attempts + 1, now if each.first_attempt is None else each.first_attempt
    event, due = result.event, 0.0
    if event is Event.FAIL:
        again = next_due(
            policy, attempts=attempts, first=first / 1000, now=at, retry_after=result.retry_after, random=random
        )
        if again is None:
            event = Event.EXPIRE
        else:
            due = again
    kind = "ok" if event is Event.DELIVER else "failed"
    _count(results, f"attempts:{kind}")
    if not each.attempts:
        _count(results, f"first_attempts:{kind}")
    match TRANSITIONS[State.IN_FLIGHT, event]:
        case State.DELIVERED:
            _count(results, "delivered")
            _count(results, f"latency:{bucket(max(at - each.received / 1000, 0))}")
            results.delivered.append(each)
        case State.PENDING:
            behind = each.user_key in failed_users
            if each.user_key is not None:
                failed_users.add(each.user_key)
            retry_at = BEHIND if behind else round(due * 1000)
            results.retries.append(Retry(each, attempts, first, retry_at, result.reason, result.detail))
        case State.EXPIRED:
            _hold(results, Hold(each, attempts, first, now, EXPIRED, f"{result.reason}: {result.detail}"))
        case State.HELD:
            _hold(results, Hold(each, attempts, first, now, result.reason, result.detail))


def _hold(results: Results, hold: Hold) -> None:
    _count(results, "failed")
    _count(results, f"failed:{hold.reason}")
    results.holds.append(hold)


def _count(results: Results, name: str, by: int = 1) -> None:
    results.counts[name] = results.counts.get(name, 0) + by
