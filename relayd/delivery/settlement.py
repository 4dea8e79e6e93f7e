"""From what attempts came to, to what the outbox records. Pure."""

from collections.abc import Callable, Sequence

import trio
from msgspec import Struct, field

from relayd.delivery import outcome as outcomes
from relayd.delivery.latency import bucket
from relayd.delivery.outbox import BEHIND, Delivery, Hold, Results, Retry
from relayd.delivery.outcome import Event, Outcome
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
        waiting: set[str] = set()
        for each, result in zip(entry.batch, entry.outcomes, strict=True):
            delivered = result.event is Event.DELIVER
            _count(results, "attempts:ok" if delivered else "attempts:failed")
            if not each.attempts:
                _count(results, "first_attempts:ok" if delivered else "first_attempts:failed")
            if delivered:
                _count(results, "delivered")
                _count(results, f"latency:{bucket(max(entry.at - each.received / 1000, 0))}")
                results.delivered.append(each)
            else:
                _fail(results, each, result, entry.at, policy, random, waiting)
    return results


def _fail(
    results: Results,
    each: Delivery,
    result: Outcome,
    at: float,
    policy: Policy,
    random: Callable[[], float],
    waiting: set[str],
) -> None:
    now = round(at * 1000)
    first = now if each.first_attempt is None else each.first_attempt
    attempts, reason, detail, due = each.attempts + 1, result.reason, result.detail, None
    if result.event is Event.FAIL:
        due = next_due(
            policy, attempts=attempts, first=first / 1000, now=at, retry_after=result.retry_after, random=random
        )
        if due is None:
            reason, detail = outcomes.EXPIRED, f"{result.reason}: {result.detail}"
    if due is None:
        _count(results, "failed")
        _count(results, f"failed:{reason}")
        results.holds.append(Hold(each, attempts, first, now, reason, detail))
        return
    behind = each.user_key in waiting
    if each.user_key is not None:
        waiting.add(each.user_key)
    results.retries.append(Retry(each, attempts, first, BEHIND if behind else round(due * 1000), reason, detail))


def _count(results: Results, name: str) -> None:
    results.counts[name] = results.counts.get(name, 0) + 1
