"""The pure decisions of delivery: schedule, outcome, breaker, throttle, latency."""

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.config import model
from relayd.config.units import Duration
from relayd.delivery import breaker, latency, outcome
from relayd.delivery.breaker import Breaker
from relayd.delivery.outcome import Event, State
from relayd.delivery.schedule import POLICIES, Policy, next_due, policy_of, wait
from relayd.delivery.throttle import Throttle


def waits(name: model.PolicyName, count: int) -> list[float]:
    """The longest waits of a policy, in seconds."""
    return [round(wait(POLICIES[name], attempt, lambda: 0.0), 3) for attempt in range(1, count + 1)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpp", [1, 1, 1, 1]),
        ("clojure", [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]),
        ("go", [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]),
        ("java", [15, 30, 60]),
        ("javascript", [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        ("dotnet", [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]),
        ("node", [0.1, 0.2]),
        ("php", [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]),
        ("python", [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        ("ruby", [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]),
        ("mobile", [30, 30, 30]),
        ("segment", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1200, 1200]),
    ],
)
def test_each_policy_waits_as_published(name: model.PolicyName, expected: list[float]) -> None:
    assert waits(name, len(expected)) == expected


@pytest.mark.parametrize(
    ("name", "attempts"),
    {"cpp": 5, "clojure": 50, "go": 10, "java": 50, "javascript": 10, "dotnet": 7, "node": 3}.items()
    | {"php": 7, "python": 10, "ruby": 10}.items(),
)
def test_each_policy_gives_up_after_its_attempts(name: model.PolicyName, attempts: int) -> None:
    def due(made: int) -> float | None:
        return next_due(POLICIES[name], attempts=made, first=0, now=1e9, retry_after=None, random=lambda: 0.5)

    assert due(attempts - 1) is not None
    assert due(attempts) is None


def test_segments_policy_tries_for_four_hours_and_once_more_at_their_end() -> None:
    now, attempts, random = 0.0, 1, Random(1).random
    times = []
    while due := next_due(POLICIES["segment"], attempts=attempts, first=0, now=now, retry_after=None, random=random):
        now, attempts = due, attempts + 1
        times.append(due)
    assert times[-1] == 4 * 3600
    assert 15 < len(times) < 40


@given(st.integers(1, 500), st.floats(0, 0.999), st.sampled_from(sorted(POLICIES)))
def test_a_wait_is_random_within_its_bounds(attempts: int, random: float, name: model.PolicyName) -> None:
    policy = POLICIES[name]
    seconds = wait(policy, attempts, lambda: random)
    assert 0 < seconds <= policy.max_wait
    assert seconds >= (1 - policy.jitter) * wait(policy, attempts, lambda: 0.0) * (1 - 1e-9)


def test_retry_after_is_a_lower_bound_also_beyond_the_window() -> None:
    policy = Policy(1, 2, 10, window=100, jitter=0)
    assert next_due(policy, attempts=1, first=0, now=0, retry_after=50, random=lambda: 0) == 50
    assert next_due(policy, attempts=1, first=0, now=0, retry_after=0.1, random=lambda: 0) == 1
    assert next_due(policy, attempts=1, first=0, now=90, retry_after=500, random=lambda: 0) == 590
    assert next_due(policy, attempts=1, first=0, now=0, retry_after=1e9, random=lambda: 0) == 86400


def test_every_number_of_a_policy_can_be_overridden() -> None:
    retry = model.Retry(
        policy="go",
        initial_wait=Duration(3),
        growth=1.5,
        max_wait=Duration(9),
        max_attempts=4,
        window=Duration(60),
        jitter=0.1,
    )
    assert policy_of(retry) == Policy(3, 1.5, 9, 4, 60, 0.1)
    assert policy_of(model.Retry(policy="go")) == POLICIES["go"]
    assert policy_of(model.Retry(policy="segment", window=Duration(0))).window == 0


@pytest.mark.parametrize(
    ("status", "event"),
    [(200, Event.DELIVER), (201, Event.DELIVER), (204, Event.DELIVER), (299, Event.DELIVER)]
    + [(status, Event.FAIL) for status in (408, 423, 425, 429, 500, 502, 503, 504, 505, 511, 599)]
    + [(status, Event.REFUSE) for status in (101, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422, 501)],
)
def test_an_answer_delivers_fails_or_refuses(status: int, event: Event) -> None:
    result = outcome.of_status(status, retry_after="7", detail="", now=0)
    assert result.event is event
    assert result.retry_after == (7 if event is Event.FAIL else None)
    assert result.reason == ("" if event is Event.DELIVER else str(status))


@pytest.mark.parametrize("status", [200, 401, 429])
def test_answers_that_show_life_do_not_open_the_breaker(status: int) -> None:
    assert outcome.of_status(status, retry_after=None, detail="", now=0).alive


def test_retry_after_is_seconds_or_a_date() -> None:
    now = 1_800_000_000.0
    date = format_datetime(datetime.fromtimestamp(now + 90, UTC), usegmt=True)
    parse = outcome.parse_retry_after
    assert parse("120", now) == 120
    assert parse(" 1.5 ", now) == 1.5
    assert parse(date, now) == 90
    assert parse("Sun, 06 Nov 1994 08:49:37 GMT", now) == 0
    assert [parse(text, now) for text in (None, "", "soon", "-3", "1.2.3", "９")] == [None] * 6


def test_every_state_can_be_left_but_delivered_and_only_by_the_table() -> None:
    left = {state for state, _ in outcome.TRANSITIONS}
    assert left == set(State) - {State.DELIVERED}
    reached = {State.PENDING}
    for _ in State:
        reached |= {after for (before, _), after in outcome.TRANSITIONS.items() if before in reached}
    assert reached == set(State)


class Down:
    """A breaker and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.breaker = Breaker(lambda: 0.0)

    def fail(self, count: int = 1, seconds: float = 0.0) -> None:
        for _ in range(count):
            self.now += seconds
            self.breaker.started()
            self.breaker.ended(alive=False, now=self.now)

    def live(self) -> None:
        self.breaker.started()
        self.breaker.ended(alive=True, now=self.now)


def test_failures_between_successes_never_open_the_breaker() -> None:
    down = Down()
    for _ in range(100):
        down.fail(breaker.THRESHOLD - 1, seconds=5)
        assert not down.breaker.wait(down.now)
        down.live()
    assert not down.breaker.is_open


def test_failures_in_a_row_slow_it_down_and_only_time_opens_it() -> None:
    down = Down()
    down.fail(500)
    assert down.breaker.wait(down.now) == pytest.approx(breaker.PACE)
    states = []
    for seconds in (breaker.SURE - 0.01, 0.1):
        down.fail(seconds=seconds)
        states.append(down.breaker.is_open)
    down.live()
    states.append(down.breaker.is_open)
    assert states == [False, True, False]
    assert down.breaker.wait(down.now) == 0


def test_probes_go_out_one_at_a_time_and_ever_more_rarely() -> None:
    down = Down()
    down.fail(breaker.THRESHOLD)
    down.fail(seconds=breaker.SURE + 1)
    pauses = []
    for _ in range(9):
        pauses.append(down.breaker.wait(down.now))
        down.now += pauses[-1]
        assert down.breaker.wait(down.now) == 0
        down.breaker.started()
        assert down.breaker.wait(down.now) == math.inf
        down.breaker.ended(alive=False, now=down.now)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_an_attempt_that_was_put_back_does_not_block_the_next_probe() -> None:
    down = Down()
    down.fail(breaker.THRESHOLD)
    down.breaker.started()
    down.breaker.put_back()
    assert down.breaker.wait(down.now + 1) == 0


@given(st.floats(0.1, 5000), st.lists(st.floats(0, 0.5), min_size=1, max_size=300))
def test_no_second_has_more_requests_than_the_rate_and_its_burst(rate: float, gaps: list[float]) -> None:
    throttle, now, sent = Throttle(rate), 0.0, []
    for gap in gaps:
        now += gap
        now += throttle.wait(now)
        assert throttle.wait(now) <= 1e-9
        throttle.take(now)
        sent.append(now)
    for place, start in enumerate(sent):
        within = sum(1 for each in sent[place:] if each < start + 1)
        assert within <= 1.1 * rate + 2


@given(st.floats(1, 5000), st.lists(st.integers(1, 200), min_size=1, max_size=100))
def test_a_batch_counts_as_all_that_are_in_it(rate: float, batches: list[int]) -> None:
    throttle, now = Throttle(rate), 0.0
    for count in batches:
        now += throttle.wait(now)
        throttle.take(now, count)
    assert now >= sum(batches[:-1]) / rate - 0.1 - 1e-6
    assert now <= sum(batches[:-1]) / rate + 1e-6


def test_without_a_rate_nothing_waits() -> None:
    throttle = Throttle(None)
    for _ in range(1000):
        throttle.take(0)
    assert throttle.wait(0) == 0


@given(st.lists(st.floats(0.001, 50_000), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_within_their_bucket(values: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[latency.bucket(value)] = counts.get(latency.bucket(value), 0) + 1
    exact = sorted(values)[math.ceil(share * len(values)) - 1]
    found = latency.percentile(counts, share)
    assert found is not None
    assert exact <= found * 1.001
    assert found <= max(exact * 1.151, 0.002)


def test_there_is_no_percentile_of_nothing() -> None:
    assert latency.percentile({}, 0.5) is None
