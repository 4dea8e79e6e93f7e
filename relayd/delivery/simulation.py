"""What a retry policy makes of a destination that fails: the real decisions on virtual time. Pure.

Each event is an attempt at time 0 and then whatever `relayd.delivery.settlement.settle` says of its outcome: the
settlement, the schedule, the table of states and the histogram of delays are those of the actor; only time and the
destination are not real.

The destination, as one event finds it
- It refuses the share ``refused`` of the events whenever they come (400: held at once).
- It is down during outages, and answers 503 to everything. Their lengths are heavy-tailed, as those of real incidents
  are: the share that outlasts t is ``(1 + t/mean)**-2``, so half end within 0.41 of the mean and one in 121 lasts ten
  times as long. The times between them are exponential.
- A request may also fail by itself (503), independently of all others.

``success_rate`` is the share of first attempts that are accepted. Of what it lacks, besides what is refused,
``Outages.share`` is due to outages and the rest to requests that fail by themselves.

Each event comes at a moment of its own, however long the others' outages are: with heavy tails no affordable stretch of
one timeline would have the average. And the moments are spread evenly (stratified), so that the first-attempt rate is
exact to one event, and the luck of a seed only shows in what comes after. Of one seed, every policy meets the same
destination.

The published example (93.36 % of requests accepted, 99.28 % finally delivered, retried for 4 h) has one unknown in this
model, the mean length. A moment within an outage has the share ``1 / (1 + t/mean)`` of its kind still t before the end.
So what is lost is ``(1 - 0.9336) / (1 + 4 h/mean)``, which is 1 - 0.9928 when the mean is 1,751 s. That is `PUBLISHED`,
with all failures due to outages. It reads "requests" as first attempts, as the status page does. Read as all requests,
retries included, the example has 0.9928 / 0.9336 = 1.063 attempts an event, which leaves no room for events that were
tried for 4 h in vain: what was lost must then have been refused. That is ``refused=0.0072`` without outages.

What it leaves out is the breaker. relayd holds events back while a destination is known to be down; that saves most of
the failing requests, uses up no attempts, and so delivers more than shown here where a policy counts attempts.
"""

import math
from collections.abc import Iterator
from random import Random

import trio
from msgspec import Struct

from relayd.delivery.latency import BOUNDS, percentile
from relayd.delivery.outbox import Delivery
from relayd.delivery.outcome import of_status
from relayd.delivery.schedule import Policy
from relayd.delivery.settlement import Ended, settle

HORIZON = 48 * 3600.0
"""Seconds; what is pending after that is counted as pending."""

_OUTCOMES = {status: of_status(status, retry_after=None, detail="simulated", now=0) for status in (200, 400, 503)}


class Outages(Struct, frozen=True):
    """``mean`` length in seconds, and the ``share`` of failing first attempts that is due to them (0 to 1)."""

    mean: float = 0.0
    share: float = 0.0


PUBLISHED = Outages(mean=1751.0, share=1.0)
OUTAGES = {"none": Outages(), "published": PUBLISHED}


class Destination(Struct, frozen=True):
    """A destination as the module describes it. All but ``outages`` are shares from 0 to 1."""

    success_rate: float
    outages: Outages = PUBLISHED
    refused: float = 0.0

    @property
    def down(self) -> float:
        """The share of time in which it is down."""
        return self.outages.share * (1 - self.success_rate / (1 - self.refused))

    @property
    def flaky(self) -> float:
        """The share of requests that fail by themselves while it is up."""
        return 1 - self.success_rate / (1 - self.refused) / (1 - self.down)

    def check(self) -> None:
        """Raise ``ValueError`` with what does not fit together."""
        if not 0 < self.success_rate <= 1 - self.refused:
            raise ValueError(
                f"a success rate of {self.success_rate:g} is impossible when {self.refused:g} of the events are refused"
            )


