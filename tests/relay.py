"""A daemon as users run it: a process of its own, on a state directory that outlives it."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
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

    def __init__(self, root: Path, destinations: Mapping[str, str], *, more: str = "") -> None:
        """``destinations`` are their sections' bodies in TOML, by name; ``more`` is more TOML."""
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
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Self:
        """Start it, and return when it answers."""
        self.spawn()
        await until(self._answers)
        return self

    def spawn(self) -> None:
        """Start it, and do not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "relayd", "run", "-c", str(self.config)], stdout=log, stderr=log
            )

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        assert self._process is not None
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        await until(lambda: self._process is not None and self._process.poll() is not None)
        return self._process.returncode

    def status(self) -> dict[str, Any]:
        """What ``relayd status --json`` prints."""
        transport = httpx.HTTPTransport(uds=str(self.state / "relayd.sock"))
        with httpx.Client(transport=transport, trust_env=False, timeout=10) as client:
            answer: dict[str, Any] = client.get("http://relayd/status").raise_for_status().json()
            return answer

    async def drained(self, received: int | None = None, seconds: float = 60) -> dict[str, Any]:
        """Return the status once every destination has read the whole journal, and nothing is pending.

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
                ):
                    return status
                await trio.sleep(0.1)
        raise AssertionError(f"not drained: {status['destinations']}\n{self.log.read_text()[-2000:]}")

    def journal(self) -> Iterator[dict[str, Any]]:
        """The events of the journal and the archive, read without relayd's own reader."""
        for path in sorted(
            [*self.state.glob("journal/*.jsonl"), *self.state.glob("archive/*/*.zst")], key=lambda p: p.name
        ):
            raw = path.read_bytes()
            if path.suffix == ".zst":
                raw = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
            for line in raw.splitlines():
                yield msgspec.json.decode(line)

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
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=1).status_code == 200
        except httpx.TransportError:
            return False
