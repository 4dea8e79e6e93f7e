"""Under systemd: its sockets outlive a daemon, it hears how it goes, and its watchdog knows a daemon that hangs.

systemd itself is played by the tests, which hold the sockets and hear what it would. What it thinks of the units, and
how it hands over a socket, its own tools show, from Debian's package.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from relayd.config import model
from relayd.config.units import Size
from relayd.daemon import Status, figures
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import open_journal
from relayd.journal.segment import Folders
from relayd.listener.http import BindError, names, passed_listeners
from relayd.systemd import Manager
from relayd.testing import Faults, open_sink
from tests.debian import tool
from tests.relay import WRITE_KEY, Relay, free_port
from tests.sdk.packages import python_package
from tests.waiting import until

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "conf"
EXPOSURE = 1.5
SDK = "segment-analytics-python==2.4.0"
RESTARTS = 20


class Systemd:
    """What a daemon is told and passed, and what it says."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard.bind("\0" + address[1:] if address.startswith("@") else address)
        self._heard.setblocking(False)

    def said(self) -> list[dict[str, str]]:
        """The messages since the last look."""
        messages: list[dict[str, str]] = []
        while True:
            try:
                message = self._heard.recv(65536).decode()
            except BlockingIOError:
                return messages
            messages.append(dict(line.split("=", 1) for line in message.splitlines()))

    async def hears(self, name: str, seconds: float = 20) -> dict[str, str]:
        """The next message that has the assignment; those before it are gone."""
        with trio.fail_after(seconds):
            while True:
                for message in self.said():
                    if name in message:
                        return message
                await trio.sleep(0.01)

    def close(self) -> None:
        """Hear no more."""
        self._heard.close()


