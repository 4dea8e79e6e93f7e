"""Replays: how fast a sealed archive is looked through, what live events notice of it, and what memory it takes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from pyzstd import SeekableZstdFile

from benchmarks.decode import Decoded
from benchmarks.events import Requests, lines
from benchmarks.load import send
from benchmarks.process import SCRIPTS, SERVER_CPUS, DiedError
from benchmarks.report import Budget, Figure
from benchmarks.servers import DESTINATION, Relay, Sink
from relayd.journal.archive import FRAME, OPTIONS

if TYPE_CHECKING:
    from benchmarks.rows import Bench

_SEGMENT = 100_000
"""Events of a segment."""
_RARE = 1000
"""Every so many events one is called `Rare`."""
_LIVE_RATE = 1000


def replay_scan(bench: "Bench") -> Iterator[Figure]:
    """events/s that a replay looks through, a thousandth of which it wants, from a sealed archive"""
    count = 200_000 if bench.quick else 1_000_000
    rate = Figure("replay-scan", "looked through, few wanted", "events/s", Budget(least=150_000, then=200_000))
    place = bench.directory()
    _fill_archive(bench, "replay-scan", place, count)
    with Sink.start(place) as sink:
        for number in range(bench.rounds):
            bench.quiet("replay-scan")
            bench.say(f"replay-scan: round {number + 1} of {bench.rounds}")
            read = _decode(place / "state" / "archive")
            rate.add("yardstick", read.events / read.seconds)
            with Relay.start(place, sink=sink.port, batch=100) as it:
                it.ready()
                seconds, figures = _replay(it, {"events": ["Rare"]})
            if (figures["scanned"], figures["delivered"]) != (count, count // _RARE):
                raise DiedError(f"replay-scan: {figures}")
            rate.add("relayd", count / seconds)
    shutil.rmtree(place)
    yield rate


def replay_live(bench: "Bench") -> Iterator[Figure]:
    """live events (1,000/s) while a replay to the same destination runs at full speed; the yardstick is without one"""
    name, count = "replay-live", round(_LIVE_RATE * bench.seconds)
    answers = [Figure(name, f"live answer p{share}", "ms") for share in (50, 95, 99)]
    deliveries = [Figure(name, f"receipt to live delivery p{share}", "ms") for share in (50, 95, 99)]
    rate = Figure(name, "replayed meanwhile", "events/s")
    template = bench.directory()
    _fill_archive(bench, name, template, 200_000 if bench.quick else 1_000_000)
    for number in range(bench.rounds):
        for label in ("yardstick", "relayd"):
            bench.quiet(name)
            bench.say(f"{name}: round {number + 1} of {bench.rounds}, {'with' if label == 'relayd' else 'no'} replay")
            place = bench.directory()
            shutil.copytree(template, place, copy_function=os.link)
            with (
                Sink.start(place.with_suffix(".sink")) as sink,
                Relay.start(place, sink=sink.port, batch=100) as it,
            ):
                it.ready()
                send(it.port, Requests(), count=200, connections=16)
                job = it.ask("/replays", {"spec": {"destination": DESTINATION}})["id"] if label == "relayd" else None
                before, start = (_delivered(it, job), time.perf_counter())
                result = send(it.port, Requests(), count=count, connections=64, rate=_LIVE_RATE)
                if job is not None:
                    rate.add(label, (_delivered(it, job) - before) / (time.perf_counter() - start))
                    if it.ask(f"/replays/{job}")["state"] != "running":
                        bench.note(f"{name}: the replay was done before the load was")
                latency = it.wait_for(
                    "all live events delivered", lambda figures: bool(figures["delivered"] == count + 200), within=60
                )["latency_s"]
            shutil.rmtree(place)
            for figure, value in zip(answers, (result.p50_ms, result.p95_ms, result.p99_ms), strict=True):
                figure.add(label, value)
            for figure, share in zip(deliveries, ("p50", "p95", "p99"), strict=True):
                figure.add(label, latency[share] * 1000)
    shutil.rmtree(template)
    yield from (*answers, *deliveries, rate)


def replay_memory(bench: "Bench") -> Iterator[Figure]:
    """memory of the daemon while a million events are replayed"""
    count = 200_000 if bench.quick else 1_000_000
    more = Figure("replay-memory", f"memory more at the most, {count:,} events replayed", "MB", Budget(most=50))
    halves = Figure("replay-memory", "of that after the first tenth", "MB")
    rate = Figure("replay-memory", "replayed and cleared, batches of 100", "events/s")
    place = bench.directory()
    _fill_archive(bench, "replay-memory", place, count)
    bench.quiet("replay-memory")
    with Sink.start(place) as sink, Relay.start(place, sink=sink.port, batch=100) as it:
        it.ready()
        time.sleep(2)
        before, samples = it.rss_mb(), [0.0]
        tenth: list[float] = []

        def look(figures: dict[str, Any]) -> None:
            samples.append(it.rss_mb() - before)
            if figures["delivered"] < count / 10:
                tenth.append(samples[-1])

        seconds, figures = _replay(it, {}, look)
        if figures["delivered"] != count or sink.events() != count:
            raise DiedError(f"replay-memory: {sink.events()} at the sink; {figures}")
    shutil.rmtree(place)
    more.add("relayd", max(samples))
    halves.add("relayd", max(samples) - max(tenth, default=0.0))
    rate.add("relayd", count / seconds)
    yield from (more, halves, rate)


def _replay(
    relay: Relay, criteria: dict[str, Any], look: Callable[[dict[str, Any]], None] = lambda figures: None
) -> tuple[float, dict[str, Any]]:
    """Replay to the end: seconds that it took, and its figures."""
    spec = {"destination": DESTINATION, "criteria": criteria}
    job = relay.ask("/replays", {"spec": spec, "again": True})["id"]
    end = time.monotonic() + 300
    while (figures := relay.ask(f"/replays/{job}"))["state"] == "running":
        look(figures)
        if time.monotonic() > end:
            raise relay.died(f"the replay is not done: {figures}")
        time.sleep(0.1)
    return figures["ended"] - figures["created"], figures


def _delivered(relay: Relay, job: str | None) -> int:
    return int(relay.ask(f"/replays/{job}")["delivered"]) if job is not None else 0


def _decode(archive: Path) -> Decoded:
    """What the yardstick makes of it, on the server's core."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.decode", archive],
        capture_output=True,
        text=True,
        check=True,
        cwd=SCRIPTS,
        preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CPUS),
    )
    return msgspec.json.decode(done.stdout, type=Decoded)


def _fill_archive(bench: "Bench", row: str, place: Path, count: int) -> None:
    """A state with so many events, all sealed: one segment, and hard links to it named by later offsets."""
    bench.say(f"{row}: making an archive of {count:,} events")
    text = lines(_SEGMENT, rare=_RARE)
    day = place / "state" / "archive" / "2026-11-24"
    day.mkdir(parents=True)
    first = day / f"{0:020}.jsonl.zst"
    with SeekableZstdFile(first, "w", level_or_option=OPTIONS, max_frame_content_size=FRAME) as file:
        file.write(text)
    for number in range(1, count // _SEGMENT):
        os.link(first, day / f"{number * len(text):020}.jsonl.zst")
