"""Which events are meant, whatever the options say together."""

from datetime import UTC, datetime, timedelta

import pytest

from relayd.journal.selection import Matcher, NotAnEvent, Selection, parse_moment
from tests.journal.logs import START, at

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), True),
        (Selection(since=START + timedelta(minutes=3)), True),
        (Selection(since=START + timedelta(minutes=3, milliseconds=1)), False),
        (Selection(until=START + timedelta(minutes=3)), False),
        (Selection(sources=("app", "web")), True),
        (Selection(sources=("app",)), False),
        (Selection(types=("track",)), True),
        (Selection(types=("page",)), False),
        (Selection(events=("Order Completed",)), True),
        (Selection(events=("Order",)), False),
        (Selection(events=("täxt",)), False),
        (Selection(users=("user-3",)), True),
        (Selection(users=("user-4",)), False),
        (Selection(users=("user-4", "user-3"), events=("Order Completed",), sources=("web",)), True),
    ],
)
def test_all_that_is_asked_for_has_to_hold(selection: Selection, meant: bool) -> None:
    assert (Matcher(selection).match(at(3)) is not None) is meant


def test_an_anonymous_id_and_the_name_of_a_page_count_too() -> None:
    page = at(1, type="page", name='"Docs" täxt', anonymousId="anon", event=None)
    assert Matcher(Selection(users=("anon",))).match(page)
    assert Matcher(Selection(events=('"Docs" täxt',))).match(page)
    assert Matcher(Selection(events=("anon",))).match(page) is None


def test_a_line_that_is_none_is_said_to_be() -> None:
    with pytest.raises(NotAnEvent):
        Matcher(Selection()).match(b'{"type":"track"}\n')


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ("1d", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T10:00:00Z", START),
        ("2026-11-24T11:00:00+01:00", START),
    ],
)
def test_times_are_iso_or_a_duration_ago(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["yesterday", "2x", "", "99999999d"])
def test_what_is_no_time_is_told_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="2h"):
        parse_moment(text, NOW)
