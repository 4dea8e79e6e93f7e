"""The processes of a benchmark: each on its core, measured from /proc, ended by its id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SCRIPTS = Path(__file__).parents[1]
ROOT = SCRIPTS.parent
_TICK = os.sysconf("SC_CLK_TCK")
_CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPUS = {_CPUS[0]}
"""The core of what is measured; the load, the sink and this process have the others."""
LOAD_CPUS = set(_CPUS[1:]) or SERVER_CPUS


class DiedError(RuntimeError):
    """A process ended, or did not answer, before its work was done; the message has the last lines of its log."""


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port


def own_cpu_s() -> float:
    """Seconds of CPU that this process and its ended children have used."""
    return sum(os.times()[:4])


def busy_s() -> float:
    """Seconds that the machine's cores, taken together, have been busy (or stolen by the host) since the boot."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / _TICK


class Process:
    """A child process, as a context manager: leaving it ends the child (SIGTERM, after ``patience`` SIGKILL)."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        cpus: set[int],
        environment: Mapping[str, str] | None = None,
        patience: float = 20,
    ) -> None:
        self.name = " ".join(str(part) for part in command[1:4])
        self._log = log
        self._patience = patience
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": str(SCRIPTS), **(environment or {})},
                preexec_fn=lambda: os.sched_setaffinity(0, cpus),  # before any of its threads is there
            )
        self.pid = self._child.pid

    @classmethod
    def module(cls, name: str, *arguments: str | Path, log: Path, cpus: set[int]) -> Self:
        """``python -m benchmarks.NAME ARGUMENTS``."""
        return cls([sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)], log, cpus=cpus)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the child and waits for it."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(self._patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Ends the child as a crash would (SIGKILL)."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGKILL)
        self._child.wait()

    def died(self, what: str) -> DiedError:
        """The error that says ``what`` is wrong with this process, with its log's last lines."""
        code = self._child.poll()
        state = "is still running" if code is None else f"ended with {code}"
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        return DiedError("\n    ".join([f"{self.name}: {what} (it {state}); the end of its log:", *lines]))

    def check(self) -> None:
        """Raises `DiedError` unless the child runs."""
        if self._child.poll() is not None:
            raise self.died("ended")

    def listening(self, port: int, *, within: float = 30) -> Self:
        """Returns when ``port`` accepts connections; raises `DiedError` if the child ends or takes too long."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return self
            time.sleep(0.01)
        raise self.died(f"port {port} does not answer after {within:g} s")

    def cpu_s(self) -> float:
        """Seconds of CPU, user and system, of all its threads."""
        self.check()
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def rss_mb(self) -> float:
        """Resident memory in MB."""
        self.check()
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def wait_for_quiet(*, within: float) -> float:
    """Waits until other programs leave the cores alone, at most so long; the share of a core they used last."""
    end = time.monotonic() + within
    while True:
        before, start = busy_s() - own_cpu_s(), time.monotonic()
        time.sleep(0.5)
        share = (busy_s() - own_cpu_s() - before) / (time.monotonic() - start)
        if share < 0.05 or time.monotonic() > end:
            return max(share, 0.0)
