"""What is measured: a relayd with a state of its own, and the bare yardstick in its place."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from benchmarks.events import WRITE_KEY
from benchmarks.process import LOAD_CPUS, ROOT, SERVER_CPUS, Process, free_port
from benchmarks.sink import counts

RELAYD = Path(sys.executable).with_name("relayd")
DESTINATION = "hook"
_CONFIGURATION = """\
[daemon]
state_dir = "{state}"
log_format = "json"
[listener]
bind = "127.0.0.1:{port}"
[sources.bench]
type = "server"
write_key = "{write_key}"
"""
_WEBHOOK = """\
[destinations.{name}]
type = "webhook"
[destinations.{name}.settings]
url = "http://127.0.0.1:{port}/"
[destinations.{name}.delivery]
batch_size = {batch}
"""
_MAPPED_WEBHOOK = (
    _WEBHOOK
    + """\
[[destinations.{name}.subscriptions]]
name = "All"
action = "send"
trigger = 'type = "track"'
mapping = {{ url = "http://127.0.0.1:{port}/", method = "POST", data = {{ "@path" = "$." }} }}
"""
)
_MIXPANEL = """\
[destinations.{name}]
type = "mixpanel"
[destinations.{name}.settings]
projectToken = "token"
apiSecret = "secret"
[destinations.{name}.delivery]
base_url = "http://127.0.0.1:{port}"
batch_size = {batch}
[[destinations.{name}.subscriptions]]
name = "Track"
action = "trackEvent"
trigger = 'type = "track"'
"""
DESTINATIONS = {"webhook": _WEBHOOK, "webhook-mapped": _MAPPED_WEBHOOK, "mixpanel": _MIXPANEL}
"""How each is configured that a row may feed."""


class Server(Process):
    """A process with a listener on ``port``."""

    port: int

    def ready(self) -> None:
        """Returns when it takes events."""
        self.listening(self.port)


class Yardstick(Server):
    """The bare loop, which forwards to ``sink`` when there is one: events as they are, whatever ``destination``."""

    @classmethod
    def start(cls, directory: Path, *, sink: int | None = None, batch: int = 1, destination: str = "webhook") -> Self:
        directory.mkdir(parents=True)
        port = free_port()
        options = [] if sink is None else ["--forward", str(sink)]
        options += ["--batch", str(batch)] if batch > 1 else []
        it = cls.module(
            "yardstick", str(port), directory / "journal", *options, log=directory / "log", cpus=SERVER_CPUS
        )
        it.port = port
        return it


class Relay(Server):
    """``relayd run`` with one source, and one of `DESTINATIONS` that delivers to ``sink`` when there is one."""

    configuration: Path
    state: Path
    _delivers: bool

    @classmethod
    def start(cls, directory: Path, *, sink: int | None = None, batch: int = 1, destination: str = "webhook") -> Self:
        """Starts in ``directory``; there may be a state in it already."""
        directory.mkdir(parents=True, exist_ok=True)
        port, state = free_port(), directory / "state"
        text = _CONFIGURATION.format(state=state, port=port, write_key=WRITE_KEY)
        if sink is not None:
            text += DESTINATIONS[destination].format(name=DESTINATION, port=sink, batch=batch)
        configuration = directory / "relayd.toml"
        configuration.write_text(text)
        it = cls([RELAYD, "run", "-c", configuration], directory / "log", cpus=SERVER_CPUS)
        it.port, it.configuration, it.state, it._delivers = port, configuration, state, sink is not None
        return it

    def ready(self) -> None:
        """Returns when it takes events and its destination, if any, has its place in the journal."""
        super().ready()
        if self._delivers:
            self.wait_for("running", lambda figures: bool(figures["state"] == "running"), within=30)

    def status(self) -> dict[str, Any]:
        """What ``relayd status --json`` says, from the admin socket; raises `DiedError` when it says nothing."""
        return self.ask("/status")

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        """GET ``path`` of the admin socket, or POST ``body``; raises `DiedError` unless it is answered 200."""
        self.check()
        sent = b"" if body is None else msgspec.json.encode(body)
        method, answer = "GET" if body is None else "POST", b""
        head = f"{method} {path} HTTP/1.1\r\nHost: relayd\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n\r\n"
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(self.state / "relayd.sock"))
                client.sendall(head.encode() + sent)
                while data := client.recv(65536):
                    answer += data
        except OSError as error:
            raise self.died(f"the admin socket does not answer: {error}") from error
        start, _, answered = answer.partition(b"\r\n\r\n")
        if not start.startswith(b"HTTP/1.1 200 "):
            raise self.died(f"the admin socket answers {answer[:500]!r}")
        return msgspec.json.decode(answered, type=dict[str, Any])

    def wait_for(
        self, what: str, reached: Callable[[dict[str, Any]], bool], *, within: float, every: float = 0.05
    ) -> dict[str, Any]:
        """The first figures of the destination for which ``reached`` is true; looks ``every`` so many seconds."""
        end = time.monotonic() + within
        while True:
            figures: dict[str, Any] = self.status()["destinations"][DESTINATION]
            if reached(figures):
                return figures
            if time.monotonic() > end:
                raise self.died(f"not {what} within {within:g} s: {figures}")
            time.sleep(every)


class Sink(Process):
    """The receiving end."""

    port: int

    @classmethod
    def start(cls, directory: Path) -> Self:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        it = cls.module("sink", str(port), log=directory / "sink.log", cpus=LOAD_CPUS)
        it.port = port
        it.listening(port)
        return it

    def events(self) -> int:
        """Events received so far."""
        self.check()
        return counts(self.port).events

    def wait_for(self, events: int, server: Process, *, within: float) -> None:
        """Returns when so many events have come in."""
        end = time.monotonic() + within
        while (seen := self.events()) < events:
            server.check()
            if time.monotonic() > end:
                raise server.died(f"the sink has {seen} of {events} events after {within:g} s")
            time.sleep(0.02)


def commit() -> str:
    """The commit that is measured, marked when files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "no git"
