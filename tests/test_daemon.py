"""The daemon as a process: what it starts, whom it serves, and how it ends."""

import os
import signal
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from relayd.testing import Faults, open_sink
from tests.relay import WRITE_KEY, Relay, free_port
from tests.waiting import until

EVENT = {"type": "track", "event": "e", "userId": "ada"}


def post(relay: Relay, count: int = 1, **fields: object) -> None:
    batch = [EVENT | fields for _ in range(count)]
    answer = httpx.post(f"{relay.url}/v1/batch", json={"batch": batch}, auth=(WRITE_KEY, ""), trust_env=False)
    assert answer.json() == {"success": True}


async def test_a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with Relay(tmp_path, {}) as relay:
        await relay.start()
        second = subprocess.run(
            [sys.executable, "-m", "relayd", "run", "-c", str(relay.config)], capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert "is in use by relayd process" in second.stderr
        post(relay)
        assert relay.status()["journal"]["events"] == 1


async def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with Relay(tmp_path, {}) as relay:
        await relay.start()
        other = tmp_path / "other.toml"
        other.write_text(relay.config.read_text().replace(str(relay.state), str(tmp_path / "other")))
        second = subprocess.run(
            [sys.executable, "-m", "relayd", "run", "-c", str(other)], capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert "another process listens there" in second.stderr
        assert "Traceback" not in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_with_0_and_leaves_a_clean_state(tmp_path: Path, number: signal.Signals) -> None:
    async with open_sink() as sink:
        with Relay(tmp_path, {"hook": f'type = "webhook"\nsettings.url = "{sink.url}"'}) as relay:
            await relay.start()
            post(relay, 50)
            await relay.drained(50)
            assert await relay.stop(number) == 0
            assert "Traceback" not in relay.log.read_text()
            assert not list(relay.state.glob("outbox/*-wal"))
            await relay.start()
            assert relay.status()["destinations"]["hook"]["delivered"] == 50
            assert sink.accepted.total() == 50


async def test_a_stop_does_not_wait_longer_than_configured(tmp_path: Path) -> None:
    async with open_sink(faults=Faults(share=1, kinds=("hang",), attempts=0)) as sink:
        hook = f'type = "webhook"\nsettings.url = "{sink.url}"\ndelivery.timeout = "60s"'
        with Relay(tmp_path, {"hook": hook}, more='daemon.drain_timeout = "500ms"') as relay:
            await relay.start()
            post(relay, 5)
            with trio.fail_after(20):
                await sink.wait_requests(1)
            with trio.fail_after(10):
                assert await relay.stop() == 0
            await relay.start()
            hook_status = relay.status()["destinations"]["hook"]
            assert hook_status["deliveries"] == hook_status["pending"] == 5


async def test_tls_with_certificate_and_key(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    more = f'listener.tls_certificate = "{tmp_path}/cert.pem"\nlistener.tls_key = "{tmp_path}/key.pem"'
    with Relay(tmp_path, {}, more=more) as relay:
        relay.spawn()
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            url = relay.url.replace("http:", "https:")
            with trio.fail_after(20):
                while True:
                    try:
                        answer = await client.post(f"{url}/v1/track", json=EVENT, auth=(WRITE_KEY, ""))
                        break
                    except httpx.ConnectError:
                        await trio.sleep(0.05)
        assert answer.json() == {"success": True}
        assert relay.status()["journal"]["events"] == 1


async def test_the_control_socket_is_the_owners_and_the_groups_alone(tmp_path: Path) -> None:
    with Relay(tmp_path, {}) as relay:
        await relay.start()
        assert stat.S_IMODE(os.stat(relay.state / "relayd.sock").st_mode) == 0o660


async def test_the_control_api_on_tcp_asks_for_its_token(tmp_path: Path) -> None:
    port = free_port()
    with Relay(tmp_path, {}, more=f'admin.bind = "127.0.0.1:{port}"\nadmin.token = "a-secret-token"') as relay:
        await relay.start()
        url = f"http://127.0.0.1:{port}/status"
        assert httpx.get(url, trust_env=False).status_code == 401
        assert httpx.get(url, trust_env=False, headers={"authorization": "Bearer wrong"}).status_code == 401
        good = httpx.get(url, trust_env=False, headers={"authorization": "Bearer a-secret-token"})
        assert good.json()["state"] == "running"
        shown = subprocess.run(
            [sys.executable, "-m", "relayd", "status", "-c", str(relay.config)], capture_output=True, text=True
        )
        assert shown.returncode == 0, shown.stderr


async def test_status_without_a_daemon_says_what_to_do(tmp_path: Path) -> None:
    relay = Relay(tmp_path, {})
    shown = subprocess.run(
        [sys.executable, "-m", "relayd", "status", "-c", str(relay.config)], capture_output=True, text=True
    )
    assert shown.returncode == 1
    assert "no relayd answers" in shown.stderr
    assert "relayd run" in shown.stderr


async def test_secrets_reach_neither_log_nor_status_nor_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-value-of-a-setting"

    async with open_sink(faults=Faults(share=1, status=400, attempts=0)) as sink:
        hook = (
            f'type = "webhook"\nsettings.url = "{sink.url}"\nsettings.sharedSecret = "{secret}"\n'
            f'settings.headers = {{ "X-Api-Key" = "${{env:RELAYD_TEST_SECRET}}" }}'
        )
        monkeypatch.setenv("RELAYD_TEST_SECRET", "another-secret-value")
        with Relay(tmp_path, {"hook": hook}, more='daemon.log_level = "debug"') as relay:
            await relay.start()
            post(relay, 3)
            status = await relay.drained(3)
            assert status["destinations"]["hook"]["failed"] == {"400": 3}
            assert sink.requests[0].headers["x-api-key"] == "another-secret-value"
            everything = relay.log.read_bytes() + repr(status).encode()
            assert await relay.stop() == 0
            for path in relay.state.rglob("*"):
                if path.is_file():
                    everything += path.read_bytes()
        for value in (secret, "another-secret-value", WRITE_KEY):
            assert value.encode() not in everything


async def test_one_destination_that_hangs_does_not_delay_another(tmp_path: Path) -> None:
    async with open_sink() as good, open_sink(faults=Faults(share=1, kinds=("hang",), attempts=0)) as bad:
        destinations = {
            "good": f'type = "webhook"\nsettings.url = "{good.url}"',
            "bad": f'type = "webhook"\nsettings.url = "{bad.url}"\ndelivery.timeout = "30s"',
            "gone": 'type = "webhook"\nsettings.url = "http://127.0.0.1:1/"',
        }
        with Relay(tmp_path, destinations, more='daemon.drain_timeout = "200ms"') as relay:
            await relay.start()
            for _ in range(20):
                post(relay, 50)
            with trio.fail_after(30):
                await good.wait_accepted(1000)
            status = relay.status()["destinations"]
            assert status["good"]["state"] == "running"
            assert status["bad"]["delivered"] == status["gone"]["delivered"] == 0
            assert await relay.stop() == 0


@pytest.mark.parametrize(("start", "expected"), [("latest", 0), ("earliest", 30), ("2020-01-01T00:00:00Z", 30)])
async def test_where_a_new_destination_starts(tmp_path: Path, start: str, expected: int) -> None:
    with Relay(tmp_path, {}) as relay:
        await relay.start()
        post(relay, 30)
        assert await relay.stop() == 0
    async with open_sink() as sink:
        hook = f'type = "webhook"\nsettings.url = "{sink.url}"\nstart = "{start}"'
        with Relay(tmp_path, {"hook": hook}) as relay:
            await relay.start()
            await relay.drained()
            post(relay, 1, messageId="new")
            await relay.drained(expected + 1)
            assert sink.accepted["new"] == 1
            assert sink.accepted.total() == expected + 1


async def test_an_actor_that_crashes_shows_as_crashed_comes_back_and_leaves_the_others_alone(tmp_path: Path) -> None:
    async with open_sink() as sink:
        destinations = {
            "good": f'type = "webhook"\nsettings.url = "{sink.url}"',
            "broken": f'type = "webhook"\nsettings.url = "{sink.url}"',
        }
        with Relay(tmp_path, destinations) as relay:
            outbox = relay.state / "outbox" / "broken.sqlite3"
            outbox.parent.mkdir(parents=True)
            outbox.write_bytes(b"this is no database" * 100)
            await relay.start()
            post(relay, 10)
            with trio.fail_after(20):
                await sink.wait_accepted(10)
            assert relay.status()["destinations"]["broken"]["state"] == "crashed"
            assert relay.status()["destinations"]["good"]["state"] == "running"
            outbox.unlink()
            await until(lambda: relay.status()["destinations"]["broken"]["state"] == "running")
            post(relay, 1)
            with trio.fail_after(20):
                await sink.wait_accepted(12)
