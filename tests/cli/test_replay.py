"""``relayd replay`` as a user runs it, on a daemon that is one."""

import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from click.testing import CliRunner, Result

from relayd.cli import main
from relayd.testing import Faults, open_sink
from relayd.testing.sink import Sink
from tests.relay import WRITE_KEY, Relay
from tests.replay.archives import segment_line, write
from tests.test_daemon import EVENT
from tests.waiting import until

KEEPS = 'start = "latest"'


def cli(relay: Relay, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments, "-c", str(relay.config)])


async def run(relay: Relay, *arguments: str) -> Any:
    """The JSON that a command prints; the sink goes on meanwhile."""
    done = await trio.to_thread.run_sync(lambda: cli(relay, *arguments, "--json"))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def ended(relay: Relay, id_: str, state: str = "finished") -> dict[str, Any]:
    """A replay's figures once it has come to an end, checked against each other."""
    with trio.fail_after(60):
        while True:
            shown: dict[str, Any] = await run(relay, "show", id_)
            check_conservation(shown)
            if shown["state"] == state:
                return shown
            await trio.sleep(0.05)


def check_conservation(shown: Mapping[str, Any]) -> None:
    assert shown["received"] == sum(shown["filtered"].values()) + shown["matched"]
    assert shown["deliveries"] == shown["delivered"] + shown["pending"] + sum(shown["failed"].values())


def webhook(sink: Sink, *more: str) -> str:
    return "\n".join([f'type = "webhook"\nsettings.url = "{sink.url}"', *more])


def send(relay: Relay, batch: list[dict[str, Any]]) -> None:
    answer = httpx.post(f"{relay.url}/v1/batch", json={"batch": batch}, auth=(WRITE_KEY, ""), trust_env=False)
    assert answer.json() == {"success": True}


def posted(relay: Relay, count: int) -> Counter[str]:
    """Post so many events: their ids."""
    ids = [f"id-{number}" for number in range(count)]
    send(relay, [EVENT | {"messageId": each, "userId": f"user-{number % 5}"} for number, each in enumerate(ids)])
    return Counter(ids)


async def test_history_is_delivered_again_beside_live_events_and_counted_apart(tmp_path: Path) -> None:
    async with open_sink() as sink, open_sink() as new:
        destinations = {"hook": webhook(sink), "off": webhook(new, "enabled = false")}
        with Relay(tmp_path, destinations) as relay:
            await relay.start()
            ids = posted(relay, 60)
            live = (await relay.drained(60))["destinations"]
            id_ = (await run(relay, "start", "--to", "off"))["id"]
            shown = await ended(relay, id_)
            assert new.accepted == ids
            again = (await run(relay, "start", "--to", "hook", "--user", "user-3", "--wait"))["id"]
            assert (await ended(relay, again))["delivered"] == 12
            assert sink.accepted == ids + Counter({each: 1 for each in ids if int(each[3:]) % 5 == 3})
            after = relay.status()["destinations"]
            for name in ("received", "matched", "deliveries", "delivered", "first_attempts", "attempts", "latency_s"):
                assert after["hook"][name] == live["hook"][name], name
            assert after["off"]["state"] == "disabled"
            assert after["off"]["delivered"] == 0
            assert (shown["scanned"], shown["received"], shown["delivered"], shown["pending"]) == (60, 60, 60, 0)
            assert [each["id"] for each in await run(relay, "list")] == [id_, again]
            table = cli(relay, "list").output.splitlines()
            assert len(table) == 4
            assert table[2].split() == [id_, "off", "finished", "100%", "60", "60", "60", "0", "0"]
            assert await relay.stop() == 0
            relay.assert_clean_log()


async def test_kill_9_in_the_middle_loses_nothing_and_repeats_no_more_than_was_in_flight(tmp_path: Path) -> None:
    in_flight = 32 // 4
    async with open_sink() as sink:
        with Relay(tmp_path, {"hook": webhook(sink, KEEPS, "enabled = false")}) as relay:
            await relay.start()
            ids = posted(relay, 400)
            id_ = (await run(relay, "start", "--to", "hook", "--rate", "300/s"))["id"]
            kills = 0
            for accepted in (60, 150, 260):
                with trio.fail_after(30):
                    await sink.wait_accepted(accepted)
                assert relay.kill()
                kills += 1
                await relay.start()
            shown = await ended(relay, id_)
            assert set(sink.accepted) == set(ids)
            assert sink.accepted.total() - len(ids) <= kills * in_flight
            assert (shown["scanned"], shown["received"], shown["deliveries"], shown["delivered"]) == (400,) * 4
            assert await relay.stop() == 0
            await relay.start()
            assert (await ended(relay, id_))["delivered"] == 400
            assert sink.accepted.total() - len(ids) <= kills * in_flight, "what has finished is not started again"


