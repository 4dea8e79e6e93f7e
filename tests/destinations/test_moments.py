"""The value of a datetime field, however it is written."""

import pytest

from relayd.destinations.moments import iso, milliseconds, seconds

TIME = 1_788_256_800_250


@pytest.mark.parametrize(
    "value",
    [
        TIME,
        float(TIME) + 0.9,
        "1788256800250",
        "2026-09-01T10:00:00.250Z",
        "2026-09-01T10:00:00.250999Z",
        "2026-09-01 10:00:00.250",
        "2026-09-01T12:00:00.250+02:00",
        "2026/09/01T10:00:00.250Z",
        " 2026-09-01T10:00:00.250Z ",
    ],
)
def test_one_time_is_the_same_however_it_is_written(value: object) -> None:
    assert milliseconds(value) == TIME
    assert seconds(value) == TIME // 1000
    assert iso(value) == "2026-09-01T10:00:00.250Z"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Tue, 01 Sep 2026 10:00:00 GMT", TIME - 250), ("20260901", 1_788_220_800_000), (-1, -1), ("-1", -1), (0, 0)],
)
def test_other_ways_to_write_a_time(value: object, expected: int) -> None:
    assert milliseconds(value) == expected


@pytest.mark.parametrize("value", ["", "soon", None, True, [], float("nan"), float("inf"), 1e17, "9" * 30])
def test_what_is_no_time_is_none(value: object) -> None:
    assert milliseconds(value) is None
    assert seconds(value) is None
    assert iso(value) is None


def test_a_time_beyond_the_calendar_has_no_text() -> None:
    assert milliseconds(8.64e15) == 8_640_000_000_000_000
    assert iso(8.64e15) is None
