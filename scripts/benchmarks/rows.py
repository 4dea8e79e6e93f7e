"""The rows: what is measured, how, and what it may cost (the performance budget).

Each round of a row starts the yardstick and relayd afresh, one after the other, on the same core and disk; a figure is
the median of the rounds. No round starts while other programs use the cores, if that can be helped.
"""

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.events import Requests
from benchmarks.language import mapping, trigger
from benchmarks.load import Result, saturate, send
from benchmarks.process import DiedError, busy_s, free_port, own_cpu_s, wait_for_quiet
from benchmarks.replay import replay_live, replay_memory, replay_scan
from benchmarks.report import Budget, Figure
from benchmarks.servers import Relay, Server, Sink, Yardstick

WEBHOOK_RATE = 6_000  # events a second that an unbatched webhook must reach


class Bench:
    """How long and how often to measure, where, and what was noticed on the way."""

    def __init__(self, directory: Path, *, seconds: float, rounds: int, quick: bool) -> None:
        self.seconds, self.rounds, self.quick = seconds, rounds, quick
        self.notes: list[str] = []
        self.single_rate: dict[str, float] = {}  # requests/s at saturation, by server
        self._root = directory
        self._patience = 3.0 if quick else 60.0
        self._disturbed: dict[str, float] = {}  # by row
        self._made = 0

    def directory(self) -> Path:
        """A new place for a state."""
        self._made += 1
        return self._root / f"{self._made:03}"

    def say(self, text: str) -> None:
        """Progress."""
        print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """A remark that belongs under the table."""
        if text not in self.notes:
            self.notes.append(text)
            self.say(f"  note: {text}")

    def rounds_of(self, name: str) -> Iterator[tuple[str, type[Yardstick | Relay], Path]]:
        """The yardstick, relayd, the yardstick, ...; the place of each is removed afterwards."""
        for number in range(self.rounds):
            for label, server in (("yardstick", Yardstick), ("relayd", Relay)):
                self.quiet(name)
                self.say(f"{name}: round {number + 1} of {self.rounds}, {label}")
                place = self.directory()
                yield label, server, place
                shutil.rmtree(place)

    def quiet(self, name: str) -> None:
        """Waits for a quiet machine: a minute at most, and less once that was in vain."""
        os.sync()
        self.disturbed(name, wait_for_quiet(within=self._patience))
        if self._disturbed.get(name):
            self._patience = 3.0

    def disturbed(self, name: str, share: float) -> None:
        """Remembers the share of a core that others used, if it is enough to falsify a figure."""
        if share > 0.20:
            self._disturbed[name] = max(share, self._disturbed.get(name, 0.0))

    def remarks(self) -> list[str]:
        """All that a reader of the figures should know."""
        rows = ", ".join(f"{name} {share:.0%}" for name, share in self._disturbed.items())
        return [*self.notes, *([f"something else used up to so much of a core beside: {rows}"] if rows else [])]


class Watch:
    """CPU of a server over a stretch of time, and of all that is none of ours (kernel threads included)."""

    def __init__(self, server: Server, *others: Sink) -> None:
        self._server, self._others = server, others
        self._start, self._before = time.perf_counter(), self._read()

    def _read(self) -> tuple[float, float]:
        server = self._server.cpu_s()
        return server, busy_s() - own_cpu_s() - server - sum(each.cpu_s() for each in self._others)

    def stop(self, bench: Bench, name: str) -> float:
        """Seconds of CPU that the server used; notes whether it was disturbed."""
        server, foreign = (now - then for now, then in zip(self._read(), self._before, strict=True))
        bench.disturbed(name, foreign / (time.perf_counter() - self._start))
        return server


def _judge(bench: Bench, name: str, label: str, result: Result) -> None:
    if result.errors:
        bench.note(f"{name}: {label} refused or dropped {result.errors} requests")
    if result.load_share > 0.9:
        bench.note(f"{name}: the load used {result.load_share:.0%} of its core; {label} may be faster than shown")