async def test_what_a_replay_is_held_for_is_not_the_live_destinations(tmp_path: Path) -> None:
    async with open_sink() as sink:
        with Relay(tmp_path, {"hook": webhook(sink)}) as relay:
            await relay.start()
            posted(relay, 30)
            await relay.drained(30)
            sink.faults = Faults(share=1, attempts=0, status=403)
            shown = await ended(relay, (await run(relay, "start", "--to", "hook"))["id"])
            assert (shown["failed"], shown["delivered"]) == ({"403": 30}, 0)
            assert relay.status()["destinations"]["hook"]["failed"] == {}
            assert "failed: 403" in cli(relay, "show", shown["id"]).output


async def test_pause_resume_and_cancel_say_how_it_stands_and_survive_a_restart(tmp_path: Path) -> None:
    async with open_sink() as sink:
        with Relay(tmp_path, {"hook": webhook(sink)}) as relay:
            await relay.start()
            posted(relay, 100)
            await relay.drained(100)
            sink.accepted.clear()
            id_ = (await run(relay, "start", "--to", "hook", "--rate", "50/s"))["id"]
            assert (await run(relay, "pause", id_))["state"] == "paused"
            assert await relay.stop() == 0
            await relay.start()
            assert (await run(relay, "show", id_))["state"] == "paused"
            before = sink.accepted.total()
            await trio.sleep(0.5)
            assert sink.accepted.total() == before
            done = await trio.to_thread.run_sync(lambda: cli(relay, "resume", id_))
            assert (done.exit_code, done.output) == (0, f"replay {id_} is running\n")
            await until(lambda: sink.accepted.total() > before + 5)
            assert (await run(relay, "cancel", id_))["state"] == "cancelled"
            waited = await trio.to_thread.run_sync(lambda: cli(relay, "show", id_, "--wait"))
            assert waited.exit_code == 1
            assert f"replay {id_} is cancelled" in waited.output
            refused = await trio.to_thread.run_sync(lambda: cli(relay, "resume", id_))
            assert (refused.exit_code, refused.output) == (1, f"Error: replay {id_} is cancelled\n")


async def test_waiting_ends_with_the_replay_and_shows_how_far_it_is(tmp_path: Path) -> None:
    async with open_sink() as sink:
        with Relay(tmp_path, {"hook": webhook(sink)}) as relay:
            await relay.start()
            posted(relay, 50)
            await relay.drained(50)
            done = await trio.to_thread.run_sync(
                lambda: cli(relay, "start", "--to", "hook", "--rate", "100/s", "--wait")
            )
            assert done.exit_code == 0, done.output
            assert done.stdout.startswith("replay ")
            assert "has started" in done.stdout
            assert sink.accepted.total() == 100


async def test_what_is_refused_is_told_in_one_line(tmp_path: Path) -> None:
    async with open_sink() as sink:
        destinations = {
            "hook": webhook(sink),
            "pixel": 'type = "device"\nsettings.name = "Pixel"\nsettings.url = "https://example.com/pixel.js"\n'
            'settings.library = "Pixel"',
        }
        with Relay(tmp_path, destinations) as relay:
            await relay.start()
            posted(relay, 3)
            for arguments, code, told in [
                (["--to", "nowhere"], 1, 'there is no destination "nowhere"; the destinations are: hook, pixel'),
                (["--to", "pixel"], 1, "pixel is only in device-mode"),
                (["--to", "pixel", "--dry-run"], 1, "pixel is only in device-mode"),
                (["--to", "hook", "--type", "trak"], 2, "there is no event type 'trak'"),
                (["--to", "hook", "--since", "1h", "--until", "2h"], 2, "must lie before"),
                (["--to", "hook", "--since", "soon"], 2, "neither an ISO 8601 time"),
                (["--to", "hook", "--rate", "fast"], 2, "fast"),
                (["--to", "hook", "--rate", "0/s"], 2, "the rate must be more than 0"),
                (["--to", "hook", "--archive", str(tmp_path / "missing")], 2, "does not exist"),
                (["--to", "hook", "--archive", str(relay.root / "log")], 1, "has no archived logs"),
                ([], 2, "--to"),
            ]:
                done = await trio.to_thread.run_sync(partial(cli, relay, "start", *arguments))
                assert (done.exit_code, "Traceback" in done.output) == (code, False), done.output
                assert told in done.output
            done = await trio.to_thread.run_sync(lambda: cli(relay, "show", "nothing"))
            assert (done.exit_code, done.output) == (1, "Error: there is no replay nothing\n")
            assert cli(relay, "list").output == "no replays\n"
            first = (await run(relay, "start", "--to", "hook"))["id"]
            done = await trio.to_thread.run_sync(lambda: cli(relay, "start", "--to", "hook"))
            assert done.exit_code == 1
            assert f"replay {first} is the same" in done.output
            assert (await run(relay, "start", "--to", "hook", "--again"))["id"] != first


