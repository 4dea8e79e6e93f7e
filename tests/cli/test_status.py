"""``relayd status`` shows an operator what is wrong at a glance."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner
from msgspec import json

from relayd.cli import main
from relayd.cli.status import render
from relayd.testing import Faults, open_sink
from tests.relay import Relay
from tests.test_daemon import post
from tests.waiting import until


def line(text: str, start: str) -> str:
    return next(each for each in text.splitlines() if each.startswith(start))


async def test_it_shows_both_rates_latencies_and_what_is_held(tmp_path: Path) -> None:
    async with open_sink(faults=Faults(share=0.3, status=403, attempts=0)) as sink:
        hook = f'type = "webhook"\nsettings.url = "{sink.url}"'
        with Relay(tmp_path, {"hook": hook}) as relay:
            await relay.start()
            post(relay, 100)
            await relay.drained(100)
            post(relay, 2, event=None)
            status = relay.status()
    text = render(status)
    held = status["destinations"]["hook"]["failed"]["403"]
    assert f"403 {held}" in line(text, "hook")
    assert f"{100 - held}.00%" in line(text, "hook")
    assert "event_not_defined 2" in line(text, "app")
    assert "100 events" in line(text, "journal")


async def test_a_destination_that_is_down_is_named_with_the_reason(tmp_path: Path) -> None:
    with Relay(tmp_path, {"hook": 'type = "webhook"\nsettings.url = "http://127.0.0.1:1/"'}) as relay:
        await relay.start()
        post(relay, 20)
        await until(lambda: relay.status()["destinations"]["hook"]["state"] == "backing_off", 40)
        shown = CliRunner().invoke(main, ["status", "-c", str(relay.config)])
        assert shown.exit_code == 0
        assert "ECONNREFUSED" in line(shown.output, "hook is backing off")
        as_json: dict[str, Any] = json.decode(
            CliRunner().invoke(main, ["status", "-c", str(relay.config), "--json"]).output
        )
        assert as_json["destinations"]["hook"]["pending"] == 20


def test_what_is_refused_and_what_no_source_owns_stands_out() -> None:
    status = {
        "version": "1",
        "state": "running",
        "uptime_s": 90061.0,
        "state_dir": "/s",
        "journal": {"events": 12345, "bytes": 5_000_000, "segments": 2, "refusing": "the disk reserve is gone"},
        "copies": {
            "s3": {
                "place": "s3://events/relayd",
                "up_to": 5,
                "received_at": "2026-11-24T10:00:00Z",
                "waiting": 2,
                "last_failure": "NoSuchBucket: The specified bucket does not exist",
            }
        },
        "listener": {"rejected": {"unknown_source": 7}},
        "sources": {},
        "destinations": {},
    }
    text = render(status)
    assert "REFUSING EVENTS: the disk reserve is gone" in text
    assert "7 events, not kept" in text
    assert line(text, "s3") == (
        "s3: s3://events/relayd, copied up to 2026-11-24T10:00:00Z, 2 segments wait: "
        "NoSuchBucket: The specified bucket does not exist"
    )
    assert "12,345 events, 4.768 MB" in text
