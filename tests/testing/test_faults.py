"""Which messages fail, and how: a decision, without a network."""

from typing import Any

import pytest

from relayd.testing.faults import KINDS, Faults

IDS = [f"m-{number}" for number in range(10_000)]


def failing(faults: Faults, attempt: int = 1) -> list[str]:
    return [each for each in IDS if faults.fault(each, attempt)]


def test_by_default_nothing_fails() -> None:
    assert failing(Faults()) == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1])
def test_the_share_of_messages_that_fail_is_the_one_asked_for(share: float) -> None:
    assert len(failing(Faults(share=share))) / len(IDS) == pytest.approx(share, abs=0.02)


def test_the_same_messages_fail_in_every_run_and_a_larger_share_has_them_too() -> None:
    few, many = failing(Faults(share=0.1)), failing(Faults(share=0.2))
    assert few == failing(Faults(share=0.1))
    assert set(few) < set(many)
    assert few[:3] == ["m-5", "m-7", "m-12"], "pinned, so that a change of the hash is seen"


def test_a_message_fails_as_often_as_asked_for_and_then_no_more() -> None:
    faults = Faults(share=0.1, attempts=2)
    assert failing(faults, 1) == failing(faults, 2) != []
    assert failing(faults, 3) == []
    assert failing(Faults(share=1, attempts=0), 1000) == IDS, "0 is always"


def test_several_kinds_come_in_equal_parts_each_message_keeping_its_own() -> None:
    faults = Faults(share=0.7, attempts=2, kinds=KINDS)
    kinds = [faults.fault(each, 1) for each in failing(faults)]
    assert kinds == [faults.fault(each, 2) for each in failing(faults)]
    for kind in KINDS:
        assert kinds.count(kind) / len(kinds) == pytest.approx(1 / len(KINDS), abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 1.1},
        {"share": -0.1},
        {"kinds": ()},
        {"kinds": ("explode",)},
        {"status": 99},
        {"attempts": -1},
        {"latency": -1},
        {"retry_after": -1},
        {"pause": -1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Faults(**wrong)