async def test_a_dry_run_counts_what_would_be_sent_and_needs_no_daemon(tmp_path: Path) -> None:
    async with open_sink() as sink:
        more = "[[destinations.hook.filters]]\nif = 'userId = \"user-1\"'\ndrop = true"
        with Relay(tmp_path, {"hook": webhook(sink, KEEPS, more)}) as relay:
            assert "there is no journal" in cli(relay, "start", "--to", "hook", "--dry-run").output
            await relay.start()
            posted(relay, 50)
            await relay.drained(50)
            assert await relay.stop() == 0
            before = sink.accepted.total()
            counts = await run(relay, "start", "--to", "hook", "--type", "track", "--since", "1h", "--dry-run")
            assert counts == {
                "scanned": 50, "bad_lines": 0, "received": 50, "matched": 40, "deliveries": 40,
                "filtered": {"FILTERED_BY_RULES": 10},
            }  # fmt: skip
            none = await run(relay, "start", "--to", "hook", "--until", "1h", "--dry-run")
            assert none["received"] == 0
            archive = write(tmp_path / "old" / "x.gz", segment_line(1) + b"no event\n" + segment_line(2))
            done = cli(relay, "start", "--to", "hook", "--archive", str(archive), "--dry-run")
            assert done.exit_code == 0
            assert f"{archive}:2: " in done.stderr
            assert "matched     2" in done.stdout
            assert sink.accepted.total() == before
            assert not list(relay.state.glob("replays/*"))


@pytest.mark.parametrize("source", ["8tvmJ1eZ2e", None])
async def test_a_folder_of_archived_logs_is_named_relative_to_where_the_user_is(
    tmp_path: Path, source: str | None
) -> None:
    archive = tmp_path / "bucket" / "segment-logs" / "8tvmJ1eZ2e" / "1795392000000" / "x.gz"
    write(archive, b"".join(segment_line(number) for number in range(10)) + b"bad\n")
    asked = ["--to", "hook", "--archive", "bucket", "--wait"]
    asked += [] if source is None else ["--from-source", source]
    async with open_sink() as sink:
        with Relay(tmp_path, {"hook": webhook(sink)}) as relay:
            await relay.start()
            done = await trio.to_thread.run_sync(
                lambda: subprocess.run(
                    [sys.executable, "-m", "relayd", "replay", "start", *asked, "--json", "-c", str(relay.config)],
                    cwd=tmp_path,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
            )
            assert done.returncode == 0, done.stderr
            shown = await ended(relay, json.loads(done.stdout)["id"])
            assert (shown["scanned"], shown["bad_lines"], shown["delivered"]) == (10, 1, 10)
            assert set(sink.accepted) == {f"m-{number}" for number in range(10)}


async def test_a_segment_that_a_replay_has_yet_to_read_is_kept_and_goes_after_it(tmp_path: Path) -> None:
    async with open_sink() as sink:
        more = 'journal.segment_size = "64KB"\njournal.max_size = "100KB"'
        with Relay(tmp_path, {"off": webhook(sink, "enabled = false")}, more=more) as relay:
            await relay.start()
            post_noise(relay, 2)
            id_ = (await run(relay, "start", "--to", "off", "--rate", "60/s"))["id"]
            await run(relay, "pause", id_)
            post_noise(relay, 12)
            await until(lambda: len(list(relay.state.glob("archive/*/*"))) > 5)
            assert sum(each.stat().st_size for each in relay.state.glob("archive/*/*")) > 200_000
            assert 0 in relay.segments(), "max_size is exceeded, but the replay needs the first"
            await run(relay, "resume", id_)
            assert (await ended(relay, id_))["delivered"] == 180
            post_noise(relay, 2)
            await until(lambda: 0 not in relay.segments())


def post_noise(relay: Relay, batches: int) -> None:
    """Post batches of 90 events that can hardly be compressed, each of about 64 KB."""
    for _ in range(batches):
        send(relay, [EVENT | {"properties": {"text": secrets.token_hex(250)}} for _ in range(90)])


async def test_commands_without_a_daemon_say_what_to_do(tmp_path: Path) -> None:
    relay = Relay(tmp_path, {"hook": 'type = "webhook"\nsettings.url = "http://127.0.0.1:1/"'})
    for arguments in (["list"], ["show", "x"], ["start", "--to", "hook"], ["pause", "x"]):
        done = cli(relay, *arguments)
        assert done.exit_code == 1
        assert "no relayd answers" in done.output
