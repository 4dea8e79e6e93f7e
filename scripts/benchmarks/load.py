"""The load on a listener. Closed: wrk, as much as it takes. Open: at a rate, or a number of requests, from here.

An open load does not wait for answers: a request has its time, and its latency counts from that time, also when no
connection was free then (so a server that stalls can not hide it: no coordinated omission).
"""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections import deque
from pathlib import Path

import msgspec

from benchmarks.events import Requests
from benchmarks.process import LOAD_CPUS, DiedError, own_cpu_s


class Result(msgspec.Struct):
    """What a load saw. Latencies are of complete answers, in milliseconds."""

    requests: int
    """Requests answered with 200."""
    seconds: float
    errors: int
    """Other answers, and connections that failed."""
    p50_ms: float
    p99_ms: float
    p95_ms: float = 0.0
    """0 where the load can not tell."""
    load_share: float = 0.0
    """The share of its core that the load used; near 1, the load was the bottleneck, not the server."""


def wrk() -> str | None:
    """Where wrk is."""
    return shutil.which("wrk")


def saturate(port: int, requests: Requests, *, connections: int, seconds: float, script: Path) -> Result:
    """A closed load: every connection sends as soon as it is answered. ``script`` is a file to write for wrk."""
    script.write_text(requests.lua())
    command = [wrk() or "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += ["--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{port}/"]
    before = own_cpu_s()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, LOAD_CPUS),
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith('{"requests"')), None)
    if line is None:
        raise DiedError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    result = msgspec.json.decode(line, type=Result)
    result.load_share = (own_cpu_s() - before) / result.seconds
    return result


def send(
    port: int,
    requests: Requests,
    *,
    count: int,
    connections: int,
    rate: float | None = None,
    within: float = 120,
) -> Result:
    """``count`` requests, at ``rate`` a second or (None) as fast as the connections are answered.

    Raises `DiedError` when the answers are not all there ``within`` seconds after the last is due.
    """
    with contextlib.ExitStack() as stack:
        poller = select.epoll()
        stack.callback(poller.close)
        clients: dict[int, socket.socket] = {}
        for _ in range(connections):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poller.register(client, select.EPOLLIN)
            clients[client.fileno()] = client
        return _send(poller, clients, requests, count, rate, within)


def _send(
    poller: select.epoll,
    clients: dict[int, socket.socket],
    requests: Requests,
    count: int,
    rate: float | None,
    within: float,
) -> Result:
    idle = deque(clients)
    due: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    latencies: list[float] = []
    sent = errors = 0
    cpu, start = own_cpu_s(), time.perf_counter()
    end = start + within + (count / rate if rate else 0)
    while len(latencies) + errors < count:
        now = time.perf_counter()
        if now > end:
            raise DiedError(f"{count - len(latencies) - errors} of {count} requests are unanswered after {within:g} s")
        allowed = count if rate is None else min(count, int((now - start) * rate) + 1)
        while sent < allowed and idle:
            fd = idle.popleft()
            due[fd] = start + sent / rate if rate else time.perf_counter()
            clients[fd].sendall(requests.request(sent))
            sent += 1
        ready = poller.poll(0.001 if rate is None else 0)
        if not ready and rate is not None:
            time.sleep(0.0001)  # epoll knows no less than a millisecond
        for fd, _ in ready:
            data = partial.pop(fd, b"") + clients[fd].recv(65536)
            if not data:
                raise DiedError("the listener closed a connection under load")
            if not data.endswith(b"}"):  # every answer is one JSON object
                partial[fd] = data
                continue
            if data.startswith(b"HTTP/1.1 200 "):
                latencies.append(time.perf_counter() - due[fd])
            else:
                errors += 1
            idle.append(fd)
    seconds = time.perf_counter() - start
    latencies.sort()
    return Result(
        requests=len(latencies),
        seconds=seconds,
        errors=errors,
        p50_ms=_percentile(latencies, 0.50) * 1000,
        p99_ms=_percentile(latencies, 0.99) * 1000,
        p95_ms=_percentile(latencies, 0.95) * 1000,
        load_share=(own_cpu_s() - cpu) / seconds,
    )


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
