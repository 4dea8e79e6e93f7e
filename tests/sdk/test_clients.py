"""Real SDKs send to a running daemon, and every event arrives, payload and all, though a fifth fails at first."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import trio

from relayd.testing import Faults, open_sink
from tests.relay import WRITE_KEY, Relay
from tests.sdk.packages import node_package, python_package

CLIENTS = Path(__file__).parent / "clients"
COUNT = 120
TYPES = ("identify", "track", "page", "screen", "group", "alias")


class Client(NamedTuple):
    """A script, its arguments behind the usual ones, and what makes its environment."""

    script: str
    package: str
    arguments: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "client",
    [
        Client("segment_python.py", "segment-analytics-python==2.4.0", ("plain",)),
        Client("segment_python.py", "segment-analytics-python==2.4.0", ("gzip",)),
        Client("segment_python.py", "segment-analytics-python==2.3.1", ("plain",)),
        Client("segment_python.py", "segment-analytics-python==2.3.1", ("gzip",)),
        Client("rudder_python.py", "rudder-sdk-python==2.1.9"),
        Client("segment_node.mjs", "@segment/analytics-node@3.1.0"),
        Client("rudder_node.mjs", "@rudderstack/rudder-sdk-node@3.0.13"),
    ],
    ids=lambda client: "-".join((client.package.rpartition("/")[2], *client.arguments)),
)
async def test_every_event_of_an_sdk_arrives_once_with_its_payload(tmp_path: Path, client: Client) -> None:
    async with open_sink(faults=Faults(share=0.2)) as sink:
        webhook = f'type = "webhook"\nsettings.url = "{sink.url}"\nretry.initial_wait = "50ms"'
        with Relay(tmp_path, {"hook": webhook}) as relay:
            await relay.start()
            await run(client, relay.url)
            status = await relay.drained(COUNT)
            assert await relay.stop() == 0
        assert sink.accepted == {f"sdk-{number}": 1 for number in range(COUNT)}
        delivered = [msgspec.json.decode(request.events[0]) for request in sink.requests if request.accepted]
        for event in delivered:
            check(event, int(event["messageId"].removeprefix("sdk-")))
        assert {event["messageId"]: event for event in delivered} == {
            event["messageId"]: event for event in relay.journal()
        }
        hook = status["destinations"]["hook"]
        assert 0 < hook["first_attempts"]["failed"] < COUNT / 2
        assert hook["deliverability"]["final"] == 1
        assert status["sources"]["app"] == {"received": COUNT, "rejected": {}, "duplicates": 0}


async def run(client: Client, url: str) -> None:
    """Run a client to its end. Fails with what it prints when it does."""
    is_python = client.script.endswith(".py")
    folder = (python_package if is_python else node_package)(client.package)
    command = ["python" if is_python else "node", str(CLIENTS / client.script), url, WRITE_KEY, "sdk", str(COUNT)]
    with trio.fail_after(60):
        done = await trio.run_process(
            [*command, *client.arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def check(event: dict[str, Any], number: int) -> None:
    """The event is the one that the client sent under this number."""
    kind = TYPES[number % 6]
    assert event["type"] == kind
    assert event["userId"] == f"user-{number % 5}"
    body = {"number": number, "text": "täxt"}

    def contains(there: Any) -> bool:
        return isinstance(there, dict) and body.items() <= there.items()

    match kind:
        case "identify":  # rudder-sdk-python puts traits into the context
            assert contains(event.get("traits")) or contains(event["context"].get("traits"))
        case "track":
            assert event["event"] == "Order Completed"
            assert contains(event["properties"])
        case "page" | "screen":
            assert contains(event["properties"])
        case "group":
            assert event["groupId"] == "acme"
            assert contains(event.get("traits")) or contains(event["context"].get("traits"))
        case "alias":
            assert event["previousId"] == f"old-{number}"