class Encounter:
    """A destination from the moment at which an event first comes to it."""

    __slots__ = ("_destination", "_down", "_fails", "_random", "_refused", "_seed", "_until")

    def __init__(self, destination: Destination, place: float, seed: int) -> None:
        """``place`` from 0 to 1 says which moment it is: spread evenly, they are all there are."""
        self._destination, self._seed = destination, seed
        self._random: Random | None = None
        self._refused = place < destination.refused
        place = (place - destination.refused) / (1 - destination.refused)
        down = destination.down
        self._fails = self._down = 0 <= place < down
        self._until = math.inf
        """When it goes down or comes up next."""
        if self._down:
            self._until = destination.outages.mean * (down / (down - place) - 1)
        else:
            self._fails = (place - down) / (1 - down) < destination.flaky
            if down:
                self._down, self._until = True, 0.0  # an outage has just ended: how long it was up before is no matter

    def answer(self, at: float) -> int:
        """The status of a request ``at`` seconds after the first, which is at 0. Times must not fall."""
        if self._refused:
            return 400
        if at > 0:
            self._go_on(at)
        return 503 if self._fails else 200

    def _go_on(self, at: float) -> None:
        if self._random is None:
            self._random = Random(self._seed)  # noqa: S311  nothing secret
        random = self._random
        while at >= self._until:
            self._down = not self._down
            down, mean = self._destination.down, self._destination.outages.mean
            if self._down:
                self._until += mean * ((1 - random.random()) ** -0.5 - 1)
            else:
                self._until += random.expovariate(down / (mean * (1 - down)))
        self._fails = self._down or random.random() < self._destination.flaky


class Figures(Struct, frozen=True):
    """What became of a policy's events."""

    events: int
    pending: int
    """Not settled at the horizon."""
    counts: dict[str, int]
    """The counters that the actor's outbox would have."""

    @property
    def delivered(self) -> int:
        return self.counts.get("delivered", 0)

    @property
    def failed(self) -> dict[str, int]:
        """Held, by reason."""
        return self._totals("failed")

    @property
    def attempts(self) -> int:
        return sum(self._totals("attempts").values())

    @property
    def first_attempt(self) -> float:
        """The share of events that were delivered at their first attempt."""
        return self.counts.get("first_attempts:ok", 0) / self.events

    @property
    def final(self) -> float:
        """The share of events that were delivered."""
        return self.delivered / self.events

    @property
    def accepted(self) -> float:
        """The share of all requests, retries included, that were accepted."""
        return self.counts.get("attempts:ok", 0) / self.attempts

    def delay(self, share: float) -> float | None:
        """Seconds after which ``share`` of what was delivered had been; None when nothing was."""
        return percentile(self._delays, share)

    def delivered_by(self) -> list[tuple[float, float]]:
        """Seconds, and the share of events that were delivered by then; up to the horizon."""
        points, delivered = [], 0
        for place, count in sorted(self._delays.items()):
            delivered += count
            points.append((BOUNDS[place] if place < len(BOUNDS) else HORIZON, delivered / self.events))
        return [*points, (HORIZON, self.final)]

    @property
    def _delays(self) -> dict[int, int]:
        return {int(place): count for place, count in self._totals("latency").items()}

    def _totals(self, prefix: str) -> dict[str, int]:
        start = prefix + ":"
        return {name[len(start) :]: count for name, count in self.counts.items() if name.startswith(start)}


def encounters(destination: Destination, events: int, seed: int) -> Iterator[Encounter]:
    """What so many events meet, in no particular order; the same for the same arguments."""
    random = Random(seed)  # noqa: S311  nothing secret
    strata = list(range(events))
    random.shuffle(strata)
    for stratum in strata:
        yield Encounter(destination, (stratum + random.random()) / events, random.getrandbits(32))


def simulate(policy: Policy, destination: Destination, *, events: int, seed: int) -> Figures:
    """Deliver so many events, one a request, at time 0, and what fails when the policy says."""
    destination.check()
    met = list(encounters(destination, events, seed))
    random = Random(seed).random  # noqa: S311  nothing secret
    counts: dict[str, int] = {}
    pending = 0
    nobody, done = list[Delivery](), trio.Event()  # shared, as they are not used and take time to make
    deliveries = [Delivery(number, "", None, 0, b"") for number in range(events)]
    attempted = [Ended(deliveries, [_OUTCOMES[each.answer(0.0)] for each in met], 0.0, nobody, done)]
    while attempted:
        results = settle(attempted, policy, random)
        for name, count in results.counts.items():
            counts[name] = counts.get(name, 0) + count
        attempted = []
        for retry in results.retries:
            at, each = retry.due / 1000, retry.delivery
            if at > HORIZON:
                pending += 1
                continue
            each.attempts, each.first_attempt = retry.attempts, retry.first_attempt
            attempted.append(Ended([each], [_OUTCOMES[met[each.id].answer(at)]], at, nobody, done))
    return Figures(events, pending, counts)
