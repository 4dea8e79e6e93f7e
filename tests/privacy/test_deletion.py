"""A deleted user is nowhere; everybody else is where they were, byte for byte."""

from pathlib import Path

from tests.privacy.stage import blanked, event, log_bytes, stage, traces

ADA, BOB = "ada-lovelace", "bob"


async def test_nothing_of_a_deleted_user_is_left_in_any_file(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(150) for user in (ADA, BOB))
        before = await scene.read()
        log = log_bytes(scene.relay)
        assert traces(scene.relay.state, [ADA])
        done = await scene.regulate("DELETE_ONLY", ADA)
        assert (done["status"], done["share"], done["events"]) == ("FINISHED", 1.0, 150)
        assert done["deliveries"] == 300  # of "down" what waited, of "picky" what was held
        assert traces(scene.relay.state, [ADA]) == []
        assert log_bytes(scene.relay) == blanked(log, ADA)
        after = await scene.read()
        assert after["journal"]["head"] == before["journal"]["head"]
        assert after["sources"] == before["sources"]
        down = after["destinations"]["down"]
        assert (down["pending"], down["failed"]) == (150, {"DELETED_USER": 150})
        assert after["destinations"]["picky"]["failed"] == {"400": 300}
        await scene.send([event(ADA, 1000)])
        assert (await scene.read())["sources"]["app"]["received"] == 301
        assert await scene.relay.stop() == 0
        scene.relay.assert_clean_log("destination is down")


async def test_a_deleted_and_suppressed_user_is_taken_no_more(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(20) for user in (ADA, BOB))
        await scene.read()
        done = await scene.regulate("SUPPRESS_WITH_DELETE", ADA)
        assert (done["status"], done["events"]) == ("FINISHED", 20)
        await scene.send([event(ADA, 100), event(BOB, 100)])
        status = await scene.read()
        assert status["sources"]["app"]["rejected"] == {"suppressed_user": 1}
        assert traces(scene.relay.state, [ADA]) == []


async def test_anonymous_events_go_too_when_that_is_asked_for_and_only_the_users_own(tmp_path: Path) -> None:
    def events() -> list[dict[str, object]]:
        return [
            event(None, 1, anonymousId="phone-of-ada", messageId="anonymous-1"),
            event(ADA, 2, type="identify", anonymousId="phone-of-ada"),
            event(None, 3, anonymousId="other-phone", messageId="anonymous-3"),
            event(BOB, 4, anonymousId="phone-of-ada"),  # on the same device
        ]

    async with stage(tmp_path) as scene:
        await scene.send(events())
        await scene.read()
        done = await scene.regulate("DELETE_ONLY", ADA, with_anonymous=True)
        assert done["events"] == 2
        left = [each["messageId"] for each in scene.relay.journal() if each]
        assert left == ["anonymous-3", "bob:4"]
        assert traces(scene.relay.state, [ADA, "anonymous-1"]) == []