def _saturated(bench: Bench, name: str, batch: int | None, connections: int) -> Iterator[Figure]:
    unit = "requests/s" if batch is None else "events/s"
    rate = Figure(name, "accepted durably", unit, Budget(ratio_least=0.60, then=0.75))
    cpu = Figure(name, "CPU an event", "us")
    share = Figure(name, "its core in use", "%")
    p50, p99 = Figure(name, f"answer p50, {connections} connections", "ms"), Figure(name, "answer p99", "ms")
    for label, server, place in bench.rounds_of(name):
        with server.start(place) as it:
            it.ready()
            send(it.port, Requests(batch), count=200, connections=16)
            watch = Watch(it)
            result = saturate(
                it.port,
                Requests(batch),
                connections=connections,
                seconds=bench.seconds,
                script=place / "load.lua",
            )
            used = watch.stop(bench, name)
        _judge(bench, name, label, result)
        events = result.requests * (batch or 1)
        rate.add(label, events / result.seconds)
        cpu.add(label, used / max(1, events) * 1e6)
        share.add(label, used / result.seconds * 100)
        p50.add(label, result.p50_ms)
        p99.add(label, result.p99_ms)
        if batch is None:
            bench.single_rate[label] = rate.median(label)
    yield from (rate, cpu, share, p50, p99)


def single(bench: Bench) -> Iterator[Figure]:
    """requests/s accepted durably, one event each, 256 connections"""
    return _saturated(bench, "single", None, 256)


def batch(bench: Bench) -> Iterator[Figure]:
    """events/s accepted durably, batches of 100, 64 connections"""
    return _saturated(bench, "batch", 100, 64)


def latency(bench: Bench) -> Iterator[Figure]:
    """answers at half of the load that `single` found, open loop"""
    if not bench.single_rate:
        bench.say("latency: what is half the load? Measuring that first")
        for _ in _saturated(bench, "single", None, 256):
            pass
    p50 = Figure("latency", "answer p50 at half load", "ms")
    p99 = Figure("latency", "answer p99 at half load", "ms", Budget(most=15))
    offered = Figure("latency", "offered", "requests/s")
    for label, server, place in bench.rounds_of("latency"):
        rate = bench.single_rate[label] / 2
        with server.start(place) as it:
            it.ready()
            send(it.port, Requests(), count=200, connections=16)
            watch = Watch(it)
            result = send(it.port, Requests(), count=round(rate * bench.seconds), connections=256, rate=rate)
            watch.stop(bench, "latency")
        _judge(bench, "latency", label, result)
        p50.add(label, result.p50_ms)
        p99.add(label, result.p99_ms)
        offered.add(label, rate)
    yield from (p99, p50, offered)