class Activated(Relay):
    """A relay that listens on sockets of ours."""

    def __init__(self, *args: Any, environ: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.environ = environ or {}
        self.socket = socket.create_server(("127.0.0.1", self.port), backlog=1024)

    def command(self) -> list[str]:
        """A shell that puts the socket in its place, and then is the daemon, so that it knows the number."""
        place = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{self.socket.fileno()}'
        return ["bash", "-c", place, "bash", sys.executable, "-m", "relayd", "run", "-c", str(self.config)]

    def spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                pass_fds=[self.socket.fileno()],
                env=os.environ | self.environ,
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The daemon, as it was started last."""
        assert self._process is not None
        return self._process

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    heard = Systemd(
        str(tmp_path / "notify") if request.param == "path" else f"@relayd-test-{os.getpid()}-{id(request)}"
    )
    yield heard
    heard.close()


# Sockets


def event(number: int) -> dict[str, Any]:
    return {"type": "track", "event": "e", "userId": "ada", "messageId": f"raw-{number}"}


async def test_twenty_restarts_refuse_no_connection_and_lose_nothing(tmp_path: Path) -> None:
    """The SDK keeps its connections; beside it each of our own requests has a new one, and only one chance."""
    async with open_sink() as sink:
        hook = f'type = "webhook"\nsettings.url = "{sink.url}"'
        with Activated(tmp_path, {"hook": hook}) as relay:
            folder = python_package(SDK)
            script = ROOT / "tests" / "sdk" / "clients" / "segment_python_steady.py"
            client = subprocess.Popen(
                [sys.executable, str(script), relay.url, WRITE_KEY, "sdk"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": str(folder)},
            )
            answers: list[int] = []
            try:
                async with trio.open_nursery() as nursery:
                    enough = trio.Event()
                    nursery.start_soon(post_until, relay.url, answers, enough)
                    for _ in range(RESTARTS):
                        relay.spawn()
                        await until(lambda: relay.process.poll() is not None or _is_ready(relay))
                        await trio.sleep(0.1)
                        assert await relay.stop() == 0
                    relay.spawn()
                    enough.set()
                output, _ = await trio.to_thread.run_sync(client.communicate, b"")
            finally:
                client.kill()
                client.wait()
            seen = msgspec.json.decode(output)
            assert seen["errors"] == []
            assert not [each for each in seen["failures"] if "refused" in each]
            # A kept connection may be closed at the moment in which it is used; then the SDK sends the same again.
            assert len(seen["failures"]) <= RESTARTS / 2, seen["failures"]
            assert set(answers) == {200}
            assert len(answers) > RESTARTS
            await relay.answering()
            expected = {f"sdk-{number}" for number in range(seen["sent"])} | {
                f"raw-{number}" for number in range(len(answers))
            }
            assert seen["sent"] > 20 * RESTARTS
            await relay.drained(len(expected))
            assert await relay.stop() == 0
        assert sorted(each["messageId"] for each in relay.journal()) == sorted(expected)
        assert sink.accepted.keys() == expected
        assert relay.log.read_text().count("relayd is ready") == RESTARTS + 1


def _is_ready(relay: Activated) -> bool:
    """As often as it was started it said so."""
    text = relay.log.read_text()
    return text.count("relayd is ready") > text.count("relayd has stopped")


async def post_until(url: str, answers: list[int], enough: trio.Event) -> None:
    """One event a request, one request a connection; whatever goes wrong with it is an error."""
    while not enough.is_set():
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            answer = await client.post(f"{url}/v1/track", json=event(len(answers)), auth=(WRITE_KEY, ""))
            answers.append(answer.status_code)
        await trio.sleep(0.01)


async def test_what_connects_while_nobody_runs_is_answered_by_the_next(tmp_path: Path) -> None:
    with Activated(tmp_path, {}) as relay:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client, trio.open_nursery() as nursery:
            answers: list[httpx.Response] = []

            async def post() -> None:
                answers.append(await client.post(f"{relay.url}/v1/track", json=event(1), auth=(WRITE_KEY, "")))

            nursery.start_soon(post)
            await trio.sleep(0.1)
            assert answers == []
            relay.spawn()
        assert [each.status_code for each in answers] == [200]
        assert relay.status()["journal"]["events"] == 1


async def test_a_second_daemon_is_refused_under_activation_too_and_takes_no_connection(tmp_path: Path) -> None:
    with Activated(tmp_path, {}) as relay:
        await relay.start()
        second = subprocess.run(
            relay.command(), pass_fds=[relay.socket.fileno()], capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert f"is in use by relayd process {relay.process.pid}" in second.stderr
        for number in range(10):
            answer = httpx.post(
                f"{relay.url}/v1/track", json=event(number), auth=(WRITE_KEY, ""), trust_env=False, timeout=5
            )
            assert answer.status_code == 200
        assert relay.status()["journal"]["events"] == 10


async def test_systemd_socket_activate_starts_it(tmp_path: Path) -> None:
    """By systemd's own hand: it waits for a connection, then hands the socket over."""
    relay = Relay(tmp_path, {})
    port = free_port()
    command = [tool("systemd", "systemd-socket-activate"), "-l", f"127.0.0.1:{port}"]
    command += [sys.executable, "-m", "relayd", "run", "-c", str(relay.config)]
    with relay.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        await until(lambda: "Listening on" in relay.log.read_text())
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/track", json=event(1), auth=(WRITE_KEY, ""), trust_env=False, timeout=20
        )
        assert answer.status_code == 200
        logged = [msgspec.json.decode(line) for line in relay.log.read_text().splitlines() if line.startswith("{")]
        assert [each["bind"] for each in logged if each["event"] == "relayd is ready"] == [f"127.0.0.1:{port}"]
        # the configuration says another port
        assert [each["sockets"] for each in logged if each["level"] == "warning" and "sockets" in each] == [
            [f"127.0.0.1:{port}"]
        ]
        process.terminate()
        assert await trio.to_thread.run_sync(process.wait) == 0
    finally:
        process.kill()
        process.wait()


