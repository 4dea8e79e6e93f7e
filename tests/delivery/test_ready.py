"""What an actor has in memory keeps each user's events in order, whatever fails, and forgets nothing."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relayd.delivery.outbox import Delivery
from relayd.delivery.ready import Ready


class Model(RuleBasedStateMachine):
    """Ready beside a simple outbox: what is pending, what failed, and which users are held back there."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = Ready(ordered=True, limit=50, size=10_000)
        self.pending: dict[int, str] = {}
        self.held_back: set[int] = set()
        self.last = 0
        self.flights: list[list[Delivery]] = []
        self.sent: dict[str, int] = {}

    def delivery(self, number: int) -> Delivery:
        return Delivery(number, f"id-{number}", self.pending[number], 0, b"x" * (number % 40))

    @rule(users=st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
    def load(self, users: list[str]) -> None:
        for user in users:
            self.last += 1
            self.pending[self.last] = user
        ids = [each for each in sorted(self.pending) if each > self.ready.watermark and each not in self.held_back]
        found = []
        for each in ids[: self.ready.room]:
            if any(self.pending[other] == self.pending[each] for other in self.held_back if other < each):
                self.held_back.add(each)
            else:
                found.append(self.delivery(each))
        self.ready.add_untried(found)

    @rule(count=st.integers(1, 6), size=st.integers(1, 200))
    def take(self, count: int, size: int) -> None:
        batch = self.ready.take(count, size)
        assert len(batch) <= count
        assert len(batch) <= 1 or sum(len(each.payload) for each in batch) <= size
        for each in batch:
            assert each.user_key is not None
            earlier = [other for other, user in self.pending.items() if user == each.user_key and other < each.id]
            assert set(earlier) <= {other.id for other in batch}, "an earlier event of the user is not settled"
        assert [each.id for each in batch if each.user_key == "a"] == sorted(
            each.id for each in batch if each.user_key == "a"
        )
        if batch:
            self.flights.append(batch)

    @precondition(lambda self: self.flights)
    @rule(which=st.integers(0, 100))
    def delivered(self, which: int) -> None:
        batch = self.flights.pop(which % len(self.flights))
        for each in batch:
            del self.pending[each.id]
        self.ready.settle(batch)
        self.bring_back_due()

    @precondition(lambda self: self.flights)
    @rule(which=st.integers(0, 100))
    def failed(self, which: int) -> None:
        batch = self.flights.pop(which % len(self.flights))
        users = {each.user_key for each in batch if each.user_key is not None}
        behind = self.ready.detach(users)
        self.held_back |= {each.id for each in (*batch, *behind)}
        self.ready.settle([*batch, *behind])

    @rule()
    def bring_back_due(self) -> None:
        """A failed event comes back when no earlier one of its user is pending."""
        due = [
            each
            for each in sorted(self.held_back)
            if each not in self.ready.ids
            and not any(user == self.pending[each] and other < each for other, user in self.pending.items())
        ]
        self.held_back -= set(due)
        self.ready.add_due(self.delivery(each) for each in due[: self.ready.room])
        self.held_back |= set(due[self.ready.room :]) - set(self.ready.ids)

    @rule()
    def clear(self) -> None:
        before = self.ready.tried_up_to
        retried = {each for each in self.ready.ids if each <= before}
        self.ready.clear()
        in_flight = {each.id for batch in self.flights for each in batch}
        self.held_back |= retried - in_flight
        assert set(self.ready.ids) == in_flight

    @invariant()
    def nothing_untried_is_passed_over(self) -> None:
        untried = [each for each in self.pending if each > self.ready.watermark or each in self.ready.ids]
        lost = set(self.pending) - set(untried) - self.held_back
        assert not lost

    @invariant()
    def what_is_recorded_as_tried_is(self) -> None:
        tried = self.ready.tried_up_to
        for each in self.pending:
            if each <= tried:
                assert each in self.held_back or each in self.ready.ids


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
