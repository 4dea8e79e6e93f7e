"""A suppressed user's events are answered 200 and stored nowhere; what waits for destinations goes."""

from pathlib import Path
from typing import Any

import pytest

from relayd.privacy.regulation import MAX_USERS
from tests.privacy.stage import Stage, event, stage, traces
from tests.waiting import until

ADA, BOB = "ada-lovelace", "bob"


async def test_events_of_a_suppressed_user_are_counted_and_stored_nowhere(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        done = await scene.regulate("SUPPRESS_ONLY", ADA)
        assert (done["status"], done["users"]) == ("FINISHED", 1)
        alias = event("grace", 1, type="alias", previousId=ADA)
        await scene.send([event(ADA, 1), event(BOB, 1), event(ADA, 2, unknown="field"), alias])
        status = await scene.read()
        assert status["sources"]["app"] == {"received": 1, "rejected": {"suppressed_user": 3}, "duplicates": 0}
        assert traces(scene.relay.state, [ADA]) == []
        assert list(scene.sinks["good"].accepted) == ["bob:1"]
        assert await scene.ask(f"/suppressed?user={ADA}") == {"suppressed": True}
        assert await scene.ask(f"/suppressed?user={BOB}") == {"suppressed": False}


async def test_suppression_survives_a_kill_and_ends_with_unsuppress(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        asked = await scene.ask("/regulations", {"type": "SUPPRESS_ONLY", "user_ids": [ADA]})
        scene.relay.kill()
        await scene.relay.start()
        await scene.send([event(ADA, 1)])
        assert (await scene.ended(asked["id"]))["status"] == "FINISHED"
        await scene.regulate("UNSUPPRESS", ADA)
        await scene.send([event(ADA, 1)])  # which was not remembered, so it is no duplicate
        status = await scene.read()
        assert status["sources"]["app"]["received"] == 1
        assert list(scene.sinks["good"].accepted) == [f"{ADA}:1"]


async def test_what_waits_for_destinations_or_is_held_goes_and_the_counters_stay_exact(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(100) for user in (ADA, BOB))
        before = (await scene.read())["destinations"]
        assert before["down"]["pending"] == 200
        done = await scene.regulate("SUPPRESS_ONLY", ADA)
        assert done["deliveries"] == 200
        after = (await scene.read())["destinations"]
        assert after["down"]["failed"] == {"SUPPRESSED_USER": 100}
        assert after["picky"]["failed"] == before["picky"]["failed"] == {"400": 200}
        for each in after.values():
            assert each["received"] == 200
            assert each["deliveries"] == each["delivered"] + each["pending"] + sum(each["failed"].values()) == 200
        seen = len(scene.sinks["down"].requests)
        await until(lambda: len(scene.sinks["down"].requests) > seen + 1)
        assert all(b'"bob"' in each.events[0] for each in scene.sinks["down"].requests[seen:])
        assert any(ADA in trace for trace in traces(scene.relay.state, [ADA]))  # history stays
        assert [each["userId"] for each in scene.relay.journal()].count(ADA) == 100


async def test_a_regulation_is_listed_without_the_ids_that_it_names(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        first = await scene.regulate("SUPPRESS_ONLY", ADA, BOB, ADA)
        second = await scene.regulate("UNSUPPRESS", BOB)
        assert first["users"] == 2
        assert await scene.ask("/regulations") == [second, first]
        assert await scene.ask(f"/regulations?user={ADA}") == [first]
        assert await scene.ask("/regulations?user=nobody") == []
        assert traces(scene.relay.state, [ADA]) == []


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"type": "SUPPRESS_ONLY", "user_ids": []}, "a regulation names 1 to 5,000 users, not 0"),
        ({"type": "SUPPRESS_ONLY", "user_ids": ["x"] * (MAX_USERS + 1)}, "not 5,001"),
        ({"type": "SUPPRESS_ONLY", "user_ids": [""]}, "a userId is empty"),
        ({"type": "SUPPRESS_ONLY", "user_ids": [7]}, "Expected `str`"),
        ({"type": "FORGET", "user_ids": ["x"]}, "Invalid enum value 'FORGET'"),
        ({"type": "UNSUPPRESS", "user_ids": ["x"], "forward": True}, "are for deletions"),
    ],
)
async def test_what_can_not_be_done_is_refused_with_the_reason(scene: Stage, asked: dict[str, Any], says: str) -> None:
    answer = await scene.answer("/regulations", asked)
    assert answer.status_code == 400
    assert says in answer.json()["message"]


async def test_a_regulation_that_is_not_there_is_not_found(scene: Stage) -> None:
    assert (await scene.answer("/regulations/none")).status_code == 404


@pytest.fixture
async def scene(tmp_path: Path) -> Any:
    async with stage(tmp_path) as scene:
        yield scene
