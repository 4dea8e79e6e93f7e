"""A daemon as users run it: a process of its own, on a state directory that outlives it."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import pyzstd
import trio

from tests.waiting import until

WRITE_KEY = "test-write-key"


def free_port() -> int:
    """A TCP port of the loopback address that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Relay:
    """``relayd run`` with a configuration made here. It may be started, killed and started again; ``stop`` it."""

    def __init__(
        self,
        root: Path,
        destinations: Mapping[str, str],
        *,
        more: str = "",
        program: Sequence[str] = ("-m", "relayd"),
    ) -> None:
        """``destinations`` are their sections' bodies in TOML, by name; ``more`` is more TOML.

        ``program`` is what Python runs as ``relayd``.
        """
        self.root = root
        self.state = root / "state"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = root / "log"
        self.config = root / "relayd.toml"
        sections = "\n".join(f"[destinations.{name}]\n{body}\n" for name, body in destinations.items())
        self.config.write_text(
            f'daemon.state_dir = "{self.state}"\ndaemon.log_format = "json"\nlistener.bind = "127.0.0.1:{self.port}"\n'
            f'{more}\n[sources.app]\nwrite_key = "{WRITE_KEY}"\n{sections}'
        )
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Self:
        """Start it, and return when it answers."""
        self.spawn()
        await self.answering()
        return self

    async def answering(self) -> None:
        """Return when it answers. Fails when it has ended."""
        await until(self._answers)

    def spawn(self) -> None:
        """Start it, and do not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._program, "run", "-c", str(self.config)], stdout=log, stderr=log
            )

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        assert self._process is not None
        self._process.terminate()

    def kill(self) -> bool:
        """SIGKILL, and return when it is gone; whether that is what ended it."""
        assert self._process is not None
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        await until(lambda: self._process is not None and self._process.poll() is not None)
        return self._process.returncode

    def status(self) -> dict[str, Any]:
        """What ``relayd status --json`` prints."""
        transport = httpx.HTTPTransport(uds=str(self.state / "relayd.sock"), verify=False)
        with httpx.Client(transport=transport, trust_env=False, timeout=10) as client:
            answer: dict[str, Any] = client.get("http://relayd/status").raise_for_status().json()
            return answer

    async def drained(self, received: int | None = None, seconds: float = 60) -> dict[str, Any]:
        """Return the status once every destination that is fed has read the journal, and nothing is pending.

        With ``received`` it has to be exactly so many events.
        """
        status: dict[str, Any] = {}
        with trio.move_on_after(seconds):
            while True:
                status = await trio.to_thread.run_sync(self.status)
                if all(
                    each["cursor"] == status["journal"]["head"]
                    and received in (None, each["received"])
                    and not each["pending"]
                    and not each["in_flight"]
                    for each in status["destinations"].values()
                    if each["state"] != "disabled"
                ):
                    return status
                await trio.sleep(0.1)
        raise AssertionError(f"not drained: {status['destinations']}\n{self.log.read_text()[-2000:]}")

    def segments(self) -> dict[int, bytes]:
        """The journal and its archive, read without relayd's own reader: each segment's bytes by its first offset.

        Fails when a segment that a crash left in both places is not the same in both.
        """
        found: dict[int, bytes] = {}
        for path in (*self.state.glob("archive/*/*.jsonl.zst"), *self.state.glob("journal/*.jsonl")):
            base, data = int(path.name.partition(".")[0]), path.read_bytes()
            if path.suffix == ".zst":
                data = pyzstd.decompress(data)
            assert found.setdefault(base, data) == data, f"{path.name} is not the same in journal and archive"
        return dict(sorted(found.items()))

    def journal(self) -> Iterator[dict[str, Any]]:
        """The events of the journal and its archive."""
        for data in self.segments().values():
            yield from (msgspec.json.decode(line) for line in data.splitlines() if not line.isspace())

    def logged(self) -> list[dict[str, Any]]:
        """What all runs so far logged."""
        return [msgspec.json.decode(line) for line in self.log.read_bytes().splitlines()]

    def assert_clean_log(self, *expected: str) -> None:
        """Fail when anything was logged as a warning or worse, but for events that begin with one of ``expected``."""
        for each in self.logged():
            assert each["level"] in ("debug", "info") or each["event"].startswith(expected), each

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"relayd ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, verify=False, timeout=1).status_code == 200
        except httpx.TransportError:
            return False
