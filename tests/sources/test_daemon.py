"""Webhooks and functions in a daemon as users run it: through its socket, in its outboxes, and at its end."""

import time
from pathlib import Path

import httpx
import msgspec
import pytest
import trio

from relayd.testing.sink import open_sink
from tests.relay import WRITE_KEY, Relay
from tests.sources import bodies
from tests.waiting import until

FUNCTION = """
import os
from pathlib import Path
from relayd.functions import *

async def on_request(request, settings):
    body = request.json()
    Path(settings["pids"]).open("a").write(f"{os.getpid()}\\n")
    if body.get("loop"):
        while True: pass
    return track("Bought", user_id=body["user"], message_id=body.get("id"))

def on_track(event, settings):
    with Path(settings["out"]).open("a") as out: out.write(event["event"] + "\\n")
    Path(settings["pids"]).open("a").write(f"{os.getpid()}\\n")
    if event["event"] == "Loop":
        while True: pass
"""


def sources(root: Path) -> str:
    (root / "shop.py").write_text(FUNCTION)
    return f"""
[sources.payments]
type = "cloud_app"
app = "stripe"
settings.secret = "{bodies.SECRET}"
[sources.shop]
type = "function"
file = "{root}/shop.py"
timeout = "1s"
settings.pids = "{root}/pids"
"""


def function(root: Path) -> str:
    return f"""
type = "function"
settings.file = "{root}/shop.py"
settings.timeout = "1s"
settings.settings = {{ out = "{root}/out", pids = "{root}/pids" }}
filters = [{{ if = "type != 'track'", drop = true }}]
"""


def processes(root: Path) -> list[int]:
    """The functions' processes that are left."""
    if not (root / "pids").exists():
        return []
    known = {int(pid) for pid in (root / "pids").read_text().split()}
    return [pid for pid in known if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    try:
        return b"relayd.functions.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


async def test_from_a_webhook_and_a_function_to_a_function_and_no_process_is_left(tmp_path: Path) -> None:
    async with open_sink() as sink:
        destinations = {"fun": function(tmp_path), "hook": f'type = "webhook"\nsettings.url = "{sink.url}"'}
        with Relay(tmp_path, destinations, more=sources(tmp_path)) as relay:
            await relay.start()
            body = msgspec.json.encode(bodies.stripe("customer.created", bodies.CUSTOMER))
            async with httpx.AsyncClient(base_url=f"{relay.url}/v1/sources", trust_env=False) as client:
                headers = bodies.stripe_headers(body, at=time.time())
                for _ in range(2):
                    assert (await client.post("/payments", content=body, headers=headers)).status_code == 200
                forged = await client.post(
                    "/payments", content=body, headers=bodies.stripe_headers(body, secret="guess", at=time.time())
                )
                assert forged.status_code == 401
                assert (await client.post("/shop", json={"user": "ada", "id": "1"})).status_code == 200
                big = await client.post("/shop", content=b'{"user": "bob", "x": "' + b"x" * 520_000 + b'"}')
                assert big.status_code == 200
                much = await client.post("/shop", content=b"x" * 600_000)
                assert (much.status_code, much.json()["code"]) == (400, "body_too_large")
            status = await relay.drained(4)
            assert status["sources"]["payments"] == {
                "received": 2,
                "rejected": {"invalid_signature": 1},
                "duplicates": 2,
            }
            assert status["sources"]["shop"]["received"] == 2
            assert sorted((tmp_path / "out").read_text().split()) == ["Bought", "Bought", "customer.created"]
            assert sink.accepted.total() == 4
            assert len(processes(tmp_path)) == 2
            assert await relay.stop() == 0
            assert processes(tmp_path) == []
            relay.assert_clean_log("a webhook is refused")


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_functions_in_a_loop_delay_nobody_and_end_with_the_daemon(tmp_path: Path, how: str) -> None:
    async with open_sink() as sink:
        destinations = {"fun": function(tmp_path), "hook": f'type = "webhook"\nsettings.url = "{sink.url}"'}
        more = 'daemon.drain_timeout = "500ms"\n' + sources(tmp_path)
        with Relay(tmp_path, destinations, more=more) as relay:
            await relay.start()
            async with httpx.AsyncClient(base_url=relay.url, trust_env=False) as client, trio.open_nursery() as nursery:
                loop = {"event": "Loop", "userId": "u", "writeKey": WRITE_KEY}
                await client.post("/v1/track", json=loop)
                nursery.start_soon(_ignore_end, client, {"loop": True, "user": "u"})
                await until(lambda: len(processes(tmp_path)) == 2)
                slowest = 0.0
                for number in range(30):
                    started = time.monotonic()
                    event = {"event": "e", "userId": "u", "messageId": f"m-{number}", "writeKey": WRITE_KEY}
                    assert (await client.post("/v1/track", json=event)).status_code == 200
                    slowest = max(slowest, time.monotonic() - started)
                with trio.fail_after(10):
                    await sink.wait_accepted(31)
                assert slowest < 0.5
                if how == "stop":
                    assert await relay.stop() == 0
                else:
                    assert relay.kill()
                await until(lambda: processes(tmp_path) == [], 5)


async def _ignore_end(client: httpx.AsyncClient, body: object) -> None:
    try:
        answer = await client.post("/v1/sources/shop", json=body, timeout=10)
        assert answer.status_code == 200
    except httpx.TransportError:
        pass  # the daemon was killed