async def test_sockets_of_every_kind_are_named_as_bind_would(tmp_path: Path) -> None:
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "s"))
    unix.listen()
    tcp = socket.create_server(("127.0.0.1", 0))
    six = socket.create_server(("::1", 0), family=socket.AF_INET6)
    expected = [f"unix:{tmp_path}/s", f"127.0.0.1:{tcp.getsockname()[1]}", f"[::1]:{six.getsockname()[1]}"]
    listeners = passed_listeners([each.detach() for each in (unix, tcp, six)])
    assert names(listeners) == expected
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("kind", ["datagram", "connected", "file"])
def test_what_is_no_listening_socket_is_told(tmp_path: Path, kind: str) -> None:
    one, other = socket.socketpair(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    with one, other, (tmp_path / "file").open("wb") as plain:
        file = os.dup(plain.fileno() if kind == "file" else one.fileno())
        with pytest.raises(BindError, match=rf"file {file} that systemd passed.*ListenStream="):
            passed_listeners([file])


@pytest.mark.parametrize(
    ("environ", "manager"),
    [
        ({}, Manager()),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000"}, Manager("/run/n", 3.0)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "77"}, Manager("@n", 0.5)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "78"}, Manager("@n")),
        ({"WATCHDOG_USEC": "soon", "LISTEN_FDS": "x", "LISTEN_PID": "77"}, Manager()),
        ({"LISTEN_FDS": "2000", "LISTEN_PID": "78"}, Manager()),
        ({"LISTEN_FDS": "2000"}, Manager()),
    ],
)
def test_only_what_is_meant_for_this_process_counts_and_children_inherit_none_of_it(
    environ: dict[str, str], manager: Manager
) -> None:
    environ["HOME"] = "/root"
    assert Manager.take(environ, 77) == manager
    assert environ == {"HOME": "/root"}


async def test_functions_inherit_neither_sockets_nor_news(tmp_path: Path, systemd: Systemd) -> None:
    (tmp_path / "look.py").write_text(
        "import os\n\n"
        "async def on_request(request, settings):\n"
        "    files = [os.readlink(f'/proc/self/fd/{each}') for each in os.listdir('/proc/self/fd') if each == '3']\n"
        "    names = [name for name in os.environ if name.startswith(('LISTEN_', 'NOTIFY_', 'WATCHDOG_'))]\n"
        "    print(files, names)\n"
    )
    source = f'[sources.look]\ntype = "function"\nfile = "{tmp_path}/look.py"\n'
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "9000000"}
    with Activated(tmp_path, {}, more=source, environ=environ) as relay:
        await relay.start()
        httpx.post(f"{relay.url}/v1/sources/look", json={}, trust_env=False, timeout=20)
        await until(lambda: "a function printed" in relay.log.read_text())
        printed = next(each["text"] for each in relay.logged() if each["event"] == "a function printed")
        assert "socket" not in printed
        assert printed.strip().endswith("[]")


# News


async def test_it_says_when_it_is_ready_when_it_stops_and_how_long_that_may_take(
    tmp_path: Path, systemd: Systemd
) -> None:
    more = 'daemon.drain_timeout = "90s"'
    with Activated(tmp_path, {}, more=more, environ={"NOTIFY_SOCKET": systemd.address}) as relay:
        relay.spawn()
        ready = await systemd.hears("READY")
        assert ready == {
            "READY": "1",
            "STATUS": "0 events of 1 sources, 0 destinations: 0 delivered, 0 pending, 0 held",
        }
        assert httpx.get(f"{relay.url}/health", trust_env=False).status_code == 200
        assert await relay.stop() == 0
        assert await systemd.hears("STOPPING") == {
            "STOPPING": "1",
            "STATUS": "stopping",
            "EXTEND_TIMEOUT_USEC": "110000000",
        }
        assert systemd.said() == []


async def test_a_stop_ends_within_the_deadline_though_a_destination_hangs(tmp_path: Path, systemd: Systemd) -> None:
    async with open_sink(faults=Faults(share=1, kinds=("hang",), attempts=0)) as sink:
        hook = f'type = "webhook"\nsettings.url = "{sink.url}"\ndelivery.timeout = "60s"'
        environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "600000"}
        with Activated(tmp_path, {"hook": hook}, more='daemon.drain_timeout = "1s"', environ=environ) as relay:
            await relay.start()
            httpx.post(f"{relay.url}/v1/track", json=event(1), auth=(WRITE_KEY, ""), trust_env=False)
            with trio.fail_after(20):
                await sink.wait_requests(1)
            systemd.said()
            with trio.fail_after(6):
                assert await relay.stop() == 0
            said = systemd.said()
            stopping = next(number for number, each in enumerate(said) if "STOPPING" in each)
            assert {"WATCHDOG": "1"} in said[stopping:]  # it goes on while it drains


async def test_the_watchdog_is_fed_while_the_loop_goes_round_and_not_while_it_hangs(
    tmp_path: Path, systemd: Systemd
) -> None:
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "600000"}
    with Activated(tmp_path, {}, environ=environ) as relay:
        await relay.start()
        for _ in range(3):
            assert await systemd.hears("WATCHDOG", seconds=2) == {"WATCHDOG": "1"}
        relay.process.send_signal(signal.SIGSTOP)
        await trio.sleep(0.1)
        systemd.said()
        await trio.sleep(1)
        assert systemd.said() == []
        relay.process.send_signal(signal.SIGCONT)
        await systemd.hears("WATCHDOG", seconds=2)