def _through(
    bench: Bench, name: str, count: int, size: int, budget: Budget, destination: str = "webhook"
) -> Iterator[Figure]:
    """``count`` events handed in as fast as they are taken; the clock stops when all are delivered and cleared."""
    rate = Figure(name, "accepted + delivered + cleared", "events/s", budget)
    cpu = Figure(name, "CPU an event", "us")
    for label, server, place in bench.rounds_of(name):
        with (
            Sink.start(place.with_suffix(".sink")) as sink,
            server.start(place, sink=sink.port, batch=size, destination=destination) as it,
        ):
            it.ready()
            watch, start = Watch(it, sink), time.perf_counter()
            accepted = send(it.port, Requests(100), count=count // 100, connections=16)
            sink.wait_for(count, it, within=120)
            if isinstance(it, Relay):
                it.wait_for(
                    "all delivered and cleared",
                    lambda figures: bool(figures["delivered"] == count and figures["pending"] == 0),
                    within=60,
                )
            elapsed = time.perf_counter() - start
            used = watch.stop(bench, name)
            extra = sink.events() - count
        _judge(bench, name, label, accepted)
        if extra:
            bench.note(f"{name}: {label} delivered {extra} events more than it was given")
        rate.add(label, count / elapsed)
        cpu.add(label, used / count * 1e6)
    yield from (rate, cpu)


def webhook(bench: Bench) -> Iterator[Figure]:
    """events/s through an unbatched webhook, end to end"""
    count = round(WEBHOOK_RATE * bench.seconds / 100) * 100
    return _through(bench, "webhook", count, 1, Budget(least=WEBHOOK_RATE))


def webhook_batch(bench: Bench) -> Iterator[Figure]:
    """events/s through a webhook with batches of 100, end to end"""
    count = round(50_000 * bench.seconds / 100) * 100
    return _through(bench, "webhook-batch", count, 100, Budget(least=25_000, then=100_000))


def webhook_mapped(bench: Bench) -> Iterator[Figure]:
    """events/s through a trigger and the webhook's default mapping, batches of 100, end to end"""
    count = round(25_000 * bench.seconds / 100) * 100
    return _through(bench, "webhook-mapped", count, 100, Budget(least=25_000), "webhook-mapped")


def mixpanel(bench: Bench) -> Iterator[Figure]:
    """events/s through Mixpanel's trackEvent with its default mapping (46 keys), batches of 100, end to end"""
    count = round(12_000 * bench.seconds / 100) * 100
    return _through(bench, "mixpanel", count, 100, Budget(least=10_000, then=15_000), "mixpanel")


def webhook_steady(bench: Bench) -> Iterator[Figure]:
    """an unbatched webhook under a steady load of single events, a little above its budget"""
    name, offered = "webhook-steady", WEBHOOK_RATE * 1.05
    rate = Figure(name, "delivered while offered 6,300/s", "events/s", Budget(least=WEBHOOK_RATE))
    p99 = Figure(name, "answer p99", "ms")
    lag = Figure(name, "undelivered at the end", "events")
    cpu = Figure(name, "CPU an event", "us")
    count = round(offered * bench.seconds * 2)
    for label, server, place in bench.rounds_of(name):
        with Sink.start(place.with_suffix(".sink")) as sink, server.start(place, sink=sink.port) as it:
            it.ready()
            watch = Watch(it, sink)
            result = send(it.port, Requests(), count=count, connections=64, rate=offered)
            delivered = sink.events()
            used = watch.stop(bench, name)
        _judge(bench, name, label, result)
        rate.add(label, delivered / result.seconds)
        p99.add(label, result.p99_ms)
        lag.add(label, count - delivered)
        cpu.add(label, used / max(1, delivered) * 1e6)
    yield from (rate, p99, lag, cpu)


def idle(bench: Bench) -> Iterator[Figure]:
    """CPU and memory of an idle daemon with one destination"""
    cpu = Figure("idle", "CPU", "% of a core", Budget(most=0.5))
    memory = Figure("idle", "resident memory", "MB", Budget(most=80))
    bench.quiet("idle")
    place, seconds = bench.directory(), 5 if bench.quick else 20
    with Sink.start(place) as sink, Relay.start(place, sink=sink.port) as it:
        it.ready()
        time.sleep(2)
        bench.say(f"idle: watching for {seconds} s")
        before = it.cpu_s()
        time.sleep(seconds)
        cpu.add("relayd", (it.cpu_s() - before) / seconds * 100)
        memory.add("relayd", it.rss_mb())
    yield from (cpu, memory)


def backlog(bench: Bench) -> Iterator[Figure]:
    """memory of a daemon with a million events pending at a destination that refuses connections"""
    count = 100_000 if bench.quick else 1_000_000
    more = Figure("backlog", f"memory more with {count:,} events pending", "MB", Budget(most=50))
    peak = Figure("backlog", "memory more at the most, on the way", "MB")
    cpu = Figure("backlog", "CPU while they wait", "% of a core")
    filled = Figure("backlog", "events/s into the outbox", "events/s")
    bench.quiet("backlog")
    place = bench.directory()
    with Relay.start(place, sink=free_port()) as it:
        it.ready()
        time.sleep(2)
        before, start = it.rss_mb(), time.perf_counter()
        bench.say(f"backlog: handing in {count:,} events")
        _judge(bench, "backlog", "relayd", send(it.port, Requests(100), count=count // 100, connections=16))
        bench.say("backlog: waiting until all are pending")
        highest = it.rss_mb()

        def all_pending(figures: dict[str, Any]) -> bool:
            nonlocal highest
            highest = max(highest, it.rss_mb())
            return bool(figures["pending"] == count)

        it.wait_for("all pending", all_pending, within=300, every=0.5)
        filled.add("relayd", count / (time.perf_counter() - start))
        used, start = it.cpu_s(), time.perf_counter()
        for _ in range(5 if bench.quick else 10):
            time.sleep(1)
            highest = max(highest, it.rss_mb())
        cpu.add("relayd", (it.cpu_s() - used) / (time.perf_counter() - start) * 100)
        more.add("relayd", it.rss_mb() - before)
        peak.add("relayd", highest - before)
    shutil.rmtree(place)
    yield from (more, peak, cpu, filled)


def startup(bench: Bench) -> Iterator[Figure]:
    """`relayd run` to the first accepted event, with 10 GB of journal and after a crash"""
    size = 1_000_000_000 if bench.quick else 10_000_000_000
    first = Figure("startup", f"to the first accepted event, {size / 1e9:g} GB of journal", "s", Budget(most=1))
    place = bench.directory()
    _grow_journal(bench, place, size)
    for _ in range(bench.rounds):
        bench.quiet("startup")
        start = time.perf_counter()
        with Relay.start(place, sink=free_port()) as it:
            seconds = _first_accepted(it, start)
            bench.say(f"startup: {seconds:.2f} s")
            first.add("relayd", seconds)
            it.kill()
    shutil.rmtree(place)
    yield first


def _grow_journal(bench: Bench, place: Path, size: int) -> None:
    """A state as a crash leaves it: a journal of ``size`` bytes, all but its end sealed into the archive.

    relayd itself writes and seals one segment; hard links to it, named by later offsets, are the archive of another
    state, in which relayd goes on.
    """
    bench.say("startup: making a journal")
    scratch = bench.directory()
    with Relay.start(scratch) as it:
        it.ready()
        send(it.port, Requests(100), count=1800, connections=16)  # some 130 MB: more than one segment
        sealed = _sealed(it)
        it.kill()
    second = min(int(path.stem) for path in (it.state / "journal").glob("*.jsonl"))
    if int(sealed.name.split(".")[0]) != 0 or second == 0:
        raise DiedError(f"unexpected segments: {sealed.name} is sealed, {second} is open")
    archive = place / "state" / "archive" / sealed.parent.name
    archive.mkdir(parents=True)
    for number in range(size // second):
        os.link(sealed, archive / f"{number * second:020}.jsonl.zst")
    shutil.rmtree(scratch)
    bench.say("startup: relayd sees it for the first time")
    with Relay.start(place, sink=free_port()) as it:
        _first_accepted(it, time.perf_counter(), within=300)
        send(it.port, Requests(100), count=750, connections=16)  # some 55 MB: nearly a segment is open
        time.sleep(2)
        it.kill()


def _sealed(relay: Relay) -> Path:
    """The first segment in its archive, once it is there."""
    end = time.monotonic() + 60
    while not (sealed := sorted((relay.state / "archive").glob("*/*.jsonl.zst"))):
        if time.monotonic() > end:
            raise relay.died("no segment was sealed")
        time.sleep(0.1)
    return sealed[0]


def _first_accepted(relay: Relay, start: float, *, within: float = 60) -> float:
    """Seconds from ``start`` to the first 200."""
    request = Requests().request(0)
    while time.perf_counter() < start + within:
        relay.check()
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", relay.port), timeout=within) as client,
        ):
            client.sendall(request)
            if client.recv(65536).startswith(b"HTTP/1.1 200 "):
                return time.perf_counter() - start
        time.sleep(0.005)
    raise relay.died(f"no event was accepted within {within:g} s")


ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "single": single,
    "batch": batch,
    "latency": latency,
    "webhook": webhook,
    "webhook-steady": webhook_steady,
    "webhook-batch": webhook_batch,
    "webhook-mapped": webhook_mapped,
    "mixpanel": mixpanel,
    "mapping": mapping,
    "trigger": trigger,
    "idle": idle,
    "backlog": backlog,
    "startup": startup,
    "replay-scan": replay_scan,
    "replay-live": replay_live,
    "replay-memory": replay_memory,
}