async def test_a_daemon_that_the_watchdog_ends_says_where_it_was(tmp_path: Path) -> None:
    with Activated(tmp_path, {}) as relay:
        await relay.start()
        relay.process.send_signal(signal.SIGABRT)
        await until(lambda: relay.process.poll() is not None)
        assert relay.process.returncode == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in relay.log.read_text()
        assert "Current thread" in relay.log.read_text()


async def test_the_watchdog_is_not_fed_while_the_journal_makes_no_progress(
    tmp_path: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_answers = threading.Event()
    disk_answers.set()
    sync = os.fdatasync

    def fdatasync(file: int) -> None:
        assert disk_answers.wait(30)
        sync(file)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    dedupe = Dedupe(tmp_path / "dedupe", max_ids=1000, window=60)
    config = model.Journal(min_free=Size(0))
    journal = open_journal(Folders.of(tmp_path, ""), config, dedupe, cursor=0, max_buffered=2**20)
    manager = Manager(systemd.address, 0.15)
    line = b'{"messageId":"a","receivedAt":"2026-01-01T00:00:00Z","source":"app"}\n'
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        async with trio.open_nursery() as informing:
            informing.start_soon(manager.inform, lambda: "", journal.settle)
            await systemd.hears("WATCHDOG")
            disk_answers.clear()
            nursery.start_soon(journal.append, line, "app", 1)
            await trio.sleep(0.2)
            systemd.said()
            await trio.sleep(0.5)
            assert systemd.said() == []
            disk_answers.set()
            await systemd.hears("WATCHDOG")
            informing.cancel_scope.cancel()
        await journal.close()


async def test_figures_are_told_again_when_they_have_changed(
    systemd: Systemd, autojump_clock: trio.testing.MockClock
) -> None:
    lines = iter(["one", "one", "two\nlines", "two\nlines"])

    async def never() -> None:
        raise AssertionError

    with trio.move_on_after(45):
        await Manager(systemd.address).inform(lambda: next(lines), never)
    assert systemd.said() == [{"STATUS": "one"}, {"STATUS": "two lines"}]


async def test_a_systemd_that_does_not_listen_harms_nobody(tmp_path: Path) -> None:
    Manager(str(tmp_path / "nobody")).ready("x")
    Manager("vsock:2:1234").stopping(1)
    Manager().ready("x")
    heard = Systemd(f"@relayd-test-full-{os.getpid()}")
    for _ in range(5000):  # more than it takes in
        Manager(heard.address).ready("x")
    heard.close()


async def test_figures_name_what_ails(tmp_path: Path) -> None:
    async with open_sink(faults=Faults(share=1, status=500, attempts=0)) as sink:
        hook = f'type = "webhook"\nsettings.url = "{sink.url}"'
        with Relay(tmp_path, {"hook": hook}) as relay:
            await relay.start()
            httpx.post(
                f"{relay.url}/v1/batch",
                json={"batch": [event(number) for number in range(1200)]},
                auth=(WRITE_KEY, ""),
                trust_env=False,
            )
            with trio.fail_after(20):
                await until(lambda: relay.status()["destinations"]["hook"]["state"] == "backing_off")
            status = msgspec.convert(relay.status(), Status)
        status.journal.refusing = "the disk is full"
        assert figures(status) == (
            "1,200 events of 1 sources, 1 destinations: 0 delivered, 1,200 pending, 0 held "
            "(hook backing_off; events are refused: the disk is full)"
        )


# The units


def test_the_service_is_hardened() -> None:
    done = subprocess.run(
        [
            tool("systemd", "systemd-analyze"),
            "security",
            "--offline=true",
            f"--threshold={round(EXPOSURE * 10)}",
            str(UNITS / "relayd.service"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    exposure = re.search(r"exposure level for relayd.service: ([\d.]+)", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert exposure is not None
    assert float(exposure[1]) < EXPOSURE


def directives(unit: str, name: str) -> Sequence[str]:
    return re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def test_the_units_and_the_defaults_agree() -> None:
    assert directives("relayd.socket", "ListenStream") == [model.Listener().bind]
    assert directives("relayd.service", "Type") == ["notify"]
    assert directives("relayd.service", "LoadCredential") == ["relayd:/etc/relayd/credentials"]
    assert int(directives("relayd.service", "LimitNOFILE")[0]) > model.Listener().max_connections
    stop = float(directives("relayd.service", "TimeoutStopSec")[0].removesuffix("s"))
    assert stop > model.Daemon().drain_timeout + 20
